import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from deni.auto import table
from deni.cli import main
from deni.recipe import Recipe
from tests.helpers.auto import ROW


@pytest.fixture(autouse=True)
def rows(monkeypatch):
    monkeypatch.setattr(table, "ROWS", [ROW])


def show(*args):
    return CliRunner().invoke(main, ["show", "auto", *map(str, args)])


def test_the_plan_has_facts_settings_with_where_they_come_from_reason_and_cost(model_folder, tickets):
    done = show(tickets, "--model", model_folder, "--tuning", "full", "--head-lr-scale", 10, "--labeled", 21)
    assert done.exit_code == 0, done.output
    lines = [" ".join(line.split()) for line in done.output.splitlines()]
    assert lines[0] == "auto: 21 labeled texts, single_label, 3 classes of 7 texts, an encoder"
    assert {"tuning full [given]", "head lr scale 10 [given]", "pooling auto [default]", "epochs 15 [auto]"} <= {*lines}
    assert lines[-3].startswith("why: ")
    assert lines[-2].startswith("evidence: ")
    assert lines[-1] == "cost: 45 member-steps"  # 15 epochs of ceil(21 / 8) steps


def test_json_is_what_the_lines_say(model_folder, tickets):
    found = json.loads(show(tickets, "--model", model_folder, "--json").output)
    assert {*found} == {"row", "why", "evidence", "facts", "settings", "member_steps"}
    assert found["settings"]["learning_rate"] == {"value": Recipe.of(tuning="lora").rate, "from": "default"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.csv"], "missing.csv: no such file"),
        (["{tickets}", "--label-column", "kind"], "no column 'kind'"),
        (["{tickets}", "--labeled", "999"], "999 labeled examples asked for"),
        (["{tickets}", "--task", "token", "--pooling", "mean"], "pooling is not for the task token"),
        (["{tickets}", "--test", "missing.csv"], "missing.csv: no such file"),
    ],
)
def test_what_is_wrong_is_one_line(arguments, message, tickets):
    done = show(*(each.format(tickets=tickets) for each in arguments))
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_it_waits_for_nothing_that_trains(model_folder, tickets):
    code = "import atexit, sys; from deni.cli import main; atexit.register(lambda: print(*sys.modules)); main()"
    command = [sys.executable, "-c", code, "show", "auto", tickets, "--model", model_folder]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), check=True)
    plan, _, modules = done.stdout.rpartition("\n" if not done.stdout.endswith("\n") else "member-steps\n")
    assert plan.startswith("auto: ")
    assert not {"torch", "transformers", "peft"} & {*modules.split()}


def test_the_old_name_of_strategies_show_takes_its_flags():
    for words in (["deni", "--members", "5"], ["--members", "5", "deni"]):
        done = CliRunner().invoke(main, ["show", *words])
        assert done.exit_code == 0
        assert "5x125" in done.stdout
        assert "Use deni strategies show." in done.stderr
    assert "unknown strategy 'magic'" in CliRunner().invoke(main, ["show", "magic"]).stderr


def test_train_prints_the_plan_and_keeps_it(model_folder, tickets, tmp_path):
    flags = ["--model", model_folder, "--epochs", "1", "--no-progress", "--output", str(tmp_path / "model")]
    done = CliRunner().invoke(main, ["train", tickets, *flags])
    assert done.exit_code == 0, done.output
    plan = done.stdout.partition("\n\n")[0]
    assert plan.splitlines() == show(tickets, *flags[:4]).output.splitlines()[:-1]
    info = json.loads((tmp_path / "model" / "deni.json").read_text())
    assert info["auto"] == {
        name: value
        for name, value in json.loads(show(tickets, *flags[:4], "--json").output).items()
        if name != "member_steps"
    }
    assert info["strategy"]["name"] == "linear_probe+best_practices"
    assert info["tuning"]["name"] == "lora"
    sentence = "- Auto became linear_probe+best_practices (probe_c 0.001, epochs 1) with lora, 1 epochs (row made)."
    assert "".join(sentence.split()) in "".join(done.stdout.split())  # lines may break in a word
    card = (tmp_path / "model" / "README.md").read_text()
    assert f"- Chosen by `auto`: {info['auto']['why']} Evidence: " in card
