"""Artifacts of tiny random models with members that differ, for export."""

from pathlib import Path

import torch
import transformers
from transformers import AutoTokenizer

from deni.artifact import save
from deni.population import Population
from deni.randomness import Sources, generator, global_generators
from deni.tuning import make_tuning
from tests.helpers.tiny import SIZES, SMALL_TUNINGS

MEMBERS = 3
TEXTS = ["where is my parcel", "refund", "a code please not the screen is locked", "late"]


def population_of(tuning="lora", task="Sequence", labels=3, members=MEMBERS, model=None, frozen=""):
    """Members of a BERT of one layer that are far apart."""
    config = transformers.BertConfig(**{**SIZES, "num_hidden_layers": 1, "vocab_size": 160}, num_labels=labels)
    with global_generators(0):
        model = model or getattr(transformers, f"BertFor{task}Classification")(config)
        model = make_tuning(tuning, **SMALL_TUNINGS.get(tuning, {})).apply(model)
    if frozen:
        model.get_submodule(frozen).requires_grad_(False)
    population = Population(model.float(), [Sources(0)], "loop")
    draw = generator(1)
    values = {
        name: torch.stack([value[0] + 0.3 * torch.randn(value[0].shape, generator=draw) for _ in range(members)])
        for name, value in population.values.items()
    }
    population.replace(values, members)
    population.module.eval()
    return population


def make_artifact(folder, model_folder, population, task="single_label", labels=3, **info):
    """Save these members; `info` is for `deni.json`."""
    return save(
        Path(folder),
        population=population,
        tokenizer=AutoTokenizer.from_pretrained(model_folder),
        labels=[f"label {at}" for at in range(labels)],
        info={
            "vote": {"combine": "soft"},
            "engine": "stacked",
            "task": task,
            "max_length": 12,
            "padding": "longest",
            "text_pair_column": None,
            **info,
        },
    )
