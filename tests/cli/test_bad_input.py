import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from deni.cli import main
from deni.training import manifest
from tests.helpers.tiny import toy_rows, write_csv


def run(*args, **settings):
    return CliRunner().invoke(main, [str(arg) for arg in args], **settings)


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def train(model_folder, tickets, tmp_path):
    """Runs `deni train` with the tiny model in a fast setting; what is given last wins."""
    folder = tmp_path / "out"
    folder.mkdir()

    def call(*flags, file=tickets, output=folder / "model"):
        own = ("--model", model_folder, "--strategy", "default", "--epochs", 1, "--no-progress", "--output", output)
        return run("train", file, *own, *flags)

    call.folder = folder
    return call


@pytest.fixture(scope="module")
def trained(model_folder, tickets, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "model"
    flags = ("--model", model_folder, "--strategy", "default", "--epochs", 1, "--no-progress", "--output", folder)
    result = run("train", tickets, *flags)
    assert result.exit_code == 0, result.output
    return folder


def refused(result, *parts: str) -> str:
    """One line that starts with "Error:" and has these parts, exit code 2, no traceback."""
    assert result.exit_code == 2, (result.output, result.exception)
    assert "Traceback" not in result.output
    assert result.stdout == ""
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error:")]
    assert len(errors) == 1, result.stderr
    assert result.stderr.splitlines()[-1] == errors[0]
    for part in parts:
        assert str(part) in errors[0], errors[0]
    return errors[0]


# ---- texts ---------------------------------------------------------------------------------------------------------

FILES = {
    "a missing file": (None, ["no such file", "check the path"]),
    "latin-1": ("text,label\nna\u00efve,a\n".encode("latin-1"), ["line 2", "not UTF-8", "iconv"]),
    "a missing column": (b"message,label\nhello,a\n", ["no column 'text'", "'message'", "--text-column"]),
    "no label column": (b"text,class\nhello,a\n", ["no column 'label'", "'class'", "--label-column"]),
    "an empty text": (b"text,label\nhello,a\n,b\n", ["line 3", "empty text", "drop the row"]),
    "an empty label": (b"text,label\nhello,a\nhi,\n", ["line 3", "label", "drop the row"]),
    "an empty file": (b"", ["the file is empty"]),
    "no rows": (b"text,label\n", ["no rows"]),
    "one class only": (b"text,label\n" + b"hello,a\n" * 9, ["all", "the label 'a'", "at least two classes"]),
    "a ragged row": (b"text,label\nhello, you,a\n", ["line 2", "3 fields", "double quotes"]),
}


@pytest.mark.parametrize("what", FILES)
def test_texts_that_cannot_be_trained_on_are_named(train, tmp_path, what):
    content, parts = FILES[what]
    file = tmp_path / "bad.csv"
    if content is not None:
        file.write_bytes(content)
    refused(train(file=file), file, *parts)
    assert listing(train.folder) == []


def test_a_class_with_one_text_is_warned_of_and_works(train, tmp_path):
    file = write_csv(tmp_path / "one.csv", [*toy_rows(), ("a single text", "rare")])
    result = train(file=file)
    assert result.exit_code == 0, result.output
    warned = [line for line in result.stderr.splitlines() if line.startswith("Warning:")]
    assert any("'rare'" in line for line in warned)
    assert json.loads((train.folder / "model" / "deni.json").read_text())["labels"][-1] == "rare"


def test_a_label_that_training_never_saw_is_named_with_its_row(trained, tmp_path):
    file = write_csv(tmp_path / "new.csv", [("my parcel", "delivery"), ("hello", "greeting")])
    refused(run("evaluate", trained, file), file, "text 2", "'greeting'", "never saw", "billing, delivery, login")


def test_a_test_file_with_an_unknown_label_is_named_before_training(train, tmp_path):
    file = write_csv(tmp_path / "test.csv", [("hello", "greeting")])
    refused(train("--test", file), file, "'greeting'")
    assert listing(train.folder) == []


@pytest.mark.parametrize("fraction", ["1", "1.5", "-0.1", "nan"])
def test_a_test_fraction_out_of_range_is_named(train, fraction):
    refused(train("--test", fraction), "--test", fraction, "between 0 and 1")


def test_more_labelled_texts_than_there_are_is_named(train):
    refused(train("--labeled", 1000), "1000", "29")


# ---- models and folders --------------------------------------------------------------------------------------------


def test_a_model_that_cannot_be_loaded_is_named(train, tmp_path):
    refused(train("--model", tmp_path / "nothing"), tmp_path / "nothing", "cannot be loaded", "a folder or a hub id")
    (tmp_path / "empty").mkdir()
    refused(train("--model", tmp_path / "empty"), tmp_path / "empty", "cannot be loaded", "a folder or a hub id")
    assert listing(train.folder) == []


def test_model_weights_that_are_truncated_are_named(train, tmp_path, model_folder):
    folder = shutil.copytree(model_folder, tmp_path / "cut")
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-50])
    refused(train("--model", folder), folder, "cannot be loaded")
    assert listing(train.folder) == []


def test_an_output_that_exists_is_left_alone(train):
    (train.folder / "model").mkdir()
    (train.folder / "model" / "mine.txt").write_text("mine")
    refused(train(), train.folder / "model", "exists", "--overwrite")
    assert listing(train.folder) == ["model", "model/mine.txt"]


def test_an_output_below_a_file_is_refused(train, tmp_path):
    (tmp_path / "file").write_text("")
    refused(train(output=tmp_path / "file" / "model"), tmp_path / "file", "choose another")


def test_predict_leaves_an_output_that_exists_alone(trained, tickets, tmp_path):
    (tmp_path / "out.csv").write_text("mine")
    refused(run("predict", trained, tickets, "--output", tmp_path / "out.csv"), "out.csv exists", "--overwrite")
    assert (tmp_path / "out.csv").read_text() == "mine"


def test_predict_names_an_output_of_unknown_kind_or_below_a_file(trained, tickets, tmp_path):
    refused(run("predict", trained, tickets, "--output", tmp_path / "out.xls"), "out.xls", "'.xls'", ".jsonl")
    (tmp_path / "file").write_text("")
    message = refused(run("predict", trained, tickets, "--output", tmp_path / "file" / "out.csv"), "cannot be written")
    assert str(tmp_path / "file") in message
    assert listing(tmp_path) == ["file"]


def test_a_truncated_model_is_named_by_every_command(trained, tickets, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "model")
    cut = folder / "population.safetensors"
    cut.write_bytes(cut.read_bytes()[:-50])
    for result in (
        run("predict", folder, tickets, "--output", tmp_path / "out.csv"),
        run("evaluate", folder, tickets),
        run("export", folder, tmp_path / "out"),
    ):
        refused(result, cut, "bytes where", "copy or train the model again")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_model_of_a_later_version_asks_for_an_upgrade(trained, tickets, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "model")
    info = json.loads((folder / "deni.json").read_text())
    (folder / "deni.json").write_text(json.dumps({**info, "format": 99}))
    refused(run("predict", folder, tickets), folder, "format 99", "pip install --upgrade deni")


@pytest.mark.parametrize("command", ["predict", "evaluate", "export"])
def test_a_folder_that_is_no_model_is_named(command, tickets, tmp_path):
    (tmp_path / "empty").mkdir()
    second = tmp_path / "out" if command == "export" else tickets
    for folder, what in ((tmp_path / "nothing", "not a folder"), (tmp_path / "empty", "no deni.json")):
        refused(run(command, folder, second), folder, what, "deni train --output")


def test_overwriting_takes_away_nothing_but_a_model(train, trained, tickets, tmp_path, model_folder):
    """What is read, and what no command of ours wrote, stays."""
    texts = tmp_path / "texts"
    texts.mkdir()
    shutil.copy(tickets, texts / "tickets.csv")
    shutil.copytree(model_folder, texts / "encoder")
    copy = shutil.copytree(trained, tmp_path / "model")
    before = listing(tmp_path)
    overwrite = ["--overwrite", "--output", texts]
    refused(train(*overwrite), f"{texts} has what deni did not write", "'encoder/', 'tickets.csv'")
    refused(train(*overwrite, file=texts / "tickets.csv"), f"tickets.csv is in {texts}", "choose another")
    refused(train(*overwrite, "--test", texts / "tickets.csv"), f"tickets.csv is in {texts}")
    refused(train(*overwrite, "--model", texts / "encoder"), f"encoder is in {texts}")
    refused(run("export", copy, copy, "--overwrite"), f"{copy} is what is read")
    refused(run("export", copy, tmp_path, "--overwrite"), f"{copy} is in {tmp_path}")
    refused(
        run("predict", copy, tickets, "--output", tmp_path / "texts.csv", "--overwrite", "--text-column", "x"), "'x'"
    )
    assert listing(tmp_path) == before


def test_predict_names_a_folder_and_columns_that_cannot_be_written(trained, tickets, tmp_path):
    (tmp_path / "folder.csv").mkdir()
    flags = ["--output", tmp_path / "folder.csv", "--overwrite"]
    refused(run("predict", trained, tickets, *flags), "folder.csv is a folder", "name a file")
    (tmp_path / "twice.csv").write_text("text,note,note\nmy parcel,a,b\n")
    refused(run("predict", trained, tmp_path / "twice.csv"), "twice.csv", "'note'", "rename all but one")
    (tmp_path / "mixed.jsonl").write_text('{"text": "my parcel", "n": 1}\n{"text": "hello", "n": "one"}\n')
    flags = ["--output", tmp_path / "out.parquet"]
    refused(run("predict", trained, tmp_path / "mixed.jsonl", *flags), "out.parquet", ".parquet cannot hold", ".csv")
    assert not (tmp_path / "out.parquet").exists()


# ---- settings ------------------------------------------------------------------------------------------------------

SETTINGS = {
    "members 0": (["--strategy", "deni", "--members", 0], ["members", "0"]),
    "too few steps": (["--strategy", "deni", "--epochs", 0.2], ["step"]),
    "an unknown strategy": (["--strategy", "magic"], ["'magic'", "delayed_ensemble"]),
    "a setting of another strategy": (["--members", 3], ["default", "'members'"]),
    "a setting of another tuning": (["--lora-r", 3], ["full", "'lora_r'"]),
    "dropout 2": (["--dropout", 2], ["dropout", "2"]),
    "learning rate 0": (["--learning-rate", 0], ["learning_rate must be above 0"]),
    "learning rate nan": (["--learning-rate", "nan"], ["'--learning-rate': 'nan' is not a finite number"]),
    "epochs 0": (["--epochs", 0], ["epochs must be above 0"]),
    "epochs inf": (["--epochs", "inf"], ["'--epochs': 'inf' is not a finite number"]),
    "batch size 0": (["--batch-size", 0], ["batch_size must be above 0"]),
    "batch size 8 in 3 parts": (["--gradient-accumulation-steps", 3], ["does not divide"]),
    "max length 1000": (["--max-length", 1000], ["max_length 1000", "40"]),
    "max length 1": (["--max-length", 1], ["max_length must be at least 4"]),
    "an unknown optimiser": (["--optim", "magic"], ["magic"]),
    "early stopping after 0": (["--early-stopping-patience", 0], ["early_stopping_patience"]),
    "rank 0": (["--tuning", "lora", "--lora-r", 0], ["lora_r must be at least 1"]),
    "resume without a checkpoint": (["--resume"], ["model.checkpoints", "no checkpoint", "omit --resume"]),
    "an unknown flag": (["--magic"], ["--magic"]),
}


@pytest.mark.parametrize("what", SETTINGS)
def test_settings_that_do_not_fit_are_named(train, what):
    flags, parts = SETTINGS[what]
    refused(train(*flags), *parts)
    assert listing(train.folder) == []


def test_debug_shows_where_an_error_came_from(tmp_path):
    result = run("--debug", "train", tmp_path / "none.csv", "--output", tmp_path / "model")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert "InputError" in result.stderr


def test_a_loss_that_is_no_number_names_step_cause_and_that_there_is_no_checkpoint(train):
    refused(train("--learning-rate", "1e30"), "step", "learning rate", "no checkpoint", "--save-steps")
    assert listing(train.folder) == []


def test_a_loss_that_is_no_number_keeps_the_last_good_checkpoint(train):
    message = refused(train("--learning-rate", "1e30", "--save-steps", 1), "step", "learning rate", "checkpoint-1")
    assert str(train.folder / "model.checkpoints" / "checkpoint-1") in message
    assert (train.folder / "model.checkpoints" / "checkpoint-1" / "population.safetensors").is_file()
    assert not (train.folder / "model").exists()


# ---- going on from a checkpoint -----------------------------------------------------------------------------------

OTHERS = {
    "learning rate": (["--learning-rate", 0.5], ["learning_rate", "0.5"]),
    "epochs": (["--epochs", 2], ["epochs 1.0, not 2.0"]),
    "seed": (["--seed", 7], ["seeds [0], not [7]"]),
    "labelled texts": (["--labeled", 12], ["training texts", "not '12 with SHA-256"]),
    "block": (["--block", 1], ["training texts"]),
    "tuning": (["--tuning", "lora"], ["tuning 'full', not 'lora'"]),
    "strategy": (["--strategy", "deni"], ["strategy 'default', not 'deni'"]),
}


@pytest.mark.parametrize("what", OTHERS)
def test_resume_with_other_settings_or_texts_names_what_differs(train, what):
    assert train("--save-steps", 1).exit_code == 0
    shutil.rmtree(train.folder / "model")
    before = listing(train.folder)
    flags, parts = OTHERS[what]
    message = refused(train("--resume", *flags), "checkpoint-", "is of another run", "resume with the settings", *parts)
    assert "'s " not in message, "settings of another strategy or tuning differ, too, and say nothing"
    assert listing(train.folder) == before


def test_resume_may_compute_in_another_way(train):
    assert train("--save-steps", 1).exit_code == 0
    shutil.rmtree(train.folder / "model")
    result = train("--resume", "--engine", "loop", "--members-at-a-time", 1, "--eval-batch-size", 4)
    assert result.exit_code == 0, result.output


@pytest.fixture
def checkpoints(train, monkeypatch):
    """The checkpoints of a training of two epochs, each of them kept."""
    monkeypatch.setattr(manifest, "remove", lambda checkpoint: None)
    assert train("--epochs", 2, "--save-steps", 3).exit_code == 0
    monkeypatch.undo()
    return train.folder / "model.checkpoints"


def test_resume_passes_over_what_is_not_whole_and_names_it(train, checkpoints):
    last, middle, first, *_ = manifest.checkpoints(checkpoints)
    (last / "scheduler.pt").unlink()
    (middle / "manifest.json").unlink()
    whole = (train.folder / "model/population.safetensors").read_bytes()
    shutil.rmtree(train.folder / "model")
    resumed = train("--epochs", 2, "--resume")
    assert resumed.exit_code == 0, resumed.output
    (line,) = (line for line in resumed.stderr.splitlines() if "resumed from" in line)
    passed = f"passed over {last.name} (scheduler.pt is missing); {middle.name} (it has no manifest.json: not written"
    assert line.startswith(f"Warning: resumed from {first}, {passed}")
    assert (train.folder / "model/population.safetensors").read_bytes() == whole
    for each in manifest.checkpoints(checkpoints):
        (each / "optimizer.pt").unlink()
    shutil.rmtree(train.folder / "model")
    refused(train("--epochs", 2, "--resume"), f"{checkpoints} has no checkpoint to resume from: {last.name} (opt")


def test_resume_from_goes_on_from_the_checkpoint_of_another_output(train, checkpoints):
    last, *_, first = manifest.checkpoints(checkpoints)
    shutil.rmtree(last)
    whole = train.folder / "model"
    for number, given in enumerate((whole, first)):
        out = train.folder / f"other{number}"
        result = train("--epochs", 2, "--resume-from", given, "--output", out)
        assert result.exit_code == 0, result.output
        assert (out / "population.safetensors").read_bytes() == (whole / "population.safetensors").read_bytes()
        assert "--resume-from" not in (out / "report.html").read_text(encoding="utf-8")
        assert not out.with_name(out.name + ".checkpoints").exists()
    other = ["--output", train.folder / "others"]
    refused(train("--epochs", 3, "--resume-from", first, *other), "is of another run", "epochs 2.0, not 3.0")
    refused(train("--resume-from", train.folder / "nothing", *other), "has no checkpoint to resume from: name a")
    refused(train("--resume-from", first, "--output", checkpoints, "--overwrite"), first.name, "choose another")
    both = train("--resume", "--resume-from", first, *other)
    assert both.exit_code == 2
    assert "give --resume or --resume-from, not both" in both.stderr
    assert first.is_dir()


# ---- Ctrl-C --------------------------------------------------------------------------------------------------------


def test_ctrl_c_writes_a_checkpoint_from_which_resume_ends_like_an_uninterrupted_run(model_folder, tickets, tmp_path):
    flags = ["--model", model_folder, "--strategy", "deni", "--epochs", "40", "--members", "3", "--output"]
    whole = run("train", tickets, *flags, tmp_path / "whole", "--no-progress")
    assert whole.exit_code == 0, whole.output

    each_step = "progress.EVERY = progress.SHARE = 0"
    code = f"from deni import progress; from deni.cli import main; {each_step}; main()"
    command = [sys.executable, "-c", code, "train", tickets, *flags]
    process = subprocess.Popen(
        [*command, str(tmp_path / "model")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    seen = b""
    deadline = time.monotonic() + 120
    while b" step 1/160, " not in seen:
        part = process.stderr.read1(200)
        assert part, seen.decode()
        assert time.monotonic() < deadline
        seen += part
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors.decode()
    assert b"--resume" in output
    assert b"Traceback" not in errors
    (checkpoint,) = (tmp_path / "model.checkpoints").iterdir()
    assert str(checkpoint) in output.decode()
    assert not (tmp_path / "model").exists()

    resumed = run("train", tickets, *flags, tmp_path / "model", "--no-progress", "--resume")
    assert resumed.exit_code == 0, resumed.output
    one, other = (tmp_path / name / "population.safetensors" for name in ("whole", "model"))
    assert one.read_bytes() == other.read_bytes()
    infos = [json.loads((tmp_path / name / "deni.json").read_text()) for name in ("whole", "model")]
    assert infos[0]["member_steps"] == infos[1]["member_steps"]
    assert infos[0]["metrics"] == infos[1]["metrics"]


# ---- what was meant ------------------------------------------------------------------------------------------------

MISTYPED = {
    "a strategy": (("--strategy", "deno"), "unknown strategy 'deno': did you mean deni?"),
    "one of several strategies": (("--strategy", "prior_nose+deni"), "did you mean prior_noise?"),
    "a tuning": (("--tuning", "loar"), "Invalid value for '--tuning': unknown 'loar': did you mean lora?"),
    "a task": (("--task", "multilabel"), "unknown 'multilabel': did you mean multi_label?"),
    "a preset": (("--preset", "papr"), "unknown 'papr': did you mean paper?"),
    "a setting's value": (("--fork-rate", "shedule"), "unknown 'shedule': did you mean schedule?"),
    "an option": (("--epoch", "3"), "--epochs"),
}


@pytest.mark.parametrize("what", MISTYPED)
def test_what_is_mistyped_gets_what_was_meant(train, what):
    flags, said = MISTYPED[what]
    result = train(*flags)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_a_dataset_that_is_mistyped_gets_what_was_meant(train):
    refused(train(file="ag_new"), "did you mean ag_news?")


def test_a_value_that_resembles_none_gets_all():
    assert "unknown 'xyz': choose from full, lora, ia3, unipelt, prompt" in run("train", "--tuning", "xyz").stderr


def test_a_test_size_above_what_there_is_is_a_note(train):
    result = train("--test-size", 1000)
    assert result.exit_code == 0, result.output
    assert "Warning: 1000 test texts asked for, but there are 7: all of them are used\n" in result.stderr
    assert "29 train, 7 test" in " ".join(result.stdout.split())


def test_a_report_of_a_missing_store_says_so_first(tmp_path):
    refused(run("report", tmp_path / "nothing.db"), f"{tmp_path / 'nothing.db'}: no such store")


def test_a_device_that_is_not_there_is_one_line(train, trained, tickets):
    refused(train("--device", "cuda:99"), "there is no device cuda:99 here: choose auto or cpu")
    refused(run("predict", trained, tickets, "--device", "gpu"), "there is no device gpu here")
    refused(run("evaluate", trained, tickets, "--device", "mps:3"), "there is no device mps:3 here")
    refused(run("export", trained, train.folder / "out", "--device", "cuda:99"), "there is no device cuda:99 here")
    assert run("predict", trained, tickets, "--device", "cpu").exit_code == 0
