"""Every private name of transformers that training touches, and what has other names in other versions.

Overrides stay in `trainer.py` and `loggers.py`; calls and reads are the functions below. A test checks that the
installed version has each name. Checked with transformers 5.23 and 4.57. Of accelerate three public methods are
replaced, see `adapt`; checked with accelerate 1.15.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import convert_to_fp32
from torch import Tensor, nn
from transformers import EvalPrediction, PretrainedConfig, PreTrainedTokenizerBase, Trainer, TrainingArguments
from transformers.trainer_utils import RemoveColumnsCollator
from transformers.training_args import ParallelMode

from deni.engine.optimizer import clip_members
from deni.training.heads import is_causal
from deni.training.soft_labels import COLUMNS, SoftCollator

if TYPE_CHECKING:
    from deni.training.trainer import PopulationTrainer

# Methods of `Trainer` that are overridden -> why.
OVERRIDDEN = {
    "_get_train_sampler": "it draws a seed from the global generator; the order of rows has its own source",
    "_save_checkpoint": "a checkpoint is written whole or not at all, and a full disk does not end the training",
    "_save": "a checkpoint holds the members and their number, not a state dict",
    "_push_from_checkpoint": "it copies files of Trainer's names only; an artifact has others",
    "_save_rng_state": "it saves the global generators only",
    "_load_from_checkpoint": "the number of members is set before the optimizer's state is loaded",
    "_load_best_model": "the best population has the number of members that it had then",
    "_load_optimizer_and_scheduler": "a truncated state gets a clear error; fused kernels do not check its shapes",
}
# Methods of `Trainer` that are called -> why.
CALLED = {
    "_get_output_dir": "the folder of the checkpoints, which a search for hyperparameters changes",
    "_save_optimizer_and_scheduler": "one of those that write a checkpoint, see `writing_to`",
    "_save_scaler": "one of those that write a checkpoint, see `writing_to`",
    "_get_num_items_in_batch": "what a loss is divided by is counted for each member",
    "_prepare_inputs": "moves a batch to the device as Trainer does, also where it has no loader",
    "_remove_unused_columns": "batches of ours drop the columns that Trainer's would",
    "_set_signature_columns_if_needed": "has the columns read from the plain model, before the population replaces it",
}
# Attributes of a `Trainer` that are read -> why.
READ = {
    "_loss_shifts_labels": "whether the label of a token is that of the next one; transformers 5",
    "_signature_columns": "for datasets that are not of `datasets`, whose columns a collator drops",
    "_train_batch_size": "of a loader of ours; it is `args.train_batch_size` until Trainer changes it",
}
# Names of other classes -> why.
OTHERS = {
    "TensorBoardCallback._init_summary_writer": "overridden: each version has another setting for the folder",
    "TensorBoardCallback._SummaryWriter": "from the one of two packages that is installed",
    "PretrainedConfig._name_or_path": "which model it was",
    "TrainingArguments._setup_devices": "its device is always the first GPU",
    "TrainingArguments._n_gpu": "all GPUs there are, over which Trainer would put nn.DataParallel",
    "trainer_utils.RemoveColumnsCollator": "not documented; drops columns as Trainer does",
}


def plain_model(trainer: Trainer) -> nn.Module:
    """The model that a trainer has; its own annotation allows none, which holds before `__init__` alone."""
    return cast(nn.Module, trainer.model)


def any_init(model_init: Callable[..., nn.Module] | None) -> Any:
    """What makes a model; annotated to make one of transformers' own classes, and always to be given."""
    return model_init


def folder_of(args: TrainingArguments) -> str:
    """Where a trainer writes; optional in the annotation, but filled in when the arguments are made."""
    return cast(str, args.output_dir)


def tokenizer_of(trainer: Trainer) -> PreTrainedTokenizerBase | None:
    """The tokenizer: what processes inputs, or is part of it, or the collator's; None where there is none."""
    processor = trainer.processing_class
    for each in (processor, getattr(processor, "tokenizer", None), getattr(trainer.data_collator, "tokenizer", None)):
        if isinstance(each, PreTrainedTokenizerBase):
            return each
    return None


def run_folder(trainer: Trainer, trial: Any = None) -> str:
    """The folder of a trainer's checkpoints; that of a trial in a search for hyperparameters."""
    return cast(str, trainer._get_output_dir(trial))


def push(trainer: Trainer, checkpoint: str) -> None:
    """Push model and checkpoint to the Hub."""
    trainer._push_from_checkpoint(checkpoint)


def announce_push(trainer: Trainer) -> None:
    """Tell the callbacks that a push begins; those of transformers 4 have no such event."""
    begin = getattr(trainer.callback_handler, "on_push_begin", None)
    if begin is not None:
        begin(trainer.args, trainer.state, trainer.control)


@contextmanager
def writing_to(
    trainer: Trainer, folder: str, guarded: Callable[[Callable[..., Any]], Callable[..., None]]
) -> Iterator[None]:
    """Inside, `_save_checkpoint` writes into another folder and pushes nothing.

    Args:
        folder: in place of the trainer's output folder.
        guarded: wraps each method that writes.
    """
    writers = ("save_model", "_save_optimizer_and_scheduler", "_save_scaler", "_save_rng_state")
    own: dict[str, Any] = {name: guarded(getattr(trainer, name)) for name in writers}
    own |= {"_get_output_dir": lambda trial=None: folder, "_push_from_checkpoint": lambda checkpoint_folder: None}
    before = {name: vars(trainer)[name] for name in own if name in vars(trainer)}
    vars(trainer).update(own)
    try:
        yield
    finally:
        for name in own:
            del vars(trainer)[name]
        vars(trainer).update(before)


def save_processor(trainer: Trainer, folder: str) -> None:
    """Write what processes inputs other than texts, of images or sound, into a folder, as Trainer does."""
    processor = trainer.processing_class
    if processor is not None and not isinstance(processor, PreTrainedTokenizerBase):
        processor.save_pretrained(folder)


def arrays(prediction: EvalPrediction) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and labels; of a model with several outputs, or several label columns, the first of each."""
    found = (prediction.predictions, prediction.label_ids)
    first, labels = (each[0] if isinstance(each, tuple) else each for each in found)
    return cast(np.ndarray, first), cast(np.ndarray, labels)


class Columns:
    """Datasets and batches as a trainer takes them.

    Args:
        trainer: its columns are read from the model that it has now.
    """

    def __init__(self, trainer: PopulationTrainer) -> None:
        trainer._set_signature_columns_if_needed()
        self.trainer = trainer
        self._signature: tuple[str, ...] = tuple(cast(Any, trainer)._signature_columns)

    @property
    def soft(self) -> tuple[str, ...]:
        """The columns of soft targets and weights that are read here.

        Not one that the model takes, nor any where the user's own compute_loss gets all columns.
        """
        if self.trainer.losses.overridden and not self.trainer.args.remove_unused_columns:
            return ()
        return tuple(name for name in COLUMNS if name not in self._signature)

    @contextmanager
    def keeping_soft(self) -> Iterator[None]:
        """Inside, rows are loaded with these columns, whatever the collator."""
        trainer: Any = self.trainer  # what Trainer annotates as None is a list by now
        signature, collate = trainer._signature_columns, trainer.data_collator
        side = getattr(tokenizer_of(trainer), "padding_side", "right")
        trainer._signature_columns = [*self._signature, *self.soft]
        trainer.data_collator = SoftCollator(collate, self.soft, side)
        try:
            yield
        finally:
            trainer._signature_columns, trainer.data_collator = signature, collate

    def lean(self, dataset: Any, what: str) -> tuple[Any, Any]:
        """A dataset without the columns that the model does not take, and the collator for its rows.

        Args:
            what: the dataset is, for the log: `training` or `evaluation`, which has no soft targets.
        """
        if what.startswith("train"):
            with self.keeping_soft():
                return self._lean(dataset, what)
        return self._lean(dataset, what)

    def _lean(self, dataset: Any, what: str) -> tuple[Any, Any]:
        collate = self.trainer.data_collator
        if hasattr(dataset, "select"):  # of `datasets`
            return self.trainer._remove_unused_columns(dataset, what), collate
        if self.trainer.args.remove_unused_columns:
            return dataset, RemoveColumnsCollator(collate, self.trainer._signature_columns)
        return dataset, collate

    def prepared(self, batch: Any) -> dict[str, Any]:
        """A collated batch on the device."""
        return dict(self.trainer._prepare_inputs(batch))

    @property
    def train_batch_size(self) -> int:
        """Rows of a training batch, on all devices of a process."""
        return self.trainer._train_batch_size


def count_items(trainer: Trainer, rows: Mapping[str, Any]) -> Any:
    """`num_items_in_batch` of a batch of one model; None where Trainer does not count it."""
    return trainer._get_num_items_in_batch([rows], trainer.args.device)


def shifts_labels(trainer: Trainer, model: nn.Module) -> bool:
    """Whether the loss of the plain model compares the output for a token with the label of the next."""
    shifts = getattr(trainer, "_loss_shifts_labels", None)
    return is_causal(model) if shifts is None else shifts


@contextmanager
def mixed_precision(model: nn.Module, accelerator: Accelerator) -> Iterator[None]:
    """Inside, a model that accelerate did not prepare computes in mixed precision as one that it prepared."""
    if not accelerator.native_amp:
        yield
        return
    own = vars(model).get("forward")
    forward = model.forward

    @functools.wraps(forward)
    def mixed(*args: Any, **options: Any) -> Any:
        with accelerator.autocast():
            outputs = forward(*args, **options)
        return convert_to_fp32(outputs)

    model.forward = mixed
    try:
        yield
    finally:
        if own is None:
            del model.forward
        else:
            model.forward = own


def adapt(trainer: PopulationTrainer) -> None:
    """Never wrap the population in DDP (swapped parameters would stop syncing), and clip each member by itself.

    Losses are weighed as parts of the batch of a step, see `deni.training.losses.Parts`.
    """
    accelerator = trainer.accelerator
    prepare, differentiate = accelerator.prepare_model, accelerator.backward

    def prepare_model(model: nn.Module, *args: Any, **options: Any) -> nn.Module:
        return prepare(model, *args, **{**options, "evaluation_mode": True})

    def clip(parameters: Any, max_norm: float, norm_type: float = 2) -> Tensor | None:
        every = trainer.state.logging_steps or 0
        logs_norm = bool(every) and not (trainer.state.global_step + 1) % every  # Trainer asks without clipping, too
        if math.isinf(max_norm) and not logs_norm:
            return None
        accelerator.unscale_gradients()
        return clip_members(trainer.population.views, max_norm)

    def backward(loss: Tensor, **options: Any) -> None:
        differentiate(trainer.parts.weigh(loss), **options)

    replaced = cast(Any, accelerator)  # methods are not assigned to, for the type checker
    replaced.prepare_model = prepare_model
    replaced.clip_grad_norm_ = clip
    replaced.backward = backward


def place(args: TrainingArguments, device: torch.device) -> None:
    """Train in this process on one GPU, this one; processes that train together keep the GPU that each was given."""
    if device.type != "cuda" or args.parallel_mode == ParallelMode.DISTRIBUTED:
        return
    number = torch.cuda.current_device() if device.index is None else device.index
    torch.cuda.set_device(number)
    args.__dict__["_setup_devices"], args._n_gpu = torch.device("cuda", number), 1


def own_arguments(args: TrainingArguments, changes: Mapping[str, Any]) -> TrainingArguments:
    """A copy of the user's arguments with the strategy's, see `renamed`."""
    args = copy.copy(args)
    for name, value in renamed(changes).items():
        setattr(args, name, value)
    return args


def model_name(config: PretrainedConfig) -> str:
    """The folder or the Hub id that a model was loaded from; empty if unknown."""
    return config._name_or_path


def renamed(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Training arguments under the names of the installed version of transformers."""
    known = {field.name for field in dataclasses.fields(TrainingArguments)}
    names = {
        "epochs": "num_train_epochs",
        "warmup_ratio": "warmup_ratio" if "warmup_ratio" in known else "warmup_steps",  # in 5 steps below 1 are a ratio
        "gradient_checkpointing": "activation_checkpointing"
        if "activation_checkpointing" in known
        else "gradient_checkpointing",
    }
    renamed = {names.get(name, name): value for name, value in arguments.items()}
    return {**renamed, "warmup_steps": 0} if "warmup_ratio" in renamed else renamed  # in 4 steps win over a ratio
