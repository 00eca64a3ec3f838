"""The one place where files of a model are read by `transformers` and PEFT: no code of theirs is run or fetched.

A folder or hub repository may name custom code (`auto_map`), kernels to fetch (`_attn_implementation`), or a module
to import (`megatron_core` of an adapter). None of it is heeded: such a model is refused, or computed without.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deni.errors import ArtifactError, short

# What an attention implementation may be called in a file; another name is a kernel that transformers would fetch.
_FETCHED = ("_attn_implementation", "_experts_implementation")


class ForeignCodeError(ArtifactError):
    """A model that needs custom code, which deni never runs; in Python the user gives the model object."""


@contextmanager
def _without_code(source: str | Path) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        file = Path(source) / "config.json"
        where = f"{file if file.is_file() else source}: auto_map"
        raise ForeignCodeError(
            f"{where} names custom code, which deni never runs: take a model whose architecture "
            "transformers has, or give the model itself in Python"
        ) from error


def read_config(source: str | Path, **options: Any) -> Any:
    """The configuration of a model, without the kernels that it names.

    Args:
        source: a folder or hub id.
        options: as `AutoConfig.from_pretrained` takes them.

    Raises:
        ForeignCodeError: a model that needs custom code.
    """
    from transformers import AutoConfig

    # False, not the default: on a terminal that asks whether to run code of the model's, and "y" would run it.
    with _without_code(source):
        config = AutoConfig.from_pretrained(source, **{**options, "trust_remote_code": False})
    forget_kernels(config)
    return config


def read_text(source: str | Path, name: str) -> str | None:
    """A text file of a model; None where there is none, or the hub does not answer.

    Args:
        source: a folder or hub id.
        name: of the file, as a path in it.
    """
    from transformers.utils import cached_file

    try:
        found = Path(source) / name if Path(source).is_dir() else cached_file(str(source), name)
        return None if found is None else Path(found).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def forget_kernels(config: Any) -> None:
    """Let transformers choose how attention is computed, in a configuration and those inside it."""
    from transformers import PretrainedConfig

    for name in _FETCHED:
        if getattr(config, name, None) is not None:
            setattr(config, name, None)
    for value in vars(config).values():
        if isinstance(value, PretrainedConfig):
            forget_kernels(value)


def read_tokenizer(source: str | Path, kind: Any = None, **options: Any) -> Any:
    """The tokenizer of a model.

    Args:
        source: a folder or hub id.
        kind: its class; None for the one that the source names.
        options: as `AutoTokenizer.from_pretrained` takes them.

    Raises:
        ForeignCodeError: a tokenizer that needs custom code.
    """
    from transformers import AutoTokenizer

    with _without_code(source):
        return (kind or AutoTokenizer).from_pretrained(source, **{**options, "trust_remote_code": False})


def read_model(kind: Any, source: str | Path, config: Any = None, **options: Any) -> Any:
    """A model with its weights.

    Args:
        kind: an `AutoModelFor...` class.
        source: a folder or hub id.
        config: None reads that of the source.
        options: as `from_pretrained` takes them.

    Returns:
        What `from_pretrained` gives: the model, or with `output_loading_info` the model and what was missing.

    Raises:
        ForeignCodeError: a model that needs custom code.
    """
    config = read_config(source) if config is None else config
    with _without_code(source):
        return kind.from_pretrained(source, config=config, **{**options, "trust_remote_code": False})


def read_adapter_config(folder: str | Path) -> Any:
    """The configuration of a PEFT adapter in a folder.

    Raises:
        ForeignCodeError: one that names a module to import.
    """
    from peft import PeftConfig

    config = PeftConfig.from_pretrained(str(folder))
    if getattr(config, "megatron_config", None):
        value = short(config.megatron_core)
        raise ForeignCodeError(f"{folder}/adapter_config.json: megatron_core has PEFT import {value}: not done by deni")
    return config
