"""What `deni show` does: what `auto` would become for the texts of a file, without training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deni.auto import decide
from deni.auto.decide import member_steps
from deni.commands.parts import read_parts
from deni.errors import SettingError
from deni.recipe import Recipe


@dataclass(frozen=True)
class AutoPlan:
    """What `deni train` would do with the strategy `auto`.

    Args:
        chosen: facts, row, settings and where each came from, reason and evidence, see `deni.auto.decide`.
        member_steps: what it would cost.
    """

    chosen: Mapping[str, Any]
    member_steps: int

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {**self.chosen, "member_steps": self.member_steps}


def show_auto(file: str | Path, *, recipe: Recipe, **parts: Any) -> AutoPlan:
    """What `auto` would become.

    Args:
        file: as `deni.commands.train.train_file` takes it.
        recipe: with the strategy `auto`, and what is given.
        parts: which texts train, as of `deni.commands.parts.read_parts`.

    Raises:
        SettingError: a recipe of another strategy, which leaves nothing to choose.
        InputError: a file that does not fit.
    """
    train, _, _ = read_parts(file, recipe, **parts)
    decided = decide(recipe, train)
    if decided.chosen is None:
        raise SettingError(f"the strategy is {recipe.strategy.name}, so auto has nothing to choose")
    return AutoPlan(decided.chosen, member_steps(decided, len(train)))
