"""The verdict of one training: how good, against what, and whether its members differ."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from deni.analysis.beside import BaselineScore, Beside
from deni.analysis.performance import measure_performance
from deni.data import Texts
from deni.finetune import Evaluation
from deni.measures import Estimate
from deni.report.training.summary import TrainingSummary
from deni.report.training.verdict import export_command, state_verdict
from deni.tasks import TASKS

CLASSES = ["a", "b", "c"]


def evaluation(chosen, gold):
    """Members that are sure of `chosen`, `(M, N)`; the mean probability votes."""
    members = np.full((*np.shape(chosen), 3), np.log(0.005))
    np.put_along_axis(members, np.asarray(chosen)[..., None], np.log(0.99), -1)
    members = members.transpose(1, 0, 2)
    texts = Texts([f"text {at}" for at in range(len(gold))], None, "made", None)
    votes = np.log(np.exp(members).mean(1))
    return Evaluation(texts, list(gold), members, votes, TASKS["single_label"].scores(list(gold), votes, CLASSES))


def summary(chosen, gold, parent=True, tuning="full", recipe=None, cost=4, **more):
    return summary_of(evaluation(chosen, gold), "single_label", CLASSES, parent, tuning, recipe, cost, **more)


def of_numbers(predicted, gold, parent=True):
    """Members that predict these numbers, `(M, N)`; their mean is the vote."""
    members = np.transpose(predicted)[..., None]  # (N, M, 1)
    texts = Texts([f"text {at}" for at in range(len(gold))], None, "made", None)
    votes = members.mean(1)
    given = Evaluation(texts, list(gold), members, votes, TASKS["regression"].scores(list(gold), votes, ["value"]))
    return summary_of(given, "regression", ["value"], parent)


def summary_of(given, task, classes, parent=True, tuning="full", recipe=None, cost=4, **more):
    test, missing = measure_performance(task, classes, given, parent, np.random.default_rng(0))
    values = {
        **{"data": "made", "train_texts": 50, "metrics": given.metrics, "on_test": test, "missing": missing},
        **{name: pd.DataFrame() for name in ("losses", "scores", "forks", "excess")},
        **{
            "phases": [],
            "failures": [],
            "failed_forks": [],
            "schedule": "",
            "member_steps": 100 * cost,
            "plain_steps": 100,
        },
        **{"voters": given.members.shape[1], "seconds": 1.0, "resumed": False, "environment": {}, "commands": []},
        **{
            "settings": {"tuning": {"name": tuning}, "recipe": {"task": "single_label", **(recipe or {})}},
            "model": "my model",
        },
    }
    return TrainingSummary(**{**values, **more})


GOLD = np.arange(300) % 3
GOOD = np.where(np.arange(300) % 10 == 0, (GOLD + 1) % 3, GOLD)  # nine of ten right
OTHER = np.where(np.arange(300) % 10 == 5, (GOLD + 1) % 3, GOLD)


def test_the_score_comes_with_its_interval_and_chance():
    said = state_verdict(summary([GOOD], GOLD, cost=1))
    score = 100 * f1_score(GOLD, GOOD, average="macro")
    chance = 100 * f1_score(GOLD, np.zeros(300, int), average="macro")
    assert said[0].startswith(f"Expect macro F1 {score:.1f} (95 % interval ")
    assert "over other texts like the 300 test texts)" in said[0]
    assert said[1] == f"It is better than chance, always answering a: macro F1 {score:.1f} against {chance:.1f}."
    assert said[-1] == "It took 100 member-steps, as many as plain training; one model predicts."
    assert not any("members" in each for each in said[:-1])


def test_what_is_no_better_than_chance_is_said():
    said = state_verdict(summary([np.zeros(300, int)], GOLD))
    assert said[1].startswith(
        "It is not shown to be better than chance, always answering a: macro F1 16.7 against 16.7"
    )


def test_members_that_agree_are_one_model():
    found = summary([GOOD] * 10, GOLD)
    assert export_command(found) == "deni export 'my model' out/ --as single"
    assert (
        "The last fork failed: its 10 members disagree on 0.0 % of the texts, and alone they score 90.0; they are one "
        "model in effect. Raise --variance, fork earlier, or give each member its own order (--member-order own). Of "
        "this training, one model would do: deni export 'my model' out/ --as single"
    ) in state_verdict(found)
    assert state_verdict(found)[-1] == (
        "It took 400 member-steps, 4.0 times plain training; predicting takes 10 models."
    )


def test_members_that_differ_are_told_with_their_scores():
    found = summary([GOOD, GOOD, OTHER], GOLD)
    assert export_command(found) is None
    assert "Its 3 members disagree on 13.3 % of the texts (mean over pairs); alone they score 90.0, together 90.0." in (
        state_verdict(found)
    )


@pytest.mark.parametrize(
    ("tuning", "parent", "command"),
    [
        ("lora", True, "deni export 'my model' out/ --as single"),
        ("prompt", True, "deni export 'my model' out/ --as single --adapter"),
        ("lora", False, "deni export 'my model' out/ --as members"),  # the mean of independent runs is another model
        ("unipelt", True, None),
    ],
)
def test_the_export_fits_the_tuning_and_where_the_members_come_from(tuning, parent, command):
    assert export_command(summary([GOOD] * 3, GOLD, parent, tuning)) == command


@pytest.mark.parametrize(
    ("recipe", "parent", "flags"),
    [
        ({"pooling": "mean"}, True, "--as sentence-transformers"),
        ({"pooling": "auto", "normalize_features": True}, True, "--as sentence-transformers"),
        ({"pooling": "mean"}, False, None),
        ({"pooling": "mean", "pairs": "bi"}, True, None),
    ],
)
def test_a_pooling_that_the_class_does_not_have_is_exported_as_modules(recipe, parent, flags):
    found = export_command(summary([GOOD] * 3, GOLD, parent, "lora", recipe))
    assert found == (flags and f"deni export 'my model' out/ {flags}")


def test_numbers_that_members_predict_alike_are_one_model():
    """Alike: an SD of the members for a text below a hundredth of the SD of the labels."""
    gold = np.linspace(-1, 1, 300)
    spread = gold.std(ddof=1)
    near, far = (of_numbers([gold - share * spread, gold + share * spread], gold) for share in (0.009, 0.011))
    said = (
        f"The last fork failed: its 2 members differ by an SD of {0.009 * spread:.3g} on each text on average, and "
        "alone they score 1.000; they are one model in effect. Raise --variance, fork earlier, or give each member "
        "its own order (--member-order own). Of this training, one model would do: deni export 'my model' out/ "
        "--as single"
    )
    assert said in state_verdict(near)
    assert export_command(far) is None
    said = f"Its 2 members differ by an SD of {0.011 * spread:.3g} on each text on average; alone they score "
    assert f"{said}1.000, together 1.000." in state_verdict(far)


def test_independent_runs_of_numbers_have_no_mean_to_export():
    gold = np.linspace(-1, 1, 300)
    assert export_command(of_numbers([gold, gold], gold, parent=False)) == "deni export 'my model' out/ --as members"


def test_without_a_test_split_nothing_is_claimed():
    why = {"test": "There was no test part."}
    said = state_verdict(summary([GOOD] * 3, GOLD, on_test=None, missing=why))
    assert said[0] == "How good it is, and whether a baseline is as good, was not measured: There was no test part."
    assert said[1] == "Whether its 3 members differ was not measured."


def test_independent_runs_that_agree_are_no_failed_fork():
    said = state_verdict(summary([GOOD] * 3, GOLD, parent=False))
    assert (
        "Its 3 members disagree on 0.0 % of the texts, and alone they score 90.0. One model would do: "
        "deni export 'my model' out/ --as members"
    ) in said


def test_a_fork_that_failed_before_a_merge_is_told():
    said = state_verdict(summary([GOOD], GOLD, failed_forks=["the fork after step 3 had no effect: why"]))
    assert any(
        each == "The fork after step 3 had no effect: why. Raise --variance, fork earlier, or give each member its own "
        "order (--member-order own)."
        for each in said
    )


def test_forks_that_changed_nothing_are_told_where_one_model_predicts():
    forks = pd.DataFrame({"disagreement_at_end": [0.0, 0.2]})
    said = state_verdict(summary([GOOD], GOLD, forks=forks))
    assert any(each.startswith("The members never disagreed on more than 0.2 % of the texts") for each in said)


@pytest.mark.parametrize(
    ("low", "high", "judged"),
    [
        (0.01, 0.05, "It is better than the best baseline, frozen: +3.0 (95 % interval +1.0 to +5.0)."),
        (-0.01, 0.05, "The baseline frozen is as good as this model, as far as these texts can tell: +3.0"),
        (-0.05, -0.01, "The baseline frozen is better than this model: +3.0"),
    ],
)
def test_the_first_lines_put_the_model_beside_baselines(low, high, judged):
    scores = [BaselineScore("tfidf", 0.5, 0.25, np.zeros(0)), BaselineScore("frozen", 0.6, 2.0, np.zeros(0))]
    beside = Beside(scores, Estimate(0.03, low, high))
    said = state_verdict(summary([GOLD], GOLD, beside=beside))
    assert said[1] == "On the same test texts: tfidf 50.0 (0.2 s), frozen 60.0 (2.0 s), this model 100.0 (1 s)."
    assert said[2].startswith(judged)
    assert not any("baseline" in each for each in state_verdict(summary([GOLD], GOLD)))
    alone = state_verdict(summary([GOLD], GOLD, beside=Beside([], None, {"llm": "no answer in time"})))
    assert [each for each in alone if "baseline" in each] == ["The baseline llm was left out: no answer in time."]
    beside = Beside(scores, Estimate(0.03, low, high), as_good={"tfidf": Estimate(0.13, -0.01, 0.2)})
    (also,) = [each for each in state_verdict(summary([GOLD], GOLD, beside=beside)) if "not shown to be better" in each]
    assert also == "This model is not shown to be better than tfidf +13.0 (95 % interval -1.0 to +20.0)."
