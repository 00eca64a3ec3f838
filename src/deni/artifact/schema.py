"""What an artifact looks like, `deni.json` and tensors: checked whenever one is read, before it is built."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deni.artifact.folder import IDS
from deni.artifact.info import PADDINGS
from deni.data.values import has_surrogate
from deni.errors import ArtifactError, short
from deni.models.pairs import PAIRS
from deni.models.pooling import KINDS, Pooling
from deni.models.reading import AGAIN
from deni.tasks import TASKS
from deni.tasks.voting import COMBINES

MOST = 10**6  # runs, members, tokens of a text: far beyond what anybody trains
_PART = 2**22  # values that are looked at together
ENGINES, DTYPES = ("loop", "stacked"), (None, "float32")

Check = Callable[[Any], bool]


def _is(*kinds: type) -> Check:
    return lambda value: isinstance(value, kinds) and not (isinstance(value, bool) and bool not in kinds)


def _text(value: Any) -> bool:
    return isinstance(value, str) and not has_surrogate(value)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _maybe(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _count(least: int, most: int = MOST) -> Check:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _one_of(*known: Any) -> Check:
    return lambda value: isinstance(value, str | None) and value in known


def _each(check: Check, least: int = 0) -> Check:
    return lambda value: isinstance(value, list) and len(value) >= least and all(map(check, value))


def _named(value: Any) -> bool:
    if not isinstance(value, dict) or not _text(value.get("name")):
        return False
    settings, names = value.get("settings", {}), value["name"].split("+")
    if not isinstance(settings, dict):
        return False
    return len(names) == 1 or all(isinstance(settings.get(name, {}), dict) for name in names)


def _pooling(value: Any) -> bool:
    try:
        Pooling.of(value)
    except (ValueError, TypeError, KeyError):
        return False
    return _count(0)(value["virtual_tokens"])


def _sizes(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_count(0, 2**62), value.values()))


def _calibration(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    known = [value[name] for name in ("vote", "merged", "member") if name in value]
    return all(isinstance(each, dict) and _temperature(each.get("temperature")) for each in known)


def _temperature(value: Any) -> bool:
    return _is(int, float)(value) and math.isfinite(value) and value > 0


def _graph(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("int8"), bool):
        return False
    digests = value.get("sha256")
    return _each(_text, 1)(value.get("inputs")) and isinstance(digests, dict) and all(map(_text, digests.values()))


def _abstention(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    curve, targets = value.get("curve", []), value.get("targets", {})
    return _each(_is(dict))(curve) and isinstance(targets, dict) and all(map(_is(dict), targets.values()))


_OBJECT = _is(dict)

# What may be there, in any format; information but for a few, of which reading of earlier formats and export make use.
_OPTIONAL: dict[str, tuple[Check, str]] = {
    "deni": (_text, "a version"),
    "versions": (_OBJECT, "versions by name"),
    "task": (_text, "the name of a task"),
    "dtype": (_one_of(*DTYPES), "float32 or null"),
    "needs": (_text, "a text"),
    "onnx": (_graph, "inputs, int8 and sha256"),
    "files": (_sizes, "bytes by name"),
    "strategy": (_named, "name and settings"),
    "tuning": (_named, "name and settings"),
    "encoders": (_OBJECT, "settings by name"),
    "encoders.chosen": (_text, "the name of a model"),
    "auto": (_OBJECT, "settings by name"),
    "auto.row": (_text, "a name"),
    "auto.why": (_text, "a text"),
    "auto.evidence": (_text, "a text"),
    "recipe": (_OBJECT, "settings by name"),
    "recipe.model": (_maybe(_text), "the name of a model"),
    "data": (_OBJECT, "settings by name"),
    "metrics": (_OBJECT, "numbers by name"),
    "diagnostics": (_OBJECT, "an object"),
    "pooling": (_pooling, f"kind ({', '.join(KINDS)}), normalize and virtual_tokens"),
    "pairs": (_one_of(*PAIRS), f"one of {', '.join(PAIRS)}"),
    "schedule": (_text, "a text"),
    "member_steps": (_count(0, 2**62), "a whole number of at least 0"),
    "cross_validation": (_OBJECT, "settings and results by name"),
    "cross_validation.metric": (_text, "the name of a metric"),
    **{
        f"cross_validation.{name}": (_number, "a number")
        for name in ("score", "low", "high", "confidence", "trained_on")
    },
    **{f"cross_validation.{name}": (_count(1), "a whole number of at least 1") for name in ("folds", "divisions")},
    "calibration": (_calibration, "temperatures above 0 by predictor"),
    "abstention": (_abstention, "curve and targets"),
    "sets": (_OBJECT, "settings and results by name"),
    "scope": (_OBJECT, "settings and results by name"),
    "distillation": (_OBJECT, "settings and results by name"),
    "generation": (_OBJECT, "settings by name"),
    "generation.max_new_tokens": (_count(1), f"a whole number from 1 to {MOST}"),
    "max_length": (_maybe(_count(1)), f"null or a whole number from 1 to {MOST}"),
    "text_pair_column": (_maybe(_text), "null or the name of a column"),
}

# What must be there, in today's format.
_NEEDED: dict[str, tuple[Check, str]] = {
    "labels": (_each(_text), "a list of at least one name"),
    "runs": (_count(1), f"a whole number from 1 to {MOST}"),
    "members": (_count(1), f"a whole number from 1 to {MOST}"),
    "vote": (_OBJECT, "an object"),
    "vote.combine": (_one_of(*COMBINES), f"one of {', '.join(COMBINES)}"),
    "padding": (_one_of(*PADDINGS), f"one of {', '.join(PADDINGS)}"),
    "engine": (_one_of(*ENGINES), f"one of {', '.join(ENGINES)}"),
    "max_length": _OPTIONAL["max_length"],
    "text_pair_column": _OPTIONAL["text_pair_column"],
}


def check_format(info: Mapping[str, Any], file: Path) -> int:
    """The number of the format in which `deni.json` was written; raises ArtifactError where it has none."""
    written = info.get("format")
    if not _count(1)(written):
        raise _wrong(file, "format", info, "a whole number of at least 1")
    assert isinstance(written, int)
    return written


def check_given(info: Mapping[str, Any], file: Path) -> None:
    """Check what may be there, before an earlier format is converted."""
    _check(info, _OPTIONAL, file, needed=False)


def check_info(info: Mapping[str, Any], file: Path) -> None:
    """Check what must be there, in today's format: types, ranges, and what one key says of another.

    Raises:
        ArtifactError: names the file, the key and what was expected.
    """
    _check(info, _NEEDED, file, needed=True)
    if info["padding"] == "max_length" and info["max_length"] is None:
        raise ArtifactError(f"{file}: max_length is null, which padding = max_length needs: {AGAIN}")
    task = TASKS.get(info.get("task", ""))
    if not info["labels"] and not (task is not None and task.generates):
        raise _wrong(file, "labels", info, "a list of at least one name")
    if task is not None and task.of_words and info["text_pair_column"] is not None:
        raise ArtifactError(f"{file}: text_pair_column is there, but the task {task.name} has no pairs: {AGAIN}")


def _check(info: Mapping[str, Any], checks: Mapping[str, tuple[Check, str]], file: Path, needed: bool) -> None:
    for path, (check, expected) in checks.items():
        above, _, key = path.rpartition(".")
        values = info.get(above) if above else info
        if not needed and (not isinstance(values, Mapping) or key not in values):
            continue
        assert isinstance(values, Mapping)  # it was checked before what is below it
        if key not in values or not check(values[key]):
            raise _wrong(file, path, values, expected)


def _wrong(file: Path, path: str, values: Mapping[str, Any], expected: str) -> ArtifactError:
    key = path.rpartition(".")[2]
    what = f"is {short(values[key])}" if key in values else "is missing"
    return ArtifactError(f"{file}: {path} {what} where {expected} was expected: {AGAIN}")


# ---- tensors -------------------------------------------------------------------------------------------------------


def check_listed(info: Mapping[str, Any], file: Path) -> None:
    """Raise ArtifactError where a file of tensors has another size than `deni.json` says."""
    size, said = file.stat().st_size, info.get("files", {}).get(file.name)
    if said is not None and said != size:
        raise ArtifactError(f"{file} has {size} bytes where {said} were written: {AGAIN}")


def check_members(
    members: Mapping[str, Tensor], base: Mapping[str, Tensor], info: Mapping[str, Any], file: Path
) -> None:
    """Check the tensors of the members before anything is made of them.

    Args:
        members: M of each, and the ids of embedding rows.
        base: what the members share.
        info: says how many members there are.
        file: theirs, for messages.

    Raises:
        ArtifactError: names the file and the tensor.
    """
    size = info["runs"] * info["members"]
    stacked = {name: value for name, value in members.items() if not name.endswith(IDS)}
    if not stacked:
        raise ArtifactError(f"{file} has no tensors: {AGAIN}")
    for name, value in stacked.items():
        if value.ndim < 1 or len(value) != size:
            have = len(value) if value.ndim else "no"
            raise ArtifactError(
                f"{file}: {name} has {have} members where runs x members = {size} were expected: {AGAIN}"
            )
    for name in members.keys() - stacked.keys():
        _check_ids(name.removesuffix(IDS), members, base, file)


def _check_ids(name: str, members: Mapping[str, Tensor], base: Mapping[str, Tensor], file: Path) -> None:
    """The rows of an embedding that the members have values for."""
    ids, rows, table = members[name + IDS], members.get(name), base.get(name)
    if rows is None or table is None:
        raise ArtifactError(f"{file}: {name}{IDS} is there without the rows that it names: {AGAIN}")
    kinds = not ids.is_floating_point() and rows.is_floating_point() == table.is_floating_point()
    fits = kinds and ids.ndim == 1 and rows.ndim == 3 and rows.shape[1] == len(ids)
    if not fits or table.ndim != 2 or table.shape[1] != rows.shape[2]:
        raise ArtifactError(
            f"{file}: {name}{IDS} is {tuple(ids.shape)}, its rows {tuple(rows.shape)}, the table {tuple(table.shape)}, "
            f"which do not fit each other: {AGAIN}"
        )
    if len(ids) and not (int(ids.min()) >= 0 and int(ids.max()) < len(table) and len(ids.unique()) == len(ids)):
        raise ArtifactError(f"{file}: {name}{IDS} names rows that the table of {len(table)} has not, or twice: {AGAIN}")


def check_finite(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Raise ArtifactError where a weight is NaN or infinite: what such a model says means nothing."""
    for name, value in tensors.items():
        if not value.is_floating_point():
            continue
        parts = value.detach().flatten().split(_PART)
        # A sum is infinite or NaN where a value is, and seldom otherwise; it needs no memory.
        odd = [part for part in parts if not math.isfinite(float(part.sum()))]
        count = sum(int((~torch.isfinite(part)).sum()) for part in odd)
        if count:
            numbers = "1 value that is" if count == 1 else f"{count} values that are"
            raise ArtifactError(f"{file}: {name} has {numbers} not finite: train the model again")
