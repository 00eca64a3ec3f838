"""Every labeled text there is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from deni.errors import SettingError
from deni.strategies.base import Setup, Strategy


@dataclass(frozen=True)
class AllData(Strategy, name="all_data", paper_row=2):
    """Train on all labeled texts instead of a sample: what more data would buy (arXiv 2406.12471).

    Args:
        most_texts: the largest number of texts, at least 1; 55000 in the paper.
    """

    when: ClassVar[str] = (
        "To see how much more labels would help, if they exist; as an upper bound for strategies that work "
        "with few labels."
    )

    most_texts: int = 55_000

    def __post_init__(self) -> None:
        if self.most_texts < 1:
            raise SettingError(f"most_texts must be at least 1, not {self.most_texts}")

    def prepare(self, setup: Setup) -> Setup:
        if setup.train is None or not hasattr(setup.train, "select") or len(setup.train) <= self.most_texts:
            return setup
        assert setup.sources is not None
        chosen = setup.sources.numpy("label_choice").permutation(len(setup.train))[: self.most_texts]
        return replace(setup, train=setup.train.select(sorted(chosen.tolist())))
