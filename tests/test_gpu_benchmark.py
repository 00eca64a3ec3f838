"""benchmarks/gpu: its script runs to the end with tiny models, goes on where it stopped, and survives what fails."""

import importlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.helpers.tiny import toy_rows, write_csv

GPU = Path(__file__).parents[1] / "benchmarks" / "gpu"


@pytest.fixture
def part(monkeypatch):
    """A module of the script."""
    monkeypatch.syspath_prepend(str(GPU))
    yield importlib.import_module
    for name in ("running", "bundle", "table"):
        sys.modules.pop(name, None)


@pytest.mark.slow
def test_a_dry_run_measures_and_a_second_one_goes_on(model_folder, tmp_path, monkeypatch, part):
    write_csv(tmp_path / "trec.csv.gz", toy_rows(30))
    monkeypatch.setenv("DENI_DATA", str(tmp_path))
    out = tmp_path / "gpu.json"

    def run(*only):
        command = [sys.executable, GPU / "run.py", "--dry-run", "--minutes", "30", "--model", model_folder]
        command += ["--out", out, "--only", *only]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(out.read_text())

    first = run("device", "steps/bert-base/full/bf16", "graphs/check")
    some = ("correct/engines/lora", "correct/pack/full", "correct/streams", "graphs/", "steps/qwen2", "adapters/")
    result = run("device", *some, "runs/bert-base", "packs/full/deni", "claims/trec/default")
    cases = result["cases"]
    assert {name: cases[name] for name in first["cases"]} == first["cases"]
    assert [call["dry_run"] for call in result["calls"]] == [True, True]
    assert {value["call"] for value in cases.values()} == {0, 1}
    assert {name.partition("/")[0] for name in cases} == {
        *("device", "correct", "steps", "graphs", "runs", "packs", "claims", "adapters")
    }
    assert {name: value["error"] for name, value in cases.items() if "error" in value} == {}
    assert all(value["equal"] for name, value in cases.items() if name.startswith(("correct/", "graphs/check")))
    text = part("table").gpu(result)
    assert "a dry run" in text
    assert "| runs |" not in text
    assert "| bert-base | full | deni | 18 | 72 |" in text
    assert "| 3b | 2 |" in text
    assert "NO" not in text


def test_a_case_that_fails_or_takes_too_long_loses_no_other(part, tmp_path):
    running = part("running")
    asked = []

    def fail():
        raise ValueError("not on this device")

    def never():
        time.sleep(60)

    def apart(group, seconds):
        asked.append([case.name for case in group])
        return {group[0].name: {"seconds": 1.0}}  # it did not come to the second one

    cases = [
        running.Case("a/fails", fail, 0),
        running.Case("b/works", lambda: {"seconds": 2.0}, 0),
        running.Case("c/one", fail, -20, apart=True),
        running.Case("c/two", fail, -20, apart=True),
        running.Case("d/long", lambda: {}, 1000),
        running.Case("e/never", never, 0),
    ]
    clock = running.Clock(2.5 / 60, time.monotonic())
    out = tmp_path / "out.json"
    cleaned = []
    left = running.measure_all(cases, running.Results(out, {}), clock, apart, lambda: cleaned.append(1))
    kept = json.loads(out.read_text())["cases"]
    assert left == ["c/two", "d/long", "e/never"]
    assert asked == [["c/one", "c/two"]]
    assert list(kept) == ["a/fails", "b/works", "c/one"]
    assert kept["a/fails"]["error"] == "ValueError: not on this device"
    assert cleaned

    again = running.Results(out, {})
    assert "a/fails" in again
    again.drop_failed()
    assert "a/fails" not in again
    assert "b/works" in again


def test_weights_in_few_bytes_come_back(part):
    bundle = part("bundle")
    draw = torch.Generator().manual_seed(0)
    weights = {
        bundle.TABLE: torch.randn(20, 8, generator=draw),
        "layer.weight": torch.randn(4, 8, generator=draw),
        "layer.bias": torch.zeros(4),
    }
    rows = [0, 3, 19]
    back = bundle.expand(bundle.squeeze(weights, rows))
    assert back.keys() == weights.keys()
    assert torch.equal(back["layer.weight"], weights["layer.weight"].to(torch.bfloat16).float())
    assert torch.equal(back["layer.bias"], weights["layer.bias"])
    assert torch.allclose(back[bundle.TABLE], weights[bundle.TABLE][rows], atol=0.02)


def test_a_smaller_vocabulary_keeps_what_is_used(part):
    special = [{"id": 0, "content": "[PAD]"}, {"id": 4, "content": "[CLS]"}]
    vocabulary = {"[PAD]": 0, "a": 1, "b": 2, "c": 3, "[CLS]": 4, "d": 5}
    description = {
        "added_tokens": special,
        "model": {"vocab": vocabulary},
        "post_processor": {"special_tokens": {"[CLS]": {"ids": [4]}}},
        "truncation": {"max_length": 128},
        "padding": {},
    }
    pruned, rows = part("bundle").prune(description, {2, 5})
    assert rows == [0, 2, 4, 5]
    assert pruned["model"]["vocab"] == {"[PAD]": 0, "b": 1, "[CLS]": 2, "d": 3}
    assert [each["id"] for each in pruned["added_tokens"]] == [0, 2]
    assert pruned["post_processor"]["special_tokens"]["[CLS]"]["ids"] == [2]
    assert pruned["truncation"] is None
