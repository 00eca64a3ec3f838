"""A cell that has been resolved: all that a worker needs to train it, and the key under which its result is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deni.study.keys import decides, key_of, pack_key_of, with_seeds

if TYPE_CHECKING:
    from deni.data import Texts
    from deni.recipe import Recipe
    from deni.schedule import Schedule
    from deni.study.cell import Cell, Fingerprints
    from deni.study.library import Library


@dataclass(frozen=True)
class Job:
    """A cell with what follows from it, worked out once, when the study is planned.

    It is small, so that it can be sent to another process: a worker reads the texts into its own library.

    Args:
        cell: what was asked for.
        recipe: how it is trained.
        decides: all that decides the result; `key` is its SHA-256.
        key: under which its result is kept.
        pack: the same for all cells that may train in one population.
        steps: T, optimizer steps of one run.
        schedule: the phases of these steps.
    """

    cell: Cell
    recipe: Recipe = field(repr=False)
    decides: Mapping[str, Any] = field(repr=False)
    key: str
    pack: str
    steps: int
    schedule: Schedule = field(repr=False)

    @classmethod
    def of(
        cls,
        cell: Cell,
        fingerprints: Fingerprints,
        versions: Mapping[str, str],
        steps: int,
        recipe: Recipe | None = None,
    ) -> Job:
        """The job of a cell.

        Args:
            fingerprints: of its files.
            versions: of the packages that it will be trained with.
            steps: see above.
            recipe: what `cell.resolve()` gives, where it is known already.

        Raises:
            SettingError: phases that do not fit into the steps, or a name, setting or value that does not exist.
        """
        recipe = cell.resolve() if recipe is None else recipe
        decided = decides(cell, recipe, fingerprints, versions)
        keys = key_of(decided), pack_key_of(decided, cell.sources)
        return cls(cell, recipe, decided, *keys, steps, recipe.strategy.schedule(steps))

    def reseeded(self, cell: Cell) -> Job:
        """The job of a cell that has the same settings and texts, and other seeds; nothing is worked out again."""
        decided = with_seeds(self.decides, cell)
        pack = self.pack if cell.sources == self.cell.sources else pack_key_of(decided, cell.sources)
        recipe = self.recipe.reseeded(cell.seed, cell.sources)
        return Job(cell, recipe, decided, key_of(decided), pack, self.steps, self.schedule)

    @property
    def member_steps(self) -> int:
        """What it costs."""
        return self.schedule.cost

    def texts(self, library: Library) -> tuple[Texts, Texts]:
        """The texts to train on and those to measure on."""
        return library.parts(self.cell, self.recipe.strategy)
