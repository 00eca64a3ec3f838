"""The values of a study's axes: each of the right type, and of a name that exists."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_type_hints

import deni.study.distilled  # noqa: F401, a row of its own among the baselines
from deni.baselines import BASELINES, make_strategy_or_baseline, strategy_or_baseline
from deni.data import DATASETS
from deni.data.hub import is_hub_id
from deni.errors import InputError, SettingError, did_you_mean, short
from deni.randomness import SOURCES
from deni.recipe import NOT_SETTINGS, Recipe
from deni.registry import Registry
from deni.strategies import ALIASES, STRATEGIES
from deni.strategies.auto import Auto
from deni.strategies.default import Default
from deni.study.cell import OPTIMIZATION_SOURCES, NamedSettings
from deni.study.spec.document import Spot, mentioned
from deni.tasks import TASKS
from deni.tuning import TUNINGS, make_tuning

MOST = 10_000  # seeds or blocks; whoever writes more means the seed itself
LONGEST_LABEL = 30  # of a strategy: figures have room for so much
COLUMNS = ("text_column", "text_pair_column", "label_column")
OF_THE_HUB = ("split", "config_name")
OF_TEXTS = tuple(name for name, task in TASKS.items() if not task.of_words)  # a store keeps one output a text
DATASET = ("name", "path", "hub", *COLUMNS, *OF_THE_HUB, "task", "label_order", "augmented")

# Fields of the recipe, without what a study sets elsewhere and what needs a dev split during training: a run has none.
_ELSEWHERE = ("model", "task", "tuning", "strategy", "seed", "source_seeds", "early_stopping_patience")
RECIPE = {name: hint for name, hint in get_type_hints(Recipe).items() if name not in (*_ELSEWHERE, *NOT_SETTINGS)}


@dataclass(frozen=True)
class Choice:
    """A value of an axis.

    Args:
        spot: where it stands.
        value: what it is.
        settings: where its settings stand.
        label: what reports call a strategy; empty for its name and settings.
    """

    spot: Spot
    value: Any
    settings: Mapping[str, Spot] = field(default_factory=dict)
    label: str = ""


def distinct(choices: Iterable[Choice]) -> list[Choice]:
    """The choices; raises for one that is there twice."""
    found: list[Choice] = []
    hashed: dict[Any, Choice] = {}  # thousands of seeds are not compared pair by pair
    for choice in choices:
        value = choice.value
        try:
            earlier = hashed.setdefault(value, choice)
        except TypeError:
            earlier = next((each for each in found if each.value == value), choice)
        if earlier is not choice:
            raise choice.spot.wrong(f"the same as {earlier.spot.path} in line {earlier.spot.line}: omit one")
        found.append(choice)
    return found


def distinct_labels(strategies: Sequence[Choice]) -> None:
    """Raise InputError where two strategies would be called the same."""
    called: dict[str, Choice] = {}
    for choice in strategies:
        name = choice.label or ("" if choice.value.settings else choice.value.name)
        if name in called:
            other = called[name].spot
            raise choice.spot.wrong(
                f"called {short(name)}, as {other.path} in line {other.line} is: give each strategy its own label"
            )
        if name:
            called[name] = choice


def one_of(spot: Spot, known: Iterable[str]) -> str:
    """One of the names that exist."""
    value = spot.as_type(str)
    if value not in (names := list(known)):
        raise spot.wrong(f"unknown {spot.path.rpartition('.')[2]} {value!r}; {did_you_mean(value, names)}")
    return value


def _whole(spot: Spot, least: int) -> int:
    value = spot.as_type(int)
    if value < least:
        raise spot.wrong(f"must be at least {least}, not {value}")
    return value


def count(spot: Spot) -> Choice:
    """How many, at least 1."""
    return Choice(spot, _whole(spot, 1))


def labelled(spot: Spot) -> Choice:
    """How many labeled examples; None for `all`."""
    return Choice(spot, None) if spot.value == "all" else Choice(spot, _whole_or(spot, "all"))


def _whole_or(spot: Spot, word: str) -> int:
    if isinstance(spot.value, str):
        raise spot.wrong(f"expected a whole number or {word}, not {spot.value!r}")
    return _whole(spot, 1)


def numbers(spot: Spot) -> list[Choice]:
    """A list of numbers, or a number that stands for as many from 0 on, at most `MOST`."""
    if spot.is_list:
        return distinct(Choice(each, _whole(each, 0)) for each in spot.items())
    many = _whole(spot, 1)
    if many > MOST:
        raise spot.wrong(f"{many} is how many there are, at most {MOST}; a single one is written [{many}]")
    return [Choice(spot, number) for number in range(many)]


def dataset(spot: Spot, folder: Path) -> Choice:
    """A dataset as `Cell.dataset` has it; files are found from `folder`."""
    if not spot.is_mapping:
        return Choice(spot, {"name": _found(spot, folder)})
    pairs = spot.pairs(DATASET, "setting of a dataset")
    places = [name for name in ("name", "path", "hub") if name in pairs]
    if len(places) != 1:
        raise spot.wrong("give one of name (trec), path (a file) or hub (user/dataset)")
    (place,) = places
    named = pairs[place]
    if place == "name":
        name = one_of(named, DATASETS)
    elif place == "path":
        name = _file(named, folder)
    elif not is_hub_id(name := named.as_type(str)):
        raise named.wrong(f"{name!r} is not an id of the Hub such as user/dataset")
    value: dict[str, Any] = {"name": name}
    for key, each in pairs.items():
        if key in OF_THE_HUB and place == "path":
            raise each.wrong("is for datasets of the Hub: omit it for a file")
        if key in (*COLUMNS, *OF_THE_HUB):
            value[key] = each.as_type(str)
        elif key == "augmented":
            value[key] = _file(each, folder)
        elif key == "task":
            value[key] = each.as_type(Literal[OF_TEXTS])
        elif key == "label_order":
            value[key] = [str(label.value) for label in each.items()]
    # Without its name, a word that messages about other settings have, too.
    return Choice(spot, value, {key: each for key, each in pairs.items() if key != place})


def _file(spot: Spot, folder: Path) -> str:
    """A file that the study names; a relative path begins where the study is."""
    file = folder / spot.as_type(str)
    if not os.path.isfile(file):
        raise spot.wrong(f"no such file: {file}")
    return str(file)


def _found(spot: Spot, folder: Path) -> str:
    name = spot.as_type(str)
    if name in DATASETS or (is_hub_id(name) and not os.path.exists(folder / name)):
        return str(name)
    if os.path.isfile(folder / name):
        return str(folder / name)
    if "." in name or "/" in name:
        raise spot.wrong(f"no such file: {folder / name}")
    raise spot.wrong(f"no such file, and no dataset of that name; {did_you_mean(name, DATASETS)}")


def tuning(spot: Spot) -> Choice:
    """A tuning by name, or with settings; made once, so that what it refuses is refused here."""
    name, pairs = _name_and_settings(spot, "tuning", TUNINGS, lambda name: [name])
    hints = get_type_hints(TUNINGS[name])
    settings = {key: each.as_type(hints[key]) for key, each in pairs.items()}
    with _at(pairs, spot):
        make_tuning(name, **settings)
    return Choice(spot, NamedSettings(name, settings), pairs)


def strategy(spot: Spot, preset: str | None, folder: Path) -> Choice:
    """A strategy, or several, with settings."""
    name, pairs = _name_and_settings(spot, "strategy", STRATEGIES, parts, also=("label",))
    # What auto becomes is what is kept, so rows need its name as a label.
    label = _label(pairs.pop("label")) if "label" in pairs else Auto.name if name == Auto.name else ""
    settings = _typed(pairs, parts(name), folder)
    with _at(pairs, spot):
        make_strategy_or_baseline(name, preset, **settings)
    return Choice(spot, NamedSettings(name, settings), pairs, label)


def _label(spot: Spot) -> str:
    """What reports call a strategy."""
    label = " ".join(str(spot.as_type(str)).split())
    if not label or len(label) > LONGEST_LABEL:
        raise spot.wrong(f"expected a text of 1 to {LONGEST_LABEL} characters, not {short(label)}")
    return label


def _typed(pairs: Mapping[str, Spot], parts: Sequence[str], folder: Path) -> dict[str, Any]:
    """Settings of strategies, of the types of their fields; under the name of one, settings for it alone."""
    settings: dict[str, Any] = {}
    for key, spot in pairs.items():
        if key in parts:
            spots = spot.pairs(fields(strategy_or_baseline(key)), f"setting of {key}")
            settings[key] = _typed(spots, [key], folder)
        elif key == "augmented" or (key == "descriptions" and not spot.is_mapping):
            settings[key] = _file(spot, folder)
        else:
            owner = next(part for part in parts if key in fields(strategy_or_baseline(part)))
            settings[key] = spot.as_type(get_type_hints(strategy_or_baseline(owner))[key])
    return settings


def _name_and_settings(
    spot: Spot, kind: str, table: Registry[Any], parts: Any, also: Sequence[str] = ()
) -> tuple[str, dict[str, Spot]]:
    """A name, or a mapping of `name`, settings and further keys; every part of the name is in the table."""
    pairs = spot.pairs() if spot.is_mapping else {}
    if spot.is_mapping and "name" not in pairs:
        raise spot.wrong(f"no name: write {{name: {next(iter(table))}, ...}}")
    at = pairs.pop("name", spot)
    name = at.as_type(str)
    also_known = BASELINES if table is STRATEGIES else {}
    for part in parts(name):
        if part not in table and part not in also_known:
            names = [*table.names(), *also_known, *(ALIASES if table is STRATEGIES else ())]
            raise at.wrong(f"unknown {kind} {part!r}; {did_you_mean(part, names)}")
    names_of_parts = parts(name)
    known = [
        *(field for part in names_of_parts for field in fields(table[part] if part in table else also_known[part])),
        *also,
    ]
    if len(names_of_parts) > 1:
        known += names_of_parts
    if pairs:
        spot_pairs = [key for key in pairs if key not in known]
        if spot_pairs:
            wrong = spot_pairs[0]
            raise pairs[wrong].wrong(f"no such setting of {name}; {did_you_mean(wrong, known)}")
    return name, pairs


def recipe(spot: Spot) -> Choice:
    """The recipe's fields that the study file sets."""
    pairs = spot.pairs(RECIPE, "setting of the recipe")
    values = {name: each.as_type(RECIPE[name]) for name, each in pairs.items()}
    values = {name: value for name, value in values.items() if value is not None}
    with _at(pairs, spot):
        Recipe(strategy=Default(), **values)
    return Choice(spot, values, pairs)


def vary(spot: Spot) -> tuple[str, ...]:
    """The sources that follow the seed, in the order of `SOURCES`."""
    if not spot.is_list and spot.value in ("optimisation", "all"):
        return SOURCES if spot.value == "all" else OPTIMIZATION_SOURCES
    known = SOURCES if spot.is_list else ("optimisation", "all", *SOURCES)
    chosen = [_source(each, known) for each in spot.items()]
    return tuple(name for name in SOURCES if name in chosen)


def _source(spot: Spot, known: Sequence[str]) -> str:
    name = spot.as_type(str)
    if name not in known:
        raise spot.wrong(f"unknown source of randomness {name!r}; {did_you_mean(name, known)}")
    return str(name)


def parts(name: str) -> list[str]:
    """The names in `a+b`, without aliases."""
    return [ALIASES.get(part.strip(), part.strip()) for part in name.split("+")]


def fields(cls: Any) -> list[str]:
    """The settings of a dataclass."""
    return [each.name for each in dataclasses.fields(cls)]


@contextmanager
def _at(pairs: Mapping[str, Spot], otherwise: Spot) -> Iterator[None]:
    """Say where it stands what the library refuses."""
    try:
        yield
    except (InputError, SettingError) as error:
        raise mentioned(str(error), pairs, otherwise).wrong(str(error)) from None
