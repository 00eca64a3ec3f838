"""How a student is trained: as its teacher was, but as one model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from deni.errors import InputError, SettingError
from deni.recipe import Recipe
from deni.strategies import Strategy, make_strategy
from deni.strategies.augmentation import Augmentation
from deni.strategies.composed import Composed
from deni.strategies.default import Default
from deni.strategies.ensemble import Ensemble
from deni.tuning import make_tuning

# What follows from the model, and is open again where the student has another one.
OF_THE_MODEL = ("pooling", "normalize_features", "max_length", "dropout")


def recipe_of(info: Mapping[str, Any], model: str | None = None, start: str = "encoder") -> Recipe:
    """The recipe of a student: that of its teacher, with what makes one model of the strategy.

    The loss has no class weights: the teacher's vote has learned from them.

    Args:
        info: the content of the teacher's `deni.json`.
        model: another model; None for the teacher's.
        start: see `deni.distillation.Distillation`.

    Raises:
        SettingError: neither says which model to train.
    """
    known = {field.name for field in dataclasses.fields(Recipe)} - {"strategy", "tuning"}
    given = {name: value for name, value in info.get("recipe", {}).items() if name in known}
    if model is not None and model != given.get("model"):
        given = {name: value for name, value in given.items() if name not in OF_THE_MODEL} | {"model": model}
    if given.get("model") is None:
        raise SettingError("the teacher does not say which model it was made of: name the student's with --model")
    tuning, strategy = info.get("tuning", {}), Default()
    try:
        taught = strategy_of(info)
    except (InputError, SettingError):  # it is not installed here, or has other settings today
        pass
    else:
        strategy = as_one_model(taught, start)
    own = make_tuning(tuning.get("name", "full"), **tuning.get("settings", {}))
    off = {"class_weights": False, "early_stopping_patience": None}
    return Recipe(**{"task": info.get("task"), **given, **off}, strategy=strategy, tuning=own)


def strategy_of(info: Mapping[str, Any]) -> Strategy:
    """The strategy that `deni.json` names, with its settings.

    Raises:
        SettingError: a strategy or setting that does not exist here.
    """
    named = info.get("strategy", {"name": "default"})
    settings, names = named.get("settings", {}), named["name"].split("+")
    parts = [make_strategy(name, **(settings if len(names) == 1 else settings.get(name, {}))) for name in names]
    return parts[0] if len(parts) == 1 else Composed(tuple(parts))


def as_one_model(strategy: Strategy, start: str = "encoder") -> Strategy:
    """A strategy without those of its parts that end in several members, or add texts that no teacher has seen.

    Args:
        start: with `merged` also without what fits the output layer before the first step.

    >>> from deni.strategies import BestPractices, Ensemble
    >>> as_one_model(BestPractices() + Ensemble()).name, as_one_model(Ensemble()).name
    ('best_practices', 'default')
    """
    parts = [
        part
        for part in strategy.parts
        if not (part.votes or isinstance(part, Augmentation) or (start == "merged" and part.fits))
    ]
    return Default() if not parts else parts[0] if len(parts) == 1 else Composed(tuple(parts))


def as_teacher(recipe: Recipe, members: int) -> Recipe:
    """A recipe whose members vote: as it is, or an ensemble of so many.

    Raises:
        SettingError: a strategy that cannot be an ensemble.
    """
    if recipe.strategy.votes:
        return recipe
    return dataclasses.replace(recipe, strategy=recipe.strategy + Ensemble(members=members))


def with_epochs(recipe: Recipe, epochs: float) -> Recipe:
    """The recipe with so many epochs, also where its strategy decides them."""
    if epochs == recipe.epochs:
        return recipe
    parts = [
        dataclasses.replace(part, epochs=epochs) if "epochs" in part.arguments() else part  # type: ignore[call-arg]
        for part in recipe.strategy.parts
    ]
    strategy = parts[0] if len(parts) == 1 else Composed(tuple(parts))
    return dataclasses.replace(recipe, strategy=strategy, epochs=epochs)
