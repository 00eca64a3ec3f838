"""`deni inspect` as a user runs it."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from deni.artifact import OUT_OF_FOLD, OutOfFold, as_bytes, digests_of
from deni.cli import main
from deni.commands import inspect as inspection
from deni.commands.inspect import inspect_file
from deni.data import read_texts
from deni.errors import InputError
from deni.models.loading import load_tokenizer
from deni.models.tokenizing import choose_max_length
from tests.helpers.tiny import toy_rows, write_csv

DATA = Path(os.environ.get("DENI_DATA", "."))
real = pytest.mark.skipif("DENI_DATA" not in os.environ, reason="DENI_DATA names no folder with the research datasets")


@pytest.fixture
def inspect(model_folder):
    """Runs `deni inspect` with the tiny tokenizer; every line must fit a terminal of 80 columns."""

    def call(*args, **settings):
        result = CliRunner().invoke(main, ["inspect", "--model", model_folder, *map(str, args)], **settings)
        assert "Traceback" not in result.output
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert "--json" in args or max(map(len, result.stdout.splitlines()), default=0) <= 80
        return result

    return call


def one_line(output: str) -> str:
    return " ".join(output.split())


def test_sound_texts_say_so_and_show_classes_and_lengths(inspect, tmp_path, model_folder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tickets = write_csv(Path("tickets.csv"), toy_rows())
    result = inspect(tickets)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = one_line(result.stdout)
    assert f"{tickets}: 36 texts, 3 classes Nothing that stops training." in lines
    assert "'billing' 12 33.3%" in lines
    assert "Always 'billing' would score accuracy 0.333, macro F1 0.167." in lines
    cut = choose_max_length(load_tokenizer(model_folder), read_texts(tickets), None, 40)
    assert f"deni train would cut at {cut} (--max-length)" in lines


def test_the_most_important_comes_first_with_its_line(inspect, tmp_path):
    rows = [
        *toy_rows(),
        ("my parcel", "login"),
        ("my parcel", "billing"),
        ("N/A", "login"),
        ("[bold]na\ufffdve", "login"),
    ]
    result = inspect(write_csv(tmp_path / "bad.csv", rows))
    assert result.exit_code == 0
    lines = one_line(result.stdout)
    assert "Nothing that stops training. 1 thing to look at and " in lines
    parts = (
        "1 thing",
        "warning 1 text occurs with different labels",
        "line 38, line 39:",
        "note 1 text (2.5%)",
        "'billing' 13",
    )
    assert [lines.index(part) for part in parts] == sorted(lines.index(part) for part in parts)
    assert "line 41: '[bold]na\ufffdve'" in lines, "the text, not markup"


def test_what_cannot_be_trained_on_is_shown_and_ends_in_one_line_and_code_2(inspect, tmp_path):
    result = inspect(write_csv(tmp_path / "one.csv", [(text, "a") for text, _ in toy_rows()]))
    assert result.exit_code == 2
    assert "Nothing can be trained on this: 1 thing to change first." in one_line(result.stdout)
    assert "'a' 36 100.0%" in one_line(result.stdout)
    assert result.stderr.startswith(f"Error: {tmp_path / 'one.csv'}: all 36 texts have the label 'a'")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (None, ["no such file"]),
        (b"text,label\n,b\n", ["line 2", "empty text"]),
        (b"message,label\nhello,a\n", ["no column 'text'", "--text-column"]),
        ("text,label\nna\u00efve,a\n".encode("latin-1"), ["not UTF-8", "iconv"]),
    ],
)
def test_what_cannot_be_read_is_one_line_and_code_2(inspect, tmp_path, content, parts):
    if content is not None:
        (tmp_path / "bad.csv").write_bytes(content)
    result = inspect(tmp_path / "bad.csv")
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert all(part in result.stderr for part in parts)


def test_texts_without_labels_are_checked_too(inspect, tmp_path):
    (tmp_path / "new.csv").write_text("text,class\nhello you,a\nhello you,b\n")
    result = inspect(tmp_path / "new.csv")
    lines = one_line(result.stdout)
    assert result.exit_code == 0
    assert "2 texts, no labels No labels, so nothing to train on yet. 2 notes." in lines
    assert "no column 'label' among 'text', 'class'; name it with --label-column" in lines
    assert "repeats an earlier one" in lines
    assert inspect(tmp_path / "new.csv", "--label-column", "class").exit_code == 0
    missing = inspect(tmp_path / "new.csv", "--label-column", "topic")
    assert (missing.exit_code, missing.stdout) == (2, "")
    assert "no column 'topic'" in missing.stderr


def test_rows_without_a_label_are_counted(inspect, tmp_path):
    (tmp_path / "half.csv").write_text("text,label\nhello you,a\nmy parcel,\nmy box,\n")
    result = inspect(tmp_path / "half.csv")
    assert result.exit_code == 2
    assert "2 texts of 3 without a label, the first at line 3" in result.stderr
    (tmp_path / "none.csv").write_text("text,label\nhello you,\nmy parcel,\n")
    result = inspect(tmp_path / "none.csv")
    assert result.exit_code == 0
    assert "column 'label' is empty: no text has a label" in one_line(result.stdout)


def test_a_test_file_is_compared_and_its_own_findings_are_marked(inspect, tickets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = toy_rows()
    test = write_csv(Path("test.csv"), [rows[5], ("a new \ufffd parcel", "delivery"), (f"{rows[0][0]}!", "login")])
    result = inspect(tickets, "--test", test)
    lines = one_line(result.stdout)
    assert result.exit_code == 0
    assert f"test: {test}: 3 texts, 2 classes" in lines
    assert "test: 1 of 3 test texts are also in the training split, the first at line 2" in lines
    assert "line 2 = line 7 of training" in lines
    assert "test: 1 other of 3 test texts are in the training split if case" in lines
    assert "test: 1 text (33.3%) holds U+FFFD" in lines
    assert "'delivery' 12 33.3% 1 33.3%" in lines
    unknown = inspect(tickets, "--test", write_csv(tmp_path / "other.csv", [("hello", "greeting")]))
    assert unknown.exit_code == 2
    assert "has the label 'greeting', so it cannot be learned" in unknown.stderr


def test_json_holds_all_of_it(inspect, tickets, tmp_path):
    test = write_csv(tmp_path / "test.csv", [toy_rows()[5]])
    result = inspect(tickets, "--test", test, "--json", tmp_path / "out.json")
    written = json.loads((tmp_path / "out.json").read_text())
    assert written == json.loads(inspect(tickets, "--test", test, "--json", "-").stdout)
    assert written["summary"] in one_line(result.stdout)
    assert [part["texts"] for part in written["parts"]] == [36, 1]
    assert written["parts"][0]["classes"] == {"billing": 12, "delivery": 12, "login": 12}
    assert written["parts"][0]["lengths"]["limit"] == 40
    (leak,) = [each for each in written["findings"] if each["kind"] == "leaks"]
    assert (leak["severity"], leak["count"], leak["source"]) == ("warning", 1, str(test))
    assert leak["examples"][0][0] == "line 2 = line 7 of training"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.json", "test.csv"]
    refused = inspect(tickets, "--json", tmp_path / "out.json" / "out.json")
    assert refused.exit_code == 2
    assert "cannot be written" in refused.stderr


def test_pairs_several_labels_and_numbers(inspect, tmp_path):
    file = tmp_path / "all.csv"
    rows = [f"{text},{text[::-1]},{'x;y' if at % 2 else 'x'},{at / 4}" for at, (text, _) in enumerate(toy_rows())]
    file.write_text("\n".join(["text,second,kinds,stars", *rows]))
    pairs = inspect(file, "--text-pair-column", "second", "--label-column", "kinds", "--task", "multi_label")
    lines = one_line(pairs.stdout)
    assert "36 pairs, 2 labels Nothing that stops training." in lines
    assert "'x' 36 100.0% 'y' 18 50.0%" in lines
    assert "Labels of a text (and how many texts have as many): 1 (18), 2 (18)" in lines
    numbers = one_line(inspect(file, "--label-column", "stars", "--task", "regression").stdout)
    assert "numbers mean sd min 25% 50% 75% max different texts 4.375 2.597 0 2.188 4.375 6.562 8.75 36" in numbers
    assert "Always the mean would have an RMSE of 2.597." in numbers


def test_standard_input_is_read(inspect, tickets):
    result = inspect("-", input=Path(tickets).read_text())
    assert result.exit_code == 0
    assert "standard input: 36 texts, 3 classes" in result.stdout


def test_many_classes_are_shown_in_part(inspect, tmp_path):
    rows = [(f"{text} {at}", f"class {at % 30:02}") for at, (text, _) in enumerate(toy_rows(40))]
    output = one_line(inspect(write_csv(tmp_path / "many.csv", rows)).stdout)
    assert "'class 09' 4 3.3% ... 10 more 'class 20' 4 3.3%" in output


def test_a_model_that_cannot_be_loaded_is_named_but_the_default_one_is_left_out(
    inspect, tickets, tmp_path, monkeypatch
):
    result = inspect(tickets, "--model", tmp_path / "nothing")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "nothing' cannot be loaded" in result.stderr

    def fails(model, task):
        raise InputError(f"model {model!r} cannot be loaded")

    monkeypatch.setattr(inspection, "load_tokenizer", fails)
    report = inspect_file(tickets)
    assert report.parts[0].lengths is None
    assert [each.message for each in report.findings] == ["tokens were not counted: model 'minilm' cannot be loaded"]


def test_of_very_many_texts_a_sample_is_tokenized(tickets, model_folder, inspect, monkeypatch):
    whole = inspect_file(tickets, model=model_folder).parts[0].lengths
    counted = []
    real_ids = inspection.token_ids
    monkeypatch.setattr(inspection, "token_ids", lambda *args: counted.append(len(args[1])) or real_ids(*args))
    monkeypatch.setattr(inspection, "MOST_COUNTED", 12)
    monkeypatch.setattr(inspection, "AT_ONCE", 5)
    sample = inspect_file(tickets, model=model_folder).parts[0].lengths
    assert counted == [5, 5, 2]
    assert (whole.counted, sample.counted) == (36, 12)
    assert "reads 40 at most, on 12 texts evenly spaced" in one_line(inspect(tickets).stdout)


def test_training_warns_of_what_inspect_calls_a_warning(inspect, model_folder, tmp_path):
    rows = toy_rows(20)
    file = write_csv(tmp_path / "bad.csv", [*rows, *[(f"{text} \ufffd", label) for text, label in rows[:6]]])
    flags = ("--model", model_folder, "--strategy", "default", "--epochs", 1, "--no-progress", "--test", 0)
    result = CliRunner().invoke(main, list(map(str, ["train", file, *flags, "--output", tmp_path / "model"])))
    assert result.exit_code == 0, result.output
    warned = [line for line in result.stderr.splitlines() if line.startswith("Warning:")]
    said = [each for each in inspect_file(file, model=model_folder).findings if each.severity == "warning"]
    assert sorted(warned) == sorted(f"Warning: {finding}" for finding in said)
    assert ["U+FFFD" in line for line in warned] == [True]


@real
def test_the_lengths_of_trec_are_those_that_training_chooses():
    lengths = inspect_file(DATA / "trec.csv.gz").parts[0].lengths
    texts, tokenizer = read_texts(DATA / "trec.csv.gz"), load_tokenizer("minilm")
    assert lengths.max_length == choose_max_length(tokenizer, texts, None, 512) == lengths.percentiles[99]
    assert lengths.percentiles[100] == max(len(tokenizer(text)["input_ids"]) for text in texts.texts)
    assert lengths.cut == sum(len(tokenizer(text)["input_ids"]) > lengths.max_length for text in texts.texts)


# ---- columns of the test file --------------------------------------------------------------------------------------


def write_named(file, rows, text, label):
    pd.DataFrame(rows, columns=[text, label]).to_csv(file, index=False)


@pytest.fixture
def two_files(tmp_path):
    """A file to train on and a test file with other columns; one text is in both."""
    write_named(tmp_path / "train.csv", toy_rows(), "message", "topic")
    return tmp_path / "train.csv", tmp_path / "test.csv", ("--text-column", "message", "--label-column", "topic")


@pytest.mark.parametrize("names", [("message", "topic"), ("text", "label"), ("message", "label"), ("text", "topic")])
def test_a_test_file_has_the_same_columns_or_the_usual_ones(inspect, two_files, names):
    file, test, columns = two_files
    write_named(test, toy_rows()[:6], *names)
    result = inspect(file, *columns, "--test", test)
    assert result.exit_code == 0, result.output
    assert f"test:{test}:6texts" in "".join(result.stdout.split())  # a long path is wrapped


def test_columns_of_a_test_file_have_flags_of_their_own(inspect, two_files):
    file, test, columns = two_files
    write_named(test, toy_rows()[:6], "body", "kind")
    refused = inspect(file, *columns, "--test", test)
    assert refused.exit_code == 2
    assert "no column 'message' among 'body', 'kind'" in refused.stderr
    assert "--test-text-column" in refused.stderr
    flags = ("--test-text-column", "body", "--test-label-column", "kind")
    result = inspect(file, *columns, "--test", test, *flags)
    assert result.exit_code == 0, result.output
    assert "6 texts, 3 classes" in one_line(result.stdout)


# ---- wrong labels --------------------------------------------------------------------------------------------------


@pytest.fixture
def one_wrong(tmp_path):
    """Sixty toy sentences, of which the one on line 12 has another label; and its right one."""
    rows = list(dict(toy_rows(20)).items())
    right = rows[10][1]
    rows[10] = (rows[10][0], next(label for _, label in rows if label != right))
    return write_csv(tmp_path / "tickets.csv", rows), rows, right


def test_an_encoder_lists_a_wrong_label_with_its_line_and_the_right_one(inspect, one_wrong, tmp_path):
    tickets, rows, right = one_wrong
    result = inspect(tickets, "--wrong-labels", "--json", tmp_path / "report.json", "--device", "cpu")
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "report.json").read_text())
    first = next(each for each in found["wrong_labels"] if each["row"] == "line 12")
    assert (first["text"], first["given"], first["suggested"]) == (*rows[10], right)
    assert 0.3 < first["confidence"] <= 1
    assert found["wrong_labels"] == sorted(found["wrong_labels"], key=lambda each: each["quality"])
    assert "likely with a wrong label, by a cross-validated regression on" in one_line(result.stdout)
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "likely wrong" in result.stdout
    without = inspect(tickets)
    assert "likely wrong" not in without.stdout


@pytest.fixture
def artifact(fitted, tmp_path):
    return fitted().save(tmp_path / "model")


def keep_out_of_fold(artifact, rows, right):
    """Give an artifact out-of-fold predictions that are sure of each label, and of `right` for row 10."""
    labels = ["billing", "delivery", "login"]
    gold = np.array([labels.index(right if at == 10 else label) for at, (_, label) in enumerate(rows)])
    outputs = np.log(np.eye(3)[gold] * 0.9 + 0.1 / 3)[None]
    texts = [text for text, _ in rows]
    content = as_bytes(OutOfFold({"vote": outputs}, np.zeros((1, 60), int), gold.tolist(), digests_of(texts), labels))
    info = json.loads((artifact / "deni.json").read_text())
    info["files"][OUT_OF_FOLD] = len(content)
    (artifact / OUT_OF_FOLD).write_bytes(content)
    (artifact / "deni.json").write_text(json.dumps(info))


def test_an_artifact_checks_labels_by_its_out_of_fold_predictions(inspect, one_wrong, artifact, tmp_path):
    tickets, rows, right = one_wrong
    keep_out_of_fold(artifact, rows, right)
    result = inspect(tickets, "--model", artifact)
    assert result.exit_code == 0, result.output
    lines = one_line(result.stdout)
    assert "1 text (1.7%) likely with a wrong label, by out-of-fold predictions of " in lines  # a long path is cut
    assert f"line 12 {rows[10][1]} {right} 93.3%" in lines


def test_an_artifact_that_has_seen_all_labels_says_what_to_do(inspect, one_wrong, artifact):
    result = inspect(one_wrong[0], "--model", artifact)
    assert result.exit_code == 0
    assert "labels were not checked" in one_line(result.stdout)
    asked = inspect(one_wrong[0], "--model", artifact, "--wrong-labels")
    assert (asked.exit_code, asked.stdout) == (2, "")
    assert "was trained without --cv" in asked.stderr
    assert "--model minilm" in asked.stderr
    other = inspect(one_wrong[0], "--model", artifact, "--task", "multi_label")
    assert (other.exit_code, other.stdout) == (2, "")
    assert "was trained for --task single_label, not multi_label: omit --task" in other.stderr


def test_likely_wrong_labels_fit_80_columns_with_their_lines(inspect, one_wrong, artifact, tmp_path):
    _, rows, right = one_wrong
    rows = [(f"{text} {'and so on ' * 12}{at}", label) for at, (text, label) in enumerate(rows)]
    keep_out_of_fold(artifact, rows, right)
    lines = inspect(write_csv(tmp_path / "long.csv", rows), "--model", artifact).stdout.splitlines()
    first = next(at for at, line in enumerate(lines) if line.startswith("likely wrong"))
    assert lines[first].split() == ["likely", "wrong", "label", "suggested", "sure", "text"]
    assert lines[first + 1].startswith("line 12 ")
    assert len(lines[first + 1]) <= 80
