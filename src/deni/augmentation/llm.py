"""Paraphrases by a language model behind any OpenAI-compatible endpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from deni.augmentation.base import Augmenter
from deni.augmentation.paraphrases import NEEDED, PROMPT, in_answer, question
from deni.chat.client import Chat
from deni.chat.endpoint import CHARACTERS, Endpoint
from deni.errors import SettingError

ASKS = 3  # of one text: a model that has not given n paraphrases by then has no more
QUOTES = 3  # tokens around a string of a JSON list


@dataclass(frozen=True)
class LLM(Endpoint, Augmenter):
    """Ask a language model for n paraphrases of each text, in one request.

    Its answers are stored on disk, and the same request is never paid twice; another seed asks anew. An answer that
    is not a list, or has too few usable paraphrases, is requested again, at most twice; the rest stays missing.

    The key comes from the environment variable OPENAI_API_KEY; local servers mostly need none.

    Args:
        temperature: temperature of the answers, at least 0; higher gives more varied paraphrases. Unset leaves the
            server's own.
        prompt: what the model is told, with {text} and {n} in it, and {label} if it is to know the label. The answer
            must be a JSON list of strings.
    """

    name: ClassVar[str] = "llm"

    prompt: str = PROMPT

    def __post_init__(self) -> None:
        super().__post_init__()
        lost = [each for each in NEEDED if each not in self.prompt]
        if lost:
            raise SettingError(f"the prompt lacks {lost[0]}: it needs {' and '.join(NEEDED)}")

    @property
    def batch(self) -> int:  # type: ignore[override]
        """Large enough to keep most request slots busy until the last answers of a batch."""
        return 8 * self.concurrency

    def start(self, texts: Sequence[str], labels: Sequence[str], n: int, seed: int) -> None:
        """Show the estimated cost, and ask for confirmation."""
        self._chat.seed = seed
        self.confirm(
            self._chat,
            [question(self.prompt, text, label, n) for text, label in zip(texts, labels, strict=True)],
            [n * (len(text) // CHARACTERS + QUOTES) for text in texts],
            "paraphrases as long as their texts; unusable answers that are asked for again come on top",
        )

    def make(
        self, texts: Sequence[str], labels: Sequence[str], n: int, generators: Sequence[np.random.Generator]
    ) -> list[list[str]]:
        """Paraphrases of each text, in the order of the texts."""

        async def paraphrase(row: tuple[str, str]) -> list[str]:
            text, label = row
            found: list[str] = []
            for ask in range(ASKS):
                told = question(self.prompt, text, label, n - len(found), found)
                found += in_answer((await self._chat.ask(told, ask)).text, text, found)
                if len(found) >= n:
                    break
            return found[:n]

        return self._chat.map(paraphrase, list(zip(texts, labels, strict=True)))

    def finish(self) -> None:
        """Show the actual cost."""
        self.close(vars(self).pop("_chat"))  # the next start makes another

    def decided_by(self) -> Mapping[str, Any]:
        """The address, which may come from the environment."""
        return {"base_url": self._chat.base_url}

    @cached_property
    def _chat(self) -> Chat:
        return self.open()
