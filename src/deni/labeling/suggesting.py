"""A pool of unlabeled texts, a model, and which texts to label next."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from deni.artifact import Classifier
from deni.artifact.classifier import words_of
from deni.artifact.out_of_fold import digests_of
from deni.data import Text, Texts
from deni.errors import InputError, SettingError, short
from deni.labeling.choosing import choose, uncertainty
from deni.tasks import TASKS, Task
from deni.tasks.remarks import many, percent

OUT_OF_SCOPE = 99  # percent of the labeled texts that are less unlike the others


@dataclass(frozen=True)
class Suggestions:
    """What to label next.

    Args:
        rows: of the pool, from 0, in the order in which to label them.
        scores: the uncertainty of each, see `deni.labeling.choosing.uncertainty`.
        why: a sentence for each.
        apart: row -> why it was not considered: it repeats another text, or is unlike the labeled ones.
    """

    rows: list[int]
    scores: list[float]
    why: list[str]
    apart: dict[int, str]


def suggest(
    classifier: Classifier, pool: Texts, n: int = 50, labeled: Texts | None = None, digests: Sequence[str] = ()
) -> Suggestions:
    """Which texts of a pool to label next for a model.

    Args:
        classifier: the model so far.
        pool: texts without labels.
        n: how many.
        labeled: the texts that it was trained on; what repeats them is left out, as is what is out of its scope.
        digests: of texts that are labeled, see `deni.artifact.out_of_fold`.

    Raises:
        InputError: a model that does not tell how sure it is.
    """
    task = TASKS[classifier.task]
    apart = _apart(pool, labeled, set(digests))
    rows = np.array([row for row in range(len(pool)) if row not in apart], dtype=int)
    features = _features(classifier, [pool.texts[row] for row in rows]) if len(rows) else None
    if features is not None and classifier.labeled is not None:
        strange = classifier.labeled.percentiles(features) >= OUT_OF_SCOPE
        apart |= {int(row): "unlike the labeled texts" for row in rows[strange]}
        rows, features = rows[~strange], features[~strange]
    if not len(rows):
        return Suggestions([], [], [], apart)
    texts = [pool.texts[row] for row in rows]
    members = classifier.members(texts)
    votes = classifier.combined(members)
    lengths = [len(words_of(text)) for text in texts] if task.of_words else [1] * len(texts)
    score = uncertainty(task, members, votes, lengths)
    chosen = choose(score, features, n)
    starts = np.cumsum([0, *lengths])
    why = []
    for at, size in zip(chosen.rows, chosen.stands_for, strict=True):
        own = slice(starts[at], starts[at + 1])
        others = f"; like {many(size - 1, 'other')}" if size > 1 else ""
        why.append(f"{_reason(task, members[own], votes[own], classifier.labels, texts[at])}{others}")
    return Suggestions(rows[chosen.rows].tolist(), score[chosen.rows].tolist(), why, dict(sorted(apart.items())))


def _features(classifier: Classifier, texts: Sequence[Text]) -> np.ndarray | None:
    """The vectors of texts `(N, D)`; None for a model that has none, such as one of words."""
    try:
        return classifier.features(texts)
    except (InputError, SettingError):
        return None


def _apart(pool: Texts, labeled: Texts | None, digests: Collection[str]) -> dict[int, str]:
    """Rows that repeat a labeled text, or an earlier one of the pool, and which."""
    known = {} if labeled is None else {key: labeled.row(at) for at, key in enumerate(labeled.loose_keys)}
    found, first = {}, dict[str, int]()
    for row, (key, digest) in enumerate(zip(pool.loose_keys, digests_of(pool.texts), strict=True)):
        if labeled is not None and key in known:
            found[row] = f"repeats {known[key]} of {labeled.source}"
        elif digest in digests:
            found[row] = "is labeled: the model was trained on it"
        elif first.setdefault(key, row) != row:
            found[row] = f"repeats {pool.row(first[key])}"
    return found


def _reason(task: Task, members: np.ndarray, votes: np.ndarray, labels: Sequence[str], text: Text) -> str:
    """Between what the model wavers.

    Args:
        members, votes: of the text, `(1, M, C)` and `(1, C)`; of words one row each.
    """
    if not task.chooses:
        return f"members say {members.mean():.4g}, give or take {members.std(1, ddof=1).mean():.2g}"
    if task.distribution:
        probabilities = np.exp(votes)
        ordered = np.sort(probabilities, -1)
        word = int((ordered[:, -1] - ordered[:, -2]).argmin())
        first, second = np.argsort(-probabilities[word], kind="stable")[:2]
        prefix = f"{short(words_of(text)[word], 40)}: " if task.of_words else ""
    else:
        probabilities, word, prefix = expit(votes), 0, ""
        first, *_ = np.argsort(np.abs(votes[0]), kind="stable")
        return f"{labels[first]} {percent(probabilities[0, first])}"
    own = probabilities[word]
    return f"{prefix}{labels[first]} {percent(own[first])}, {labels[second]} {percent(own[second])}"
