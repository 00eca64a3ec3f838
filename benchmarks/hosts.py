"""Hosts on one machine: each is a first process with its own processes, network and name, and a cable to one switch."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import psutil

NETWORK = "10.77.0"
NAMESPACES = ["unshare", "--net", "--uts", "--pid", "--mount-proc", "--fork"]
# The first process of a host takes leave of ended orphans, and ends with the script, which ends all others of the host:
# nothing stays, however the script ends.
FIRST = """
import signal, socket, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
socket.sethostname(sys.argv[1])
print("ready", flush=True)
sys.stdin.read()
"""


def why_not() -> str:
    """Why this machine can have no such hosts; empty where it can."""
    if not sys.platform.startswith("linux"):
        return "network namespaces are of Linux"
    if os.geteuid() != 0:
        return "making network namespaces needs root"
    for command, package in (("ip", "iproute2"), ("unshare", "util-linux"), ("nsenter", "util-linux")):
        if not shutil.which(command):
            return f"the command {command} is missing: install {package}"
    trial = "ip link add one type veth peer name two && ip link add bridge type bridge"
    done = subprocess.run([*NAMESPACES, "sh", "-c", trial], capture_output=True, text=True, check=False)
    return f"namespaces, veth or bridges are not allowed here: {done.stderr.strip()}" if done.returncode else ""


class Hosts:
    """Some hosts and their switch, which are gone on leaving the context, with all that runs on them.

    The switch is one more such host, so that nothing of the machine's own network is touched. Files are shared, as on
    a cluster with a network file system.

    Args:
        names: of the hosts; their addresses are 10.77.0.1, 10.77.0.2, ...
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.address = {name: f"{NETWORK}.{at}" for at, name in enumerate(names, 1)}
        self._first: dict[str, subprocess.Popen] = {}
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Hosts:
        for number in (signal.SIGTERM, signal.SIGHUP):  # Ctrl-C is an exception already
            self._handlers[number] = signal.signal(number, _leave)
        try:
            self._begin("switch")
            self._ip("switch", "link", "add", "bridge", "type", "bridge")
            self._ip("switch", "link", "set", "bridge", "up")
            for name in self.address:
                self.boot(name)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self._first):
            self.kill(name)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def boot(self, host: str) -> None:
        """Start a host that is not there or was killed, and plug its cable in."""
        self._begin(host)
        with suppress(subprocess.CalledProcessError):  # the cable of a host that was killed goes a little later
            self._ip("switch", "link", "delete", "dev", host)
        own = str(self._pid(host))
        self._ip("switch", "link", "add", "name", host, "type", "veth", "peer", "name", "eth0", "netns", own)
        self._ip("switch", "link", "set", "dev", host, "master", "bridge", "up")
        number = int(self.address[host].rpartition(".")[2])
        card = f"02:00:00:00:00:{number:02x}"  # the same after a boot, so that others find it
        self._ip(host, "link", "set", "dev", "eth0", "address", card)
        self._ip(host, "address", "add", f"{self.address[host]}/24", "dev", "eth0")
        self._ip(host, "link", "set", "lo", "up")
        self._ip(host, "link", "set", "eth0", "up")

    def start(self, host: str, command: Sequence[Any], environ: Mapping[str, str], log: Path) -> subprocess.Popen:
        """Begin a command on a host; what it prints goes to a file."""
        with log.open("a") as file:
            return subprocess.Popen(
                [*self._inside(host), *map(str, command)],
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def runs(self, host: str, mark: str) -> bool:
        """Whether a process whose command line has this in it runs on a host."""
        space = _space(self._pid(host))
        for each in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, OSError):
                if mark in " ".join(each.cmdline()) and _space(each.pid) == space:
                    return True
        return False

    def cut(self, host: str) -> None:
        """Pull a host's cable out of the switch: no packet passes, and nobody is told."""
        self._ip("switch", "link", "set", "dev", host, "down")

    def heal(self, host: str) -> None:
        """Plug the cable in again."""
        self._ip("switch", "link", "set", "dev", host, "up")

    def kill(self, host: str) -> None:
        """Kill all that runs on a host; the kernel closes its connections."""
        first = self._first.pop(host)
        with suppress(ProcessLookupError):
            os.kill(self._pid_of(first), signal.SIGKILL)
        first.wait()
        for pipe in (first.stdin, first.stdout):
            pipe.close()

    def lose(self, host: str) -> None:
        """Lose a host as by a power cut: its cable first, so that no connection is closed, then its processes."""
        self.cut(host)
        self.kill(host)

    def _begin(self, name: str) -> None:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        command = [*NAMESPACES, sys.executable, "-c", FIRST, name]
        self._first[name] = subprocess.Popen(command, start_new_session=True, **pipes)
        if self._first[name].stdout.readline() != b"ready\n":
            raise RuntimeError(f"the host {name} does not start: {' '.join(command)}")

    def _pid(self, name: str) -> int:
        return self._pid_of(self._first[name])

    def _pid_of(self, first: subprocess.Popen) -> int:
        return psutil.Process(first.pid).children()[0].pid  # below `unshare`

    def _inside(self, host: str) -> list[str]:
        return ["nsenter", "--target", str(self._pid(host)), "--net", "--uts", "--pid", "--mount", "--"]

    def _ip(self, host: str, *arguments: str) -> None:
        into = ["nsenter", "--target", str(self._pid(host)), "--net", "--"]  # where processes have their outer numbers
        subprocess.run([*into, "ip", *arguments], capture_output=True, text=True, check=True)


def _space(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/ns/pid")


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
