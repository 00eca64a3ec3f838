"""The report of a training whose model generates: counts, the wrong answers as text, and what members differ on."""

import json

import numpy as np
import pytest
import scipy.stats

import deni
from deni.commands.train import train_file
from deni.data import Texts
from deni.finetune.generating import AnswerEvaluation
from deni.recipe import Recipe
from deni.report.training import PAGE, TrainingReport
from deni.report.training.answers import MOST_WRONG, WrongAnswer, measure_answers
from deni.report.training.tiles import build_tiles
from deni.report.training.verdict import state_verdict
from deni.strategies import Default, DelayedEnsemble
from deni.tuning import Lora
from tests.helpers.generators import save_generator

SUMS = [(f"{a}+{b}=", str(a + b)) for a in range(4) for b in range(4)]
HOSTILE = "<script>alert(1)</script> {{ 7*7 }}"


def evaluation(answers, right, **more):
    texts = Texts([f"prompt {at}" for at in range(len(right))], right, "qa.jsonl", None, "generation")
    return AnswerEvaluation(texts, answers, {"exact_match": 0.5}, **more)


def test_an_answer_is_right_if_it_equals_the_right_one_but_for_white_space_at_the_ends():
    found = measure_answers(evaluation([" 4\n", "5", "a b", ""], ["4", "6", "a  b", "x"], disagreement=0.25), 2)
    assert (found.prompts, found.right, found.disagreement) == (4, 1, 0.25)
    exact = scipy.stats.binomtest(1, 4).proportion_ci(method="exact")
    assert tuple(map(float, found.exact)) == pytest.approx((0.25, exact.low, exact.high))
    assert found.wrong[0] == WrongAnswer("prompt 1", "5", "6")
    assert [each.given for each in found.wrong] == ["5", "a b", ""]


def test_one_member_disagrees_with_none_and_long_lists_are_cut():
    found = measure_answers(evaluation(["no"] * 30, ["yes"] * 30, disagreement=0.0), 1)
    assert found.disagreement is None
    assert (len(found.wrong), found.right) == (MOST_WRONG, 0)


def jsonl(path, rows):
    path.write_text("\n".join(json.dumps({"prompt": prompt, "completion": answer}) for prompt, answer in rows))
    return str(path)


def train(folder, strategy, **files):
    rows = [(HOSTILE, "<b>"), *SUMS]
    model = save_generator(folder / "llama", "llama")
    plan = Recipe(model=model, task="generation", strategy=strategy, tuning=Lora(lora_r=4), epochs=2)
    report = TrainingReport("a title", "deni train qa.jsonl")
    file, test = jsonl(folder / "qa.jsonl", SUMS), jsonl(folder / "test.jsonl", rows)
    options = {"test": test, "extra_files": report, "progress": False, **files}
    train_file(file, recipe=plan, output=folder / "m", **options)
    return folder / "m", report.summary


def test_the_page_shows_answers_as_text_without_a_request_or_an_error(opened, tmp_path):
    folder, summary = train(tmp_path, DelayedEnsemble(members=2, variance=0.3, scope="trainable"), dev="0.3")
    view = opened(folder / PAGE)
    assert view.said == []
    assert view.asked == [(folder / PAGE).as_uri()]
    assert view.locator("script").count() == 3
    answers = deni.load(folder).generate([HOSTILE, *(prompt for prompt, _ in SUMS)])
    shown = view.locator("#answers .texts li").all_text_contents()
    assert len(shown) == min(MOST_WRONG, summary.answers.prompts - summary.answers.right)
    assert HOSTILE in shown[0]
    assert "right: <b>" in shown[0]
    shares = [share for each in answers for share in each.disagreement]
    assert summary.answers.disagreement == pytest.approx(np.mean(shares))
    assert view.locator("#answers table tbody tr").count() == len(summary.answers.metrics)
    assert [row["score"] for row in summary.scores.to_dict("records")] != []
    assert summary.scores["score"].max() < 1000  # perplexity, not in points

    sentences = " ".join(state_verdict(summary))
    assert f"It answers {summary.answers.right} of {len(SUMS) + 1} test prompts exactly" in sentences
    assert "Its 2 members choose each token together; on average" in sentences
    assert "baseline" not in sentences
    assert [tile.name for tile in build_tiles(summary)] == ["exact answers", "members disagree", "cost"]


def test_without_a_test_split_the_report_says_so(tmp_path):
    _, summary = train(tmp_path, Default(), test="0")
    assert summary.answers is None
    sentences = state_verdict(summary)
    assert sentences[0].startswith("How good its answers are was not measured: There was no test split (--test 0)")
    assert summary.beside is None
