"""What a whole cell looks like: checked whenever one is read, since a file may be damaged or somebody else's."""

from __future__ import annotations

import json
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from deni.data.values import has_surrogate
from deni.errors import InputError, InputWarning, short
from deni.provenance import depth
from deni.study.cell import MEASURES, Cell
from deni.study.keys import key_of
from deni.study.store.rows import COLUMNS, JSON, STATUSES, Outputs, arrays_of
from deni.tasks import TASKS

_TEXT = ("key", "pack", "study", "spec", "decides", "status", "added")
_MAYBE_TEXT = ("worker", *JSON, "fingerprint", "traceback", "started", "finished")
_DEEPEST = 100  # levels of nested JSON
Check = Callable[[Any], bool]


class DamagedCellError(InputError):
    """A cell of a store or archive that is not as deni writes it."""


def _is(kind: type | tuple[type, ...], maybe: bool = False) -> Check:
    def check(value: Any) -> bool:
        return (maybe and value is None) or (isinstance(value, kind) and not isinstance(value, bool))

    return check


def _each(value_is: Check) -> Check:
    return lambda value: (
        isinstance(value, Mapping) and all(isinstance(key, str) and value_is(each) for key, each in value.items())
    )


def _names(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(isinstance(each, str) for each in value)


def _named(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("name"), str)
        and isinstance(value.get("settings"), Mapping)
        and set(value) <= {"name", "settings", "combine"}
    )


_TEXTS, _MAYBE, _NUMBER, _WHOLE = _is(str), _is(str, maybe=True), _is((int, float)), _is(int)
_MAYBE_WHOLE, _VALUES, _NUMBERS = _is(int, maybe=True), _is(Mapping), _each(_NUMBER)

_SPEC: dict[str, Check] = {
    "dataset": lambda value: isinstance(value, Mapping) and isinstance(value.get("name"), str),
    "model": _TEXTS,
    "tuning": _named,
    "strategy": _named,
    "labelled": _MAYBE_WHOLE,
    "seed": _WHOLE,
    "block": _WHOLE,
    "sources": _each(_WHOLE),
    "test_size": _MAYBE_WHOLE,
    "protocol": _MAYBE,
    "preset": _MAYBE,
    "measure": lambda value: value in MEASURES,
    "recipe": _VALUES,
    "vary": _TEXTS,
    "factor": _VALUES,
    "label": _TEXTS,
}
_DECIDES: dict[str, Check] = {
    "model": _TEXTS,
    "tuning": _named,
    "strategy": _named,
    "recipe": lambda value: isinstance(value, Mapping) and value.get("task") in TASKS,
    "versions": _each(_TEXTS),
    "fingerprints": _each(_TEXTS),
    "seed": _WHOLE,
    "block": _WHOLE,
    "seeds": _each(_WHOLE),
}
_RESULT: dict[str, Check] = {
    "labels": _names,
    "metrics": _each(_is((int, float), maybe=True)),
    "cost": _each(_is((int, float), maybe=True)),
    "diagnostics": _VALUES,
    "environment": _VALUES,
}


def check_row(raw: Mapping[str, Any], rekeyed: bool = True) -> None:
    """Check a row as it is kept.

    Args:
        raw: the columns of the table `cells`.
        rekeyed: whether the key is that of today; not in archives and older stores, which are rekeyed when read.

    Raises:
        DamagedCellError: names the row, the column and what is wrong.
    """
    try:
        _check_row(raw, rekeyed)
    except _Problem as problem:
        raise DamagedCellError(f"{name_of(raw)}: {problem}") from None


def name_of(raw: Mapping[str, Any]) -> str:
    """A row in words, by its place and its key."""
    key = raw.get("key")
    place = f"row {raw['number']}" if raw.get("number") is not None else "a row"
    return f"{place} ({key[:12]})" if isinstance(key, str) and key.isalnum() else place


class _Problem(Exception):
    pass


def _check_row(raw: Mapping[str, Any], rekeyed: bool) -> None:
    for name in _TEXT:
        if not isinstance(raw.get(name), str):
            raise _Problem(f"{name} is {_kind(raw.get(name))} where text was expected")
    for name in _MAYBE_TEXT:
        if not isinstance(raw.get(name), str | None):
            raise _Problem(f"{name} is {_kind(raw.get(name))} where text was expected")
    for name, value in raw.items():
        if isinstance(value, str) and has_surrogate(value):
            raise _Problem(f"{name} is no UTF-8")
    if raw["status"] not in STATUSES:
        raise _Problem(f"the status {short(raw['status'])} does not exist")
    if isinstance(raw.get("attempts"), bool) or not isinstance(raw.get("attempts"), int) or raw["attempts"] < 0:
        raise _Problem(f"attempts is {short(raw.get('attempts'))} where a count was expected")
    spec, decides = _object(raw, "spec"), _object(raw, "decides")
    _check(spec, _SPEC, "spec")
    _check(decides, _DECIDES, "decides")
    try:
        Cell.from_json(spec)
    except (TypeError, KeyError) as error:
        raise _Problem(f"spec does not fit ({str(error).removeprefix('Cell.__init__() ')})") from None
    if rekeyed and key_of(decides) != raw["key"]:
        raise _Problem("decides is not what the key was made of")
    if raw["status"] == "done":
        _check({name: _json(raw, name) for name in JSON if raw[name]}, _RESULT, "")


def check_arrays(packed: Any, labels: Sequence[str] | None) -> Outputs:
    """Read the predictions of a cell.

    Args:
        packed: what `pack_arrays` made.
        labels: names of its C classes; None where they are not known.

    Raises:
        DamagedCellError: no such archive, or arrays that do not fit each other or the labels.
    """
    try:
        outputs = arrays_of(packed)
        shape = np.shape(outputs.log_probs)
        found = {name: value for name, value in outputs._asdict().items() if value is not None}
    except (ValueError, TypeError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error, MemoryError) as error:
        raise DamagedCellError(f"its predictions cannot be read ({short(str(error))})") from None
    except Exception as error:  # zipfile and NumPy raise what they like for broken headers
        raise DamagedCellError(f"its predictions cannot be read ({type(error).__name__})") from None
    texts = ("answers", "gold") if outputs.answers is not None else ()
    for name, value in found.items():
        if value.dtype.kind not in ("U" if name in texts else "fiub"):
            raise DamagedCellError(f"{name} holds no {'texts' if name in texts else 'numbers'}")
    if len(shape) != 3 or 0 in shape or (labels is not None and shape[2] != len(labels)):
        raise DamagedCellError(f"log_probs is {shape}, not (texts, members, {len(labels or 'C')} labels)")
    if outputs.gold.shape[:1] != shape[:1] or outputs.text_ids.shape != shape[:1]:
        raise DamagedCellError(f"{shape[0]} texts: gold is {outputs.gold.shape}, text_ids {outputs.text_ids.shape}")
    if outputs.merged is not None and outputs.merged.shape != (shape[0], shape[2]):
        raise DamagedCellError(f"merged is {outputs.merged.shape}, not {(shape[0], shape[2])}")
    if outputs.answers is not None and outputs.answers.shape != shape[:1]:
        raise DamagedCellError(f"answers is {outputs.answers.shape}, not {shape[:1]}")
    if np.isnan(outputs.log_probs).any():
        raise DamagedCellError("log_probs hold NaN")
    return outputs


def labels_of(raw: Mapping[str, Any]) -> list[str] | None:
    """The names of the classes of a row that was checked and is done; None where an early version kept none."""
    return list(json.loads(raw["labels"])) if raw["labels"] else None


def check_columns(names: Sequence[str], where: str) -> None:
    """Raise InputError where a table has other columns than a store's."""
    missing, unknown = set(COLUMNS) - set(names), set(names) - set(COLUMNS)
    if missing or unknown:
        what = f"no column {min(missing)}" if missing else f"an unknown column {short(min(unknown))}"
        raise InputError(f"{where} has {what}: it was changed, or written by a later version of deni")


def warn_of_damaged(damaged: Sequence[str], where: str = "", cure: str = "") -> None:
    """Warn of cells that are left out, in one line.

    Args:
        damaged: what is wrong with each.
        where: the file; empty where `damaged` names it.
        cure: what to do.
    """
    if damaged:
        more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        line = f"{where}{': ' * bool(where)}{damaged[0]}{more}: left out{f' ({cure})' if cure else ''}"
        warnings.warn(line, InputWarning, stacklevel=3)


def _check(values: Mapping[str, Any], checks: Mapping[str, Check], where: str) -> None:
    for name, check in checks.items():
        if name not in values:
            if where == "decides":
                raise _Problem(f"decides has no {name}")
            continue  # of a cell `Cell.from_json` knows which may be missing
        if not check(values.get(name)):
            path = f"{where}.{name}" if where else name
            raise _Problem(f"{path} is {short(values.get(name))}, which does not fit")


def _object(raw: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = _json(raw, name)
    if not isinstance(value, dict):
        raise _Problem(f"{name} is no JSON object")
    return value


def _json(raw: Mapping[str, Any], name: str) -> Any:
    if raw[name] is None:
        return None
    try:
        value = json.loads(raw[name], parse_int=_rounded if name == "decides" else _whole)
    except (ValueError, RecursionError):
        raise _Problem(f"{name} is no JSON") from None
    if depth(value, _DEEPEST) > _DEEPEST:
        raise _Problem(f"{name} is nested more than {_DEEPEST} levels deep")
    if "\\ud" in raw[name].lower() and has_surrogate(json.dumps(value, ensure_ascii=False)):
        raise _Problem(f"{name} has half a surrogate pair, which is not a character")
    return value


def _whole(digits: str) -> int:
    if len(digits) > 20 or abs(int(digits)) >= 2**63:
        raise _Problem(f"{short(digits)} is too large a number")
    return int(digits)


def _rounded(digits: str) -> int:
    """The same where numbers are written without a point if they are whole: a larger one if a float has it (1e30)."""
    with suppress(OverflowError):
        if len(digits) <= 310 and int(float(int(digits))) == int(digits):
            return int(digits)
    return _whole(digits)


def _kind(value: Any) -> str:
    return "missing" if value is None else f"a {type(value).__name__}"
