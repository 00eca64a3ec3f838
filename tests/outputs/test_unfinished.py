"""What a killed process left is removed by the next that writes there, and nothing else."""

import os
import signal
import subprocess
import sys

import pytest

from deni.outputs import check_file, check_folder, unfinished_name, write_bytes, write_folder
from deni.outputs.unfinished import remove_leftovers, unfinished_folder, whole_folder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is removed")

WRITE = """
import sys, time
from pathlib import Path
from deni.outputs import unfinished_name, write_folder
from deni.outputs.unfinished import unfinished_file

def write(folder):
    (folder / "weights").write_bytes(bytes(9))
    (folder / "in").mkdir()
    print("writing", flush=True)
    time.sleep(60)

here = Path(sys.argv[1])
unfinished_name(here, ".jsonl").touch()
for suffix in (".db", ".db-wal", ".db-shm"):
    unfinished_name(here, suffix).touch()
unfinished_file(here)
write_folder(here / "model", write)
"""


def begin(folder):
    """A process that is writing."""
    process = subprocess.Popen([sys.executable, "-c", WRITE, str(folder)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"writing\n"
    return process


def end(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.fixture
def left(tmp_path):
    """A folder with what a killed process left."""
    end(begin(tmp_path))
    assert len(list(tmp_path.iterdir())) == 6
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        lambda folder: check_folder(folder / "model", overwrite=False),
        lambda folder: check_folder(folder, overwrite=True),
        lambda folder: check_file(folder / "out.csv", overwrite=False),
    ],
)
def test_the_next_command_removes_what_a_killed_one_left(left, command):
    command(left)
    assert not list(left.iterdir())


def test_what_a_process_is_writing_stays(tmp_path):
    process = begin(tmp_path)
    try:
        before = sorted(tmp_path.rglob("*"))
        remove_leftovers(tmp_path)
        check_file(tmp_path / "out.csv", overwrite=False)
        assert sorted(tmp_path.rglob("*")) == before
    finally:
        end(process)


def test_nothing_else_is_removed(left, tmp_path_factory):
    theirs = tmp_path_factory.mktemp("theirs")
    (theirs / "notes").write_text("mine")
    name = next(path.name for path in left.iterdir() if path.is_dir())
    _, pid, where, token = name.rsplit("-", 3)
    other = "00000000" if where != "00000000" else "11111111"
    kept = [f".deni-{pid}-{other}-{token}", f".deni-{os.getpid()}-{where}-{token}", f".deni-1-{where}-{token}"]
    kept += [f".deni-{token}", f".deni-{pid}-{where}-{token}.csv", f"x.deni-{pid}-{where}-{token}", ".deni-notes"]
    for each in kept:
        (left / each).mkdir()
        (left / each / "notes").write_text("mine")
    (left / f".deni-{pid}-{where}-linked__").symlink_to(theirs)
    remove_leftovers(left)
    assert sorted(path.name for path in left.iterdir()) == sorted([*kept, f".deni-{pid}-{where}-linked__"])
    assert all((left / each / "notes").read_text() == "mine" for each in kept)
    assert (theirs / "notes").read_text() == "mine"


def test_what_is_whole_is_never_removed(tmp_path):
    """As where the process ends between writing a folder and giving it its name: it may hold the only model."""
    code = (
        "import sys; from pathlib import Path; from deni.outputs.unfinished import *\n"
        "folder = unfinished_folder(Path(sys.argv[1])); (folder / 'weights').touch(); whole_folder(folder)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    remove_leftovers(tmp_path)
    (folder,) = tmp_path.iterdir()
    assert [path.name for path in folder.iterdir()] == ["weights"]


def test_writing_leaves_nothing(tmp_path):
    write_bytes(tmp_path / "a.txt", b"a")
    write_folder(tmp_path / "model", lambda folder: (folder / "weights").touch())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "model"]
    assert whole_folder(unfinished_folder(tmp_path)).parent == unfinished_name(tmp_path).parent == tmp_path
    assert len({unfinished_name(tmp_path) for _ in range(9)}) == 9
