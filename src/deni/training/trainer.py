"""`PopulationTrainer`: transformers' Trainer that walks a schedule of members."""

from __future__ import annotations

import copy
import inspect
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import TrainOutput
from transformers.utils.generic import find_labels

from deni.engine import memory, passes
from deni.engine.active_tokens import activate, moves_own_rows_only, token_ids
from deni.engine.fold import trainable_slots
from deni.engine.optimizer import MemberOptimizer, clip_members, groups_by_rate, share_gradients
from deni.population import Population
from deni.randomness import Sources, derive, global_generators
from deni.schedule import Phase
from deni.strategies import Setup, Strategy
from deni.strategies.default import Default
from deni.tasks import find_task
from deni.training.batches import LENGTHS, SampleOrder
from deni.training.compat import renamed
from deni.training.engine_choice import why_loop
from deni.training.failures import Failures
from deni.training.features import answers
from deni.training.fork_monitor import Comparison
from deni.training.saving import SavingTrainer
from deni.training.voting import MeanOverSeeds
from deni.tuning.lora import mean_of_products

logger = logging.getLogger(__name__)


class PopulationTrainer(SavingTrainer):
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

    Raises:
        ValueError: several runs without `model_init`, several GPUs in one process (`nn.DataParallel`), phases that do
            not fit the number of steps (at `train`).
    """

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
        model_init: Callable[..., nn.Module] | None = None,
        **options: Any,
    ) -> None:
        if engine not in ("auto", "stacked", "loop"):
            raise ValueError(f"unknown engine {engine!r}: choose auto, stacked or loop")
        self.strategy = strategy or Default()
        self.engine, self.at_a_time = engine, at_a_time
        self.class_weights = class_weights
        self.task = None if task is None else find_task(task)
        options.update(zip(list(inspect.signature(Trainer.__init__).parameters)[3:], positional, strict=False))
        model_init = options.pop("model_init", None) or model_init
        self.origin = {**(origin or {}), **self._told(self.strategy.settings())}
        self.source_seeds = dict(source_seeds or {})
        args = copy.copy(args) if args is not None else TrainingArguments("tmp_trainer")
        for name, value in renamed(self.strategy.arguments()).items():
            setattr(args, name, value)
        args.logging_nan_inf_filter = False  # it would hide a NaN, see `_check_losses`
        if class_weights is not None and (args.label_smoothing_factor or options.get("compute_loss_func")):
            raise ValueError("class_weights cannot be combined with label smoothing or compute_loss_func: choose one")
        if args.auto_find_batch_size:
            raise ValueError("auto_find_batch_size cannot be used: memory is checked before the first step instead")
        self.seeds = [args.seed] if seeds is None else [int(seed) for seed in seeds]
        if len(set(self.seeds)) != len(self.seeds) or not self.seeds:
            raise ValueError(f"seeds must be distinct and at least one, not {self.seeds}")
        self.origin |= {"seeds": self.seeds, "source_seeds": self.source_seeds, **({"task": task} if task else {})}
        if self.runs > 1 and model_init is None:
            raise ValueError(f"{self.runs} runs need `model_init`, which makes the model of each, not `model`")
        if model_init is not None and model is not None:
            raise ValueError("give either `model` or `model_init`, not both")
        self._sets = {"train": options.get("train_dataset"), "eval": options.get("eval_dataset")}
        for name, given in self._sets.items():
            if isinstance(given, list) and given and not isinstance(given[0], Mapping):
                if len(given) != len(self.seeds):
                    raise ValueError(
                        f"{name}_dataset is a list of {len(given)}, not one for each of {len(self.seeds)} seeds"
                    )
                options[f"{name}_dataset"] = given[0]
            else:
                self._sets[name] = None  # one for all
        self._prepare_sets(args, options)
        self._vocabulary: Tensor | None = None
        self.failures = Failures()
        self._comparison = Comparison(self)
        self.member_steps = 0
        self._best_is_loaded = False
        self.schedule = None
        self._order: SampleOrder | None = None
        self._optimizer_of_members: MemberOptimizer | None = None
        self._why_loop: str | None = None  # None: not probed yet
        self._by_length = False  # whether rows of like length are computed in passes of their own
        self._around_step = ExitStack()  # what the strategy does around the passes of the step under way
        with global_generators():
            if model_init is not None:
                base: nn.Module | None = self._initialised(model_init, 0)
            else:
                torch.manual_seed(self._sources_of(0).seeds["initialisation"])
                base = model if model is None else self.strategy.prepare_model(model)
            super().__init__(base, args, **options)
            if self.args.n_gpu > 1:
                raise ValueError(
                    "nn.DataParallel cannot train a population: start one process a GPU with `accelerate launch`, "
                    "or set CUDA_VISIBLE_DEVICES to one GPU"
                )
            self._set_signature_columns_if_needed()
            self.label_names = self.args.label_names or find_labels(_unwrapped(self.model).__class__) or ["labels"]
            self.model_accepts_loss_kwargs = False  # the model gets no labels; the loss is computed for each member
            if active_vocabulary:
                self._vocabulary = self._active_ids()
            self.model_init = model_init
            self.model = self.model_wrapped = self._populate(self.model)
        if len(self.seeds) > 1 and self.compute_metrics is not None:
            self.compute_metrics = MeanOverSeeds(self.compute_metrics)
        self.add_callback(_Walk(self))

    # ---- the population --------------------------------------------------------------------------------------------

    def _sources_of(self, run: int, device: torch.device | str = "cpu", rank: int = 0) -> Sources:
        """The randomness of a run: the user's seeds for the first run of a model, derived ones in an ensemble's rest.

        Processes of one training share all sources but dropout: they see different rows.
        """
        seed, member = self.seeds[run // self.strategy.runs], run % self.strategy.runs
        seeds = {"": seed, **self.source_seeds}
        if member:
            seeds = {name: derive(each, "ensemble", member) for name, each in seeds.items()}
        if rank:
            seeds["dropout"] = derive(seeds.get("dropout", seeds[""]), "rank", rank)
        return Sources(seeds.pop(""), device, seeds)

    def _initialised(self, model_init: Callable[..., nn.Module], run: int, trial: Any = None) -> nn.Module:
        with global_generators(self._sources_of(run).seeds["initialisation"]):
            self.model_init = model_init
            return self.strategy.prepare_model(Trainer.call_model_init(self, trial))

    def _prepare_sets(self, args: TrainingArguments, options: dict[str, Any]) -> None:
        """Let the strategy change the training set of each seed."""
        given = self._sets["train"] or [options.get("train_dataset")] * len(self.seeds)
        evaluates = not isinstance(options.get("eval_dataset"), dict | None)  # of several sets none decides
        tokenizer = options.get("processing_class")
        prepared = [
            self.strategy.prepare(Setup(args, each, tokenizer, self._sources_of(run), evaluates, self.runs)).train
            for run, each in zip(range(0, self.runs, self.strategy.runs), given, strict=True)
        ]
        if any(before is not after for before, after in zip(given, prepared, strict=True)):
            options["train_dataset"] = prepared[0]
            self._sets["train"] = prepared if len(self.seeds) > 1 else None

    def _populate(self, model: nn.Module, trial: Any = None) -> nn.Module:
        """The population whose run 0 starts as `model`."""
        _activate(model, self._vocabulary)
        initial = []
        for run in range(1, self.runs):
            assert self.model_init is not None
            other = self._initialised(self.model_init, run, trial)
            _activate(other, self._vocabulary)
            slots = trainable_slots(other)
            initial.append({name: places[0][0]._parameters[places[0][1]].detach() for name, places in slots.items()})  # type: ignore[union-attr]
        engine: Literal["loop", "stacked"] = "stacked" if self._why_loop == "" else "loop"
        rank, device = self.args.process_index, self.args.device
        sources = [self._sources_of(run, device, rank) for run in range(self.runs)]
        self.population = Population(model, sources, engine, initial, self.at_a_time)
        if self._by_length:
            self.population.module.compute = passes.by_length
        return self.population.module

    def call_model_init(self, trial: Any = None) -> nn.Module:
        """A fresh population, each run with its own initialisation; Trainer calls it at the start of `train`."""
        assert self.model_init is not None
        model = self._initialised(self.model_init, 0, trial)
        return self._populate(model.to(self.args.device), trial)

    def _active_ids(self) -> Tensor | None:
        """The token ids of all training texts, or None where training only their rows would not be exact."""
        exact = (
            moves_own_rows_only(self.args, self.data_collator)
            and self.optimizer is None
            and self.optimizer_cls_and_kwargs is None
            and self.strategy.scope != "trainable"
        )
        return token_ids(self._sets["train"] or [self.train_dataset]) if exact else None

    # ---- training --------------------------------------------------------------------------------------------------

    def train(self, *args: Any, **options: Any) -> TrainOutput:
        """As `Trainer.train`; the global generators stay as they were."""
        if (
            self.population.members > 1
            and self.model_init is None
            and not (args or options.get("resume_from_checkpoint"))
        ):
            raise RuntimeError("this trainer has trained already: make a new one, or give it `model_init`")
        self.failures, self.member_steps, self._best_is_loaded = Failures(), 0, False
        self._comparison = Comparison(self)
        with global_generators(), ExitStack() as self._around_step:
            self._plan()
            output = super().train(*args, **options)
        phase = self._schedule().at(self.state.global_step - 1)
        # The best population stays at the size at which it was evaluated.
        if phase.merge and self.population.members > 1 and not self._best_is_loaded:
            self._merge(phase, self.state.global_step)
        elif self.population.size > len(self.seeds):
            self._comparison.compare("vote" if self.strategy.votes else "merge", self.state.global_step)
        self.strategy.finish(self.population, self._score if self.eval_dataset is not None else None)
        self._follow(None)
        output.metrics["member_steps"] = self.member_steps
        output.metrics["failed_runs"] = len(self.failures)
        return output

    def _score(self, values: Mapping[str, Tensor]) -> float:
        """How good one member of these values is on the evaluation set; the population becomes that member."""
        self.population.replace({name: value.unsqueeze(0) for name, value in values.items()}, 1)
        name = self.args.metric_for_best_model or "loss"
        metrics = self.evaluate()
        value = metrics[name if name in metrics else f"eval_{name}"]
        greater = self.args.greater_is_better
        return value if (greater if greater is not None else not name.endswith("loss")) else -value

    def _plan(self) -> None:
        """Make the schedule, choose the engine and check the memory before anything is trained."""
        self.schedule = None  # which says how many orders of rows there are; here one is enough
        loader = self.get_train_dataloader()
        self.schedule = self.strategy.schedule(self._total_steps(loader))
        peak = self.schedule.peak * len(self.seeds)
        if peak == 1 or self._why_loop is not None:
            return
        batch = self._prepare_inputs(next(iter(loader)))
        inputs = {key: value for key, value in batch.items() if key not in (*self.label_names, LENGTHS)}
        with self.population.plain() as model:
            self._why_loop = why_loop(self.engine, model, inputs, self._padding())
            self._check_memory(model, inputs, peak)
        self.population.module.choose("stacked" if self._why_loop == "" else "loop", self.at_a_time)
        self._by_length = self._may_divide(inputs)
        if self._by_length:
            self.population.module.compute = passes.by_length

    def _may_divide(self, inputs: Mapping[str, Any]) -> bool:
        """Whether rows of like length are computed in passes of their own."""
        own_loss = self.compute_loss_func is not None  # may ask for more than logits
        if self.runs == 1 or self._why_loop != "" or own_loss or self._padding_side() != "right":
            return False
        return passes.gains(self.population.module, inputs, self.runs)

    def _check_memory(self, model: nn.Module, inputs: Mapping[str, Any], peak: int) -> None:
        rows = self.args.per_device_train_batch_size
        one_run = {key: value[:rows] if isinstance(value, Tensor) else value for key, value in inputs.items()}
        free = self._why_loop == "" and self.at_a_time is None
        fits = memory.at_a_time(model, one_run, memory.most_tokens(self.train_dataset), peak, self.args.device, free)
        self.at_a_time = fits if free else self.at_a_time

    def _total_steps(self, loader: DataLoader) -> int:
        if self.args.max_steps > 0:
            return self.args.max_steps
        # As Trainer counts: the last batches of an epoch make a step, also if they are fewer than the others.
        steps_per_epoch = max(1, math.ceil(len(loader) / self.args.gradient_accumulation_steps))
        return math.ceil(self.args.num_train_epochs * steps_per_epoch)

    def _begin(self, step: int) -> None:
        """Before the first optimiser step that is done here: a run that begins, not one that is resumed, is started."""
        if step == 0:
            self.population.kept.clear()
            self.strategy.start(self.population, partial(answers, self))

    def _begin_step(self, step: int) -> None:
        """Before optimiser step `step`, counted from 0."""
        self._walk(step)
        self._around_step.close()  # a step without a gradient, such as one that fp16 skipped, leaves it open
        self._around_step.enter_context(self.strategy.training(self.population, step, self._schedule().steps))

    def _walk(self, step: int) -> None:
        """Merge what the last phase left, fork what this one needs."""
        phase = self._schedule().at(step)
        if step != phase.start:
            return
        if self.population.members > 1:
            self._merge(self._schedule().at(step - 1), step)
        if phase.members > 1:
            self.population.fork(phase.members, phase.fork)
            self._follow(phase)
            self._comparison.compare("fork", step)

    def _merge(self, phase: Phase, step: int) -> None:
        self._comparison.compare("merge", step)
        if phase.fork.merge_optimizer == "mean" and self._optimizer_of_members is not None:
            self._optimizer_of_members.average(self.population.views, self.population.members)
        self.population.merge(mean_of_products if phase.fork.merge_lora == "product" else None)
        self._follow(None)

    def _follow(self, phase: Phase | None) -> None:
        if self._optimizer_of_members is not None:
            how = phase.fork if phase else None
            self._optimizer_of_members.point(self.population.views, self.population.members, how)
            self._optimizer_of_members.check()

    def create_optimizer(self, *args: Any) -> Optimizer:
        """Over the parameters of the plain model, so that names decide on weight decay as ever; then over members."""
        if self._optimizer_of_members is not None and self.optimizer is not None and self.model_init is None:
            return self.optimizer
        population = self.population
        with population.plain() as plain:
            try:
                self.model = plain  # what Trainer takes the parameters and names from
                optimizer = super().create_optimizer(*args)
                self._set_rates_by_name(optimizer, plain)
            finally:
                self.model = population.module
        names = {id(views[0]): name for name, views in population.views.items()}
        self._optimizer_of_members = MemberOptimizer(optimizer, names, sisters=self.lr_scheduler is None)
        self._optimizer_of_members.point(population.views, population.members)
        optimizer.register_step_pre_hook(self._before_optimizer)
        optimizer.register_step_post_hook(self._after_optimizer)
        return optimizer

    def _set_rates_by_name(self, optimizer: Optimizer, plain: nn.Module) -> None:
        groups = groups_by_rate(optimizer, plain, self.strategy.rate_of)
        if self.lr_scheduler is not None and len(groups) != len(optimizer.param_groups):
            raise ValueError(
                f"{self.strategy.name} has learning rates of its own for some parameters, which a given scheduler "
                "cannot follow: give an optimizer without a scheduler"
            )
        optimizer.param_groups[:] = groups

    def _before_optimizer(self, *_: Any) -> None:
        step, steps = self.state.global_step, self._schedule().steps
        phase = self._schedule().at(step)
        assert self._optimizer_of_members is not None
        constant = self.strategy.rate_at(step, steps)
        self._optimizer_of_members.set_rates(phase.fork, (step - phase.start) / phase.steps, constant)

    def _after_optimizer(self, *_: Any) -> None:
        assert self._optimizer_of_members is not None
        self._optimizer_of_members.restore_rates()

    def create_accelerator_and_postprocess(self) -> None:
        """Never wrap the population in DDP (swapped parameters would stop syncing), and clip each member by itself."""
        super().create_accelerator_and_postprocess()
        prepare = self.accelerator.prepare_model

        def prepare_model(model: nn.Module, *args: Any, **options: Any) -> nn.Module:
            return prepare(model, *args, **{**options, "evaluation_mode": True})

        self.accelerator.prepare_model = prepare_model  # type: ignore[method-assign]
        self.accelerator.clip_grad_norm_ = self._clip  # type: ignore[method-assign, assignment]

    def _clip(self, parameters: Any, max_norm: float, norm_type: float = 2) -> Tensor | None:
        """What Trainer calls before each optimiser step, in place of clipping the stack as one model."""
        if math.isinf(max_norm):  # to measure only, for the log
            every = self.state.logging_steps or 0
            if not every or (self.state.global_step + 1) % every:
                return None
        self.accelerator.unscale_gradients()
        return clip_members(self.population.views, max_norm)

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Forward and backward of all members, chunk by chunk; returns the mean of their losses."""
        population = self.population
        inputs = self._prepare_inputs(inputs)
        lengths = inputs.pop(LENGTHS, None)
        if self._lanes > 1:
            inputs, lengths = self._rows_of_lanes(inputs, lengths)
        alive = population.size - len(self._frozen()) * population.members
        total = torch.zeros((), device=self.args.device)
        for chunk in population.module.chunks:
            population.module.focus(chunk)
            rows = population.module.fold(inputs, groups=1 if lengths is None else len(lengths))
            if lengths is not None:
                rows["lengths"], rows["padding_side"] = lengths.tolist(), self._padding_side()
            total = total + super().training_step(model, rows, num_items_in_batch)
        if self.accelerator.sync_gradients:
            population.module.collect()
            scaler = getattr(self.accelerator, "scaler", None)
            population.loss_scale = scaler.get_scale() if scaler is not None else 1.0
            self._around_step.close()
            if self.args.world_size > 1:
                self.failures.share(self.runs, self.state.global_step, self.args.device)
                share_gradients(population.views, self.args.world_size)
            for run in self._frozen():
                for views in population.views.values():
                    for view in views[run * population.members : (run + 1) * population.members]:
                        view.grad = None
        return total / max(alive, 1)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The sum over the members in focus of each member's mean loss.

        Args:
            inputs: folded, with labels.
        """
        inputs = dict(inputs)
        labels = self._labels(inputs)
        if labels is None:
            raise ValueError(f"training needs labels: the batch has none of {', '.join(self.label_names)}")
        chunk = self.population.module.in_focus
        outputs = model(**inputs)
        items = None if num_items_in_batch is None else num_items_in_batch // self._groups()
        losses = self._losses(outputs, labels, len(chunk), items)
        counted = self.compute_loss_func is not None and num_items_in_batch is not None
        if counted and self.args.average_tokens_across_devices:
            # The items are those of all processes, `share_gradients` takes the mean.
            losses = losses * self.args.world_size
        loss = self._check_losses(losses, chunk)
        return (loss, outputs) if return_outputs else loss

    def _groups(self) -> int:
        """How many runs, or lanes, the rows of a training batch are shared among."""
        return self.runs * self._lanes

    def _check_losses(self, losses: Tensor, chunk: range) -> Tensor:
        """The sum over members of runs that are well; a run with a loss that is no number is frozen and reported."""
        members = self.population.members
        for member, loss in zip(chunk, losses.detach().tolist(), strict=True):
            run = member // members
            self._comparison.note(member, loss)
            self.failures.note(run, self.state.global_step, loss)
        well = [at for at, member in enumerate(chunk) if member // members not in self._frozen()]
        return losses[well].sum() if well else losses.new_zeros(()).requires_grad_()

    # ---- curves ----------------------------------------------------------------------------------------------------

    def log(self, logs: dict[str, float], *args: Any, **options: Any) -> None:
        """As `Trainer.log`; beside the members' mean training loss: which phase, how many members, how different."""
        if "loss" in logs and self.schedule is not None:
            phase = self.schedule.index(self.schedule.at(self.state.global_step - 1)) + 1
            alive = self.population.size - len(self._frozen()) * self.population.members
            logs |= {"phase": phase, "members": alive, **self._comparison.curves()}
        super().log(logs, *args, **options)


class _Walk(TrainerCallback):
    """Tells a PopulationTrainer where the run is."""

    def __init__(self, trainer: PopulationTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if (schedule := self.trainer._schedule()).steps != state.max_steps:
            logger.info(f"the run has {state.max_steps} steps, not {schedule.steps}")
            self.trainer.schedule = self.trainer.strategy.schedule(state.max_steps)
        self.trainer._begin(state.global_step)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.trainer._order is not None:
            self.trainer._order.set_epoch(int((state.epoch or 0) + 1e-6))

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.trainer._begin_step(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        trainer = self.trainer
        trainer.member_steps += trainer.population.size - len(trainer._frozen()) * trainer.population.members
        trainer._comparison.after_step()
        trainer.strategy.after_step(trainer.population, state.global_step, trainer._schedule().steps)
        self._stop_if_none_is_left(control)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._stop_if_none_is_left(control)

    def _stop_if_none_is_left(self, control: Any) -> None:
        if len(self.trainer._frozen()) == self.trainer.runs:
            control.should_training_stop = True
            control.should_save = control.should_evaluate = False  # the last good checkpoint stays the last


def _unwrapped(model: nn.Module) -> nn.Module:
    return model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator, return-value]


def _activate(model: nn.Module, ids: Tensor | None) -> None:
    if ids is not None:
        activate(model, ids)
