"""The interface of augmentation methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from deni.settings import check_choices


@dataclass(frozen=True)
class Augmenter:
    """Makes new texts from labeled examples.

    Its fields are its settings and its command-line flags; their help is the text under `Args:` of the docstring. The
    journal of an unfinished file shows them in plain text: a secret comes from the environment, never from a field.

    `make` must depend on nothing but its arguments, the settings and `start`'s arguments, for an interrupted file is
    continued. What is costly to load is a `functools.cached_property`.
    """

    name: ClassVar[str]
    batch: ClassVar[int] = 1  # texts that one call of `make` takes; what an interrupt can lose
    incidental: ClassVar[frozenset[str]] = frozenset()  # fields that do not decide the texts: timeouts, devices

    def __post_init__(self) -> None:
        check_choices(self)

    def start(self, texts: Sequence[str], labels: Sequence[str], n: int, seed: int) -> None:
        """Check or estimate before the first text is made; raises InputError for what cannot work.

        Args:
            texts: all of the file, each pair of text and label once; also where an interrupted file is continued.
            labels: one a text; several are separated by `;`, numbers are written out.
            n: how many new texts each is to have.
            seed: of the source `augmentation`.
        """

    def make(
        self, texts: Sequence[str], labels: Sequence[str], n: int, generators: Sequence[np.random.Generator]
    ) -> list[list[str]]:
        """New texts for each of at most `batch` texts: n, or fewer where there are no more.

        The caller drops those that are blank, equal to their text, or there twice, and those after the first n.

        Args:
            generators: one a text; what it draws depends on the seed, the text and its label alone.
        """
        raise NotImplementedError

    def finish(self) -> None:
        """Report, and close what is open: once `start` came through, also after an error or an interrupt."""

    def decided_by(self) -> Mapping[str, Any]:
        """What else decides the texts, as JSON values: an interrupted file is not continued with another."""
        return {}
