"""Ordered classes: the loss and metrics as NumPy and scikit-learn have them, and the way through every command."""

import json
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from click.testing import CliRunner
from datasets import Dataset
from sklearn.metrics import cohen_kappa_score, f1_score, mean_absolute_error
from transformers import AutoTokenizer, pipeline

import deni
from deni import measures
from deni.artifact import export
from deni.cli import main
from deni.commands.evaluate import evaluate_file
from deni.commands.train import train_file
from deni.data import Texts, check_trainable, names, read_texts
from deni.errors import ArtifactError, InputError, InputWarning
from deni.finetune import Evaluation
from deni.randomness import Sources
from deni.recipe import Recipe
from deni.sklearn import DeniClassifier
from deni.strategies import DENI, Default
from deni.study.store.database import Store
from deni.tasks import TASKS, Task, find_task, register, task_of
from tests.helpers.tiny import toy_rows
from tests.helpers.trainers import make, rows, seeded

ORDER = ("delivery", "login", "billing")
STEPS, BATCH, RATE, SEED = 20, 4, 1e-3, 42
ordinal = TASKS["ordinal"]


def run(*args):
    return CliRunner().invoke(main, [str(arg) for arg in args])


def emd(logits, gold):
    """The squared earth mover's distance of each text, by its definition."""
    found = []
    for row, right in zip(logits, gold, strict=True):
        probabilities = [np.exp(value) / sum(np.exp(other) for other in row) for value in row]
        total, below = 0.0, 0.0
        for at, probability in enumerate(probabilities):
            below += probability
            total += (below - (1.0 if at >= right else 0.0)) ** 2
        found.append(total)
    return np.array(found)


# ---- the loss --------------------------------------------------------------------------------------------------------


def test_the_loss_is_the_squared_earth_movers_distance():
    draw = np.random.default_rng(0)
    logits, gold = draw.normal(size=(12, 5)), draw.integers(5, size=12)
    losses = ordinal.member_losses(torch.tensor(logits), torch.tensor(gold), 3)
    np.testing.assert_allclose(losses.numpy(), emd(logits, gold).reshape(3, 4).mean(1), rtol=1e-12)


def test_a_class_further_away_costs_more():
    certain = torch.full((5, 5), -40.0, dtype=torch.float64).fill_diagonal_(40.0)
    losses = ordinal.member_losses(certain, torch.zeros(5, dtype=torch.long), 5)
    np.testing.assert_allclose(losses.numpy(), [0, 1, 2, 3, 4], atol=1e-12)


def test_half_precision_is_measured_in_float32_and_fractions_are_refused():
    logits = torch.tensor([[1.0, 2.0]], dtype=torch.bfloat16)
    assert ordinal.member_losses(logits, torch.tensor([1]), 1).dtype == torch.float32
    with pytest.raises(ValueError, match="needs class numbers, from 0 to 1"):
        ordinal.member_losses(logits, torch.tensor([0.5]), 1)


# ---- training --------------------------------------------------------------------------------------------------------


def model():
    return seeded(num_labels=4, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


def texts(count=40, seed=1):
    ids = [row["input_ids"] for row in rows(count, seed)]
    return Dataset.from_dict({"input_ids": ids, "labels": [each[1] % 4 for each in ids]})


def plain_loop():
    """One model, trained by hand."""
    one, data = model().train(), texts()
    optimizer = torch.optim.AdamW(one.parameters(), lr=RATE, weight_decay=0.0)
    for step in range(STEPS):
        epoch, at = divmod(step * BATCH, len(data))
        order = torch.randperm(len(data), generator=Sources(SEED).derived("sample_order", epoch)).tolist()
        batch = data[order[at : at + BATCH]]
        logits = one(input_ids=torch.tensor(batch["input_ids"])).logits
        below = torch.nn.functional.softmax(logits, -1).cumsum(-1)
        steps = torch.arange(4)[None] >= torch.tensor(batch["labels"])[:, None]
        loss = ((below - steps.double()) ** 2).sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
        optimizer.step()
    return one.eval()


def test_training_is_that_of_a_loop_written_by_hand(tmp_path):
    trainer = make(tmp_path, Default(), model=model(), train=texts(), task="ordinal", args={"num_train_epochs": 2})
    trainer.train()
    held_out = texts(10, seed=7)
    one = plain_loop()
    with torch.no_grad():
        logits = one(torch.tensor(held_out["input_ids"])).logits
    output = trainer.predict(held_out)
    np.testing.assert_allclose(output.predictions, logits.log_softmax(-1).numpy(), atol=1e-9)
    expected = emd(logits.numpy(), held_out["labels"]).mean()
    assert output.metrics["test_loss"] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("engine", ["stacked", "loop"])
def test_members_of_either_engine_are_saved_with_their_task(tmp_path, model_folder, engine):
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    sentences = [text for text, _ in toy_rows(7)]
    labels = [at % 4 for at in range(len(sentences))]
    data = Dataset.from_dict({**tokenizer(sentences), "labels": labels})
    plain = seeded(num_labels=4, vocab_size=len(tokenizer))
    strategy = DENI(members=3)
    trainer = make(
        tmp_path, strategy, model=plain, train=data, task="ordinal", engine=engine, processing_class=tokenizer
    )
    trainer.train()
    assert trainer.origin["task"] == "ordinal"
    record = trainer.diagnostics.records[-1]
    trainer.save_model(str(tmp_path / "model"))
    assert json.loads((tmp_path / "model" / "deni.json").read_text())["task"] == "ordinal"
    classifier = deni.load(tmp_path / "model", "cpu")
    members = trainer.predict_members(data)
    np.testing.assert_allclose(classifier.members(sentences), members, atol=1e-5)
    assert classifier.task == "ordinal"
    assert "A classifier of ordered classes fine-tuned" in (tmp_path / "model" / "README.md").read_text()
    some = [at * len(data) // record.texts for at in range(record.texts)]
    each = [emd(members[some, at], np.array(labels)[some]).mean() for at in range(3)]
    assert record.end.parent_loss == pytest.approx(each[0], abs=1e-6)


# ---- metrics ---------------------------------------------------------------------------------------------------------


def outcomes(classes=5, count=60, seed=3):
    draw = np.random.default_rng(seed)
    gold = draw.integers(classes, size=count)
    logits = draw.normal(size=(count, 3, classes)) - 0.7 * np.abs(np.arange(classes) - gold[:, None])[:, None]
    members = logits - np.logaddexp.reduce(logits, -1, keepdims=True)
    return gold, members, np.log(np.exp(members).mean(1))


def test_metrics_are_those_of_scikit_learn():
    gold, _, votes = outcomes()
    chosen = votes.argmax(-1)
    assert ordinal.scores(gold, votes) == {
        "quadratic_kappa": pytest.approx(cohen_kappa_score(gold, chosen, weights="quadratic"), abs=1e-12),
        "mean_absolute_error": pytest.approx(mean_absolute_error(gold, chosen), abs=1e-12),
        "macro_f1": pytest.approx(f1_score(gold, chosen, average="macro"), abs=1e-12),
    }


def test_a_class_that_no_text_has_is_a_step_all_the_same():
    gold, votes = [0, 2, 2, 0, 2], np.eye(3)[[0, 2, 0, 2, 2]]
    expected = cohen_kappa_score(gold, votes.argmax(-1), weights="quadratic", labels=[0, 1, 2])
    assert ordinal.scores(gold, votes)["quadratic_kappa"] == pytest.approx(expected)
    assert ordinal.scores(gold, votes)["mean_absolute_error"] == pytest.approx(0.8)


def test_always_the_same_answer_has_no_kappa():
    for gold in ([1, 1], [0, 2]):
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            assert ordinal.scores(gold, np.eye(3)[[1, 1]])["quadratic_kappa"] == 0.0


def test_the_interval_is_that_of_the_kappa(monkeypatch):
    gold, members, votes = outcomes()
    scored, other_texts = [], measures.other_texts

    def kept(score, counts, **options):
        scored.append(float(score(np.asarray(counts, dtype=float)[None])[0]))
        return other_texts(score, counts, **options)

    monkeypatch.setattr(measures, "other_texts", kept)
    metrics = ordinal.scores(gold, votes)
    given = Texts([f"text {at}" for at in range(len(gold))], gold.tolist(), "made", None, "ordinal")
    evaluation = Evaluation(given, gold.tolist(), members, votes, metrics)
    found, missing = ordinal.examine(evaluation, list("abcde"), np.random.default_rng(0))
    assert scored == [pytest.approx(metrics["quadratic_kappa"], abs=1e-12)]
    assert found["score"].low < found["score"].value < found["score"].high
    assert found["chance"]["quadratic kappa"] == (metrics["quadratic_kappa"], 0.0)
    assert missing == {}


# ---- the column ------------------------------------------------------------------------------------------------------


def table(folder, labels):
    file = folder / "texts.csv"
    pd.DataFrame({"text": [f"text {at}" for at in range(len(labels))], "label": labels}).to_csv(file, index=False)
    return file


def test_numbers_have_an_order_of_their_own(tmp_path):
    read = read_texts(table(tmp_path, ["10", "9.0", " 2", "4.5"]), task="ordinal")
    assert read.labels == ["10", "9", "2", "4.5"]
    assert names(read) == ["2", "4.5", "9", "10"]
    assert names(read.select([0, 2])) == ["2", "4.5", "9", "10"], "a class without a text here is a step all the same"
    assert ordinal.encode(read.labels, names(read), "file") == [3, 2, 0, 1]


def test_an_order_is_taken_as_it_is_given(tmp_path):
    read = read_texts(table(tmp_path, ["ok", "bad"]), task="ordinal", label_order=["bad", "ok", "good"])
    assert (read.labels, names(read)) == (["ok", "bad"], ["bad", "ok", "good"])
    assert names(read_texts(table(tmp_path, ["1", "2.0"]), task="ordinal", label_order=["2", "1"])) == ["2", "1"]


BAD_ORDERS = {
    "none": ((), "needs the order of the classes, and 'ok' is not a number", "--label-order"),
    "a label that is not in it": (("bad", "good"), "line 2, column 'label': 'ok' is not in the order of the labels"),
    "one twice": (("bad", "ok", "bad"), "names 'bad' 2 times"),
    "an empty one": (("bad", "ok", ""), "names an empty label"),
}


@pytest.mark.parametrize("what", BAD_ORDERS)
def test_an_order_that_does_not_fit_is_refused_in_one_line(tmp_path, what):
    order, *parts = BAD_ORDERS[what]
    with pytest.raises(InputError) as error:
        read_texts(table(tmp_path, ["ok", "bad", "1"]), task="ordinal", label_order=order)
    assert all(part in str(error.value) for part in parts)
    assert "\n" not in str(error.value)


def test_an_order_for_classes_without_one_is_refused(tmp_path):
    with pytest.raises(InputError, match="an order of the labels is for --task ordinal, not single_label"):
        read_texts(table(tmp_path, ["a", "b"]), label_order=["b", "a"])


# ---- commands --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(model_folder, tmp_path_factory):
    """A file, what `deni train` printed, and the model."""
    folder = tmp_path_factory.mktemp("ordinal")
    file = folder / "texts.csv"
    pd.DataFrame(toy_rows(20), columns=["text", "label"]).to_csv(file, index=False)
    flags = ("--task", "ordinal", "--label-order", ",".join(ORDER), "--model", model_folder, "--no-progress")
    own = ("--strategy", "deni", "--members", 3, "--epochs", 3, "--dev", 0.2)
    result = run("train", file, *flags, *own, "--output", folder / "model")
    assert result.exit_code == 0, result.output
    return file, result.output, folder / "model"


def test_the_toy_labels_are_those_of_the_order():
    assert {label for _, label in toy_rows(3)} == set(ORDER)


def test_training_prints_and_stores_what_scikit_learn_measures(trained):
    file, printed, folder = trained
    info = json.loads((folder / "deni.json").read_text())
    assert (info["task"], info["labels"], info["data"]["label_order"]) == ("ordinal", list(ORDER), list(ORDER))
    result = json.loads(run("evaluate", folder, file, "--json").stdout)
    given = pd.read_csv(file)
    gold = given["label"].map(ORDER.index).to_numpy()
    chosen = np.exp(deni.load(folder).members(list(given["text"]))).mean(1).argmax(-1)
    assert result["quadratic_kappa"] == pytest.approx(cohen_kappa_score(gold, chosen, weights="quadratic"))
    assert result["mean_absolute_error"] == pytest.approx(np.abs(gold - chosen).mean())
    assert list(result["f1"]) == list(ORDER)
    for name in ordinal.metrics:
        assert f"{info['metrics'][name]:.4f}" in printed
        assert name.replace("_", " ") in printed
    assert "expected quadratic kappa" in printed
    assert (folder / "report.html").stat().st_size > 10_000


def test_predictions_are_the_most_likely_class(trained, tmp_path):
    file, _, folder = trained
    assert run("predict", folder, file, "--output", tmp_path / "out.csv").exit_code == 0
    written = pd.read_csv(tmp_path / "out.csv")
    assert list(written.columns) == ["text", "given_label", "label", "confidence", "agreement", "entropy"]
    classifier = deni.load(folder)
    mean = np.exp(classifier.members(list(written["text"]))).mean(1)
    assert list(written["label"]) == [ORDER[at] for at in mean.argmax(-1)]
    calibrated = mean ** (1 / classifier.temperature)  # it was trained with a dev split
    np.testing.assert_allclose(written["confidence"], calibrated.max(-1) / calibrated.sum(-1), atol=1e-5)


def test_a_plain_export_predicts_what_its_probabilities_say(trained, tmp_path):
    file, _, folder = trained
    (out,) = export(folder, tmp_path / "plain", "single")
    assert json.loads((out / "config.json").read_text())["problem_type"] == "single_label_classification"
    sentences = list(pd.read_csv(file)["text"][:8])
    said = pipeline("text-classification", str(out), tokenizer=str(out), device="cpu")(sentences)
    classifier = deni.load(folder, "cpu")
    population = classifier.population
    population.replace({name: value.mean(0, keepdim=True) for name, value in population.values.items()}, 1)
    assert [each["label"] for each in said] == classifier.predict(sentences)


def test_a_file_that_lacks_the_order_or_has_another_class_is_refused(trained, model_folder, tmp_path):
    file, _, folder = trained
    result = run("train", file, "--task", "ordinal", "--model", model_folder, "--output", tmp_path / "model")
    assert result.exit_code == 2
    assert "needs the order of the classes" in result.stderr.splitlines()[-1]
    other = table(tmp_path, ["login", "praise"])
    result = run("evaluate", folder, other)
    assert result.exit_code == 2
    assert "'praise' is not in the order of the labels, 'delivery', 'login', 'billing'" in result.stderr


def test_inspect_and_augment_read_ordered_labels(trained, model_folder, tmp_path):
    file = trained[0]
    flags = ("--task", "ordinal", "--label-order", ",".join(ORDER))
    result = run("inspect", file, *flags, "--model", model_folder, "--json", "-")
    found = json.loads(result.stdout)
    assert (found["task"], set(found["parts"][0]["classes"])) == ("ordinal", set(ORDER))
    assert found["parts"][0]["baseline"]["accuracy"] == pytest.approx(1 / 3)
    result = run(
        "augment", file, *flags, "--operations", "swap,delete", "--output", tmp_path / "new.csv", "--no-progress"
    )
    assert result.exit_code == 0, result.output
    assert set(pd.read_csv(tmp_path / "new.csv")["label"]) == set(ORDER)


def test_a_study_compares_strategies_by_the_kappa(trained, model_folder, tmp_path):
    file = trained[0]
    study = {
        "datasets": [{"path": str(file), "task": "ordinal", "label_order": list(ORDER)}],
        "models": [model_folder],
        "strategies": ["linear_probe", {"name": "deni", "members": 3}],
        "labelled": 18,
        "seeds": 3,
        "recipe": {"epochs": 2, "max_length": 12, "learning_rate": 0.003},
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    result = run("study", "run", tmp_path / "study.yaml", "--store", tmp_path / "study.db")
    assert result.exit_code == 0, result.output
    with Store(tmp_path / "study.db") as store:
        for row in store.results():
            outputs = store.outputs(row.key)
            mean = np.exp(outputs.log_probs.astype(float)).mean(1)
            expected = cohen_kappa_score(outputs.gold, mean.argmax(-1), weights="quadratic", labels=[0, 1, 2])
            assert row.metrics["quadratic_kappa"] == pytest.approx(expected, abs=1e-12)
            if outputs.log_probs.shape[1] > 1:
                assert row.metrics["soft_quadratic_kappa"] == pytest.approx(expected, abs=1e-12)
    result = run("report", tmp_path / "study.db", "--output", tmp_path / "report.html")
    assert result.exit_code == 0, result.output
    assert "quadratic kappa" in (tmp_path / "report.html").read_text()
    again = run("study", "run", tmp_path / "study.yaml", "--store", tmp_path / "study.db")
    assert "6 cells in 2 packs, 0 of them to train" in again.output
    study["datasets"][0]["label_order"] = list(reversed(ORDER))
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    planned = run("study", "run", tmp_path / "study.yaml", "--store", tmp_path / "study.db", "--dry-run")
    assert "6 of them to train" in planned.output, "another order is another experiment"


# ---- scikit-learn ----------------------------------------------------------------------------------------------------


def classifier(model_folder, **options):
    settings = {"strategy": "deni", "strategy_settings": {"members": 2}, "epochs": 2, "max_length": 12}
    return DeniClassifier(model_folder, task="ordinal", **settings, **options)


def test_the_estimator_takes_numbers_and_an_order(model_folder):
    sentences, labels = zip(*toy_rows(8), strict=True)
    words = classifier(model_folder, label_order=ORDER).fit(list(sentences), list(labels))
    assert list(words.classes_) == list(ORDER)
    assert words.fitted_.labels == ["0", "1", "2"]
    probabilities = words.predict_proba(list(sentences))
    assert list(words.predict(list(sentences))) == [ORDER[at] for at in probabilities.argmax(1)]
    stars = classifier(model_folder).fit(list(sentences), [10 * (ORDER.index(label) + 1) for label in labels])
    assert list(stars.classes_) == [10, 20, 30]
    np.testing.assert_array_equal(stars.predict_proba(list(sentences)), probabilities)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs the order of the classes of y"),
        ({"label_order": ["login", "billing"]}, r"y\[0\] is .* is not in label_order"),
        ({"label_order": [*ORDER, "login"]}, "names a class twice"),
    ],
)
def test_the_estimator_refuses_an_order_that_does_not_fit(model_folder, options, message):
    sentences, labels = zip(*sorted(toy_rows(4), key=lambda row: row[1] != "delivery"), strict=True)
    with pytest.raises(InputError, match=message):
        classifier(model_folder, **options).fit(list(sentences), list(labels))
    with pytest.raises(InputError, match="gives a text not exactly one class"):
        DeniClassifier(model_folder, task="regression").fit(list(sentences), [1.0] * len(sentences))


# ---- a task is one file ----------------------------------------------------------------------------------------------


@pytest.fixture
def shouting():
    """A task of the user's: one label a text, in capitals, with another loss and metric."""

    @register
    class Shouting(type(TASKS["single_label"])):
        name = "shouting"
        metrics = ("hits",)
        headline = compared = best = "hits"
        model_is = "A classifier that shouts"

        def parse(self, column):
            return [label.upper() for label in super().parse(column)]

        def member_losses(self, logits, labels, members, weight=None):
            return 2 * super().member_losses(logits, labels, members)

        def scores(self, gold, votes, classes=()):
            return {"hits": float((np.asarray(gold) == votes.argmax(-1)).mean())}

    yield TASKS["shouting"]
    del TASKS["shouting"]


def test_a_task_of_the_users_goes_the_whole_way(shouting, tickets, model_folder, tmp_path):
    plan = Recipe.of(None, "deni", None, {"members": 2}, task="shouting", model=model_folder, epochs=2)
    done = train_file(tickets, recipe=plan, output=tmp_path / "model", dev="0.2", progress=False)
    gold, votes = np.asarray(done.evaluation.gold), done.evaluation.votes
    assert done.metrics["hits"] == (gold == votes.argmax(-1)).mean()
    assert 0 < evaluate_file(tmp_path / "model", tickets)["hits"] <= 1
    classifier = deni.load(tmp_path / "model")
    assert classifier.task == "shouting"
    assert set(classifier.labels) == {"BILLING", "DELIVERY", "LOGIN"}
    assert classifier("where is my parcel")[0]["label"] in classifier.labels
    assert "A classifier that shouts fine-tuned" in (tmp_path / "model" / "README.md").read_text()


def test_an_artifact_of_a_task_that_is_not_there_says_so(trained, tmp_path):
    shutil.copytree(trained[2], tmp_path / "model")
    info = json.loads((tmp_path / "model" / "deni.json").read_text())
    (tmp_path / "model" / "deni.json").write_text(json.dumps({**info, "task": "singing"}))
    with pytest.raises(ArtifactError, match=r"deni\.json: task 'singing' is not there: import what registers it"):
        deni.load(tmp_path / "model")


def test_no_other_file_names_this_task():
    source = Path(deni.__file__).parent
    named = [file.relative_to(source).as_posix() for file in source.rglob("*") if file.suffix in (".py", ".html")]
    assert [file for file in named if "ordinal" in (source / file).read_text(encoding="utf-8").lower()] == [
        "tasks/ordinal.py"
    ]


def test_no_file_outside_asks_for_a_task_by_name():
    source = Path(deni.__file__).parent
    named = "|".join(TASKS)
    asks = re.compile(rf"""(?:==|!=|\bin|\bnot in) \(?["'](?:{named})["']|TASKS\[["']""")
    files = [file for file in source.rglob("*.py") if "tasks" not in file.relative_to(source).parts]
    assert [str(file) for file in files if asks.search(file.read_text(encoding="utf-8"))] == []


def test_tasks_are_found_and_unknown_ones_named():
    assert next(iter(TASKS)) == "single_label"
    assert all(isinstance(task, Task) for task in TASKS.values())
    with pytest.raises(
        ValueError, match="unknown task 'singing': choose from single_label, generation, multi_label, ordinal"
    ):
        find_task("singing")


def test_a_model_of_classes_is_taken_for_one_without_an_order():
    assert task_of(seeded(num_labels=4)).name == "single_label"
    assert task_of(seeded(num_labels=1)).name == "regression"
    assert task_of(seeded(num_labels=4), torch.zeros(2, 4)).name == "multi_label"
    assert task_of(seeded(num_labels=4, problem_type="multi_label_classification")).name == "multi_label"


def test_a_class_of_one_text_warns(tmp_path):
    read = read_texts(table(tmp_path, ["1"] * 5 + ["2"] * 5 + ["3"]), task="ordinal")
    with pytest.warns(InputWarning, match="only one text has the label '3'"):
        check_trainable(read)
