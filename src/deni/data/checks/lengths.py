"""Texts in tokens: too long for the model, too short, made of unknown tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deni.data.checks.finding import Finding, examples_of
from deni.data.texts import Texts
from deni.tasks.remarks import percent, severity_of

PERCENTILES = (50, 90, 95, 99, 100)
SHORT = 2  # tokens, without special ones


def fitting_length(lengths: np.ndarray, limit: int) -> int:
    """Tokens after which to cut: the 99th percentile, at least 8, at most the model's limit."""
    return min(limit, max(8, int(np.ceil(np.quantile(lengths, 0.99)))))


def cut_texts(texts: Texts, lengths: np.ndarray, most: int) -> list[Finding]:
    """A warning where more than 2 % of the texts are cut.

    Args:
        lengths: tokens of each text, special tokens included.
        most: tokens after which texts are cut.
    """
    cut = lengths > most
    # Of few texts, the 99th percentile cuts the longest one: that is as meant.
    if cut.mean() <= 0.02 or cut.sum() < 2:
        return []
    longest = np.argsort(-lengths, kind="stable")
    examples = tuple(
        (f"{where} ({lengths[at]:,} tokens)", text)
        for at, (where, text) in zip(longest, examples_of(texts, longest), strict=False)
    )
    message = f"{cut.mean():.0%} of the texts are longer than {most} tokens and are cut there"
    return [Finding("cut_texts", "warning", texts.source, message, int(cut.sum()), examples)]


def short_texts(texts: Texts, lengths: np.ndarray, special: int) -> list[Finding]:
    """Texts of one or two tokens.

    Args:
        special: how many tokens the tokenizer adds to each text.
    """
    at = np.flatnonzero(lengths - special <= SHORT)
    if not len(at):
        return []
    severity = severity_of(len(at), len(texts), share=0.2, least=10)
    message = f"{percent(len(at) / len(texts))} of the texts have {SHORT} tokens or fewer; look whether they say enough"
    return [Finding("short_texts", severity, texts.source, message, len(at), examples_of(texts, at.tolist()))]


def unknown_tokens(texts: Texts, lengths: np.ndarray, unknown: Sequence[int] | np.ndarray) -> list[Finding]:
    """Tokens that stand for what the tokenizer does not know.

    Args:
        unknown: such tokens of each text.
    """
    counts = np.asarray(unknown)
    at = np.flatnonzero(counts)
    if not len(at):
        return []
    share = counts.sum() / lengths.sum()
    worst = at[np.argsort(-counts[at] / lengths[at], kind="stable")]
    message = (
        f"{percent(len(at) / len(texts))} of the texts hold characters that the tokenizer does not know "
        f"({percent(share)} of all tokens); they are all one token to the model"
    )
    severity = severity_of(int(counts.sum()), int(lengths.sum()), share=0.02, least=10)
    return [Finding("unknown_tokens", severity, texts.source, message, len(at), examples_of(texts, worst.tolist()))]
