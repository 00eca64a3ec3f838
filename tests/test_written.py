"""Pipes and devices in the place of files that deni wrote are not opened: reading one may never end."""

import os
from pathlib import Path

import pytest

from deni.augmentation.journal import Journal
from deni.errors import InputError
from deni.models.reading import read_text
from deni.outputs.folders import check_folder
from deni.written import irregular, written_bytes, written_text

NO_FILES = {"pipe": os.mkfifo, "device": lambda path: Path(path).symlink_to("/dev/zero")}


def test_a_file_is_read(tmp_path):
    (tmp_path / "a").write_bytes("Ä\r\n".encode())
    assert (written_text(tmp_path / "a"), written_bytes(tmp_path / "a")) == ("Ä\r\n", b"\xc3\x84\r\n")
    assert irregular(tmp_path / "a") is None
    assert irregular(tmp_path / "nothing") is None
    assert irregular(tmp_path) == "a folder"


@pytest.mark.parametrize("kind", NO_FILES)
def test_what_never_ends_is_an_error(tmp_path, kind):
    NO_FILES[kind](tmp_path / "a")
    with pytest.raises(OSError, match="a pipe or device"):
        written_bytes(tmp_path / "a")


@pytest.mark.parametrize("kind", NO_FILES)
def test_readers_of_texts_journals_and_lists_do_not_wait(tmp_path, kind):
    for name in ("modules.json", "deni.json", "texts.csv.partial.jsonl"):
        NO_FILES[kind](tmp_path / name)
    assert read_text(tmp_path, "modules.json") is None
    with pytest.raises(InputError, match=r"deni\.json"):
        check_folder(tmp_path, overwrite=True)
    with pytest.raises(InputError, match="a pipe or device"):
        Journal(tmp_path / "texts.csv", {})
