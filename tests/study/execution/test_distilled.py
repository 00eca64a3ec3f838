"""Students as cells of a study."""

import dataclasses
import os

import numpy as np
import pytest

from deni.auto import table
from deni.data import read_data
from deni.distillation import Distillation
from deni.distillation.teaching import teach
from deni.errors import InputError
from deni.strategies import Default
from deni.study.execution import distilled
from deni.study.execution.pack import run_pack
from deni.study.library import Library
from tests.helpers.studies import jobs_of

ROW = {"name": "distilled", "teachers": 2, "pool_size": 8}


@pytest.fixture
def taught(monkeypatch):
    """The seeds of the teachers that are trained."""
    found, train = [], distilled.train_teacher

    def counted(texts, recipe, **given):
        found.append(recipe.seed)
        return train(texts, recipe, **given)

    monkeypatch.setattr(distilled, "train_teacher", counted)
    return found


@pytest.mark.parametrize("measure", ["test", "development"])
def test_the_pool_is_what_is_neither_labeled_nor_held_out(study, tickets, measure):
    (job, *_), library = jobs_of(study(strategies=[ROW], measure=measure, test_size=5)), Library()
    train, measured = job.texts(library)
    pool = library.unlabeled(job.cell, job.recipe.strategy)
    left = len(read_data(tickets))
    for _ in range(2 if measure == "development" else 1):
        left -= round(0.2 * left)
    assert len(measured) == 5
    assert len(pool) == pytest.approx(left - len(train), abs=1)
    assert pool.labels is None
    rows = [set(texts.frame.index) for texts in (train, measured, pool)]
    assert sum(map(len, rows)) == len(set.union(*rows))


def test_a_cell_is_the_student_of_its_teacher(study):
    (job, *_), library = jobs_of(study(strategies=[ROW])), Library()
    train, measured = job.texts(library)
    (result,) = run_pack([job], library)
    lesson = teach(
        train,
        library.unlabeled(job.cell, job.recipe.strategy),
        dataclasses.replace(job.recipe, strategy=Default()),
        test=measured,
        members=2,
        distillation=Distillation(pool_size=8),
        progress=False,
    )
    assert np.array_equal(result.log_probs, lesson.student.classifier().members(measured.texts).astype(np.float32))
    found = result.diagnostics["distillation"]
    steps = {"teacher": found["teacher"]["member_steps"], "folds": found["teacher"]["folds"]["member_steps"]}
    runs, size = job.recipe.epochs, job.recipe.batch_size
    assert steps["teacher"] == 2 * runs * -(-len(train) // size) == lesson.teacher.info["member_steps"]
    of_a_fold = {runs * -(-(len(train) - left) // size) for left in (len(train) // 5, len(train) // 5 + 1)}
    assert 5 * min(of_a_fold) <= steps["folds"] <= 5 * max(of_a_fold)
    assert result.cost["member_steps"] == sum(steps.values()) + lesson.student.member_steps
    assert found["pool"]["used"] == 8
    votes = lesson.teacher.votes(measured.texts)
    right = np.asarray(result.labels)[votes.argmax(-1)] == np.asarray(measured.labels)
    assert result.diagnostics["teacher"]["accuracy"] == pytest.approx(right.mean())


def test_what_auto_becomes_is_taught(study, monkeypatch):
    (job, *_), library = jobs_of(study(strategies=[{**ROW, "taught": "auto"}])), Library()
    (plain, *_) = jobs_of(study(strategies=["auto"]))
    asked, recipe = job.recipe.strategy, plain.recipe
    assert asked.strategy == recipe.strategy
    assert dataclasses.replace(job.recipe, strategy=recipe.strategy) == recipe
    assert job.steps == plain.steps
    train, measured = job.texts(library)
    (result,) = run_pack([job], library)
    pool, options = library.unlabeled(job.cell, asked), Distillation(pool_size=8)
    lesson = teach(train, pool, recipe, test=measured, members=2, distillation=options, progress=False)
    assert np.array_equal(result.log_probs, lesson.student.classifier().members(measured.texts).astype(np.float32))

    (default, *_) = jobs_of(study(strategies=[ROW]))
    rows = [dataclasses.replace(row, strategy_settings={"probe_c": 0.5}) for row in table.ROWS]
    monkeypatch.setattr(table, "ROWS", rows)
    assert jobs_of(study(strategies=[{**ROW, "taught": "auto"}]))[0].key != job.key
    assert jobs_of(study(strategies=[ROW]))[0].key == default.key


def test_cells_of_one_teacher_train_it_once(study, tmp_path, taught):
    rows = [
        {**ROW, "label": "eight"},
        {**ROW, "pool_size": 5, "label": "five"},
        {**ROW, "student_start": "merged", "label": "merged"},
    ]
    jobs, folder = jobs_of(study(strategies=rows, seeds=2)), str(tmp_path / "kept")
    alone = [run_pack([job], Library())[0] for job in jobs]
    taught.clear()
    shared = [run_pack([job], Library(), folder)[0] for job in jobs]
    assert taught == [0, 1]
    assert len(os.listdir(folder)) == 2
    for one, other in zip(alone, shared, strict=True):
        assert np.allclose(one.log_probs, other.log_probs, atol=1e-6)
        assert one.diagnostics["teacher"] == other.diagnostics["teacher"]
    assert len({each.log_probs.tobytes() for each in shared}) == 6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"teachers": 1}, "teachers must be at least 2, not 1"),
        ({"pool_size": 0}, "pool_size must be at least 1, not 0"),
        ({"pool_of": "snip"}, "pool_of is no dataset: 'snip'; did you mean snips"),
        ({"labels_share": 2}, r"labels_share must be in \[0, 1\], not 2"),
        ({"taught": "ensemble"}, "ensemble ends with several members"),
        ({"taught_settings": {"probe_c": 1}}, "taught_settings: expected one value, not a mapping"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_line(study, settings, message):
    with pytest.raises(InputError, match=message) as error:
        jobs_of(study(strategies=[{**ROW, **settings}]))
    assert "study.yaml, line" in str(error.value)
