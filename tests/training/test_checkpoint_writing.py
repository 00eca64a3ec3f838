"""Checkpoints are whole or not there: names, pushes, removals, the best, and a disk that is full."""

import json
import os
import resource
import shutil
import warnings
from contextlib import contextmanager

import pytest
import torch
from safetensors import SafetensorError
from transformers import Trainer, TrainerCallback, TrainingArguments

from deni.artifact import read_info
from deni.errors import ArtifactError, InputWarning
from deni.strategies import DENI, Default
from deni.training import checkpoint_writing, manifest
from deni.training.trainer import PopulationTrainer
from tests.helpers.trainers import fresh, make, rows, same, values

STEPS = {"max_steps": 6, "save_strategy": "steps", "save_steps": 2, "logging_steps": 3}


def names(folder):
    return sorted((path.name for path in folder.iterdir()), key=lambda name: (len(name), name))


def falling(scores):
    """Metrics that are these, one after the other, whatever is predicted."""
    left = list(scores)
    return lambda prediction: {"score": left.pop(0)}


def best_of(scores, **more):
    args = {**STEPS, "eval_strategy": "steps", "eval_steps": 2, "load_best_model_at_end": True}
    args |= {"metric_for_best_model": "score", "greater_is_better": True, **more}
    return {"args": args, "eval_dataset": rows(4, seed=3), "compute_metrics": falling(scores)}


# ---- what is there when ----------------------------------------------------------------------------------------------


class Watched(PopulationTrainer):
    """Notes which checkpoints are there, and whole, while one is written, pushed and removed."""

    def note(self, what):
        folder = os.path.join(self.args.output_dir, "")
        there = {path.name: manifest.damage(path) for path in manifest.checkpoints(folder)}
        self.seen.append((what, self.state.global_step, there))

    def save_model(self, *args, **options):
        self.note("begin")
        super().save_model(*args, **options)

    def _save_rng_state(self, output_dir):
        super()._save_rng_state(output_dir)
        self.note("written")

    def _push_from_checkpoint(self, checkpoint_folder):
        self.note(f"push {os.path.basename(checkpoint_folder)}")


def test_a_checkpoint_has_its_name_when_it_is_whole_and_is_pushed_and_others_removed_after_that(tmp_path, monkeypatch):
    args = TrainingArguments(
        str(tmp_path / "out"), **STEPS, save_total_limit=1, use_cpu=True, report_to=[], disable_tqdm=True
    )
    trainer = Watched(fresh(), args, train_dataset=rows(24))
    trainer.seen = []
    trainer.own_args.push_to_hub = True
    monkeypatch.setattr(trainer, "init_hf_repo", lambda *_: None)
    monkeypatch.setattr(trainer, "_finish_current_push", lambda: None)
    remove = manifest.remove
    monkeypatch.setattr(manifest, "remove", lambda path: [trainer.note(f"remove {path.name}"), remove(path)])
    trainer.train()
    two, four, six = ({f"checkpoint-{step}": None} for step in (2, 4, 6))
    assert trainer.seen == [
        ("begin", 2, {}),
        ("written", 2, {}),
        ("push checkpoint-2", 2, two),
        ("begin", 4, two),
        ("written", 4, two),
        ("push checkpoint-4", 4, four | two),
        ("remove checkpoint-2", 4, four | two),
        ("begin", 6, four),
        ("written", 6, four),
        ("push checkpoint-6", 6, six | four),
        ("remove checkpoint-4", 6, six | four),
    ]
    assert names(tmp_path / "out") == ["checkpoint-6"]


def test_a_checkpoint_has_trainers_files_and_those_of_an_artifact(tmp_path):
    make(tmp_path, DENI(members=2), args=STEPS).train()
    plain = TrainingArguments(str(tmp_path / "plain"), **STEPS, use_cpu=True, report_to=[], disable_tqdm=True)
    Trainer(fresh(), plain, train_dataset=rows()).train()
    folder = tmp_path / "out/checkpoint-4"
    listed = json.loads((folder / "manifest.json").read_text())
    assert {*listed["files"], "manifest.json"} == {path.name for path in folder.iterdir()}
    theirs = {path.name for path in (tmp_path / "plain/checkpoint-4").iterdir()}
    assert theirs <= listed["files"].keys()
    assert (listed["step"], listed["processes"], listed["only_model"]) == (4, 1, False)
    assert listed["versions"]["torch"] == torch.__version__
    state = json.loads((folder / "trainer_state.json").read_text())
    assert state["global_step"] == 4


def test_what_members_share_is_still_written_once(tmp_path):
    model = fresh()
    model.bert.requires_grad_(False)
    make(tmp_path, DENI(members=2), model=model, args=STEPS).train()
    files = [tmp_path / f"out/checkpoint-{step}/base.safetensors" for step in (2, 4, 6)]
    assert files[0].samefile(files[1])
    assert files[1].samefile(files[2])


@pytest.mark.filterwarnings("ignore:mtime may not be reliable")
@pytest.mark.parametrize("limit", [1, 2, 3])
@pytest.mark.parametrize("scores", [(1, 2, 3, 4, 5), (5, 4, 3, 2, 1), (1, 3, 2, 0, 4)])
def test_the_checkpoints_that_stay_and_the_best_are_those_of_trainer(tmp_path, limit, scores):
    seen = {}

    class Listing(TrainerCallback):
        def on_save(self, args, state, control, **_):
            best = state.best_model_checkpoint and os.path.basename(state.best_model_checkpoint)
            written = f"{args.output_dir}/checkpoint-{state.global_step}/trainer_state.json"
            with open(written) as file:
                stored = json.load(file)["best_model_checkpoint"]
            assert stored == state.best_model_checkpoint
            seen.setdefault(args.output_dir, []).append((best, sorted(os.listdir(args.output_dir))))

    options = best_of(scores, max_steps=5, save_steps=1, eval_steps=1, save_total_limit=limit)
    ours = make(tmp_path, Default(), **options, callbacks=[Listing()])
    ours.train()
    settings = {**options["args"], "use_cpu": True, "report_to": [], "disable_tqdm": True}
    plain = Trainer(
        fresh(),
        TrainingArguments(str(tmp_path / "plain"), **settings),
        train_dataset=rows(),
        eval_dataset=rows(4, seed=3),
        compute_metrics=falling(scores),
        callbacks=[Listing()],
    )
    plain.train()
    assert seen[str(tmp_path / "out")] == seen[str(tmp_path / "plain")]
    assert names(tmp_path / "out") == names(tmp_path / "plain")
    assert ours.state.best_global_step == plain.state.best_global_step


# ---- a rule for the others -------------------------------------------------------------------------------------------


def test_a_checkpoint_with_only_the_model_is_read_but_not_resumed(tmp_path):
    trainer = make(tmp_path, Default(), args={**STEPS, "save_only_model": True})
    trainer.train()
    folder = tmp_path / "out/checkpoint-6"
    with pytest.raises(ArtifactError, match=r"checkpoint-6 is not .*it was saved with save_only_model"):
        make(tmp_path, Default()).train(resume_from_checkpoint=str(folder))
    assert read_info(folder)["members"] == 1


def test_the_best_of_checkpoints_with_only_the_model_comes_back(tmp_path):
    trainer = make(tmp_path, Default(), **best_of([2, 1, 0], save_only_model=True))
    trainer.train()
    reference = make(tmp_path / "short", Default(), args={**STEPS, "max_steps": 6})
    kept = {}

    class Keep(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            if state.global_step == 2:
                kept.update(values(reference))

    reference.add_callback(Keep())
    reference.train()
    assert same(values(trainer), kept)


@pytest.mark.parametrize("whose", ["a plain Trainer's", "an earlier version's"])
def test_a_checkpoint_without_a_manifest_is_passed_over_and_stays_a_model(tmp_path, whose):
    if whose == "a plain Trainer's":
        args = TrainingArguments(str(tmp_path / "out"), **STEPS, use_cpu=True, report_to=[], disable_tqdm=True)
        Trainer(fresh(), args, train_dataset=rows()).train()
    else:
        make(tmp_path, Default(), args=STEPS).train()
        for folder in (tmp_path / "out").iterdir():
            (folder / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match=r"no checkpoint to resume from: checkpoint-6 \(it has no manifest.json"):
        make(tmp_path, Default(), args=STEPS).train(resume_from_checkpoint=True)
    with pytest.raises(ArtifactError, match=r"by an earlier version or a plain Trainer"):
        make(tmp_path, Default()).train(resume_from_checkpoint=str(tmp_path / "out/checkpoint-4"))
    if whose == "a plain Trainer's":
        fresh().from_pretrained(tmp_path / "out/checkpoint-4")
    else:
        assert read_info(tmp_path / "out/checkpoint-4")["members"] == 1


# ---- a full disk -----------------------------------------------------------------------------------------------------


def limit_files(trainer, steps, size):
    """No file may be larger than this while the checkpoints of some steps are written; the system refuses to."""
    save = trainer.checkpoints.save

    def limited(*args):
        size_now = size if trainer.state.global_step in steps else resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_FSIZE, (size_now, resource.RLIM_INFINITY))
        try:
            save(*args)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    trainer.checkpoints.save = limited
    return trainer


class Saved(TrainerCallback):
    """The steps of which a checkpoint was announced."""

    def __init__(self):
        self.steps = []

    def on_save(self, args, state, control, **_):
        self.steps.append(state.global_step)


@contextmanager
def warned():
    """The lines that were warned with."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InputWarning)
        lines = []
        yield lines
        lines += [str(each.message) for each in caught if each.category is InputWarning]


@pytest.mark.parametrize("size", [0, 300, 3000, 100_000, "optimizer"])
def test_a_full_disk_does_not_end_a_training(tmp_path, size):
    undisturbed = make(tmp_path / "a", DENI(members=2), args=STEPS)
    undisturbed.train()
    if size == "optimizer":  # it is the largest, and all others fit
        size = (tmp_path / "a/out/checkpoint-4/optimizer.pt").stat().st_size - 1
    saved = Saved()
    trainer = limit_files(make(tmp_path, DENI(members=2), args=STEPS, callbacks=[saved]), [4], size)
    with warned() as lines:
        trainer.train()
    (line,) = lines
    assert "checkpoint-4 could not be written (" in line
    assert line.endswith(f"training goes on, the last whole one is {tmp_path / 'out/checkpoint-2'}")
    assert "\n" not in line
    assert saved.steps == [2, 6]
    assert names(tmp_path / "out") == ["checkpoint-2", "checkpoint-6"]
    assert all(manifest.damage(path) is None for path in (tmp_path / "out").iterdir())
    assert same(values(trainer), values(undisturbed))
    shutil.rmtree(tmp_path / "out/checkpoint-6")
    resumed = make(tmp_path, DENI(members=2), args=STEPS)
    resumed.train(resume_from_checkpoint=True)
    assert same(values(resumed), values(undisturbed))


WRITERS = {
    "the model": ("deni.artifact.saving._write", SafetensorError("I/O error: No space left on device (os error 28)")),
    "the members": ("deni.training.checkpoint._write", OSError(28, "No space left on device")),
    "optimizer, scheduler or generators": (
        "torch.save",
        RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"),
    ),
    "the named generators": ("deni.training.checkpoint.save_randomness", OSError(122, "Disk quota exceeded")),
    "the state": ("transformers.TrainerState.save_to_json", OSError(28, "No space left on device")),
    "the manifest": ("deni.training.manifest.write", OSError(5, "Input/output error")),
    "the name": ("deni.training.manifest.place", OSError(30, "Read-only file system")),
}


@pytest.mark.parametrize("what", WRITERS)
def test_whatever_cannot_be_written_keeps_the_last_whole_one(tmp_path, monkeypatch, what):
    where, error = WRITERS[what]

    class Fails(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            def fail(*_, **__):
                raise error

            if state.global_step in (4, 6):
                patch.setattr(where, fail)

        def on_step_begin(self, *_, **__):
            patch.undo()

        on_train_end = on_step_begin

    with monkeypatch.context() as patch, warned() as lines:
        make(tmp_path, Default(), args={**STEPS, "save_total_limit": 1}, callbacks=[Fails()]).train()
    assert len(lines) == 2
    assert names(tmp_path / "out") == ["checkpoint-2"]
    assert manifest.to_resume(tmp_path / "out") == tmp_path / "out/checkpoint-2"


def test_an_error_of_another_kind_ends_the_training_and_leaves_nothing_half_written(tmp_path):
    class Broken(PopulationTrainer):
        def _save_optimizer_and_scheduler(self, output_dir):
            if self.state.global_step == 4:
                raise ValueError("unpacked 3 of 2")
            super()._save_optimizer_and_scheduler(output_dir)

    args = TrainingArguments(str(tmp_path / "out"), **STEPS, use_cpu=True, report_to=[], disable_tqdm=True)
    with pytest.raises(ValueError, match="unpacked 3 of 2"):
        Broken(fresh(), args, train_dataset=rows()).train()
    assert names(tmp_path / "out") == ["checkpoint-2"]


def test_the_first_checkpoint_may_be_the_one_that_does_not_fit(tmp_path):
    with warned() as lines:
        limit_files(make(tmp_path, Default(), args=STEPS), [2], 0).train()
    assert [line.rpartition(": ")[2] for line in lines] == ["training goes on, there is no whole one yet"]
    assert names(tmp_path / "out") == ["checkpoint-4", "checkpoint-6"]


@pytest.mark.parametrize(
    ("scores", "full", "best"),
    [
        ((1, 3, 2), [4], 6),  # the best is lost, a later one is better than what is left
        ((2, 3, 1), [4], 2),
        ((3, 2, 1), [2], 4),
        ((1, 2, 3), [6], 4),
        ((1, 2, 3), [2, 4, 6], None),
    ],
)
def test_the_best_is_the_best_of_those_that_exist(tmp_path, scores, full, best):
    trainer = limit_files(make(tmp_path, Default(), **best_of(scores, save_total_limit=1)), full, 0)
    kept = {}

    class Keep(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            kept[state.global_step] = values(trainer)

    trainer.add_callback(Keep())
    with warned() as lines:
        trainer.train()
    assert len(lines) == len(full)
    assert same(values(trainer), kept[best or 6])
    assert trainer.state.best_metric == (None if best is None else scores[best // 2 - 1])
    assert names(tmp_path / "out") == ([] if best is None else [f"checkpoint-{best}"])


# ---- the best, when a training goes on -------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["here", "moved", "another output"])
def test_the_best_so_far_is_found_where_it_is_now(tmp_path, where):
    scores = (3, 1, 2)
    undisturbed = make(tmp_path / "a", Default(), **best_of(scores))
    undisturbed.train()
    folder = tmp_path / "a/out"
    shutil.rmtree(folder / "checkpoint-6")
    if where == "moved":
        folder = folder.rename(tmp_path / "out")
    given = tmp_path / "a" if where == "here" else tmp_path
    resumed = make(given, Default(), **best_of(scores[2:]))
    resumed.train(resume_from_checkpoint=str(folder) if where == "another output" else True)
    assert same(values(resumed), values(undisturbed))
    assert resumed.state.best_global_step == 2
    assert manifest.damage(folder / "checkpoint-2") is None


def test_a_lost_best_is_said_and_the_best_of_the_others_takes_its_place(tmp_path):
    make(tmp_path, Default(), **best_of((9, 1, 3, 2), max_steps=8)).train()
    shutil.rmtree(tmp_path / "out/checkpoint-2")
    shutil.rmtree(tmp_path / "out/checkpoint-8")
    trainer = make(tmp_path, Default(), **best_of((2,), max_steps=8))
    with warned() as lines:
        trainer.train(resume_from_checkpoint=True)
    assert len(lines) == 1
    assert "checkpoint-2, the best so far, is not whole (it does not exist): the best is now" in lines[0]
    assert (trainer.state.best_metric, trainer.state.best_global_step) == (3, 6)


def test_a_best_that_goes_while_training_leaves_the_model_of_the_last_step(tmp_path):
    class Remove(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            kept.update(values(trainer))
            if state.global_step == 6:
                shutil.rmtree(tmp_path / "out/checkpoint-2")

    kept = {}
    trainer = make(tmp_path, Default(), **best_of((3, 2, 1), save_total_limit=1), callbacks=[Remove()])
    with warned() as lines:
        trainer.train()
    assert ["the model is that of the last step" in line for line in lines] == [True]
    assert same(values(trainer), kept)


def test_errors_that_are_not_of_writing_are_told_apart():
    caused = ValueError("out cannot be written")
    caused.__cause__ = OSError(28, "No space left on device")
    assert checkpoint_writing.is_unwritten(caused)
    assert checkpoint_writing.reason_of(caused) == "No space left on device"
    assert not checkpoint_writing.is_unwritten(RuntimeError("shapes do not match"))
    assert not checkpoint_writing.is_unwritten(KeyError("a"))
