"""From labeled examples to a trained population: the recipe, the model, the tokens, the run."""

from __future__ import annotations

import json
import logging
import signal
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from torch import nn
from transformers import (
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    EarlyStoppingCallback,
    EvalPrediction,
    PreTrainedTokenizerBase,
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
    TrainingArguments,
)

from deni import artifact
from deni.auto import decide
from deni.data import Texts, names
from deni.data.values import has_surrogate
from deni.errors import InputError, SettingError, TrainingDivergedError
from deni.models.devices import find_device
from deni.models.loading import load_config, load_model, load_tokenizer, token_limit
from deni.models.pair_rows import PairCollator, check_pairs
from deni.models.pairs import check_architecture, encode_separately
from deni.models.pooling import attach, choose
from deni.models.tokenizing import choose_max_length, encode, tokenize
from deni.provenance import digest_of_text
from deni.recipe import Recipe
from deni.schedule import Schedule
from deni.tasks import TASKS, Task
from deni.training import manifest
from deni.training.compat import arrays, place, renamed
from deni.training.loggers import Bar
from deni.training.room import RoomForArtifact
from deni.training.trainer import PopulationTrainer

if TYPE_CHECKING:
    from deni.artifact import Classifier
    from deni.population import Population

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """Predictions of a trained population for labeled examples, and their metrics.

    Args:
        texts: N of them.
        gold: as `deni.models.tokenizing.encode` gives it.
        members: per-member predictions, `(N, M, C)`; of words `(W, M, C)`, see `deni.artifact.Classifier.members`.
        votes: of the members, `(N, C)` or `(W, C)`.
        metrics: of the votes, see `deni.tasks.Task.scores`.
    """

    texts: Texts
    gold: Sequence[Any]
    members: np.ndarray
    votes: np.ndarray
    metrics: dict[str, float]


@dataclass
class FineTuneResult:
    """A trained population with what is needed to use it.

    Args:
        recipe: how it was trained; with the strategy `auto` what that became.
        labels: class names in the order of the model's outputs.
        trainer: the trainer, with its population.
        tokenizer: of the model.
        max_length: tokens after which a text is cut.
        seconds: wall time of the training.
        interrupted: whether it was stopped by Ctrl-C; then `checkpoint` continues it.
        checkpoint: the last checkpoint, if there is one.
        text_pair_column: where the second texts were, for a model of pairs.
        data: which texts it was trained and measured on, for `deni.json`.
        out_of_fold: predictions for the training texts by models that had not seen them; None without
            cross-validation.
        scope: where the training texts lie as vectors, which tells what is out of scope; None where that is not known.
        folds: the models of a cross-validation, run by run, where they are kept.
        added: further keys of `deni.json`, of what was fitted or measured after the training: `cross_validation`,
            `calibration`, `abstention`, `sets`, `scope`.
    """

    recipe: Recipe
    labels: list[str]
    trainer: PopulationTrainer
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    seconds: float
    interrupted: bool = False
    checkpoint: Path | None = None
    text_pair_column: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    out_of_fold: artifact.OutOfFold | None = None
    scope: artifact.Scope | None = None
    folds: Population | None = None
    added: dict[str, Any] = field(default_factory=dict)

    @property
    def schedule(self) -> Schedule:
        """The phases of the run."""
        return self.trainer.phases.planned

    @property
    def member_steps(self) -> int:
        """What the run cost."""
        return self.trainer.member_steps

    def info(self, metrics: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The content of `deni.json`, see `deni.artifact.describe`."""
        settings = self.recipe.settings()
        del settings["strategy"]
        info = artifact.describe(
            self.trainer,
            tuning=settings.pop("tuning"),
            recipe=settings,
            task=self.recipe.task,
            max_length=self.max_length,
            padding=_padding(self.recipe),
            text_pair_column=self.text_pair_column,
            data=self.data,
            seconds=self.seconds,
            metrics=metrics,
        )
        found = {"auto": self.recipe.chosen, "encoders": self.recipe.encoders}
        return {**info, **{name: dict(each) for name, each in found.items() if each is not None}, **self.added}

    def classifier(self, progress: bool = False) -> Classifier:
        """The population as a function of texts."""
        trained = self.trainer.population, self.tokenizer, self.labels, self.info(), progress
        return artifact.Classifier(*trained, voters=self.voters, out_of_fold=self.out_of_fold, labeled=self.scope)

    @property
    def voters(self) -> Sequence[int] | None:
        """The members whose runs have not failed, which predict and are saved; None for all."""
        trainer = self.trainer
        return trainer.voters(0) if trainer.failures and len(trainer.seeds) == 1 else None

    def note_diverged(self, texts: Texts) -> None:
        """Note runs that predict NaN for the first of these texts: weights may be finite, but too large."""
        classifier = artifact.Classifier(self.trainer.population, self.tokenizer, self.labels, self.info())
        outputs = classifier.outputs(texts.texts[:8])  # (N, M, C)
        finite = ~np.isnan(outputs).any((0, 2))
        self.trainer.failures.note_members(finite.tolist(), self.trainer.runs, self.trainer.state.global_step - 1)

    def test(self, texts: Texts, progress: bool = False) -> Evaluation:
        """Predictions of the members and their vote for labeled examples."""
        assert texts.labels is not None
        gold = encode(texts, self.labels)
        classifier = self.classifier(progress)
        members = classifier.members(texts.texts)
        votes = classifier.combined(members)
        return Evaluation(texts, gold, members, votes, TASKS[self.recipe.task].scores(gold, votes, self.labels))

    def evaluate(self, texts: Texts, progress: bool = False) -> dict[str, float]:
        """Metrics of the vote on labeled examples, see `deni.tasks.Task.scores`."""
        return self.test(texts, progress).metrics

    def save(
        self,
        folder: str | Path,
        metrics: Mapping[str, Any] | None = None,
        overwrite: bool = False,
        extra_files: Mapping[str, bytes] | None = None,
        inputs: Iterable[str | Path | None] = (),
        checked: bool = False,
    ) -> Path:
        """Write the artifact; `extra_files`, `inputs`, `checked`: see `deni.artifact.save`."""
        if self.out_of_fold is not None:
            extra_files = {**(extra_files or {}), artifact.OUT_OF_FOLD: artifact.as_bytes(self.out_of_fold)}
        if self.folds is not None:
            extra_files = {**(extra_files or {}), artifact.FOLDS: artifact.members_as_bytes(self.folds)}
        if self.scope is not None:
            extra_files = {**(extra_files or {}), artifact.SCOPE: self.scope.as_bytes()}
        return artifact.save(
            folder,
            population=self.trainer.population,
            tokenizer=self.tokenizer,
            labels=self.labels,
            info=self.info(metrics),
            overwrite=overwrite,
            extra_files=extra_files,
            inputs=inputs,
            checked=checked,
            voters=self.voters,
        )


def _scored(prediction: EvalPrediction, task: Task, labels: Sequence[str]) -> dict[str, float]:
    """The metrics of what the trainer evaluates; of tokens only those that have a label count."""
    votes, gold = arrays(prediction)
    if task.of_words:
        counted = gold != -100  # (N, T)
        tags = [own[there].tolist() for own, there in zip(gold, counted, strict=True)]
        return task.scores(tags, votes[counted], labels)
    return task.scores(cast(Sequence[Any], gold), votes, labels)


def fine_tune(
    train: Texts,
    recipe: Recipe,
    *,
    dev: Texts | None = None,
    seeds: Sequence[int] | None = None,
    checkpoints: str | Path | None = None,
    save_steps: int | None = None,
    resume: bool = False,
    start_from: str | Path | None = None,
    progress: bool = True,
    device: str | torch.device | None = None,
    callbacks: Iterable[TrainerCallback] = (),
    text_pair_column: str | None = None,
    output: str | Path | None = None,
    cv: int | None = None,
    cv_seeds: int = 1,
    keep_folds: bool = False,
    block: int = 0,
) -> FineTuneResult:
    """Train a population on labeled examples.

    Args:
        train: with labels.
        recipe: how; what `auto` becomes is decided here, see `deni.auto`.
        dev: labeled examples on which the best epoch is chosen; None keeps the last.
        seeds: train one run for each, in lock-step, in place of `recipe.seed`.
        checkpoints: folder for checkpoints; None for none.
        save_steps: optimizer steps between checkpoints; None: only after Ctrl-C.
        resume: continue from the newest whole checkpoint among `checkpoints`; a warning names later ones.
        start_from: a checkpoint to continue from, or a folder with checkpoints, in place of `checkpoints`.
        progress: show a progress bar.
        device: where to train, see `deni.models.devices.find_device`.
        callbacks: of transformers.
        text_pair_column: what the column of the second texts is called, where the texts are pairs.
        output: where the artifact will be saved; whether there is room for it is asked before the first step.
        cv: also train so many models that each leave a part of the texts out, see `deni.cross_validation`; the result
            has their `out_of_fold` predictions, and an estimate in `added`. The model itself stays as it is without.
        cv_seeds: how many times the texts are divided anew for `cv`, each time with other seeds.
        keep_folds: whether the artifact keeps the models of `cv`, see `deni.artifact.Classifier.conformal`.
        block: seed of these divisions, where `recipe.source_seeds` has none for data_split.

    Raises:
        InputError: a model that cannot be loaded, texts that do not fit, nothing to resume, no room for the artifact.
        TrainingDivergedError: every run ended with a non-finite loss.
    """
    if train.labels is None:
        raise InputError(f"{train.source}: training needs labels")
    if train.task != recipe.task:
        raise InputError(f"{train.source}: labels of {train.task} for a recipe of {recipe.task}: choose one task")
    if cv is not None:
        check_cross_validation(train, cv, cv_seeds, dev is not None, len(seeds or [0]))
    recipe = decide(recipe, train, device=device, progress=progress)
    bi = recipe.pairs == "bi"
    for texts in (train, dev) if bi else ():
        if texts is not None:
            check_pairs(texts)
    if recipe.early_stopping_patience and dev is None:
        raise SettingError("early_stopping_patience needs examples to stop by: give a dev split, or leave it out")
    task, labels, target = TASKS[recipe.task], names(train), find_device(device)
    if len(labels) < 2 and task.one_class:
        raise InputError(
            f"{train.source}: all texts have the label {labels[0]!r}, a classifier needs at least 2 classes"
        )
    if broken := next((label for label in labels if has_surrogate(label)), None):
        raise InputError(f"{train.source}: the label {broken!a} has half a surrogate pair, which no file can hold")
    pair = text_pair_column or "text_pair" if train.pairs else None
    if resume and checkpoints is None:
        raise InputError("nothing to resume: there is no checkpoint folder")
    if resume and start_from is not None:
        raise SettingError("give either resume or start_from, not both")
    if resume and checkpoints is not None:
        manifest.settle(Path(checkpoints))
        if not manifest.checkpoints(checkpoints):
            raise InputError(f"{checkpoints} has no checkpoint to resume from: omit --resume")
    tokenizer = load_tokenizer(recipe.model, recipe.task)
    limit = token_limit(recipe.model, tokenizer) - recipe.tuning.virtual_tokens
    max_length = choose_max_length(tokenizer, train, recipe.max_length, limit, bi)
    weights = _class_weights(encode(train, labels), len(labels)) if recipe.class_weights else None

    if bi:
        check_architecture(load_config(recipe.model))
    reads = Reads(tokenizer, labels, max_length, weights)
    with _run_folder(checkpoints) as folder:
        args = make_arguments(recipe, folder, save_steps, dev is not None, progress, target)
        interrupt = StopOnInterrupt(saves=checkpoints is not None)
        stopping = recipe.early_stopping_patience
        own = [*callbacks, *([_Patience(stopping)] if stopping else []), interrupt]
        trainer = make_trainer(recipe, [train], reads, args, own, dev, seeds, _origin(recipe, train, dev))
        trainer.reads = {"max_length": max_length, "padding": _padding(recipe), "text_pair_column": pair}  # checkpoints
        if output is not None:
            trainer.add_callback(RoomForArtifact(trainer, output))
        began = time.perf_counter()
        with interrupt.listening(), bar_of(trainer, recipe):
            trainer.train(resume_from_checkpoint=str(checkpoints) if resume else start_from and str(start_from))
    seconds = time.perf_counter() - began
    last = manifest.newest(checkpoints)
    result = FineTuneResult(recipe, labels, trainer, tokenizer, max_length, seconds, interrupt.stopped, last, pair)
    result.note_diverged(train)
    if len(trainer.failures) == trainer.runs:
        kept = f"the last good checkpoint is {last}" if last else "there is no checkpoint (--save-steps writes some)"
        raise TrainingDivergedError(f"training stopped: {trainer.failures[-1]}; {kept}")
    if cv is not None and not result.interrupted:
        from deni.cross_validation import cross_validate, fit_added

        cross_validate(result, train, cv, cv_seeds, block, progress, keep_folds)
        fit_added(result, train, progress=progress)
    return result


def check_cross_validation(train: Texts, folds: int, divisions: int, dev: bool, runs: int = 1) -> None:
    """Raise SettingError for a cross-validation that cannot be, before anything is trained.

    Args:
        dev: whether there is a dev split.
        runs: seeds of the model itself.
    """
    from deni.cross_validation.folds import check_folds

    if dev:
        raise SettingError("dev chooses the best epoch of one model, and the models of cv have none: give dev or cv")
    if runs > 1:
        raise SettingError(f"cv estimates the score of one model, not of {runs} seeds: give seeds or cv")
    check_folds(train, folds, divisions)


# ---- the run -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reads:
    """What models of one recipe share that follows from the texts.

    Args:
        tokenizer: of the model.
        labels: class names in the order of the outputs.
        max_length: tokens after which a text is cut.
        weights: of each class in the loss, `(C,)`; None where all count alike.
    """

    tokenizer: PreTrainedTokenizerBase
    labels: list[str]
    max_length: int
    weights: torch.Tensor | None = None


def make_trainer(
    recipe: Recipe,
    train: Sequence[Texts],
    reads: Reads,
    args: TrainingArguments,
    callbacks: Iterable[TrainerCallback] = (),
    dev: Texts | None = None,
    seeds: Sequence[int] | None = None,
    origin: Mapping[str, Any] | None = None,
) -> PopulationTrainer:
    """The trainer of a recipe.

    Args:
        train: one that all seeds share, or one for each seed.
        origin: what a checkpoint must share.
    """
    bi, task, labels, tokenizer = recipe.pairs == "bi", TASKS[recipe.task], reads.labels, reads.tokenizer
    virtual, side = recipe.tuning.virtual_tokens, tokenizer.padding_side
    pooling = choose(*recipe.chosen_pooling(), load_config(recipe.model), virtual, side)
    padding = _padding(recipe)
    collator: Any = DataCollatorForTokenClassification if task.of_words else DataCollatorWithPadding
    collator = PairCollator if bi else collator

    def model_init() -> nn.Module:
        with warnings.catch_warnings():
            # PEFT asks transformers under a name that transformers will drop.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            model = load_model(recipe.model, labels, recipe.dropout, recipe.task)
            if bi:
                encode_separately(model)
            return recipe.tuning.apply(attach(model, pooling))

    datasets = [tokenize(texts, tokenizer, reads.max_length, labels, bi) for texts in train]
    trainer = PopulationTrainer(
        args=args,
        model_init=model_init,
        strategy=recipe.strategy,
        seeds=seeds,
        engine=recipe.engine,
        at_a_time=recipe.members_at_a_time,
        class_weights=reads.weights,
        source_seeds=recipe.source_seeds,
        task=recipe.task,
        origin=origin,
        train_dataset=datasets if len(datasets) > 1 else datasets[0],
        eval_dataset=tokenize(dev, tokenizer, reads.max_length, labels, bi) if dev is not None else None,
        processing_class=tokenizer,
        data_collator=collator(tokenizer, padding, reads.max_length if padding == "max_length" else None),
        compute_metrics=lambda prediction: _scored(prediction, task, labels),
        callbacks=list(callbacks),
    )
    trainer.artifacts.ordinary = False  # its checkpoints resume; `deni export` makes a model of transformers
    trainer.phases.head_lr_scale = recipe.head_lr_scale
    trainer.remove_callback(PrinterCallback)  # prints dictionaries
    return trainer


def bar_of(trainer: PopulationTrainer, recipe: Recipe, what: str = "train") -> Bar:
    """A bar in place of transformers' own, if that is shown; to be left when the training has ended."""
    bar = Bar(recipe.strategy, what)
    if trainer.pop_callback(ProgressCallback) is not None:
        trainer.add_callback(bar)
    return bar


def make_arguments(
    recipe: Recipe, folder: Path, save_steps: int | None, dev: bool, progress: bool, device: torch.device
) -> TrainingArguments:
    """The arguments of a training.

    Args:
        folder: where it writes.
        save_steps: see `fine_tune`.
        dev: whether the best epoch is chosen on a dev split.
    """
    saving: dict[str, Any] = {"save_strategy": "no"}
    if save_steps:
        saving = {"save_strategy": "steps", "save_steps": save_steps, "save_total_limit": 1}
    if dev:
        saving = {
            "save_strategy": "epoch",
            "save_total_limit": 1,
            "eval_strategy": "epoch",
            "load_best_model_at_end": True,
            "metric_for_best_model": TASKS[recipe.task].best,
            "greater_is_better": TASKS[recipe.task].best_is_highest,
        }
    args = TrainingArguments(
        str(folder),
        num_train_epochs=recipe.epochs,
        learning_rate=recipe.rate,
        lr_scheduler_type="linear",
        per_device_train_batch_size=recipe.batch_size // recipe.gradient_accumulation_steps,
        per_device_eval_batch_size=recipe.eval_batch_size,
        gradient_accumulation_steps=recipe.gradient_accumulation_steps,
        optim=recipe.optim,
        weight_decay=recipe.weight_decay,
        **renamed(
            {name: value for name in ("warmup_ratio", "gradient_checkpointing") if (value := getattr(recipe, name))}
        ),
        max_grad_norm=recipe.max_grad_norm,
        bf16=recipe.bf16,
        use_cpu=device.type == "cpu",  # else Trainer refuses bf16 on CPU
        seed=recipe.seed % 2**32,
        restore_callback_states_from_checkpoint=True,  # how long early stopping has been patient
        logging_steps=0.01,  # of all steps: curves of at most a hundred points
        report_to=[],
        disable_tqdm=not progress,
        **saving,
    )
    place(args, device)
    return args


@contextmanager
def _run_folder(checkpoints: str | Path | None) -> Iterator[Path]:
    """Where Trainer writes: the checkpoint folder, not left behind empty, or a temporary one if there is none."""
    if checkpoints is None:
        with tempfile.TemporaryDirectory(prefix="deni.") as temporary:
            yield Path(temporary)
        return
    try:
        yield Path(checkpoints)
    finally:
        with suppress(OSError):  # not there, or not empty
            Path(checkpoints).rmdir()


def _origin(recipe: Recipe, train: Texts, dev: Texts | None) -> dict[str, Any]:
    """What a checkpoint must share with the run that goes on from it; the strategy is the trainer's to compare."""
    settings = recipe.settings()
    # The trainer compares strategy and seeds; other engines compute the same.
    for name in ("strategy", "seed", "engine", "members_at_a_time", "eval_batch_size"):
        settings.pop(name)
    tuning = settings.pop("tuning")
    return {
        **settings,
        "tuning": tuning["name"],
        **{f"tuning's {name}": value for name, value in tuning["settings"].items()},
        "training texts": _digest(train),
        "development texts": _digest(dev) if dev is not None else None,
    }


def _padding(recipe: Recipe) -> Literal["longest", "max_length"]:
    """To the longest text of a batch; all alike where padding changes what is computed."""
    return "max_length" if recipe.tuning.pads_fully else "longest"


def _digest(texts: Texts) -> str:
    """A short name of these texts and labels in this order."""
    order = [list(texts.order)] if texts.order else []
    content = json.dumps([list(texts.texts), list(texts.labels or ()), *order])
    return f"{len(texts)} with SHA-256 {digest_of_text(content)[:12]}"


def _class_weights(gold: Sequence[int], classes: int) -> torch.Tensor:
    counts = np.bincount(gold, minlength=classes)
    return torch.tensor(len(gold) / (classes * counts), dtype=torch.float32)


class _Patience(EarlyStoppingCallback):
    """Early stopping; where it stops there is no checkpoint, from which a resumed training would train on."""

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **options: Any) -> None:
        super().on_evaluate(args, state, control, metrics, **options)
        if self.early_stopping_patience_counter >= self.early_stopping_patience:
            control.should_save = False  # the best one is earlier, and is there


class StopOnInterrupt(TrainerCallback):
    """Ctrl-C ends training after the step that is under way, with a checkpoint; a second one ends it at once."""

    def __init__(self, saves: bool) -> None:
        self.saves, self.stopped = saves, False

    @contextmanager
    def listening(self) -> Iterator[None]:
        try:
            before = signal.signal(signal.SIGINT, self._stop)
        except ValueError:  # not the main thread, which gets no signals
            yield
            return
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _stop(self, *_: Any) -> None:
        if self.stopped or not self.saves:
            raise KeyboardInterrupt
        self.stopped = True

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.stopped:
            control.should_training_stop = control.should_save = True
