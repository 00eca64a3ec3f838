"""`AdaptationTrainer`: transformers' Trainer with a loss of texts without labels, watched on texts held out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback, TrainingArguments

from deni.adaptation.objective import Objective, Row
from deni.engine.module import in_mode
from deni.errors import ArtifactError, short
from deni.models.products import fast_products
from deni.progress import ProgressBar
from deni.randomness import Sources, derive, global_generators
from deni.training.checkpoint import readable_states
from deni.training.checkpoint_writing import Checkpoints
from deni.training.compat import mixed_precision, place, renamed
from deni.training.manifest import checkpoints, damage
from deni.written import written_text

WARM_UP, DECAY = 0.06, 0.01  # part of all steps; of the weights, as usual in pre-training
BLOCK = 8  # batches among whose texts those of like length are put together
EVALUATIONS = 10  # of the loss on held-out texts, in all of the training
ORIGIN = "adaptation.json"  # in a checkpoint: what it must share with the training that goes on from it

Key = tuple[int, int]  # number of a batch, and of a text


class Tokens(Dataset):
    """The tokens of texts, by the number of the batch and of the text.

    Args:
        rows: of all texts.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Key) -> tuple[int, Row]:
        return key[0], self.rows[key[1]]


def order_of(lengths: Sequence[int], batch_size: int, epochs: float, most: int, sources: Sources) -> list[list[Key]]:
    """The texts of each step: every epoch in a new order, without a last batch that would be smaller.

    Texts of a batch are of like length, drawn among those of `BLOCK` batches: less padding is computed, and the length
    of a text does not tell it from the others.

    Args:
        lengths: tokens of each text.
        most: steps.
    """
    each = len(lengths) // batch_size
    steps = max(1, min(most, round(epochs * each)))
    found: list[list[Key]] = []
    for epoch in range(-(-steps // each)):
        generator = sources.derived("sample_order", epoch)
        order = torch.randperm(len(lengths), generator=generator).tolist()[: each * batch_size]
        batches = []
        for start in range(0, len(order), BLOCK * batch_size):
            block = sorted(order[start : start + BLOCK * batch_size], key=lambda row: lengths[row])
            batches += [block[at : at + batch_size] for at in range(0, len(block), batch_size)]
        for at in torch.randperm(each, generator=generator).tolist():
            found.append([(len(found), row) for row in batches[at]])
    return found[:steps]


class AdaptationTrainer(Trainer):
    """Trains a model on an objective; what a step draws depends on its number and the seed alone, but for dropout.

    Args:
        model: of transformers.
        args: as `make_arguments` makes them.
        objective: what is learned.
        rows: tokens of the texts that are trained on.
        order: the texts of each step.
        held_out: tokens of the texts that are held out.
        origin: what a checkpoint must share.
        callbacks: of transformers.
        progress: whether to show how far it is.
    """

    def __init__(
        self,
        model: nn.Module,
        args: TrainingArguments,
        objective: Objective,
        rows: Sequence[Row],
        order: Sequence[list[Key]],
        held_out: Sequence[Row],
        origin: Mapping[str, Any],
        callbacks: Sequence[TrainerCallback] = (),
        progress: bool = True,
    ) -> None:
        self.objective: Objective = objective
        self.order, self.origin = list(order), dict(origin)
        seed = derive(args.seed, "held out")
        by_length = np.argsort([len(row["input_ids"]) for row in held_out], kind="stable")
        parts = np.array_split(by_length, max(1, len(held_out) // args.per_device_train_batch_size))
        self.held_out = [
            objective.collate([held_out[row] for row in part], derive(seed, at)) for at, part in enumerate(parts)
        ]
        self._seed = seed
        super().__init__(model, args, train_dataset=Tokens(rows), eval_dataset=self.held_out, callbacks=list(callbacks))
        self.checkpoints = Checkpoints(self, lambda written, target: None)
        self.add_callback(self.checkpoints)
        self.add_callback(Shown(progress))
        for each in (PrinterCallback, ProgressCallback):
            self.remove_callback(each)

    def get_train_dataloader(self) -> DataLoader:
        """The batches of all steps, in order."""
        seed = derive(self.args.seed, "batches")

        def collate(found: list[tuple[int, Row]]) -> dict[str, Tensor]:
            return self.objective.collate([row for _, row in found], derive(seed, found[0][0]))

        return DataLoader(self.train_dataset, batch_sampler=self.order, collate_fn=collate)  # type: ignore[arg-type]

    def compute_loss(
        self, model: nn.Module, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of the objective."""
        loss = self.objective.loss(model, inputs)
        return (loss, None) if return_outputs else loss

    @fast_products()
    def training_step(self, *args: Any, **options: Any) -> Tensor:
        """As Trainer's."""
        return super().training_step(*args, **options)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """The loss on held-out texts, as Trainer hands metrics on."""
        metrics = {"eval_loss": self.held_out_loss()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    @fast_products()
    @torch.no_grad()
    def held_out_loss(self) -> float:
        """The mean loss on the texts that are held out, with the same hidden tokens and dropout masks each time."""
        assert self.model is not None
        total, count = 0.0, 0
        with global_generators(self._seed), in_mode(self.model, self.objective.with_dropout):
            for batch in self.held_out:
                weight, loss = self.objective.weight(batch), self.loss_of(batch)
                total, count = total + weight * float(loss), count + weight
        return total / count

    def loss_of(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The loss of a batch as in a step: the model in mixed precision, what comes after it in float32."""
        assert self.model is not None
        with mixed_precision(self.model, self.accelerator):
            return self.objective.loss(self.model, {name: each.to(self.args.device) for name, each in batch.items()})

    # ---- checkpoints -------------------------------------------------------------------------------------------------

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self.checkpoints.save(partial(super()._save_checkpoint, model, trial), trial)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        Path(output_dir, ORIGIN).write_text(json.dumps(self.origin, indent=1), encoding="utf-8")

    def _load_best_model(self) -> None:
        if self.checkpoints.best() is not None:
            super()._load_best_model()

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with readable_states(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)


def make_arguments(
    folder: Path, steps: int, batch_size: int, learning_rate: float, seed: int, bf16: bool, device: torch.device
) -> TrainingArguments:
    """The arguments of a training: evaluated and kept ten times, with the best weights at the end.

    Args:
        folder: of the checkpoints.
    """
    every = -(-steps // EVALUATIONS)
    args = TrainingArguments(
        str(folder),
        max_steps=steps,
        per_device_train_batch_size=batch_size,
        learning_rate=learning_rate,
        lr_scheduler_type="linear",
        weight_decay=DECAY,
        **renamed({"warmup_ratio": WARM_UP}),
        bf16=bf16,
        use_cpu=device.type == "cpu",  # else Trainer refuses bf16 on CPU
        seed=seed,
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,  # with 1 Trainer would remove that of an interruption, and keep the best alone
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        restore_callback_states_from_checkpoint=True,  # how long early stopping has been patient
        remove_unused_columns=False,
        logging_steps=max(1, steps // 100),
        report_to=[],
        disable_tqdm=True,
    )
    place(args, device)
    return args


class Shown(TrainerCallback):
    """Shows how far an adaptation is, and has the last step evaluated.

    Args:
        shown: whether to show anything.
    """

    def __init__(self, shown: bool) -> None:
        self.shown = shown
        self._bar: ProgressBar | None = None
        self._last: dict[str, float] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bar = ProgressBar("adapt", state.max_steps, state.global_step, "steps", self.shown)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_evaluate = control.should_save = True
        values = (f"{name} {value:.4g}" for name, value in self._last.items())
        if self._bar is not None:
            self._bar.update(state.global_step, ", ".join((f"step {state.global_step}/{state.max_steps}", *values)))

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        names = {"loss": "loss", "eval_loss": "held-out loss"}
        self._last |= {title: logs[name] for name, title in names.items() if name in (logs or {})}

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()


def to_resume(folder: Path, origin: Mapping[str, Any]) -> Path:
    """The newest whole checkpoint of a folder.

    Args:
        origin: what it must share.

    Raises:
        ArtifactError: there is none that is whole, or it is of another training.
    """
    passed = []
    for each in checkpoints(folder):
        reason = damage(each)
        if reason is None:
            _check_origin(each, origin)
            return each
        passed.append(f"{each.name} ({reason})")
    raise ArtifactError(f"{folder} has no checkpoint to resume from: {'; '.join(passed) or 'omit --resume'}")


def _check_origin(folder: Path, origin: Mapping[str, Any]) -> None:
    try:
        theirs = json.loads(written_text(folder / ORIGIN))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{folder} is not a checkpoint of deni adapt ({error}): omit --resume") from error
    ours = json.loads(json.dumps(origin))
    if theirs != ours:
        keys = [key for key in {**ours, **theirs} if theirs.get(key) != ours.get(key)]
        differ = ", ".join(f"{key} {short(theirs.get(key))}, not {short(ours.get(key))}" for key in keys)
        raise ArtifactError(f"{folder} is of another training ({differ}): resume with the settings it was made with")
