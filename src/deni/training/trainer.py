"""`PopulationTrainer`: transformers' Trainer that walks a schedule of members.

It holds what Trainer demands of a subclass. What happens when is in `deni.training.phases`.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from functools import partial
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, RandomSampler
from transformers import Trainer, TrainingArguments
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.trainer_utils import EvalLoopOutput, HubStrategy, PredictionOutput, TrainOutput

from deni.models.architectures import has_adapter
from deni.population import Population
from deni.randomness import OwnGlobals, global_generators
from deni.schedule import Schedule
from deni.strategies import Strategy
from deni.strategies.default import Default
from deni.tasks import find_task
from deni.training import checkpoint, weights
from deni.training.alone import Alone
from deni.training.arguments import check_arguments, check_devices, check_metrics, check_options
from deni.training.ballots import Ballots
from deni.training.batches import LENGTHS, SampleOrder, draw_of
from deni.training.checkpoint import readable_states
from deni.training.checkpoint_writing import Checkpoints
from deni.training.compat import (
    Columns,
    adapt,
    any_init,
    folder_of,
    own_arguments,
    plain_model,
    tokenizer_of,
)
from deni.training.dataloading import Loading, check_order, lanes_of, taking_steps, total_steps
from deni.training.engine_choice import EnginePlan, engine_for
from deni.training.evaluation import few_rows, scores_by
from deni.training.events import Events
from deni.training.failures import Failures
from deni.training.features import LabeledOutputs
from deni.training.final_model import MemberModels, ShownModel, show_trained
from deni.training.fork_monitor import monitor_of
from deni.training.fork_records import Diagnostics
from deni.training.given import Given, check_targets, follow_changes, take_seeds
from deni.training.heads import without_vote
from deni.training.losses import Losses, Parts
from deni.training.overrides import overridden
from deni.training.phases import Phases
from deni.training.pushing import push_trained
from deni.training.runs import FreshModels, RunSeeds, RunSettings, populate
from deni.training.saving import Artifacts, before_fork, cut_at, origin_of, save_checkpoint, save_trained
from deni.training.seed_metrics import follow_seeds
from deni.training.soft_labels import COLUMNS
from deni.training.steps import Steps
from deni.training.task import TrainingTask
from deni.training.vocabulary import active_ids_of
from deni.training.voting import Voting, tokens_last

logger = logging.getLogger(__name__)


class PopulationTrainer(Trainer):
    """Train a population of members in place of one model; everything else is as in `transformers.Trainer`.

    Predictions and metrics are the vote of the members `(N, C)`, also during training: log probabilities; log odds
    where a text has several labels (above 0: it has the label); numbers for regression. A model for token
    classification has `(N, T, C)`: each token is voted on, and shorter texts are padded with -100, as Trainer does.

    The loss reads two more columns of a training set, `soft_labels` and `sample_weight`: `deni.training.soft_labels`.

    Args:
        model, args, *positional, **options: as `transformers.Trainer` takes them. Several runs (an ensemble, several
            seeds) need `model_init` in place of `model`; it is called once for each.
        strategy: who trains when; plain fine-tuning by default.
        engine: `stacked`, `loop`, or `auto`: stacked where that is exact for this model, else loop.
        seeds: one run for each seed, trained in lock-step; default `[args.seed]`. With several seeds predictions are
            `(N, R, C)` or `(N, R, T, C)`, `compute_metrics` is called for each seed, and the means are reported;
            `train_dataset` and `eval_dataset` may be lists with one dataset for each.
        at_a_time: how many members one forward pass computes; default: by memory, see `deni.engine.memory`.
        active_vocabulary: train only the embedding rows of tokens in the training set, where that is exact; False
            switches it off.
        class_weights: weight of each class in the loss, `(C,)`.
        run_settings: for each seed what else its run has of its own, see `deni.training.runs.RunSettings`.
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
        engine_plan: how members are computed; None before it is decided.
        active_ids: the token ids whose embeddings train; None for all.

    Raises:
        SettingError: several runs without `model_init`, several GPUs in one process (`nn.DataParallel`), phases that do
            not fit the number of steps (at `train`).
    """

    population: Population
    run_seeds: RunSeeds
    runs: int
    seeds: list[int]
    source_seeds: dict[str, int]
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
        run_settings: Sequence[RunSettings] = (),
        source_seeds: Mapping[str, int] | None = None,
        origin: Mapping[str, Any] | None = None,
        task: str | None = None,
        max_length: int | None = None,
        model_init: Callable[..., nn.Module] | None = None,
        **options: Any,
    ) -> None:
        self.strategy, self.shown, self.artifacts = strategy or Default(), ShownModel(), Artifacts()
        self.engine, self.at_a_time, self.class_weights = engine, at_a_time, class_weights
        self.task, self.wants_active = None if task is None else find_task(task), active_vocabulary
        options.update(zip(list(inspect.signature(Trainer.__init__).parameters)[3:], positional, strict=False))
        model_init = options.pop("model_init", None) or model_init
        args = self.own_args = own_arguments(args or TrainingArguments("tmp_trainer"), self.strategy.arguments())
        runs = len(seeds or [0]) * self.strategy.runs
        check_options(engine, runs, model, model_init)
        check_arguments(args, self.strategy, runs)
        self.requested = Given(self.strategy, seeds, source_seeds, options, run_settings)
        self.origin = {**(origin or {}), **({"task": task} if task else {})}
        take_seeds(self, self.requested.run_seeds(args))
        _, self.sets, placed = self.requested.place(args)
        options |= placed
        check_metrics(args, len(self.seeds), self.sets.eval is not None)
        self.fresh = FreshModels(self.run_seeds, self.strategy, partial(Trainer.call_model_init, self), run_settings)
        self.globals, self.model_init = OwnGlobals(), any_init(model_init)
        with self.globals.used():  # seeded by Trainer; collators that mask at random and NEFTune draw from them
            self.given = base = self.fresh.given(model) if model_init is None else self.fresh.of(0)
            self.strategy = self.strategy.for_tuning(base is not None and has_adapter(base))
            self.origin |= origin_of(self.strategy, self.strategy.settings())
            super().__init__(base, args, **options)
        with global_generators():
            check_devices(self.args)
            self.columns = Columns(self)
            if not self.label_names and not self.can_return_loss:
                self.label_names = ["labels"]  # of a forward pass that takes none: they are for the loss alone
            self.parts, self.losses = Parts(), Losses(self, PopulationTrainer, class_weights, self.task)
            self.model_init = any_init(model_init)
            self.active_ids = active_ids_of(self)
            outputs = LabeledOutputs(self)
            self.phases = Phases(self.strategy, self.runs, partial(monitor_of, self), outputs, run_settings)
            self.model = self.model_wrapped = populate(self, plain_model(self))
            self._compose()
        self.reads: dict[str, Any] = {
            "max_length": max_length or cut_at(self.processing_class, self.sets.all_train(self.train_dataset))
        }

    def _compose(self) -> None:
        """Make what loads rows, computes members and collects what they predict."""
        task = TrainingTask(self.losses)
        known, config = task.known(), getattr(self.population.model, "config", None)
        whole = () if known is None or known.by_token else (*self.label_names, *COLUMNS)
        self.loading = Loading(self.columns, self.sets, self.run_seeds, self.processing_class, config, whole)
        alone = Alone(self.phases, self.loading, self.losses, self.parts, lambda: self.accelerator)
        context, step = self.compute_loss_context_manager, super().prediction_step
        self.ballots = Ballots(self.phases, self.label_names, self.losses, alone, task, context, step)
        self.voting = Voting(self.ballots, self.run_seeds)
        self.steps = Steps(self.ballots, self.columns, self.loading, self.parts)
        follow_seeds(self, lambda: task.by_token)
        self.checkpoints = Checkpoints(self, self.artifacts.moved)
        self.callback_handler = Events(self.callback_handler, self.phases, self.checkpoints)

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
        return self.voting.voters

    # ---- training --------------------------------------------------------------------------------------------------

    def call_model_init(self, trial: Any = None) -> nn.Module:
        """A fresh population, each run with its own initialization; Trainer calls it at the start of `train`."""
        return populate(self, self.fresh.of(0, trial).to(self.args.device), trial)

    def train(self, *args: Any, **options: Any) -> TrainOutput:
        """As `Trainer.train`; the global generators stay as they were.

        `resume_from_checkpoint` is a checkpoint, a folder with checkpoints, or True for the trainer's own: of a folder
        the newest whole one, see `deni.training.manifest`.
        """
        resumes = args[0] if args else options.pop("resume_from_checkpoint", None)
        trial = args[1] if len(args) > 1 else options.get("trial")
        if self.population.members > 1 and self.model_init is None and not resumes:
            raise RuntimeError("this trainer has trained already: make a new one, or give it `model_init`")
        self.model = self.shown.computed
        with self.globals.used(), self.phases.walking():
            with global_generators():
                self._hp_search_setup(trial)  # Trainer does it later, but plan and model follow from it
                follow_changes(self)
                check_targets(self)
                self._plan()
                if (task := self.ballots.task.known()) is not None and self.population.alike:
                    self.artifacts.check(self.population, tokenizer_of(self), task.name)
                if resumes:
                    args = (self.checkpoints.to_resume(resumes), *args[1:])
            with taking_steps(self.args, self.phases.planned.steps if self.strategy.run_length < 1 else None):
                output = super().train(*args, **options)
        score = scores_by(self.evaluate, lambda: self.population, self.args)
        self.phases.finish(self.state.global_step, len(self.seeds), score if self.eval_dataset is not None else None)
        given = self.given if self.model_init is None else None
        show_trained(self.shown, self.population, self.voting, given, self.state.global_step)
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
            self.ballots.task.find()  # refuses what an evaluation would ask for in the middle of the training

    def get_batch_samples(self, *args: Any, **options: Any) -> Any:
        """As Trainer's; the first batch decides about the engine, when all hooks on the model are there.

        What comes for one optimizer step is one batch, in however many parts.
        """
        batches, items = super().get_batch_samples(*args, **options)
        if batches and self.engine_plan is None:
            self.losses.look(self.population, self.columns.prepared(batches[0]))
            self.engine_plan = engine_for(self, batches[0])
        self.parts.begin(batches)
        return batches, items

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
        adapt(self)

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Forward and backward of all members, chunk by chunk; returns what is added to the mean of their losses."""
        self.current_gradient_accumulation_steps = 1  # parts are weighed by their rows
        loss = self.steps.train(super().training_step, model, inputs, num_items_in_batch)
        if self.accelerator.sync_gradients:
            self.population.module.collect()
            scaler = getattr(self.accelerator, "scaler", None)
            self.population.loss_scale = scaler.get_scale() if scaler is not None else 1.0
            self.phases.end_passes(self.args.world_size, self.args.device)
        return loss

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
        loss, outputs = self.steps.loss(model, dict(inputs), num_items_in_batch is not None)
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
        inputs = self.columns.prepared(inputs)
        lengths = inputs.pop(LENGTHS, None)
        predicted = self.ballots.collect(model, inputs, lengths, prediction_loss_only, ignore_keys)
        loss, outputs, labels = self.voting.step(predicted, packed=lengths is not None)
        return (loss, None, None) if prediction_loss_only else (loss, outputs, labels)

    def evaluation_loop(self, *args: Any, **options: Any) -> EvalLoopOutput:
        """As `Trainer.evaluation_loop`, of the members."""
        with self.shown.computing():
            return super().evaluation_loop(*args, **options)

    def evaluate(self, *args: Any, **options: Any) -> dict[str, float]:
        """As `Trainer.evaluate`, by the vote of the members."""
        few = few_rows(self.args, self.population.size)
        with self.globals.used(), self.strategy.predicting(self.population), few:
            return super().evaluate(*args, **options)

    def predict(self, *args: Any, **options: Any) -> PredictionOutput:
        """As `Trainer.predict`, by the vote of the members."""
        return self._predict(*args, **options)

    def predict_members(self, dataset: Any) -> np.ndarray:
        """Each member's predictions: `(N, M, C)` log probabilities; log odds of several labels; numbers for regression.

        Log probabilities of tokens: `(N, M, T, C)`, padded with -100.
        """
        return np.asarray(self._predict(dataset, metric_key_prefix="members", asked="members").predictions)

    def predict_merged(self, dataset: Any) -> np.ndarray:
        """What the mean of each run's members predicts, as one model: `(N, R, C)`, as `predict_members` has it.

        For a population whose training has ended: no optimizer follows.
        """
        return np.asarray(self._predict(dataset, metric_key_prefix="members", asked="merged").predictions)

    def _predict(
        self, *args: Any, asked: Literal["vote", "members", "merged"] = "vote", **options: Any
    ) -> PredictionOutput:
        """What the population predicts as it is now; without metrics where it is not the vote that is asked for."""
        users, one_by_one = (self.compute_metrics, self.preprocess_logits_for_metrics), asked != "vote"
        self.compute_metrics, self.preprocess_logits_for_metrics = (None, None) if one_by_one else users
        merged = self.population.merged() if asked == "merged" else nullcontext()
        try:
            with self.strategy.predicting(self.population), merged, self.globals.used():
                with few_rows(self.args, self.population.size), self.voting.asking_members(one_by_one):
                    output = super().predict(*args, **options)
        finally:
            self.compute_metrics, self.preprocess_logits_for_metrics = users
        return tokens_last(output) if self.ballots.task.by_token else output

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
            with self.columns.keeping_soft():
                return super().get_train_dataloader()
        check_order(overridden(type(self), PopulationTrainer, "_get_train_sampler"))
        sampler, sources = super()._get_train_sampler, self.population.sources
        self.phases.order, loader = self.loading.train(self.train_dataset, sampler, sources, self.args, lanes)
        return self.accelerator.prepare(loader)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """One row of each run side by side where each has its own evaluation set."""
        loader = self.loading.eval(eval_dataset, self.eval_dataset, self.args)
        return super().get_eval_dataloader(eval_dataset) if loader is None else self.accelerator.prepare(loader)

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
            save_trained(self, output_dir or folder_of(self.args), kept=True)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        if self.args.should_save:
            save_checkpoint(self, output_dir or folder_of(self.args))

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self.checkpoints.save(partial(super()._save_checkpoint, model, trial), trial)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if self.args.should_save and self.args.hub_strategy != HubStrategy.END:
            save_trained(self, folder_of(self.args))  # Trainer copies files of its own names
        super()._push_from_checkpoint(checkpoint_folder)

    def push_to_hub(self, *args: Any, **options: Any) -> Any:
        """Push the artifact with a model card, see `deni.training.pushing`; as Trainer if predictions have no vote."""
        push = partial(push_trained, self) if self.ballots.task.known() else super().push_to_hub
        return push(*args, **options)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        checkpoint.save_randomness(self.population, output_dir, self.args.process_index)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        checkpoint.check(resume_from_checkpoint, self.origin, partial(before_fork, self.origin, self.phases))
        weights.read_shared(self.population, resume_from_checkpoint)
        state = checkpoint.load(self.population, resume_from_checkpoint, self.args.process_index)
        self.phases.resume(state)

    def _load_best_model(self) -> None:
        best = self.checkpoints.best()
        if best is None:
            return
        logger.info(f"Loading the population of {best} ({self.state.best_metric}).")
        weights.read_shared(self.population, best)
        checkpoint.load(self.population, best, self.args.process_index)
        self.phases.best_loaded()
        self.checkpoints.keep_best()

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with readable_states(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)
        if self.phases.optimizer is not None:
            self.phases.optimizer.check()
