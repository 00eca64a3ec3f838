"""Answers to prompts: what members that vote generate, and how far they agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from deni.engine.fold import fold_rows
from deni.engine.module import in_mode
from deni.errors import SettingError
from deni.generation.agreement import answer_log_probabilities, token_agreement
from deni.generation.answers import Normalize, majority, normalized, share_of
from deni.generation.voting import MembersGenerator, SeparateGenerator, VotingGenerator
from deni.population import Population
from deni.progress import ProgressBar
from deni.randomness import global_generators

Vote = Literal["tokens", "answers"]
Prompt = str | Sequence[Mapping[str, str]]  # a text, or the messages of a chat


@dataclass(frozen=True)
class Answer:
    """What the members generate for one prompt.

    Args:
        text: the answer.
        tokens: their ids, with the end token where it ended by itself.
        log_probability: of all its tokens under the mean of the members' next-token probabilities.
        disagreement: of each token, the share of members whose likeliest token there is another one.
        divergence: of each token, the Jensen-Shannon divergence of the members' probabilities, in nats.
        answers: of each member; empty where they were not asked for.
        agreement: share of `answers` that equal the text; None where there are none.
    """

    text: str
    tokens: list[int]
    log_probability: float
    disagreement: list[float]
    divergence: list[float]
    answers: list[str]
    agreement: float | None

    def row(self) -> dict[str, Any]:
        """The answer with its means over tokens, for a line of JSON."""
        count = max(len(self.tokens), 1)
        row: dict[str, Any] = {
            "answer": self.text,
            "log_probability": self.log_probability,
            "token_disagreement": sum(self.disagreement) / count,
            "token_divergence": sum(self.divergence) / count,
        }
        if self.agreement is not None:
            row |= {"answer_agreement": self.agreement, "answers": self.answers}
        return row


class Generator:
    """Members with their tokenizer.

    Args:
        population: its members are causal language models, or encoder-decoder models.
        tokenizer: of the model.
        encode: the token ids of a prompt; None for those of the tokenizer, through its chat template for messages.
    """

    def __init__(
        self, population: Population, tokenizer: Any, encode: Callable[[Prompt], Sequence[int]] | None = None
    ) -> None:
        self.voting, self.separate = VotingGenerator(population), SeparateGenerator(population)
        self.tokenizer, self.encode = tokenizer, encode or self._encoded

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        vote: Vote = "tokens",
        with_answers: bool = False,
        normalize: Normalize = normalized,
        max_new_tokens: int = 128,
        batch_size: int = 8,
        seed: int = 0,
        progress: bool = False,
        **options: Any,
    ) -> list[Answer]:
        """Generate an answer to each prompt.

        Args:
            prompts: texts, or messages of chats.
            vote: `tokens`: members choose each token together; `answers`: each writes its own answers (as many as
                `num_return_sequences`), and the majority wins, see `deni.generation.answers.majority`.
            with_answers: with the vote on tokens, have each member write its own answer, too.
            normalize: answers are equal where this gives the same.
            max_new_tokens: of an answer, at most.
            batch_size: prompts at a time.
            seed: of sampling.
            progress: show how far it is.
            options: of `transformers.GenerationMixin.generate`: `do_sample`, `temperature`, `num_beams`, ...

        Returns:
            one for each prompt, in their order.

        Raises:
            SettingError: options that do not fit together.
        """
        if vote not in get_args(Vote):
            raise SettingError(f"vote must be one of {', '.join(get_args(Vote))}, not {vote!r}")
        if vote == "tokens" and options.get("num_return_sequences", 1) != 1:
            raise SettingError("num_return_sequences: a vote on tokens has one answer; vote='answers' counts several")
        if batch_size < 1:
            raise SettingError(f"batch_size must be at least 1, not {batch_size}")
        encoded = [torch.tensor(list(self.encode(prompt)), dtype=torch.long) for prompt in prompts]
        if empty := [str(place) for place, ids in enumerate(encoded) if not len(ids)]:
            raise SettingError(f"prompts without tokens: {', '.join(empty)} (counted from 0)")
        options["max_new_tokens"] = max_new_tokens
        answers: dict[int, Answer] = {}
        order = sorted(range(len(encoded)), key=lambda place: len(encoded[place]))
        bar = ProgressBar("generate", len(encoded), unit="prompts", shown=progress)
        with bar, global_generators(seed), in_mode(self.voting.module, training=False):
            for first in range(0, len(order), batch_size):
                places = order[first : first + batch_size]
                made = self._batch([encoded[place] for place in places], vote, with_answers, normalize, options)
                answers.update(zip(places, made, strict=True))
                bar.advance(len(places))
        return [answers[place] for place in range(len(encoded))]

    def _batch(
        self, prompts: Sequence[Tensor], vote: Vote, with_answers: bool, normalize: Normalize, options: dict[str, Any]
    ) -> Iterator[Answer]:
        prompts = [ids.to(self.voting.device) for ids in prompts]
        inputs = self._padded(prompts)
        own: list[list[Tensor]] = [[] for _ in prompts]
        if vote == "answers" or with_answers:
            folded = fold_rows(inputs, [0] * self.separate.members)
            rows = self._rows(self.separate, folded, options)  # member by member, M*B*n
            count = len(rows) // (self.separate.members * len(prompts))
            for place, row in enumerate(rows):
                own[place // count % len(prompts)].append(row)
        voted = self._rows(self.voting, inputs, options) if vote == "tokens" else [None] * len(prompts)
        for prompt, answer, answers in zip(prompts, voted, own, strict=True):
            yield self._answer(prompt, answer, answers, normalize)

    def _answer(self, prompt: Tensor, voted: Tensor | None, own: Sequence[Tensor], normalize: Normalize) -> Answer:
        """Put together what is known of a prompt; without a vote on tokens the majority of the members' answers."""
        texts = [self._text(each) for each in own]
        agreement: float | None
        if voted is None:
            members = self.separate.members
            count = len(own) // members
            scores = [0.0] * len(own)
            for sample in range(count):
                each = range(sample, len(own), count)  # one of each member
                found = answer_log_probabilities(self.separate, prompt, [own[place] for place in each])
                for place, score in zip(each, found, strict=True):
                    scores[place] = score
            chosen, agreement = majority(texts, scores, normalize)
            voted, text = own[chosen], texts[chosen]
        else:
            text = self._text(voted)
            agreement = share_of(text, texts, normalize) if texts else None
        along = token_agreement(self.separate, prompt, voted)
        return Answer(
            text,
            voted.tolist(),
            float(along.log_probability.sum()),
            along.disagreement.tolist(),
            along.divergence.tolist(),
            texts,
            agreement,
        )

    def _rows(self, members: MembersGenerator, inputs: dict[str, Tensor], options: dict[str, Any]) -> list[Tensor]:
        """The tokens that are generated for each row, up to the end token; without prompt and padding."""
        config = members.generation_config
        options = {"pad_token_id": self._pad, **options}
        if "stop_strings" in options:
            options["tokenizer"] = self.tokenizer
        generated = members.generate(**inputs, **options)
        prompt = 1 if members.config.is_encoder_decoder else inputs["input_ids"].shape[1]
        ends = options.get("eos_token_id", config.eos_token_id)
        ends = torch.tensor([] if ends is None else ends, device=generated.device).flatten()
        rows = []
        for row in generated[:, prompt:]:
            last = torch.isin(row, ends).nonzero().flatten()[:1]
            if not len(last) and "stop_strings" in options:  # what stops there is padded, too
                last = (row != options["pad_token_id"]).nonzero().flatten()[-1:]
            rows.append(row[: int(last) + 1] if len(last) else row)
        return rows

    @property
    def _pad(self) -> int:
        """The padding token; where there is none the end token, as in transformers, which would warn."""
        known = (self.tokenizer.pad_token_id, self.voting.generation_config.pad_token_id, self.tokenizer.eos_token_id)
        return next((each for each in known if each is not None), 0)

    def _padded(self, prompts: Sequence[Tensor]) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask`, `(B, T)`: answers of causal models go on where the prompt ends."""
        side = "right" if self.voting.config.is_encoder_decoder else "left"
        pad = torch.nn.utils.rnn.pad_sequence
        ids = pad(list(prompts), batch_first=True, padding_value=self._pad, padding_side=side)
        mask = pad([torch.ones_like(each) for each in prompts], batch_first=True, padding_side=side)
        return {"input_ids": ids, "attention_mask": mask}

    def _text(self, tokens: Tensor) -> str:
        return self.tokenizer.decode(tokens, skip_special_tokens=True).strip()

    def _encoded(self, prompt: Prompt) -> Sequence[int]:
        if isinstance(prompt, str):
            return self.tokenizer(prompt)["input_ids"]
        return self.tokenizer.apply_chat_template(list(prompt), add_generation_prompt=True, return_dict=True)[
            "input_ids"
        ]
