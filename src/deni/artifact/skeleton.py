"""The model that a folder describes, before it has values; and whether it is the model that was trained."""

from __future__ import annotations

import copy
import json
import tempfile
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from deni.artifact.folder import ADAPTERS
from deni.artifact.own_code import own_code
from deni.engine.active_tokens import ActiveEmbedding
from deni.engine.module import in_mode
from deni.errors import short
from deni.models.architectures import auto_class, generates
from deni.models.hugging_face import accepted_inputs, config_of, logits_of, with_peft
from deni.models.pair_rows import side_by_side
from deni.models.pairs import encode_separately, encodes_separately
from deni.models.pooling import attach, pooling_of
from deni.models.reading import (
    ADAPTER,
    CONFIG,
    GENERATION,
    read_adapter_config,
    read_config,
    read_generation_config,
    read_json,
    told,
)
from deni.models.tokenizing import settings_kept
from deni.population import Population
from deni.randomness import global_generators
from deni.tuning.unipelt import adapted


@dataclass(frozen=True)
class Reading:
    """What loading the artifact of a model takes.

    Args:
        needs: why the folder does not say which model it is, so that `deni.load` needs `model_init`; empty if it does.
        dtype: `float32`: all weights are read in this type; None: each in its own.
        buffers: names of buffers that no state dict has, and that differ in a fresh model.
        outputs: C, what the model predicts of a text; None where it does not predict texts.
    """

    needs: str = ""
    dtype: Literal["float32"] | None = None
    buffers: tuple[str, ...] = ()
    outputs: int | None = None


class Misfit(ValueError):
    """Tensors that are not those of a model; the message says which."""


def write_description(model: nn.Module, labels: Mapping[int, str] | None, target: Path) -> None:
    """Write the config, and what is put into the model by PEFT or the package `adapters`, into a folder.

    Args:
        labels: class names by number; None leaves them as the config has them.
    """
    write_config(model, labels, target)
    if generates(model):
        model.generation_config.save_pretrained(target)  # type: ignore[union-attr, operator]
    if hasattr(model, "peft_config"):
        with_adapter = with_peft(model)
        with_adapter.peft_config[with_adapter.active_adapter].save_pretrained(target)
    if hasattr(model, "adapters_config"):
        kinds = model.adapters_config.to_dict()  # type: ignore[operator, union-attr]
        (target / ADAPTERS).write_text(json.dumps(kinds, indent=1) + "\n", encoding="utf-8")


def write_config(
    model: nn.Module, labels: Mapping[int, str] | None, target: Path, architecture: str | None = None
) -> None:
    """Write the config of a model that has one; see `write_description`.

    Args:
        architecture: the class of the model; None leaves what the config has, of the base model.
    """
    config = copy.deepcopy(config_of(model))
    if config is not None:
        if labels is not None:
            config.id2label, config.label2id = dict(labels), {label: at for at, label in labels.items()}
        for name in ("quantization_config", "_pre_quantization_dtype"):  # what is saved is not quantized
            vars(config).pop(name, None)
        if architecture is not None:
            config.architectures = [architecture]
        config.save_pretrained(target)


def skeleton(
    folder: Path,
    of_words: bool,
    files: Collection[str] | None = None,
    separate_pairs: bool = False,
    answers: bool = False,
) -> nn.Module:
    """The model that a folder describes; its parameters are on the meta device, its buffers are real.

    Args:
        files: those of the folder that count; None for all.
        separate_pairs: whether it encodes the texts of a pair separately, see `deni.models.pairs`.
        answers: whether it is a language model that generates.

    Raises:
        ArtifactError: a description that cannot be read, or of which no model can be made.
    """

    def has(name: str) -> bool:
        return name in files if files is not None else (folder / name).is_file()

    with global_generators(0), warnings.catch_warnings(), _parameters_on_meta():
        warnings.simplefilter("ignore")
        config = read_config(folder)
        with told(folder / CONFIG):
            model = auto_class(of_words, answers, config).from_config(config, dtype=torch.float32)
            if separate_pairs:
                encode_separately(model)
            if answers and has(GENERATION):
                model.generation_config = read_generation_config(folder)
        if has(ADAPTER):
            peft_config = read_adapter_config(folder)
            with told(folder / ADAPTER):
                from peft import get_peft_model

                peft_config.inference_mode = False
                return get_peft_model(model, peft_config)
        if has(ADAPTERS):
            kinds = read_json(folder / ADAPTERS)
            with told(folder / ADAPTERS):
                return adapted(model, kinds)
    return model


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Inside, parameters of new modules have a shape but no values; buffers, which a class computes, have theirs."""
    register = nn.Module.register_parameter

    def on_meta(module: nn.Module, name: str, param: nn.Parameter | None) -> None:
        if param is not None and param.device.type != "meta":
            param = nn.Parameter(param.detach().to("meta"), param.requires_grad)
        register(module, name, param)

    patched: Any = nn.Module  # a method is not assigned to, for the type checker
    patched.register_parameter = on_meta
    try:
        yield
    finally:
        patched.register_parameter = register


def fill(model: nn.Module, tensors: Mapping[str, Tensor], trainable: Collection[str]) -> None:
    """Let a model have these tensors as its parameters and buffers, without a copy.

    Args:
        tensors: name -> values of parameters, of one name where they are tied, and of buffers.
        trainable: the names of those that train.

    Raises:
        Misfit: one is missing, left over, has another shape, whole numbers in place of others, or other values under
            another name of the same parameter.
    """
    left = dict(tensors)
    for names in _names(model).values():
        given = [name for name in names if name in tensors]
        if not given:
            raise Misfit(f"{names[0]} is missing")
        parameter, first = model.get_parameter(names[0]), tensors[given[0]]
        for name in given:
            if parameter.shape != tensors[name].shape:
                raise Misfit(f"{name} is {tuple(tensors[name].shape)}, not {tuple(parameter.shape)}")
            _check_kind(name, tensors[name], parameter)
            if name != given[0] and not torch.equal(tensors[name], first):
                raise Misfit(f"{name} is not equal to {given[0]}, with which it is tied")
        filled = nn.Parameter(first.detach(), requires_grad=any(name in trainable for name in names))
        for name in names:
            parent, _, key = name.rpartition(".")
            model.get_submodule(parent)._parameters[key] = filled
            left.pop(name, None)
    persistent = model.state_dict().keys()
    for name, buffer in model.named_buffers(remove_duplicate=False):
        value = left.pop(name, None)
        if value is None and name in persistent:
            raise Misfit(f"{name} is missing")
        if value is not None and value.shape != buffer.shape:
            raise Misfit(f"{name} is {tuple(value.shape)}, not {tuple(buffer.shape)}")
        if value is not None:
            _check_kind(name, value, buffer)
            parent, _, key = name.rpartition(".")
            model.get_submodule(parent)._buffers[key] = value
    if left:
        raise Misfit(f"it has no {min(left)}")


def _check_kind(name: str, given: Tensor, expected: Tensor) -> None:
    if given.is_floating_point() != expected.is_floating_point() or given.is_complex() != expected.is_complex():
        raise Misfit(f"{name} is {given.dtype}, not {expected.dtype}")


def _names(model: nn.Module) -> dict[int, list[str]]:
    """All names of each parameter."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return names


# ---- whether it is the model that was trained ----------------------------------------------------------------------


def try_reading(
    population: Population,
    tokenizer: PreTrainedTokenizerBase | None,
    of_words: bool,
    shared: Mapping[str, Tensor],
    quantized: bool,
    answers: bool = False,
) -> Reading:
    """Make the model as `deni.load` would, from a description alone, and compare it with the one that there is.

    Args:
        tokenizer: for the texts on which predictions are compared; None compares shapes and buffers only.
        of_words: whether the model has an output for each token.
        shared: what the members share, under the plain model's names.
        quantized: whether weights of it are, which are saved as what they stand for.
        answers: see `skeleton`.
    """
    with population.plain() as model, in_mode(model, training=False), torch.no_grad():
        inputs = [] if tokenizer is None else _inputs(model, tokenizer)
        try:
            expected = [logits_of(model(**each)) for each in inputs]
            unfit = ""
        except Exception as error:  # a model of the user's own may raise anything
            expected, unfit = [], f"it does not predict texts ({_first_line(error)})"
        outputs = expected[0].shape[-1] if expected else None
        dtype: Literal["float32"] | None = "float32" if quantized or unfit else None
        if config_of(model) is None:
            return Reading(unfit or f"{type(model).__name__} has no config of transformers", dtype, (), outputs)
        try:
            with tempfile.TemporaryDirectory(prefix="deni.") as folder:
                write_description(model, None, Path(folder))
                made = skeleton(Path(folder), of_words, separate_pairs=encodes_separately(model), answers=answers)
                made = attach(made, pooling_of(model)).eval()
            fill(made, {**shared, **population.member(0)}, population.slots.keys())
        except Exception as error:  # as above: of a class that only its author knows
            name = type(_inner(model)).__name__
            return Reading(f"{name} is not what its config describes: {_first_line(error)}", dtype, (), outputs)
        if why := own_code(model, made):
            return Reading(why, dtype, (), outputs)
        buffers = _differing(model, made)
        if isinstance(buffers, str):
            return Reading(buffers, dtype, (), outputs)
        device = next(model.parameters()).device
        found = [] if unfit or quantized else [logits_of(made.to(device)(**each)) for each in inputs]
        same = all(_close(*pair) for pair in zip(found, expected, strict=True)) if found else True
    why = "" if same else f"{type(_inner(model)).__name__} predicts otherwise than what its config describes"
    return Reading(why, dtype, buffers, outputs)


def _inner(model: nn.Module) -> nn.Module:
    """The model of transformers in an adapter of PEFT."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]


def _inputs(model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Tensor]]:
    """Two texts of words that the tokenizer knows, one by one: not each model can pad."""
    special = set(tokenizer.all_special_tokens)
    words = sorted(word for word in tokenizer.get_vocab() if word not in special)
    chosen = words[:: max(1, len(words) // 12)][:12]
    device, known = next(model.parameters()).device, accepted_inputs(model)
    bi = encodes_separately(model)
    with settings_kept(tokenizer):
        cut = {"truncation": True, "max_length": 16, "return_tensors": "pt"}
        made = [tokenizer([" ".join(part)], **cut) for part in (chosen, chosen[:5])]
    taken = [{name: value for name, value in each.items() if known is None or name in known} for each in made]
    if known is not None and "decoder_input_ids" in known:
        taken = [{**each, "decoder_input_ids": each["input_ids"]} for each in taken]
    return [{name: (side_by_side(value) if bi else value).to(device) for name, value in each.items()} for each in taken]


def _differing(model: nn.Module, made: nn.Module) -> tuple[str, ...] | str:
    """The names of buffers that a fresh model, in `made`, has otherwise; or why it lacks them. Takes them over."""
    state, theirs = model.state_dict().keys(), dict(made.named_buffers(remove_duplicate=False))
    own = {name: buffer for name, buffer in _plain_buffers(model) if name not in state}
    others = {name for name in theirs if name not in made.state_dict()}
    if own.keys() != others:
        return (
            f"{type(_inner(model)).__name__} has buffers that its config does not describe: {min(own.keys() ^ others)}"
        )
    names = tuple(name for name, value in own.items() if not _same(value, theirs[name]))
    for name in names:
        parent, _, key = name.rpartition(".")
        made.get_submodule(parent)._buffers[key] = own[name]
    return names


def _plain_buffers(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Its buffers without those of an embedding with active rows, which is a plain one in the artifact."""
    for prefix, module in model.named_modules(remove_duplicate=False):
        if not isinstance(module, ActiveEmbedding):
            for key, buffer in module._buffers.items():
                if buffer is not None:
                    yield f"{prefix}.{key}" if prefix else key, buffer


def _same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one.cpu(), other.cpu())


def _close(found: Tensor, expected: Tensor) -> bool:
    """To rounding: another kernel of attention may be chosen."""
    if found.shape != expected.shape:
        return False
    tolerance = {torch.float64: 1e-9, torch.float32: 1e-5}.get(expected.dtype, 3e-2)
    finite = expected[expected.isfinite()].abs()  # of a training that diverged none may be
    atol = tolerance * float(finite.max()) if len(finite) else 0.0
    return torch.allclose(found.double(), expected.double(), rtol=0, atol=atol, equal_nan=True)


def _first_line(error: Exception) -> str:
    return short((str(error).strip().splitlines() or [type(error).__name__])[0], 160)
