"""What an adaptation will cost, from a few steps that are timed."""

from __future__ import annotations

import statistics
import time

import psutil
import torch

from deni.adaptation.result import Cost
from deni.adaptation.trainer import EVALUATIONS, AdaptationTrainer
from deni.engine.module import in_mode
from deni.models.products import fast_products
from deni.randomness import global_generators

TIMED = 3  # steps; the first one, which warms up, does not count


@fast_products()
def estimate_cost(trainer: AdaptationTrainer, evaluation: float) -> Cost:
    """Time a few steps without changing the model.

    Args:
        evaluation: seconds that the loss on held-out texts takes.
    """
    model, device = trainer.model, trainer.args.device
    assert model is not None
    seconds = []
    with global_generators(0), in_mode(model, training=True):
        for at, batch in enumerate(trainer.get_train_dataloader()):
            begun = time.perf_counter()
            trainer.loss_of(batch).backward()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - begun)
            if at + 1 == TIMED:
                break
    gradients = sum(each.numel() for each in model.parameters() if each.grad is not None)
    model.zero_grad(set_to_none=True)
    used = torch.cuda.max_memory_reserved(device) if device.type == "cuda" else psutil.Process().memory_info().rss
    steps = len(trainer.order)
    each = statistics.median(seconds[1:] or seconds)
    return Cost(
        texts=len(trainer.train_dataset),  # type: ignore[arg-type]
        steps=steps,
        seconds=steps * each + min(EVALUATIONS, steps) * evaluation,
        memory=used + 8 * gradients,  # Adam's two moments in float32
        device=str(device),
    )
