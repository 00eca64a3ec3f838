import dataclasses
import gzip
import io
import json
from pathlib import Path

import click
import pandas as pd
import pytest
from click.testing import CliRunner

import deni
from deni.cli import COMMANDS, main
from deni.strategies import STRATEGIES, Ensemble, make_strategy
from deni.terminal import visible
from deni.tuning import TUNINGS

COLUMNS = ["label", "confidence", "agreement", "entropy"]


def run(*args, **settings):
    return CliRunner().invoke(main, [str(arg) for arg in args], **settings)


def ok(*args, **settings) -> str:
    result = run(*args, **settings)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def trained(model_folder, tickets, tmp_path_factory):
    """The output of `deni train` and the folder that it wrote."""
    folder = tmp_path_factory.mktemp("trained") / "model"
    settings = (
        "--model",
        model_folder,
        "--strategy",
        "deni",
        "--members",
        3,
        "--epochs",
        4,
        "--no-progress",
        "--output",
        folder,
    )
    return ok("train", tickets, *settings), folder


def test_train_prints_scores_cost_and_what_to_do_next(trained, tickets):
    output, folder = trained
    flat = " ".join(output.split())
    assert "macro f1" in flat
    assert "29 train, 7 test" in flat
    assert f"Next: deni predict {folder} FILE --output out.csv" in output  # not the texts that it was trained on
    info = json.loads((folder / "deni.json").read_text())
    assert str(info["member_steps"]) in output
    assert info["schedule"] in flat
    assert info["strategy"]["settings"]["members"] == 3
    assert not folder.with_name("model.checkpoints").exists()


def test_train_with_lora_and_a_preset(model_folder, tickets, tmp_path):
    flags = ("--tuning", "lora", "--lora-r", 4, "--no-rslora", "--preset", "paper", "--epochs", 2, "--max-length", 30)
    ok("train", tickets, "--model", model_folder, *flags, "--strategy", "de", "--output", tmp_path / "model")
    info = json.loads((tmp_path / "model" / "deni.json").read_text())
    assert info["tuning"]["settings"]["lora_r"] == 4
    assert info["tuning"]["settings"]["rslora"] is False
    assert info["strategy"]["name"] == "delayed_ensemble"
    assert info["recipe"]["learning_rate"] == 1e-4


def test_evaluate_prints_the_same_scores_as_json(trained, tickets):
    scores = json.loads(ok("evaluate", trained[1], tickets, "--json"))
    assert scores["texts"] == 36
    assert set(scores["f1"]) == {"billing", "delivery", "login"}
    assert scores["macro_f1"] == pytest.approx(sum(scores["f1"].values()) / 3)
    assert f"{scores['macro_f1']:.4f}" in ok("evaluate", trained[1], tickets)


def as_bytes(frame: pd.DataFrame, suffix: str) -> bytes:
    if suffix == ".parquet":
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False)
        return buffer.getvalue()
    if suffix == ".jsonl":
        return frame.to_json(orient="records", lines=True).encode()
    return frame.to_csv(index=False, sep="\t" if suffix == ".tsv" else ",").encode()


def read(data: bytes, suffix: str) -> pd.DataFrame:
    if suffix == ".parquet":
        return pd.read_parquet(io.BytesIO(data))
    if suffix == ".jsonl":
        return pd.read_json(io.BytesIO(data), lines=True)
    return pd.read_csv(io.BytesIO(data), sep="\t" if suffix == ".tsv" else ",")


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_predict_reads_and_writes_every_format(trained, tmp_path, suffix, packed):
    frame = pd.DataFrame({"id": [7, 8], "text": ["invoice, money", 'a "late" parcel'], "label": ["x", "y"]})
    data = as_bytes(frame, suffix)
    (tmp_path / f"new{suffix}{packed}").write_bytes(gzip.compress(data) if packed else data)
    out = tmp_path / f"out{suffix}{packed}"
    assert "2 texts labeled" in ok("predict", trained[1], tmp_path / f"new{suffix}{packed}", "--output", out)
    written = read(gzip.decompress(out.read_bytes()) if packed else out.read_bytes(), suffix)
    assert list(written.columns) == ["id", "text", "given_label", *COLUMNS]
    assert list(written["text"]) == list(frame["text"])
    want = deni.load(trained[1])(list(frame["text"]))
    assert list(written["label"]) == [each["label"] for each in want]
    assert list(written["entropy"]) == pytest.approx([each["entropy"] for each in want], abs=1e-6)


def test_predict_reads_standard_input_and_writes_standard_output(trained):
    frame = pd.read_csv(io.StringIO(ok("predict", trained[1], "-", input="text\nmy parcel\nmy invoice\n")))
    assert list(frame.columns) == ["text", *COLUMNS]
    assert len(frame) == 2


@pytest.mark.parametrize("names", [("[/b]", "b"), ("[red]x", "[bold]"), ("\x1b]0;owned\x07", "\u202eb")])
def test_names_of_classes_are_shown_and_do_nothing(names, model_folder, tmp_path):
    rows = [{"text": f"parcel {number} late", "label": names[number % 2]} for number in range(16)]
    pd.DataFrame(rows).to_csv(tmp_path / "t.csv", index=False)
    flags = ("--strategy", "default", "--epochs", 1, "--no-progress", "--output", tmp_path / "model")
    printed = ok("train", tmp_path / "t.csv", "--model", model_folder, *flags)
    printed += ok("evaluate", tmp_path / "model", tmp_path / "t.csv")
    assert not {"\x1b", "\x07", "\u202e"} & set(printed)
    for name in names:
        assert visible(f"F1 {name} ") in printed
    report = json.loads(ok("evaluate", tmp_path / "model", tmp_path / "t.csv", "--json"))
    assert set(report["f1"]) == set(names)


def test_train_and_evaluate_read_standard_input(trained, tickets, model_folder, tmp_path):
    data = Path(tickets).read_text()
    assert json.loads(ok("evaluate", trained[1], "-", "--json", input=data))["texts"] == 36
    flags = ("--model", model_folder, "--strategy", "default", "--epochs", 1, "--output", tmp_path / "model")
    assert "deni predict" in ok("train", "-", *flags, input=data)


def test_export_prints_the_folders_it_wrote(trained, tmp_path):
    assert ok("export", trained[1], tmp_path / "single").split() == [str(tmp_path / "single")]
    folders = ok("export", trained[1], tmp_path / "members", "--as", "members").split()
    assert folders == [str(tmp_path / "members" / f"member-{member}") for member in range(3)]
    assert all((tmp_path / "members" / f"member-{member}" / "config.json").is_file() for member in range(3))


def test_show_prints_the_schedule_and_its_cost():
    output = ok("strategies", "show", "deni", "--steps", 1250)
    schedule = make_strategy("deni").schedule(1250)
    assert str(schedule) in output
    assert f"member-steps: {schedule.cost}" in output
    assert f"{100 * schedule.cost / Ensemble(members=10).schedule(1250).cost:.1f} %" in output
    assert "5x125" in ok("strategies", "show", "deni", "--members", 5)


def test_strategies_are_listed_with_their_cost_what_they_do_and_when_to_take_them():
    listed = ok("strategies", "list")
    assert ok("strategies") == listed
    rows = [line.split() for line in listed.splitlines() if line[:1] not in (" ", "")]
    names = [row[0] for row in rows]
    assert names[1 : names.index("Baselines,")] == list(STRATEGIES)
    assert {row[0]: row[1] for row in rows}["auto"] == "?"  # that of what it becomes
    assert {row[0]: row[1] for row in rows}["deni"] == "3.7"  # 4625 / 1250
    assert {row[0]: row[1] for row in rows}["ensemble"] == "10"
    letters = "".join(listed.split())  # lines break at hyphens, too
    for name in STRATEGIES:
        when = STRATEGIES[name].when
        assert "".join(f"Take it {when[0].lower()}{when[1:]}".split()) in letters


def test_tunings_are_listed_and_shown_with_their_settings():
    assert [line.split()[0] for line in ok("tunings").splitlines() if line[:1] not in (" ", "")][:-1] == list(TUNINGS)
    shown = ok("tunings", "show", "lora")
    assert "default learning rate: 0.0003" in shown
    assert "--lora-r INTEGER" in shown
    assert "none" in ok("tunings", "show", "full").split()


def test_a_preset_gives_the_settings_of_a_strategy_their_defaults():
    for preset, vote in ((), "soft"), (("--preset", "paper"), "hard"):
        shown = " ".join(ok("strategies", "show", "deni", *preset).split())
        assert f"or parent (the first alone). [default: {vote}]" in shown


def test_the_old_name_of_strategies_show_works_and_says_so():
    done = CliRunner().invoke(main, ["show", "deni"])
    assert done.exit_code == 0
    assert "Use deni strategies show." in done.stderr
    assert "member-steps: 4625" in done.stdout


# ---- help ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_every_help_text_ends_with_an_example(command):
    last = ok(*([command] if command else []), "--help").rstrip()
    lines = [line.strip() for line in last.splitlines()]
    where = lines if command else [line.removeprefix("Example: ") for line in lines if line.startswith("Example:")]
    assert where[-1].startswith("deni ")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_example_of_every_help_text_parses(command):
    words = ok(command, "--help").split("Example:")[1].split()
    assert words[:2] == ["deni", command]
    main.get_command(click.Context(main), command).make_context(command, words[2:])


@pytest.mark.parametrize("cls", [*STRATEGIES.values(), *TUNINGS.values()], ids=lambda cls: cls.name)
def test_every_setting_is_a_flag_of_train_with_a_text(cls):
    options = {option.name: option for option in main.get_command(click.Context(main), "train").params}
    for field in dataclasses.fields(cls):
        option = options[field.name]
        assert "--" + field.name.replace("_", "-") in option.opts
        assert len(option.help.partition("[")[0]) > 10, field.name


def test_the_version_is_printed():
    assert deni.__version__ in ok("--version")
