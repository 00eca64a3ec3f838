"""A study checked against its data and models: the key and the cost of each cell."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deni.auto import decide
from deni.data import Texts, check_trainable
from deni.errors import InputError, SettingError
from deni.models.loading import check_generator, load_config
from deni.models.once import kept_answers
from deni.models.pair_rows import check_pairs
from deni.models.pairs import check_architecture
from deni.models.pooling import choose
from deni.provenance import versions
from deni.recipe import Recipe
from deni.strategies import Strategy
from deni.strategies.auto import Auto
from deni.study.cell import BLOCK_SOURCES, Cell, NamedSettings
from deni.study.distilled import Distilled
from deni.study.execution.job import Job
from deni.study.library import Library, augmented_files, check_augmented, steps_of
from deni.study.spec.grid import Grid, Point, read_grid
from deni.tasks import TASKS
from deni.tuning.unipelt import UniPELT, package


@dataclass(frozen=True)
class Study:
    """A study that has been read and checked.

    Args:
        name: what the file calls it.
        jobs: its cells, resolved.
        library: the texts that were read for it.
    """

    name: str
    jobs: tuple[Job, ...]
    library: Library = field(repr=False)

    @property
    def packs(self) -> list[tuple[Job, ...]]:
        """The cells, those that may train in one population together."""
        packs: dict[str, list[Job]] = {}
        for job in self.jobs:
            packs.setdefault(job.pack, []).append(job)
        return [tuple(pack) for pack in packs.values()]


def read_study(path: str | Path) -> Study:
    """Read a study and check it, with its data and models.

    Raises:
        InputError: one line that names the file, the line, and what is wrong there.
    """
    return resolve(read_grid(path))


def resolve(grid: Grid) -> Study:
    """Check a study file against its data and models; raises InputError as `read_study` does."""
    library = Library()
    with kept_answers():
        return Study(grid.name, tuple(_jobs(grid.points(), library)), library)


def _jobs(points: Iterable[Point], library: Library) -> Iterator[Job]:
    """The cells as jobs, each checked against its data and model."""
    here, seen = versions(), dict[str, Point]()
    checked: set[int] = set()  # parts of the data, which many cells share
    for _, group in itertools.groupby(points, key=_without_seeds):
        recipe, of_texts = None, dict[tuple[int, ...], Job]()
        for point in group:
            recipe = recipe or _recipe_of(point)
            chosen = tuple(point.cell.seeds[name] for name in BLOCK_SOURCES)
            if chosen in of_texts:
                with _axis(point, "seeds"):
                    job = of_texts[chosen].reseeded(point.cell)
            else:
                job = of_texts[chosen] = _job_of(point, recipe, library, checked, here)
            if job.key in seen:
                raise _twice(point, seen[job.key])
            seen[job.key] = point
            yield job


def _job_of(point: Point, recipe: Recipe, library: Library, checked: set[int], here: Mapping[str, str]) -> Job:
    """A cell as a job; `recipe` is of another seed."""
    cell = point.cell
    texts = _texts_of(point, recipe.strategy, library, checked)
    with _axis(point, "strategies"):
        decided = _decided(cell, recipe, texts)
        if decided is not recipe:
            _check_model(decided, load_config(cell.model))
    if decided.pairs == "bi":
        with _axis(point, "datasets"):
            check_pairs(texts)
    steps = steps_of(decided, len(texts))
    with _axis(point, "models"):
        fingerprints = library.fingerprints(cell, decided.strategy)
    with _axis(point, "strategies"):
        return Job.of(cell, fingerprints, here, steps, decided.reseeded(cell.seed, cell.sources))


def _decided(cell: Cell, recipe: Recipe, texts: Texts) -> Recipe:
    """The recipe with what `auto` becomes, also where that is what a student is taught."""
    asked = recipe.strategy
    if not (isinstance(asked, Distilled) and asked.taught == Auto.name):
        return decide(recipe, texts)
    plain = dataclasses.replace(cell, strategy=NamedSettings(Auto.name)).resolve()
    decided = decide(plain, texts)
    taught = decided.strategy
    asked = dataclasses.replace(asked, taught=taught.name, taught_settings=taught.settings())
    return dataclasses.replace(decided, strategy=asked)


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
    except (InputError, SettingError) as error:
        raise point.wrong(axis, error) from None


def _recipe_of(point: Point) -> Recipe:
    with _axis(point, "models"):
        config = load_config(point.cell.model)
        limit = getattr(config, "max_position_embeddings", None)
    with _axis(point, "strategies"):
        recipe = point.cell.resolve()
    if TASKS[recipe.task].generates:
        with _axis(point, "models"):
            check_generator(recipe.model)
    with _axis(point, "tunings"):
        if isinstance(recipe.tuning, UniPELT):
            package()
    with _axis(point, "recipe"):
        _check_model(recipe, config)
        if limit and recipe.max_length and recipe.max_length > limit - recipe.tuning.virtual_tokens:
            raise SettingError(
                f"max_length {recipe.max_length} is over the limit of {limit} tokens of {point.cell.model}"
            )
    return recipe


def _check_model(recipe: Recipe, config: Any) -> None:
    """Raise SettingError for a model that cannot be read as the recipe says."""
    if TASKS[recipe.task].generates:
        return  # it reads prompts, see `check_generator`
    choose(*recipe.chosen_pooling(), config)
    if recipe.pairs == "bi":
        check_architecture(config)


def _twice(point: Point, earlier: Point) -> InputError:
    for axis, choice in point.choices.items():
        other = earlier.choices.get(axis, choice)
        if other.spot.path != choice.spot.path:
            return choice.spot.wrong(f"means the same cells as {other.spot.path} in line {other.spot.line}: omit one")
    raise AssertionError("two points of one path")
