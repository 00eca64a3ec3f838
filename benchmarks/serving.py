"""How fast `deni serve` answers 64 clients, and whether SIGTERM loses one of their requests.

The server is another process on the same machine, with one member of MiniLM's size (speed does not depend on the
weights). Each client asks again as soon as it has its answer. At the end the server gets SIGTERM while all of them ask:
a request that was sent and not answered is lost.

python benchmarks/serving.py
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from common import environment, write

CLIENTS, TEXT = 64, "where is my parcel it was sent a week ago and the courier says nothing"
SERVE = "from deni.cli import main; main()"


def make_model(folder: Path) -> Path:
    """MiniLM with a random output layer, as a folder of transformers."""
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    from deni.models.loading import locate

    source, model = locate("minilm"), folder / "model"
    config = AutoConfig.from_pretrained(source, num_labels=3)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(model)
    AutoTokenizer.from_pretrained(source).save_pretrained(model)
    return model


class Client(threading.Thread):
    """Asks again and again until it cannot connect; keeps the seconds of each request."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self.address, self.seconds, self.failed, self.lost = address, [], 0, 0
        self.ends: list[float] = []

    def run(self) -> None:
        with httpx.Client(base_url=self.address, timeout=60) as client:
            while True:
                begun = time.perf_counter()
                try:
                    answer = client.post("/predict", json={"texts": TEXT})
                except httpx.ConnectError:  # nothing was sent: the server has stopped
                    return
                except httpx.HTTPError:
                    self.lost += 1
                    return
                end = time.perf_counter()
                if answer.status_code != 200:
                    self.failed += 1
                    continue
                self.seconds.append(end - begun)
                self.ends.append(end)


def measure(model: Path, seconds: float, warm_up: float) -> dict[str, Any]:
    command = [sys.executable, "-c", SERVE, "serve", str(model), "--port", "0", "--device", "cpu"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"at (http://\S+), described", line)
    assert found, line
    clients = [Client(found[1]) for _ in range(CLIENTS)]
    for each in clients:
        each.start()
    time.sleep(warm_up)
    begun = time.perf_counter()
    time.sleep(seconds)
    ended = time.perf_counter()
    counters = httpx.get(f"{found[1]}/metrics", timeout=60).text
    process.send_signal(signal.SIGTERM)
    stopped = time.perf_counter()
    for each in clients:
        each.join(120)
    code = process.wait(60)
    stop = time.perf_counter() - stopped
    answers = [answer for each in clients for answer in zip(each.seconds, each.ends, strict=True)]
    taken = [spent for spent, end in answers if begun < end < ended]
    after = sum(end > stopped for _, end in answers)
    batches, texts = (float(counters.partition(f"deni_batch_texts_{name} ")[2].split()[0]) for name in ("count", "sum"))
    p50, p99 = np.percentile(taken, [50, 99])
    return {
        "requests": len(taken),
        "throughput": round(len(taken) / (ended - begun), 1),
        "p50_ms": round(1000 * float(p50), 1),
        "p99_ms": round(1000 * float(p99), 1),
        "texts_a_batch": round(texts / batches, 1),
        "failed": sum(each.failed for each in clients),
        "answered_after_sigterm": after,
        "lost": sum(each.lost for each in clients),
        "exit_code": code,
        "stop_seconds": round(stop, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="of load")
    parser.add_argument("--warm-up", type=float, default=5, help="seconds before that")
    parser.add_argument("--output", default="serving", help="name of the result in results/")
    args = parser.parse_args()
    result = environment()
    result["versions"] |= {name: version(name) for name in ("fastapi", "uvicorn")}
    result |= {"clients": CLIENTS, "words": len(TEXT.split()), "seconds": args.seconds}
    with tempfile.TemporaryDirectory() as folder:
        result |= measure(make_model(Path(folder)), args.seconds, args.warm_up)
    result["load_average"] = round(os.getloadavg()[0], 1)
    result["nice"] = os.nice(0)  # below 0: before what else runs
    write(args.output, result)


if __name__ == "__main__":
    main()
