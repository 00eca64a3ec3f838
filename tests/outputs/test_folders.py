"""Which folders may be replaced: nothing is lost that deni did not write."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from deni.errors import InputError
from deni.outputs import INFO, LIST, check_folder, foreign_files, sizes, write_list

FORMAT_1 = Path(__file__).parents[1] / "artifact" / "format_1" / "full_deni"


def artifact(folder, **files):
    """A folder as `deni.artifact.save` leaves it: files, and a list of them."""
    folder.mkdir()
    for name, text in {"config.json": "{}", "population.safetensors": "weights", **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / INFO).write_text(json.dumps({"format": 2, "files": sizes(folder)}))
    return folder


def exported(folder):
    for name in ("member-0/model.safetensors", "member-1/model.safetensors"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("weights")
    write_list(folder)
    return folder


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refusal(target, overwrite=True, inputs=()):
    with pytest.raises(InputError) as caught:
        check_folder(target, overwrite, inputs)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("make", [artifact, exported, lambda folder: (folder.mkdir(), folder)[1]])
def test_what_deni_wrote_may_be_replaced_if_asked(make, here):
    folder = make(here / "model")
    before = content(here)
    assert "model exists: choose another folder or give --overwrite" in refusal("model", overwrite=False)
    assert check_folder("model", True) == Path("model")
    assert foreign_files(folder) == {}
    assert content(here) == before


def link(folder):
    (folder / "weights").symlink_to(folder.parent)


def hidden(folder):
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("ref")


def in_place_of_ours(folder):
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("/etc/hostname")


ADDED = {
    "a file": (lambda folder: (folder / "thesis.txt").write_text("years"), "'thesis.txt'"),
    "a folder": (lambda folder: (folder / "data").mkdir(), "'data/'"),
    "a hidden folder": (hidden, "'.git/'"),
    "a link": (link, "'weights'"),
    "a link in place of ours": (in_place_of_ours, "'config.json'"),
    "a card that was edited": (lambda folder: (folder / "README.md").write_text("my card"), "'README.md, changed"),
    "many": (
        lambda folder: [(folder / f"{name}.csv").write_text("") for name in "abcde"],
        "'a.csv', 'b.csv', 'c.csv' and 2 more",
    ),
}


@pytest.mark.parametrize("what", ADDED)
def test_what_deni_did_not_write_is_named_and_stays(what, here):
    add, named = ADDED[what]
    folder = artifact(here / "model", **{"README.md": "card"})
    add(folder)
    before = content(here)
    message = refusal("model")
    assert "model has what deni did not write" in message
    assert named in message
    assert content(here) == before


def test_a_model_of_another_program_is_not_replaced(here):
    """The fault that was: any folder with a config.json was."""
    folder = here / "bert"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_text("weights")
    assert "'config.json', 'model.safetensors'" in refusal("bert")
    (folder / INFO).write_text('{"name": "of another program"}')
    assert "'config.json', 'deni.json'" in refusal("bert")


def test_an_artifact_of_before_there_were_lists_has_names_of_its_own(here):
    folder = here / "model"
    shutil.copytree(FORMAT_1, folder)
    assert "files" not in json.loads((folder / INFO).read_text())
    assert list(foreign_files(folder)) == ["expected.json"]  # of the tests
    (folder / "expected.json").unlink()
    check_folder("model", True)


def test_a_list_that_was_tampered_with_names_nothing_outside(here):
    folder = artifact(here / "model")
    (here / "mine.txt").write_text("mine")
    info = json.loads((folder / INFO).read_text())
    info["files"] |= {"../mine.txt": 4, "/etc/hostname": 1, "x\0": 1}
    (folder / INFO).write_text(json.dumps(info))
    check_folder("model", True)
    assert (here / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("damaged", ["", "[1]", "{", '{"format": 2, "files": 3}', "[" * 100_000])
def test_a_damaged_list_makes_more_foreign_never_less(damaged, here):
    folder = artifact(here / "model", **{"mine.txt": "mine"})
    (folder / INFO).write_text(damaged)
    assert "mine.txt" in foreign_files(folder)
    (folder / LIST).write_text(damaged)
    assert "mine.txt" in foreign_files(folder)


# ---- places ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (".", ". is the working directory: name a folder in it"),
        ("..", ".. holds the working directory"),
        ("in/..", "in/.. is the working directory"),
        ("/", "/ holds the working directory"),
        ("", "has no name"),
        ("a\0b", "NUL"),
        ("x" * 256, "256 bytes: 255 is the most"),
        (os.fsdecode(b"caf\xe9"), "not UTF-8"),
        ("dangling", "is a link to nowhere"),
        ("linked", "linked is a link to "),
        ("linked/", "linked/ is a link to "),
        ("file", "file is a file and is not overwritten"),
        ("file/model", "file is not writable"),
        ("/proc/model", "cannot be written"),
        ("/dev/full", "/dev/full is a file"),
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_an_impossible_place_is_one_line(name, why, overwrite, here):
    artifact(here / "model")
    (here / "in").mkdir()
    (here / "dangling").symlink_to("nowhere")
    (here / "linked").symlink_to("model")
    (here / "file").write_text("")
    before = content(here)
    message = refusal(name, overwrite)
    assert why in message or (not overwrite and "exists" in message)
    assert content(here) == before


def test_the_home_directory_is_never_replaced(here, monkeypatch):
    (here / "home" / "me").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(here / "home" / "me"))
    assert "is your home directory" in refusal("home/me")
    assert "holds your home directory" in refusal("home")


def test_no_spelling_of_what_is_read_is_replaced(here):
    folder = artifact(here / "model", **{"texts/t.csv": "text"})
    (here / "linked").symlink_to("model")
    for given in ("model", folder, "./model/", "linked", "linked/../model"):
        assert "model is what is read: choose another folder" in refusal("model", True, [None, "trec", given])
    for given in ("model/texts", "model/texts/t.csv", "linked/config.json", folder / "config.json"):
        assert re.search(r"is in model, which would be overwritten", refusal("model", True, [given]))
    check_folder("model", True, [None, "trec", "-", "user/dataset", "a\0b", "x" * 5000, here / "nothing"])


def test_a_link_on_the_way_is_fine(here):
    (here / "real").mkdir()
    (here / "linked").symlink_to("real")
    check_folder("linked/model", False)
    artifact(here / "real" / "model")
    check_folder("linked/model", True)
    assert "is what is read" in refusal("linked/model", True, ["real/model"])


def test_a_trial_leaves_nothing(here):
    check_folder("a/b/c/model", False)
    assert list(here.iterdir()) == []
    check_folder("x" * 255, False)
    assert list(here.iterdir()) == []
