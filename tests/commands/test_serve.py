"""`deni serve` as a process, and what it refuses before it listens."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from deni import load
from deni.cli import main
from deni.commands.serve import serve
from deni.errors import InputError, InputWarning, SettingError
from deni.serving import extra, running
from deni.serving.token import VARIABLE
from tests.helpers.tiny import heed_interrupts

ARTIFACTS = Path(__file__).parents[1] / "artifact" / "format_1"
MODEL = ARTIFACTS / "full_deni"
CODE = "from deni.cli import main; main()"
TEXT, TOKEN = "my parcel is late", "a-token-of-many-characters"


@pytest.fixture
def started():
    """Starts `deni serve` on a free port; gives the process and its address."""
    begun = []

    def start(*args, **environment):
        command = [sys.executable, "-c", CODE, "serve", str(MODEL), "--port", "0", *args]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
            preexec_fn=heed_interrupts,
        )
        begun.append(process)
        line = process.stdout.readline()
        found = re.search(r"at (http://127\.0\.0\.1:\d+), described", line)
        assert found, (line, process.stderr.read())
        return process, found[1]

    yield start
    for process in begun:
        process.kill()
        process.communicate()


def test_sigterm_under_load_loses_no_request(started):
    process, address = started("--device", "cpu", **{VARIABLE: TOKEN})
    assert TOKEN.encode() not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
    assert httpx.post(f"{address}/predict", json={"texts": TEXT}).status_code == 401
    answered, lost, stopped = [], [], threading.Event()

    def ask(client):
        while not stopped.is_set():
            try:
                answer = client.post("/predict", json={"texts": TEXT})
            except httpx.ConnectError:  # no connection: nothing was sent
                return
            except httpx.HTTPError as error:
                lost.append(error)
                return
            answered.append(answer)
            if answer.status_code != 200:
                return

    clients = [
        httpx.Client(base_url=address, headers={"authorization": f"Bearer {TOKEN}"}, timeout=30) for _ in range(8)
    ]
    threads = [threading.Thread(target=ask, args=(client,)) for client in clients]
    for each in threads:
        each.start()
    while len(answered) < 24:
        assert process.poll() is None
        threading.Event().wait(0.02)
    process.send_signal(signal.SIGTERM)
    for each in threads:
        each.join(30)
    stopped.set()
    for client in clients:
        client.close()
    assert process.wait(30) == 0
    assert lost == []
    assert {answer.status_code for answer in answered} == {200}
    want = load(MODEL, "cpu")([TEXT])[0]
    assert all(answer.json()["predictions"] == [pytest.approx(want, abs=1e-6)] for answer in answered)
    assert process.stderr.read() == ""


def test_it_listens_before_anything_else_is_said_and_says_what_it_answers(monkeypatch):
    """The arguments arrive: selection, limits, token, in the order in which a user reads of them."""
    told = []
    monkeypatch.setattr(running, "run_app", lambda app, listening, on_ready: (told.append(app), on_ready()))
    ready = []
    serve(MODEL, port=0, device="cpu", on_ready=lambda *address: ready.append(address))
    ((host, port),) = ready
    assert host == "127.0.0.1"
    assert port > 0
    assert told[0].title == "deni serve"


REFUSED = {
    "no accuracy": ({"calibration": "labeled.csv"}, "--calibration is for --accuracy"),
    "no calibration": ({"label_column": "label"}, "--label-column is of the file of --calibration: omit it"),
    "no out-of-fold predictions": ({"accuracy": 0.9}, "has no out-of-fold predictions"),
    "not pairs": ({"pairs": True}, "trained on one text a row: omit --pairs"),
    "an odd host": ({"host": "no such host"}, "no address of this machine"),
    "a batch of nothing": ({"batch_size": 0}, "batch_size must be at least 1"),
    "no texts": ({"max_texts": 0}, "max_texts must be a whole number of at least 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_served_is_refused_in_one_line(name):
    settings, why = REFUSED[name]
    with pytest.raises((InputError, SettingError), match=why) as caught:
        serve(MODEL, **{"port": 0, "device": "cpu", **settings})
    assert "\n" not in str(caught.value)


def test_the_command_line_refuses_with_exit_code_2(monkeypatch, tmp_path):
    def refused(*args):
        done = CliRunner().invoke(main, ["serve", *map(str, args)])
        assert done.exit_code == 2, done.output
        assert done.output.count("\n") == 1
        return done.output

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        assert f"port {taken} of 127.0.0.1 cannot be used" in refused(MODEL, "--port", taken)
    (tmp_path / "token").write_text("short")
    assert "at least 16 ASCII characters" in refused(MODEL, "--port", 0, "--token-file", tmp_path / "token")
    assert "--accuracy must be between 0 and 1" in refused(MODEL, "--accuracy", 2)
    monkeypatch.setattr(extra, "PACKAGES", ("no_such_package",))
    assert 'pip install "deni[serve]"' in refused(MODEL)


def test_a_server_for_everyone_without_a_token_warns(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(running, "run_app", lambda *_: None)
    with pytest.warns(InputWarning, match="whoever reaches 0.0.0.0 can use the model: set DENI_SERVE_TOKEN"):
        serve(MODEL, host="0.0.0.0", port=0, device="cpu")


def test_a_model_of_transformers_may_read_pairs(model_folder, tmp_path, monkeypatch):
    from deni.artifact import export

    export(MODEL, tmp_path / "single")
    apps = []
    monkeypatch.setattr(running, "run_app", lambda app, *_: apps.append(app))
    serve(tmp_path / "single", port=0, device="cpu", pairs=True)
    asked = apps[0].openapi()["components"]["schemas"]["Question"]["properties"]["texts"]["anyOf"][0]
    assert (asked["minItems"], asked["maxItems"]) == (2, 2)
