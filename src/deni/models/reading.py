"""The one place where files of a model are read by `transformers` and PEFT: no code of theirs is run or fetched.

A folder or hub repository may name custom code (`auto_map`), kernels to fetch (`_attn_implementation`), or a module
to import (`megatron_core` of an adapter). None of it is heeded: such a model is refused, or computed without. A file
may be damaged in any way: whatever the libraries raise becomes one line with the file.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from deni.errors import ArtifactError, InputError, SettingError, short
from deni.provenance import depth
from deni.written import irregular, written_text

# What an attention implementation may be called in a file; another name is a kernel that transformers would fetch.
_FETCHED = ("_attn_implementation", "_experts_implementation")

AGAIN = "copy or train the model again"
CONFIG, ADAPTER, TOKENIZER = "config.json", "adapter_config.json", "tokenizer.json"
GENERATION = "generation_config.json"
_OF_TOKENIZERS = ("tokenizer_config.json", TOKENIZER, "special_tokens_map.json", "added_tokens.json", "vocab.json")
_OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOMEM)
_DEEPEST = 100  # levels of nested JSON
_LARGEST = 10**8  # of what is counted in a configuration: no model has so many of anything
_MOST_LAYERS = 2000
_SIZES = re.compile(
    r"(size|embeddings|positions|dim|ctx|embd|inner|d_model|d_ff|experts|groups|labels|length|group_num|^r|rank)$"
)
_LAYERS = re.compile(r"(layers|blocks|heads|layer|head|replication)$")


class ForeignCodeError(ArtifactError):
    """A model that needs custom code, which deni never runs; in Python the user gives the model object."""


@contextmanager
def told(where: str | Path, failed: str = "cannot be read", cure: str = f": {AGAIN}") -> Iterator[None]:
    """Around what other libraries do with files of a model: whatever they raise is one line that names the file.

    Args:
        where: the file, or whatever the model is called.
        failed: what failed.
        cure: what to do; empty where whoever catches it says so.

    Raises:
        ArtifactError: in place of any error but ours and those of memory.
    """
    try:
        yield
    except (InputError, SettingError, MemoryError):
        raise
    except Exception as error:  # each library has errors of its own, and a damaged file may raise any
        if _is_of_the_machine(error):
            raise
        raise ArtifactError(f"{where} {failed} ({reason(error)}){cure}") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of tokenizers and safetensors, which are written in Rust
            raise
        raise ArtifactError(f"{where} {failed} ({reason(error)}){cure}") from None


def _is_of_the_machine(error: Exception) -> bool:
    """Whether memory or disk ended, which says nothing about the files."""
    if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
        return True
    said = str(error)
    return (
        type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in said)
        or any(f"(os error {number})" in said for number in _OF_THE_MACHINE)  # as safetensors says it
    )


def reason(error: BaseException, length: int = 200) -> str:
    """The first line of an error that says something; its class where that is none of those that everybody raises."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    first = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    first = first.rstrip(".:")
    speaks = isinstance(error, ValueError | OSError | ImportError) and first and not isinstance(error, UnicodeError)
    said = first if speaks else f"{type(error).__name__}{': ' * bool(first)}{first}"
    return said if len(said) <= length else f"{said[: length - 3]}..."


@contextmanager
def _without_code(source: str | Path) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        file = Path(source) / CONFIG
        where = f"{file if file.is_file() else source}: auto_map"
        raise ForeignCodeError(
            f"{where} names custom code, which deni never runs: take a model whose architecture "
            "transformers has, or give the model itself in Python"
        ) from error


# ---- JSON ----------------------------------------------------------------------------------------------------------


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ArtifactError: it is missing, no regular file, no JSON, no object, or nested too deeply.
    """
    check_regular(file)
    if not file.is_file():
        raise ArtifactError(f"{file} is missing: {AGAIN}")
    try:
        text = written_text(file)
        value = json.loads(text)
        if "\\ud" in text.lower():  # half a surrogate pair is no character, and cannot be written again
            json.dumps(value, ensure_ascii=False).encode()
    except OSError as error:
        raise ArtifactError(f"{file} cannot be read ({error.strerror}): {AGAIN}") from None
    except (ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else reason(error)
        raise ArtifactError(f"{file} is damaged ({why}): {AGAIN}") from None
    if not isinstance(value, dict):
        raise ArtifactError(f"{file} is damaged (it holds {short(value)} where an object was expected): {AGAIN}")
    if depth(value, _DEEPEST) > _DEEPEST:
        raise ArtifactError(f"{file} is damaged (nested more than {_DEEPEST} levels deep): {AGAIN}")
    return value


def check_regular(*files: Path) -> None:
    """Raise ArtifactError where something is no regular file: reading a pipe or device may never end."""
    for file in files:
        kind = irregular(file)
        if kind is not None:
            raise ArtifactError(f"{file} is {kind} where a file was expected: {AGAIN}")


def check_folder(folder: Path) -> None:
    """Raise ArtifactError where a folder of a model has pipes or devices, which libraries would open."""
    try:
        found = [each for each in folder.iterdir() if not each.is_dir()]
    except OSError as error:
        raise ArtifactError(f"{folder} cannot be read ({error.strerror}): check its permissions") from None
    check_regular(*found)


def check_sizes(values: Mapping[str, Any], file: str | Path, path: str = "") -> None:
    """Raise ArtifactError where a configuration counts something below 0 or beyond reason: building it never ends."""
    for key, value in values.items():
        where = f"{path}{key}"
        if isinstance(value, dict):
            check_sizes(value, file, f"{where}.")
            continue
        for each in _flat(value):
            if isinstance(each, bool) or not isinstance(each, int | float):
                continue
            if isinstance(each, int) and abs(each) >= 2**63:
                raise ArtifactError(f"{file}: {where} is {short(each)}, which no model has: {AGAIN}")
            most = _MOST_LAYERS if _LAYERS.search(key) else _LARGEST if _SIZES.search(key) else None
            if most is not None and not -1 <= each <= most:
                raise ArtifactError(f"{file}: {where} is {short(each)}, where at most {most} was expected: {AGAIN}")


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for each in value:
            yield from _flat(each)
    else:
        yield value


# ---- what transformers and PEFT read -------------------------------------------------------------------------------


def read_config(source: str | Path, **options: Any) -> Any:
    """The configuration of a model, without the kernels that it names.

    Args:
        source: a folder or hub id.
        options: as `AutoConfig.from_pretrained` takes them.

    Raises:
        ForeignCodeError: a model that needs custom code.
        ArtifactError: a configuration that cannot be read.
    """
    from transformers import AutoConfig

    file = _file(source, CONFIG)
    if isinstance(file, Path):
        check_folder(file.parent)
        _check_config(read_json(file), file)
    # False, not the default: on a terminal that asks whether to run code of the model's, and "y" would run it.
    with told(file), _without_code(source):
        config = AutoConfig.from_pretrained(source, **{**options, "trust_remote_code": False})
        if not isinstance(file, Path):
            check_sizes(config.to_dict(), source)
        forget_kernels(config)
    return config


def read_text(source: str | Path, name: str) -> str | None:
    """A text file of a model; None where there is none, or the hub does not answer.

    Args:
        source: a folder or hub id.
        name: of the file, as a path in it.
    """
    try:
        found = Path(source) / name if os.path.isdir(source) else _cached(str(source), name)
        return None if found is None else written_text(Path(found))
    except (OSError, ValueError):
        return None


@cache
def _cached(source: str, name: str) -> str | None:
    """Where a file of the hub lies; the hub is asked once, not for each cell of a study."""
    from transformers.utils import cached_file  # not for a folder: it takes a second

    return cached_file(source, name)


def _check_config(values: Mapping[str, Any], file: Path) -> None:
    """What is wrong with a configuration whatever its architecture is."""
    if not isinstance(values.get("model_type", ""), str):
        raise ArtifactError(f"{file}: model_type is {short(values['model_type'])} where a name was expected")
    check_sizes(values, file)


def forget_kernels(config: Any) -> None:
    """Let transformers choose how attention is computed, in a configuration and those inside it."""
    from transformers import PretrainedConfig

    for name in _FETCHED:
        if getattr(config, name, None) is not None:
            setattr(config, name, None)
    for value in vars(config).values():
        if isinstance(value, PretrainedConfig):
            forget_kernels(value)


def read_generation_config(folder: Path) -> Any:
    """How a model generates unless it is told otherwise, such as the tokens that end a text; None where no file says.

    Raises:
        ArtifactError: a file that cannot be read.
    """
    from transformers import GenerationConfig

    file = folder / GENERATION
    if not file.is_file():
        return None
    check_sizes(read_json(file), file)
    with told(file):
        return GenerationConfig.from_pretrained(folder)


def read_tokenizer(source: str | Path, kind: Any = None, **options: Any) -> Any:
    """The tokenizer of a model; one without a padding token pads with the end of a text, which the mask hides.

    Args:
        source: a folder or hub id.
        kind: its class; None for the one that the source names.
        options: as `AutoTokenizer.from_pretrained` takes them.

    Raises:
        ForeignCodeError: a tokenizer that needs custom code.
        ArtifactError: a tokenizer that cannot be read.
    """
    from transformers import AutoTokenizer

    folder, where = Path(source), _file(source, TOKENIZER)
    if isinstance(where, Path):
        check_folder(folder)
        for name in _OF_TOKENIZERS:
            if (folder / name).exists():
                read_json(folder / name)
        if not where.is_file():
            where = f"{folder}: its tokenizer"
    with told(where), _without_code(source):
        tokenizer = (kind or AutoTokenizer).from_pretrained(source, **{**options, "trust_remote_code": False})
        if not isinstance(tokenizer.model_max_length, int | float) or not tokenizer.model_max_length > 0:
            raise ArtifactError(
                f"{where}: model_max_length is {short(tokenizer.model_max_length)}, not a number above 0"
            )
        if tokenizer.pad_token is None:  # as of decoders
            if tokenizer.eos_token is None:
                raise ArtifactError(f"{where}: it names neither a pad_token nor an eos_token: add one of them")
            tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


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
        ArtifactError: a model that cannot be read.
    """
    config = read_config(source) if config is None else config
    with told(_weights(source)), _without_code(source):
        return kind.from_pretrained(source, config=config, **{**options, "trust_remote_code": False})


def read_adapter_config(folder: str | Path) -> Any:
    """The configuration of a PEFT adapter in a folder.

    Raises:
        ForeignCodeError: one that names a module to import.
        ArtifactError: one that cannot be read.
    """
    from peft import PeftConfig

    file = Path(folder) / ADAPTER
    check_sizes(read_json(file), file)
    with told(file):
        config = PeftConfig.from_pretrained(str(folder))
    if getattr(config, "megatron_config", None):
        value = short(config.megatron_core)
        raise ForeignCodeError(f"{file}: megatron_core has PEFT import {value}: not done by deni")
    return config


def _file(source: str | Path, name: str) -> str | Path:
    """A file of a folder; a hub id as it is."""
    return Path(source) / name if os.path.isdir(source) else str(source)


def _weights(source: str | Path) -> str | Path:
    """The file of a folder with the weights that are read; a hub id as it is."""
    names = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
    return next((Path(source) / name for name in names if (Path(source) / name).exists()), source)
