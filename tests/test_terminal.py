"""What a terminal gets of texts that others wrote, and how a command ends whose output cannot be written."""

import io
import json
import os
import pty
import subprocess
import sys

import pandas as pd
import pytest
from click.testing import CliRunner

from deni.cli import main
from deni.data import write_table
from deni.terminal import PIPE_CLOSED, console, say, visible

TITLE, RED, LEFT = "\x1b]0;owned\x07", "\x1b[31m", "\u202e"
DENI = [sys.executable, "-c", "from deni.cli import main; main()"]


def test_text_keeps_its_letters_and_loses_its_power():
    assert visible(f"a{TITLE}{RED}b") == "a\\u001b]0;owned\\u0007\\u001b[31mb"
    assert visible("line\nafter\ttab") == "line\nafter\ttab"
    assert visible("Größe, 漢字, שלום, مرحبا, 👩‍💻") == "Größe, 漢字, שלום, مرحبا, 👩‍💻"
    assert visible("\x9b31m \u2028 \r") == "\\u009b31m \\u2028 \\u000d"
    for mark in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c":
        assert visible(f"a{mark}b") == f"a\\u{ord(mark):04x}b"


def test_json_that_is_shown_is_the_same_json():
    value = {f"{RED}{LEFT}\x9b": [TITLE, "é"]}
    assert json.loads(visible(json.dumps(value, ensure_ascii=False))) == value


def test_what_say_and_a_console_print_has_no_escape_sequence_and_no_markup(capsys):
    from rich.table import Table

    table = Table("[red]head", title=f"{TITLE}[/b]")
    table.add_row(f"[/b]{RED}{LEFT}")
    printed = io.StringIO()
    screen = console(file=printed, width=100)
    screen.print(table)
    screen.print("[bold]x[/] :smile:")
    say(TITLE)
    shown = printed.getvalue() + capsys.readouterr().out
    assert not {"\x1b", "\x07", LEFT} & set(shown)
    assert "[red]head" in shown
    assert "[bold]x[/] :smile:" in shown


def test_an_error_cannot_steer_the_terminal(tmp_path):
    done = CliRunner().invoke(main, ["inspect", str(tmp_path / f"{TITLE}{LEFT}.csv")])
    assert done.exit_code == 2
    assert not {"\x1b", "\x07", LEFT} & set(done.output)
    assert "\\u001b]0;owned" in done.output


def deni(*arguments, stdout=subprocess.PIPE, **environment):
    return subprocess.run(
        [*DENI, *map(str, arguments)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_pipe_gets_utf_8_whatever_the_locale(encoding, tmp_path):
    file = tmp_path / "größe.csv"
    file.write_text("text,label\n", encoding="utf-8")
    done = deni("inspect", file, PYTHONIOENCODING=encoding, LC_ALL="C")
    assert done.returncode == 2
    assert "größe.csv" in done.stderr.decode("utf-8")
    assert "Traceback" not in done.stderr.decode("utf-8")


def test_a_terminal_that_cannot_show_a_letter_gets_another(tmp_path):
    file = tmp_path / "größe 漢.csv"
    file.write_text("text,label\n", encoding="utf-8")
    leader, follower = pty.openpty()
    done = subprocess.run(
        [*DENI, "inspect", str(file)],
        stdout=follower,
        stderr=follower,
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
        check=False,
    )
    os.close(follower)
    shown = os.read(leader, 10_000)
    os.close(leader)
    assert done.returncode == 2
    assert "größe ?.csv".encode("cp1252") in shown


def test_a_pipe_that_nobody_reads_ends_quietly():
    reader, writer = os.pipe()
    os.close(reader)
    done = deni("strategies", "list", stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (PIPE_CLOSED, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize("arguments", [("strategies", "list"), ("--help",)])
def test_a_full_device_is_one_line(arguments):
    with open("/dev/full", "w") as full:
        done = deni(*arguments, stdout=full)
    assert done.returncode == 2
    assert done.stderr.decode() == (
        "Error: standard output cannot be written (No space left on device): redirect it to another place\n"
    )


def test_closed_standard_output_is_no_traceback():
    for arguments in (["strategies", "list"], ["--help"]):
        done = subprocess.run(
            ["sh", "-c", '"$@" >&-', "sh", *DENI, *arguments], stderr=subprocess.PIPE, check=False, env=os.environ
        )
        assert b"Traceback" not in done.stderr
        assert done.returncode in (0, 2)


def test_a_table_on_a_terminal_is_visible_and_in_a_pipe_as_it_is(monkeypatch, capsys):
    frame = pd.DataFrame({"text": [f"{RED}x\ty", "plain"], "label": ["a", "b"]})
    write_table(frame, "-")
    assert capsys.readouterr().out == f"text,label\n{RED}x\ty,a\nplain,b\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    write_table(frame, "-")
    assert capsys.readouterr().out == "text,label\n\\u001b[31mx\ty,a\nplain,b\n"
