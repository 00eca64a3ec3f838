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
from deni.tuning import Tuning, make_tuning

# What follows from the model, and is open again where the student has another one.
OF_THE_MODEL = ("pooling", "normalize_features", "max_length", "dropout")


def recipe_of(
    info: Mapping[str, Any],
    model: str | None = None,
    start: str = "encoder",
    strategy: str | Strategy | None = None,
    tuning: str | Tuning | None = None,
    **given: Any,
) -> Recipe:
    """The recipe of a student: that of its teacher, with what makes one model of the strategy.

    The loss has no class weights: the teacher's vote has learned from them.

    Args:
        info: the content of the teacher's `deni.json`.
        model: another model; None for the teacher's.
        start: see `deni.distillation.Distillation`.
        strategy: another strategy; None for the teacher's, see `as_one_model`.
        tuning: another tuning, with its own learning rate; None for the teacher's.
        given: fields of `Recipe` that differ from the teacher's; None means not given.

    Raises:
        SettingError: neither says which model to train, or a setting that does not exist.
    """
    known = {field.name for field in dataclasses.fields(Recipe)} - {"strategy", "tuning"}
    values = {name: value for name, value in info.get("recipe", {}).items() if name in known}
    if model is not None and model != values.get("model"):
        values = {name: value for name, value in values.items() if name not in OF_THE_MODEL} | {"model": model}
    if values.get("model") is None:
        raise SettingError("the teacher does not say which model it was made of: name the student's with --model")
    own = info.get("tuning", {})
    if tuning is None or tuning == own.get("name"):
        chosen = make_tuning(own.get("name", "full"), **own.get("settings", {}))
    else:
        chosen = make_tuning(tuning)
        values["learning_rate"] = None
    trained = _one_model_of(info, start) if strategy is None else make_strategy(strategy)
    values |= {"task": info.get("task"), "class_weights": False, "early_stopping_patience": None}
    values |= {name: value for name, value in given.items() if value is not None}
    if given.get("epochs") is not None:
        trained = _with_epochs(trained, given["epochs"])
    return Recipe(**values, strategy=trained, tuning=chosen)


def _one_model_of(info: Mapping[str, Any], start: str) -> Strategy:
    """What makes one model of the teacher's strategy; nothing where that is not installed, or has other settings."""
    try:
        return as_one_model(strategy_of(info), start)
    except (InputError, SettingError):
        return Default()


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
    return dataclasses.replace(recipe, strategy=_with_epochs(recipe.strategy, epochs), epochs=epochs)


def _with_epochs(strategy: Strategy, epochs: float) -> Strategy:
    parts = [
        dataclasses.replace(part, epochs=epochs) if "epochs" in part.arguments() else part  # type: ignore[call-arg]
        for part in strategy.parts
    ]
    return parts[0] if len(parts) == 1 else Composed(tuple(parts))
