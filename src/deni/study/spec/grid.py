"""From `study.yaml` to cells: every combination of what the file names."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from deni.baselines import make_strategy_or_baseline, strategy_or_baseline
from deni.data.named_datasets import PAPER_LABELED
from deni.errors import InputError
from deni.randomness import SOURCES, derive
from deni.recipe import PRESETS
from deni.study.cell import BLOCK_SOURCES, MEASURES, OPTIMIZATION_SOURCES, Cell, NamedSettings
from deni.study.spec import axes
from deni.study.spec.axes import RECIPE, Choice, fields, parts
from deni.study.spec.document import Spot, mentioned, read_yaml
from deni.tuning import TUNINGS

KEYS = (
    *("name", "datasets", "models", "tunings", "strategies", "labelled", "seeds", "blocks", "protocol", "preset"),
    *("recipe", "measure", "test_size", "vary", "factor"),
)
NEEDED = ("datasets", "strategies", "seeds")
AMOUNTS = ("labelled", "test_size")  # fields of a cell that a factor may vary


@dataclass(frozen=True)
class Point:
    """A cell, and the choices that led to it: axis -> choice."""

    cell: Cell
    choices: Mapping[str, Choice]

    def wrong(self, axis: str, error: Exception) -> InputError:
        """An error at the choice of this axis, or at the setting of it that the message names."""
        # What is a flag on the command line is a key here.
        message = re.sub(r"--([a-z]+(?:-[a-z]+)*)", lambda flag: _key_of(flag[1]), str(error))
        choice = self.choices[axis]
        factors = {name: self.choices[f"factor.{name}"].spot for name in self.cell.factor if name not in AMOUNTS}
        return mentioned(message, {**choice.settings, **factors}, choice.spot).wrong(message)


def _key_of(flag: str) -> str:
    return "labelled" if flag == "labeled" else flag.replace("-", "_")


@dataclass(frozen=True)
class Grid:
    """What the file says.

    Args:
        name: of the study.
        axes: key of the file -> the values to combine.
        factors: setting -> the values to combine, where a cell has that setting.
        vary: the sources that follow the seed.
        common: fields that all cells share.
        recipe, test_size: shared by all cells, too, but for factors.
    """

    name: str
    axes: Mapping[str, Sequence[Choice]]
    factors: Mapping[str, Sequence[Choice]]
    vary: tuple[str, ...]
    common: Mapping[str, Any]
    recipe: Choice
    test_size: Choice

    def points(self) -> Iterator[Point]:
        """All cells, seeds innermost."""
        outer = ("datasets", "models", "tunings", "strategies")
        for chosen in itertools.product(*(self.axes[name] for name in outer)):
            choices = dict(zip(outer, chosen, strict=True))
            strategy, tuning = choices["strategies"].value, choices["tunings"].value
            takes_all = _make(strategy, self.common["preset"] or self.common["protocol"]).most_texts is not None
            applied = {
                name: values
                for name, values in self.factors.items()
                if _has(name, strategy, tuning) and not (name == "labelled" and takes_all)
            }
            labelled = [Choice(choices["strategies"].spot, None)] if takes_all else self.axes["labelled"]
            inner = {
                **{f"factor.{name}": values for name, values in applied.items()},
                **({} if "labelled" in applied else {"labelled": labelled}),
                "blocks": self.axes["blocks"],
                "seeds": self.axes["seeds"],
            }
            for values in itertools.product(*inner.values()):
                yield self._point({**choices, **dict(zip(inner, values, strict=True))})

    def _point(self, choices: dict[str, Choice]) -> Point:
        factor = {axis[7:]: choice.value for axis, choice in choices.items() if axis.startswith("factor.")}
        strategy, tuning = choices["strategies"].value, choices["tunings"].value
        factor_settings = {name: value for name, value in factor.items() if name not in (*AMOUNTS, *RECIPE)}
        in_tuning = {name: value for name, value in factor_settings.items() if _tuning_has(tuning.name, name)}
        in_strategy = {name: value for name, value in factor_settings.items() if name not in in_tuning}
        seed, block = choices["seeds"].value, choices["blocks"].value
        labelled = choices.get("factor.labelled") or choices["labelled"]
        choices = {**choices, "recipe": self.recipe, "labelled": labelled}
        choices["test_size"] = choices.get("factor.test_size", self.test_size)
        cell = Cell(
            dataset=choices["datasets"].value,
            model=choices["models"].value,
            tuning=NamedSettings(tuning.name, {**tuning.settings, **in_tuning}),
            strategy=NamedSettings(strategy.name, {**strategy.settings, **in_strategy}),
            labelled=labelled.value,
            seed=seed,
            block=block,
            sources=_sources(self.vary, seed, block),
            test_size=choices["test_size"].value,
            recipe={**self.recipe.value, **{name: value for name, value in factor.items() if name in RECIPE}},
            vary=_label(self.vary),
            factor=factor,
            label=choices["strategies"].label,
            **self.common,
        )
        return Point(cell, choices)


def read_grid(path: str | Path) -> Grid:
    """Read the file and check names, types and settings; raises InputError with the line."""
    whole = read_yaml(path)
    keys = whole.pairs(KEYS)
    folder = Path(path).parent
    for name in NEEDED:
        if name not in keys:
            raise whole.wrong(f"no {name}: a study needs {', '.join(NEEDED)}")
    preset = axes.one_of(keys["preset"], PRESETS) if "preset" in keys else None
    protocol = axes.one_of(keys["protocol"], ("paper",)) if "protocol" in keys else None
    measure = axes.one_of(keys["measure"], MEASURES) if "measure" in keys else "test"
    vary = axes.vary(keys["vary"]) if "vary" in keys else OPTIMIZATION_SOURCES
    if measure == "development" and "data_split" in vary:
        raise keys["vary"].wrong(
            "with data_split the test texts of one seed are dev texts of another: vary other sources, or "
            "omit measure: development"
        )

    def axis(name: str, read: Any, otherwise: Any) -> list[Choice]:
        return axes.distinct(read(each) for each in keys[name].items()) if name in keys else [Choice(whole, otherwise)]

    chosen = {
        "datasets": axis("datasets", lambda spot: axes.dataset(spot, folder), None),
        "models": axis("models", lambda spot: Choice(spot, spot.as_type(str)), "minilm"),
        "tunings": axis("tunings", axes.tuning, NamedSettings("full")),
        "strategies": axis("strategies", lambda spot: axes.strategy(spot, preset or protocol, folder), None),
        "labelled": axis("labelled", axes.labelled, PAPER_LABELED if protocol == "paper" else None),
        "seeds": axes.numbers(keys["seeds"]),
        "blocks": axes.numbers(keys["blocks"]) if "blocks" in keys else [Choice(whole, 0)],
    }
    axes.distinct_labels(chosen["strategies"])
    return Grid(
        name=keys["name"].as_type(str) if "name" in keys else Path(path).stem,
        axes=chosen,
        factors=_factors(keys, chosen) if "factor" in keys else {},
        vary=vary,
        common={"protocol": protocol, "preset": preset, "measure": measure},
        recipe=axes.recipe(keys["recipe"]) if "recipe" in keys else Choice(whole, {}),
        test_size=axes.count(keys["test_size"]) if "test_size" in keys else Choice(whole, None),
    )


def _label(vary: tuple[str, ...]) -> str:
    names = {OPTIMIZATION_SOURCES: "optimisation", SOURCES: "all"}
    return names.get(vary, ",".join(vary))


def _sources(vary: Sequence[str], seed: int, block: int) -> dict[str, int]:
    """The seeds of single sources: a data source that varies has one of block and seed, another the block's."""
    varied = {name: derive(block, "study", seed) for name in BLOCK_SOURCES if name in vary}
    return {**varied, **{name: block for name in OPTIMIZATION_SOURCES if name not in vary}}


def _factors(keys: Mapping[str, Spot], chosen: Mapping[str, Sequence[Choice]]) -> dict[str, Sequence[Choice]]:
    """What `factor` varies: of the cells, the recipe, the strategies and the tunings."""
    tunings = [TUNINGS[choice.value.name] for choice in chosen["tunings"]]
    strategies = [strategy_or_baseline(part) for choice in chosen["strategies"] for part in parts(choice.value.name)]
    setting_types = {name: get_type_hints(cls)[name] for cls in (*tunings, *strategies) for name in fields(cls)}
    known = {**setting_types, **RECIPE, **dict.fromkeys(AMOUNTS)}
    found: dict[str, Sequence[Choice]] = {}
    for name, spot in keys["factor"].pairs(known, "setting to vary").items():
        elsewhere = keys if name in AMOUNTS else keys["recipe"].pairs() if "recipe" in keys and name in RECIPE else {}
        if name in elsewhere:
            raise spot.wrong(f"given in line {elsewhere[name].line}, too: omit one")
        for choice in (*chosen["strategies"], *chosen["tunings"]):
            if name in choice.settings:
                raise spot.wrong(f"{choice.spot.path} in line {choice.spot.line} has its own: omit one")
        if not spot.is_list or len(spot.items()) < 2:
            raise spot.wrong("expected a list of two or more values")
        if name == "labelled":
            read = [axes.labelled(each) for each in spot.items()]
        elif name == "test_size":
            read = [axes.count(each) for each in spot.items()]
        else:
            read = [Choice(each, each.as_type(known[name])) for each in spot.items()]
        found[name] = axes.distinct(read)
    return found


def _any_has(strategies: Sequence[NamedSettings], name: str) -> bool:
    return any(name in fields(strategy_or_baseline(part)) for each in strategies for part in parts(each.name))


def _tuning_has(tuning: str, name: str) -> bool:
    return name in fields(TUNINGS[tuning])


def _has(name: str, strategy: NamedSettings, tuning: NamedSettings) -> bool:
    """Whether a factor means anything to a cell of this strategy and tuning."""
    return name in (*AMOUNTS, *RECIPE) or _any_has([strategy], name) or _tuning_has(tuning.name, name)


def _make(strategy: NamedSettings, preset: str | None) -> Any:
    return make_strategy_or_baseline(strategy.name, preset, **strategy.settings)
