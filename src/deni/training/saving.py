"""What a training run saves: its origin, and the artifact."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedTokenizerBase

from deni.models.hugging_face import config_of
from deni.population import Population
from deni.strategies import Strategy
from deni.training.compat import model_name
from deni.training.phases import Phases
from deni.tuning import tuning_of

if TYPE_CHECKING:
    from deni.artifact import Reading

logger = logging.getLogger(__name__)


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


class Artifacts:
    """Writes the population of a trainer as artifacts that `deni.load` reads.

    Attributes:
        reading: what loading one takes, see `deni.artifact.how_to_read`; None before it was tried.
    """

    def __init__(self) -> None:
        self.reading: Reading | None = None

    def check(
        self, population: Population, tokenizer: PreTrainedTokenizerBase | None, task: str, announce: bool = True
    ) -> Reading:
        """Try whether the model can be read back; once, since a training changes its values only.

        Args:
            announce: say what loading will need beyond the folder.
        """
        from deni.artifact import how_to_read

        if self.reading is None:
            self.reading = how_to_read(population, tokenizer, task)
            if self.reading.needs and announce:
                logger.warning(
                    f"what is saved of this training needs deni.load(folder, model_init=...): {self.reading.needs}"
                )
        return self.reading

    def save(
        self,
        folder: str,
        population: Population,
        tokenizer: PreTrainedTokenizerBase | None,
        strategy: Strategy,
        task: str,
        describe: Callable[..., dict[str, Any]],
    ) -> None:
        """Write an artifact into a folder; an earlier one in it is replaced, any other file stays.

        Args:
            describe: gives the contents of `deni.json`, see `deni.artifact.describe`; called with `task`, `tuning` and
                `recipe`.

        Raises:
            InputError: a folder that cannot be written.
        """
        from deni import artifact

        reading = self.check(population, tokenizer, task, announce=False)
        config = config_of(population.model)
        name = "" if config is None else model_name(config)
        tuning = {"name": tuning_of(population.model), "settings": {}}
        info = describe(task=task, tuning=tuning, recipe={"model": name} if name else {})
        named: dict[Any, str] = {} if config is None else dict(config.id2label or {})
        known = len(named) if reading.outputs is None else reading.outputs
        labels = [str(named.get(at, f"LABEL_{at}")) if len(named) == known else f"LABEL_{at}" for at in range(known)]
        with strategy.predicting(population):
            artifact.save(
                folder,
                population=population,
                tokenizer=tokenizer,
                labels=labels,
                info=info,
                keep_others=True,
                reading=reading,
            )
