"""`deni adapt` as a user runs it."""

import hashlib
import json
import os
import signal
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from deni.adaptation.trainer import AdaptationTrainer
from deni.cli import main
from deni.commands.adapt import adapt_file
from tests.helpers.tiny import toy_rows


@pytest.fixture
def files(tmp_path):
    """A pool with a column of its own, and test texts that are partly in it."""
    texts = list(dict.fromkeys(text for text, _ in toy_rows(30)))[:80]
    pd.DataFrame({"id": range(83), "message": [*texts, texts[5].upper(), " ", texts[6]]}).to_csv(
        tmp_path / "pool.csv", index=False
    )
    test = [texts[0], f"{texts[1].capitalize()}!", "something else"]
    pd.DataFrame({"message": test, "label": "login"}).to_csv(tmp_path / "test.csv", index=False)
    return tmp_path


def run(folder, *words):
    options = ["--output", folder / "encoder", "--text-column", "message", "--device", "cpu", "--no-progress"]
    words = ["adapt", "--texts", folder / "pool.csv", *options, "--batch-size", 8, *words]
    result = CliRunner().invoke(main, list(map(str, words)))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_a_folder_is_written_and_what_was_done_is_said(files, model_folder):
    result = run(files, "--model", model_folder, "--test", files / "test.csv", "--steps", 6, "--learning-rate", 3e-3)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].startswith("At most 6 steps on 70 texts: about 0:0")
    assert lines[1] == "70 texts trained on, 8 held out, of 83 (left out: 1 empty, 2 in the test file, 2 repeated)."
    made = json.loads((files / "encoder" / "adaptation.json").read_text())
    before, after = made["held_out_loss"].values()
    assert lines[2].startswith(f"Loss on texts held out: {before:.4g} before, {after:.4g} after step ")
    assert lines[3] == "A lower contrastive loss is not a better classifier: a sentence encoder may get worse by it."
    assert lines[4] == (
        f"Next: deni models FILE --models {model_folder},{files / 'encoder'}, where FILE has labeled texts, tells "
        "whether it helped."
    )
    assert made["pool"] == {
        "source": str(files / "pool.csv"),
        "sha256": hashlib.sha256((files / "pool.csv").read_bytes()).hexdigest(),
    }
    assert made["test"]["sha256"] == hashlib.sha256((files / "test.csv").read_bytes()).hexdigest()
    weights = hashlib.sha256((Path(model_folder) / "model.safetensors").read_bytes()).hexdigest()
    assert made["model_sha256"] == weights
    card = (files / "encoder" / "README.md").read_text()
    assert made["pool"]["sha256"] in card
    assert "2 of its texts are in" in card


def test_without_a_test_file_it_says_what_that_means(files, model_folder):
    result = run(files, "--model", model_folder, "--steps", 1)
    assert "No --test was given: a text of the pool that is tested on later makes that score too good." in result.output
    assert "No test texts were named" in (files / "encoder" / "README.md").read_text()


def test_ctrl_c_leaves_a_checkpoint_that_resume_goes_on_from(files, model_folder, monkeypatch):
    whole = adapt_file(files / "pool.csv", output=files / "whole", model=model_folder, text_column="message",
                       batch_size=8, steps=6, device="cpu", progress=False)  # fmt: skip
    with monkeypatch.context() as patch:
        compute, calls = AdaptationTrainer.compute_loss, []

        def interrupted(self, *arguments, **options):
            calls.append(1)
            if len(calls) == 3:
                os.kill(os.getpid(), signal.SIGINT)
            return compute(self, *arguments, **options)

        patch.setattr(AdaptationTrainer, "compute_loss", interrupted)
        result = run(files, "--model", model_folder, "--steps", 6)
    assert result.exit_code == 130
    checkpoint = files / "encoder.checkpoints" / "checkpoint-3"
    assert f"Interrupted. Checkpoint: {checkpoint}. Give the same command with --resume to go on." in result.output
    assert run(files, "--model", model_folder, "--steps", 6, "--resume").exit_code == 0
    own, theirs = (files / name / "model.safetensors" for name in ("encoder", "whole"))
    assert own.read_bytes() == theirs.read_bytes()
    assert whole.improved


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--text-column", "text"], "pool.csv: no column 'text' among 'id', 'message'"),
        (["--output", "pool.csv"], "pool.csv is what is read"),
        (["--objective", "mlm"], "has no trained head for masked language modelling"),
        (["--objective", "simsce"], "did you mean simcse?"),
        (["--epochs", "-1"], "epochs must be above 0, not -1"),
        (["--split", "train"], "--split and --config-name are for datasets of the Hub"),
        (["--resume"], "has no checkpoint to resume from: omit --resume"),
    ],
)
def test_what_cannot_be_is_one_line_and_code_2(files, model_folder, monkeypatch, words, message):
    monkeypatch.chdir(files)
    result = run(Path(), "--model", model_folder, *words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert sorted(each.name for each in Path().iterdir()) == ["pool.csv", "test.csv"]
