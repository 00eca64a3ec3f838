"""Checks of texts before anybody trains on them: pure functions from texts to findings."""

from __future__ import annotations

import warnings
from collections.abc import Callable

from deni.data.checks.characters import empty_talk, trouble
from deni.data.checks.copies import contradictions, duplicates, equal_sides, leaks
from deni.data.checks.finding import Finding
from deni.data.checks.labels import (
    alike_labels,
    fitting_task,
    learnable,
    missing_labels,
    small_classes,
    unknown_labels,
)
from deni.data.columns import LABEL_FLAG
from deni.data.texts import Texts
from deni.errors import InputError, InputWarning

Check = Callable[[Texts], list[Finding]]

# The most important first. Those of texts hold for any part, those of labels for the one that is trained on.
TEXT_CHECKS: dict[str, Check] = {
    "contradictions": contradictions,
    "duplicates": duplicates,
    "pairs": equal_sides,
    "characters": trouble,
    "placeholders": empty_talk,
}
LABEL_CHECKS: dict[str, Check] = {
    "classes": learnable,
    "task": fitting_task,
    "missing": missing_labels,
    "labels": alike_labels,
    "sizes": small_classes,
}


def check_held_out(train: Texts, held_out: Texts, part: str = "test") -> list[Finding]:
    """Findings about a held-out split, compared with the training split."""
    return [*unknown_labels(train, held_out, part), *leaks(train, held_out, part)]


def check_trainable(train: Texts, test: Texts | None = None, dev: Texts | None = None) -> None:
    """Check that a model can be trained on these labeled examples, and tested on those.

    Raises:
        InputError: the first finding that is an error, such as one class only, or a class of `test` that `train` lacks.

    Warns:
        InputWarning: one line for each finding that is a warning; notes are for `deni inspect`.
    """
    if train.labels is None:
        raise InputError(f"{train.source}: the texts have no labels; name their column with {LABEL_FLAG}")
    found = [each for check in (*LABEL_CHECKS.values(), *TEXT_CHECKS.values()) for each in check(train)]
    for part, held_out in (("test", test), ("dev", dev)):
        if held_out is not None:
            found += check_held_out(train, held_out, part)
    for finding in found:
        if finding.severity == "error":
            raise InputError(str(finding))
    for finding in found:
        if finding.severity == "warning":
            warnings.warn(str(finding), InputWarning, stacklevel=2)
