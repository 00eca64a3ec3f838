"""What a frozen model makes of texts, kept in memory and in the user's cache folder: it is computed once.

A key is a digest of all that decides the numbers: weights and settings of the model, tokens batch by batch, versions,
device and threads. So what is found equals what would be computed, to the bit.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import platform
import tempfile
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deni.models.pairs import PairForward
from deni.models.pooling import Pooling
from deni.models.products import are_fast
from deni.provenance import canonical, environment

logger = logging.getLogger(__name__)

VARIABLE = "DENI_CACHE"  # a folder in place of ~/.cache/deni, or `off`
FORMAT = 1  # raised by hand where deni computes other features
IN_MEMORY = 256 * 2**20  # bytes
ON_DISK = 2**30  # bytes; the files that were not used for longest give way

_BEGUN, _DAY = ".deni-", 86400.0  # prefix of files that are being written; seconds

Arrays = list[np.ndarray]
_KEPT: OrderedDict[str, Arrays] = OrderedDict()


def cached(key: str | None, compute: Callable[[], Arrays]) -> Arrays:
    """The arrays of a key: kept ones, else those that are computed now, which are kept.

    Args:
        key: a digest, see `key_of`; None for what cannot be kept.
        compute: makes the arrays.
    """
    if key is None or (folder := _folder()) is None:
        return compute()
    found, where = _KEPT.get(key), "memory"
    if found is None:
        found, where = _read(folder / f"{key}.npz"), "disk"
    if found is None:
        found, where = compute(), ""
        _write(folder, key, found)
    logger.debug("features %s: %s", key[:12], f"found in {where}" if where else "computed")
    _KEPT[key] = found
    _KEPT.move_to_end(key)
    while _KEPT and sum(array.nbytes for arrays in _KEPT.values() for array in arrays) > IN_MEMORY:
        _KEPT.popitem(last=False)
    return [array.copy() for array in found]  # who gets them may change them


def enabled() -> bool:
    """Whether anything is kept."""
    return _folder() is not None


# ---- on disk -------------------------------------------------------------------------------------------------------


def _folder() -> Path | None:
    """Where files are; None where nothing is kept."""
    given = os.environ.get(VARIABLE, "").strip()
    if given.lower() in ("off", "0", "no", "false"):
        return None
    with suppress(RuntimeError):  # no home directory
        return Path(given or "~/.cache/deni").expanduser() / "features"
    return None


def _read(file: Path) -> Arrays | None:
    """The arrays in a file; None where there is none, or a damaged one."""
    try:
        with np.load(file, allow_pickle=False) as content:  # a zip archive: each array has a checksum
            arrays = [content[f"arr_{at}"] for at in range(len(content.files))]
        os.utime(file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        logger.debug("%s cannot be read (%s): computed again", file, error)
        return None
    return arrays


def _write(folder: Path, key: str, arrays: Arrays) -> None:
    """Write a file whole or not at all. A cache that cannot be written is no reason to stop."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=_BEGUN, dir=folder)  # for its owner only: texts are nobody else's
        try:
            with os.fdopen(handle, "wb") as opened:
                np.savez(opened, *arrays)
            os.replace(name, folder / f"{key}.npz")
        except BaseException:
            os.unlink(name)
            raise
        _make_room(folder)
    except OSError as error:
        logger.debug("features are not kept in %s (%s)", folder, error.strerror)


def _make_room(folder: Path) -> None:
    """Remove what was not used for longest until the rest is at most `ON_DISK` bytes, and what is left over."""
    files = []
    for left in folder.glob(f"{_BEGUN}*"):
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > _DAY:
                left.unlink()
    for file in folder.glob("*.npz"):
        with suppress(FileNotFoundError):  # another process was faster
            files.append((file.stat(), file))
    total = sum(status.st_size for status, _ in files)
    for status, file in sorted(files, key=lambda each: each[0].st_mtime_ns):
        if total <= ON_DISK:
            break
        file.unlink(missing_ok=True)
        total -= status.st_size


# ---- keys ----------------------------------------------------------------------------------------------------------


def key_of(state: str | None, batches: Iterable[Mapping[str, Any]], *settings: Any) -> str | None:
    """The key of what a model makes of batches; None where the state of the model is not known.

    Args:
        state: of the model, see `state_of`.
        batches: its inputs; rows of a batch pad each other, which rounds, so each batch counts as it is.
        settings: JSON values that decide the numbers, too.
    """
    if state is None:
        return None
    found = hashlib.sha256(canonical([FORMAT, state, _surroundings(), *settings]).encode())
    for batch in batches:
        for name, value in sorted(batch.items()):
            found.update(name.encode())
            _add(found, value)
    return found.hexdigest()


def _surroundings() -> dict[str, Any]:
    """What decides the last bits, besides the model and its inputs."""
    return {
        **environment(),
        "processor": _processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "matmul": "onednn" if are_fast() else torch.get_float32_matmul_precision(),
        "tf32": torch.backends.cudnn.allow_tf32,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "autocast": [
            str(torch.get_autocast_dtype(kind)) for kind in ("cpu", "cuda") if torch.is_autocast_enabled(kind)
        ],
    }


@functools.cache
def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def passes_its_input(module: nn.Module, given: tuple[Any, ...], output: Any) -> Any:
    """A forward hook with which a layer returns what it is given; its weights then decide nothing."""
    return given[0]


def passes(model: nn.Module) -> bool:
    """Whether a layer of a model passes its input, so that features come out in place of logits."""
    return any(passes_its_input in module._forward_hooks.values() for module in model.modules())


_LIBRARIES = ("torch", "transformers", "peft", "deni")
# Of a module or a config: paths, names of labels, the state of warnings, what counts in training only.
_IDLE = {
    *("training", "warnings_issued", "name_or_path", "_name_or_path", "generation_config", "is_gradient_checkpointing"),
    *("id2label", "label2id", "num_labels", "problem_type", "architectures", "transformers_version", "dtype"),
    *("torch_dtype", "peft_config", "model_tags", "gradient_checkpointing", "_is_hf_initialized"),
}
_OF_MODULES = frozenset(vars(nn.Module()))


def state_of(model: nn.Module) -> str | None:
    """A digest of all that decides what a model computes in evaluation mode; None where that is not known.

    Left out are layers that pass their input, originals of layers that PEFT has copied, and the factors A of a LoRA
    whose B is zero: their product adds exact zeros. What has code of the user's, or hooks and forward methods of
    others, is not known.
    """
    found = hashlib.sha256()
    idle: set[nn.Module] = set()
    for path, module in model.named_modules():
        if isinstance(module, nn.Dropout) or module in idle or passes_its_input in module._forward_hooks.values():
            continue
        described = _description(module)
        if described is None:
            return None
        idle |= _without_effect(module)
        found.update(f"{path}\n{described}\n".encode())
        for name, value in [*module._parameters.items(), *module._buffers.items()]:
            found.update(name.encode())
            if value is not None and type(value) not in (Tensor, nn.Parameter):
                return None  # a quantized one has a state of its own
            _add(found, value)
    return found.hexdigest()


def _description(module: nn.Module) -> str | None:
    """The class and settings of a module, without its tensors; None where it computes what is not known."""
    own = vars(module)
    if type(module).__module__.partition(".")[0] not in _LIBRARIES:
        return None
    forward = own.get("forward")
    if forward is not None and not isinstance(forward, PairForward):
        return None
    hooks = []
    for hook in [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]:
        if isinstance(hook, Pooling):
            hooks.append(canonical(hook.to_json()))
        elif (name := _name_of(hook)).partition(".")[0] in _LIBRARIES:
            hooks.append(name)
        else:
            return None
    settings = {name: _plain(value) for name, value in own.items() if name not in _OF_MODULES and name not in _IDLE}
    return json.dumps([_name_of(type(module)), _name_of(forward), hooks, settings], sort_keys=True)


def _name_of(thing: Any) -> str:
    while isinstance(thing, functools.partial):
        thing = thing.func
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{named.__module__}.{named.__qualname__}"


def _plain(value: Any) -> Any:
    """A setting of a module as JSON."""
    from transformers import PretrainedConfig

    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    if isinstance(value, PretrainedConfig):
        attention = getattr(value, "_attn_implementation", None)
        return [str(attention), {name: repr(each) for name, each in value.to_dict().items() if name not in _IDLE}]
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, set | frozenset):
        return sorted(repr(each) for each in value)
    if isinstance(value, Tensor):
        found = hashlib.sha256()
        _add(found, value)
        return found.hexdigest()
    return str(value) if isinstance(value, torch.dtype | torch.device) else _name_of(value)


def _without_effect(module: nn.Module) -> set[nn.Module]:
    """What PEFT puts into a module and does not use: the original of a layer that it copied, each A whose B is zero."""
    from peft.tuners.lora import LoraLayer
    from peft.utils.other import ModulesToSaveWrapper

    if isinstance(module, ModulesToSaveWrapper):
        active = module.active_adapters
        used = not module.disable_adapters and active and all(name in module.modules_to_save for name in active)
        return set(module.original_module.modules()) if used else set()
    if not isinstance(module, LoraLayer) or getattr(module, "lora_variant", None) or any(module.use_dora.values()):
        return set()
    first, second = module.lora_A, module.lora_B
    return {
        first[name]
        for name in first
        if not any(bool(value.any()) for value in second[name].parameters())
        and all(bool(value.isfinite().all()) for value in first[name].parameters())
    }


def _add(found: Any, value: Any) -> None:
    """A tensor with its type and shape, or a JSON value."""
    if not isinstance(value, Tensor):
        found.update(repr(value).encode())
        return
    found.update(f"{value.dtype} {tuple(value.shape)}".encode())
    flat = value.detach().cpu().contiguous().reshape(-1)
    found.update(flat.view(torch.uint8).numpy() if flat.numel() else b"")


def exact(values: Sequence[Tensor]) -> Iterator[np.ndarray]:
    """Tensors as arrays of the same numbers: of 16 bits as float32."""
    for value in values:
        yield (value.float() if value.dtype.itemsize < 4 else value).detach().cpu().numpy()
