"""Read an ordinary folder of transformers as a population of one member."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from deni.artifact.adapter import is_adapter, load_adapter, virtual_tokens
from deni.artifact.classifier import Classifier
from deni.artifact.folder import MEMBERS
from deni.artifact.schema import check_finite
from deni.errors import ArtifactError, short, shown
from deni.models.architectures import auto_class
from deni.models.loading import quiet_loading, token_limit
from deni.models.reading import read_config, read_model, read_text, read_tokenizer
from deni.outputs import INFO
from deni.population import Population
from deni.randomness import Sources
from deni.tasks import task_of

OURS = (INFO, MEMBERS)
HEADS = ("ForSequenceClassification", "ForTokenClassification")


def is_plain(folder: str | Path) -> bool:
    """Whether a folder has a model of transformers, and is not what is left of an artifact."""
    return (Path(folder) / "config.json").is_file() and not any((Path(folder) / name).exists() for name in OURS)


def load_plain(folder: Path, device: torch.device, dtype: torch.dtype | None = None) -> Classifier:
    """Load a model for sequence or token classification, or an adapter of one; never runs code from the folder.

    The task follows from the config, as transformers sees it. A text is cut after as many tokens as the model reads.

    Raises:
        ArtifactError: a folder that cannot be read, that needs code of its own, or whose model does not classify.
    """
    try:
        with quiet_loading(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config = read_config(folder)
            name = next(iter(config.architectures or []), "a model without a class")
            if not name.endswith(HEADS):
                fix = f"train one with deni train --model {folder}"
                if ".Dense" in (read_text(folder, "modules.json") or ""):  # a head of that package
                    fix = f"its head is for sentence-transformers, use SentenceTransformer({str(folder)!r})"
                raise ArtifactError(f"{folder} holds {name}, which has no trained output layer: {fix}")
            kind = auto_class(name.endswith(HEADS[1]))
            if is_adapter(folder):
                model, missing = load_adapter(folder, kind, config, dtype), []
            else:
                model, found = read_model(kind, folder, config, dtype=dtype or "auto", output_loading_info=True)
                missing = sorted(found["missing_keys"])
            tokenizer = read_tokenizer(folder)
    except ArtifactError:
        raise
    except Exception as error:  # transformers, tokenizers and safetensors have errors of their own
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ArtifactError(f"{folder} cannot be loaded as a model of transformers: {short(first, 200)}") from error
    if missing:
        raise ArtifactError(f"{folder} is incomplete: {shown(missing, 1)} missing in its weights")
    check_finite(dict(model.named_parameters()), folder)
    population = Population(model.requires_grad_(True), [Sources(0)], "loop")
    population.module.eval()
    population.module.to(device)
    return Classifier(population, tokenizer, _labels(model), _info(folder, model, tokenizer), source=folder)


def _labels(model: nn.Module) -> list[str]:
    config: Any = model.config
    return [str(config.id2label[number]) for number in range(config.num_labels)]


def _info(folder: Path, model: nn.Module, tokenizer: Any) -> dict[str, Any]:
    """The equivalent of `deni.json`; whether the model was trained on pairs is unknown."""
    task = task_of(model)
    return {
        "plain": True,
        "task": task.name,
        "labels": _labels(model),
        "runs": 1,
        "members": 1,
        "vote": {"combine": "soft"},
        "engine": "loop",
        "max_length": token_limit(str(folder), tokenizer) - virtual_tokens(folder),
        "padding": "longest",
        "text_pair_column": None,
    }
