"""Baselines as cells of a study."""

import itertools

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier

from deni.analysis.runs import read_runs
from deni.analysis.summary import summarize
from deni.analysis.tables import build_tables
from deni.baselines import BASELINES
from deni.errors import InputError
from deni.study.execution import pack
from deni.study.execution.pack import run_pack
from deni.study.execution.run import Run
from deni.study.library import Library
from deni.study.plan import read_study
from deni.study.store.database import Store
from tests.helpers.chat_server import refusing
from tests.helpers.studies import jobs_of

NAMES = ["majority", "tfidf", "frozen"]


def test_a_cell_has_the_texts_of_the_strategies_and_costs_no_member_step(study):
    jobs = jobs_of(study(strategies=["default", *NAMES]))
    library = Library()
    plain, *others = (run_pack([job], library)[0] for job in jobs[::3])
    assert [job.cell.strategy.name for job in jobs[::3]] == ["default", *NAMES]
    for result in others:
        assert np.array_equal(result.text_ids, plain.text_ids)
        assert np.array_equal(result.gold, plain.gold)
        assert result.labels == plain.labels
        assert result.log_probs.shape == plain.log_probs.shape
        assert np.allclose(np.exp(result.log_probs).sum(-1), 1, atol=1e-5)
        assert result.cost["member_steps"] == 0
        assert result.cost["seconds"] >= 0
        assert set(result.metrics) >= set(plain.metrics)


def test_the_majority_of_a_cell_is_that_of_its_labeled_texts(study):
    (job, *_), library = jobs_of(study(strategies=["majority"])), Library()
    train, test = job.texts(library)
    (result,) = run_pack([job], library)
    plain = DummyClassifier(strategy="prior").fit(train.texts, train.labels)
    assert np.allclose(np.exp(result.log_probs[:, 0]), plain.predict_proba(test.texts))


def test_seeds_share_one_fit_and_blocks_do_not(study, monkeypatch):
    jobs = jobs_of(study(strategies=["tfidf"], blocks=2))
    assert len({job.pack for job in jobs}) == 2
    fits = []
    learn = BASELINES["tfidf"].learn
    monkeypatch.setattr(BASELINES["tfidf"], "learn", lambda self, *given: fits.append(1) or learn(self, *given))
    one, two, three = run_pack(jobs[:3], Library())
    assert len(fits) == 1
    assert np.array_equal(one.log_probs, three.log_probs)
    assert one.cost == two.cost


def test_a_run_and_its_tables(study, tmp_path, monkeypatch):
    """No step is measured for the pack's size where only baselines are left."""
    monkeypatch.setattr(pack, "fine_tune", None)
    made = read_study(study(strategies=NAMES))
    run = Run(made, made.jobs, progress=False)
    assert "3 packs of 3 cells" in run.estimate()
    with Store(tmp_path / "study.db", create=True) as store:
        assert run.into(store) == 0
        tables = build_tables(read_runs(store))
    assert tables.results["strategy"].tolist() == NAMES
    assert tables.results["member_steps"].tolist() == [0, 0, 0]
    assert tables.results["sd"].tolist() == [0, 0, 0]
    tfidf = tables.comparisons[tables.comparisons["strategy"] == "tfidf"].iloc[0]
    scores = dict(zip(NAMES, tables.results["mean"], strict=True))
    assert tfidf["difference"] == pytest.approx(scores["tfidf"] - scores["majority"])


def test_other_kinds_of_labels(tmp_path, model_folder, study):
    numbers = tmp_path / "numbers.csv"
    numbers.write_text("text,label\n" + "".join(f"word{row % 3} text {row},{row % 3}.5\n" for row in range(40)))
    several = tmp_path / "several.csv"
    several.write_text(
        "text,label\n" + "".join(f"w{row % 3} text {row},{['a', 'a;b', 'b'][row % 3]}\n" for row in range(40))
    )
    for task, file in (("regression", numbers), ("multi_label", several)):
        dataset = {"path": str(file), "task": task}
        jobs = jobs_of(study(datasets=[dataset], strategies=["majority", "tfidf"], labelled=30, seeds=1))
        majority, tfidf = (run_pack([job], Library())[0] for job in jobs)
        name = {"regression": "pearson", "multi_label": "macro_f1"}[task]
        assert tfidf.metrics[name] > majority.metrics[name]


def test_what_makes_no_sense_is_one_line(study):
    for strategies, message in (
        (["tfdif"], "unknown strategy 'tfdif'.*tfidf"),
        (["tfidf+swa"], "tfidf is a baseline"),
        ([{"name": "tfidf", "members": 3}], "no such setting of tfidf"),
    ):
        with pytest.raises(InputError, match=message):
            jobs_of(study(strategies=strategies))


def test_a_language_model_runs_where_the_study_names_it(study, tmp_path, server):
    """One request a text for all seeds; price and unusable answers are in the store and in the report's sentences."""
    answers = itertools.cycle(['{"label": "login"}', '{"label": "billing"}', "I do not know"])
    server.always = lambda _: next(answers)
    settings = {
        **{"name": "llm", "label": "a model", "llm_model": "m", "base_url": server.url, "examples": 1, "yes": True},
        **{"cache": str(tmp_path / "cache"), "concurrency": 1, "price_input": 1.0, "temperature": None},
        "descriptions": {"billing": "money, invoices"},
    }
    made = read_study(study(strategies=["majority", settings]))
    jobs = [job for job in made.jobs if job.cell.strategy.name == "llm"]
    assert jobs[0].decides["strategy"]["settings"]["descriptions"] == {"billing": "money, invoices"}
    assert "price_input" not in jobs[0].decides["strategy"]["settings"]
    with Store(tmp_path / "study.db", create=True) as store:
        assert Run(made, made.jobs, progress=False).into(store) == 0
        runs = read_runs(store)
        rows = [row for row in runs.rows if row.cell.strategy.name == "llm"]
        sentences = summarize(build_tables(runs))
    texts = len(jobs[0].texts(Library())[1])
    assert len(server.asked) == texts
    assert "- billing: money, invoices\n" in server.asked[0]
    assert "temperature" not in server.bodies[0]
    assert len(rows) == 3
    assert {row.diagnostics["unusable"] for row in rows} == {texts // 3}
    assert {row.diagnostics["price_per_1000"] for row in rows} == {0.01}
    assert sentences[-1].startswith("a model on ")
    assert sentences[-1].endswith(f"0.01 per 1,000 texts, {texts // 3} of {texts} answers unusable.")


def test_a_mapping_where_none_belongs_and_an_unknown_setting_are_refused_with_their_line(study):
    for settings, why in (({"instruction": {"a": "b"}}, "not a mapping"), ({"exampls": 3}, "did you mean examples")):
        with pytest.raises(InputError, match=rf"line \d+: strategies\S*: .*{why}"):
            read_study(study(strategies=[{"name": "llm", "llm_model": "m", **settings}]))


def test_a_server_that_refuses_fails_these_cells_alone_and_they_go_on_from_the_store(study, tmp_path, server):
    settings = {"name": "llm", "llm_model": "m", "base_url": server.url, "yes": True, "cache": str(tmp_path / "cache")}
    made = read_study(study(strategies=["majority", {**settings, "concurrency": 1}]))
    server.plan = [lambda _: '{"label": "login"}']
    server.always = refusing(400)
    with Store(tmp_path / "study.db", create=True) as store:
        assert Run(made, made.jobs, progress=False).into(store) == 3
        reasons = {row.reason for row in store.results(None) if row.status == "failed"}
        assert store.status()["done"] == 3
        (reason,) = reasons
        assert "refused with 400" in reason
        assert "\n" not in reason
        sent = len(server.asked)
        server.always = lambda _: '{"label": "login"}'
        assert store.retry() == 3
        assert Run(made, made.jobs, progress=False).into(store) == 0
    assert len(server.asked) - sent == len(made.jobs[0].texts(Library())[1]) - 1  # one answer was kept
