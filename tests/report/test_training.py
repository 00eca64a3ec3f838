"""What the report of one training says, against scikit-learn, seqeval and arithmetic."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.metrics import confusion_matrix

import deni.artifact
import deni.report.training
from deni import finetune
from deni.artifact import Classifier
from deni.cli import main
from deni.commands.train import train_file
from deni.data import Texts
from deni.errors import InputError, InputWarning
from deni.finetune import scores_of
from deni.recipe import recipe
from deni.report.training import PAGE, TrainingReport, tested

LABELS = {
    "single_label": ["a", "b", "c"],
    "multi_label": ["a", "b", "c"],
    "regression": ["value"],
    "token": ["O", "B-X", "I-X"],
}


def made(task, texts=40, members=3, seed=0):
    """Random members, right more often than not, with their mean as the vote."""
    draw = np.random.default_rng(seed)
    classes, words = len(LABELS[task]), [f"word{at}" for at in range(5)]
    count = 5 * texts if task == "token" else texts
    logits = draw.normal(size=(count, members, classes))
    if task == "regression":
        gold = draw.normal(size=texts) + 100
        outputs = gold[:, None, None] + logits
        votes = outputs.mean(1)
    elif task == "multi_label":
        gold = draw.random((texts, classes)) < 0.4
        outputs = logits + 2.0 * gold[:, None] - 1
        votes = outputs.mean(1)
    else:
        gold = draw.integers(classes, size=count)
        logits[np.arange(count), :, gold] += 1.5
        outputs = logits - np.logaddexp.reduce(logits, -1, keepdims=True)
        votes = np.log(np.exp(outputs).mean(1))
    labels = gold.reshape(texts, 5).tolist() if task == "token" else gold.tolist()
    given = [tuple(words)] * texts if task == "token" else [f"text {at}" for at in range(texts)]
    return finetune.Evaluation(
        Texts(given, None, "made", None, task), labels, outputs, votes, scores_of(task, labels, votes, LABELS[task])
    )


def measured(given, parent=True):
    task = given.texts.task
    return tested.measured(task, LABELS[task], given, parent, np.random.default_rng(0))


@pytest.mark.parametrize("task", LABELS)
def test_what_is_drawn_again_is_the_metric_itself_and_lies_in_its_interval(task, monkeypatch):
    given, scored = made(task), []

    def kept(score, counts, **options):
        scored.append(float(score(np.asarray(counts, dtype=float)[None])[0]))
        return other_texts(score, counts, **options)

    other_texts = tested.other_texts
    monkeypatch.setattr(tested, "other_texts", kept)
    found, _ = measured(given)
    assert scored == [pytest.approx(given.metrics[tested.MAIN[task][0]])]
    assert found.score.value == pytest.approx(scored[0])
    assert found.score.low < found.score.value < found.score.high


@pytest.mark.parametrize("task", ["single_label", "token"])
def test_classes_are_counted_as_scikit_learn_does(task):
    given = made(task)
    found, missing = measured(given)
    gold, said = np.ravel(given.gold), given.votes.argmax(-1)
    want = confusion_matrix(gold, said)
    assert np.array_equal(found.confusion, want)
    assert missing == {}
    gold_name, said_name, count = found.confused[0]
    off = want - np.diag(want.diagonal())
    assert count == off.max() == want[LABELS[task].index(gold_name), LABELS[task].index(said_name)]
    assert sum(count for *_, count in found.confused) == off.sum()
    assert (found.reliability["share"].sum(), found.per_label["gold"].sum()) == pytest.approx((100, len(gold)))


def test_members_are_compared_with_each_other_and_with_the_vote():
    given = made("single_label")
    found, _ = measured(given)
    said = given.members.argmax(-1)
    pairs = [np.mean(said[:, one] != said[:, other]) for one, other in ((0, 1), (0, 2), (1, 2))]
    assert found.disagreement == pytest.approx(np.mean(pairs))
    assert found.parent_differs == np.mean(said[:, 0] != given.votes.argmax(-1))
    alone = [scores_of("single_label", given.gold, given.members[:, at])["macro_f1"] for at in range(3)]
    assert found.member_scores == pytest.approx(alone)
    assert measured(given, parent=False)[0].parent_differs is None


def test_uncertain_texts_come_in_the_order_of_their_entropy():
    given = made("single_label", texts=60)
    found, _ = measured(given)
    mean = np.exp(given.members).mean(1)
    entropy = -(mean * np.log(mean)).sum(-1)
    most = np.argsort(-entropy)[:20]
    assert [each.parts for each in found.uncertain] == [(f"text {at}",) for at in most]
    assert [each.total for each in found.uncertain] == pytest.approx(entropy[most])
    own = np.exp(given.members)
    within = -(own * np.log(own)).sum(-1).mean(1)
    assert [each.members for each in found.uncertain] == pytest.approx((entropy - within)[most])
    assert [each.right for each in found.uncertain] == [given.gold[at] == given.votes[at].argmax() for at in most]


def test_the_least_sure_word_of_a_sentence_stands_for_it():
    given = made("token", texts=30)
    mean = np.exp(given.members).mean(1)
    entropy = -(mean * np.log(mean)).sum(-1).reshape(30, 5)
    found, _ = measured(given)
    assert found.uncertain[0].total == pytest.approx(entropy.max())
    word = entropy.max(0).argmax()
    assert found.uncertain[0].parts == ("word0 word1 word2 word3 word4", f"word: word{word}")


def test_numbers_have_a_spread_in_place_of_an_entropy():
    given = made("regression")
    found, missing = measured(given)
    assert set(missing) == {"confusion", "calibration"}
    spread = given.members[..., 0].std(1)
    assert found.uncertain[0].total == pytest.approx(spread.max())
    assert found.disagreement == pytest.approx(spread.mean())
    assert len(found.points) == 40
    assert set(measured(made("regression", members=1))[1]) == {"confusion", "calibration", "uncertain", "members"}


def test_outputs_that_are_no_numbers_leave_the_test_part_out():
    given = made("single_label")
    given.members[0, 1] = np.nan
    found, missing = measured(given)
    assert found is None
    assert "no numbers" in missing["test"]


# ---- a training ------------------------------------------------------------------------------------------------------


def train(path, model_folder, output, report=None, **more):
    settings = {"strategy_settings": {"members": 3}} if "strategy" not in more else {}
    plan = recipe(None, more.pop("strategy", "deni"), model=model_folder, epochs=2, **settings)
    return train_file(path, recipe=plan, output=output, extra_files=report, progress=False, **more)


def run(*args):
    said = CliRunner().invoke(main, [str(arg) for arg in args])
    assert said.exit_code == 0, said.output
    return said.output


@pytest.fixture(scope="module")
def done(tickets, model_folder, tmp_path_factory):
    """A training on the command line: what it printed, and its folder."""
    folder = tmp_path_factory.mktemp("done") / "my model"
    flags = ("--members", 3, "--epochs", 2, "--dev", 0.2, "--no-progress", "--output", folder)
    return run("train", tickets, "--model", model_folder, *flags), folder


def test_the_command_ends_with_a_report(done):
    output, folder = done
    flat = " ".join(output.split())
    info = json.loads((folder / "deni.json").read_text())
    score = 100 * info["metrics"]["macro_f1"]
    assert f"expected macro F1 {score:.1f} (95 % interval" in flat
    assert "other test texts, not other seeds; fewer than 50 texts: likely too narrow" in flat
    for part in ("accuracy against chance", "cost", "most uncertain", "confusion matrix"):
        assert part in flat
    assert f"{info['member_steps']} member-steps" in flat
    assert (folder / PAGE).read_text().startswith("<!doctype html>")


def test_the_page_says_how_to_repeat_it(done, tickets):
    text = (done[1] / PAGE).read_text()
    assert f"deni train {tickets} --model" in text
    assert f"--output &#39;{done[1]}&#39;" in text
    assert "python -m pip install deni==" in text


def test_a_resumed_command_is_repeated_without_resume_and_its_curves_go_on(tickets, model_folder, tmp_path):
    pytest.importorskip("tensorboard")
    flags = ("--model", model_folder, "--epochs", 1, "--strategy", "default", "--no-progress")
    flags = (*flags, "--report-to", "tensorboard")
    output = run("train", tickets, *flags, "--save-steps", 1, "--output", tmp_path / "model")
    assert "curves tensorboard --logdir" in " ".join(output.split())  # the path is broken over lines
    run("train", tickets, *flags, "--output", tmp_path / "model", "--overwrite", "--resume")
    text = (tmp_path / "model" / PAGE).read_text()
    assert "--resume" not in text
    assert len(list((tmp_path / "model.runs").iterdir())) == 1
    assert "counted since it was resumed" in text


def test_texts_are_predicted_once(tickets, model_folder, tmp_path, monkeypatch):
    asked, members = [], Classifier.members
    monkeypatch.setattr(
        Classifier, "members", lambda self, texts, *a: asked.append(len(texts)) or members(self, texts, *a)
    )
    train(tickets, model_folder, tmp_path / "model", TrainingReport("model"))
    assert asked == [7]


@pytest.mark.parametrize(
    ("strategy", "test", "reasons"),
    [
        ("default", "0", {"test", "forks"}),
        ("default", "0.2", {"members", "forks"}),
        ("noisy_interpolation", "0.2", {"members"}),
        ("ensemble", "0.2", set()),
    ],
)
def test_what_is_not_there_is_left_out_with_a_reason(tickets, model_folder, tmp_path, strategy, test, reasons):
    report = TrainingReport("model")
    train(tickets, model_folder, tmp_path / "model", report, strategy=strategy, test=test)
    assert set(report.facts.missing) == reasons
    text = (tmp_path / "model" / PAGE).read_text()
    for reason in report.facts.missing.values():
        assert reason.replace("'", "&#39;") in text


def test_costs_and_curves_are_those_of_the_trainer(tickets, model_folder, tmp_path):
    report = TrainingReport("model")
    done = train(tickets, model_folder, tmp_path / "model", report, dev="0.2")
    facts, trainer = report.facts, done.result.trainer
    assert facts.member_steps == trainer.member_steps == done.result.schedule.cost
    assert facts.cost == pytest.approx(done.result.schedule.cost / done.result.schedule.steps)
    history = trainer.state.log_history
    training = facts.losses[facts.losses["of"] == "training texts"]
    assert training["loss"].tolist() == [each["loss"] for each in history if "loss" in each]
    assert facts.scores["score"].tolist() == [
        100 * each["eval_macro_f1"] for each in history if "eval_macro_f1" in each
    ]
    records = trainer.diagnostics.records
    assert facts.excess["excess"].tolist() == [value for each in records for value in each.excess]
    assert facts.excess["step"].iloc[0] == records[0].step + 1
    assert facts.forks["disagreement_at_end"].tolist() == [100 * each.end.disagreement for each in records]


# ---- whole or not at all ---------------------------------------------------------------------------------------------


def test_without_the_packages_the_model_is_written_and_a_line_says_how_to_get_the_page(
    tickets, model_folder, tmp_path, monkeypatch
):
    def missing():
        raise InputError('a page needs the package altair: pip install "deni[report]"')

    monkeypatch.setattr(deni.report.training, "check_packages", missing)
    flags = ("--model", model_folder, "--epochs", 1, "--strategy", "default", "--no-progress")
    flat = " ".join(run("train", tickets, *flags, "--output", tmp_path / "model").split())
    assert 'report a page needs the package altair: pip install "deni[report]"' in flat
    assert "expected macro F1" in flat
    assert not (tmp_path / "model" / PAGE).exists()
    assert deni.load(tmp_path / "model")(["invoice money"])[0]["label"]


def test_a_report_that_fails_takes_no_model_with_it(tickets, model_folder, tmp_path):
    def broken(_):
        raise RuntimeError("no ink")

    with pytest.warns(InputWarning, match=r"the report failed and is left out \(RuntimeError: no ink\)"):
        done = train(tickets, model_folder, tmp_path / "model", broken, strategy="default")
    assert deni.load(done.output)(["invoice money"])[0]["label"]


def test_the_page_comes_and_goes_with_its_artifact(tickets, model_folder, tmp_path, monkeypatch):
    output = tmp_path / "model"
    train(tickets, model_folder, output, TrainingReport("first"), strategy="default")
    train(tickets, model_folder, output, TrainingReport("second"), strategy="default", overwrite=True)
    assert "<h1>second</h1>" in (output / PAGE).read_text()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(InputError, match="No space left"):
            train(tickets, model_folder, output, TrainingReport("third"), strategy="default", overwrite=True)
    assert "<h1>second</h1>" in (output / PAGE).read_text()
    assert [each.name for each in tmp_path.iterdir()] == ["model"]
    train(tickets, model_folder, output, strategy="default", overwrite=True)
    assert not (output / PAGE).exists()
