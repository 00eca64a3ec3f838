"""Several recipes in one training: what they must share, and what is for one recipe alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deni.errors import SettingError
from deni.recipe import Recipe, shared_settings


def refuse_with_several(recipes: Sequence[Recipe], **given: Any) -> None:
    """Raise SettingError for no recipes, or where one of these arguments, by name, is given with several."""
    if not recipes:
        raise SettingError("there are no recipes to train: give at least one")
    if name := next((name for name, value in given.items() if value not in (None, False)), None):
        raise SettingError(f"{name} is for one recipe, not for several that are trained together: omit it")


def check_together(recipes: Sequence[Recipe]) -> None:
    """Raise SettingError for recipes that cannot be trained together; it names the first setting that differs."""
    shared = [shared_settings(recipe.settings()) for recipe in recipes]
    for other in shared[1:]:
        if odd := _difference(shared[0], other):
            raise SettingError(
                f"recipes that are trained together must share {odd[0]}, not {odd[1]!r} and {odd[2]!r}: train them one "
                "after another"
            )


def differ(recipes: Sequence[Recipe]) -> bool:
    """Whether recipes differ in more than the seed."""
    settings = [{**recipe.settings(), "seed": None} for recipe in recipes]
    return any(each != settings[0] for each in settings)


def origin_of_runs(recipes: Sequence[Recipe]) -> dict[str, Any]:
    """The settings in which several recipes differ, as part of an origin; nothing if only the seed differs.

    The noise of forks is a setting of the strategy, which does not count before the first fork.
    """
    if not differ(recipes):
        return {}
    settings = [recipe.settings() for recipe in recipes]
    own = [[each["learning_rate"], each["dropout"], each["tuning"]["settings"]] for each in settings]
    return {"runs": own, "strategy's settings of each run": [each["strategy"]["settings"] for each in settings]}


def _difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """The first setting that differs: what it is called, and both values."""
    for name in {**one, **other}:
        first, second = one.get(name), other.get(name)
        if first == second:
            continue
        if isinstance(first, Mapping) and isinstance(second, Mapping) and (inner := _difference(first, second)):
            return (name if inner[0] == "name" else inner[0], *inner[1:])
        return name, first, second
    return None
