"""What a row of the table of `auto` says: which texts it is for, what becomes of them, and what supports it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from deni.auto.facts import Facts
from deni.tasks import TASKS

Range = tuple[float, float]  # least and most, both included
ANY: Range = (0, float("inf"))


@dataclass(frozen=True)
class Row:
    """A row: the first one that fits decides.

    Args:
        name: of the row, for messages.
        tasks, encoders, architectures, tunings: what it is for; empty for all. `tunings` is about one that the user
            gave.
        one_class: for tasks in which each text has exactly one class (True), for others (False), or for both.
        pairs: for pairs alone (True), for single texts alone (False), or for both.
        examples: how many labeled texts.
        classes: how many classes, labels or types of entities; 0 in regression.
        per_class: labeled texts a class, on average.
        largest: labeled texts of the most frequent class.
        strategy, strategy_settings: the strategy, maybe several with `+`; as in a study file.
        tuning, tuning_settings: which parameters train.
        recipe: further open fields of `deni.recipe.Recipe`, such as `epochs`. Rates hold for the row's tuning alone.
        why: the reason, in a sentence.
        evidence: the studies that support it, files of the repository; none yet: `provisional: ` and what it waits for.
    """

    name: str
    tasks: tuple[str, ...] = ()
    encoders: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    tunings: tuple[str, ...] = ()
    one_class: bool | None = None
    pairs: bool | None = None
    examples: Range = ANY
    classes: Range = ANY
    per_class: Range = ANY
    largest: Range = ANY
    strategy: str = "default"
    strategy_settings: Mapping[str, Any] = field(default_factory=dict)
    tuning: str = "full"
    tuning_settings: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""
    evidence: str = ""

    def fits(self, facts: Facts, tuning: str | None = None) -> bool:
        """Whether it is for such texts.

        Args:
            tuning: the name of the one that the user gave; None where the row may choose.
        """
        named = (
            (self.tasks, facts.task),
            (self.encoders, facts.encoder),
            (self.architectures, facts.architecture),
            (self.tunings, tuning),
        )
        ranges = ("examples", "classes", "per_class", "largest")
        return (
            all(not known or value is None or value in known for known, value in named)
            and self.pairs in (None, facts.pairs)
            and self.one_class in (None, TASKS[facts.task].one_class)
            and all(getattr(self, name)[0] <= getattr(facts, name) <= getattr(self, name)[1] for name in ranges)
        )

    def when(self) -> str:
        """Which texts it is for, in a few words; `any` for all."""
        kinds = (("task", self.tasks), ("encoder", self.encoders), ("architecture", self.architectures))
        words = [f"{kind} {' or '.join(known)}" for kind, known in kinds if known]
        if self.one_class is not None:
            words.append("one class a text" if self.one_class else "not one class a text")
        if self.pairs is not None:
            words.append("pairs" if self.pairs else "single texts")
        names = {
            "examples": "labeled texts",
            "classes": "classes",
            "per_class": "labeled texts a class",
            "largest": "labeled texts of the largest class",
        }
        words += [f"{_told(getattr(self, name))} {what}" for name, what in names.items() if getattr(self, name) != ANY]
        if self.tunings:
            words.append(f"tuning {' or '.join(self.tunings)}, if one is given")
        return ", ".join(words) or "any"

    def becomes(self) -> str:
        """What it says, in a few words."""
        told = ", ".join(f"{name} {value}" for name, value in {**self.strategy_settings, **self.recipe}.items())
        return f"{self.strategy} with {self.tuning}{f', {told}' if told else ''}"


def _told(bounds: Range) -> str:
    """A range in words.

    >>> _told((2, float("inf"))), _told((0, 8)), _told((2, 8))
    ('at least 2', 'at most 8', '2 to 8')
    """
    least, most = bounds
    if most == ANY[1]:
        return f"at least {least:g}"
    return f"at most {most:g}" if not least else f"{least:g} to {most:g}"
