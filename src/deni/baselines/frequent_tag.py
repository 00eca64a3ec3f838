"""The most frequent tag of each word."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from deni.baselines.base import Baseline, FittedBaseline
from deni.baselines.majority import LEAST, outputs_of_shares
from deni.tasks import TASKS, Task

if TYPE_CHECKING:
    from deni.data import Text, Texts
    from deni.recipe import Recipe


@dataclass(frozen=True)
class FrequentTag(Baseline, name="frequent_tag", row=4):
    """Of words: the tag that the word has most often, by its shares; of a word that is not known that of all words."""

    when: ClassVar[str] = "For token classification, in place of tfidf and frozen, which read whole texts."
    packages: ClassVar[tuple[str, ...]] = ()

    def why_unfit(self, task: Task, pairs: bool) -> str:
        return "" if task.of_words else f"is for tags of words, not for {task.name}: take tfidf or frozen"

    def learn(self, train: Texts, labels: list[str], recipe: Recipe, device: Any) -> FittedBaseline:
        task = TASKS[train.task]
        gold = task.encode(train.labels or (), labels, train.source)
        counts: defaultdict[str, Counter[int]] = defaultdict(Counter)
        for words, tags in zip(train.texts, gold, strict=True):
            for word, tag in zip(words, tags, strict=True):
                counts[word][tag] += 1
        unknown = outputs_of_shares(task, gold, len(labels))
        known = {word: _log_shares(own, len(labels)) for word, own in counts.items()}

        def outputs(texts: Sequence[Text]) -> np.ndarray:
            return np.stack([known.get(word, unknown) for words in texts for word in words])

        return FittedBaseline(labels, outputs, {"words": len(known)})


def _log_shares(counts: Counter[int], outputs: int) -> np.ndarray:
    shares = np.array([counts[tag] for tag in range(outputs)]) / counts.total()
    return np.log(np.maximum(shares, LEAST))
