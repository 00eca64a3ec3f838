"""What a student is trained on: labeled texts and those of a pool, each with a target and a weight."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deni.artifact import Classifier
from deni.artifact.classifier import words_of
from deni.auto import decide
from deni.data import Texts
from deni.data.checks.copies import copies
from deni.data.pool import DEV, TEST, Pool, make_pool
from deni.distillation import targets
from deni.distillation.options import Distillation
from deni.distillation.recipes import as_one_model, recipe_of, with_epochs
from deni.distillation.sampling import Length, draw, fit_length
from deni.errors import InputError, SettingError
from deni.models.tokenizing import encode
from deni.population import mean_of_members
from deni.recipe import Recipe
from deni.strategies.augmentation import Augmentation
from deni.strategies.auto import Auto
from deni.tasks import TASKS, Task
from deni.tuning.lora import mean_of_products

MOST_HELD_OUT = 0.1  # of the pool


@dataclass(frozen=True)
class Student:
    """All that training a student takes, see `deni.finetune.fine_tune`.

    Args:
        texts: labeled ones first, then those of the pool, with targets and weights.
        recipe: with as many epochs as fit.
        labels: class names in the order of the teacher's outputs.
        pool: what can serve.
        length: of the training.
        held_out: texts of the pool that it is not trained on.
        votes: of the teacher for these, `(N, C)`; of words `(W, C)`.
        initial: the values that it starts from; None for those of the encoder.
        info: the key `distillation` of its `deni.json`.
    """

    texts: Texts
    recipe: Recipe
    labels: list[str]
    pool: Pool
    length: Length
    held_out: Texts
    votes: np.ndarray
    initial: dict[str, Tensor] | None
    info: dict[str, Any] = field(default_factory=dict)


def make_student(
    teacher: Classifier,
    texts: Texts,
    *,
    labeled: Texts | None = None,
    test: Texts | None = None,
    dev: Texts | None = None,
    augmented: Mapping[str, Sequence[str]] | None = None,
    recipe: Recipe | None = None,
    options: Distillation | None = None,
    empty: int = 0,
) -> Student:
    """The targets of a student, and how long it trains.

    Args:
        teacher: whose vote is learned.
        texts: the pool; labels are not looked at.
        labeled: examples that the teacher was trained on; their targets are their labels, mixed with the teacher's
            out-of-fold predictions where it has them, never with its own.
        test, dev: examples that are measured on, which are left out of all others.
        augmented: further texts for the pool, by the text that they were made from.
        recipe: of the student; None: see `deni.distillation.recipes.recipe_of`. With `bf16` the teacher votes in
            bfloat16, too.
        options: how it learns; None for the defaults.
        empty: rows of the pool's file that had no text.

    Raises:
        InputError: texts that do not fit the teacher, or nothing to learn from.
        SettingError: settings that do not fit each other.
    """
    options, task = options or Distillation(), TASKS[teacher.task]
    recipe = recipe or recipe_of(teacher.info, start=options.start)
    if isinstance(recipe.strategy, Auto) and labeled is not None:
        recipe = decide(recipe, labeled)
        recipe = dataclasses.replace(recipe, strategy=as_one_model(recipe.strategy, options.start))
    pooled = dataclasses.replace(texts, labels=None)
    _check(teacher, recipe, options, [each for each in (pooled, labeled, test, dev) if each is not None])
    labeled, lost = _without_measured(labeled, test, dev)
    digests = () if teacher.out_of_fold is None else teacher.out_of_fold.digests
    pool = make_pool(texts, labeled, test=test, dev=dev, digests=digests, augmented=augmented, empty=empty)

    rows = 0 if labeled is None else len(labeled)
    held = min(options.held_out, int(MOST_HELD_OUT * len(pool)))
    most = min(len(pool) - held, options.pool_size or len(pool))
    length = fit_length(_labeled_texts(teacher, rows), most, recipe.epochs, recipe.batch_size, rows)
    held_rows = draw(len(pool), held, recipe.seed)
    others = np.setdiff1d(np.arange(len(pool)), held_rows)
    used = pool.texts.select(others[draw(len(others), length.pool, recipe.seed)])
    held_out = pool.texts.select(held_rows)

    temperature = float(options.vote_temperature or teacher.temperature or 1.0)
    with torch.autocast(teacher.population.module.device.type, torch.bfloat16, enabled=bool(recipe.bf16)):
        taught, out_of_fold = _taught(teacher, used, options, temperature), 0
        held_votes = teacher.combined(teacher.members(held_out.texts), calibrated=False) if held else np.empty((0, 0))
    if labeled is not None:
        known, out_of_fold = _labeled(teacher, labeled, options, temperature)
        taught = known + taught
    learned = dataclasses.replace(
        used,
        texts=[*(labeled.texts if labeled is not None else ()), *used.texts],
        labels=taught.labels,
        frame=None,
        order=labeled.order if labeled is not None else (),
        soft=taught.soft if task.of_words else np.stack(taught.soft),
        weights=taught.weights,
    )
    settings = {**dataclasses.asdict(options), "vote_temperature": temperature}
    if not task.chooses:
        del settings["vote_temperature"]
    info = {
        "settings": settings,
        "pool": {
            "read": pool.read,
            "left_out": dict(pool.left_out),
            "used": len(used),
            "held_out": held,
            "augmented": sum(map(len, (augmented or {}).values())),
        },
        "labeled": {"texts": rows, "out_of_fold": out_of_fold, **({"left_out": lost} if lost else {})},
        "steps": length.steps,
        "epochs": length.epochs,
        "teacher": about(teacher),
    }
    return Student(
        learned,
        with_epochs(recipe, length.epochs),
        teacher.labels,
        pool,
        length,
        held_out,
        held_votes,
        merged_values(teacher) if options.start == "merged" else None,
        info,
    )


@dataclass(frozen=True)
class _Taught:
    """What N texts teach.

    Args:
        soft: a target for each, `(C,)`; of words `(W, C)`.
        labels: the most probable, or the given one.
        weights: `(N,)`.
    """

    soft: list[np.ndarray]
    labels: list[Any]
    weights: np.ndarray

    def __add__(self, other: _Taught) -> _Taught:
        weights = np.concatenate([self.weights, other.weights])
        return _Taught([*self.soft, *other.soft], [*self.labels, *other.labels], weights)


def _taught(teacher: Classifier, texts: Texts, options: Distillation, temperature: float) -> _Taught:
    """What a teacher votes for texts of the pool, weighted by how far its members agree."""
    task = TASKS[teacher.task]
    words = [len(words_of(text)) for text in texts.texts] if task.of_words else None
    members = teacher.members(texts.texts)  # (N, M, C)
    votes = teacher.combined(members, calibrated=False)
    soft = targets.by_text(targets.soften(votes, task, temperature), words)
    weights = np.ones(len(texts))
    if options.weights == "agreement":
        each = targets.agreement(members, votes, task)
        weights = np.array([part.mean() for part in targets.by_text(each, words)])
    return _Taught(soft, [targets.likely_label(each, task, teacher.labels) for each in soft], weights)


def _labeled(teacher: Classifier, texts: Texts, options: Distillation, temperature: float) -> tuple[_Taught, int]:
    """Given labels, mixed with out-of-fold predictions; and for how many texts there are such."""
    task, found = TASKS[teacher.task], teacher.out_of_fold
    known: list[np.ndarray | None] = [None] * len(texts)
    if found is not None:
        known = targets.out_of_fold(found, texts, task, temperature)
    gold = [targets.as_targets(each, task, len(teacher.labels)) for each in encode(texts, teacher.labels)]
    mixed = [targets.mix(one, other, options.labels_share) for one, other in zip(gold, known, strict=True)]
    taught = _Taught(mixed, list(texts.labels or ()), np.ones(len(texts)))
    return taught, sum(each is not None for each in known)


def _without_measured(
    labeled: Texts | None, test: Texts | None, dev: Texts | None
) -> tuple[Texts | None, dict[str, int]]:
    """Labeled texts without those that are measured on, and how many these are in each split."""
    lost: dict[str, int] = {}
    for name, measured in ((TEST, test), (DEV, dev)):
        if labeled is not None and measured is not None and (copied := copies(measured, labeled)).any():
            lost[name] = int(copied.sum())
            labeled = labeled.select(np.flatnonzero(~copied))
    if labeled is not None and not len(labeled):
        raise InputError(f"{labeled.source}: all labeled texts are measured on, too: give others")
    return labeled, lost


def about(teacher: Classifier) -> dict[str, Any]:
    """What `deni.json` of a student says of its teacher."""
    info = teacher.info
    members = teacher.population.size if teacher.voters is None else len(teacher.voters)
    found = {
        "members": members,
        "model": info.get("recipe", {}).get("model"),
        "strategy": info.get("strategy", {}).get("name"),
        "member_steps": info.get("member_steps"),
        "seconds": info.get("seconds"),
        "folds": info.get("distillation", {}).get("folds"),  # that were trained for the sake of the student
    }
    return {name: value for name, value in found.items() if value is not None}


def merged_values(teacher: Classifier) -> dict[str, Tensor]:
    """The mean of a teacher's members as the values of one model, frozen ones included, by the names of its state.

    LoRA members are averaged as the products of their factors, see `deni.tuning.lora.mean_of_products`: each member
    may have drawn factors of its own.
    """
    population, voters = teacher.population, teacher.voters
    values = {name: value if voters is None else value[list(voters)] for name, value in population.values.items()}
    mean = mean_of_products if any(".lora_" in name for name in values) else mean_of_members
    model = population.copy_of(population.full(mean(values)))
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def likeness(student: np.ndarray, teacher: np.ndarray, task: str) -> float | None:
    """How far a student predicts as its teacher votes: the share of equal choices; of numbers their correlation.

    None where numbers have no correlation: there is one text, or they do not vary.

    Args:
        student, teacher: votes for the same texts, `(N, C)`.
    """
    kind = TASKS[task]
    if kind.chooses:
        return float((kind.choose(student) == kind.choose(teacher)).mean())
    one, other = student[:, 0].astype(np.float64), teacher[:, 0].astype(np.float64)
    return float(np.corrcoef(one, other)[0, 1]) if one.std() > 0 and other.std() > 0 else None


def _labeled_texts(teacher: Classifier, given: int) -> int:
    """How many labeled texts there are, which the length of the training is counted on."""
    if given:
        return given
    known: Mapping[str, Any] = teacher.info.get("metrics") or {}
    count = len(teacher.out_of_fold.digests) if teacher.out_of_fold is not None else known.get("train_texts")
    if not isinstance(count, int) or count < 1:
        raise InputError(
            "how many labeled texts the teacher was trained on is not known, and the steps of the student follow from "
            "them: give them with --labeled FILE"
        )
    return count


def check_temperature(options: Distillation, task: Task) -> None:
    """Raise SettingError for a temperature of what are no probabilities."""
    if options.vote_temperature is not None and not task.chooses:
        raise SettingError("vote_temperature is for probabilities, and the teacher predicts numbers: omit it")


def _check(teacher: Classifier, recipe: Recipe, options: Distillation, given: Sequence[Texts]) -> None:
    """Raise for what cannot be, before the teacher predicts."""
    task = TASKS[teacher.task]
    for texts in given:
        if texts.task != teacher.task:
            raise InputError(
                f"{texts.source}: texts of {texts.task} for a teacher of {teacher.task}: read them as such"
            )
        if texts.labels is not None:
            encode(texts, teacher.labels)  # raises
    if recipe.task != teacher.task:
        raise SettingError(f"a student of {recipe.task} cannot learn from a teacher of {teacher.task}: choose one task")
    if isinstance(recipe.strategy, Auto):
        raise SettingError("the strategy auto looks at labeled texts: give them, or name the student's strategy")
    if any(isinstance(part, Augmentation) for part in recipe.strategy.parts):
        raise SettingError(
            f"the strategy {recipe.strategy.name} adds texts that the teacher has not seen: give augmented texts to "
            "the pool, with --augmented FILE"
        )
    check_temperature(options, task)
    if options.start == "merged":
        own, taught = recipe.settings(), teacher.info
        for name, one, other in (
            ("model", recipe.model, taught.get("recipe", {}).get("model")),
            ("tuning", own["tuning"], taught.get("tuning")),
        ):
            if one != other:
                raise SettingError(
                    f"start merged needs the {name} of the teacher, and the student has another one: omit --{name}, or "
                    "start from the encoder"
                )
        if recipe.strategy.fits:
            raise SettingError(
                f"start merged has an output layer, which the strategy {recipe.strategy.name} would fit anew: choose "
                "another strategy, or start from the encoder"
            )
