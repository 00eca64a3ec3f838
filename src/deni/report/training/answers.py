"""What a model that generates answers on the test split: how many answers are right, and the wrong ones to read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from deni.finetune.generating import AnswerEvaluation
from deni.measures import Estimate, share_with_interval
from deni.report.numbers import number

MOST_WRONG = 20  # answers that are shown


@dataclass(frozen=True)
class WrongAnswer:
    """An answer that does not equal the right one.

    Args:
        prompt: a text, or the messages of a chat as one.
        given: by the vote.
        right: of the test split.
    """

    prompt: str
    given: str
    right: str


@dataclass(frozen=True)
class Answers:
    """How good the answers to the test prompts are.

    Args:
        prompts: how many there were.
        exact: share of answers that are right but for white space at the ends, with the interval of 95 % over other
            prompts.
        metrics: of answers and tokens.
        disagreement: mean share of the members whose likeliest token is another one, over all tokens of the answers;
            None for one member.
        wrong: the first ones, in the order of the test split.
    """

    prompts: int
    exact: Estimate
    metrics: Mapping[str, float]
    disagreement: float | None
    wrong: list[WrongAnswer]

    @property
    def right(self) -> int:
        """How many are."""
        return round(float(self.exact.value) * self.prompts)


def measure_answers(evaluation: AnswerEvaluation, members: int) -> Answers:
    """Measure the answers of a test split.

    Args:
        members: that vote.
    """
    labels = evaluation.texts.labels
    assert labels is not None
    rows = [
        WrongAnswer(str(prompt), given, str(right))
        for prompt, given, right in zip(evaluation.texts.texts, evaluation.answers, labels, strict=True)
    ]
    wrong = [row for row in rows if row.given.strip() != row.right.strip()]
    return Answers(
        len(rows),
        share_with_interval(len(rows) - len(wrong), len(rows)),
        evaluation.metrics,
        evaluation.disagreement if members > 1 else None,
        wrong[:MOST_WRONG],
    )


def state_answers(found: Answers) -> Iterator[str]:
    """The sentences of the verdict."""
    share, low, high = (number(100 * float(each), 1) for each in found.exact)
    yield (
        f"It answers {found.right:,} of {found.prompts:,} test prompts exactly: {share} % (95 % interval {low} to "
        f"{high} over other prompts like these). Another seed or other examples may give another share."
    )


def rows_of(found: Answers) -> Iterator[tuple[str, str, str]]:
    """Name, value and note of each figure to read first."""
    share, low, high = (number(100 * float(each), 1) for each in found.exact)
    yield "exact answers", f"{share} %", f"95 % interval {low} to {high}: other prompts, not other seeds"
    if found.disagreement is not None:
        note = "of the answers' tokens: mean share of the members that would have written another"
        yield "members disagree", f"{100 * found.disagreement:.1f} %", note


def shown_answers(found: Answers | None) -> list[dict[str, Any]]:
    """The wrong answers as the page shows them."""
    if found is None:
        return []
    return [{name: _cut(value) for name, value in vars(each).items()} for each in found.wrong]


def _cut(text: str, most: int = 400) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
