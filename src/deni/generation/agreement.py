"""How far the members agree along an answer, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deni.generation.voting import SeparateGenerator, log_probabilities
from deni.measures.uncertainty import mutual_information

PART = 2**24  # probabilities that are held in float64 at once: 128 MiB

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TokenAgreement:
    """What the members predict at each token of one answer.

    Args:
        log_probability: of the token under the vote, the mean of the members' probabilities: `(T,)`, in nats.
        disagreement: share of members whose likeliest token is another one: `(T,)`.
        divergence: Jensen-Shannon divergence of the members' distributions: `(T,)`, in nats, at most log M.
    """

    log_probability: Floats
    disagreement: Floats
    divergence: Floats


@torch.no_grad()
def token_agreement(members: SeparateGenerator, prompt: Tensor, answer: Tensor) -> TokenAgreement:
    """Compare what the members predict along an answer, whoever wrote it.

    Args:
        members: in evaluation mode.
        prompt: its tokens without padding, `(P,)`.
        answer: the tokens that were generated, `(T,)` with T at least 1, with the end token where there is one.
    """
    logits = answer_logits(members, prompt, answer.expand(members.members, -1))  # (M, T, V)
    each = logits.gather(-1, answer.expand(len(logits), -1).unsqueeze(-1)).squeeze(-1)  # (M, T)
    divergence = []
    size = max(PART // (logits.shape[0] * logits.shape[2]), 1)
    for part in logits.split(size, dim=1):
        # The measure wants probabilities that sum to 1 in float64.
        divergence.append(mutual_information(part.double().log_softmax(-1).transpose(0, 1).cpu().numpy()))
    return TokenAgreement(
        log_probability=(each.double().logsumexp(0) - np.log(len(each))).cpu().numpy(),
        disagreement=(logits.argmax(-1) != answer).double().mean(0).cpu().numpy(),
        divergence=np.concatenate(divergence),
    )


@torch.no_grad()
def answer_log_probabilities(members: SeparateGenerator, prompt: Tensor, answers: Sequence[Tensor]) -> list[float]:
    """The log-probability of one answer of each member under that member.

    Args:
        members: M of them, in evaluation mode.
        prompt: its tokens without padding, `(P,)`.
        answers: M of them, each `(T,)` with its own T.
    """
    padded = torch.nn.utils.rnn.pad_sequence(list(answers), batch_first=True)  # (M, T)
    logits = answer_logits(members, prompt, padded)
    each = logits.gather(-1, padded.unsqueeze(-1)).squeeze(-1)
    return [float(row[: len(answer)].sum()) for row, answer in zip(each, answers, strict=True)]


def answer_logits(members: SeparateGenerator, prompt: Tensor, answers: Tensor) -> Tensor:
    """The log-probabilities `(M, T, V)` of all tokens where each member predicts those of its answer, `(M, T)`."""
    prompts, length = prompt.expand(len(answers), -1), answers.shape[1]
    inputs: dict[str, Any] = {"input_ids": prompts, "use_cache": False}
    if members.config.is_encoder_decoder:
        first = torch.full_like(answers[:, :1], _start(members))
        inputs["decoder_input_ids"] = torch.cat([first, answers[:, :-1]], 1)
    else:
        inputs["input_ids"] = torch.cat([prompts, answers[:, :-1]], 1)
        if members._supports_logits_to_keep():
            inputs["logits_to_keep"] = length
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    return log_probabilities(members(**inputs).logits[:, -length:])


def _start(members: SeparateGenerator) -> int:
    config = members.generation_config
    return config.bos_token_id if config.decoder_start_token_id is None else config.decoder_start_token_id
