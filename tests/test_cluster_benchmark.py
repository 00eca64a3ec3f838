"""benchmarks/cluster.py: its hosts reach each other and leave nothing behind, and its scenes ended as they should."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.helpers.tiny import heed_interrupts

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SERVER = (
    "import socket; s = socket.create_server(('', 7000))\nwhile True: c, _ = s.accept(); c.send(b'hello'); c.close()"
)
CLIENT = "import socket; print(socket.create_connection(('10.77.0.1', 7000), timeout=1).recv(9), socket.gethostname())"


@pytest.fixture
def hosts(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("hosts")
    sys.modules.pop("hosts", None)


@pytest.fixture
def possible(hosts):
    if why := hosts.why_not():
        pytest.skip(why)
    return hosts


def test_hosts_reach_each_other_unless_cut_or_lost_and_are_gone_afterwards(possible, tmp_path):
    def asked():
        log = tmp_path / "log"
        log.unlink(missing_ok=True)
        made.start("two", [sys.executable, "-c", CLIENT], os.environ, log).wait()
        return log.read_text().strip().splitlines()[-1]

    def serving():
        made.start("one", [sys.executable, "-c", SERVER], os.environ, tmp_path / "server")
        end = time.monotonic() + 20
        while asked() != "b'hello' two" and time.monotonic() < end:
            time.sleep(0.05)
        return asked()

    with possible.Hosts(["one", "two"]) as made:
        assert serving() == "b'hello' two"
        assert made.runs("one", "create_server")
        assert not made.runs("two", "create_server")
        made.cut("one")
        assert asked() == "TimeoutError: timed out"  # a packet is lost without a word
        made.heal("one")
        assert asked() == "b'hello' two"
        made.kill("one")
        made.boot("one")
        assert asked() == "ConnectionRefusedError: [Errno 111] Connection refused"
        assert serving() == "b'hello' two"
        made.lose("one")
        assert "hello" not in asked()
        inside = [made._pid("two"), made._pid("switch")]
    assert not any(map(psutil.pid_exists, inside))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_stays_of_hosts_whose_script_is_stopped(possible, tmp_path, how):
    script = (
        f"import sys, os, time; sys.path.insert(0, {str(BENCHMARKS)!r})\n"
        "from hosts import Hosts, Path\n"
        "with Hosts(['one']) as made:\n"
        f"    made.start('one', ['sleep', '987'], os.environ, Path({str(tmp_path)!r}, 'log'))\n"
        "    print('ready', flush=True); time.sleep(60)\n"
    )
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", script], preexec_fn=heed_interrupts, **streams) as began:
        assert began.stdout.readline() == b"ready\n"
        below = psutil.Process(began.pid).children(recursive=True)
        assert len(below) >= 5  # two hosts, each below `unshare`, and what runs on one
        began.send_signal(how)
        assert psutil.wait_procs(below, timeout=20)[1] == []


def test_who_may_not_make_hosts_is_told_why(hosts, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert hosts.why_not() == "network namespaces are of Linux"
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert hosts.why_not() == "making network namespaces needs root"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", "")
    assert hosts.why_not() == "the command ip is missing: install iproute2"


def test_every_scene_ended_as_it_should():
    result = json.loads((BENCHMARKS / "results" / "cluster.json").read_text())
    assert {row["outcome"] for row in result["scenes"]} == {"as it should"}
    studies = [row for row in result["scenes"] if "cells" in row]
    assert len(studies) >= 8
    assert all((row["cells"], row["lost"], row["twice"]) == (result["cells"], 0, 0) for row in studies)
    assert len(result["scenes"]) - len(studies) == 2
