"""What a training run saves: its origin, the artifact, a checkpoint."""

from __future__ import annotations

import itertools
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedTokenizerBase
from transformers.trainer import TRAINING_ARGS_NAME

from deni.errors import SettingError
from deni.models.hugging_face import config_of
from deni.population import Population
from deni.strategies import Strategy
from deni.tasks import find_task
from deni.training import checkpoint, weights
from deni.training.compat import model_name, save_processor, tokenizer_of
from deni.training.phases import Phases
from deni.tuning import tuning_of

if TYPE_CHECKING:
    from deni.artifact import Reading
    from deni.training.trainer import PopulationTrainer

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


def cut_at(tokenizer: Any, datasets: Sequence[Any]) -> int | None:
    """Tokens after which training texts were cut, as far as that can be seen; None where it seems that none was.

    They were cut, or padded, where more of them end at the greatest length than at the two below it, three at least.
    Else it is what the tokenizer was last used with, unless a text is longer.
    """
    lengths = Counter(len(row) for dataset in datasets for row in _token_ids(dataset))
    longest = max(lengths, default=0)
    if lengths[longest] >= 3 and lengths[longest] > lengths[longest - 1] + lengths[longest - 2]:
        return longest
    backend = getattr(tokenizer, "backend_tokenizer", None)
    last = backend.truncation if backend is not None else None
    return last["max_length"] if last and longest <= last["max_length"] else None


def _token_ids(dataset: Any) -> Iterable[Sequence[int]]:
    """The token ids of each text; none where the dataset does not show them."""
    columns = getattr(dataset, "column_names", None)
    if columns is not None and hasattr(dataset, "select"):
        return dataset["input_ids"] if "input_ids" in columns else ()
    if isinstance(dataset, Sequence) and dataset and isinstance(dataset[0], Mapping):
        return [row.get("input_ids", ()) for row in dataset]
    return ()


class Artifacts:
    """Writes the population of a trainer as artifacts that `deni.load` reads.

    Attributes:
        ordinary: whether the weights of a single member are written a second time, as transformers has them.
        reading: what loading one takes, see `deni.artifact.how_to_read`; None before it was tried.
    """

    def __init__(self) -> None:
        self.ordinary = True
        self.reading: Reading | None = None
        self._last: tuple[Any, ...] = ()  # what the members last shared, and the file that holds it

    def moved(self, written: Path, target: Path) -> None:
        """Tell that a folder with an artifact has another name now."""
        if self._last and self._last[2].parent == written:
            self._last = (*self._last[:2], target / self._last[2].name, self._last[3])

    def check(
        self, population: Population, tokenizer: PreTrainedTokenizerBase | None, task: str, announce: bool = True
    ) -> Reading:
        """Try whether the model can be read back; once, since a training changes its values only.

        Args:
            announce: say what loading will need beyond the folder.

        Raises:
            SettingError: members of several kinds.
        """
        from deni.artifact import how_to_read

        if not population.alike:
            raise SettingError(
                "models with LoRA of several ranks, or scaled differently, are not one artifact: save each of "
                "trainer.members"
            )
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
        kept: bool = False,
    ) -> None:
        """Write an artifact into a folder; an earlier one in it is replaced, any other file stays.

        Args:
            describe: gives the contents of `deni.json`, see `deni.artifact.describe`; called with `task`, `tuning` and
                `recipe`.
            kept: see `deni.artifact.save`.

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
        known = 0 if find_task(task).generates else known
        labels = [str(named.get(at, f"LABEL_{at}")) if len(named) == known else f"LABEL_{at}" for at in range(known)]
        shared, written = _fingerprint(population), None
        if self._last and self._last[0] is population and self._last[1] == shared:
            written = self._last[2] if _identity(self._last[2]) == self._last[3] else None
        with strategy.predicting(population):
            artifact.save(
                folder,
                population=population,
                tokenizer=tokenizer,
                labels=labels,
                info=info,
                keep_others=True,
                reading=reading,
                base=written,
                kept=kept,
                ordinary=self.ordinary,
            )
        file = Path(folder) / artifact.BASE
        self._last = population, shared, file, _identity(file)


def save_trained(trainer: PopulationTrainer, folder: str, kept: bool = False) -> bool:
    """Write an artifact; or, and then False, the plain model, of which there is none.

    Args:
        kept: see `deni.artifact.save`.
    """
    from deni.artifact import describe

    task, tokenizer = trainer.ballots.task.known(), tokenizer_of(trainer)
    if task is not None:
        about = partial(describe, trainer, **trainer.reads)
        trainer.artifacts.save(folder, trainer.population, tokenizer, trainer.strategy, task.name, about, kept)
    else:
        weights.write(weights.one_model(trainer.population, trainer.strategy), tokenizer, folder)
        torch.save(trainer.args, os.path.join(folder, TRAINING_ARGS_NAME))
    save_processor(trainer, folder)
    return task is not None


def save_checkpoint(trainer: PopulationTrainer, folder: str) -> None:
    """Write the model, and what goes on with a training from here."""
    population, step = trainer.population, trainer.state.global_step
    # Neither an artifact nor one model.
    alone = population.runs > 1 and (trainer.ballots.task.known() is None or not population.alike)
    predicts = not alone and save_trained(trainer, folder)
    os.makedirs(folder, exist_ok=True)
    torch.save(trainer.args, os.path.join(folder, TRAINING_ARGS_NAME))
    if trainer.schedule is None:  # no training that could go on from here
        return
    extra = {
        "origin": trainer.origin,
        "before_fork": before_fork(trainer.origin, trainer.phases, step),
        "step": step,
        **trainer.phases.state(),
    }
    checkpoint.save(population, folder, extra, trainer.strategy if predicts else None)


def _identity(file: Path) -> tuple[int, int, int] | None:
    """Changes when a file is replaced; None where there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _fingerprint(population: Population) -> list[tuple[str, int, int]]:
    """Changes with any tensor that the members share: name, where it is in memory, how often it was changed."""
    with population.plain() as model:
        tensors = itertools.chain(model.named_parameters(), model.named_buffers())
        own = {*population.slots, *population.module.held}
        return [(name, value.data_ptr(), value._version) for name, value in tensors if name not in own]
