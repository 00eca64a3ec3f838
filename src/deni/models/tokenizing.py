"""Texts as token ids, and their labels as numbers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from deni.data import Texts, fed
from deni.data.checks.lengths import cut_texts, fitting_length
from deni.errors import InputError, InputWarning
from deni.models.pair_rows import longer_side, pair_rows
from deni.models.token_cache import kept
from deni.tasks import TASKS
from deni.tasks.iob2 import first_tokens

if TYPE_CHECKING:
    from datasets import Dataset


def token_ids(tokenizer: PreTrainedTokenizerBase, texts: Texts) -> list[list[int]]:
    """The tokens of each text, special ones included, nothing cut."""
    return tokenizer(**fed(texts.texts, texts.task), truncation=False, verbose=False)["input_ids"]


def choose_max_length(
    tokenizer: PreTrainedTokenizerBase, texts: Texts, wanted: int | None, limit: int, separately: bool = False
) -> int:
    """Tokens after which texts are cut; warns where that cuts more than 2 % of them.

    Args:
        separately: whether each text of a pair has so many tokens, see `deni.models.pairs`.
    """

    def count() -> np.ndarray:
        if separately:
            return np.array(longer_side(tokenizer, texts.texts))
        return np.array([len(ids) for ids in token_ids(tokenizer, texts)])

    lengths = kept(("lengths", separately), texts, tokenizer, count, lambda counts: counts.nbytes)
    if wanted is not None and wanted > limit:
        raise InputError(f"max_length {wanted} is over the model's limit of {limit} tokens")
    chosen = wanted or fitting_length(lengths, limit)
    for finding in cut_texts(texts, lengths, chosen):
        warnings.warn(str(finding), InputWarning, stacklevel=3)
    return chosen


def encode(texts: Texts, labels: Sequence[str]) -> list[Any]:
    """The labels of texts as numbers, see `deni.tasks.Task.encode`.

    Args:
        labels: class names, in the order of the model's outputs.

    Raises:
        InputError: a label that training never saw.
    """
    assert texts.labels is not None
    return TASKS[texts.task].encode(texts.labels, labels, texts.source)


def tokenize(
    texts: Texts,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    labels: Sequence[str],
    separately: bool = False,
) -> Dataset:
    """Tokenize texts once, without padding (each batch is padded to its longest text), and keep the texts.

    The first token of a word has its tag; the others have -100, which the loss leaves out. Soft labels and weights of
    texts become the columns `soft_labels` and `sample_weight`, see `deni.training.soft_labels`.

    Args:
        separately: whether the two texts of a pair lie beside each other, see `deni.models.pair_rows`.
    """
    what = "rows", max_length, tuple(labels), separately

    def make() -> Dataset:
        return _rows(texts, tokenizer, max_length, labels, separately)

    return kept(what, texts, tokenizer, make, lambda rows: rows.data.nbytes)


def _rows(
    texts: Texts, tokenizer: PreTrainedTokenizerBase, max_length: int, labels: Sequence[str], separately: bool
) -> Dataset:
    from datasets import Dataset  # half a second that a prediction does not need

    given, targets = fed(texts.texts, texts.task), {"labels": encode(texts, labels), **soft_columns(texts, labels)}
    if separately:
        return Dataset.from_dict({**given, **pair_rows(tokenizer, texts.texts, max_length), **targets})
    tokens = tokenizer(**given, truncation=True, max_length=max_length, verbose=False)
    if not TASKS[texts.task].of_words:
        return Dataset.from_dict({**given, **tokens, **targets})
    of_no_word = {"labels": -100, "soft_labels": [0.0] * len(labels)}
    for row in range(len(texts)):
        places, length = first_tokens(tokens.word_ids(row)), len(tokens["input_ids"][row])
        for name in targets.keys() & of_no_word:
            words, none = targets[name][row], of_no_word[name]
            targets[name][row] = [words[places[at]] if at in places else none for at in range(length)]
    return Dataset.from_dict({"words": given["text"], **tokens, **targets})


def soft_columns(texts: Texts, labels: Sequence[str]) -> dict[str, list[Any]]:
    """The columns of soft labels and weights of texts, where they have some.

    Raises:
        InputError: not one for each text, or each word, or each class.
    """
    found: dict[str, list[Any]] = {}
    of_words, count = TASKS[texts.task].of_words, len(texts)
    for name, values in (("soft", texts.soft), ("weights", texts.weights)):
        if values is not None and len(values) != count:
            raise InputError(f"{texts.source}: {name} of {len(values)} texts for {count}: give one for each")
    if texts.soft is not None:
        rows = [np.asarray(row, dtype=np.float64) for row in texts.soft]
        for at, (row, text) in enumerate(zip(rows, texts.texts, strict=True)):
            shape = (len(text), len(labels)) if of_words else (len(labels),)
            if row.shape != shape and not (row.ndim == 0 and shape == (1,)):
                raise InputError(
                    f"{texts.source}, {texts.row(at)}: soft labels have shape {row.shape}, not {shape}: give a number "
                    f"for each {'word and ' if of_words else ''}class"
                )
        found["soft_labels"] = [np.atleast_1d(row).tolist() for row in rows]
    if texts.weights is not None:
        found["sample_weight"] = np.asarray(texts.weights, dtype=np.float64).tolist()
    return found


@contextmanager
def settings_kept(tokenizer: PreTrainedTokenizerBase) -> Iterator[None]:
    """Inside, a tokenizer may be called with other settings: afterwards it remembers what it was last used with."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    cut, padded = (backend.truncation, backend.padding) if backend is not None else (None, None)
    try:
        yield
    finally:
        if backend is not None:
            backend.enable_truncation(**cut) if cut else backend.no_truncation()
            backend.enable_padding(**padded) if padded else backend.no_padding()
