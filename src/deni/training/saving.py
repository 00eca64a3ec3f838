"""What a training run saves: its origin, and the artifact."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from transformers import PreTrainedTokenizerBase

from deni.errors import SettingError
from deni.population import Population
from deni.strategies import Strategy
from deni.training.compat import model_name
from deni.training.phases import Phases
from deni.tuning import tuning_of


def origin_of(strategy: Strategy, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The strategy with these settings, as part of an origin; see `before_fork`."""
    return {"strategy": strategy.name, **{f"strategy's {name}": value for name, value in settings.items()}}


def before_fork(origin: Mapping[str, Any], phases: Phases, step: int) -> dict[str, Any] | None:
    """The origin shared by all training runs that equal this one after `step` steps; their later forks may differ.

    Returns:
        None where it has forked by then.
    """
    if phases.planned.forked_before(step):
        return None
    rest = {name: value for name, value in origin.items() if not name.startswith("strategy's ")}
    return {**rest, **origin_of(phases.strategy, phases.strategy.before_fork())}


def save_artifact(
    folder: str,
    population: Population,
    tokenizer: PreTrainedTokenizerBase | None,
    strategy: Strategy,
    describe: Callable[..., dict[str, Any]],
) -> None:
    """Write a population as an artifact that `deni.load` reads; one that is there is replaced.

    Args:
        describe: gives the contents of `deni.json`, see `deni.artifact.describe`; called with `tuning` and `recipe`.

    Raises:
        SettingError: no tokenizer.
        InputError: a folder with other content.
    """
    from deni import artifact

    if tokenizer is None:
        raise SettingError("an artifact needs a tokenizer: give the trainer `processing_class`")
    ours = os.path.isfile(os.path.join(folder, artifact.INFO)) or (os.path.isdir(folder) and not os.listdir(folder))
    config = population.config
    name = model_name(config)
    tuning = {"name": tuning_of(population.model), "settings": {}}
    info = describe(tuning=tuning, recipe={"model": name} if name else {})
    labels = [str(config.id2label[at]) for at in range(config.num_labels)]
    with strategy.predicting(population):
        artifact.save(folder, population=population, tokenizer=tokenizer, labels=labels, info=info, overwrite=ours)
