"""Follows the schedule of a training run: at which step members fork, merge, or are changed by the strategy.

What happens in one run of training, in this order; each line names who does it:

    FreshModels         the model of each run is initialized            Strategy.prepare, Strategy.prepare_model
    PopulationTrainer   the schedule is made                            Strategy.phases
    Phases.begin        a run begins that is not resumed                Strategy.start
    engine_choice       on the first batch: the engine, the memory
    for each optimizer step, from 0 to T - 1:
        Phases.begin_step
            if the last phase had several members: compare, merge       ForkMonitor.compare, Population.merge
            if this phase has several members: fork, compare            Population.fork, ForkMonitor.compare
            enter the context of the step                               Strategy.training
        for each part of the batch (gradient accumulation):
            for each chunk of members that are computed together:
                forward, loss of each member                            PopulationModule, Losses, Strategy.losses
                backward
        Phases.end_passes
            leave the context of the step                               Strategy.training
            processes share gradients, frozen runs lose theirs          Failures
        each member's gradient is clipped by its own norm
        the copies' learning rates are set                              MemberOptimizer, Strategy.rate_at
        optimizer and scheduler step
        Phases.end_step
            the curves of the members                                   ForkMonitor.after_step
            perturb, average                                            Strategy.after_step
    Phases.finish
        merge, or compare those that vote                               Population.merge, ForkMonitor.compare
        what predicts is decided                                        Strategy.finish

Around everything that predicts, evaluates or saves: Strategy.predicting; the vote: Strategy.combine.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import TrainerCallback

from deni.engine.optimizer import MemberOptimizer, groups_by_rate, share_gradients
from deni.errors import SettingError
from deni.models.architectures import head_names
from deni.population import Population
from deni.schedule import Fork, Phase, Schedule
from deni.strategies import Strategy
from deni.strategies.base import Outputs, Score
from deni.training.batches import SampleOrder
from deni.training.failures import Failures, finite_members
from deni.training.fork_monitor import ForkMonitor
from deni.training.fork_records import Diagnostics
from deni.tuning.lora import mean_of_products

if TYPE_CHECKING:
    from deni.training.runs import RunSettings

logger = logging.getLogger(__name__)


class Phases(TrainerCallback):
    """The position of a training run in its schedule, and the actions at each step.

    Args:
        strategy: who trains when.
        runs: R, of all models.
        monitor: makes what compares the members of one training.
        outputs: what the model of a run predicts of its labeled texts, see `Strategy.start`.
        settings: of each model that is trained; none where all are alike.

    Attributes:
        population: the members; whoever makes another sets it.
        schedule: None before training.
        optimizer: of the members; None before it is made.
        order: of the rows, where that is ours.
        failures: runs that are frozen.
        monitor: what the forks of this training did.
        member_steps: optimizer steps of all members so far, times the passes of each.
    """

    population: Population

    def __init__(
        self,
        strategy: Strategy,
        runs: int,
        monitor: Callable[[], ForkMonitor],
        outputs: Outputs,
        settings: Sequence[RunSettings] = (),
    ) -> None:
        self.strategy, self.runs = strategy, runs
        self.settings = [each for each in settings for _ in range(runs // len(settings))]  # of each run
        self.new_monitor, self.outputs = monitor, outputs
        self.schedule: Schedule | None = None
        self.optimizer: MemberOptimizer | None = None
        self.order: SampleOrder | None = None
        self.failures, self.monitor, self.member_steps = Failures(), monitor(), 0
        self.best_is_loaded = False
        self.computed_with: tuple[Any, Any] | None = None  # the engine of a checkpoint, until a step chooses one
        self.head_lr_scale = 1.0  # the learning rate of the output layer as a multiple of that of all others
        self.step = 0  # under way, counted from 0
        self.around_step = ExitStack()  # what the strategy does around the passes of the step under way

    # ---- where the run is ------------------------------------------------------------------------------------------

    @property
    def planned(self) -> Schedule:
        """The schedule, in training."""
        assert self.schedule is not None
        return self.schedule

    @property
    def alive(self) -> int:
        """How many members train."""
        return self.population.size - len(self.failures.runs) * self.population.members

    def own_orders(self, step: int) -> bool:
        """Whether at this optimizer step, counted from 0, each member sees the rows in its own order."""
        return self.planned.at(step).fork.member_order == "own"

    def position(self, done: int) -> dict[str, float]:
        """What is logged about the members after `done` steps: which phase, how many, how different."""
        phase = self.planned.index(self.planned.at(done - 1)) + 1
        return {"phase": phase, "members": self.alive, **self.monitor.curves()}

    @contextmanager
    def walking(self) -> Iterator[None]:
        """Around one run of training: nothing is known of an earlier one."""
        self.failures, self.monitor, self.member_steps = Failures(), self.new_monitor(), 0
        self.best_is_loaded, self.computed_with = False, None
        with ExitStack() as self.around_step:
            yield

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint, as JSON values."""
        diagnostics = self.monitor.diagnostics.state()
        engine = [self.population.engine_name, self.population.module.at_a_time]
        counted = {"member_steps": self.member_steps, "engine": engine}
        return {**counted, "diagnostics": diagnostics, "failures": self.failures.state()}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Restore from the result of `state`."""
        self.member_steps, self.failures = state["member_steps"], Failures.of(state["failures"])
        self.monitor.diagnostics = Diagnostics.of(state.get("diagnostics", []))
        match state.get("engine"):
            case ["loop" | "stacked" as engine, None | int() as at_a_time]:
                self.computed_with = engine, at_a_time

    def take(self, optimizer: Optimizer, plain: nn.Module, scheduled: bool) -> None:
        """Train the members with an optimizer over the plain model's parameters; `follow` points it at them.

        Args:
            scheduled: whether a scheduler counts its groups already.

        Raises:
            SettingError: the strategy needs more groups than that scheduler counts.
        """
        groups = groups_by_rate(optimizer, plain, self._rates(plain))
        if scheduled and len(groups) != len(optimizer.param_groups):
            raise SettingError(
                f"{self.strategy.name} sets its own learning rates for some parameters, which a given scheduler "
                "cannot follow: give an optimizer without a scheduler"
            )
        optimizer.param_groups[:] = groups
        names = {id(views[0]): name for name, views in self.population.views.items()}
        rates = [each.rate for each in self.settings]
        self.optimizer = MemberOptimizer(optimizer, names, rates if set(rates) - {1.0} else ())
        if any(phase.members > 1 and phase.fork.merge_optimizer == "mean" for phase in self.schedule or ()):
            self.optimizer.check_average()
        optimizer.register_step_pre_hook(self.set_rates)
        optimizer.register_step_post_hook(self.restore_rates)

    def _rates(self, plain: nn.Module) -> Callable[[str, Mapping[str, Any]], float]:
        """What the learning rate of a parameter is multiplied with: by the strategy, and of the output layer."""
        if self.head_lr_scale == 1:
            return self.strategy.rate_of
        head = set(head_names(plain, [name for name, each in plain.named_parameters() if each.requires_grad]))
        return lambda name, names: self.strategy.rate_of(name, names) * (self.head_lr_scale if name in head else 1.0)

    def best_loaded(self) -> None:
        """The best population is in place of the last; the optimizer's states belong to the members that are gone."""
        self.best_is_loaded, self.optimizer = True, None

    # ---- what happens ----------------------------------------------------------------------------------------------

    def begin(self, step: int) -> None:
        """Before the first optimizer step that is done here: a run that begins, not one that is resumed, is started."""
        if step == 0:
            self.population.kept.clear()
            self.strategy.start(self.population, self.outputs)

    def begin_step(self, step: int) -> None:
        """Before optimizer step `step`, counted from 0: merge what the last phase left, fork what this one needs."""
        self.step = step
        phase = self.planned.at(step)
        if step == phase.start:
            if self.population.members > 1:
                self.merge(self.planned.at(step - 1), step)
            if phase.members > 1:
                self.population.fork(phase.members, self.forks(step))
                self.follow(phase)
                self.monitor.compare(self.population, self.failures.runs, "fork", step)
        self.around_step.close()  # a step without a gradient, such as one that fp16 skipped, leaves it open
        self.around_step.enter_context(self.strategy.training(self.population, step, self.planned.steps))

    def forks(self, step: int) -> list[Fork]:
        """The fork before this step, of each run."""
        schedules = [
            each.strategy.tiled(self.planned.steps) if each.strategy else self.planned for each in self.settings
        ]
        return [each.at(step).fork for each in schedules or [self.planned] * self.runs]

    def total(self, losses: Tensor, step: int) -> Tensor:
        """The sum over members of runs with finite loss; a run with a non-finite loss is frozen and reported.

        Args:
            losses: of the members in focus, on a part of the batch: what they add to those of the batch.
        """
        chunk, members = self.population.module.in_focus, self.population.members
        for member, loss in zip(chunk, losses.detach().tolist(), strict=True):
            self.note(member, loss, step)
        finite = [at for at, member in enumerate(chunk) if member // members not in self.failures.runs]
        return losses[finite].sum() if finite else losses.new_zeros(()).requires_grad_()

    def note(self, member: int, loss: float, step: int) -> bool:
        """Keep what a member's loss on a part of the batch adds; a run with a non-finite loss is frozen and reported.

        Returns:
            whether the member's run has a finite loss.
        """
        run = member // self.population.members
        self.monitor.note(member, loss)
        self.failures.note(run, step, loss)
        return run not in self.failures.runs

    def end_passes(self, processes: int, device: torch.device) -> None:
        """When the gradients of a step are there: all processes get their mean, frozen runs lose theirs.

        Args:
            processes: how many train together.
            device: of this one.
        """
        self.around_step.close()
        if processes > 1:
            self.failures.share(self.runs, self.step, device)
            share_gradients(self.population.views, processes)
        members = self.population.members
        for run in self.failures.runs:
            for views in self.population.views.values():
                for view in views[run * members : (run + 1) * members]:
                    view.grad = None

    def set_rates(self, *_: Any) -> None:
        """Before the optimizer steps."""
        assert self.optimizer is not None
        phase = self.planned.at(self.step)
        constant = self.strategy.rate_at(self.step, self.planned.steps)
        self.optimizer.set_rates(phase.fork, (self.step - phase.start) / phase.steps, constant)

    def restore_rates(self, *_: Any) -> None:
        """After the optimizer steps."""
        assert self.optimizer is not None
        self.optimizer.restore_rates()

    def end_step(self, done: int) -> None:
        """When `done` optimizer steps are done."""
        self.member_steps += self.alive * self.strategy.passes
        same_rows = not self.own_orders(done - 1)
        finite = [run for run in range(self.runs) if run not in self.failures.runs]
        self.monitor.after_step(self.population.members, finite if same_rows else [])
        self.strategy.after_step(self.population, done, self.planned.steps)

    def finish(self, done: int, models: int, score: Score | None) -> None:
        """When training has ended after `done` steps.

        Args:
            models: how many are trained side by side.
            score: see `Strategy.finish`.
        """
        phase = self.planned.at(done - 1)
        if self.computed_with is not None and self.population.size > 1:  # no step was left to choose an engine
            self.population.module.choose(*self.computed_with)
        self.note_not_finite(done)
        # The best population stays at the size at which it was evaluated.
        if phase.merge and self.population.members > 1 and not self.best_is_loaded:
            self.merge(phase, done)
        elif self.population.size > models:
            what: Literal["vote", "merge"] = "vote" if self.strategy.votes else "merge"
            self.monitor.compare(self.population, self.failures.runs, what, done)
        if len(self.failures.runs) < self.runs:
            self.strategy.finish(self.population, score, self.outputs)
            self.note_not_finite(done)
        self.follow(None)

    def note_not_finite(self, done: int) -> None:
        """After the last step, whose loss may have been finite while its update is not."""
        self.failures.note_members(finite_members(self.population.values), self.runs, done - 1)

    def merge(self, phase: Phase, step: int) -> None:
        """The members of this phase become one again."""
        self.monitor.compare(self.population, self.failures.runs, "merge", step)
        if phase.fork.merge_optimizer == "mean" and self.optimizer is not None:
            self.optimizer.average(self.population.views, self.population.members)
        self.population.merge(mean_of_products if phase.fork.merge_lora == "product" else None)
        self.follow(None)

    def follow(self, phase: Phase | None) -> None:
        """Point the optimizer at the members that there are now, after the fork of a phase, or after a merge."""
        if self.optimizer is not None:
            how = phase.fork if phase else None
            self.optimizer.point(self.population.views, self.population.members, how)
            self.optimizer.check()

    # ---- Trainer's calls -------------------------------------------------------------------------------------------

    def on_train_begin(self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any) -> None:
        optimizer = getattr(optimizer, "optimizer", optimizer)  # within accelerate's
        if self.optimizer is None or self.optimizer.optimizer is not optimizer:  # a user's subclass has made it
            with self.population.plain() as plain:
                self.take(optimizer, plain, scheduled=True)
            self.follow(None)
        if self.planned.steps != state.max_steps:
            logger.info(f"the run has {state.max_steps} steps, not {self.planned.steps}")
            self.schedule = self.strategy.tiled(state.max_steps)
        for phase in self.planned:  # noise that would find no tensors is refused here, not at the fork
            if phase.members > 1 and phase.fork.noise.variance:
                self.population.scope(phase.fork.noise.scope)
        self.begin(state.global_step)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.order is not None:
            self.order.set_epoch(int((state.epoch or 0) + 1e-6))

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.computed_with = None
        self.begin_step(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.end_step(state.global_step)
        self._stop_if_none_is_left(control)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._stop_if_none_is_left(control)

    def _stop_if_none_is_left(self, control: Any) -> None:
        if len(self.failures.runs) == self.runs:
            control.should_training_stop = True
            control.should_save = control.should_evaluate = False  # the last good checkpoint stays the last
