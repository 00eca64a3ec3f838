"""`deni augment --method llm`: what it writes, asks, and does after an interrupt."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from deni.cli import main
from tests.helpers.chat_server import (
    LABELS,
    PROMPT,
    TEXTS,
    expected,
    refusing,
)
from tests.helpers.tiny import heed_interrupts


@pytest.fixture
def texts(tmp_path):
    file = tmp_path / "texts.csv"
    pd.DataFrame({"text": TEXTS, "label": LABELS}).to_csv(file, index=False)
    return file


@pytest.fixture
def arguments(server, texts):
    def make(output, cache, *more):
        own = ["--llm-model", "m", "--base-url", server.url, "--prompt", PROMPT, "--cache", cache, "--concurrency", 3]
        return [str(each) for each in ("augment", texts, "--method", "llm", "--n", 2, "--output", output, *own, *more)]

    return make


def deni(arguments):
    return CliRunner().invoke(main, arguments)


def started(arguments):
    command = [sys.executable, "-c", "from deni.cli import main; main()", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=os.environ, preexec_fn=heed_interrupts, **pipes)


def wait_for(what):
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_command_writes_paraphrases_with_the_labels_of_their_texts(server, arguments, tmp_path):
    output = tmp_path / "new.csv"
    result = deni(arguments(output, tmp_path / "cache", "--yes"))
    assert result.exit_code == 0, result.output
    frame = pd.read_csv(output)
    assert list(frame.seed) == [text for text in TEXTS for _ in range(2)]
    assert list(frame.label) == [label for label in LABELS for _ in range(2)]
    assert list(frame.text) == [new for own in expected() for new in own]
    assert "12 requests sent, 12 answered: 120 input and 60 output tokens" in result.stderr
    assert "24 new texts of 12 labeled ones" in result.stdout


def test_the_command_without_yes_and_terminal_shows_the_estimate_and_exits_with_2(server, arguments, tmp_path):
    result = deni(arguments(tmp_path / "new.csv", tmp_path / "cache"))
    assert result.exit_code == 2
    assert "12 requests" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("Error: nothing was sent")
    assert server.asked == []
    assert not (tmp_path / "new.csv").exists()


def test_missing_paraphrases_are_a_warning_of_the_command(server, arguments, tmp_path):
    def poor(body):
        return '["only this"]' if "parcel 3" in body["messages"][0]["content"] else None

    server.always = poor
    result = deni(arguments(tmp_path / "new.csv", tmp_path / "cache", "--yes"))
    assert result.exit_code == 0, result.output
    assert "1 of 24 new texts are missing" in result.stderr
    assert len(pd.read_csv(tmp_path / "new.csv")) == 23


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_command_goes_on_without_asking_anything_twice(server, arguments, tmp_path, how):
    answered, released, calls = 5, threading.Event(), []

    def five_then_hang(body):
        calls.append(body)
        if len(calls) > 5:
            released.wait(60)

    server.always = five_then_hang
    again = arguments(tmp_path / "stopped.csv", tmp_path / "cache", "--yes")
    process = started(again)
    # Each of three places has a request that is not answered: what was answered before is stored.
    wait_for(lambda: len(calls) == 8)
    begun = time.monotonic()
    process.send_signal(how)
    said = []
    for line in process.stderr:
        said.append(line)
        if "waiting" in line:
            released.set()  # what is under way comes in, for it is paid
    stdout, stderr = process.stdout.read(), "".join(said)
    process.wait(60)
    assert time.monotonic() - begun < 10
    assert process.returncode == (130 if how == signal.SIGINT else -how)
    if how == signal.SIGINT:
        answered += 3
        assert "Interrupted." in stdout
        assert "llm: 8 requests sent, 8 answered: 80 input" in stderr
        assert "Traceback" not in stderr
    assert not (tmp_path / "stopped.csv").exists()
    paid = list(server.answered)
    assert len(paid) == answered
    server.always = None
    released.set()
    server.asked.clear()
    result = deni(again)
    assert result.exit_code == 0, result.output
    assert f"{12 - answered} requests to {server.url}/; {answered} are answered already" in result.stderr
    assert sorted([*server.asked, *paid]) == sorted(
        PROMPT.format(n=2, label=label, text=text) for text, label in zip(TEXTS, LABELS, strict=True)
    )
    assert deni(arguments(tmp_path / "whole.csv", tmp_path / "other", "--yes")).exit_code == 0
    assert (tmp_path / "stopped.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_two_commands_at_one_time_share_their_answers(server, arguments, tmp_path):
    numbers = iter(range(1000))

    def never_the_same(_):
        time.sleep(0.1)
        with server.lock:
            return json.dumps([f"new {next(numbers)}", f"new {next(numbers)}"])

    server.always = never_the_same
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    process = started(arguments(one, tmp_path / "cache", "--yes"))
    wait_for(lambda: server.asked)
    result = deni(arguments(two, tmp_path / "cache", "--yes"))
    assert result.exit_code == 0, result.output
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert one.read_bytes() == two.read_bytes()


def test_a_run_with_other_decisions_is_not_continued(server, arguments, tmp_path):
    server.plan = [*[lambda _: None] * 10, refusing(401)]
    big = tmp_path / "big.csv"
    pd.DataFrame({"text": [f"text {i}" for i in range(24)], "label": LABELS * 2}).to_csv(big, index=False)
    own = arguments(tmp_path / "new.csv", tmp_path / "cache", "--yes", "--concurrency", 1)
    own[1] = str(big)
    first = deni(own)
    assert first.exit_code == 2
    assert "8 of 24 texts are finished and kept" in first.stderr
    second = deni([*own, "--temperature", "0.5"])
    assert second.exit_code == 2
    assert "temperature: None there, 0.5 here" in second.stderr
    server.plan = []
    third = deni([*own, "--timeout", "9", "--max-retries", "1"])
    assert third.exit_code == 0, third.output
    assert len(server.answered) == len(set(server.answered)) == 24
    assert not Path(f"{tmp_path / 'new.csv'}.partial.jsonl").exists()
