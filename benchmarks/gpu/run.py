"""Everything that is measured on a GPU, in a few minutes; a second call goes on where the first one stopped.

    python benchmarks/gpu/run.py --bundle benchmarks/gpu/bundle --out gpu.json --minutes 5.5
    python benchmarks/gpu/run.py --bundle benchmarks/gpu/bundle --out gpu.json --dry-run    # tiny, on any device

The file of results is whole after each case. A case that fails keeps its error and is not tried again but with
`--retry`; one that the time does not suffice for is left to the next call. `table.py` makes tables of the file.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

BEGAN = time.monotonic()  # what is imported counts

import correctness  # noqa: E402
import graphs  # noqa: E402
import language  # noqa: E402
import members  # noqa: E402
import runs  # noqa: E402
import steps  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from bundle import unpack  # noqa: E402
from members import TINY, Setting, Sizes, timed  # noqa: E402
from running import Case, Clock, Results, measure_all, said_of  # noqa: E402

from deni.provenance import environment, versions  # noqa: E402

LINE = "CASE "  # what a line of a process for some cases begins with, that has one of them


def cases_of(setting: Setting) -> list[Case]:
    """All cases; what matters most comes first."""
    return [
        Case("device/products", lambda: products(setting), 3),
        *correctness.cases(setting),
        *steps.cases(setting),
        *graphs.graph_cases(setting),
        *runs.whole_cases(setting),
        *runs.pack_cases(setting),
        *steps.more_cases(setting),
        *language.cases(setting),
        *runs.claim_cases(setting),
        *graphs.compile_cases(setting),
        *runs.study_cases(setting),
    ]


def products(setting: Setting) -> dict[str, Any]:
    """How fast large matrix products are here, in TFLOP/s."""
    size, found = setting.sizes.matrix, {}
    for name in ("bf16", "float32", "tf32"):
        dtype = torch.bfloat16 if name == "bf16" else torch.float32
        a, b = (torch.randn(size, size, device=setting.device, dtype=dtype) for _ in range(2))
        with members.products(name):  # type: ignore[arg-type]
            seconds = timed(setting, lambda a=a, b=b: a @ b, 3, 10)["seconds"]
        found[name] = 2 * size**3 / seconds / 1e12
    return found


def this_call(args: argparse.Namespace, setting: Setting) -> dict[str, Any]:
    """What stands beside the results of this call."""
    here = environment()
    return {
        "versions": {name: here.pop(name) for name in versions()},
        **here,
        "machine": platform.platform(),
        "driver": _smi("driver_version"),
        "clocks": _smi("clocks.sm,clocks.mem,clocks.max.sm,power.limit"),
        "memory_mib": torch.cuda.get_device_properties(0).total_memory / 2**20 if setting.on_gpu else None,
        "commit": args.commit,
        "minutes": args.minutes,
        "dry_run": args.dry_run,
        "sizes": vars(setting.sizes),
    }


def _smi(query: str) -> str | None:
    try:
        command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def in_own_process(setting: Setting, dry_run: bool) -> Callable[[Sequence[Case], float], dict[str, dict[str, Any]]]:
    """What measures cases by another call of this script."""

    def measure(cases: Sequence[Case], seconds: float) -> dict[str, dict[str, Any]]:
        command = [sys.executable, __file__, "--model", str(setting.model), "--cases", *(case.name for case in cases)]
        command += ["--dry-run"] if dry_run else []
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, **pipes, start_new_session=True) as process:
            try:
                said, complained = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # compilers that it started, too, which hold the pipes
                said, complained = process.communicate()
        found: dict[str, dict[str, Any]] = {}
        for line in said.splitlines():
            if line.startswith(LINE):
                found |= json.loads(line.removeprefix(LINE))
        if process.returncode and process.returncode > 0:
            missing = next(case.name for case in cases if case.name not in found)
            found[missing] = {"error": f"ended with {process.returncode}: {(complained or said)[-1500:]}"}
        return found

    return measure


def measure_here(setting: Setting, wanted: Sequence[str]) -> None:
    """What the process for some cases does."""
    for case in cases_of(setting):
        if case.name not in wanted:
            continue
        began = time.monotonic()
        try:
            value = case.measure()
        except Exception as error:
            value = said_of(error)
        value["took"] = round(time.monotonic() - began, 2)
        print(f"\n{LINE}{json.dumps({case.name: value})}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="what `make gpu-bundle` builds")
    parser.add_argument("--out", type=Path, help="the JSON file of results; what it has is not measured again")
    parser.add_argument("--minutes", type=float, default=5.5, help="after which nothing is begun  [default: 5.5]")
    parser.add_argument("--only", nargs="+", default=[""], help="cases whose names begin so")
    parser.add_argument("--retry", action="store_true", help="measure again what failed")
    parser.add_argument("--commit", help="of this tree, where git cannot tell")
    parser.add_argument("--dry-run", action="store_true", help="tiny models and two steps, on any device")
    parser.add_argument("--model", type=Path, help="a folder with a model, in place of the bundle's")
    parser.add_argument("--cases", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    gc.freeze()  # what is imported: a collection after each case would take 0.3 s for it
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sizes = TINY if args.dry_run else Sizes()
    if args.cases:
        measure_here(Setting(sizes, args.model, device), args.cases)
        return
    if args.out is None or (args.bundle is None and args.model is None):
        parser.error("--out is needed, and --bundle or --model")
    if device.type == "cpu" and not args.dry_run:
        parser.error("there is no GPU: use --dry-run to try the script")
    clock = Clock(args.minutes, BEGAN)
    clock.end_what_hangs()
    with tempfile.TemporaryDirectory() as folder:
        if args.bundle is not None:
            os.environ["DENI_DATA"] = str((args.bundle / "data").resolve())
        setting = Setting(sizes, args.model or unpack(args.bundle, Path(folder)), device)
        results = Results(args.out, this_call(args, setting))
        if args.retry:
            results.drop_failed()
        cases = [case for case in cases_of(setting) if case.name.startswith(tuple(args.only))]
        patience = 20.0 if args.dry_run else 1.0  # it may run on a busy processor
        left = measure_all(cases, results, clock, in_own_process(setting, args.dry_run), steps.let_go, patience)
        told = itertools.islice(left, 5)
        print(f"{len(cases) - len(left)} of {len(cases)} cases are in {args.out}; left: {', '.join(told) or 'none'}")


if __name__ == "__main__":
    main()
