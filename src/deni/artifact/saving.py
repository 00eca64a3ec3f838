"""Write an artifact."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save as as_safetensors
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from deni.artifact.folder import BASE, CARD, FORMAT, IDS, MEMBERS
from deni.artifact.model_card import card
from deni.artifact.ordinary import write_ordinary
from deni.artifact.skeleton import Reading, try_reading, write_description
from deni.engine.active_tokens import ActiveEmbedding
from deni.errors import InputError, SettingError
from deni.models.architectures import for_tokens
from deni.models.pairs import encodes_separately
from deni.models.pooling import pooling_of
from deni.models.quantized import is_quantized
from deni.outputs import INFO, sizes, write_folder, write_into
from deni.outputs.folders import listed
from deni.population import Population
from deni.provenance import versions
from deni.tasks import TASKS, task_of


def save(
    folder: str | Path,
    *,
    population: Population,
    tokenizer: PreTrainedTokenizerBase | None,
    labels: Sequence[str],
    info: Mapping[str, Any],
    overwrite: bool = False,
    keep_others: bool = False,
    extra_files: Mapping[str, bytes] | None = None,
    reading: Reading | None = None,
    base: Path | None = None,
    inputs: Iterable[str | Path | None] = (),
    checked: bool = False,
    kept: bool = True,
    ordinary: bool = False,
    voters: Sequence[int] | None = None,
) -> Path:
    """Write an artifact: whole, or not at all.

    Args:
        folder: must not exist, unless `overwrite` or `keep_others`.
        overwrite: replace a folder that holds what deni wrote, and nothing else.
        population: its members are stored stacked, what they share once.
        labels: class names in the order of the model's outputs.
        tokenizer: of the model; None: `deni.load` will ask for it.
        info: as `describe` makes it.
        keep_others: write into the folder that is there: an earlier artifact in it is replaced, any other file stays.
        reading: what `how_to_read` has found of this model; None to find it now.
        base: a file that holds what the members share, written by an earlier call: it is linked to.
        ordinary: write the weights of a single member a second time, as transformers has them; not where it would pool
            otherwise, see `deni.models.pooling`.
        extra_files: names of further files in the folder, and what is in them.
        inputs: files and folders that were read, which the folder must not be or hold.
        checked: whether `deni.outputs.check_folder` was called before the training; then what has come there since
            does not lose the model either.
        kept: whether the artifact is written to the temporary directory where the folder cannot be written, as on a
            full disk; the message says where.
        voters: the members to write, all of a run or none; None for all.

    Returns:
        the folder.

    Raises:
        SavedElsewhereError: the folder cannot be written; the artifact is in another place.
        InputError: the folder exists, or holds what deni did not write; or nothing can be written.
        SettingError: members of several kinds, see `Population.alike`.
    """
    folder = Path(folder)
    if not population.alike:
        raise SettingError("models with LoRA of several ranks, or scaled differently, are not one artifact")
    reading = reading or how_to_read(population, tokenizer, info.get("task"))
    written = list(range(population.size) if voters is None else voters)

    def write(target: Path) -> None:
        with population.plain() as model:
            task = info.get("task") or task_of(model).name
            shared, ids = _shared(model, population)
            buffers = dict(model.named_buffers(remove_duplicate=False))
            shared |= {name: buffers[name] for name in reading.buffers}
            pooling, pairs = pooling_of(model), encodes_separately(model)
            if ordinary and population.size == 1 and pooling is None:  # no class would pool so
                write_ordinary(model, {**shared, **population.member(0)}, target)
            write_description(model, dict(enumerate(labels)) or None, target)
        members = {**population.values, **population.module.held_values()}
        chosen = (
            {name: value[written] for name, value in members.items()} if len(written) < population.size else members
        )
        _write(target / MEMBERS, {**chosen, **ids})
        if not _linked(base, target / BASE):
            _write(target / BASE, shared)
        if tokenizer is not None:
            tokenizer.save_pretrained(target)
        here = versions()
        what = {
            "format": FORMAT,
            "deni": here.pop("deni"),
            "versions": {**here, "python": platform.python_version()},
            "labels": list(labels),
            "runs": len(written) // population.members,
            "members": population.members,
            **info,
            "task": task,
            "dtype": reading.dtype,
            **({"pooling": pooling.to_json()} if pooling else {}),
            **({"pairs": "bi"} if pairs else {}),
            **({"needs": reading.needs} if reading.needs else {}),
        }
        if not keep_others or not (folder / CARD).exists() or CARD in listed(folder, INFO):
            (target / CARD).write_text(card(folder.name, what), encoding="utf-8", errors="backslashreplace")
        for name, content in (extra_files or {}).items():
            (target / name).write_bytes(content)
        what["files"] = sizes(target)
        (target / INFO).write_bytes(_json(what))

    what, use = "the model is" if kept else "", "deni predict {} FILE"
    if keep_others:
        write_into(folder, write, own_list=False, kept=what, use=use)
        return folder
    return write_folder(folder, write, overwrite, inputs, what, use, checked)


def _json(what: Mapping[str, Any]) -> bytes:
    """In UTF-8; with escapes where a text has half a character, which only a program can have made."""
    try:
        return f"{json.dumps(what, indent=1, ensure_ascii=False)}\n".encode()
    except UnicodeEncodeError:
        return f"{json.dumps(what, indent=1)}\n".encode()


def members_as_bytes(population: Population) -> bytes:
    """All members of a population as the content of a file of an artifact, which has the rest of the model."""
    with population.plain() as model:
        _, ids = _shared(model, population)
    members = {**population.values, **population.module.held_values(), **ids}
    return as_safetensors({name: value.detach().cpu().contiguous().clone() for name, value in members.items()})


def how_to_read(population: Population, tokenizer: PreTrainedTokenizerBase | None, task: str | None = None) -> Reading:
    """What loading an artifact of this model takes: the model is made as `deni.load` would, and compared.

    Args:
        tokenizer: for texts whose predictions are compared.
        task: None for the one that the model shows.

    Raises:
        InputError: a language model in another task than one that generates.
    """
    from deni.training.heads import language_model

    answers = task is not None and TASKS[task].generates
    with population.plain() as model:
        if not answers and (name := language_model(model)):
            raise InputError(f"{name} is a language model, whose predictions have no vote: save it by save_pretrained")
        quantized = any(is_quantized(value) for value in model.parameters())
        of_words = TASKS[task].of_words if task else for_tokens(model)
        shared, _ = _shared(model, population)
    return try_reading(population, tokenizer, of_words, shared, quantized, answers)


def weight_sizes(population: Population, members: int) -> tuple[int, int]:
    """Bytes of the weights of an artifact: of the members, and what they share.

    Args:
        members: of each run, when it is saved.
    """
    with population.plain() as model:
        shared, ids = _shared(model, population)
    each = sum(value[0].nbytes for value in population.values.values())
    alike = [*population.module.held_values().values(), *ids.values()]
    return each * members * population.runs + _bytes(alike), _bytes(shared.values())


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def _linked(file: Path | None, link: Path) -> bool:
    """Make a hard link to a file; False where there is none, or the file system has no such links."""
    if file is None:
        return False
    try:
        link.hardlink_to(file)
    except OSError:
        return False
    return True


def _write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, path)


def _shared(model: nn.Module, population: Population) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What the members share, under the plain model's names, and the ids of active rows."""
    shared = {name: value for name, value in model.state_dict().items() if name not in population.slots}
    for name, value in model.named_parameters():
        if is_quantized(value):  # bitsandbytes: the artifact loads everywhere, so its weights are plain ones
            shared = {key: each for key, each in shared.items() if not key.startswith(f"{name}.")}
            shared[name] = _dequantized(value, name)
    ids = {}
    for name, places in population.slots.items():
        for module, _ in places:
            if isinstance(module, ActiveEmbedding):
                shared[name], ids[name + IDS] = module.table, module.ids
    # A tied parameter has several names in a state dict; the members hold it under the first, and so does the rest.
    first = {name for name, _ in model.named_parameters()}
    tied = {name for name, _ in model.named_parameters(remove_duplicate=False)} - first
    held = {views[0].data_ptr() for views in population.views.values()}
    held |= {value.data_ptr() for value in population.module.held.values()}
    return {name: value for name, value in shared.items() if value.data_ptr() not in held and name not in tied}, ids


def _dequantized(value: Any, name: str) -> Tensor:
    """The weight that 4 bits stand for, in the type of the computation."""
    from bitsandbytes.functional import dequantize_4bit

    if value.quant_state is None:
        raise InputError(f"{name} is quantized in a way that cannot be saved: use bitsandbytes' 4 bits")
    return dequantize_4bit(value.data, value.quant_state)
