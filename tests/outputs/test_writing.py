"""Files and folders are written whole or not at all, what they replace is whole until then, and no result is lost."""

import errno
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import pytest

from deni.errors import InputError, InputWarning
from deni.outputs import (
    INFO,
    LIST,
    SavedElsewhereError,
    check_folder,
    foreign_files,
    place_file,
    sizes,
    system_errors,
    write_bytes,
    write_folder,
    write_into,
    writing,
)

OLD, NEW = {"a.txt": "old", "in/b.txt": "old"}, {"a.txt": "new", "in/c.txt": "new"}


def put(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def artifact(folder, files):
    """Writes files and their list, as an artifact has it."""
    put(folder, files)
    (folder / INFO).write_text(json.dumps({"format": 2, "files": sizes(folder)}))


def content(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def texts(folder):
    return {name: text for name, text in content(folder).items() if name not in (INFO, LIST)}


@pytest.fixture
def model(tmp_path):
    (tmp_path / "on").mkdir()
    return write_folder(tmp_path / "on" / "model", lambda folder: artifact(folder, OLD))


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """The temporary directory, where results go that cannot go elsewhere."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path / "temporary"


def no_space(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")


# ---- folders ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exchange", [True, False], ids=["in one moment", "in two steps"])
def test_a_folder_is_replaced_by_what_was_written(exchange, model, monkeypatch):
    if not exchange:
        monkeypatch.setattr(writing, "_exchange", lambda *_: False)
    write_folder(model, lambda folder: artifact(folder, NEW), overwrite=True)
    assert texts(model) == NEW
    assert os.listdir(model.parent) == ["model"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux exchanges two names")
def test_two_folders_exchange_their_names(tmp_path):
    put(tmp_path / "one", {"x": "1"})
    put(tmp_path / "two", {"x": "2"})
    assert writing._exchange(tmp_path / "one", tmp_path / "two")
    assert (content(tmp_path / "one"), content(tmp_path / "two")) == ({"x": "2"}, {"x": "1"})
    assert not writing._exchange(tmp_path / "one", tmp_path / "nothing")


def test_until_it_is_replaced_a_folder_is_whole(model):
    def look(folder):
        artifact(folder, NEW)
        assert texts(model) == OLD
        assert folder.parent == model.parent

    write_folder(model, look, overwrite=True)


@pytest.mark.parametrize("kept", ["", "the model is"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, KeyError])
def test_what_is_no_fault_of_the_disk_leaves_all_as_it_was(error, kept, model, temporary):
    def fail(folder):
        put(folder, NEW)
        raise error

    with pytest.raises(error):
        write_folder(model, fail, overwrite=True, kept=kept)
    assert texts(model) == OLD
    assert os.listdir(model.parent) == ["model"]
    assert not list(temporary.iterdir())


MEANWHILE = {"thesis.txt": "years", "in/notes.txt": "mine", "b/c.txt": "mine"}


def test_a_file_that_comes_while_a_folder_is_written_is_not_deleted(model, temporary):
    """Seen before the old folder is touched: the new one goes elsewhere."""

    def write(folder):
        artifact(folder, NEW)
        put(model, MEANWHILE)

    with pytest.raises(SavedElsewhereError, match=r"what deni did not write.*'b/', 'in/notes.txt', 'thesis.txt'") as e:
        write_folder(model, write, overwrite=True, kept="the model is")
    assert texts(model) == {**OLD, **MEANWHILE}
    assert texts(e.value.path) == NEW
    assert os.listdir(model.parent) == ["model"]


@pytest.mark.parametrize("exchange", [True, False], ids=["in one moment", "in two steps"])
def test_a_file_that_comes_at_the_last_moment_is_in_the_new_folder(exchange, model, monkeypatch):
    really = writing._exchange

    def late(one, other):
        put(model, MEANWHILE)
        return really(one, other) if exchange else False

    monkeypatch.setattr(writing, "_exchange", late)
    write_folder(model, lambda folder: artifact(folder, NEW), overwrite=True)
    assert texts(model) == {**NEW, **MEANWHILE}
    assert os.listdir(model.parent) == ["model"]


def test_a_late_file_of_the_same_name_stays_where_the_old_folder_is(model, monkeypatch):
    really = writing._exchange

    def late(one, other):
        put(model, {"in/c.txt": "mine"})
        return really(one, other)

    monkeypatch.setattr(writing, "_exchange", late)
    with pytest.warns(InputWarning, match=r"keeps what came there meanwhile \('in/c.txt'\)"):
        write_folder(model, lambda folder: artifact(folder, NEW), overwrite=True)
    assert texts(model) == NEW
    [old] = [path for path in model.parent.iterdir() if path != model]
    assert content(old) == {"in/c.txt": "mine"}


def test_a_folder_that_comes_meanwhile_is_not_replaced(tmp_path, temporary):
    def write(folder):
        artifact(folder, NEW)
        artifact(tmp_path / "model", OLD)

    with pytest.raises(InputError, match="model exists"):
        write_folder(tmp_path / "model", write)
    assert texts(tmp_path / "model") == OLD
    assert not list(temporary.iterdir())


def test_a_link_that_comes_meanwhile_is_not_followed(tmp_path):
    put(tmp_path / "other", {"x": "mine"})

    def write(folder):
        artifact(folder, NEW)
        (tmp_path / "model").symlink_to("other")

    with pytest.raises(SavedElsewhereError, match="is a link to other"):
        write_folder(tmp_path / "model", write, overwrite=True, kept="the model is")
    assert content(tmp_path / "other") == {"x": "mine"}
    assert (tmp_path / "model").is_symlink()


def test_a_folder_is_made_again_that_was_removed_meanwhile(tmp_path):
    (tmp_path / "on").mkdir()
    check_folder(tmp_path / "on" / "model", False)
    (tmp_path / "on").rmdir()
    write_folder(tmp_path / "on" / "model", lambda folder: artifact(folder, NEW), checked=True)
    assert texts(tmp_path / "on" / "model") == NEW


def test_others_may_read_what_is_written(model):
    assert model.stat().st_mode & 0o777 == 0o755
    assert {path.stat().st_mode & 0o777 for path in model.rglob("*") if path.is_file()} == {0o644}


REPLACING = """
import itertools, json, sys
from deni.outputs import INFO, sizes, write_folder

def write(folder):
    for name in ("a", "b", "c"):
        (folder / name).write_text(str(number))
    (folder / INFO).write_text(json.dumps({"format": 2, "files": sizes(folder)}))

for number in itertools.count():
    write_folder("model", write, overwrite=True)
    if number == 3:
        print("ready", flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux exchanges two names")
def test_a_kill_at_any_time_leaves_a_whole_folder(tmp_path):
    draw = random.Random(0)
    for _ in range(10):
        words = [sys.executable, "-c", REPLACING]
        with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE) as it:
            it.stdout.readline()
            time.sleep(draw.uniform(0, 0.03))
            it.kill()
        left = content(tmp_path / "model")
        assert left.keys() == {"a", "b", "c", INFO}
        assert left["a"] == left["b"] == left["c"]
        assert foreign_files(tmp_path / "model") == {}


# ---- elsewhere -------------------------------------------------------------------------------------------------------


def test_what_cannot_be_written_is_in_the_temporary_directory(small_disk, temporary):
    disk = small_disk("64k")
    with pytest.raises(SavedElsewhereError) as caught:
        write_folder(
            disk.folder / "model", lambda folder: put(folder, {"big": "x" * 100_000}), kept="the model is", use="use {}"
        )
    path = caught.value.path
    assert str(caught.value) == (
        f"{disk.folder / 'model'} cannot be written (No space left on device): the model is in {path}; "
        f"use it there (`use {path}`), or move it"
    )
    assert path.parent.parent == temporary
    assert content(path) == {"big": "x" * 100_000}
    assert os.listdir(disk.folder) == []


def test_a_full_disk_leaves_the_old_folder_whole(small_disk):
    disk = small_disk("64k")
    write_folder(disk.folder / "model", lambda folder: artifact(folder, OLD))
    with pytest.raises(SavedElsewhereError, match="No space left on device"):
        write_folder(
            disk.folder / "model", lambda folder: put(folder, {"big": "x" * 100_000}), True, kept="the model is"
        )
    assert texts(disk.folder / "model") == OLD
    assert os.listdir(disk.folder) == ["model"]


def test_a_disk_that_becomes_read_only_at_the_end(small_disk):
    """The new folder is whole and cannot get its name: there is a copy elsewhere."""
    disk = small_disk("64k")

    def write(folder):
        artifact(folder, NEW)
        if folder.parent == disk.folder:
            disk.make_read_only()

    with pytest.raises(SavedElsewhereError, match="Read-only file system") as caught:
        write_folder(disk.folder / "model", write, kept="the model is")
    assert texts(caught.value.path) == NEW


def test_where_nothing_can_be_written_the_message_says_so(small_disk, monkeypatch, tmp_path):
    disk = small_disk("64k")
    monkeypatch.setattr(tempfile, "tempdir", str(disk.folder))
    big = {"big": "x" * 100_000}
    with pytest.raises(InputError) as caught:
        write_folder(disk.folder / "model", lambda folder: put(folder, big), kept="the model is")
    assert str(caught.value) == (
        f"{disk.folder / 'model'} cannot be written (No space left on device), and neither can the temporary directory "
        "(No space left on device): the model is not saved"
    )
    assert os.listdir(disk.folder) == []


def test_a_whole_folder_without_its_name_stays_where_it_is(tmp_path, monkeypatch):
    """The temporary directory is full, too, but nothing more needs to be written."""
    monkeypatch.setattr(writing, "_place_folder", no_space)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(SavedElsewhereError, match="the model is in ") as caught:
        write_folder(tmp_path / "model", lambda folder: artifact(folder, NEW), kept="the model is")
    assert texts(caught.value.path) == NEW
    assert caught.value.path.parent == tmp_path


def test_what_nobody_asked_to_keep_is_not_kept(monkeypatch, tmp_path, temporary):
    with pytest.raises(InputError, match=r"model cannot be written \(No space left on device\): free space"):
        write_folder(tmp_path / "model", no_space)
    assert not list(temporary.iterdir())


# ---- files -----------------------------------------------------------------------------------------------------------


def test_a_file_that_cannot_be_written_is_in_the_temporary_directory(small_disk, temporary):
    disk = small_disk("64k")
    (disk.folder / "out.csv").write_text("old")
    with pytest.raises(SavedElsewhereError, match=r"out.csv cannot be written \(No space .*: the table is in ") as e:
        write_bytes(disk.folder / "out.csv", b"x" * 100_000, overwrite=True, kept="the table is")
    assert e.value.path.read_bytes() == b"x" * 100_000
    assert e.value.path.name == "out.csv"
    assert content(disk.folder) == {"out.csv": "old"}
    with pytest.raises(InputError, match="free space or choose another"):
        write_bytes(disk.folder / "out.csv", b"x" * 100_000, overwrite=True)


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_a_file_that_comes_meanwhile_stays(links, tmp_path, monkeypatch):
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: no_space())
    (tmp_path / "out.csv").write_text("mine")
    with pytest.raises(SavedElsewhereError, match=r"out.csv exists and is not replaced: the table is in ") as caught:
        write_bytes(tmp_path / "out.csv", b"new", kept="the table is")
    assert (tmp_path / "out.csv").read_text() == "mine"
    assert caught.value.path.read_text() == "new"
    write_bytes(tmp_path / "out.csv", b"new", overwrite=True)
    write_bytes(tmp_path / "in" / "other.csv", b"new")
    (tmp_path / "named").write_text("x")
    place_file(tmp_path / "named", tmp_path / "another", overwrite=False)
    there = {name: text for name, text in content(tmp_path).items() if "temporary" not in name}
    assert there == {"out.csv": "new", "in/other.csv": "new", "another": "x"}


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
from pathlib import Path
from deni.outputs import check_room, write_bytes, write_folder
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordPiece

weights = lambda folder: save_file({"a": torch.zeros(50_000)}, folder / "a.safetensors")
vocabulary = {"[UNK]": 0, **{f"word{at}": at for at in range(1, 10_000)}}
tokens = lambda folder: Tokenizer(WordPiece(vocabulary, unk_token="[UNK]")).save(str(folder / "t.json"))
for call in (
    lambda: write_folder("model", weights),
    lambda: write_folder("model", tokens),
    lambda: write_bytes(Path("out.csv"), bytes(60_000)),
    lambda: check_room("model", 60_000, 60_000),
    lambda: check_room("model", 60_000, 40_000),
    lambda: check_room("model", 10**18, 40_000),
):
    try:
        call()
        print("fits")
    except Exception as error:
        print(type(error).__name__, error)
"""


def test_the_limit_on_the_size_of_files_is_one_line(tmp_path):
    """Also where safetensors and tokenizers write, whose errors are no OSError."""
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, cwd=tmp_path)
    assert not done.stderr
    *first, limit, fits, space = done.stdout.splitlines()
    where = ("model", "model", "out.csv")
    reason = "cannot be written (File too large): free space or choose another"
    assert first == [f"InputError {name} {reason}" for name in where]
    assert limit == (
        "InputError model needs a file of about 58.6 KiB, and the limit of this shell is 48.8 KiB: raise it (ulimit -f)"
    )
    assert fits == "fits"
    assert space.startswith("InputError model needs about 931322574.6 GiB, and ")
    assert os.listdir(tmp_path) == ["temporary"]


def test_room_is_that_of_the_disk(small_disk):
    from deni.outputs import check_room

    disk = small_disk("64k")
    check_room(disk.folder / "not" / "yet" / "model", 60_000, 60_000)
    with pytest.raises(InputError, match=r"needs about 68.4 KiB, and 64.0 KiB are free there: free space or choose"):
        check_room(disk.folder / "not" / "yet" / "model", 70_000, 10)


def test_an_error_of_a_program_is_no_error_of_the_system():
    with pytest.raises(KeyError), system_errors():
        raise KeyError("phase")
    with pytest.raises(OSError, match="No space left on device") as caught, system_errors():
        raise Exception("No space left on device (os error 28)")
    assert caught.value.errno == errno.ENOSPC


# ---- files put into a folder -------------------------------------------------------------------------------------


def test_files_put_into_a_folder_replace_those_of_before_and_no_others(tmp_path):
    folder = tmp_path / "figures"
    put(folder, {"mine.svg": "mine"})
    write_into(folder, lambda new: put(new, OLD))
    assert texts(folder) == {**OLD, "mine.svg": "mine"}
    write_into(folder, lambda new: put(new, NEW))
    assert texts(folder) == {**NEW, "mine.svg": "mine"}
    assert list(foreign_files(folder)) == ["mine.svg"]


def test_files_put_into_a_folder_never_replace_those_of_another(tmp_path):
    folder = tmp_path / "figures"
    put(folder, {"a.txt": "mine"})
    with pytest.raises(SavedElsewhereError, match=r"a.txt exists and is not replaced: the figures are in") as caught:
        write_into(folder, lambda new: put(new, NEW), kept="the figures are")
    assert content(folder) == {"a.txt": "mine"}
    assert texts(caught.value.path) == NEW


def test_half_an_artifact_is_never_taken_for_a_whole(tmp_path, monkeypatch):
    write_into(tmp_path / "model", lambda folder: artifact(folder, OLD), own_list=False)
    really, moved = Path.replace, []

    def stop(path, target):
        if moved:
            no_space()
        moved.append(target)
        return really(path, target)

    monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises(InputError, match="No space left on device"), warnings.catch_warnings():
        write_into(tmp_path / "model", lambda folder: artifact(folder, NEW), own_list=False)
    assert not (tmp_path / "model" / INFO).exists()
    monkeypatch.undo()
    write_into(tmp_path / "model", lambda folder: artifact(folder, NEW), own_list=False)
    assert {**texts(tmp_path / "model"), **NEW} == texts(tmp_path / "model")
