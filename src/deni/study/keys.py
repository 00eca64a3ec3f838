"""What decides the result of a cell, and the keys that follow from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from deni.provenance import digest
from deni.settings import neutral_values
from deni.study.cell import BLOCK_SOURCES, Cell, Fingerprints

if TYPE_CHECKING:
    from deni.recipe import Recipe
    from deni.tasks.voting import Combine

# The number of the results that this version computes. Add one by hand when the same settings, texts and versions of
# the packages give other results than before for cells that stores may hold: a fault is mended, or a number that no
# setting names is changed. Every cell is then another cell. Not for a new setting, which has a neutral value
# (`deni.settings.setting`), nor for a changed default, since keys are of the values themselves.
RESULTS = 1

# Of the recipe: how it is computed. The result is the same but for rounding, as in packs.
HOW = ("engine", "members_at_a_time", "eval_batch_size", "gradient_checkpointing")

# Strategies with `combine` that end with one model: composed with another one that has it, they do not decide the vote.
_END_AS_ONE = ("noisy_interpolation", "soup")


def decides(cell: Cell, recipe: Recipe, fingerprints: Fingerprints, versions: Mapping[str, str]) -> dict[str, Any]:
    """Everything that decides the result of a cell, as resolved JSON values; labels, places of files and `HOW` do not.

    Args:
        recipe: what `cell.resolve()` gives.
        versions: of the packages that may change a result, name -> version.
    """
    settings = recipe.settings()
    for name in ("seed", "source_seeds"):
        del settings[name]
    found = settled(
        {
            "results": RESULTS,
            **{name: settings.pop(name) for name in ("model", "tuning", "strategy")},
            **{name: getattr(cell, name) for name in ("labelled", "test_size", "protocol", "preset", "measure")},
            "recipe": settings,
            "fingerprints": dataclasses.asdict(fingerprints),
            "versions": versions,
            **_seeds(cell),
        }
    )
    if combine_of(found) != recipe.strategy.combine:  # a rule that is not a setting
        found["strategy"]["combine"] = recipe.strategy.combine
    return found


def with_seeds(decided: Mapping[str, Any], cell: Cell) -> dict[str, Any]:
    """What decides the result of a cell, from that of another one of its block that differs in seeds alone."""
    return {**decided, **_seeds(cell)}


def _seeds(cell: Cell) -> dict[str, Any]:
    return {"seed": cell.seed, "block": cell.block, "seeds": cell.seeds}


def settled(decided: Mapping[str, Any]) -> dict[str, Any]:
    """What decides a cell, written by this or an earlier version, in the one spelling that keys are taken of.

    Whole numbers are written without a point. Left out are the settings of how a result is computed (`HOW`), the place
    of the augmented texts (their fingerprint counts), the version of deni (`RESULTS` counts), and each setting that
    came later and has its neutral value. A strategy or tuning that is not known here is left as it is.
    """
    from deni.recipe import Recipe

    found = _without_neutral(decided, Cell)
    found["results"] = decided.get("results", 1)  # before there was a number, there was one kind of results
    found["versions"] = {name: value for name, value in decided["versions"].items() if name != "deni"}
    recipe = {name: value for name, value in decided["recipe"].items() if name not in HOW}
    found["recipe"] = _of_one_spelling(_without_neutral(recipe, Recipe))
    for kind, plain in (("tuning", _plain_tuning), ("strategy", _plain_strategy)):
        named = decided[kind]
        found[kind] = {**named, "settings": _of_one_spelling(plain(named["name"], named["settings"]))}
    return found


def key_of(decided: Mapping[str, Any]) -> str:
    """SHA-256 of what decides the result: a changed setting, text or version is another cell."""
    return digest(decided)


def pack_key_of(decided: Mapping[str, Any], sources: Mapping[str, int]) -> str:
    """The same for cells that may train in one population, see `deni.recipe.shared_settings`.

    Args:
        sources: see `Cell.sources`. A pack shares the seeds of single sources and its texts, so these count.
    """
    from deni.recipe import Recipe, shared_settings

    seeds = dict.fromkeys(BLOCK_SOURCES, decided["block"]) | dict(sources)
    parts = {name: decided[name] for name in ("tuning", "strategy")}
    recipe = {"optim": Recipe.optim, **decided["recipe"], **parts}
    return digest(
        {
            **decided,
            **dict.fromkeys(["recipe", *parts]),
            "shared": shared_settings(recipe),
            "seed": None,
            "seeds": seeds,
        }
    )


def combine_of(decided: Mapping[str, Any]) -> Combine:
    """How the members of a cell vote, from its resolved settings alone: independent of today's defaults.

    >>> combine_of({"strategy": {"name": "deni", "settings": {"members": 5, "combine": "hard"}}})
    'hard'
    """
    name, settings = decided["strategy"]["name"], decided["strategy"]["settings"]
    if "combine" in decided["strategy"]:
        return decided["strategy"]["combine"]
    parts = {part: settings.get(part, {}) for part in name.split("+")} if "+" in name else {name: settings}
    rules: dict[str, Combine] = {
        part: part_settings["combine"] for part, part_settings in parts.items() if "combine" in part_settings
    }
    voting = [part for part in rules if part not in _END_AS_ONE] or list(rules)
    return rules[voting[0]] if voting else "soft"  # of a strategy without the setting, the mean probability


def task_of(decided: Mapping[str, Any]) -> str:
    """The task, see `deni.tasks.TASKS`."""
    return str(decided["recipe"]["task"])


def _plain_tuning(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    from deni.tuning import TUNINGS

    return _plain(settings, TUNINGS.get(name))


def _plain_strategy(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of several with `+`, each by itself."""
    from deni.baselines import BASELINES
    from deni.strategies import STRATEGIES

    if "+" in name:
        return {part: _plain_strategy(part, part_settings) for part, part_settings in settings.items()}
    plain = _plain(settings, STRATEGIES.get(name) or BASELINES.get(name))
    plain.pop("augmented", None)
    return plain


def _plain(settings: Mapping[str, Any], cls: type | None) -> dict[str, Any]:
    """Settings under the names of today, without those that have their neutral value."""
    renamed = getattr(cls, "renamed", {})
    today = {renamed[name].name if name in renamed else name: value for name, value in settings.items()}
    return _without_neutral(today, cls)


def _without_neutral(values: Mapping[str, Any], cls: type | None) -> dict[str, Any]:
    """Without the settings of a dataclass that have their neutral value."""
    neutral = {} if cls is None else neutral_values(cls)
    return {name: value for name, value in values.items() if not (name in neutral and value == neutral[name])}


def _of_one_spelling(value: Any) -> Any:
    """Values where 10.0 is 10."""
    if isinstance(value, Mapping):
        return {name: _of_one_spelling(each) for name, each in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value
