"""`deni train` and its output: what could fail at the end is tried before the first step, and no model is lost."""

import json
import resource
import shutil
import tempfile
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from safetensors.torch import load_file
from transformers import TrainerCallback

import deni
from deni.artifact import export
from deni.cli import main
from deni.commands.train import train_file
from deni.errors import InputError, InputWarning
from deni.finetune import FineTuneResult
from deni.outputs import SavedElsewhereError
from deni.recipe import Recipe


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def listing(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != ".filler")


class Trained(TrainerCallback):
    """Counts steps, and does something at the end of the first one."""

    def __init__(self, then=lambda: None):
        self.steps, self.then = 0, then

    def on_step_end(self, *_, **__):
        if not self.steps:
            self.then()
        self.steps += 1


@pytest.fixture
def train(model_folder, tickets, monkeypatch):
    """Trains one epoch of a tiny model; `then` runs after the first step, `steps` counts them."""

    def call(output, then=lambda: None, strategy="default", **options):
        call.watch = Trained(then)
        monkeypatch.setattr("deni.commands.train.curves_to", lambda *_: [call.watch])
        settings = {"model": str(model_folder), "strategy": strategy, "epochs": 1, **options.pop("recipe", {})}
        options = {"file": tickets, "test": "0.2", "progress": False, **options}
        return train_file(output=output, recipe=Recipe.of(**settings), **options)

    return call


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path / "temporary"


def usable(model, tickets):
    """Whether a folder is an artifact that labels texts."""
    done = CliRunner().invoke(main, ["predict", str(model), str(tickets)])
    return done.exit_code == 0 and done.stdout.count("\n") > 30


# ---- before the first step -------------------------------------------------------------------------------------------


def test_a_disk_without_room_for_the_model_is_said_before_the_first_step(train, small_disk):
    disk = small_disk("1m")
    disk.fill(leave=50_000)
    with pytest.raises(InputError, match=r"model needs about .* KiB, and 4\d.\d KiB are free there: free space or"):
        train(disk.folder / "model")
    assert train.watch.steps == 0
    assert listing(disk.folder) == []


def test_the_room_for_members_counts(train, small_disk):
    """One member fits where ten do not."""
    disk = small_disk("300k")
    train(disk.folder / "one")
    with pytest.raises(InputError, match=r"needs about .* KiB, and"):
        train(disk.folder / "ten", strategy="delayed_ensemble")
    assert train.watch.steps == 0
    assert listing(disk.folder) == ["one"]


def test_the_estimate_is_that_of_what_is_written(train, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("deni.training.room.check_room", lambda folder, *sizes: asked.append(sizes))
    for name, strategy in (("one", "default"), ("deni", "deni"), ("ensemble", "ensemble")):
        model = train(tmp_path / name, strategy=strategy).output
        paths = [model / name for name in ("population.safetensors", "base.safetensors")]
        weights = [sum(t.nbytes for t in load_file(path).values()) for path in paths]
        assert asked.pop() == (sum(weights), max(weights))


def test_a_limit_on_the_size_of_files_is_said_before_the_first_step(train, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, before[1]))
    try:
        with pytest.raises(InputError, match=r"model needs a file of about .* and the limit of this shell is 39.1 KiB"):
            train(tmp_path / "model")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert train.watch.steps == 0
    assert listing(tmp_path) == []


@pytest.mark.parametrize("name", ["file/model", "/proc/model", "x" * 250])
def test_an_output_that_cannot_be_made_is_said_before_the_first_step(name, train, tmp_path, monkeypatch):
    """The last one leaves no room for the name of its checkpoints."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be written|has a name of 262 bytes"):
        train(name)
    assert train.watch.steps == 0
    assert listing(tmp_path) == ["file"]


@pytest.mark.parametrize("read", ["file", "test", "dev", "model", "augmented"])
def test_what_is_read_is_not_replaced(read, train, model_folder, tickets, tmp_path):
    """An artifact that holds it has it in its list."""
    folder = train(tmp_path / "model").output
    name = {"model": "."}.get(read, "extra.csv")
    if read != "model":
        shutil.copy(tickets, folder / name)
    info = json.loads((folder / "deni.json").read_text())
    info["files"][name] = (folder / name).stat().st_size
    (folder / "deni.json").write_text(json.dumps(info))
    before, given = files(tmp_path), str(folder / name)
    options = {"recipe": {"model": given}} if read == "model" else {read: given}
    if read == "augmented":
        options = {"strategy": "denials", "recipe": {"strategy_settings": {"augmented": given}}}
    with pytest.raises(InputError, match=r"is what is read|which would be overwritten"):
        train(folder, overwrite=True, **options)
    assert train.watch.steps == 0
    assert files(tmp_path) == before


def test_what_deni_did_not_write_is_not_replaced(train, tmp_path):
    folder = train(tmp_path / "model").output
    (folder / "thesis.txt").write_text("years")
    before = files(tmp_path)
    with pytest.raises(InputError, match=r"'thesis.txt'"):
        train(folder, overwrite=True)
    assert train.watch.steps == 0
    assert files(tmp_path) == before
    (folder / "thesis.txt").unlink()
    assert train(folder, overwrite=True, strategy="deni").output == folder
    assert deni.load(folder).population.size == 10


# ---- at the end ------------------------------------------------------------------------------------------------------


def test_a_disk_that_is_full_at_the_end_does_not_cost_the_model(train, small_disk, tickets, temporary):
    disk = small_disk("1m")
    earlier = train(disk.folder / "model").output
    before = files(earlier)
    with pytest.raises(SavedElsewhereError) as caught:
        train(earlier, then=disk.fill, overwrite=True)
    place, message = caught.value.path, str(caught.value)
    assert train.watch.steps > 1
    assert message.startswith(f"{earlier} cannot be written (No space left on device): the model is in {place}; ")
    assert f"use it there (`deni predict {place} FILE`), or move it" in message
    assert place.is_relative_to(temporary)
    assert usable(place, tickets)
    assert files(earlier) == before
    assert listing(disk.folder) == ["model"]


def test_a_disk_that_is_read_only_at_the_end_does_not_cost_the_model(train, small_disk, tickets, temporary):
    disk = small_disk("1m")
    with pytest.raises(SavedElsewhereError, match="Read-only file system") as caught:
        train(disk.folder / "model", then=disk.make_read_only)
    assert usable(caught.value.path, tickets)


def test_a_folder_that_is_removed_while_training_is_made_again(train, tmp_path, tickets):
    (tmp_path / "on").mkdir()
    done = train(tmp_path / "on" / "model", then=lambda: shutil.rmtree(tmp_path / "on"))
    assert usable(done.output, tickets)


def test_what_comes_while_training_is_not_replaced(train, tmp_path, tickets, temporary):
    def meanwhile():
        (tmp_path / "model").mkdir(exist_ok=True)
        (tmp_path / "model" / "thesis.txt").write_text("years")

    for overwrite, why in ((False, "model exists"), (True, "'thesis.txt'")):
        shutil.rmtree(tmp_path / "model", ignore_errors=True)
        with pytest.raises(SavedElsewhereError, match=why) as caught:
            train(tmp_path / "model", then=meanwhile, overwrite=overwrite)
        assert usable(caught.value.path, tickets)
        assert files(tmp_path / "model") == {"thesis.txt": b"years"}


def test_where_the_temporary_directory_is_full_too_a_checkpoint_is_named(train, small_disk, monkeypatch):
    disk = small_disk("4m")
    monkeypatch.setattr(tempfile, "tempdir", str(disk.folder))

    def fill_up(done):
        disk.fill()
        return {}

    with pytest.raises(InputError, match=r"neither can the temporary directory .*: the model is not saved$"):
        train(disk.folder / "model", extra_files=fill_up)
    (disk.folder / ".filler").unlink()
    with pytest.raises(InputError, match=r"the model is not saved, but .*checkpoint-\d+ is there: free space and give"):
        train(disk.folder / "model", extra_files=fill_up, save_steps=1)
    (disk.folder / ".filler").unlink()
    assert train(disk.folder / "model", save_steps=1, resume=True).output == disk.folder / "model"


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_a_measurement_that_fails_does_not_cost_the_model(error, train, tmp_path, tickets, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(FineTuneResult, "test", fail)
    with pytest.warns(InputWarning, match="model has the model: what failed came after"), pytest.raises(error):
        train(tmp_path / "model")
    monkeypatch.undo()
    assert usable(tmp_path / "model", tickets)


def test_the_command_says_where_the_model_is(model_folder, tickets, small_disk, temporary, monkeypatch):
    disk = small_disk("1m")
    watch = Trained(disk.fill)
    monkeypatch.setattr("deni.commands.train.curves_to", lambda *_: [watch])
    flags = ["--model", model_folder, "--strategy", "default", "--epochs", "1", "--no-progress"]
    done = CliRunner().invoke(main, ["train", tickets, *flags, "--output", str(disk.folder / "model")])
    assert done.exit_code == 2
    last = done.stderr.splitlines()[-1]
    place = Path(last.partition("`deni predict ")[2].partition(" FILE`")[0])
    assert last.startswith(f"Error: {disk.folder / 'model'} cannot be written (No space left on device): the model is")
    assert usable(place, tickets)


def test_a_label_that_is_half_a_character_is_refused_before_training(model_folder):
    from deni.data import Texts
    from deni.finetune import fine_tune

    texts = Texts(["a parcel", "my money"] * 4, ["\ud800", "b"] * 4, "made up", pd.DataFrame())
    with pytest.raises(InputError, match=r"made up: the label '\\ud800' has half a surrogate pair"):
        fine_tune(texts, Recipe.of(model=str(model_folder), strategy="default", epochs=1), progress=False)


# ---- export, predict -------------------------------------------------------------------------------------------------


def test_an_export_replaces_an_export_and_nothing_else(train, tmp_path):
    model = train(tmp_path / "model").output
    export(model, tmp_path / "out", "members")
    with pytest.raises(InputError, match="exists"):
        export(model, tmp_path / "out")
    assert export(model, tmp_path / "out", overwrite=True) == [tmp_path / "out"]
    assert not (tmp_path / "out" / "member-0").exists()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    before = files(tmp_path)
    with pytest.raises(InputError, match=r"what deni did not write .*'notes.txt'"):
        export(model, tmp_path / "out", overwrite=True)
    with pytest.raises(InputError, match="is what is read"):
        export(model, model, overwrite=True)
    assert files(tmp_path) == before


def test_an_export_onto_a_full_disk_is_elsewhere(train, tmp_path, small_disk, temporary, monkeypatch):
    model, disk = train(tmp_path / "model").output, small_disk("1m")
    disk.fill(leave=50_000)
    with pytest.raises(InputError, match=r"out needs about .* are free there"):
        export(model, disk.folder / "out")
    monkeypatch.setattr("deni.artifact.exporting.check_room", lambda *_: None)
    with pytest.raises(SavedElsewhereError, match=r"No space left on device.*: the exported model is in") as caught:
        export(model, disk.folder / "out")
    assert deni.load(caught.value.path).labels == deni.load(model).labels
    assert listing(disk.folder) == []


def test_predictions_onto_a_full_disk_are_elsewhere(train, tmp_path, small_disk, tickets, temporary, monkeypatch):
    model, disk = train(tmp_path / "model").output, small_disk("64k")
    disk.fill()
    said = CliRunner().invoke(main, ["predict", str(model), tickets, "--output", str(disk.folder / "out.csv")])
    assert said.exit_code == 2
    assert "out.csv cannot be written (No space left on device): free space or choose another place" in said.output
    disk = small_disk("64k")
    call = deni.artifact.Classifier.__call__
    filled = lambda *args, **given: (disk.fill(), call(*args, **given))[1]  # noqa: E731
    monkeypatch.setattr(deni.artifact.Classifier, "__call__", filled)
    said = CliRunner().invoke(main, ["predict", str(model), tickets, "--output", str(disk.folder / "out.csv")])
    assert said.exit_code == 2
    place = Path(said.stderr.partition("the table is in ")[2].partition(";")[0])
    assert place.read_text().count("\n") > 30
    assert listing(disk.folder) == []


@pytest.mark.parametrize("name", ["deni.json", "README.md", "config.json"])
def test_predictions_never_replace_a_file_of_the_model(name, train, tmp_path, tickets):
    model = train(tmp_path / "model").output
    shutil.copy(model / name, model / "x.csv")
    said = CliRunner().invoke(main, ["predict", str(model), tickets, "--output", f"{model}/x.csv", "--overwrite"])
    assert (said.exit_code, said.output.count("\n")) == (2, 1)
    assert f"x.csv is in {model}, which is read" in said.output


def test_several_processes_that_would_write_one_output_are_refused(tickets, tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="trains in one process, not in 2 as torchrun started it"):
        train_file(tickets, recipe=Recipe(), output=tmp_path / "model")
    monkeypatch.setenv("WORLD_SIZE", "1")
    with pytest.raises(InputError, match="unknown protocol 'mine'"):
        train_file(tickets, recipe=Recipe(), output=tmp_path / "model", protocol="mine")
    monkeypatch.delenv("LOCAL_RANK")  # other programs set the number of processes, too
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="unknown protocol 'mine'"):
        train_file(tickets, recipe=Recipe(), output=tmp_path / "model", protocol="mine")
