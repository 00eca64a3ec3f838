"""Which checkpoints are whole, which one training goes on from, and how they are moved."""

import hashlib
import json
import os
import shutil
import warnings

import pytest

from deni.errors import ArtifactError, InputError, InputWarning
from deni.training import manifest

FILES = {
    "optimizer.pt": b"moments",
    "randomness_0.safetensors": b"states",
    "trainer_state.json": b"{}",
    "a/b.txt": b"",
}


def checkpoint(folder, step, files=FILES, **about):
    target = folder / f"checkpoint-{step}"
    for name, content in files.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(content)
    manifest.write(target, {"step": step, "processes": 1, "only_model": False, **about}, {})
    return target


def piped(file):
    """A pipe in the place of a file: whoever opens it waits for a writer."""
    file.unlink()
    os.mkfifo(file)


def edited(folder, **changes):
    file = folder / manifest.MANIFEST
    content = json.loads(file.read_text())
    for name, value in changes.items():
        content[name] = value
    file.write_text(json.dumps(content))


def test_a_manifest_has_the_size_and_sha_256_of_each_file(tmp_path):
    folder = checkpoint(tmp_path, 14)
    listed = json.loads((folder / "manifest.json").read_text())["files"]
    assert listed == {
        name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()} for name, content in FILES.items()
    }
    assert manifest.damage(folder) is None
    assert manifest.obstacle(folder) is None


DAMAGES = {
    "missing": (lambda folder: (folder / "optimizer.pt").unlink(), "optimizer.pt is missing"),
    "missing in a folder": (lambda folder: (folder / "a/b.txt").unlink(), "a/b.txt is missing"),
    "shorter": (lambda folder: (folder / "optimizer.pt").write_bytes(b"mom"), "optimizer.pt has 3 bytes, not 7"),
    "changed": (lambda folder: (folder / "optimizer.pt").write_bytes(b"momentz"), "optimizer.pt was changed"),
    "a folder now": (
        lambda folder: [(folder / "a/b.txt").unlink(), (folder / "a/b.txt").mkdir()],
        "a/b.txt is a folder where a file was expected",
    ),
    "a pipe now": (lambda folder: piped(folder / "optimizer.pt"), "optimizer.pt is a pipe or device where a file was"),
    "a pipe of its list": (lambda folder: piped(folder / "manifest.json"), "manifest.json is not readable"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "it has no manifest.json: not written to its"),
    "half a manifest": (
        lambda folder: (folder / "manifest.json").write_bytes((folder / "manifest.json").read_bytes()[:90]),
        "manifest.json is not readable",
    ),
    "not UTF-8": (
        lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe{}"),
        "manifest.json is not readable",
    ),
    "deeply nested": (
        lambda folder: (folder / "manifest.json").write_text("[" * 100_000),
        "manifest.json is not readable",
    ),
    "a list": (lambda folder: (folder / "manifest.json").write_text("[]"), "manifest.json is damaged"),
    "other files": (lambda folder: edited(folder, files=["optimizer.pt"]), "manifest.json is damaged"),
    "no size": (lambda folder: edited(folder, files={"optimizer.pt": {}}), "manifest.json is damaged"),
    "a path out of it": (
        lambda folder: edited(folder, files={"../x": {"size": 1, "sha256": ""}}),
        "manifest.json is damaged",
    ),
    "a NUL": (lambda folder: edited(folder, files={"a\0b": {"size": 1, "sha256": ""}}), "is not readable"),
    "a later format": (lambda folder: edited(folder, format=2), "its format is 2, this version reads 1"),
    "gone": (lambda folder: shutil.rmtree(folder), "it does not exist"),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_what_is_not_whole_is_said(tmp_path, what):
    folder = checkpoint(tmp_path, 14)
    damage, message = DAMAGES[what]
    damage(folder)
    assert manifest.damage(folder).startswith(message) or message in manifest.damage(folder)
    assert manifest.obstacle(folder)
    with pytest.raises(ArtifactError, match="checkpoint-14 is not a checkpoint to resume from") as raised:
        manifest.to_resume(folder)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("about", "asked", "message"),
    [
        ({"only_model": True}, {}, "save_only_model"),
        ({"processes": 2}, {}, "the number of processes was 2, not 1"),
        ({}, {"processes": 2}, "the number of processes was 1, not 2"),
        ({"processes": 2}, {"rank": 1, "processes": 2}, "no random generators of process 1"),
    ],
)
def test_what_is_whole_may_not_fit_the_training(tmp_path, about, asked, message):
    folder = checkpoint(tmp_path, 14, **about)
    assert manifest.damage(folder) is None
    assert message in manifest.obstacle(folder, **asked)


def test_the_newest_whole_one_is_resumed_and_later_ones_are_named(tmp_path):
    folders = {step: checkpoint(tmp_path, step) for step in (9, 14, 28, 100)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert manifest.to_resume(tmp_path) == folders[100]
    (folders[100] / "optimizer.pt").unlink()
    (folders[28] / "manifest.json").unlink()
    message = r"resumed from .*checkpoint-14, passed over checkpoint-100 \(optimizer.pt is missing\); checkpoint-28 \("
    with pytest.warns(InputWarning, match=message):
        assert manifest.to_resume(tmp_path) == folders[14]
    assert manifest.newest(tmp_path) == folders[100]  # written to its end, and changed later
    for step in (9, 14):
        (folders[step] / "trainer_state.json").write_bytes(b"[]")
    with pytest.raises(ArtifactError, match=r"has no checkpoint to resume from: checkpoint-100 \(.*checkpoint-9 \(tra"):
        manifest.to_resume(tmp_path)


def test_only_folders_with_trainers_names_are_checkpoints(tmp_path):
    assert manifest.newest(None) is None
    assert manifest.newest(tmp_path / "nothing") is None
    for name in ("checkpoint-best", "checkpoint-7-old", "my-checkpoint-8", "checkpoint-"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-9").write_text("a file")
    assert manifest.checkpoints(tmp_path) == []
    with pytest.raises(InputError, match="has no checkpoint to resume from"):
        manifest.to_resume(tmp_path)
    assert [manifest.step_of(checkpoint(tmp_path, step)) for step in (2, 10)] == [2, 10]
    assert [path.name for path in manifest.checkpoints(tmp_path)] == ["checkpoint-10", "checkpoint-2"]


def test_the_folder_to_resume_from_is_a_checkpoint_one_with_checkpoints_or_a_model(tmp_path):
    folder = manifest.checkpoint_folder(tmp_path / "model")
    assert folder == tmp_path / "model.checkpoints"
    whole = checkpoint(folder, 14)
    renamed = whole.rename(tmp_path / "kept")
    assert manifest.named(renamed) == renamed
    whole = checkpoint(folder, 14)
    assert [manifest.named(path) for path in (whole, folder, tmp_path / "model")] == [whole, folder, folder]
    for nothing in (tmp_path, tmp_path / "other", tmp_path / "checkpoint-best", "."):
        with pytest.raises(InputError, match="has no checkpoint to resume from: name a checkpoint, or a folder"):
            manifest.named(nothing)


def test_what_a_killed_training_left_is_settled(tmp_path):
    whole, half = (checkpoint(tmp_path / manifest.PARTIAL, step) for step in (14, 28))
    (half / "manifest.json").unlink()
    old = checkpoint(tmp_path, 7)
    checkpoint(tmp_path / manifest.PARTIAL, 7, {**FILES, "optimizer.pt": b"another"})
    manifest.settle(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["checkpoint-14", "checkpoint-7"]
    assert not whole.exists()
    assert (old / "optimizer.pt").read_bytes() == b"moments"
    assert manifest.to_resume(tmp_path) == tmp_path / "checkpoint-14"


def test_a_checkpoint_that_is_there_is_kept_until_the_new_one_has_its_name(tmp_path, monkeypatch):
    old = checkpoint(tmp_path, 14)
    new = checkpoint(tmp_path / manifest.PARTIAL, 14, {**FILES, "optimizer.pt": b"another"})
    rename = os.replace

    def refuse(source, target):
        if source == new:
            raise OSError(5, "Input/output error")
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        with pytest.raises(OSError, match="Input/output error"):
            manifest.place(new, old)
    assert (old / "optimizer.pt").read_bytes() == b"moments"
    manifest.place(new, old)
    assert (old / "optimizer.pt").read_bytes() == b"another"
    assert manifest.damage(old) is None


def test_half_removed_has_not_the_name_of_a_checkpoint(tmp_path, monkeypatch):
    folder, seen = checkpoint(tmp_path, 14), []
    remove = manifest.shutil.rmtree
    monkeypatch.setattr(
        manifest.shutil, "rmtree", lambda path, **options: [seen.append(folder.exists()), remove(path, **options)]
    )
    manifest.remove(folder)
    assert seen == [True, False]  # of an earlier removal, and of this one
    assert os.listdir(tmp_path) == []


def test_a_file_that_is_linked_to_is_read_once(tmp_path, monkeypatch):
    first = checkpoint(tmp_path, 14)
    known, read = {}, []
    digest = manifest.digest_of_file
    monkeypatch.setattr(manifest, "digest_of_file", lambda path: [read.append(path.name), digest(path)][1])
    about = {"step": 1, "processes": 1, "only_model": False}
    (first / "manifest.json").unlink()
    manifest.write(first, about, known)
    second = tmp_path / "checkpoint-28"
    second.mkdir()
    (second / "optimizer.pt").hardlink_to(first / "optimizer.pt")
    (second / "trainer_state.json").write_bytes(b"{ }")
    manifest.write(second, about, known)
    assert read.count("optimizer.pt") == 1
    assert read.count("trainer_state.json") == 2
    assert manifest.damage(second) is None
