"""How a study can be repeated: the `study.yaml` that gives its cells, the commands, and what it ran with."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deni.data import DATASETS
from deni.data.hub import is_hub_id
from deni.provenance import canonical
from deni.study.cell import Cell, NamedSettings
from deni.study.spec.axes import LONGEST_LABEL
from deni.study.store.rows import Row
from deni.study.store.table import called

_COMMON = ("protocol", "preset", "measure", "test_size", "recipe", "vary")


@dataclass(frozen=True)
class Repeat:
    """What is needed to run a study again.

    Args:
        documents: name of a file -> what is to be in it.
        commands: to be typed.
        environments: a line of versions and device, and how many runs had it.
    """

    documents: dict[str, str]
    commands: Sequence[str]
    environments: Sequence[tuple[str, int]]


def plan_repeat(rows: Sequence[Row], store: str) -> Repeat:
    """How to repeat the cells of these rows into a store of this name."""
    found: dict[str, str] = {}
    for study, some in itertools.groupby(sorted(rows, key=lambda row: row.study), key=lambda row: row.study):
        for document in _documents(study, [row.cell for row in some], list(_AXES)):
            name = "study.yaml" if not found else f"study{len(found) + 1}.yaml"
            found[name] = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)
    setup = install([_versions(row) for row in rows])
    runs = [f"deni study run {name} --store {store}" for name in found]
    counted = Counter(_environment(row) for row in rows if row.status == "done")
    return Repeat(
        found, [*([setup] if setup else []), *runs, f"deni report {store} --output report.html"], counted.most_common()
    )


def install(versions: Sequence[Mapping[str, str]]) -> str:
    """The command that installs these versions, name -> version of each run; of several, pip says so; empty for none.

    Without a local label such as +cpu, which only the index that it comes from knows.
    """
    told = sorted(set().union(*(each.items() for each in versions)))
    listed = " ".join(f"{name}=={value.partition('+')[0]}" for name, value in told)
    return f"python -m pip install {listed}" if told else ""


def _versions(row: Row) -> dict[str, str]:
    """Those that decided the result, and the deni that it was computed with, where it was."""
    own = {name: str(row.environment[name]) for name in ("deni",) if name in row.environment}
    return {**row.decides["versions"], **own}


def _environment(row: Row) -> str:
    return ", ".join(f"{name} {value}" for name, value in row.environment.items()) or "not recorded"


def _dataset(cell: Cell) -> Any:
    name, others = cell.dataset["name"], {key: value for key, value in cell.dataset.items() if key != "name"}
    if not others:
        return name
    place = "name" if name in DATASETS else "hub" if is_hub_id(name) and not Path(name).exists() else "path"
    return {place: name, **others}


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def _named(named: NamedSettings, label: str = "") -> Any:
    more = {**named.settings, **({"label": label} if label else {})}
    return {"name": named.name, **more} if more else named.name


def _label(cell: Cell) -> str:
    """The label of a cell's strategy, with the value of a factor, which is written as a setting here."""
    label = called(cell) if cell.label else ""
    return label if len(label) <= LONGEST_LABEL else ""


# Of a study, outermost first: the key in the document, and what of a cell stands there.
_AXES: dict[str, Callable[[Cell], Any]] = {
    "common": lambda cell: {name: _plain(getattr(cell, name)) for name in _COMMON},
    "datasets": _dataset,
    "models": lambda cell: cell.model,
    "tunings": lambda cell: _named(cell.tuning),
    "labelled": lambda cell: "all" if cell.labelled is None else cell.labelled,
    "strategies": lambda cell: _named(cell.strategy, _label(cell)),
    "blocks": lambda cell: cell.block,
    "seeds": lambda cell: cell.seed,
}


def _documents(study: str, cells: Sequence[Cell], split: Sequence[str]) -> Iterator[dict[str, Any]]:
    """One document where the cells are a full grid, or several: cut along the first axis that has several values."""
    values = {name: {canonical(of(cell)): of(cell) for cell in cells} for name, of in _AXES.items()}
    want = 1
    for each in values.values():
        want *= len(each)
    there = {tuple(canonical(of(cell)) for of in _AXES.values()) for cell in cells}
    if len(values["common"]) == 1 and len(there) == want:
        yield _document(study, {name: list(each.values()) for name, each in values.items()})
        return
    axis = next(name for name in split if len(values[name]) > 1)
    for value in values[axis]:
        yield from _documents(study, [cell for cell in cells if canonical(_AXES[axis](cell)) == value], split)


def _document(study: str, axes: dict[str, list[Any]]) -> dict[str, Any]:
    (common,) = axes.pop("common")
    given: dict[str, Any] = {name: value for name, value in common.items() if value}
    if given["measure"] == "test":  # the default
        del given["measure"]
    vary = given.pop("vary", "optimisation")
    if vary != "optimisation":
        given["vary"] = vary if vary == "all" else vary.split(",")
    return {**({"name": study} if study else {}), **axes, **given}
