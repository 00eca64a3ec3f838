import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deni.commands.demo import EPOCHS, LABELED, LABELS
from deni.measures.folds import WIDENED
from deni.models.architectures import HEADS
from deni.tuning import TUNINGS
from scripts.demo_texts.choose import TASKS

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize("script", ["tables.py", "models.py"])
def test_the_tables_are_what_the_scripts_write(script):
    done = subprocess.run([sys.executable, BENCHMARKS / script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_odd_inputs_are_taken_or_refused_in_one_line(tmp_path):
    """A short run of the fuzzing; what it finds is kept in the folder that the message names."""
    folder, output = tmp_path / "kept", tmp_path / "fuzz.json"
    command = [
        sys.executable,
        BENCHMARKS / "fuzz.py",
        "--cases",
        "50",
        "--seed",
        "0",
        "--keep",
        folder,
        "--output",
        output,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\nsee {folder}"
    found = json.loads(output.read_text())
    assert (found["cases"], found["not_made"]) == (50, 0)
    assert all(sum(each.values()) > 0 for each in found["outcomes"].values())
    assert sum(each["one line"] for each in found["outcomes"].values()) > 25
    assert sum(each["fine"] for each in found["outcomes"].values()) > 3  # not all of them are refused


def test_the_committed_fuzzing_found_nothing():
    found = json.loads((BENCHMARKS / "results" / "fuzz.json").read_text())
    bad = ("traceback", "hang", "silent", "foreign file touched", "code run")
    assert found["cases"] >= 20_000
    assert [each[name] for each in found["outcomes"].values() for name in bad if each[name]] == []


def test_default_learning_rates_are_the_chosen_ones():
    chosen = json.loads((BENCHMARKS / "results" / "learning_rates.json").read_text())["chosen"]
    assert chosen.keys() <= TUNINGS.keys()
    for name, tuning in TUNINGS.items():  # those that no benchmark compared have the paper's
        assert tuning.learning_rate == chosen.get(name, tuning.paper_learning_rate)


def test_every_architecture_has_a_graph_that_predicts_the_same():
    cases = json.loads((BENCHMARKS / "results" / "onnx_models.json").read_text())["cases"]
    assert {row["architecture"] for row in cases.values()} == set(HEADS)
    for name, row in cases.items():  # a refused one has no differences
        assert max(row["differences"].values()) < 1e-4 < row["members_differ_by"], name


def test_a_graph_scores_as_its_artifact_and_int8_is_measured_on_two_datasets():
    datasets = json.loads((BENCHMARKS / "results" / "onnx_int8.json").read_text())["datasets"]
    assert len(datasets) == 2
    for row in datasets.values():
        f1 = row["macro_f1"]
        assert abs(f1["onnx"] - f1["torch"]) < 1e-9
        assert abs(f1["int8"] - f1["torch"]) < 0.005
        assert row["bytes"]["int8"] < 0.7 * row["bytes"]["onnx"]


def test_the_demo_in_the_readme_is_what_a_demo_printed():
    rows = json.loads((BENCHMARKS / "results" / "demo.json").read_text())["rows"]
    lines = (BENCHMARKS.parent / "README.md").read_text().splitlines()
    shown = [re.split(r"\s*│\s*|\s{2,}", line.strip("│ ")) for line in lines if line.startswith("│ ")]
    want = [
        [
            *(row["strategy"], *(f"{100 * f1:.1f}" for f1 in row["macro_f1"])),
            *(f"{100 * row['mean']:.1f}", f"{100 * row['sd']:.1f}" if len(row["macro_f1"]) > 1 else ""),
            *(str(row["member_steps"]), f"{row['seconds']:.0f}"),
        ]
        for row in rows
    ]
    assert shown == want
    for row in rows[1:]:
        found = [f"{100 * row['against_default'][name]:+.1f}" for name in ("value", "low", "high")]
        assert any(line.startswith("{}: {} ({} to {}), ".format(row["strategy"], *found)) for line in lines)


def test_the_demo_costs_what_the_readme_says():
    rows = json.loads((BENCHMARKS / "results" / "demo.json").read_text())["rows"]
    readme = (BENCHMARKS.parent / "README.md").read_text()
    size = json.loads((BENCHMARKS / "results" / "install_size.json").read_text())
    download, installed = (size[name] / 1e9 for name in ("download_bytes", "installed_bytes"))
    assert f"It downloads {download:.1f} GB (with torch for CPUs) and takes {installed:.1f} GB of disk." in readme
    assert (download < 0.6, installed < 1.7) == (True, True)
    assert f"trained for {sum(row['seconds'] for row in rows):.0f} seconds" in readme
    assert [row["strategy"] for row in rows if row["strategy"] != "frozen" and row["member_steps"] < 32] == []


def test_the_task_of_the_demo_is_the_one_on_which_seeds_matter_most():
    found = json.loads((BENCHMARKS / "results" / "demo_task.json").read_text())
    assert [tuple(row["labels"]) for row in found["rows"]] == list(TASKS)
    assert max(found["rows"], key=lambda row: row["sd"])["labels"] == list(LABELS)
    assert (found["settings"]["labelled"], found["settings"]["epochs"]) == (LABELED, EPOCHS)
    table = (BENCHMARKS.parent / "src/deni/data/demo/README.md").read_text()
    for row in found["rows"]:
        assert f"| {row['dev_texts']} | {100 * row['mean']:.1f} | {100 * row['sd']:.1f} |" in table


def test_intervals_from_folds_are_as_wide_as_their_coverage_asks():
    found = json.loads((BENCHMARKS / "results" / "fold_coverage.json").read_text())
    assert found["factor"] == WIDENED
    assert all(row["widened"] >= 0.93 for row in found["simulation"])
    for labels in (50, 200, 500):
        rows = [row for row in found["validation"] if row["labels"] == labels]
        assert np.mean([row["widened"] for row in rows]) >= 0.93 > np.mean([row["bootstrap"] for row in rows])


def test_cross_validation_costs_at_most_what_was_asked_for():
    found = json.loads((BENCHMARKS / "results" / "cross_validation_cost.json").read_text())
    assert found["ratio"] == found["crossed"]["seconds"] / found["plain"]["seconds"] <= found["target"] == 4.5
    assert found["crossed"]["member_steps"] == found["plain"]["member_steps"]


def test_the_adapters_of_the_benchmark_are_trained():
    for way in ("stacked", "PEFT"):
        command = [sys.executable, BENCHMARKS / "lora_adapters.py", "--steps", "1", "--case", way, "2", "4"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout.splitlines()[-1])["seconds"] > 0


def test_the_docs_repeat_the_results_of_the_study_of_generation():
    text = (BENCHMARKS.parent / "docs" / "language_models.md").read_text()
    docs = [re.split(r" *\| *", line.strip("| ")) for line in text.splitlines()]
    page = (BENCHMARKS.parent / "results" / "generation.md").read_text()
    for column, part in enumerate(page.split("\n## ")[1:]):
        rows = [line.strip("| ").split(" | ") for line in part.splitlines() if "[" in line]
        assert len(rows) == 4
        for name, mean, sd, _, *rest in rows:
            (found,) = [row for row in docs if row[0].lower() == name and "SD" in row[1]]
            assert found[1 + 2 * column] == f"{mean.split()[0]} (SD {sd.split()[0]})"
            assert name == "default" or found[2 + 2 * column] == rest[0].strip()
            assert name == "default" or " [0." in rest[1]
            assert name == "default" or float(rest[1].rpartition(", ")[2].rstrip("]")) > 1  # no ratio is below 1


def test_the_page_of_the_study_of_generation_is_what_its_script_writes():
    command = [sys.executable, BENCHMARKS / "studies" / "generation" / "study.py", "--page", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_nothing_grows_much_faster_than_its_input():
    """But steps with the tokens of a text: attention is quadratic."""
    curves = json.loads((BENCHMARKS / "results" / "scaling.json").read_text())["curves"]
    assert curves.keys() >= {"cells", "members"}
    assert curves["cells"]["values"][-1] == 100_000
    for name, curve in curves.items():
        most = 2 if name == "tokens" else 1.4
        assert {what: each for what, each in curve["exponents"].items() if each > most} == {}


def test_the_predicted_time_of_a_study_is_within_a_quarter():
    rows = json.loads((BENCHMARKS / "results" / "dry_run.json").read_text())["rows"]
    assert len(rows) == 5
    assert {row["study"]: row["ratio"] for row in rows if not 0.75 <= row["ratio"] <= 1.25} == {}
