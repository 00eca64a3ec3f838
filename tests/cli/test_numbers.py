"""Numbers of flags that nobody can mean are refused in one line, before anything is read or trained."""

import pytest
from click.testing import CliRunner

from deni.cli import main
from deni.errors import SettingError, short
from deni.recipe import Recipe
from deni.strategies import make_strategy
from deni.tuning import make_tuning

ENDLESS = "9" * 20

FLAGS = {
    "members as a power": (["train", "--members", "1e30"], "'1e30' is not a valid integer"),
    "endless members": (["train", "--members", ENDLESS], f"{ENDLESS} has more than 64 bits"),
    "more digits than Python reads": (["train", "--members", "9" * 5000], "is not a valid integer"),
    "an endless seed": (["train", "--seed", ENDLESS], "has more than 64 bits"),
    "an endless seed of a source": (
        ["train", "--seed-noise", ENDLESS],
        "has more than 64 bits",
    ),
    "a rate that is NaN": (["train", "--learning-rate", "nan"], "'nan' is not a finite number"),
    "decay that is NaN": (["train", "--weight-decay", "nan"], "'nan' is not a finite number"),
    "clipping that is NaN": (["train", "--max-grad-norm", "nan"], "'nan' is not a finite number"),
    "endless epochs": (["train", "--epochs", "inf"], "'inf' is not a finite number"),
    "epochs without an end": (["train", "--epochs", "1e308"], "epochs must be below 1e+30, not 1e+308"),
    "variance that is NaN": (["train", "--variance", "nan"], "'nan' is not a finite number"),
    "a negative rank": (["train", "--tuning", "lora", "--lora-r", "-1"], "lora_r must be at least 1, not -1"),
    "an endless rank": (
        ["train", "--tuning", "lora", "--lora-r", ENDLESS],
        "has more than 64 bits",
    ),
    "an endless rate": (["diagnose", "--lora-dropout", "9" * 400], "is not a finite number"),
    "endless runs": (["diagnose", "--seeds", ENDLESS], f"{ENDLESS} is not in the range x<=10000"),
    "endless values": (["diagnose", "--values", ENDLESS], f"{ENDLESS} is not in the range x<=10000"),
    "endless threads": (["diagnose", "--threads", str(2**63)], f"{2**63} is not in the range 1<=x<=10000"),
}


@pytest.mark.parametrize("what", FLAGS)
def test_a_number_that_nobody_means_is_one_line(tickets, tmp_path, what):
    (command, *flags), message = FLAGS[what]
    output = ["--output", str(tmp_path / "out")] if command == "train" else ["--store", str(tmp_path / "out.db")]
    done = CliRunner().invoke(main, [command, tickets, *flags, *output])
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error:")]
    assert done.exit_code == 2
    assert len(errors) == 1
    assert errors[0].rstrip(".").endswith(message) or message in errors[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [["strategies", "list"], ["strategies", "show", "deni"]])
def test_steps_are_no_endless_number(command):
    done = CliRunner().invoke(main, [*command, "--steps", "9" * 400])
    assert done.exit_code == 2
    assert f"{'9' * 400} is not in the range 1<=x<={2**31 - 1}" in done.stderr


@pytest.mark.parametrize("pack", ["9" * 5000, "9" * 10, "\u0663", "\u00b2", "-1", "0", "1.5"])
def test_a_pack_is_a_number_of_cells(tickets, model_folder, tmp_path, pack):
    study = f"datasets: [{{path: {tickets}}}]\nmodels: [{model_folder}]\nstrategies: [default]\nseeds: 1\n"
    (tmp_path / "study.yaml").write_text(study)
    flags = ["--store", str(tmp_path / "s.db"), "--pack", pack, "--dry-run"]
    done = CliRunner().invoke(main, ["study", "run", str(tmp_path / "study.yaml"), *flags])
    assert done.exit_code == 2
    assert done.stderr.startswith("Error: --pack is a number of cells, or auto, not ")


@pytest.mark.parametrize("minutes", ["nan", "inf", "-1", "0"])
def test_minutes_are_a_finite_number_above_0(tmp_path, minutes):
    (tmp_path / "study.yaml").write_text("a: 1")
    flags = ["--store", str(tmp_path / "s.db"), "--minutes", minutes]
    done = CliRunner().invoke(main, ["study", "run", str(tmp_path / "study.yaml"), *flags])
    assert done.exit_code == 2
    assert "Error: Invalid value for '--minutes':" in done.stderr


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**5000], ids=["NaN", "infinite", "endless"])
def test_settings_in_python_are_refused_alike(value):
    for make in (lambda: make_strategy("deni", variance=value), lambda: make_tuning("lora", lora_alpha=value)):
        with pytest.raises(SettingError, match=r"must be (a finite number|below 2\*\*63), not"):
            make()
    with pytest.raises(SettingError, match=r"epochs must be (a finite number|below 2\*\*63), not"):
        Recipe(epochs=value)


def test_a_number_of_any_length_can_be_shown():
    assert short(10**5000) == "a value of the type int"
    deep = []
    for _ in range(9000):
        deep = [deep]
    assert short(deep) == "a value of the type list"


@pytest.mark.parametrize("name", ["a" * 300, "a" * 300 + ".csv", "x\0y", "\ud800.csv", "~" + "b/" * 3000])
def test_a_name_that_no_file_can_have_is_one_line(tmp_path, name):
    done = CliRunner().invoke(main, ["inspect", name])
    assert done.exit_code == 2
    assert done.stderr.count("Error:") == 1
    assert "Traceback" not in done.output


@pytest.mark.parametrize("flag", ["--model", "--dev", "--test", "--augmented", "--resume-from"])
@pytest.mark.parametrize("name", ["\ud800", "a" * 300, "x\0"])
def test_a_name_of_an_input_that_no_file_can_have_is_one_line(tickets, tmp_path, flag, name):
    done = CliRunner().invoke(main, ["train", tickets, "--output", str(tmp_path / "out"), flag, name])
    assert done.exit_code == 2
    assert done.stderr.count("Error:") == 1
    assert "Traceback" not in done.output
