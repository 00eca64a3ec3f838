"""Which texts each fold leaves out, and which it trains on."""

from __future__ import annotations

import warnings
from collections import Counter

import numpy as np

from deni.data import Texts
from deni.data.splits import strata
from deni.errors import InputWarning, SettingError, shown
from deni.randomness import derive
from deni.tasks import TASKS

MOST_SEEDS = 100


def check_folds(texts: Texts, folds: int, divisions: int = 1) -> None:
    """Raise SettingError where texts cannot be divided so; warn of classes that one fold has all texts of."""
    if folds < 2:
        raise SettingError(f"cv must be at least 2 folds, not {folds}")
    if not 1 <= divisions <= MOST_SEEDS:
        raise SettingError(f"cv_seeds must be from 1 to {MOST_SEEDS}, not {divisions}")
    assert texts.labels is not None
    different = len(set(texts.exact_keys))
    if different < 2 * folds:
        raise SettingError(
            f"{folds} folds need at least {2 * folds} different texts, and there are {different}: choose fewer folds, "
            "or label more"
        )
    if not TASKS[texts.task].one_class:
        return
    counts = Counter(texts.labels)
    if max(counts.values()) < folds:
        raise SettingError(
            f"no class has {folds} texts, one for each fold: choose at most {max(counts.values())} folds, or label more"
        )
    if single := [label for label, count in counts.items() if count == 1]:
        warnings.warn(
            f"only one text has the label {shown(single)}: the fold that leaves it out learns nothing of that class",
            InputWarning,
            stacklevel=2,
        )


def divide(texts: Texts, folds: int, seed: int) -> np.ndarray:
    """The fold in which each text is left out, `(N,)`: stratified where the task has classes.

    Equal texts are left out together. The sizes of folds differ by at most one text, if no text is there twice.

    Args:
        seed: another one divides otherwise.
    """
    from sklearn.model_selection import KFold, StratifiedKFold

    assert texts.labels is not None
    first: dict[str, int] = {}
    for at, key in enumerate(texts.exact_keys):
        first.setdefault(key, at)
    rows = np.fromiter(first.values(), dtype=int)  # of texts that are there twice, one
    classes = np.asarray(strata(texts.labels, texts.task))[rows]
    most = max(Counter(classes.tolist()).values())
    made = StratifiedKFold if most >= folds and len(set(classes)) > 1 else KFold
    found = np.empty(len(texts), dtype=int)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        splits = made(folds, shuffle=True, random_state=derive(seed, "folds") % 2**32).split(rows[:, None], classes)
        for fold, (_, left_out) in enumerate(splits):
            found[rows[left_out]] = fold
    return found[[first[key] for key in texts.exact_keys]]


def training_rows(fold_of: np.ndarray, seed: int) -> list[np.ndarray]:
    """The rows that each fold trains on, as many for each: folds that have fewer see some of their texts twice.

    So all of them take the optimizer steps of the largest.

    Args:
        fold_of: as `divide` gives it.
        seed: draws the texts that are seen twice.

    >>> [rows.tolist() for rows in training_rows(np.array([0, 0, 1]), seed=0)]
    [[2, 2], [0, 1]]
    """
    own = [np.flatnonzero(fold_of != fold) for fold in range(fold_of.max() + 1)]
    longest = max(map(len, own))
    generator = np.random.default_rng(derive(seed, "folds", "twice"))
    return [
        np.sort(np.concatenate([rows, generator.choice(rows, longest - len(rows), replace=longest > 2 * len(rows))]))
        for rows in own
    ]
