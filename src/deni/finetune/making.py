"""The trainer of a recipe: its model, its tokens, its arguments."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import (
    DataCollatorForSeq2Seq,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    EvalPrediction,
    PreTrainedTokenizerBase,
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
    TrainingArguments,
)

from deni.data import Texts
from deni.errors import SettingError
from deni.finetune.precision import forget_last_training
from deni.models.loading import load_config, load_generator, load_model
from deni.models.pair_rows import PairCollator
from deni.models.pairs import encode_separately
from deni.models.pooling import attach, choose
from deni.models.prompts import Prompting, answer_rows, encoded
from deni.models.tokenizing import tokenize
from deni.recipe import Recipe
from deni.tasks import TASKS, Task
from deni.training.compat import arrays, place, renamed
from deni.training.loggers import Bar
from deni.training.runs import RunSettings
from deni.training.trainer import PopulationTrainer


def _scored(prediction: EvalPrediction, task: Task, labels: Sequence[str]) -> dict[str, float]:
    """The metrics of what the trainer evaluates; of tokens only those that have a label count."""
    votes, gold = arrays(prediction)
    if task.of_words:
        counted = gold != -100  # (N, T)
        tags = [own[there].tolist() for own, there in zip(gold, counted, strict=True)]
        return task.scores(tags, votes[counted], labels)
    return task.scores(cast(Sequence[Any], gold), votes, labels)


@dataclass(frozen=True)
class Reads:
    """What models of one recipe share that follows from the texts.

    Args:
        tokenizer: of the model.
        labels: class names in the order of the outputs.
        max_length: tokens after which a text is cut.
        weights: of each class in the loss, `(C,)`; None where all count alike.
        prompting: how a language model reads prompts and writes answers; None for a model that labels texts.
        longest_answer: tokens of the longest answer of the training texts.
    """

    tokenizer: PreTrainedTokenizerBase
    labels: list[str]
    max_length: int
    weights: torch.Tensor | None = None
    prompting: Prompting | None = None
    longest_answer: int = 0

    def tokenized(self, texts: Texts, bi: bool = False) -> Dataset:
        """The rows that the trainer loads; with `bi` each has both texts of a pair."""
        if self.prompting is not None:
            return answer_rows(texts, encoded(texts, self.prompting), self.prompting)
        return tokenize(texts, self.tokenizer, self.max_length, self.labels, bi)


def make_trainer(
    recipes: Sequence[Recipe],
    train: Sequence[Texts],
    reads: Reads,
    args: TrainingArguments,
    callbacks: Iterable[TrainerCallback] = (),
    dev: Texts | None = None,
    seeds: Sequence[int] | None = None,
    origin: Mapping[str, Any] | None = None,
    initial: Mapping[str, Tensor] | None = None,
) -> PopulationTrainer:
    """The trainer of a recipe, or of several that are trained together.

    Args:
        recipes: one, or one for each seed, which share what `deni.recipe.shared_settings` says.
        train: one that all seeds share, or one for each seed.
        origin: what a checkpoint must share.
        initial: see `deni.finetune.fine_tune`.
    """
    recipe = recipes[0]
    bi, task, labels, tokenizer = recipe.pairs == "bi", TASKS[recipe.task], reads.labels, reads.tokenizer
    virtual, side = recipe.tuning.virtual_tokens, tokenizer.padding_side
    pooling = choose(*recipe.chosen_pooling(), load_config(recipe.model), virtual, side)
    padding = padding_of(recipe)
    collator: Any = DataCollatorForTokenClassification if task.of_words else DataCollatorWithPadding
    collator = PairCollator if bi else DataCollatorForSeq2Seq if task.generates else collator
    shapes: dict[str, Any] = {"padding": padding, "max_length": reads.max_length if padding == "max_length" else None}

    def model_init(recipe: Recipe = recipe) -> nn.Module:
        with warnings.catch_warnings():
            # PEFT asks transformers under a name that transformers will drop.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            if task.generates:
                return recipe.tuning.apply(load_generator(recipe.model))
            model = load_model(recipe.model, labels, recipe.dropout, recipe.task)
            if bi:
                encode_separately(model)
            model = recipe.tuning.apply(attach(model, pooling))
        if initial is not None:
            try:
                model.load_state_dict(initial)
            except RuntimeError as error:
                why = " ".join(str(error).split())
                raise SettingError(f"the initial values are those of another model or tuning: {why:.200}") from error
        return model

    settings = [
        RunSettings(each.rate / recipe.rate, partial(model_init, each), each.strategy)
        for each in (recipes if len(recipes) > 1 else ())
    ]
    datasets = [reads.tokenized(texts, bi) for texts in train]
    trainer = PopulationTrainer(
        args=args,
        model_init=lambda: model_init(),
        strategy=recipe.strategy,
        seeds=seeds,
        run_settings=settings,
        engine=recipe.engine,
        at_a_time=recipe.members_at_a_time,
        class_weights=reads.weights,
        source_seeds=recipe.source_seeds,
        task=recipe.task,
        origin=origin,
        train_dataset=datasets if len(datasets) > 1 else datasets[0],
        eval_dataset=reads.tokenized(dev, bi) if dev is not None else None,
        processing_class=tokenizer,
        data_collator=collator(tokenizer, **shapes),
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
    forget_last_training()
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
        bf16=bool(recipe.bf16),
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


def padding_of(recipe: Recipe) -> Literal["longest", "max_length"]:
    """To the longest text of a batch; all alike where padding changes what is computed."""
    return "max_length" if recipe.tuning.pads_fully else "longest"
