"""The majority over whole answers: self-consistency (Wang et al. 2023, arXiv 2203.11171)."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

Normalize = Callable[[str], str]


class Majority(NamedTuple):
    """The answer that most members gave: its place among all answers, and the share of answers that equal it."""

    chosen: int
    share: float


def normalized(answer: str) -> str:
    """An answer as it is compared: Unicode NFKC, case folded, each run of white space one blank, none at the ends.

    >>> normalized(" The  Answer ")
    'the answer'
    """
    return " ".join(unicodedata.normalize("NFKC", answer).casefold().split())


def majority(answers: Sequence[str], log_probabilities: Sequence[float], normalize: Normalize = normalized) -> Majority:
    """Choose the answer that is given most often.

    Of answers that are given equally often, the one with the most probable text wins, and of those of equal
    probability the earliest. The text that is shown for an answer is its most probable one, too.

    Args:
        answers: of all members, at least one.
        log_probabilities: of each answer under its own member.
        normalize: answers are equal where this gives the same.

    >>> majority(["4", "5", "5 "], [-0.1, -2.0, -1.0])
    Majority(chosen=2, share=0.6666666666666666)
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for place, answer in enumerate(answers):
        groups[normalize(answer)].append(place)

    def best(group: Sequence[int]) -> tuple[float, int]:
        return max((log_probabilities[place], -place) for place in group)

    winner = max(groups.values(), key=lambda group: (len(group), best(group)))
    return Majority(-best(winner)[1], len(winner) / len(answers))


def share_of(answer: str, answers: Sequence[str], normalize: Normalize = normalized) -> float:
    """The share of answers that equal this one.

    >>> share_of("Yes", ["yes", "no"])
    0.5
    """
    return sum(normalize(each) == normalize(answer) for each in answers) / len(answers)
