"""benchmarks/studies/new_texts: test texts that no study was measured on."""

import importlib.util
from pathlib import Path

import pandas as pd
import pytest

from deni.study.execution.run import Run
from deni.study.plan import read_study
from deni.study.store.archive import write_archive
from deni.study.store.database import Store

FOLDER = Path(__file__).parents[1] / "benchmarks" / "studies" / "new_texts"
spec = importlib.util.spec_from_file_location("unseen", FOLDER / "unseen.py")
unseen = importlib.util.module_from_spec(spec)
spec.loader.exec_module(unseen)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Eighty texts in place of trec."""
    texts = [f"{kind} {number}" for number in range(40) for kind in ("where", "who")]
    frame = pd.DataFrame({"text": texts, "label": ["place", "human"] * 40})
    frame.to_csv(tmp_path / "trec.csv.gz", index=False)
    monkeypatch.setenv("DENI_DATA", str(tmp_path))
    for name in ("HERE", "RESULTS"):
        monkeypatch.setattr(unseen, name, tmp_path)
    monkeypatch.setattr(unseen, "UNSEEN", tmp_path / "unseen")
    monkeypatch.setattr(unseen, "BEFORE", ("first",))
    return frame


def archive(folder, name, dataset):
    """A study of a baseline, run and archived."""
    study = folder / f"{name}.yaml"
    given = "strategies: [tfidf]\ntunings: [lora]\nlabelled: 10\nseeds: 1\ntest_size: 10\n"
    study.write_text(f"datasets: [{dataset}]\n{given}")
    plan = read_study(study)
    with Store(folder / f"{name}.db", create=True) as store:
        assert Run(plan, plan.jobs, progress=False).into(store) == 0
        write_archive(store, folder / f"{name}.parquet")
    return folder / f"{name}.parquet"


def test_what_is_written_was_not_measured_on_and_a_study_of_it_passes(data, tmp_path, capsys):
    first = archive(tmp_path, "first", "trec")
    measured = unseen.measured_on(first)["trec"]
    assert len(measured) == 10
    unseen.write()
    left = pd.read_csv(tmp_path / "unseen" / "trec.csv")
    assert capsys.readouterr().out == "trec: 70 of 80 texts\n"
    assert set(left["text"]) == set(data["text"]) - {data["text"][row - 2] for row in measured}  # row 1 is the header
    unseen.check(archive(tmp_path, "second", "{path: unseen/trec.csv}"))
    assert "trec: none of 10 test texts was measured on before" in capsys.readouterr().out


def test_a_study_on_texts_that_were_measured_on_before_is_found(data, tmp_path):
    first = archive(tmp_path, "first", "trec")
    with pytest.raises(SystemExit, match="trec: 10 test texts are not new, such as"):
        unseen.check(first)
