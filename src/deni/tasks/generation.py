"""An answer to each prompt: text that a language model generates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from deni.errors import InputError, SettingError, short
from deni.tasks.base import Task, register
from deni.tasks.losses import ratio_of
from deni.tasks.voting import Combine

if TYPE_CHECKING:
    from torch import Tensor

    from deni.tasks.column import Column

SUMS = ("log_likelihood", "likeliest", "tokens")  # of the tokens of an answer, see `Generation.summed`
LIKELIHOOD, HIT, COUNTED = range(3)  # what a model puts out of each label, see `deni.engine.answers`


@register
class Generation(Task):
    """Text in answer to a prompt: cross-entropy of the answer's tokens, perplexity, exact match.

    The outputs of a token are three numbers: the log-likelihood of its label, whether that is the likeliest token, and
    whether the token counts.
    """

    name = "generation"
    help = "an answer, a text that is generated"
    generates = True
    chooses = False
    columns = ("prompt", "completion")
    # Of all weights as Alpaca (https://github.com/tatsu-lab/stanford_alpaca) and the default of TRL's SFTConfig, of
    # LoRA as QLoRA up to 13B (Dettmers et al. 2023, arXiv 2305.14314); epochs as both of the former.
    rates = (2e-5, 2e-4)
    plain: ClassVar = {"epochs": 3}
    metrics = ("exact_match", "rouge_l", "chrf", "token_accuracy", "perplexity")
    headline = compared = "exact_match"
    pipeline = "text-generation"
    best = "perplexity"
    best_is_highest = False
    answer = "completion"
    prediction_types: ClassVar = {"completion": str}
    model_is = "A model that answers a prompt with a text (generation),"
    outputs_are = "Tokens"
    examples = "answers"

    # ---- the column ------------------------------------------------------------------------------------------------

    def parse(self, column: Column) -> list[str]:
        """The answers, none of them empty."""
        answers = []
        for at, value in enumerate(column.values):
            if not isinstance(value, str) or not value.strip():
                raise InputError(f"{column.where(at)}: {short(value)} where an answer was expected; drop the row")
            answers.append(value)
        return answers

    def class_names(self, labels: Sequence[Any], order: Sequence[str] = ()) -> list[str]:
        """None: an answer is any text."""
        return []

    def encode(self, labels: Sequence[Any], classes: Sequence[str], source: str) -> list[Any]:
        """The answers as they are: their tokens are those of the model."""
        return list(labels)

    # ---- training and predicting -------------------------------------------------------------------------------------

    def member_losses(  # type: ignore[override]  # without soft targets, see `takes_soft`
        self, logits: Tensor, labels: Tensor, members: int, weight: Tensor | None = None
    ) -> Tensor:
        """The mean negative log-likelihood of the labels, over all tokens of a member's rows that count."""
        return ratio_of(-logits[..., LIKELIHOOD], logits[..., COUNTED], members)

    def difference(self, first: Tensor, other: Tensor, labels: Tensor, members: int, *_: Any, **__: Any) -> Tensor:
        raise SettingError(f"how far apart two predictions are is not known in the task {self.name}: take another")

    def items(self, labels: Tensor, weight: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """How many tokens of each row have a label."""
        return labels.ne(-100).flatten(1).sum(1)

    def outputs(self, logits: Tensor) -> Tensor:
        return logits

    def vote(self, outputs: Tensor, combine: Combine = "soft") -> Tensor:
        """The log of the members' mean likelihood of each label; of the rest the mean.

        Args:
            outputs: `(B, M, T, 3)`.
            combine: `parent` for the first member; `hard` votes on whole answers, not on tokens, and is `soft` here.
        """
        import torch

        if combine == "parent":
            return outputs[:, 0]
        likelihood = outputs[..., LIKELIHOOD].logsumexp(1) - math.log(outputs.shape[1])
        return torch.cat([likelihood.unsqueeze(-1), outputs[..., HIT:].mean(1)], -1)

    def summed(self, votes: np.ndarray) -> np.ndarray:
        """What a study keeps of each answer: `SUMS` over its tokens, `(N, 3)`.

        Args:
            votes: `(N, T, 3)`, padded with what does not count.
        """
        return np.where(votes[..., COUNTED:] > 0, votes, 0).sum(1)

    def choose(self, outputs: Any) -> Any:
        """None: the tokens are chosen one after another, in generating."""
        return None

    def as_logits(self, votes: Tensor) -> Tensor:
        return votes

    # ---- measuring ---------------------------------------------------------------------------------------------------

    def scores(self, gold: Sequence[Any], votes: np.ndarray, classes: Sequence[str] = ()) -> dict[str, float]:
        """Of the tokens of all answers, each given those before it.

        Perplexity is that of the vote. Token accuracy, the share of tokens that are the likeliest, is the mean of the
        members' own.

        Args:
            gold: not needed.
            votes: `(N, 3)`, or of tokens `(N, T, 3)`.
        """
        tokens = np.asarray(votes, dtype=np.float64).reshape(-1, 3)
        tokens = tokens[tokens[:, COUNTED] > 0]
        if not len(tokens):
            return {"token_accuracy": math.nan, "perplexity": math.nan}
        return {
            "token_accuracy": float(tokens[:, HIT].mean()),
            "perplexity": float(np.exp(-tokens[:, LIKELIHOOD].mean())),
        }
