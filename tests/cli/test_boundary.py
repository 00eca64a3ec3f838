"""Which errors are the user's (one line, exit code 2), and what is said of a fault of deni (one line, exit code 1)."""

import ast
import errno
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors import SafetensorError
from safetensors.torch import save_file

import deni
from deni.cli import main
from deni.cli.boundary import issues_address
from deni.errors import ArtifactError, InputError, SettingError, TrainingDivergedError

ROOT = Path(__file__).parents[2]
OURS = "Error: this is a fault of deni, not of your input:"


@pytest.fixture
def show(monkeypatch, tmp_path):
    """Runs `deni strategies show deni` in which a function of the package fails; log files go into `tmp_path`."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def run(error, *flags):
        def fail(*_, **__):
            if callable(error):
                error()
            raise error

        monkeypatch.setattr("deni.commands.strategies.make_strategy", fail)
        return CliRunner().invoke(main, [*flags, "strategies", "show", "deni"])

    return run


def logs(folder):
    return sorted(folder.glob("deni-*.log"))


# ---- the user's ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [InputError, ArtifactError, SettingError, TrainingDivergedError])
def test_an_error_of_the_user_is_one_line_with_exit_code_2(show, tmp_path, kind):
    result = show(kind("members must be\nat least 1"))
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", "Error: members must be at least 1\n")
    assert logs(tmp_path) == []


def full_for_safetensors():
    """The error of safetensors with the system's number of a full disk, made of one with another number."""
    try:
        save_file({"a": torch.zeros(2)}, "/nowhere/at/all.safetensors")
    except SafetensorError as error:
        text = str(error)
        assert f"(os error {errno.ENOENT})" in text
        raise SafetensorError(re.sub(r"\(os error \d+\)", f"(os error {errno.ENOSPC})", text)) from None


def full_for_torch():
    with open("/dev/full", "wb") as file:
        torch.save({"a": torch.zeros(100_000)}, file)


def quota():
    raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "model")


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="the system has no /dev/full")
@pytest.mark.parametrize("fail", [full_for_safetensors, full_for_torch, quota])
def test_a_full_disk_is_the_users(show, tmp_path, fail):
    result = show(fail)
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)
    assert result.stderr.startswith("Error: the disk is full (")
    assert logs(tmp_path) == []


def test_a_file_over_the_limit_is_the_users(show, tmp_path):
    result = show(OSError(errno.EFBIG, os.strerror(errno.EFBIG), "model"))
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)
    assert "a file would be larger than is allowed" in result.stderr
    assert "ulimit -f" in result.stderr
    assert logs(tmp_path) == []


def test_a_truncated_file_of_torch_is_no_full_disk(show, tmp_path):
    torch.save({"a": torch.zeros(1000)}, tmp_path / "whole.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:-100])
    result = show(lambda: torch.load(tmp_path / "cut.pt"))
    assert result.exit_code == 1
    assert "disk" not in result.stderr


def no_fork():
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


def on_the_gpu():
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nSee the documentation")


MEMORY = [lambda: np.empty(2**50), lambda: torch.empty(2**50), no_fork, on_the_gpu]


@pytest.mark.parametrize("fail", MEMORY, ids=["NumPy", "torch on CPU", "the system", "torch on a GPU"])
def test_short_memory_is_the_users(show, tmp_path, fail):
    result = show(fail)
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)
    assert result.stderr.startswith("Error: memory is short (")
    assert "--batch-size" in result.stderr
    assert logs(tmp_path) == []


# ---- faults --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (
            ValueError("not enough values to unpack\n(expected 2)"),
            "ValueError: not enough values to unpack (expected 2)",
        ),
        (KeyError("phase"), "KeyError: 'phase'"),
        (RuntimeError("mat1 and mat2 cannot be multiplied"), "RuntimeError: mat1 and mat2 cannot be multiplied"),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), "FileNotFoundError: [Errno 2] No such file: 'x'"),
        (AssertionError(), "AssertionError"),
    ],
)
def test_a_fault_is_one_line_with_exit_code_1_and_a_log_of_the_traceback(show, tmp_path, error, what):
    result = show(error)
    [log] = logs(tmp_path)
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (1, "", 1)
    start = f"{OURS} {what}; the traceback is in {log} and a report is welcome"
    assert result.stderr.startswith(start)
    written = log.read_text()
    assert "Traceback (most recent call last)" in written
    assert f"deni {deni.__version__}, Python {sys.version.split()[0]}" in written
    assert f"torch {torch.__version__.partition('+')[0]}" in written
    assert "test_boundary.py" in written


def test_debug_prints_the_traceback_of_a_fault_and_writes_no_log(show, tmp_path):
    result = show(KeyError("phase"), "--debug")
    assert result.exit_code == 1
    assert "Traceback (most recent call last)" in result.stderr
    assert result.stderr.splitlines()[-1].startswith(f"{OURS} KeyError: 'phase'")
    assert logs(tmp_path) == []


def test_a_temporary_directory_that_cannot_be_written_keeps_the_line(show, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    result = show(KeyError("phase"))
    assert result.exit_code == 1
    assert result.stderr.startswith(f"{OURS} KeyError: 'phase'; a report is welcome")


def test_a_fault_in_a_process_of_its_own(tmp_path):
    """As installed: nothing of a test runner around it, the log in $TMPDIR."""
    code = "import deni.settings as s; s.without_missing = lambda *_: {}['phase']; from deni.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "strategies", "show", "deni"],
        capture_output=True,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    [log] = logs(tmp_path)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert done.stderr.startswith(f"{OURS} KeyError: 'phase'; the traceback is in {log}")
    assert "command: -c strategies show deni" in log.read_text()


def test_an_interruption_is_exit_code_130(show, tmp_path):
    def interrupt():
        raise KeyboardInterrupt

    result = show(interrupt)
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")
    assert logs(tmp_path) == []


def test_errors_of_click_keep_their_own_words(show):
    result = show(click.UsageError("no such thing"))
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (2, "Error: no such thing")


def test_the_address_of_the_issue_tracker_is_that_of_pyproject(tmp_path, monkeypatch):
    """Read from the metadata of the installed package, which pip makes of pyproject.toml."""
    address = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Issues"]
    folder = tmp_path / f"deni-{deni.__version__}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: deni\nVersion: {deni.__version__}\nProject-URL: Issues, {address}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert issues_address() == address


# ---- plug-ins ------------------------------------------------------------------------------------------------------

CONSTRUCTOR = """
from dataclasses import dataclass
from deni.strategies.forking import Forking

@dataclass(frozen=True)
class Late(Forking, name="late"):
    def __post_init__(self):
        raise {error}
"""
METHOD = """
from dataclasses import dataclass
from deni.strategies.forking import Forking

@dataclass(frozen=True)
class Late(Forking, name="late"):
    def phases(self, steps):
        return {}["phase"]
"""


@pytest.mark.parametrize(
    ("error", "why"),
    [
        ("ValueError('members\\nmust be odd')", "ValueError: members must be odd"),
        ("ZeroDivisionError('by zero')", "ZeroDivisionError: by zero"),
    ],
)
def test_a_plug_in_whose_constructor_fails_is_named(install, error, why):
    install("late", "late_plugin", CONSTRUCTOR.format(error=error))
    result = CliRunner().invoke(main, ["strategies", "show", "late"])
    line = f"Error: strategy late of late_plugin refuses its settings ({why})\n"
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", line)


def test_a_plug_in_says_what_does_not_fit_as_our_own_strategies_do(install):
    error = "__import__('deni.errors', fromlist=['x']).SettingError('members must be odd')"
    install("late", "late_plugin", CONSTRUCTOR.format(error=error))
    result = CliRunner().invoke(main, ["strategies", "show", "late"])
    assert (result.exit_code, result.stderr) == (2, "Error: members must be odd\n")


def test_a_fault_of_a_plug_in_is_not_called_ours(install, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    install("late", "late_plugin", METHOD)
    result = CliRunner().invoke(main, ["strategies", "show", "late"])
    start = (
        "Error: this is a fault of the plug-in late_plugin, not of your input: KeyError: 'phase'; the traceback is in"
    )
    assert (result.exit_code, result.stderr.startswith(start)) == (1, True), result.stderr
    assert "report" not in result.stderr


# ---- the library ---------------------------------------------------------------------------------------------------

# A plain ValueError is a fault, but where the caller knows the file and says it.
CAUGHT = {
    "population.py": "values that do not fit the model: checkpoint and artifact say of which file",
    "engine/optimizer.py": "state that does not fit: the checkpoint says of which folder",
    "models/prompts.py": "a chat template that rewrites what stands: the reader says of which row",
    "models/pooling.py": "deni.json: the artifact says of which file",
    "study/cell.py": "a result of our own making",
}


def test_settings_are_checked_with_their_own_error():
    source = Path(deni.__file__).parent
    raising = {
        file.relative_to(source).as_posix()
        for file in source.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Raise) and node.exc is not None and ast.unparse(node.exc).startswith("ValueError(")
    }
    assert raising == set(CAUGHT)
