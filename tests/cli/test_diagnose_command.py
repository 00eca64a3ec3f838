import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from deni.cli import main
from deni.cli.diagnose import BUDGETS
from deni.diagnose import plan as diagnose_plan
from deni.study.store.database import Store
from tests.helpers.tiny import toy_rows, write_csv

SMALL = ("--labeled", "18", "--epochs", "2", "--max-length", "12", "--seeds", "2", "--trial-seeds", "2")
SHORT = (*SMALL, "--source", "dropout", "--configurations", "2", "--values", "2", "--candidate", "swa")


@pytest.fixture
def diagnose(tmp_path, model_folder):
    file = write_csv(tmp_path / "tickets.csv", toy_rows())

    def run(*args):
        command = ["diagnose", str(file), "--model", model_folder, "--threads", "1", "--pack", "2", *args]
        return CliRunner().invoke(main, command, env={"COLUMNS": "80"})

    run.store = tmp_path / "tickets.csv.diagnose.db"
    return run


def test_a_dry_run_says_what_it_costs_and_writes_nothing(diagnose):
    result = diagnose(*SHORT, "--dry-run")
    assert result.exit_code == 0, result.output
    rows = [[each for each in line.replace("│", " ").split() if each] for line in result.output.splitlines()]
    assert ["seeds", "2", "1", "12", "12"] in rows  # two runs of 2 x ceil(18 / 8) steps
    assert ["source", "dropout", "4", "2", "24", "24"] in rows
    assert ["trial", "of", "swa", "2", "1", "12", "12"] in rows
    assert ["baselines", "2", "2", "0", "0"] in rows
    assert ["all", "10", "6", "48", "48"] in rows
    assert "with 1 worker of 1 threads" in result.output
    assert not diagnose.store.exists()


def test_a_diagnosis_is_told_in_sentences_and_kept(diagnose):
    result = diagnose(*SHORT)
    assert result.exit_code == 0, result.output
    report = result.stdout
    assert re.match(r"Your fine-tune varies by \d+\.\d F1 \(SD, 2 seeds\)", report)
    assert "2 seeds support no claim about spread" in " ".join(report.split())
    assert max(map(len, report.splitlines()[:-1])) <= 80 or str(diagnose.store) in report
    with Store(diagnose.store) as store:
        assert store.status()["done"] == 10
    assert "Without fine-tuning, on the same texts: tfidf " in report
    again = diagnose(*SHORT, "--json", "--no-progress")
    assert again.exit_code == 0, again.output
    found = json.loads(again.stdout)
    assert (found["strategy"], found["train_texts"], list(found["sources"])) == ("default", 18, ["dropout"])
    assert f"varies by {100 * found['spread']['sd']['value']:.1f} F1" in report
    with Store(diagnose.store) as store:
        assert {row.attempts for row in store.results()} == {1}  # nothing was trained again


def test_baselines_are_those_that_are_named(diagnose, server, tmp_path):
    flags = ("--labeled", "18", "--epochs", "1", "--seeds", "2", "--trial-seeds", "2", "--no-investigate", "--no-trial")
    server.always = lambda _: '{"label": "login"}'
    own = ("--llm-model", "m", "--base-url", server.url, "--cache", str(tmp_path / "cache"), "--yes")
    result = diagnose(*flags, *own, "--baselines", "majority,llm", "--price-output", "1")
    assert result.exit_code == 0, result.output
    told = " ".join(result.stdout.split())
    assert re.search(r"on the same texts: majority (\d+\.\d), llm \d+\.\d \(0\.005 per 1,000 texts\)", told)
    rows = diagnose(*flags, "--no-baselines", "--dry-run").output
    assert "baselines" not in rows


def test_parts_can_be_left_away(diagnose):
    output = diagnose(*SMALL, "--no-investigate", "--no-trial", "--dry-run").output
    assert "source" not in output
    assert "trial" not in output
    assert "seeds" in output


def test_the_command_names_what_the_library_has():
    assert tuple(diagnose_plan.BUDGETS) == BUDGETS
    told = " ".join(CliRunner().invoke(main, ["diagnose", "--help"], env={"COLUMNS": "200"}).output.split())
    assert f"[default: {', '.join(map(diagnose_plan.called, diagnose_plan.CANDIDATES))}]" in told


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--labeled", "500"], "500"),
        (["--seeds", "1"], "seeds must be at least 2, not 1: one run has no spread"),
        (["--strategy", "denni"], "unknown strategy 'denni'"),
        (["--lora-r", "4"], "tuning full has no setting 'lora_r'"),
        (["--store", "missing/x.db"], "no folder"),
    ],
)
def test_a_mistake_is_one_line(diagnose, args, message):
    result = diagnose(*args)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not diagnose.store.exists()


def test_standard_input_is_refused():
    result = CliRunner().invoke(main, ["diagnose", "-"])
    assert (result.exit_code, "give a file, not standard input" in result.stderr) == (2, True)


def test_the_store_is_beside_the_file_or_here():
    assert diagnose_plan.default_store("trec") == Path("trec.diagnose.db")


def test_folds_give_the_score_to_expect_of_one_model(diagnose):
    flags = (*SMALL, "--no-investigate", "--no-trial", "--no-baselines", "--cv", "3")
    dry = diagnose(*flags, "--dry-run")
    assert "one model on all of these texts, and 3 without a fold each" in " ".join(dry.output.split())
    result = diagnose(*flags, "--json", "--no-progress")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["cross_validation"]
    assert (found["folds"], found["metric"]) == (3, "macro_f1")
    assert found["low"] <= found["score"] <= found["high"]
    shown = " ".join(diagnose(*flags, "--no-progress").output.split())
    assert f"expect macro F1 {100 * found['score']:.1f} (95 % interval" in shown
    assert "estimated by training on 67 % of the labels in 3 folds" in shown


def test_more_folds_than_texts_of_a_class_are_refused(diagnose):
    result = diagnose(*SMALL, "--cv", "7")
    assert result.exit_code == 2
    assert "no class has 7 texts" in " ".join(result.output.split())
    assert not diagnose.store.exists()
