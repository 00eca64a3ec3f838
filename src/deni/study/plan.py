"""A study with its data and models: the keys and the cost of each cell; what does not fit is refused here."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from deni.data import Texts, check_trainable
from deni.errors import InputError
from deni.models.loading import load_config
from deni.provenance import versions
from deni.recipe import Recipe
from deni.strategies import Strategy
from deni.study.cell import Cell, Planned
from deni.study.library import Library, augmented_files, check_augmented, steps_of
from deni.study.spec.grid import Point, read_grid
from deni.tuning.unipelt import UniPELT, package


@dataclass(frozen=True)
class Study:
    """A study that has been read and checked.

    Args:
        name: what the file calls it.
        planned: its cells; those that may train in one population stand beside each other.
        library: the texts that were read for it.
    """

    name: str
    planned: tuple[Planned, ...]
    library: Library = field(repr=False)

    @property
    def packs(self) -> list[tuple[Planned, ...]]:
        """The cells, those that may train in one population together."""
        return [tuple(pack) for _, pack in itertools.groupby(self.planned, key=lambda each: each.pack)]


def read_study(path: str | Path) -> Study:
    """Read a study and check it, with its data and models.

    Raises:
        InputError: one line that names the file, the line, and what is wrong there.
    """
    library = Library()
    grid = read_grid(path)
    return Study(grid.name, tuple(_plan(grid.points(), library)), library)


def _plan(points: Iterable[Point], library: Library) -> Iterator[Planned]:
    """The cells with keys and costs, each checked against its data and model."""
    here, seen = versions(), dict[str, Point]()
    checked: set[int] = set()  # parts of the data, which many cells share
    for _, group in itertools.groupby(points, key=_without_seeds):
        alike = list(group)
        plan = _recipe_of(alike[0])
        for point in alike:
            train = _texts_of(point, plan.strategy, library, checked)
            steps = steps_of(plan, len(train))
            with _axis(point, "models"):
                fingerprints = library.fingerprints(point.cell, plan.strategy)
            with _axis(point, "strategies"):
                schedule = plan.strategy.schedule(steps)
            cost = {"steps": steps, "member_steps": schedule.cost, "schedule": str(schedule)}
            planned = Planned.of(point.cell, fingerprints, here, **cost)
            if planned.key in seen:
                raise _twice(point, seen[planned.key])
            seen[planned.key] = point
            yield planned


def _texts_of(point: Point, strategy: Strategy, library: Library, checked: set[int]) -> Texts:
    """The texts to train on; what is in `checked` is good."""
    with _axis(point, "datasets"):
        library.texts(point.cell)
        augmented_files(strategy)
    with _axis(point, "labelled"):
        train, measured = library.parts(point.cell, strategy)
    with _axis(point, "datasets"):
        if id(train) not in checked:
            check_trainable(train, **{"dev" if point.cell.measure == "development" else "test": measured})
            checked.add(id(train))
        check_augmented(strategy, train)
    return train


def _without_seeds(point: Point) -> Cell:
    return dataclasses.replace(point.cell, seed=0, sources={})


@contextmanager
def _axis(point: Point, axis: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        size = point.cell.test_size
        sized = axis == "labelled" and size is not None and str(error).startswith(f"{size} texts asked for")
        raise point.wrong("test_size" if sized else axis, error) from None


def _recipe_of(point: Point) -> Recipe:
    with _axis(point, "models"):
        limit = getattr(load_config(point.cell.model), "max_position_embeddings", None)
    with _axis(point, "strategies"):
        plan = point.cell.plan()
    with _axis(point, "tunings"):
        if isinstance(plan.tuning, UniPELT):
            package()
    with _axis(point, "recipe"):
        if limit and plan.max_length and plan.max_length > limit - plan.tuning.virtual_tokens:
            raise ValueError(f"max_length {plan.max_length} is over the limit of {limit} tokens of {point.cell.model}")
    return plan


def _twice(point: Point, earlier: Point) -> InputError:
    for axis, choice in point.choices.items():
        other = earlier.choices.get(axis, choice)
        if other.spot.path != choice.spot.path:
            return choice.spot.wrong(
                f"means the same cells as {other.spot.path} in line {other.spot.line}: leave one away"
            )
    raise AssertionError("two points of one path")
