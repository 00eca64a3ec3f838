"""Two models on the same texts: what changes, better or worse, and whether another seed does as much."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy import stats
from sklearn.metrics import f1_score

from deni.cli import main
from deni.cli.compare import _changed
from deni.commands.compare import compare_files, compare_models, errors_of, state_verdict
from deni.data import Texts
from deni.errors import InputError
from deni.tasks import TASKS
from deni.terminal import console
from tests.helpers.made import make, runs


def texts_of(labels, task="single_label", count=None, order=()):
    count = len(labels) if labels is not None else count
    texts = [f"text {at}" for at in range(count)]
    if task == "token":
        texts = [tuple(f"w{at}" for at in range(len(own))) for own in labels]
    return Texts(texts, labels, "made.csv", pd.DataFrame({"text": texts}), task, order)


def model_of(outputs, labels, task="single_label", forks=()):
    """A model with these outputs `(N, M, C)`; its vote is the mean of the members."""
    return SimpleNamespace(
        task=task,
        labels=list(labels),
        members=lambda texts: outputs,
        combined=lambda members: members.mean(1),
        info={"diagnostics": {"forks": list(forks)}},
        source=None,
        pairs=False,
    )


def choosing(classes, count=2, labels="ab", **more):
    """A model of one member, or of several `(N, M)`, that chooses these classes."""
    chosen = np.asarray(classes).reshape(len(classes), -1)
    return model_of(np.log(np.eye(count)[chosen] * 0.8 + 0.1), labels, **more)


GOLD = [0] * 20 + [1] * 20


def answers(wrong):
    return [1 - gold if at in wrong else gold for at, gold in enumerate(GOLD)]


def test_right_and_wrong_are_counted_and_tested_as_scipy_does():
    one, other = answers({0, 1, 2, 3, 4, 5, 6, 20}), answers({6, 20, 21})
    found = compare_models(choosing(one), choosing(other), texts_of(["ab"[at] for at in GOLD]))
    assert (found.changed, found.better, found.worse) == (7, 6, 1)
    assert found.p_value == pytest.approx(stats.binomtest(1, 7).pvalue)
    f1 = [f1_score(GOLD, each, average="macro") for each in (one, other)]
    assert found.scores["macro_f1"] == pytest.approx(f1)
    assert found.difference.value == pytest.approx(f1[1] - f1[0])
    assert found.difference.low < found.difference.value < found.difference.high
    assert found.rows["change"].tolist() == ["better"] * 6 + ["worse"]
    assert found.rows.iloc[-1].tolist() == [21, "text 21", "b", "worse", "b", "a"]


def test_without_labels_only_what_changes_is_said():
    found = compare_models(choosing([0, 1, 1]), choosing([0, 0, 1]), texts_of(None, count=3))
    assert found.rows.to_dict("records") == [{"line": 1, "text": "text 1", "model_a": "b", "model_b": "a"}]
    assert "scores" not in found.to_json()
    assert "not known" in state_verdict(found)[-1]


def test_a_label_that_one_model_does_not_know_is_never_its_answer():
    one, other = choosing([0, 1, 1, 0], labels="ab"), choosing([2, 1, 0, 2], count=3, labels="bca")
    found = compare_models(one, other, texts_of(["a", "c", "c", "a"]))
    assert (found.changed, found.better, found.worse) == (1, 1, 0)
    assert found.rows[["model_a", "model_b", "change"]].values.tolist() == [["b", "c", "better"]]
    assert found.scores["accuracy"] == (0.5, 0.75)


def test_an_ordered_answer_is_better_where_it_is_nearer():
    gold = np.array([0, 1, 2, 2])
    one = np.log(np.eye(3)[[0, 2, 0, 1]] * 0.8 + 0.1)
    assert errors_of(TASKS["ordinal"], gold, one).tolist() == [0, 1, 2, 1]


def test_of_several_labels_all_must_be_right():
    gold = [[1, 0, 1], [0, 0, 0], [1, 1, 1]]
    logits = np.array([[1.0, -1, 1], [-1, -1, 1], [1, 1, -1]])
    assert errors_of(TASKS["multi_label"], gold, logits).tolist() == [0, 1, 1]
    found = compare_models(
        model_of(logits[:, None], "abc", "multi_label"),
        model_of(np.array([[1.0, -1, 1], [-1, -1, -1], [1, 1, -1]])[:, None], "abc", "multi_label"),
        texts_of([("a", "c"), (), ("a", "b", "c")], "multi_label"),
    )
    assert (found.changed, found.better, found.worse) == (1, 1, 0)
    assert found.rows[["label", "model_a", "model_b"]].values.tolist() == [["", "c", ""]]


def test_of_words_the_tags_of_a_text_count_together():
    tags = [("O", "B-X"), ("B-X",), ("O", "O")]
    one, other = np.eye(2)[[0, 1, 0, 0, 1]], np.eye(2)[[0, 1, 1, 0, 0]]
    found = compare_models(
        model_of(np.log(one * 0.8 + 0.1)[:, None], ["O", "B-X"], "token"),
        model_of(np.log(other * 0.8 + 0.1)[:, None], ["O", "B-X"], "token"),
        texts_of(tags, "token"),
    )
    assert (found.texts, found.changed, found.better, found.worse) == (3, 2, 2, 0)
    assert found.rows[["text", "model_a", "model_b"]].values.tolist() == [["w0", "O", "B-X"], ["w0 w1", "O B-X", "O O"]]


def test_numbers_are_compared_by_their_distance_from_the_right_ones():
    generator = np.random.default_rng(0)
    gold = generator.normal(size=50)
    one, other = gold + generator.normal(0, 0.8, 50), gold + generator.normal(0, 0.1, 50)
    found = compare_models(
        model_of(one[:, None, None], ["value"], "regression"),
        model_of(other[:, None, None], ["value"], "regression"),
        texts_of(list(gold), "regression"),
    )
    errors = np.abs(one - gold), np.abs(other - gold)
    assert found.better == (errors[1] < errors[0]).sum()
    assert found.rank_p_value == pytest.approx(stats.wilcoxon(*errors).pvalue)
    assert found.churn.value == pytest.approx(np.abs(one - other).mean())
    assert found.changed == (np.abs(one - other) > 0.1 * one.std()).sum()
    assert "Wilcoxon" in state_verdict(found)[1]


def test_a_change_is_measured_by_how_often_single_runs_disagree():
    generator = np.random.default_rng(0)
    members = np.stack([answers(set(generator.choice(40, 8, replace=False))) for _ in range(3)], 1)  # (N, M)
    apart = np.mean([(members[:, a] != members[:, b]).mean() for a, b in ((0, 1), (0, 2), (1, 2))])
    few, many = choosing(answers({0, 1})), choosing([1 - gold for gold in GOLD])
    base = choosing(members)
    found = compare_models(base, few, texts_of(None, count=40))
    assert [(each.source, each.rate) for each in found.seed_noise] == [("runs", pytest.approx(apart))]
    assert state_verdict(found)[-1].startswith("That is within what another seed does (single runs of A")
    assert state_verdict(compare_models(base, many, texts_of(None, count=40)))[-1].startswith("That is more than")
    forked = choosing(members, forks=[{"step": 3}])
    verdict = state_verdict(compare_models(forked, many, texts_of(None, count=40)))[-1]
    assert "share a part of their training" in verdict


def test_repeated_cross_validations_say_it_before_anything_else(monkeypatch):
    outputs = np.log(np.eye(2)[[answers({0, 1, 2}), answers({2, 3, 4})]] * 0.8 + 0.1)  # (S, N, C)
    kept = SimpleNamespace(outputs={"vote": outputs}, folds=np.zeros((2, 40), int), texts=None)
    monkeypatch.setattr("deni.artifact.read_out_of_fold", lambda folder: kept if folder == "model" else None)
    one, other = choosing(np.stack([answers({0}), answers({1})], 1)), choosing(answers({0, 1}))
    one.source, other.source = "model", "other"
    found = compare_models(one, other, texts_of(None, count=40))
    assert [(each.source, each.rate) for each in found.seed_noise] == [("folds", 4 / 40), ("runs", 2 / 40)]
    assert "other folds and seeds, on its own labeled texts: 10.0 %" in state_verdict(found)[-1]


def test_a_study_says_how_often_its_seeds_disagree(tmp_path):
    store = make(tmp_path / "study.db", [*runs("default", 0.8, 3), *runs("swa", 0.9, 2, shift=5)])
    found = compare_models(choosing(answers({0})), choosing(answers({1})), texts_of(None, count=40), study=store)
    chosen = [
        [result.log_probs[:, 0].argmax(-1) for _, result in runs(*given, **more)]
        for given, more in ((("default", 0.8, 3), {}), (("swa", 0.9, 2), {"shift": 5}))
    ]
    rates = [np.mean([(a != b).mean() for at, a in enumerate(own) for b in own[at + 1 :]]) for own in chosen]
    assert found.seed_noise[0].rate == pytest.approx(np.mean(rates))
    assert "two seeds of the study on trec" in state_verdict(found)[-1]
    with pytest.raises(InputError, match="no two seeds of one setting"):
        compare_models(
            *(model_of(np.zeros((3, 1, 1)), ["value"], "regression") for _ in range(2)),
            texts_of(None, "regression", 3),
            study=store,
        )


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (choosing([0]), model_of(np.zeros((1, 1, 1)), ["value"], "regression"), "B is a model of regression"),
        (choosing([0]), choosing([0], labels="xy"), "no label in common"),
        (choosing([0], task="ordinal"), choosing([0], labels="ba", task="ordinal"), "another order"),
    ],
)
def test_models_whose_answers_cannot_be_compared_are_refused(one, other, said):
    with pytest.raises(InputError, match=said):
        compare_models(one, other, texts_of(None, count=1))


@pytest.fixture(scope="module")
def folders(tmp_path_factory, fitted):
    folder = tmp_path_factory.mktemp("models")
    fitted("default").save(folder / "one")
    fitted("delayed_ensemble", members=2, epochs=3).save(folder / "other")
    return folder


def test_the_table_shows_whole_answers_and_cuts_the_texts():
    labels = ["cancellation", "delivery problem"]
    one, other = choosing([0] * 4, labels=labels), choosing([1] * 4, labels=labels)
    texts = Texts(["a long text " * 20] * 4, [labels[1]] * 4, "made.csv", pd.DataFrame({"text": range(4)}))
    screen = console(width=80, record=True)
    screen.print(_changed(compare_models(one, other, texts)))
    lines = screen.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert "… delivery problem better cancellation delivery problem" in " ".join(lines[1].split())


def test_the_command_compares_artifacts_and_writes_what_changed(folders, tickets, tmp_path):
    output = tmp_path / "changed.csv"
    words = ["compare", str(folders / "one"), str(folders / "other"), tickets]
    done = CliRunner().invoke(main, [*words, "--output", str(output)])
    assert done.exit_code == 0, done.output
    assert "answers change" in done.output
    found = json.loads(CliRunner().invoke(main, [*words, "--json"]).stdout)
    assert found["seed_noise"][0]["source"] == "members"
    assert found["changed"] == len(pd.read_csv(output)) == len(found["rows"])
    one, other = found["scores"]["accuracy"]
    assert found["better"] - found["worse"] == round(36 * (other - one))
    same = compare_files(folders / "one", folders / "one", tickets)
    assert (same.changed, same.p_value, same.difference.value) == (0, 1.0, 0.0)
    again = CliRunner().invoke(main, [*words, "--output", str(output)])
    assert again.exit_code == 2
    assert "exists" in again.stderr
