"""How the members of a training are computed: by which engine, how many at a time, in how many passes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from deni.engine import memory, passes
from deni.engine.answers import ANSWERS
from deni.engine.buffers import kept_buffers
from deni.engine.module import PopulationModule, in_mode
from deni.engine.probe import why_not_stacked
from deni.engine.token_axes import measure
from deni.engine.unpadded import skips_padding, text_tokens
from deni.errors import SettingError
from deni.models.hugging_face import logits_of
from deni.models.products import fast_products
from deni.population import Population
from deni.training.batches import LENGTHS, copied, tokens

if TYPE_CHECKING:
    from deni.training.trainer import PopulationTrainer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EnginePlan:
    """How members are computed.

    Args:
        engine: `stacked` or `loop`.
        reason: why in the loop; empty where members are stacked.
        at_a_time: how many members one forward pass of the stacked engine computes; None for all.
        by_length: whether to use length-bucketed micro-batches, see `deni.engine.passes`.
        without_padding: whether the encoder leaves out padding in training, and whether in predictions, see
            `deni.engine.unpadded`.
    """

    engine: Literal["loop", "stacked"] = "loop"
    reason: str = ""
    at_a_time: int | None = None
    by_length: bool = False
    without_padding: tuple[bool, bool] = (False, False)

    def follow(self, module: PopulationModule) -> None:
        """Have a population compute its batches so."""
        in_training, in_predictions = self.without_padding
        if in_training:
            module.compute = text_tokens
        elif self.by_length:
            module.compute = passes.by_length
        if in_predictions:
            module.predict = text_tokens


@fast_products()
def engine_for(trainer: PopulationTrainer, batch: Any) -> EnginePlan:
    """Choose the engine of a training, and check the memory, before the first step.

    Args:
        batch: the first.

    Raises:
        SettingError: see `choose_engine`; a strategy with a loss of its own where the model, or the user, computes it.
    """
    if trainer.strategy.changes_loss and (why := trainer.losses.alone):
        raise SettingError(f"{trainer.strategy.name} needs a loss that follows from outputs and labels, and {why}")
    trainer.losses.check_soft(batch, trainer.ballots.task.known(), trainer.losses.alone)
    batch, losses, loading = trainer.columns.prepared(batch), trainer.losses, trainer.loading
    soft = losses.soft_columns
    left_out = () if losses.alone else (*trainer.label_names, *soft)
    if LENGTHS in batch and loading.padding_side == "left" and not losses.alone:
        check_left_padding(trainer.population, batch, (*trainer.label_names, *soft, LENGTHS), loading.padding)
    logits_alone = losses.function is None and not losses.answers  # the user's loss may ask for more
    labels = trainer.ballots.labels_of(dict(batch))
    inputs = {key: value for key, value in batch.items() if key not in (*left_out, LENGTHS)}
    inputs = trainer.ballots.asking(inputs, labels)
    padding, peak = {**loading.padding, ANSWERS: -100}, trainer.phases.planned.peak * len(trainer.seeds)
    without = False, False
    if not losses.alone:
        with trainer.population.plain() as model:
            without = skips_padding(model, inputs, padding, loading.padding_side)
        if losses.function is not None:  # it may read outputs at padding
            without = without[1], without[1]
    if peak == 1:
        plan = EnginePlan(without_padding=without)
        plan.follow(trainer.population.module)
        return plan
    return choose_engine(
        trainer.population,
        inputs,
        alone=losses.alone,
        compute=lambda model, inputs: trainer.compute_loss(model, copied(inputs), return_outputs=True),
        engine=trainer.engine,
        at_a_time=trainer.at_a_time,
        peak=peak,
        without_padding=without,
        rows=trainer.args.per_device_train_batch_size,
        longest=memory.most_tokens(trainer.train_dataset),
        padding=padding,
        forward_passes=trainer.strategy.passes,
        divisible=trainer.runs > 1 and logits_alone and loading.padding_side == "right",
    )


@torch.no_grad()
def check_left_padding(
    population: Population, batch: Mapping[str, Any], left_out: Collection[str], padding: Mapping[str, int]
) -> None:
    """Refuse a pack whose runs would depend on how long the texts of the others are, which are padded on the left.

    Args:
        batch: of all runs.
        left_out: keys of it that the model does not take.
        padding: fill values.

    Raises:
        SettingError: what the model predicts depends on how much its rows are padded.
    """
    rows = {key: value[:2] for key, value in batch.items() if key not in left_out and isinstance(value, Tensor)}
    length = tokens(rows)
    longer = {
        key: functional.pad(value, [0, 0] * (value.dim() - 2) + [3, 0], value=padding.get(key, 0))
        if value.dim() > 1 and value.shape[1] == length
        else value
        for key, value in rows.items()
    }
    with population.plain() as model, kept_buffers(model), in_mode(model, training=False):
        try:
            as_they_are, padded = (logits_of(model(**inputs)).float() for inputs in (rows, longer))
        except (IndexError, RuntimeError):  # no room for longer texts
            return
    if as_they_are.shape == padded.shape and torch.allclose(as_they_are, padded, rtol=1e-3, atol=1e-4):
        return
    raise SettingError(
        "several runs share batches, and what this model predicts depends on how far they are padded on the left: set "
        "padding_side of the tokenizer to 'right', or train the seeds one by one"
    )


def choose_engine(
    population: Population,
    inputs: Mapping[str, Any],
    *,
    engine: Literal["auto", "stacked", "loop"],
    at_a_time: int | None,
    peak: int,
    rows: int,
    longest: int,
    padding: Mapping[str, int],
    divisible: bool,
    without_padding: tuple[bool, bool] = (False, False),
    alone: str = "",
    compute: Callable[[nn.Module, dict[str, Any]], Any] | None = None,
    forward_passes: int = 1,
) -> EnginePlan:
    """Decide how members are computed, and have the population compute them so from now on.

    Args:
        population: before the first step.
        inputs: a collated batch of the training set on the device, without labels if members are not computed alone.
        engine: what the user chose.
        at_a_time: what the user chose; None for what `deni.engine.memory.at_a_time` takes.
        peak: members in the largest phase.
        rows: B of one run.
        longest: T of the longest training text.
        padding: fill values, see `deni.engine.probe.why_not_stacked`.
        divisible: whether passes by length may be tried: a pack, padded on the right, whose loss needs logits only.
        without_padding: as in `EnginePlan`; without padding such passes gain nothing.
        alone: why members must be computed one by one, whatever the model; empty where they need not be.
        compute: what is computed of a member then.
        forward_passes: how many of each member a step has.

    Raises:
        SettingError: `stacked` was chosen, and is not exact; not even one member fits into memory; several runs of a
            model that draws from the global generators.
    """
    device = next(iter(population.values.values())).device
    with population.plain() as model, kept_buffers(model):
        reason = why_loop(engine, model, inputs, padding, population.module.held, alone)
        free = not reason and at_a_time is None
        one_run = {key: value[:rows] if isinstance(value, Tensor) else value for key, value in inputs.items()}
        side_by_side = memory.at_a_time(
            model, one_run, longest, peak, device, free, compute if alone else None, forward_passes, population.runs
        )
        few = {key: value[:2] if isinstance(value, Tensor) else value for key, value in inputs.items()}
        with in_mode(model, training=True):
            population.module.measured = measured = measure(model, few)
    if measured.draws and population.runs > 1:
        raise SettingError(
            "in training this model draws from the global generators (NEFTune, dropout of an LSTM), which several runs "
            "would share: train the seeds one by one, or switch that off"
        )
    at_a_time = side_by_side if free else at_a_time
    population.module.choose("loop" if reason else "stacked", at_a_time)
    by_length = divisible and not (reason or without_padding[0])
    by_length = by_length and passes.gains(population.module, inputs, population.runs)
    plan = EnginePlan("loop" if reason else "stacked", reason, at_a_time, by_length, without_padding)
    plan.follow(population.module)
    return plan


def why_loop(
    engine: Literal["auto", "stacked", "loop"],
    model: nn.Module,
    inputs: Mapping[str, Any],
    padding: Mapping[str, int],
    held: Collection[str] = (),
    alone: str = "",
) -> str:
    """Why members are computed sequentially; empty where they are stacked; arguments as of `choose_engine`.

    Args:
        held: frozen parameters that differ between runs.
    """
    if engine == "loop":
        return "asked for"
    if alone and engine == "stacked":
        raise SettingError(f"members cannot be stacked, {alone}: use engine='auto' or 'loop', or compute_loss_func")
    reason = alone or why_not_stacked(model, inputs, padding, held)
    if reason and engine == "stacked":
        raise SettingError(f"this model cannot be stacked: {reason}; use engine='auto' or 'loop'")
    if reason:
        logger.warning(f"members are computed sequentially: {reason}")
    return reason
