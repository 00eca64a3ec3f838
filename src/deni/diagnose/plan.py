"""The cells that a diagnosis trains."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deni.auto import decide
from deni.baselines import BASELINES
from deni.data import Texts, check_trainable
from deni.data.hub import is_hub_id
from deni.data.named_datasets import PAPER_LABELED
from deni.errors import InputError, SettingError, did_you_mean
from deni.models.once import kept_answers
from deni.provenance import canonical, versions
from deni.randomness import SOURCES
from deni.recipe import Recipe
from deni.strategies import Strategy, make_strategy
from deni.strategies.augmentation import Augmentation
from deni.strategies.auto import Auto
from deni.strategies.forking import Forking
from deni.strategies.input_noise import InputNoise
from deni.strategies.prior_noise import PriorNoise
from deni.strategies.weight_noise import WeightNoise
from deni.study.cell import BLOCK_SOURCES, OPTIMIZATION_SOURCES, Cell, NamedSettings
from deni.study.execution.job import Job
from deni.study.library import Library, augmented_files, check_augmented, steps_of
from deni.study.plan import Study
from deni.study.store.database import Store

CONFIGURED = 10_000  # the seeds of the configurations begin here, so that none is a value's seed
BUDGETS = {"small": (3, 3), "normal": (5, 5), "large": (10, 10)}  # configurations, values
CANDIDATES = (
    NamedSettings("deni"),
    NamedSettings("linear_probe"),
    NamedSettings("swa"),
    NamedSettings("best_practices"),
    NamedSettings("ensemble", {"members": 3}),
)
RIVALS = (NamedSettings("tfidf"), NamedSettings("frozen"))  # the majority class is in the findings without a run
_NOISY = (Forking, InputNoise, PriorNoise, WeightNoise)

Grid = tuple[tuple[Job, ...], ...]  # a row a configuration, a column a value


@dataclass(frozen=True)
class Question:
    """The question of a diagnosis.

    Args:
        cell: what is diagnosed; its seeds do not count.
        seeds: runs that tell how much it varies, at least 2.
        configurations: of all other sources, for each investigated one; at least 2.
        values: of the investigated source in each configuration, at least 2.
        sources: to investigate; None for all that play a part (data_split only when it is named).
        candidates: strategies to try in its place.
        trial_seeds: runs of each candidate, on the first of the seeds; at least 2.
        rivals: baselines on the texts of the first seed.

    Raises:
        InputError: a number or source that makes no sense.
    """

    cell: Cell
    seeds: int = 10
    configurations: int = 3
    values: int = 3
    sources: tuple[str, ...] | None = None
    candidates: Sequence[NamedSettings] = CANDIDATES
    trial_seeds: int = 5
    rivals: Sequence[NamedSettings] = RIVALS

    def __post_init__(self) -> None:
        for name in ("seeds", "configurations", "values", "trial_seeds"):
            if getattr(self, name) < 2:
                raise InputError(f"{name} must be at least 2, not {getattr(self, name)}: one run has no spread")
        if self.trial_seeds > self.seeds:
            raise InputError(
                f"{self.trial_seeds} trial seeds are compared with the same seeds of {self.cell.strategy.name}, and "
                f"there are {self.seeds}: give fewer trial seeds or more seeds"
            )
        for name in set(self.sources or ()) - set(SOURCES):
            raise InputError(f"unknown source of randomness {name!r}: {did_you_mean(str(name), SOURCES)}")


@dataclass(frozen=True)
class Diagnosis:
    """The cells of a diagnosis.

    Args:
        question: what they are to answer.
        study: all cells, each once.
        train, test: the texts of the first seed.
        seeds: runs under plain seeds.
        golden: runs that vary everything that is investigated.
        sources: of each investigated source the runs, configurations by values.
        trials: of each candidate its runs under the first of the seeds.
        rivals: of each baseline its fit on the texts of the first seed.
        left_out: candidates that cannot run here, and why.
    """

    question: Question
    study: Study
    train: Texts = field(repr=False)
    test: Texts = field(repr=False)
    seeds: tuple[Job, ...]
    golden: tuple[Job, ...]
    sources: Mapping[str, Grid]
    trials: Mapping[str, tuple[Job, ...]]
    rivals: Mapping[str, Job]
    left_out: Mapping[str, str]

    def left(self, path: str | Path) -> list[Job]:
        """The cells that the store at `path`, if there is one, has neither done nor failed."""
        have: Mapping[str, str] = {}
        if Path(path).exists():
            with Store(path) as store:
                have = store.statuses(each.key for each in self.study.jobs)
        return [each for each in self.study.jobs if have.get(each.key) not in ("done", "failed")]

    @property
    def parts(self) -> dict[str, list[Job]]:
        """What is trained for what, for a table of costs; a cell is counted where it is needed first."""
        named: dict[str, Iterable[Job]] = {"seeds": self.seeds}
        named |= {f"source {name}": (each for row in grid for each in row) for name, grid in self.sources.items()}
        named |= {"all sources at once": self.golden}
        named |= {f"trial of {name}": cells for name, cells in self.trials.items()}
        named |= {"baselines": self.rivals.values()}
        seen: set[str] = set()
        found: dict[str, list[Job]] = {}
        for name, cells in named.items():
            new = [each for each in cells if each.key not in seen]
            seen |= {each.key for each in new}
            if new:
                found[name] = new
        return found


def ask(
    data: str,
    *,
    dataset: Mapping[str, Any],
    recipe: Mapping[str, Any],
    tuning: NamedSettings,
    strategy: str = "default",
    model: str = "minilm",
    labelled: int | None = None,
    test_size: int | None = None,
    block: int = 0,
    preset: str | None = None,
    protocol: str | None = None,
    budget: str = "small",
    configurations: int | None = None,
    values: int | None = None,
    sources: Sequence[str] | None = None,
    candidates: Sequence[str] | None = None,
    baselines: Mapping[str, Mapping[str, Any]] | None = None,
    **counts: int,
) -> Question:
    """What `deni diagnose` asks; the arguments are those of the command.

    Args:
        data: a file, or the name of a dataset.
        dataset: what else `deni.data.read_data` takes, and `augmented`; None means not given.
        recipe: fields of `deni.recipe.Recipe`; None means not given.
        budget: configurations and values that are not given, see `BUDGETS`.
        sources: None for all that play a part; empty for none.
        candidates: names; None for `CANDIDATES`, empty for none.
        baselines: name -> settings; None for `RIVALS`, empty for none.
        counts: `seeds` and `trial_seeds` of `Question`.
    """
    if data == "-":
        raise InputError("a diagnosis reads its texts more than once: give a file, not standard input")
    for name in (strategy, *(candidates or ())):
        if name in BASELINES:
            raise InputError(
                f"{name} is a baseline, which has no seeds to vary: name it in --baselines, which every "
                "diagnosis has beside the strategy, and another one here"
            )
    if protocol == "paper" and labelled is None and make_strategy(strategy, preset or protocol).most_texts is None:
        labelled = PAPER_LABELED
    known = {each.name: each for each in CANDIDATES}
    tried = CANDIDATES if candidates is None else [known.get(name, NamedSettings(name)) for name in candidates]
    cell = Cell(
        dataset={"name": data, **{name: value for name, value in dataset.items() if value is not None}},
        model=model,
        tuning=tuning,
        strategy=NamedSettings(strategy),
        labelled=labelled,
        seed=0,
        block=block,
        test_size=test_size,
        preset=preset,
        protocol=protocol,
        recipe={name: value for name, value in recipe.items() if value is not None},
    )
    size = BUDGETS[budget]
    chosen = None if sources is None else tuple(sources)
    return Question(
        cell,
        configurations=size[0] if configurations is None else configurations,
        values=size[1] if values is None else values,
        sources=chosen,
        candidates=tried,
        rivals=RIVALS if baselines is None else [NamedSettings(name, own) for name, own in baselines.items()],
        **counts,
    )


def plan_diagnosis(question: Question) -> Diagnosis:
    """All cells of a diagnosis, checked against data and model.

    Raises:
        InputError: texts, a model or a setting that does not fit.
    """
    with kept_answers():
        return _planned(question)


def _planned(question: Question) -> Diagnosis:
    planner, cell = _Planner(), dataclasses.replace(question.cell, seed=0, sources={})
    strategy = planner.recipe(cell).strategy
    train, test = planner.library.parts(cell, strategy)
    playing = _playing(question, strategy, len(train), planner.library)
    chosen = [name for name in SOURCES if name in (playing if question.sources is None else question.sources)]
    moving = [name for name in SOURCES if name in playing or name in chosen]
    seeds = planner.row(_seeded(cell, question.seeds, ()))
    golden = planner.row(_seeded(cell, question.seeds, [name for name in moving if name in BLOCK_SOURCES]))
    sources = {
        name: tuple(
            planner.row(_investigated(cell, name, configuration, question.values, moving))
            for configuration in range(question.configurations)
        )
        for name in chosen
    }
    trials, left_out = {}, {}
    for candidate in question.candidates:
        other = dataclasses.replace(cell, strategy=candidate)
        if planner.recipe(other).strategy == strategy:
            continue
        try:
            trials[called(candidate)] = planner.row(_seeded(other, question.trial_seeds, ()))
        except (InputError, SettingError) as error:  # such as phases that do not fit into so few steps
            left_out[called(candidate)] = str(error)
    rivals = {
        each.name: planner.row([dataclasses.replace(cell, strategy=each, vary="optimisation")])[0]
        for each in question.rivals
    }
    # Cells that may train in one population are adjacent.
    together: dict[str, list[Job]] = {}
    for each in planner.jobs.values():
        if each.key in planner.wanted:
            together.setdefault(each.pack, []).append(each)
    name = f"diagnosis of {cell.dataset['name']}"
    study = Study(name, tuple(each for pack in together.values() for each in pack), planner.library)
    return Diagnosis(question, study, train, test, seeds, golden, sources, trials, rivals, left_out)


def called(strategy: NamedSettings) -> str:
    """A strategy's name, with the settings that are given."""
    own = ", ".join(f"{name}={value}" for name, value in strategy.settings.items())
    return f"{strategy.name} ({own})" if own else strategy.name


def default_store(data: str) -> Path:
    """Where a diagnosis is kept: next to the file; for a named dataset, in the current folder.

    >>> str(default_store("../tickets.csv")), str(default_store("user/dataset"))
    ('../tickets.csv.diagnose.db', 'dataset.diagnose.db')
    """
    file = Path(data)
    return Path(f"{file.name}.diagnose.db") if is_hub_id(data) and not file.exists() else Path(f"{data}.diagnose.db")


# ---- sources ---------------------------------------------------------------------------------------------------------


def used_sources(strategy: Strategy) -> tuple[str, ...]:
    """The optimization sources that a strategy draws from.

    >>> from deni.strategies import DENI, Default
    >>> used_sources(Default()), used_sources(DENI())[-1]
    (('sample_order', 'initialisation', 'dropout'), 'noise')
    """
    noisy = any(isinstance(part, _NOISY) for part in strategy.parts)
    augmented = any(isinstance(part, Augmentation) and part.augmentations for part in strategy.parts)
    without = {"noise": noisy, "augmentation": augmented}
    return tuple(name for name in OPTIMIZATION_SOURCES if without.get(name, True))


def _playing(question: Question, strategy: Strategy, texts: int, library: Library) -> list[str]:
    """The sources that can make a difference; raises InputError for one that is asked for and cannot."""
    whole = dataclasses.replace(question.cell, labelled=None)
    available = len(library.parts(whole, strategy)[0])
    used = [*(["label_choice"] if texts < available else []), *used_sources(strategy)]
    for name in question.sources or ():
        if name == "label_choice" and name not in used:
            raise InputError(f"label_choice: all {available} texts of the training split are used; give --labeled")
        if name in ("noise", "augmentation") and name not in used:
            raise InputError(f"{name}: {question.cell.strategy.name} does not draw from it; omit it")
    return used if question.sources is None else [name for name in used if name not in BLOCK_SOURCES]


def _seeded(cell: Cell, seeds: int, moved: Sequence[str]) -> list[Cell]:
    """One cell a seed; the block's sources in `moved` follow it, too."""
    vary = "all" if moved else "optimisation"
    return [
        dataclasses.replace(cell, seed=seed, vary=vary, sources=dict.fromkeys(moved, seed)) for seed in range(seeds)
    ]


def _investigated(cell: Cell, source: str, configuration: int, values: int, moving: Sequence[str]) -> list[Cell]:
    """One configuration of all other sources, and the investigated one at each of its values.

    A pack shares `sources` and differs in `seed`. So where the source is one of the optimization, the seed is its
    value; where it is the block's, the seed is the configuration.
    """
    fixed = CONFIGURED + configuration
    of_the_block = dict.fromkeys((name for name in moving if name in BLOCK_SOURCES and name != source), fixed)
    if source in BLOCK_SOURCES:
        own = [(fixed, {**of_the_block, source: value}) for value in range(values)]
    else:
        others = dict.fromkeys((name for name in OPTIMIZATION_SOURCES if name != source), fixed)
        own = [(value, {**of_the_block, **others}) for value in range(values)]
    return [dataclasses.replace(cell, seed=seed, sources=sources, vary=source) for seed, sources in own]


class _Planner:
    """Makes the jobs of cells; a cell that is asked for twice is there once."""

    def __init__(self) -> None:
        self.library, self.jobs, self.wanted = Library(), dict[str, Job](), set[str]()
        self._of_cells: dict[str, Job] = {}
        self._recipes: dict[str, Recipe] = {}  # of cells that differ in seeds alone
        self._versions, self._checked = versions(), set[int]()

    def row(self, cells: Iterable[Cell]) -> tuple[Job, ...]:
        """These cells, which are to be trained."""
        found = tuple(self.job(cell) for cell in cells)
        self.wanted |= {each.key for each in found}
        return found

    def job(self, cell: Cell) -> Job:
        """A cell with its keys and its cost."""
        spec = canonical(cell.to_json())
        if spec not in self._of_cells:
            job = self._made(cell)
            self._of_cells[spec] = self.jobs.setdefault(job.key, job)
        return self._of_cells[spec]

    def recipe(self, cell: Cell) -> Recipe:
        """How a cell is trained."""
        alike = canonical(dataclasses.replace(cell, seed=0, block=0, sources={}, vary="").to_json())
        if alike not in self._recipes:
            recipe = cell.resolve()
            if isinstance(recipe.strategy, Auto):  # one for all: their choices of texts differ in little
                recipe = decide(recipe, self.library.parts(cell, recipe.strategy)[0])
            self._recipes[alike] = recipe
        return self._recipes[alike].reseeded(cell.seed, cell.sources)

    def _made(self, cell: Cell) -> Job:
        recipe = self.recipe(cell)
        augmented_files(recipe.strategy)
        train, test = self.library.parts(cell, recipe.strategy)
        if id(train) not in self._checked:
            if not self._checked:  # other choices of the same texts bring the same warnings
                check_trainable(train, test)
            self._checked.add(id(train))
            check_augmented(recipe.strategy, train)
        fingerprints = self.library.fingerprints(cell, recipe.strategy)
        return Job.of(cell, fingerprints, self._versions, steps_of(recipe, len(train)), recipe)
