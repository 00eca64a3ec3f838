"""`deni suggest` as a user runs it."""

from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from deni.artifact import load
from deni.cli import main
from deni.commands.suggest import suggest_file
from deni.data import read_texts
from deni.errors import InputError
from deni.labeling import suggest
from tests.helpers.tiny import toy_rows

ARTIFACTS = Path(__file__).parents[1] / "artifact" / "format_1"
MODEL = ARTIFACTS / "lora_deni"


@pytest.fixture
def pool(tmp_path):
    """Texts with an id and a column of the name that the output needs."""
    texts = [*dict.fromkeys(text for text, _ in toy_rows(8)), "my parcel", "My parcel!"]
    frame = pd.DataFrame({"id": range(len(texts)), "text": texts, "score": 7})
    frame.to_csv(tmp_path / "pool.csv", index=False)
    return tmp_path / "pool.csv"


def run(*words):
    result = CliRunner().invoke(main, ["suggest", *map(str, words)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_the_output_has_the_pool_s_columns_with_rank_score_and_why(pool, tmp_path):
    result = run(MODEL, pool, "--n", 5, "--output", tmp_path / "next.csv", "--apart", tmp_path / "apart.jsonl")
    assert result.exit_code == 0, result.output
    texts = read_texts(pool, label_column=None)
    expected = suggest(load(MODEL, "cpu"), texts, 5)
    table = pd.read_csv(tmp_path / "next.csv")
    assert list(table) == ["id", "text", "given_score", "rank", "score", "why"]
    assert table["id"].tolist() == expected.rows
    assert table["rank"].tolist() == [1, 2, 3, 4, 5]
    assert table["score"].tolist() == pytest.approx(expected.scores)
    assert (table["given_score"] == 7).all()
    apart = pd.read_json(tmp_path / "apart.jsonl", lines=True)
    assert apart[["text", "why"]].to_numpy().tolist() == [["My parcel!", f"repeats line {len(texts)}"]]
    assert f"5 of {len(texts)} texts to label next (left out: 1 repeated): " in result.output


def test_labeled_texts_are_not_suggested_again(pool, tmp_path):
    labeled = tmp_path / "labeled.csv"
    pd.read_csv(pool).head(10).assign(label="login").to_csv(labeled, index=False)
    written = suggest_file(MODEL, pool, tmp_path / "next.jsonl", n=100, labeled=labeled, device="cpu")
    table = pd.read_json(tmp_path / "next.jsonl", lines=True)
    assert not set(table["id"]) & set(range(10))
    assert written.repeated == 11
    assert written.suggested + written.repeated + written.out_of_scope == written.pool


def test_words_are_written_as_they_were_read(tmp_path):
    (tmp_path / "pool.csv").write_text("text\nAnna left Berlin\nit rains\nBerlin is far\n")
    suggest_file(ARTIFACTS / "token", tmp_path / "pool.csv", tmp_path / "next.csv", n=2, device="cpu")
    assert set(pd.read_csv(tmp_path / "next.csv")["text"]) < {"Anna left Berlin", "it rains", "Berlin is far"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--output", "pool.csv"], "pool.csv is what is read"),
        (["--output", "next.conll"], "a CoNLL file has a tag for each word"),
        (["--output", "next.csv", "--apart", "next.csv"], "--output and --apart name the same file"),
        (["--output", "next.csv", "--labeled", "missing.csv"], "missing.csv: no such file"),
        (["--n", "0"], "0 is not in the range"),
    ],
)
def test_what_cannot_be_is_one_line_and_code_2(pool, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    result = run(MODEL, "pool.csv", *words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not Path("next.csv").exists()


def test_one_model_of_numbers_is_refused_before_anything_is_written(pool, tmp_path, monkeypatch):
    classifier = load(ARTIFACTS / "regression", "cpu")
    classifier.voters = [0]
    monkeypatch.setattr("deni.commands.suggest.load", lambda *_, **__: classifier)
    with pytest.raises(InputError, match="one model of numbers does not tell how sure it is"):
        suggest_file(ARTIFACTS / "regression", pool, tmp_path / "next.csv")
    assert not (tmp_path / "next.csv").exists()
