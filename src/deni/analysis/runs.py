"""The runs of a store, grouped by what they share: a setting (dataset, model, tuning, labels) and a strategy."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deni.analysis.predictions import PredictionMeasures, measure_answers, measure_predictions
from deni.auto.table import ROWS
from deni.errors import InputError
from deni.measures import macro_f1, majority_score
from deni.provenance import canonical, digest
from deni.strategies.base import ARGUMENTS
from deni.study.cell import MEASURES, Cell
from deni.study.keys import HOW
from deni.study.store.database import Store
from deni.study.store.rows import Outputs, Row
from deni.study.store.table import called, flat
from deni.study.store.validate import DamagedCellError, warn_of_damaged
from deni.study.vote import voter
from deni.tasks import TASKS

SPLITS = {"test": "test", "development": "dev"}  # what a cell is measured on, as it is shown
WHERE = ("strategy", "dataset", "model", "tuning", "labeled", "other")  # what a row of a table is about
_OF_THE_STRATEGY = {*ARGUMENTS, *(name for row in ROWS for name in row.recipe)}  # values of a recipe, unless given
_OF_A_SETTING = ("measure", "test_size", "protocol", "preset", "recipe", "vary")


@dataclass(frozen=True)
class Setting:
    """What strategies are compared in: all that decides a cell but strategy, block and seed.

    Args:
        dataset, model, tuning: as they are shown.
        labeled: training examples; None for all.
        other: what else differs between the settings of the store, and always a dev split.
        task: see `deni.tasks.TASKS`.
        measure: the part that was measured on, see `deni.study.cell.Cell`.
        label: what tells it from the other settings of the store, on one line.
        curve: the same without the number of labeled examples.
    """

    dataset: str
    model: str
    tuning: str
    labeled: int | None
    other: str
    task: str
    measure: str = "test"
    label: str = ""
    curve: str = ""

    @property
    def key(self) -> tuple[str, str, str, int | str, str]:
        """What a row of a table has of it: all of `WHERE` but the strategy."""
        return self.dataset, self.model, self.tuning, "all" if self.labeled is None else self.labeled, self.other

    @property
    def amount(self) -> str:
        """How many examples are labeled."""
        return "all texts" if self.labeled is None else f"{self.labeled} labeled"


@dataclass
class Block:
    """Runs of one choice of labels and texts, in the order of their seeds.

    Args:
        number: of the block.
        rows: the cells.
        seeds: what pairs a run with that of another strategy: its seed and the seeds of single sources.
        scores: `(S,)`, from 0 to 1.
        chance: score of the majority class; NaN where it is not known.
        texts: how many were measured on.
        predictions: classes `(S, N)`; None where the runs were measured on different texts, or of other tasks.
        gold: `(N,)`, for the same texts.
        measures: of the predictions of these texts.
    """

    number: int
    rows: Sequence[Row]
    seeds: Sequence[str]
    scores: np.ndarray
    chance: float
    texts: int
    predictions: np.ndarray | None
    gold: np.ndarray | None
    measures: PredictionMeasures | None


@dataclass
class Group:
    """The runs of one strategy in one setting.

    Args:
        blocks: of those that are done.
        failed: cells that gave no result.
    """

    setting: Setting
    strategy: str
    blocks: list[Block] = field(default_factory=list)
    failed: list[Row] = field(default_factory=list)

    @property
    def where(self) -> dict[str, Any]:
        """The columns `WHERE` of a row about this group."""
        return dict(zip(WHERE, (self.strategy, *self.setting.key), strict=True))

    @property
    def rows(self) -> list[Row]:
        """The cells that are done."""
        return [row for block in self.blocks for row in block.rows]

    @property
    def scores(self) -> np.ndarray:
        """Of all runs, `(S,)`."""
        return np.concatenate([block.scores for block in self.blocks])

    @property
    def at_chance(self) -> np.ndarray:
        """Which runs are no better than the majority class, `(S,)`."""
        return np.concatenate([block.scores <= block.chance for block in self.blocks])

    def mean_of(self, name: str) -> float:
        """Mean of a cost over the runs; NaN where it is not known."""
        values = [float(row.cost[name]) for row in self.rows if row.cost.get(name) is not None]
        return statistics.fmean(values) if values else float("nan")


@dataclass
class Runs:
    """All groups of a store, settings in the order in which they were added.

    Args:
        settings, strategies: in order.
        groups: those with a run that is done or failed.
        rows: all cells.
    """

    settings: list[Setting]
    strategies: list[str]
    groups: list[Group]
    rows: list[Row]

    @property
    def texts(self) -> str:
        """The name of the texts that were measured on: test, dev or both."""
        found = {setting.measure for setting in self.settings}
        return " or ".join(SPLITS[name] for name in MEASURES if name in found) + " texts"

    @property
    def waiting(self) -> int:
        """Cells that are not done yet."""
        return sum(row.status in ("waiting", "running") for row in self.rows)

    def of(self, setting: Setting) -> list[Group]:
        """The groups of a setting that have a run."""
        return [group for group in self.groups if group.setting == setting and group.blocks]


def mean_score(group: Group) -> float:
    """Mean over the blocks of the mean over their seeds, from 0 to 1."""
    return float(np.mean([block.scores.mean() for block in group.blocks]))


def read_runs(
    store: Store,
    watch: Callable[[Sequence[Any]], Iterable[Any]] = iter,
    as_one_model: bool = False,
    labels: Mapping[str, str] | None = None,
    as_strategies: Collection[str] = (),
) -> Runs:
    """Read the runs of a store.

    Args:
        watch: shows how far it is.
        as_one_model: measure strategies whose members were forked as the mean of these members, which is what
            `deni export --as single` writes, in place of their vote, and call them so. Others stay as they are.
        labels: name and settings of a strategy, as they are shown without a label -> its label; None for those that
            the cells have.
        as_strategies: fields of the recipe whose values are compared as strategies are, such as `bf16`; others make
            settings.

    Raises:
        InputError: nothing is done in it.
    """
    rows = [_compared_by(as_strategies, row) for row in _with_labels(list(store.results(None)), labels)]
    if not any(row.status == "done" for row in rows):
        waiting = sum(row.status in ("waiting", "running") for row in rows)
        raise InputError(
            f"{store.path}: no run is done ({waiting} wait, {len(rows) - waiting} failed): run "
            f"`deni study run`, or see `deni study status {store.path}`"
        )
    keys = [_setting_key(row) for row in rows]
    settings = _settings(dict(zip(reversed(keys), reversed(rows), strict=True)))
    names = _strategies(keys, rows)
    together: dict[tuple[Setting, str], list[Row]] = {}
    for key, name, row in zip(keys, names, rows, strict=True):
        if row.status in ("done", "failed"):
            together.setdefault((settings[key], name), []).append(row)
    reader = _Reader(store, as_one_model)
    groups = [
        reader.group(setting, strategy, same_rows) for (setting, strategy), same_rows in watch(list(together.items()))
    ]
    return Runs(
        settings=list(dict.fromkeys(group.setting for group in groups)),
        strategies=list(dict.fromkeys(group.strategy for group in groups)),
        groups=groups,
        rows=rows,
    )


class _Reader:
    """Reads per-member predictions, and lets the members vote."""

    def __init__(self, store: Store, as_one_model: bool) -> None:
        self.store, self.as_one_model = store, as_one_model

    def group(self, setting: Setting, strategy: str, rows: Sequence[Row]) -> Group:
        """The runs of one strategy in one setting."""
        done = sorted((row for row in rows if row.status == "done"), key=lambda row: (row.cell.block, row.cell.seed))
        numbers = list(dict.fromkeys(row.cell.block for row in done))
        found = (self._block(number, [row for row in done if row.cell.block == number]) for number in numbers)
        blocks = [block for block in found if block is not None]
        if any(self._merges(row) for row in done):
            strategy += ", as one model"
        return Group(setting, strategy, blocks, [row for row in rows if row.status == "failed"])

    def _merges(self, row: Row) -> bool:
        return self.as_one_model and f"merged_{TASKS[row.task].compared}" in row.metrics

    def _whole(self, rows: Sequence[Row]) -> tuple[list[Row], list[Outputs]]:
        """The rows whose predictions can be read, and these; of the others there is a warning."""
        whole, outputs, damaged = [], [], []
        for row in rows:
            try:
                outputs.append(self.store.outputs(row.key))
                whole.append(row)
            except DamagedCellError as error:
                damaged.append(str(error))
        warn_of_damaged(damaged)
        return whole, outputs

    def _block(self, number: int, given: Sequence[Row]) -> Block | None:
        rows, outputs = self._whole(given)
        if not rows:
            return None
        seeds = [canonical([row.cell.seed, _own_sources(row.cell)]) for row in rows]
        task = TASKS[rows[0].task]
        gold, ids, texts = outputs[0].gold, outputs[0].text_ids, len(outputs[0].gold)
        if not task.compares_classes:
            names = [f"{'merged_' * self._merges(row)}{task.compared}" for row in rows]
            scores = np.array([float(row.metrics[name]) for row, name in zip(rows, names, strict=True)])
            own = any(self._merges(row) for row in rows)  # scores of another model than that which answered
            answers = [each.answers for each in outputs if each.answers is not None and not own]
            alike = len(answers) == len(rows) and all(np.array_equal(each.text_ids, ids) for each in outputs)
            found = measure_answers(np.stack(answers)) if alike else None
            return Block(number, rows, seeds, scores, task.chance, texts, None, None, found)
        votes = [
            each.merged if self._merges(row) and each.merged is not None else voter(row.decides)(each.log_probs)
            for row, each in zip(rows, outputs, strict=True)
        ]
        chosen = [each.argmax(-1) for each in votes]
        shared = all(np.array_equal(each.gold, gold) and np.array_equal(each.text_ids, ids) for each in outputs)
        if shared:
            predictions = np.stack(chosen)
            scores = macro_f1(predictions, gold)
            found = measure_predictions(np.stack(votes), predictions, gold)
            return Block(number, rows, seeds, scores, majority_score(gold), texts, predictions, gold, found)
        each_score = [macro_f1(one[None], each.gold)[0] for one, each in zip(chosen, outputs, strict=True)]
        chance = statistics.fmean(majority_score(each.gold) for each in outputs)
        return Block(number, rows, seeds, np.array(each_score), chance, texts, None, None, None)


def _with_labels(rows: Sequence[Row], labels: Mapping[str, str] | None) -> list[Row]:
    """Rows whose cells have the labels of their strategies; another study of the store may give one that gives none."""
    names = [called(dataclasses.replace(row.cell, label="")) for row in rows]
    given = {name: row.cell.label for name, row in zip(names, rows, strict=True) if row.cell.label}
    told = given if labels is None else labels
    return [
        dataclasses.replace(row, cell=dataclasses.replace(row.cell, label=told[name])) if name in told else row
        for name, row in zip(names, rows, strict=True)
    ]


def _compared_by(fields: Collection[str], row: Row) -> Row:
    """A row with these fields of its recipe in the name of its strategy, and nowhere else."""
    told = ", ".join(f"{name}={row.cell.recipe[name]}" for name in fields if name in row.cell.recipe)
    if not told:
        return row
    cell = dataclasses.replace(
        row.cell, recipe=_without(fields, row.cell.recipe), label=f"{called(row.cell)}, {told}", factor={}
    )
    return dataclasses.replace(
        row, cell=cell, decides={**row.decides, "recipe": _without(fields, row.decides["recipe"])}
    )


def _without(names: Collection[str], values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def _own_sources(cell: Cell) -> dict[str, int]:
    """Seeds of single sources; those that only repeat the block are omitted."""
    return {name: seed for name, seed in cell.sources.items() if seed != cell.block}


def _setting_key(row: Row) -> str:
    """What the cell's study names, and what these names stood for: a default may have changed while a store grew."""
    cell = row.cell
    tuning = [cell.tuning.name, dict(cell.tuning.settings)]
    rest = [_value_of(cell, name) for name in _OF_A_SETTING]
    named = [_read_columns(cell), cell.model, tuning, cell.labelled, rest]
    return canonical([named, _content(row), _versions(row), row.decides["results"], _resolved(row)])


def _resolved(row: Row) -> dict[str, Any]:
    """Tuning and recipe with all their values, without those of the recipe that a strategy, or `auto`, may decide."""
    recipe = {name: value for name, value in row.decides["recipe"].items() if name not in _OF_THE_STRATEGY}
    return {**recipe, "tuning": row.decides["tuning"]["settings"]}


def _strategies(keys: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """How the strategy of each row is shown: with the settings that are given, and with those that tell it from others
    of the same setting that are called the same, since a default was another one."""
    alike: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    settings = []
    for key, row in zip(keys, rows, strict=True):
        decided = {name: value for name, value in row.decides["recipe"].items() if name in _OF_THE_STRATEGY}
        strategy = row.decides["strategy"]
        settings.append(flat({"strategy": strategy["name"], **strategy["settings"], "recipe": decided}))
        alike.setdefault((key, called(row.cell)), {})[canonical(settings[-1])] = settings[-1]
    names = []
    for key, row, values in zip(keys, rows, settings, strict=True):
        others = alike[key, called(row.cell)].values()
        differing = [name for name in values if len({canonical(each.get(name)) for each in others}) > 1]
        told = ", ".join(f"{name}={values[name]}" for name in differing)
        names.append(f"{called(row.cell)}, {told}" if told else called(row.cell))
    return names


def _content(row: Row) -> dict[str, str]:
    """Fingerprints of texts and model; a file may have changed while a study ran."""
    found = dict(row.decides.get("fingerprints", {}))
    found.pop("augmented", None)  # is a strategy's own
    return found


def _versions(row: Row) -> dict[str, str]:
    return dict(row.decides.get("versions", {}))


def _read_columns(cell: Cell) -> dict[str, Any]:
    return {name: value for name, value in cell.dataset.items() if name != "augmented"}


def _value_of(cell: Cell, name: str) -> Any:
    """Without the settings that only decide how a cell is computed."""
    value = getattr(cell, name)
    return {key: value[key] for key in value if key not in HOW} if isinstance(value, Mapping) else value


def _settings(first: Mapping[str, Row]) -> dict[str, Setting]:
    """From a row for each key of `_setting_key` what is shown: names as short as they are unique, and what differs."""
    datasets = _short_names(str(row.cell.dataset["name"]) for row in first.values())
    models = _short_names(row.cell.model for row in first.values())
    details = {key: dict(_details(row)) for key, row in first.items()}
    names = list(dict.fromkeys(name for each in details.values() for name in each))
    differing = [name for name in names if len({canonical(each.get(name)) for each in details.values()}) > 1]
    if {row.cell.measure for row in first.values()} == {"development"}:
        differing = ["measure", *differing]  # scores of texts that are no test texts never stand alone
    found: dict[str, Setting] = {}
    for key, row in first.items():
        cell, named = row.cell, [_told(name, details[key][name]) for name in differing if name in details[key]]
        dataset, model = datasets[str(cell.dataset["name"])], models[cell.model]
        tuning, other = called(cell, "tuning"), ", ".join(named)
        setting = Setting(dataset, model, tuning, cell.labelled, other, row.task, cell.measure)
        if setting in found.values():  # the same names, but other files
            setting = dataclasses.replace(setting, other=", ".join([*named, f"files {digest(_content(row))[:6]}"]))
        if setting in found.values():  # the same files, but other values of what was not given
            setting = dataclasses.replace(setting, other=", ".join([*named, f"settings {digest(key)[:6]}"]))
        found[key] = setting
    return _titled(found)


def _titled(settings: Mapping[str, Setting]) -> dict[str, Setting]:
    """With labels that have the dataset, what is not the same in all settings, and always `other`."""

    def several(name: str) -> bool:
        return len({getattr(setting, name) for setting in settings.values()}) > 1

    named = ["dataset", *(name for name in ("model", "tuning", "amount") if several(name)), "other"]
    labels = {}
    for key, setting in settings.items():
        parts = {name: getattr(setting, name) for name in named if getattr(setting, name)}
        curve = ", ".join(text for name, text in parts.items() if name != "amount")
        labels[key] = dataclasses.replace(setting, label=", ".join(parts.values()), curve=curve)
    return labels


def _told(name: str, value: Any) -> str:
    """What differs between settings, as it is shown."""
    return f"{SPLITS[value]} split" if name == "measure" else f"{name}={value}"


def _details(row: Row) -> Iterator[tuple[str, Any]]:
    cell = row.cell
    values = {name: _value_of(cell, name) for name in _OF_A_SETTING if name != "recipe"}
    columns = {name: value for name, value in _read_columns(cell).items() if name != "name"}
    for name, value in flat({**columns, **values, **_value_of(cell, "recipe"), **_versions(row)}).items():
        if value is not None:
            yield name, value


def _short_names(names: Iterable[str]) -> dict[str, str]:
    """The last part of each path, where it is the only one of that name."""
    known = list(dict.fromkeys(names))
    last = {name: Path(name).name or name for name in known}
    return {name: last[name] if list(last.values()).count(last[name]) == 1 else name for name in known}
