"""Which training arguments a population cannot follow; docs/trainer.md has a row for every one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import TrainingArguments

from deni.errors import SettingError

_SHARDED = "it shards one model over processes: start a process for each GPU without it"
_IN_BACKWARD = "it updates weights in the backward pass, of one model: choose another, such as adamw_torch"


def _is_set(value: Any) -> bool:
    return bool(value)


# field -> which values are refused, and why. Fields that the installed version does not have are passed over.
REFUSED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "auto_find_batch_size": (_is_set, "memory is checked before the first step instead"),
    "fsdp": (_is_set, _SHARDED),
    "deepspeed": (_is_set, _SHARDED),
    "parallelism_config": (lambda value: value is not None, _SHARDED),
    "optim": (lambda value: any(word in str(value) for word in ("lomo", "layerwise")), _IN_BACKWARD),
    "use_liger_kernel": (_is_set, "it replaces the layers of a model, not of its members: load the model with it"),
    "jit_mode_eval": (_is_set, "members come and go while a traced model stays as it is"),
    "past_index": (lambda value: value >= 0, "outputs of the last batch are not passed on to the next"),
}


def check_options(engine: str, runs: int, model: Any, model_init: Any) -> None:
    """Refuse what a trainer is made of that does not go together.

    Args:
        engine: how members are computed.
        runs: R.
        model, model_init: as the user gave them.

    Raises:
        SettingError: the first of these.
    """
    if engine not in ("auto", "stacked", "loop"):
        raise SettingError(f"unknown engine {engine!r}: choose auto, stacked or loop")
    if runs > 1 and model_init is None:
        raise SettingError(f"{runs} runs need `model_init`, which makes the model of each, not `model`")
    if model_init is not None and model is not None:
        raise SettingError("give either `model` or `model_init`, not both")


def check_devices(args: TrainingArguments) -> None:
    """Refuse several GPUs in one process, over which Trainer would put `nn.DataParallel`."""
    if args.n_gpu > 1:
        raise SettingError(
            "nn.DataParallel cannot train a population: start one process a GPU with `accelerate launch`, or set "
            "CUDA_VISIBLE_DEVICES to one GPU"
        )


def check_metrics(args: TrainingArguments, seeds: int, own_sets: bool) -> None:
    """Refuse what metrics of several seeds cannot be given.

    Args:
        seeds: R.
        own_sets: whether each has its own evaluation set.

    Raises:
        SettingError: inputs for metrics, where the seeds have different ones.
    """
    if seeds > 1 and own_sets and "inputs" in args.include_for_metrics:
        raise SettingError(
            "include_for_metrics cannot have 'inputs' where each seed has its own eval_dataset: train the seeds one by "
            "one, or give all the same"
        )


def check_arguments(args: TrainingArguments, strategy: Any, runs: int) -> None:
    """Refuse what a population cannot follow, before anything is trained.

    Args:
        strategy: whose forks decide on some.
        runs: R.

    Raises:
        SettingError: an argument with a value of `REFUSED`.
    """
    for name, (is_refused, reason) in REFUSED.items():
        value = getattr(args, name, None)
        if value is not None and is_refused(value):
            raise SettingError(f"{name} cannot be {value if isinstance(value, str) else 'used'}: {reason}")
    if "schedule_free" in args.optim and any(phase.members > 1 for phase in strategy.phases(10_000)):
        raise SettingError(
            f"optim cannot be {args.optim} with {strategy.name}: its state holds weights, which a fork or a merge "
            "would leave behind: choose another, such as adamw_torch"
        )
    if runs > 1 and getattr(args, "train_sampling_strategy", "") == "batch_rebalance":
        raise SettingError(
            "train_sampling_strategy cannot be batch_rebalance with several runs: it makes the batches of one; choose "
            "random, sequential or group_by_length"
        )
