"""From `study.yaml` to cells: all of it is checked before anything runs."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_type_hints

from deni.data import DATASETS, TASKS, check_trainable
from deni.data.hub import is_hub_id
from deni.errors import InputError
from deni.pretrained import load_config
from deni.randomness import SOURCES, derive
from deni.recipe import PRESETS, Recipe
from deni.strategies import ALIASES, STRATEGIES, Default, make_strategy
from deni.study.cell import BLOCK_SOURCES, OPTIMISATION_SOURCES, Cell, Named, Planned, versions
from deni.study.document import Spot, did_you_mean, mentioned, read_yaml
from deni.study.library import Library, augmented_files, check_augmented, steps_of
from deni.train import PAPER_LABELLED
from deni.tuning import TUNINGS, make_tuning

KEYS = (
    *("name", "datasets", "models", "tunings", "strategies", "labelled", "seeds", "blocks", "protocol", "preset"),
    *("recipe", "test_size", "vary", "factor"),
)
NEEDED = ("datasets", "strategies", "seeds")
COLUMNS = ("text_column", "text_pair_column", "label_column")
OF_THE_HUB = ("split", "config_name")
DATASET = ("name", "path", "hub", *COLUMNS, *OF_THE_HUB, "task", "augmented")

# Of the recipe without what a study says elsewhere, and what needs a development part, which a study has not.
_ELSEWHERE = ("model", "task", "tuning", "strategy", "seed", "source_seeds", "early_stopping_patience")
RECIPE = {name: hint for name, hint in get_type_hints(Recipe).items() if name not in _ELSEWHERE}
AMOUNTS = ("labelled", "test_size")  # fields of a cell that a factor may vary


@dataclass(frozen=True)
class Study:
    """A study that has been read and checked.

    Args:
        name: what the file calls it.
        planned: its cells; those that may train in one population stand beside each other.
        library: the texts that were read for it.
    """

    name: str
    planned: tuple[Planned, ...]
    library: Library = field(repr=False)

    @property
    def packs(self) -> list[tuple[Planned, ...]]:
        """The cells, those that may train in one population together."""
        return [tuple(pack) for _, pack in itertools.groupby(self.planned, key=lambda each: each.pack)]


def read_study(path: str | Path) -> Study:
    """Read a study and check it, with its data and models.

    Raises:
        InputError: one line that names the file, the line, and what is wrong there.
    """
    library = Library()
    study = _read(path)
    return Study(study.name, tuple(_plan(study.points(), library)), library)


# ---- the file ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Choice:
    """A value of an axis.

    Args:
        spot: where it stands.
        value: what it is.
        settings: where its settings stand.
    """

    spot: Spot
    value: Any
    settings: Mapping[str, Spot] = field(default_factory=dict)


@dataclass(frozen=True)
class Point:
    """A cell, and the choices that led to it: axis -> choice."""

    cell: Cell
    choices: Mapping[str, Choice]

    def wrong(self, axis: str, error: Exception) -> InputError:
        """An error at the choice of this axis, or at the setting of it that the message names."""
        # What is a flag on the command line is a key here.
        said = re.sub(r"--([a-z]+(?:-[a-z]+)*)", lambda flag: flag[1].replace("-", "_"), str(error))
        choice = self.choices[axis]
        spot = mentioned(said, choice.settings, choice.spot)
        return spot.wrong(said)


@dataclass(frozen=True)
class _File:
    """What the file says: the axes, and what all cells have in common."""

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
            takes_all = _make(strategy, self.common["preset"] or self.common["protocol"]).takes_all
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
        own = {name: value for name, value in factor.items() if name not in (*AMOUNTS, *RECIPE)}
        in_tuning = {name: value for name, value in own.items() if _tuning_has(tuning.name, name)}
        in_strategy = {name: value for name, value in own.items() if name not in in_tuning}
        seed, block = choices["seeds"].value, choices["blocks"].value
        labelled = choices.get("factor.labelled") or choices["labelled"]
        choices = {**choices, "recipe": self.recipe, "labelled": labelled}
        choices["test_size"] = choices.get("factor.test_size", self.test_size)
        cell = Cell(
            dataset=choices["datasets"].value,
            model=choices["models"].value,
            tuning=Named(tuning.name, {**tuning.settings, **in_tuning}),
            strategy=Named(strategy.name, {**strategy.settings, **in_strategy}),
            labelled=labelled.value,
            seed=seed,
            block=block,
            sources=_sources(self.vary, seed, block),
            test_size=choices["test_size"].value,
            recipe={**self.recipe.value, **{name: value for name, value in factor.items() if name in RECIPE}},
            vary=_label(self.vary),
            factor=factor,
            **self.common,
        )
        return Point(cell, choices)


def _read(path: str | Path) -> _File:
    whole = read_yaml(path)
    keys = whole.pairs(KEYS)
    folder = Path(path).parent
    for name in NEEDED:
        if name not in keys:
            raise whole.wrong(f"no {name}: a study needs {', '.join(NEEDED)}")
    preset = _one_of(keys["preset"], PRESETS) if "preset" in keys else None
    protocol = _one_of(keys["protocol"], ("paper",)) if "protocol" in keys else None

    def axis(name: str, read: Any, otherwise: Any) -> list[Choice]:
        return _distinct(read(each) for each in keys[name].items()) if name in keys else [Choice(whole, otherwise)]

    axes = {
        "datasets": axis("datasets", lambda spot: _dataset(spot, folder), None),
        "models": axis("models", lambda spot: Choice(spot, spot.as_type(str)), "minilm"),
        "tunings": axis("tunings", _tuning, Named("full")),
        "strategies": axis("strategies", lambda spot: _strategy(spot, preset or protocol, folder), None),
        "labelled": axis("labelled", _labelled, PAPER_LABELLED if protocol == "paper" else None),
        "seeds": _numbers(keys["seeds"]),
        "blocks": _numbers(keys["blocks"]) if "blocks" in keys else [Choice(whole, 0)],
    }
    return _File(
        name=keys["name"].as_type(str) if "name" in keys else Path(path).stem,
        axes=axes,
        factors=_factors(keys, axes) if "factor" in keys else {},
        vary=_vary(keys["vary"]) if "vary" in keys else OPTIMISATION_SOURCES,
        common={"protocol": protocol, "preset": preset},
        recipe=_recipe(keys["recipe"]) if "recipe" in keys else Choice(whole, {}),
        test_size=_count(keys["test_size"]) if "test_size" in keys else Choice(whole, None),
    )


def _distinct(choices: Iterable[Choice]) -> list[Choice]:
    """The choices; raises for one that is there twice."""
    found: list[Choice] = []
    for choice in choices:
        for earlier in found:
            if earlier.value == choice.value:
                raise choice.spot.wrong(f"the same as {earlier.spot.path} in line {earlier.spot.line}: leave one away")
        found.append(choice)
    return found


def _one_of(spot: Spot, known: Iterable[str]) -> str:
    value = spot.as_type(str)
    if value not in (names := list(known)):
        raise spot.wrong(f"unknown {spot.path} {value!r}; {did_you_mean(value, names)}")
    return value


def _whole(spot: Spot, least: int) -> int:
    value = spot.as_type(int)
    if value < least:
        raise spot.wrong(f"must be at least {least}, not {value}")
    return value


def _count(spot: Spot) -> Choice:
    return Choice(spot, _whole(spot, 1))


def _labelled(spot: Spot) -> Choice:
    return Choice(spot, None) if spot.value == "all" else Choice(spot, _whole_or(spot, "all"))


def _whole_or(spot: Spot, word: str) -> int:
    if isinstance(spot.value, str):
        raise spot.wrong(f"expected a whole number or {word}, not {spot.value!r}")
    return _whole(spot, 1)


def _numbers(spot: Spot) -> list[Choice]:
    """A list of numbers, or a number that stands for as many from 0 on."""
    if spot.is_list:
        return _distinct(Choice(each, _whole(each, 0)) for each in spot.items())
    return [Choice(spot, number) for number in range(_whole(spot, 1))]


def _dataset(spot: Spot, folder: Path) -> Choice:
    if not spot.is_mapping:
        return Choice(spot, {"name": _found(spot, folder)})
    pairs = spot.pairs(DATASET, "setting of a dataset")
    places = [name for name in ("name", "path", "hub") if name in pairs]
    if len(places) != 1:
        raise spot.wrong("give one of name (trec), path (a file) or hub (user/dataset)")
    (place,) = places
    named = pairs[place]
    if place == "name":
        name = _one_of(named, DATASETS)
    elif place == "path":
        name = _file(named, folder)
    elif not is_hub_id(name := named.as_type(str)):
        raise named.wrong(f"{name!r} is no id of the hub such as user/dataset")
    value = {"name": name}
    for key, each in pairs.items():
        if key in OF_THE_HUB and place == "path":
            raise each.wrong("is of datasets of the hub: leave it away for a file")
        if key in (*COLUMNS, *OF_THE_HUB):
            value[key] = each.as_type(str)
        elif key == "augmented":
            value[key] = _file(each, folder)
        elif key == "task":
            value[key] = each.as_type(Literal[TASKS])  # type: ignore[valid-type]
    return Choice(spot, value, pairs)


def _file(spot: Spot, folder: Path) -> str:
    """A file that the study names; a relative path begins where the study is."""
    file = folder / spot.as_type(str)
    if not file.is_file():
        raise spot.wrong(f"no such file: {file}")
    return str(file)


def _found(spot: Spot, folder: Path) -> str:
    name = spot.as_type(str)
    if name in DATASETS or (is_hub_id(name) and not (folder / name).exists()):
        return str(name)
    if (folder / name).is_file():
        return str(folder / name)
    if "." in name or "/" in name:
        raise spot.wrong(f"no such file: {folder / name}")
    raise spot.wrong(f"no such file, and no dataset of that name; {did_you_mean(name, DATASETS)}")


def _tuning(spot: Spot) -> Choice:
    name, pairs = _name_and_settings(spot, "tuning", TUNINGS, lambda name: [name])
    hints = get_type_hints(TUNINGS[name])
    settings = {key: each.as_type(hints[key]) for key, each in pairs.items()}
    with _at(pairs, spot):
        make_tuning(name, **settings)
    return Choice(spot, Named(name, settings), pairs)


def _strategy(spot: Spot, preset: str | None, folder: Path) -> Choice:
    name, pairs = _name_and_settings(spot, "strategy", {**STRATEGIES, **ALIASES}, _parts)
    settings = _typed(pairs, _parts(name), folder)
    with _at(pairs, spot):
        make_strategy(name, preset, **settings)
    return Choice(spot, Named(name, settings), pairs)


def _typed(pairs: Mapping[str, Spot], parts: Sequence[str], folder: Path) -> dict[str, Any]:
    """Settings of strategies, of the types of their fields; under the name of one, settings for it alone."""
    settings: dict[str, Any] = {}
    for key, spot in pairs.items():
        if key in parts:
            own = spot.pairs(_fields(STRATEGIES[key]), f"setting of {key}")
            settings[key] = _typed(own, [key], folder)
        elif key == "augmented":
            settings[key] = _file(spot, folder)
        else:
            owner = next(part for part in parts if key in _fields(STRATEGIES[part]))
            settings[key] = spot.as_type(get_type_hints(STRATEGIES[owner])[key])
    return settings


def _name_and_settings(spot: Spot, kind: str, table: Mapping[str, Any], parts: Any) -> tuple[str, dict[str, Spot]]:
    """A name, or a mapping of `name` and settings; every part of the name is in the table."""
    pairs = spot.pairs() if spot.is_mapping else {}
    if spot.is_mapping and "name" not in pairs:
        raise spot.wrong(f"no name: write {{name: {next(iter(table))}, ...}}")
    at = pairs.pop("name", spot)
    name = at.as_type(str)
    for part in parts(name):
        if part not in table:
            raise at.wrong(f"unknown {kind} {part!r}; {did_you_mean(part, table)}")
    own = parts(name)
    known = [field for part in own for field in _fields(STRATEGIES[part] if kind == "strategy" else table[part])]
    if len(own) > 1:
        known += own
    if pairs:
        spot_pairs = [key for key in pairs if key not in known]
        if spot_pairs:
            wrong = spot_pairs[0]
            raise pairs[wrong].wrong(f"no such setting of {name}; {did_you_mean(wrong, known)}")
    return name, pairs


def _recipe(spot: Spot) -> Choice:
    pairs = spot.pairs(RECIPE, "setting of the recipe")
    values = {name: each.as_type(RECIPE[name]) for name, each in pairs.items()}
    values = {name: value for name, value in values.items() if value is not None}
    with _at(pairs, spot):
        Recipe(strategy=Default(), **values)
    return Choice(spot, values, pairs)


def _vary(spot: Spot) -> tuple[str, ...]:
    if not spot.is_list and spot.value in ("optimisation", "all"):
        return SOURCES if spot.value == "all" else OPTIMISATION_SOURCES
    known = SOURCES if spot.is_list else ("optimisation", "all", *SOURCES)
    chosen = [_source(each, known) for each in spot.items()]
    return tuple(name for name in SOURCES if name in chosen)


def _source(spot: Spot, known: Sequence[str]) -> str:
    name = spot.as_type(str)
    if name not in known:
        raise spot.wrong(f"unknown source of randomness {name!r}; {did_you_mean(name, known)}")
    return str(name)


def _label(vary: tuple[str, ...]) -> str:
    names = {OPTIMISATION_SOURCES: "optimisation", SOURCES: "all"}
    return names.get(vary, ",".join(vary))


def _sources(vary: Sequence[str], seed: int, block: int) -> dict[str, int]:
    """The seeds of single sources: a data source that varies has one of block and seed, another the block's."""
    varied = {name: derive(block, "study", seed) for name in BLOCK_SOURCES if name in vary}
    return {**varied, **{name: block for name in OPTIMISATION_SOURCES if name not in vary}}


def _factors(keys: Mapping[str, Spot], axes: Mapping[str, Sequence[Choice]]) -> dict[str, Sequence[Choice]]:
    found: dict[str, Sequence[Choice]] = {}
    strategies, tunings = ([choice.value for choice in axes[name]] for name in ("strategies", "tunings"))
    fields = {
        **{name: hint for each in tunings for name, hint in get_type_hints(TUNINGS[each.name]).items()},
        **{
            name: hint
            for each in strategies
            for part in _parts(each.name)
            for name, hint in get_type_hints(STRATEGIES[part]).items()
            if name in _fields(STRATEGIES[part])
        },
    }
    tuned = {name for each in tunings for name in _fields(TUNINGS[each.name])}
    fields = {name: hint for name, hint in fields.items() if name in tuned or _any_has(strategies, name)}
    known = {**fields, **RECIPE, **dict.fromkeys(AMOUNTS)}
    for name, spot in keys["factor"].pairs(known, "setting to vary").items():
        given = keys if name in AMOUNTS else keys["recipe"].pairs() if "recipe" in keys and name in RECIPE else {}
        if name in given:
            raise spot.wrong(f"given in line {given[name].line}, too: leave one away")
        for choice in (*axes["strategies"], *axes["tunings"]):
            if name in choice.settings:
                raise spot.wrong(f"{choice.spot.path} in line {choice.spot.line} has one of its own: leave one away")
        if not spot.is_list or len(spot.items()) < 2:
            raise spot.wrong("expected a list of two or more values")
        if name == "labelled":
            read = [_labelled(each) for each in spot.items()]
        elif name == "test_size":
            read = [_count(each) for each in spot.items()]
        else:
            read = [Choice(each, each.as_type(known[name])) for each in spot.items()]
        found[name] = _distinct(read)
    return found


def _parts(name: str) -> list[str]:
    return [ALIASES.get(part.strip(), part.strip()) for part in name.split("+")]


def _fields(cls: Any) -> list[str]:
    return [each.name for each in dataclasses.fields(cls)]


def _any_has(strategies: Sequence[Named], name: str) -> bool:
    return any(name in _fields(STRATEGIES[part]) for each in strategies for part in _parts(each.name))


def _tuning_has(tuning: str, name: str) -> bool:
    return name in _fields(TUNINGS[tuning])


def _has(name: str, strategy: Named, tuning: Named) -> bool:
    """Whether a factor means anything to a cell of this strategy and tuning."""
    return name in (*AMOUNTS, *RECIPE) or _any_has([strategy], name) or _tuning_has(tuning.name, name)


def _make(strategy: Named, preset: str | None) -> Any:
    return make_strategy(strategy.name, preset, **strategy.settings)


@contextmanager
def _at(pairs: Mapping[str, Spot], otherwise: Spot) -> Iterator[None]:
    """Say where it stands what the library refuses."""
    try:
        yield
    except ValueError as error:
        raise mentioned(str(error), pairs, otherwise).wrong(str(error)) from None


# ---- the cells -----------------------------------------------------------------------------------------------------


def _plan(points: Iterable[Point], library: Library) -> Iterator[Planned]:
    """The cells with keys and costs, each checked against its data and model."""
    here, checked = versions(), set()
    seen: dict[str, Point] = {}
    for alike, group in itertools.groupby(points, key=_without_seeds):
        del alike
        for number, point in enumerate(group):
            cell = point.cell
            if not number:
                plan = _recipe_of(point)
                with _axis(point, "datasets"):
                    library.texts(cell)
                    augmented_files(plan.strategy)
            with _axis(point, "labelled"):
                train, test = library.parts(cell, plan.strategy)
            with _axis(point, "datasets"):
                if id(train) not in checked:
                    check_trainable(train, test)
                    checked.add(id(train))
                check_augmented(plan.strategy, train)
            with _axis(point, "models"):
                fingerprints = library.fingerprints(cell, plan.strategy)
            steps = steps_of(plan, len(train))
            with _axis(point, "strategies"):
                schedule = plan.strategy.schedule(steps)
            planned = Planned.of(
                cell, fingerprints, here, steps=steps, member_steps=schedule.cost, schedule=str(schedule)
            )
            if planned.key in seen:
                raise _twice(point, seen[planned.key])
            seen[planned.key] = point
            yield planned


def _without_seeds(point: Point) -> Cell:
    return dataclasses.replace(point.cell, seed=0, sources={})


@contextmanager
def _axis(point: Point, axis: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        size = point.cell.test_size
        sized = axis == "labelled" and size is not None and str(error).startswith(f"{size} texts asked for")
        raise point.wrong("test_size" if sized else axis, error) from None


def _recipe_of(point: Point) -> Recipe:
    with _axis(point, "models"):
        limit = getattr(load_config(point.cell.model), "max_position_embeddings", None)
    with _axis(point, "strategies"):
        plan = point.cell.plan()
    with _axis(point, "recipe"):
        if limit and plan.max_length and plan.max_length > limit - plan.tuning.virtual_tokens:
            raise ValueError(f"max_length {plan.max_length} is over the limit of {limit} tokens of {point.cell.model}")
    return plan


def _twice(point: Point, earlier: Point) -> InputError:
    for axis, choice in point.choices.items():
        other = earlier.choices.get(axis, choice)
        if other.spot.path != choice.spot.path:
            return choice.spot.wrong(
                f"means the same cells as {other.spot.path} in line {other.spot.line}: leave one away"
            )
    raise AssertionError("two points of one path")
