"""`PopulationTrainer`: transformers' Trainer that walks a schedule of members.

It holds what Trainer demands of a subclass. What happens when is in `deni.training.phases`.
"""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, RandomSampler
from transformers import Trainer, TrainingArguments
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.trainer_utils import EvalLoopOutput, HubStrategy, PredictionOutput, TrainOutput

from deni.engine import memory
from deni.engine.active_tokens import deactivate, moves_own_rows_only, same_ids, token_ids
from deni.engine.fold import trainable_slots
from deni.errors import SettingError
from deni.population import Population
from deni.randomness import OwnGlobals, global_generators
from deni.schedule import Schedule
from deni.strategies import Strategy
from deni.strategies.default import Default
from deni.tasks import Task, find_task
from deni.training import checkpoint, voting, weights
from deni.training.alone import Alone, copied
from deni.training.arguments import check_arguments, check_metrics
from deni.training.batches import LENGTHS, InOrder, SampleOrder, draw_of
from deni.training.checkpoint import readable_states
from deni.training.compat import (
    Columns,
    adapt,
    any_init,
    folder_of,
    own_arguments,
    plain_model,
    save_processor,
    tokenizer_of,
)
from deni.training.dataloading import Loading, lanes_of, total_steps
from deni.training.engine_choice import EnginePlan, choose_engine
from deni.training.events import Events
from deni.training.failures import Failures
from deni.training.features import all_batches, labeled_outputs
from deni.training.final_model import MemberModels, ShownModel, show_trained
from deni.training.fork_monitor import ForkMonitor, Kind, texts_to_compare
from deni.training.fork_records import Diagnostics
from deni.training.given import DATASETS, Given, check_tokens
from deni.training.heads import without_vote
from deni.training.losses import Losses, Parts
from deni.training.overrides import overridden
from deni.training.phases import Phases
from deni.training.runs import FreshModels, RunSeeds
from deni.training.saving import Artifacts, before_fork, cut_at, origin_of
from deni.training.seed_metrics import MeanOverSeeds, OfSeeds, PreprocessEachSeed

logger = logging.getLogger(__name__)


class PopulationTrainer(Trainer):
    """Train a population of members in place of one model; everything else is as in `transformers.Trainer`.

    Predictions and metrics are the vote of the members `(N, C)`, also during training: log probabilities; log odds
    where a text has several labels (above 0: it has the label); numbers for regression. A model for token
    classification has `(N, T, C)`: each token is voted on, and shorter texts are padded with -100, as Trainer does.

    Args:
        model, args, *positional, **options: as `transformers.Trainer` takes them. Several runs (an ensemble, several
            seeds) need `model_init` in place of `model`; it is called once for each.
        strategy: who trains when; plain fine-tuning by default.
        engine: `stacked`, `loop`, or `auto`: stacked where that is exact for this model, else loop.
        seeds: one run for each seed, trained in lock-step; default `[args.seed]`. With several seeds predictions are
            `(N, R, C)` or `(N, R, T, C)`, `compute_metrics` is called for each seed, and the means are reported;
            `train_dataset` and `eval_dataset` may be lists with one dataset for each.
        at_a_time: how many members one forward pass computes; default: as many as fit into memory.
        active_vocabulary: train only the embedding rows of tokens in the training set, where that is exact; False
            switches it off.
        class_weights: weight of each class in the loss, `(C,)`.
        source_seeds: seeds of single sources of randomness, to vary one and keep the others; all `seeds` share them.
        origin: JSON values that say what the run is made from; a checkpoint with others is not resumed.
        task: what a text has (`deni.tasks.TASKS`); default: what transformers takes the model for, which knows no
            classes with an order.
        max_length: tokens after which texts were cut, for what is saved; default: what the tokenizer was last used
            with, or what the lengths of the training texts show.

    Attributes:
        seeds, runs: of the models that are trained side by side; how many runs they have together, R.
        population: the members.
        model: the module that computes them; after a training the ordinary model that they have become, the mean of
            several, in evaluation mode. Independent runs (an ensemble, several seeds) have no such mean: it predicts by
            their vote.
        members: each member as a plain model, a copy.
        phases: where the training is.
        engine_plan: how members are computed; None before it is decided, and where there is only one.
        active_ids: the token ids whose embeddings train; None for all.

    Raises:
        SettingError: several runs without `model_init`, several GPUs in one process (`nn.DataParallel`), phases that do
            not fit the number of steps (at `train`).
    """

    population: Population
    engine_plan: EnginePlan | None = None
    active_ids: Tensor | None = None

    def __init__(
        self,
        model: nn.Module | None = None,
        args: TrainingArguments | None = None,
        *positional: Any,
        strategy: Strategy | None = None,
        engine: Literal["auto", "stacked", "loop"] = "auto",
        seeds: Sequence[int] | None = None,
        at_a_time: int | None = None,
        active_vocabulary: bool = True,
        class_weights: Tensor | None = None,
        source_seeds: Mapping[str, int] | None = None,
        origin: Mapping[str, Any] | None = None,
        task: str | None = None,
        max_length: int | None = None,
        model_init: Callable[..., nn.Module] | None = None,
        **options: Any,
    ) -> None:
        if engine not in ("auto", "stacked", "loop"):
            raise SettingError(f"unknown engine {engine!r}: choose auto, stacked or loop")
        self.strategy, self.shown, self.artifacts = strategy or Default(), ShownModel(), Artifacts()
        self.engine, self.at_a_time, self.class_weights = engine, at_a_time, class_weights
        self.task, self.wants_active = None if task is None else find_task(task), active_vocabulary
        options.update(zip(list(inspect.signature(Trainer.__init__).parameters)[3:], positional, strict=False))
        model_init = options.pop("model_init", None) or model_init
        args = self.own_args = own_arguments(args or TrainingArguments("tmp_trainer"), self.strategy.arguments())
        if class_weights is not None and (args.label_smoothing_factor or options.get("compute_loss_func")):
            raise SettingError("class_weights cannot be combined with label smoothing or compute_loss_func: choose one")
        check_arguments(args, self.strategy, len(seeds or [0]) * self.strategy.runs)
        self.requested = Given(self.strategy, seeds, source_seeds, options)
        self.origin = {**(origin or {}), **origin_of(self.strategy, self.strategy.settings())}
        self.origin |= {"task": task} if task else {}
        self._take_seeds(self.requested.run_seeds(args))
        if self.runs > 1 and model_init is None:
            raise SettingError(f"{self.runs} runs need `model_init`, which makes the model of each, not `model`")
        if model_init is not None and model is not None:
            raise SettingError("give either `model` or `model_init`, not both")
        _, self.sets, placed = self.requested.place(args)
        options |= placed
        check_metrics(args, len(self.seeds), self.sets.eval is not None)
        self.fresh = FreshModels(self.run_seeds, self.strategy, lambda trial: Trainer.call_model_init(self, trial))
        self.model_init = any_init(model_init)
        self.globals = OwnGlobals()
        with self.globals.used():  # seeded by Trainer; collators that mask at random and NEFTune draw from them
            self.given = base = self.fresh.given(model) if model_init is None else self.fresh.of(0)
            super().__init__(base, args, **options)
        with global_generators():
            if self.args.n_gpu > 1:
                raise SettingError(
                    "nn.DataParallel cannot train a population: start one process a GPU with `accelerate launch`, "
                    "or set CUDA_VISIBLE_DEVICES to one GPU"
                )
            self.columns = Columns(self)
            if not self.label_names and not self.can_return_loss:
                self.label_names = ["labels"]  # of a forward pass that takes none: they are for the loss alone
            self.losses = Losses(self, PopulationTrainer, class_weights, self.task)
            self.model_init = any_init(model_init)
            self.active_ids = self._find_active()
            self.phases = Phases(self.strategy, self.runs, self._monitor, self._labeled_outputs)
            self.model = self.model_wrapped = self._populate(plain_model(self))
        context = self.compute_loss_context_manager
        self.ballots = voting.Ballots(self.phases, self.run_seeds, self.label_names, self.losses, context, self.task)
        known = self.ballots.task_if_known()
        whole = () if known is None or known.of_words else tuple(self.label_names)
        config, tokenizer = getattr(self.population.model, "config", None), self.processing_class
        self.reads: dict[str, Any] = {
            "max_length": max_length or cut_at(tokenizer, self.sets.train or [self.train_dataset])
        }
        self.loading = Loading(self.columns, self.sets, self.run_seeds, tokenizer, config, whole)
        self.parts = Parts()
        self.alone = Alone(self.phases, self.loading, self.losses, self.parts, lambda: self.accelerator)
        of_seeds = OfSeeds(len(self.seeds), lambda: self.ballots.of_words)
        if len(self.seeds) > 1 and self.compute_metrics is not None:
            self.compute_metrics = MeanOverSeeds(self.compute_metrics, of_seeds)
            self.ballots.loss_of_each = "loss" in self.args.include_for_metrics
        if len(self.seeds) > 1 and self.preprocess_logits_for_metrics is not None:
            self.preprocess_logits_for_metrics = PreprocessEachSeed(self.preprocess_logits_for_metrics, of_seeds)
        self.callback_handler = Events(self.callback_handler, self.phases)

    # ---- what it is ------------------------------------------------------------------------------------------------

    @property
    def model(self) -> Any:
        """The module of the population; after a training the ordinary model that was made of it."""
        return self.shown.model

    @model.setter
    def model(self, model: Any) -> None:
        self.shown.replace(model)

    @property
    def members(self) -> Sequence[nn.Module]:
        """Each member as a plain model, a copy that is made when it is asked for."""
        return MemberModels(self.population)

    @property
    def schedule(self) -> Schedule | None:
        """The phases of the training; None before it."""
        return self.phases.schedule

    @property
    def member_steps(self) -> int:
        """Optimizer steps of all members so far."""
        return self.phases.member_steps

    @property
    def failures(self) -> Failures:
        """Runs that are frozen, whose members have no vote."""
        return self.phases.failures

    @property
    def diagnostics(self) -> Diagnostics:
        """Diagnostics of the forks of the last training run."""
        return self.phases.monitor.diagnostics

    @property
    def voters(self) -> Callable[[int], list[int]]:
        """The members of a model whose runs are not frozen; all, where none is left."""
        return self.ballots.voters

    # ---- the population --------------------------------------------------------------------------------------------

    def call_model_init(self, trial: Any = None) -> nn.Module:
        """A fresh population, each run with its own initialization; Trainer calls it at the start of `train`."""
        return self._populate(self.fresh.of(0, trial).to(self.args.device), trial)

    def _populate(self, model: nn.Module, trial: Any = None) -> nn.Module:
        plan = self.engine_plan or EnginePlan(at_a_time=self.at_a_time)
        rank, device = self.args.process_index, self.args.device
        self.population = self.phases.population = self.fresh.population(
            model, plan, device, rank, self.active_ids, trial
        )
        return self.population.module

    def _find_active(self) -> Tensor | None:
        """The token ids whose embeddings train; None for all, where leaving some out would not be exact."""
        own = self.optimizer_cls_and_kwargs is not None or (self.model_init is None and self.optimizer is not None)
        own = own or overridden(type(self), PopulationTrainer, "create_optimizer", "get_optimizer_cls_and_kwargs")
        own = own or bool(self.losses.alone)  # such a loss may see the whole table
        exact = moves_own_rows_only(self.args, self.data_collator) and self.strategy.scope != "trainable"
        return token_ids(self.sets.train or [self.train_dataset]) if self.wants_active and exact and not own else None

    def _take_seeds(self, seeds: RunSeeds) -> None:
        self.run_seeds, self.runs = seeds, seeds.runs
        self.seeds, self.source_seeds = list(seeds.seeds), dict(seeds.sources)
        self.origin |= {"seeds": self.seeds, "source_seeds": self.source_seeds}

    def _follow_changes(self) -> None:
        """Take over arguments, seeds and datasets that were replaced since this trainer was made."""
        if self.args is not self.own_args:
            self.args = self.own_args = own_arguments(self.args, self.strategy.arguments())
        self.args.logging_nan_inf_filter = False
        check_arguments(self.args, self.strategy, self.runs)
        check_metrics(self.args, len(self.seeds), self.sets.eval is not None)
        changed = self.requested.notice(self.args, {name: getattr(self, name) for name in DATASETS})
        if changed:
            seeds, self.sets, placed = self.requested.place(self.args)
            vars(self).update(placed)
            self._take_seeds(seeds)
            self.fresh.seeds = self.ballots.seeds = self.loading.seeds = seeds
            self.loading.sets = self.sets
        slots = trainable_slots(self.population.model)
        frozen = self.model_init is None and self.population.slots.keys() != slots.keys()
        if self.model_init is None and self.phases.optimizer is not None:  # it goes on from what it has trained
            if frozen:
                raise SettingError("parameters were frozen, or freed, after a training: make a new trainer")
            check_tokens(self.active_ids, self.sets.train or [self.train_dataset])
            return
        ids = self._find_active()
        if changed or frozen or not same_ids(ids, self.active_ids):
            self.active_ids = ids
            if self.model_init is None:
                deactivate(self.population.model)
                self.model = self.model_wrapped = self._populate(self.population.model)

    # ---- training --------------------------------------------------------------------------------------------------

    def train(self, *args: Any, **options: Any) -> TrainOutput:
        """As `Trainer.train`; the global generators stay as they were."""
        resumes = args[0] if args else options.get("resume_from_checkpoint")
        trial = args[1] if len(args) > 1 else options.get("trial")
        if self.population.members > 1 and self.model_init is None and not resumes:
            raise RuntimeError("this trainer has trained already: make a new one, or give it `model_init`")
        self.model = self.shown.computed
        with self.globals.used(), self.phases.walking():
            with global_generators():
                self._hp_search_setup(trial)  # Trainer does it later, but plan and model follow from it
                self._follow_changes()
                self._plan()
                if (task := self.ballots.task_if_known()) is not None:
                    self.artifacts.check(self.population, tokenizer_of(self), task.name)
            output = super().train(*args, **options)
        name, greater = self.args.metric_for_best_model or "loss", self.args.greater_is_better
        score = voting.scores_by(self.evaluate, lambda: self.population, name, greater)
        self.phases.finish(self.state.global_step, len(self.seeds), score if self.eval_dataset is not None else None)
        given = self.given if self.model_init is None else None
        show_trained(self.shown, self.population, self.ballots, given, self.state.global_step)
        output.metrics["member_steps"] = self.member_steps
        output.metrics["failed_runs"] = len(self.failures)
        return output

    def _plan(self) -> None:
        """Make the schedule before anything is trained."""
        self.phases.schedule = None  # the schedule decides how many orders of rows there are; here one is enough
        loader = self.get_train_dataloader()
        self.phases.schedule = self.strategy.schedule(total_steps(self.args, loader))
        several = self.phases.schedule.peak * len(self.seeds) * self.strategy.runs > 1
        if several and self.compute_metrics is not None and without_vote(self.population.model):
            self.ballots.find_task()  # refuses what an evaluation would ask for in the middle of the training

    def get_batch_samples(self, *args: Any, **options: Any) -> Any:
        """As Trainer's; the first batch decides about the engine, when all hooks on the model are there.

        What comes for one optimizer step is one batch, in however many parts.
        """
        batches, items = super().get_batch_samples(*args, **options)
        if batches and self.engine_plan is None:
            self.losses.look(self.population, self.columns.prepared(batches[0]))
            self._choose_engine(batches[0])
        self.parts.begin(batches)
        return batches, items

    def _choose_engine(self, batch: Any) -> None:
        """Choose the engine and check the memory before anything is trained, where several members are to be."""
        peak = self.phases.planned.peak * len(self.seeds)
        if peak == 1:
            return
        batch = self.columns.prepared(batch)
        logits_alone = self.compute_loss_func is None  # the user's loss may ask for more
        left_out = () if self.losses.alone else self.label_names
        self.engine_plan = choose_engine(
            self.population,
            {key: value for key, value in batch.items() if key not in (*left_out, LENGTHS)},
            alone=self.losses.alone,
            compute=lambda model, inputs: self.compute_loss(model, copied(inputs), return_outputs=True),
            engine=self.engine,
            at_a_time=self.at_a_time,
            peak=peak,
            rows=self.args.per_device_train_batch_size,
            longest=memory.most_tokens(self.train_dataset),
            padding=self.loading.padding,
            divisible=self.runs > 1 and logits_alone and self.loading.padding_side == "right",
        )

    def create_optimizer(self, *args: Any) -> Optimizer:
        """Over the parameters of the plain model, so that names decide on weight decay as ever; then over members."""
        if self.phases.optimizer is not None and self.optimizer is not None and self.model_init is None:
            return self.optimizer
        with self.population.plain() as plain:
            try:
                self.model = plain  # what Trainer takes the parameters and names from
                optimizer = super().create_optimizer(*args)
                self.phases.take(optimizer, plain, scheduled=self.lr_scheduler is not None)
            finally:
                self.model = self.population.module
        self.phases.follow(None)
        return optimizer

    def create_accelerator_and_postprocess(self) -> None:
        """Never wrap the population in DDP (swapped parameters would stop syncing), and clip each member by itself."""
        super().create_accelerator_and_postprocess()

        def logs_norm() -> bool:
            every = self.state.logging_steps or 0
            return bool(every) and not (self.state.global_step + 1) % every

        adapt(self.accelerator, lambda: self.population.views, logs_norm, lambda loss: self.parts.weigh(loss))

    def _rows(self, inputs: Any) -> tuple[dict[str, Any], Tensor | None]:
        """The rows of a batch that the step under way trains on; T that each run's, or lane's, would have alone."""
        inputs, lanes = self.columns.prepared(inputs), lanes_of(self.schedule)
        lengths = inputs.pop(LENGTHS, None)
        if lanes > 1:
            of_each = self.population.members if self.phases.own_orders(self.state.global_step) else 1
            inputs, lengths = self.loading.choose(inputs, lengths, self.runs, lanes, of_each)
        return inputs, lengths

    def _count(self, batch: Any) -> Tensor:
        """How much a part of a batch counts, for each group of rows."""
        inputs, lengths = self._rows(batch)
        groups = [self.loading.rows_of(inputs, lengths, at) for at in range(1 if lengths is None else len(lengths))]
        labels = [self.ballots.labels_of(dict(rows)) for rows in groups]
        tasks = [partial(self.ballots.find_task, own) for own in labels]
        return torch.stack([self.losses.counts(*each) for each in zip(groups, labels, tasks, strict=True)])

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Forward and backward of all members, chunk by chunk; returns what is added to the mean of their losses."""
        population, module, step = self.population, self.population.module, super().training_step
        rows_of_all, lengths = self._rows(inputs)
        alive, self.current_gradient_accumulation_steps = self.phases.alive, 1  # parts are weighed by their rows
        module.train()
        with self.parts.under_way(inputs, self._count):
            if self.losses.alone:
                total = self.alone.train(step, rows_of_all, lengths, self.state.global_step)
            else:
                total = torch.zeros((), device=self.args.device)
                for chunk in module.chunks:
                    module.focus(chunk)
                    rows = module.fold(rows_of_all, groups=1 if lengths is None else len(lengths))
                    if lengths is not None:
                        rows["lengths"], rows["padding_side"] = lengths.tolist(), self.loading.padding_side
                    total = total + step(model, rows, num_items_in_batch)
        if self.accelerator.sync_gradients:
            module.collect()
            scaler = getattr(self.accelerator, "scaler", None)
            population.loss_scale = scaler.get_scale() if scaler is not None else 1.0
            self.phases.end_passes(self.args.world_size, self.args.device)
        return total / max(alive, 1)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of a plain model as Trainer computes it; of the population that of the members in focus.

        A subclass that overrides it gets one member as a plain model, and its rows.

        Args:
            model: a plain model, or the population's module: the sum over members of each member's mean loss.
            inputs: with labels; for the population folded.
        """
        if self.accelerator.unwrap_model(model) is not self.population.module:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        inputs = dict(inputs)
        labels = self.ballots.labels_of(inputs)
        if labels is None:
            raise SettingError(f"training needs labels: the batch has none of {', '.join(self.label_names)}")
        outputs = model(**inputs)
        focus, size = self.population.module.in_focus, self.population.size
        task = partial(self.ballots.task_for, labels, outputs)
        losses = self.losses.of_members(outputs, labels, len(focus), task, num_items_in_batch is not None)
        loss = self.phases.total(self.parts.shared(losses, focus, size), self.state.global_step)
        return (loss, outputs) if return_outputs else loss

    def compute_loss_context_manager(self) -> ExitStack:
        """As Trainer's; a member that is computed alone draws its own dropout masks."""
        contexts = super().compute_loss_context_manager()
        contexts.enter_context(self.population.module.drawing())
        return contexts

    def log(self, logs: dict[str, float], *args: Any, **options: Any) -> None:
        """As `Trainer.log`; with the members' mean training loss: which phase, how many members, how different."""
        if "loss" in logs and self.schedule is not None:
            logs |= self.phases.position(self.state.global_step)
        super().log(logs, *args, **options)

    # ---- predicting ------------------------------------------------------------------------------------------------

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """The vote: its loss, what it predicts `(B, C)`, the labels.

        Of tokens: `(B, T, C)`; `(B, T, R, C)` of several seeds and `(B, T, M, C)` of members: Trainer pads dim 1.
        """
        predicted, packed = self._predicted(model, inputs, prediction_loss_only, ignore_keys)
        loss, outputs, labels = self.ballots.step(predicted, packed)
        return (loss, None, None) if prediction_loss_only else (loss, outputs, labels)

    def _predicted(
        self, model: nn.Module, inputs: Any, loss_only: bool = False, ignore_keys: list[str] | None = None
    ) -> tuple[voting.Predicted, bool]:
        """What members predict of a batch, and whether each run has its own rows."""
        inputs = self.columns.prepared(inputs)
        lengths, step = inputs.pop(LENGTHS, None), super().prediction_step
        self.losses.look(self.population, inputs)
        if self.losses.alone:
            steps = self.alone.predict(lambda plain, rows: step(plain, rows, loss_only, ignore_keys), inputs, lengths)
            return self.ballots.combine_alone(steps, lengths is not None), lengths is not None
        groups, wanted = 1 if lengths is None else len(lengths), self.losses.function is not None
        return self.ballots.predict(model, inputs, groups, ignore_keys, wanted), lengths is not None

    def evaluation_loop(self, *args: Any, **options: Any) -> EvalLoopOutput:
        """As `Trainer.evaluation_loop`, of the members."""
        with self.shown.computing():
            return super().evaluation_loop(*args, **options)

    def evaluate(self, *args: Any, **options: Any) -> dict[str, float]:
        """As `Trainer.evaluate`, by the vote of the members."""
        few = voting.few_rows(self.args, self.population.size)
        with self.globals.used(), self.strategy.predicting(self.population), few:
            return super().evaluate(*args, **options)

    def predict(self, *args: Any, **options: Any) -> PredictionOutput:
        """As `Trainer.predict`, by the vote of the members."""
        with self.strategy.predicting(self.population):
            return self._predict(*args, **options)

    def predict_members(self, dataset: Any) -> np.ndarray:
        """Each member's predictions: `(N, M, C)` log probabilities; log odds of several labels; numbers for regression.

        Log probabilities of tokens: `(N, M, T, C)`, padded with -100.
        """
        with self.strategy.predicting(self.population):
            return np.asarray(self._predict(dataset, metric_key_prefix="members", of_members=True).predictions)

    def predict_merged(self, dataset: Any) -> np.ndarray:
        """What the mean of each run's members predicts, as one model: `(N, R, C)`, as `predict_members` has it.

        For a population whose training has ended: no optimizer follows.
        """
        with self.strategy.predicting(self.population), self.population.merged():
            return np.asarray(self._predict(dataset, metric_key_prefix="members", of_members=True).predictions)

    def _predict(self, *args: Any, of_members: bool = False, **options: Any) -> PredictionOutput:
        """What the population predicts as it is now; without metrics where it is each member that is asked."""
        users = self.compute_metrics, self.preprocess_logits_for_metrics
        self.compute_metrics, self.preprocess_logits_for_metrics = (None, None) if of_members else users
        few = voting.few_rows(self.args, self.population.size)
        try:
            with self.globals.used(), few, self.ballots.asking_members(of_members):
                output = super().predict(*args, **options)
        finally:
            self.compute_metrics, self.preprocess_logits_for_metrics = users
        return voting.tokens_last(output) if self.ballots.of_words else output

    def _monitor(self) -> ForkMonitor:
        """The monitor that compares the members of this training run."""

        def texts() -> tuple[Kind, dict[str, Any] | None]:
            wanted = self.phases.planned.steps * self.args.train_batch_size // 100
            sets: dict[Kind, Any] = {"evaluation": self.eval_dataset, "training": self.train_dataset}
            return texts_to_compare(self.loading, sets, wanted)

        def predict(batch: dict[str, Any]) -> voting.Predicted:
            return self._predicted(self.shown.computed, batch, self.ballots.task_if_known() is None)[0]

        def task() -> Task | None:
            return self.ballots.task_if_known()

        return ForkMonitor(self.strategy.runs, texts, predict, task, self.log)

    def _labeled_outputs(self, run: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Predictions of a run's model for its labeled examples, see `Strategy.start`."""
        dataset = self.sets.train_of(run // self.strategy.runs, self.train_dataset)
        batches = all_batches(self.loading, dataset, self.args, self.strategy.name)
        return labeled_outputs(self.population, run, batches, self.ballots.shown_labels_of, self.accelerator.autocast)

    # ---- data ------------------------------------------------------------------------------------------------------

    def _get_train_sampler(self, *args: Any, **options: Any) -> Any:
        """Our order where Trainer would draw one from the global generator."""
        theirs = super()._get_train_sampler(*args, **options)
        if not isinstance(theirs, RandomSampler | LengthGroupedSampler):
            return theirs
        rows = len(theirs)
        self.phases.order = SampleOrder(rows, self.population.sources[:1], draws=[draw_of(theirs, rows)])
        return self.phases.order

    def get_train_dataloader(self) -> DataLoader:
        """One row of each run, or of each lane, side by side where there are several."""
        lanes = lanes_of(self.schedule)
        if self.runs * lanes == 1:
            return super().get_train_dataloader()
        if self.train_dataset is None:
            raise SettingError("training needs a train_dataset")
        if overridden(type(self), PopulationTrainer, "_get_train_sampler"):
            raise SettingError(
                "a _get_train_sampler of your own orders the rows of one run: not of several, nor of copies with their "
                "own order"
            )

        def order(rows: int) -> SampleOrder:
            sets = self.sets.train or [self.train_dataset] * len(self.seeds)
            samplers = [super(PopulationTrainer, self)._get_train_sampler(each) for each in sets]
            draws = [draw_of(each, rows) for each in samplers for _ in range(self.strategy.runs)]
            self.phases.order = SampleOrder(rows, self.population.sources, lanes, draws)
            return self.phases.order

        rows = self.columns.train_batch_size
        return self.accelerator.prepare(self.loading.packed("train", self.train_dataset, order, self.args, rows, lanes))

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """One row of each run side by side where each has its own evaluation set."""
        is_own_set = eval_dataset is None or eval_dataset is self.eval_dataset  # Trainer names its own set explicitly
        is_own_set = is_own_set and self.sets.eval is not None and self.eval_dataset is self.sets.eval[0]
        if is_own_set and len(self.seeds) > 1:
            rows, order = self.args.eval_batch_size, partial(InOrder, runs=self.runs)
            return self.accelerator.prepare(self.loading.packed("eval", self.eval_dataset, order, self.args, rows))
        return super().get_eval_dataloader(eval_dataset)

    # ---- files -----------------------------------------------------------------------------------------------------

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the population as an artifact that `deni.load` reads; as Trainer does where predictions have no vote.

        Args:
            output_dir: default: `args.output_dir`, as with Trainer. An artifact that is there is replaced, and any
                other file is left alone.
        """
        if _internal_call:  # a checkpoint
            super().save_model(output_dir, _internal_call=True)
        elif self.args.should_save:
            self._save_artifact(output_dir or folder_of(self.args))

    def _save_artifact(self, folder: str) -> bool:
        """Write an artifact; or, and then False, the plain model, of which there is none."""
        from deni.artifact import describe

        task, tokenizer = self.ballots.task_if_known(), tokenizer_of(self)
        if task is not None:
            about = partial(describe, self, **self.reads)
            self.artifacts.save(folder, self.population, tokenizer, self.strategy, task.name, about)
        else:
            weights.write(weights.one_model(self.population, self.strategy), tokenizer, folder)
            torch.save(self.args, os.path.join(folder, TRAINING_ARGS_NAME))
        save_processor(self, folder)
        return task is not None

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        if not self.args.should_save:
            return
        folder = output_dir or folder_of(self.args)
        alone = self.population.runs > 1 and self.ballots.task_if_known() is None  # neither an artifact nor one model
        predicts = not alone and self._save_artifact(folder)
        os.makedirs(folder, exist_ok=True)
        torch.save(self.args, os.path.join(folder, TRAINING_ARGS_NAME))
        if self.schedule is None:  # no training that could go on from here
            return
        extra = {
            "origin": self.origin,
            "before_fork": before_fork(self.origin, self.phases, self.state.global_step),
            "step": self.state.global_step,
            **self.phases.state(),
        }
        checkpoint.save(self.population, folder, extra, self.strategy if predicts else None)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if self.args.should_save and self.args.hub_strategy != HubStrategy.END:
            self._save_artifact(folder_of(self.args))  # Trainer copies files of its own names
        super()._push_from_checkpoint(checkpoint_folder)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        checkpoint.save_randomness(self.population, output_dir, self.args.process_index)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        checkpoint.check(resume_from_checkpoint, self.origin, partial(before_fork, self.origin, self.phases))
        weights.read_shared(self.population, resume_from_checkpoint)
        state = checkpoint.load(self.population, resume_from_checkpoint, self.args.process_index)
        self.phases.resume(state)

    def _load_best_model(self) -> None:
        logger.info(f"Loading the population of {self.state.best_model_checkpoint} ({self.state.best_metric}).")
        weights.read_shared(self.population, str(self.state.best_model_checkpoint))
        checkpoint.load(self.population, str(self.state.best_model_checkpoint), self.args.process_index)
        self.phases.best_loaded()

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with readable_states(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)
        if self.phases.optimizer is not None:
            self.phases.optimizer.check()
