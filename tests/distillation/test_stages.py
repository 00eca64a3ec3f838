"""A training of teacher, folds and student that is stopped in any stage goes on there, and ends at the same bits."""

import json
import os
import signal
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from deni.distillation import Distillation
from deni.distillation.stages import FOLDS, STUDENT, TEACHER, Stages
from deni.distillation.teaching import teach
from deni.errors import ArtifactError, InputError
from deni.recipe import Recipe
from deni.training.trainer import PopulationTrainer
from tests.distillation.conftest import toy_texts
from tests.helpers.forked import start

QUIET = {"progress": False, "device": "cpu"}
ROOT = Path(__file__).parents[2]


def train(model_folder, strategy="default", seed=0, **options):
    """Teacher (3 texts a step, 4 steps), four folds (3 steps), student (8 steps at most)."""
    train, pool = toy_texts("single_label", 4), toy_texts("single_label", 4, seed=5)
    settings = {"model": model_folder, "max_length": 20, "epochs": 1, "learning_rate": 3e-3, "batch_size": 3}
    recipe = Recipe.of(None, strategy, "full", seed=seed, **settings)
    return teach(train, pool, recipe, members=2, distillation=Distillation(held_out=1), **QUIET, **options)


def values(lesson):
    return {name: value.numpy().copy() for name, value in lesson.student.trainer.population.values.items()}


def equal(one, other):
    return one.keys() == other.keys() and all((one[name] == other[name]).all() for name in one)


@pytest.fixture(scope="module")
def whole(model_folder):
    """The values of a student that was trained at once, without checkpoints."""
    return values(train(model_folder))


def interrupt_at(monkeypatch, step):
    """Ctrl-C in an optimizer step, counted over all stages."""
    compute, calls = PopulationTrainer.training_step, []

    def counted(self, *arguments, **options):
        calls.append(1)
        if len(calls) == step:
            os.kill(os.getpid(), signal.SIGINT)
        return compute(self, *arguments, **options)

    monkeypatch.setattr(PopulationTrainer, "training_step", counted)


@pytest.mark.parametrize("save_steps", [None, 2])
@pytest.mark.parametrize(("step", "stage", "done"), [(2, TEACHER, 2), (6, FOLDS, 2), (9, STUDENT, 2), (15, STUDENT, 8)])
def test_ctrl_c_in_a_stage_is_resumed_there(model_folder, whole, tmp_path, monkeypatch, step, stage, done, save_steps):
    place = {"checkpoints": tmp_path / "c", "save_steps": save_steps}
    with monkeypatch.context() as patch:
        interrupt_at(patch, step)
        stopped = train(model_folder, **place)
    assert stopped.student.interrupted
    assert stopped.student.checkpoint == tmp_path / "c" / stage / f"checkpoint-{done}"
    assert (stopped.teacher is None) == (stage != STUDENT)
    with monkeypatch.context() as patch:
        steps = []
        compute = PopulationTrainer.training_step
        patch.setattr(
            PopulationTrainer, "training_step", lambda self, *more: (steps.append(1), compute(self, *more))[1]
        )
        lesson = train(model_folder, **place, resume=True)
    assert len(steps) == 15 - step  # nothing is repeated
    assert equal(values(lesson), whole)
    found = lesson.student.added["distillation"]["teacher"]
    assert (found["member_steps"], found["folds"]["member_steps"]) == (8, 12)


SCRIPT = """
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from safetensors.numpy import save_file
from tests.distillation.test_stages import train, values
from deni.training import manifest

place, written, at = Path(sys.argv[3]), manifest.write, int(sys.argv[4])


def killed(folder, *arguments):
    written(folder, *arguments)
    killed.times += 1
    if killed.times == at:
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)


killed.times = 0
manifest.write = killed
lesson = train(sys.argv[2], checkpoints=place / "c", save_steps=2, resume=at == 0)
save_file(values(lesson), place / "values")
"""


@pytest.mark.parametrize(("at", "stage"), [(1, TEACHER), (2, TEACHER), (3, FOLDS), (5, STUDENT)])
def test_a_kill_in_a_stage_is_resumed_there(model_folder, whole, tmp_path, at, stage):
    """The second checkpoint of the teacher is that of its last step: no step is left to it."""
    words = (ROOT, model_folder, tmp_path)
    assert start(SCRIPT, *words, at).wait() == -signal.SIGKILL
    folder = tmp_path / "c"
    kept = {each.parent.name for each in folder.glob("*/finished.json")}
    assert kept == {TEACHER: set(), FOLDS: {TEACHER}, STUDENT: {TEACHER, FOLDS}}[stage]
    again = start(SCRIPT, *words, 0)
    assert again.wait() == 0, again.stderr
    assert equal(load_file(tmp_path / "values"), whole)
    assert sorted(each.parent.name for each in folder.glob("*/checkpoint-*")) == [STUDENT]


def test_the_teacher_that_is_kept_is_an_artifact(model_folder, whole, tmp_path):
    from deni import load

    lesson = train(model_folder, checkpoints=tmp_path / "c", save_steps=100)
    assert equal(values(lesson), whole)
    texts = toy_texts("single_label", 2, seed=9).texts
    kept = load(tmp_path / "c" / TEACHER / "model", "cpu")
    assert (kept.members(texts) == lesson.teacher.members(texts)).all()


def test_another_run_is_refused_and_one_that_begins_anew_leaves_nothing_of_it(model_folder, tmp_path, monkeypatch):
    place = {"checkpoints": tmp_path / "c", "save_steps": 2}
    with monkeypatch.context() as patch:
        interrupt_at(patch, 6)
        train(model_folder, **place)
    with pytest.raises(ArtifactError, match=r"teacher is of another run \(seed 0, not 1\): resume with the settings"):
        train(model_folder, seed=1, **place, resume=True)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2)
        train(model_folder, seed=1, **place)
    assert not list((tmp_path / "c").glob("folds/checkpoint-*"))
    assert equal(values(train(model_folder, seed=1, **place, resume=True)), values(train(model_folder, seed=1)))


def test_what_cannot_be_resumed_is_said(model_folder, tmp_path):
    with pytest.raises(InputError, match="c has no checkpoint to resume from: omit --resume"):
        train(model_folder, checkpoints=tmp_path / "c", resume=True)
    with pytest.raises(InputError, match="there is no checkpoint folder"):
        train(model_folder, resume=True)
    folder = tmp_path / "c" / TEACHER
    folder.mkdir(parents=True)
    (folder / "finished.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"finished.json is not readable \(.*\): omit --resume"):
        Stages(tmp_path / "c", resume=True).finished(TEACHER, {})
    (folder / "finished.json").write_text("[]")
    with pytest.raises(ArtifactError, match="teacher is of another run"):
        Stages(tmp_path / "c", resume=True).finished(TEACHER, {"seed": 1})


def test_a_stage_that_cannot_be_kept_ends_nothing(tmp_path):
    stages = Stages(tmp_path / "c", save_steps=1)
    (tmp_path / "c").write_text("in the way")
    with pytest.warns(UserWarning, match="could not be written"):
        stages.finish(TEACHER, {}, lambda folder: None)
    assert (tmp_path / "c").read_text() == "in the way"


def test_without_save_steps_only_ctrl_c_keeps_what_is_finished(tmp_path):
    stages = Stages(tmp_path / "c")
    stages.finish(TEACHER, {"seed": 1}, lambda folder: (folder / "a").write_text("b"), spent=3)
    assert not (tmp_path / "c").exists()
    with pytest.raises(KeyboardInterrupt), stages:
        raise KeyboardInterrupt
    assert json.loads((tmp_path / "c" / TEACHER / "finished.json").read_text()) == {"origin": {"seed": 1}, "spent": 3}
    assert Stages(tmp_path / "c", resume=True).finished(TEACHER, {"seed": 1})["spent"] == 3
