"""How likely the tokens of right answers are under the vote of members that generate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import DataCollatorForSeq2Seq

from deni.engine.answers import ANSWERS, answer
from deni.engine.module import in_mode
from deni.population import Population
from deni.tasks import Task
from deni.tasks.voting import Combine

if TYPE_CHECKING:
    from datasets import Dataset

BATCH = 8  # rows of one forward pass


@torch.no_grad()
def likelihoods(
    population: Population, tokenizer: Any, rows: Dataset, task: Task, combine: Combine = "soft"
) -> np.ndarray:
    """What the members' vote is of each token of the answers, `(tokens, 3)`, see `deni.tasks.generation`.

    Args:
        rows: token ids and labels, see `deni.models.prompts.answer_rows`.
        task: that of models that generate.
        combine: how members vote.
    """
    module, side, found = population.module, tokenizer.padding_side, []
    with population.plain() as model:
        answer(model)
    device = next(iter(population.values.values())).device
    try:
        tokenizer.padding_side = "right"  # as in training
        collate = DataCollatorForSeq2Seq(tokenizer)
        parts = [range(at, min(at + BATCH, len(rows))) for at in range(0, len(rows), BATCH)]
        batches = [collate([rows[row] for row in part]) for part in parts]
    finally:
        tokenizer.padding_side = side
    with in_mode(module, training=False):
        for batch in batches:
            inputs = {name: value.to(device) for name, value in batch.items()}
            inputs[ANSWERS] = inputs.pop("labels")
            members = []
            for chunk in module.chunks:
                module.focus(chunk)
                members.append(module(**module.fold(inputs)).logits.unflatten(0, (len(chunk), -1)))
            outputs = torch.cat(members).transpose(0, 1)  # (B, M, T, 3)
            found.append(task.vote(outputs, combine).flatten(0, 1).float().cpu().numpy())
    return np.concatenate(found)
