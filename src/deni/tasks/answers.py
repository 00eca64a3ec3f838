"""How near generated answers are to the right ones."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec

import numpy as np

from deni.errors import InputWarning

Score = Callable[[Sequence[str], Sequence[str]], Mapping[str, float]]  # generated answers, right ones -> by name


def scores_of(answers: Sequence[str], right: Sequence[str], own: Score | None = None) -> dict[str, float]:
    """Exact match, ROUGE-L and chrF, each from 0 to 1, the more the better.

    Exact match is the share of answers that equal the right one but for white space at the ends. ROUGE-L is the mean
    F1 by `rouge-score`, which reads ASCII words; chrF is that of the corpus by `sacrebleu`. Without these packages
    they are left out, with a warning.

    Args:
        answers, right: of each prompt.
        own: a function of the user's own, whose scores are added.
    """
    found = {"exact_match": exact_match(answers, right)}
    missing = [name for name, package in (("rouge_l", "rouge_score"), ("chrf", "sacrebleu")) if not find_spec(package)]
    if missing:
        what = " and ".join(missing)
        warnings.warn(f'{what} left out: pip install "deni[generation]"', InputWarning, stacklevel=3)
    if "rouge_l" not in missing:
        found["rouge_l"] = rouge_l(answers, right)
    if "chrf" not in missing:
        found["chrf"] = chrf(answers, right)
    return {**found, **(own(answers, right) if own is not None else {})}


def exact_match(answers: Sequence[str], right: Sequence[str]) -> float:
    """The share of answers that equal the right one but for white space at the ends.

    >>> exact_match([" 5", "6"], ["5", "7"])
    0.5
    """
    return float(np.mean([one.strip() == other.strip() for one, other in zip(answers, right, strict=True)]))


def rouge_l(answers: Sequence[str], right: Sequence[str]) -> float:
    """The mean F1 of the longest common subsequence of words."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"])
    pairs = zip(answers, right, strict=True)
    return float(np.mean([scorer.score(gold, answer)["rougeL"].fmeasure for answer, gold in pairs]))


def chrf(answers: Sequence[str], right: Sequence[str]) -> float:
    """The F score of character n-grams over all answers."""
    from sacrebleu import corpus_chrf

    return corpus_chrf(list(answers), [list(right)]).score / 100
