"""Regression and several labels a text: trained, merged and voted as plain PyTorch and NumPy do it."""

import copy

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoTokenizer

import deni
from deni.errors import InputError
from deni.randomness import Sources
from deni.strategies import DENI, Ensemble
from deni.tasks import TASKS
from tests.helpers.tiny import toy_rows
from tests.helpers.trainers import make, rows, seeded

STEPS, BATCH, RATE, SEED = 40, 4, 1e-3, 42
SCHEDULE = [(12, 1), (4, 3), (4, 1), (4, 3), (12, 1), (4, 3)]
BOTH = ["regression", "multi_label"]
ENGINES = ["stacked", "loop"]


def model(task="regression"):
    outputs = {"regression": 1, "multi_label": 3}[task]
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return seeded(num_labels=outputs, problem_type=TASKS[task].problem_type, **still)


def texts(task, count=40, seed=1):
    """A number, or three labels, that can be learned from the second token."""
    ids = [row["input_ids"] for row in rows(count, seed)]
    labels = [each[1] / 60 if task == "regression" else [float(each[1] % k == 0) for k in (2, 3, 5)] for each in ids]
    return Dataset.from_dict({"input_ids": ids, "labels": labels})


def trained(folder, task, engine="stacked", strategy=None, **options):
    strategy = strategy or DENI(members=3, variance=0.15)
    trainer = make(folder, strategy, model=model(task), train=texts(task), engine=engine, **options)
    trainer.train()
    return trainer


class Plain:
    """One model that computes its own loss."""

    def __init__(self, task):
        self.model, self.data = model(task).train(), texts(task)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=RATE, weight_decay=0.0)

    def train(self, first, stop):
        for step in range(first, stop):
            epoch, at = divmod(step * BATCH, len(self.data))
            order = torch.randperm(len(self.data), generator=Sources(SEED).derived("sample_order", epoch)).tolist()
            batch = self.data[order[at : at + BATCH]]
            labels = torch.tensor(batch["labels"], dtype=torch.float32).double()
            self.model(input_ids=torch.tensor(batch["input_ids"]), labels=labels).loss.backward()
            self.optimizer.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
            self.optimizer.step()
            self.optimizer.zero_grad()

    def copy(self, variance, generator):
        other = copy.copy(self)
        other.model = copy.deepcopy(self.model)
        other.optimizer = torch.optim.AdamW(other.model.parameters(), lr=RATE, weight_decay=0.0)
        other.optimizer.load_state_dict(copy.deepcopy(self.optimizer.state_dict()))
        with torch.no_grad():
            for weight in (other.model.classifier.weight, other.model.classifier.bias):
                eps = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
                if weight.numel() > 1:
                    weight += variance**0.5 * float(weight.float().std()) * eps
        return other


def plain_deni(task):
    """The members of DENI after 40 steps."""
    parent, noise, step = Plain(task), Sources(SEED)["noise"], 0
    for length, members in SCHEDULE:
        variance = 0.15 if step == 36 else 0.15 / max(step, 1)
        each = [parent, *[parent.copy(variance, noise) for _ in range(1, members)]]
        for one in each:
            one.train(step, step + length)
        step += length
        if members > 1 and step < STEPS:
            with torch.no_grad():
                for name, weight in parent.model.named_parameters():
                    weight.copy_(torch.stack([one.model.get_parameter(name) for one in each]).mean(0))
    return [one.model.eval() for one in each]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("task", BOTH)
def test_forks_merges_and_votes_are_those_of_plain_pytorch(tmp_path, task, engine):
    trainer = trained(tmp_path, task, engine)
    assert trainer.population.engine_name == engine
    assert str(trainer.schedule) == " ".join(f"{members}x{length}" for length, members in SCHEDULE)
    held_out = texts(task, 10, seed=7)
    ids = torch.tensor(held_out["input_ids"])
    said = [one(ids).logits.detach().numpy() for one in plain_deni(task)]
    members = np.stack(said, 1)  # (N, M, C)
    assert np.abs(members[:, 0] - members[:, 1]).max() > 1e-4
    np.testing.assert_allclose(trainer.predict_members(held_out), members, atol=1e-9)
    if task == "regression":
        expected = members.mean(1)
        loss = np.mean((expected[:, 0] - np.float32(held_out["labels"])) ** 2)
    else:
        share = (1 / (1 + np.exp(-members))).mean(1)
        gold = np.array(held_out["labels"])
        expected = np.log(share / (1 - share))
        loss = -np.mean(gold * np.log(share) + (1 - gold) * np.log(1 - share))
    output = trainer.predict(held_out)
    np.testing.assert_allclose(output.predictions, expected, atol=1e-8)
    assert output.metrics["test_loss"] == pytest.approx(loss, abs=1e-7)


@pytest.mark.parametrize("task", BOTH)
@pytest.mark.parametrize("combine", ["hard", "parent"])
def test_other_votes_are_the_median_the_majority_and_the_parent(tmp_path, task, combine):
    trainer = trained(tmp_path, task, strategy=DENI(members=4, combine=combine))
    held_out = texts(task, 10, seed=7)
    members, output = trainer.predict_members(held_out), trainer.predict(held_out)
    if combine == "parent":
        np.testing.assert_array_equal(output.predictions, members[:, 0])
    elif task == "regression":
        np.testing.assert_allclose(output.predictions, np.median(members, 1), rtol=1e-12)
    else:
        majority = (members > 0).sum(1) > 2
        np.testing.assert_array_equal(output.predictions > 0, majority)
    assert not np.isnan(output.metrics["test_loss"])


@pytest.mark.parametrize("task", BOTH)
def test_one_member_says_what_transformers_says(tmp_path, task):
    from deni.strategies import Default

    trainer = trained(tmp_path, task, strategy=Default())
    plain = Plain(task)
    plain.train(0, STEPS)
    held_out = texts(task, 6, seed=7)
    with torch.no_grad():
        expected = plain.model.eval()(torch.tensor(held_out["input_ids"])).logits.numpy()
    np.testing.assert_allclose(trainer.predict(held_out).predictions, expected, atol=1e-9)


@pytest.mark.parametrize("task", BOTH)
def test_an_ensemble_and_a_pack_vote_for_each_seed(tmp_path, task):
    made = {"model_init": lambda: model(task), "train": texts(task), "seeds": [5, 6]}
    pack = make(tmp_path, Ensemble(members=2), **made)
    pack.train()
    held_out = texts(task, 6, seed=7)
    output, members = pack.predict(held_out), pack.predict_members(held_out)
    assert members.shape[1] == 4
    for seed in range(2):
        own = members[:, 2 * seed : 2 * seed + 2]
        share = (1 / (1 + np.exp(-own))).mean(1)
        expected = own.mean(1) if task == "regression" else np.log(share / (1 - share))
        np.testing.assert_allclose(output.predictions[:, seed], expected, atol=1e-9)


@pytest.mark.parametrize("combine", ["soft", "hard"])
@pytest.mark.parametrize("task", BOTH)
def test_forks_are_compared_by_what_members_choose(tmp_path, task, combine):
    held_out = texts(task, 8, seed=7)
    trainer = trained(tmp_path, task, strategy=DENI(members=3, combine=combine), eval_dataset=held_out)
    record = trainer.diagnostics.records[-1]
    members = trainer.predict_members(held_out)
    if task == "regression":
        assert record.end.disagreement is None
        losses = ((members[:, :, 0] - np.float32(held_out["labels"])[:, None]) ** 2).mean(0)
        assert "disagreed" not in trainer.diagnostics.story()
    else:
        chosen, gold = members > 0, np.array(held_out["labels"])[:, None]
        pairs = [(0, 1), (0, 2), (1, 2)]
        expected = np.mean([np.mean(chosen[:, a] != chosen[:, b]) for a, b in pairs])
        assert record.end.disagreement == pytest.approx(expected, abs=1e-12)
        losses = (np.logaddexp(0, members) - gold * members).mean((0, 2))
        assert "of the labels of 8 evaluation texts" in trainer.diagnostics.story()
    assert record.end.parent_loss == pytest.approx(losses[0], abs=1e-6)
    assert record.end.copies_loss == pytest.approx(losses[1:].mean(), abs=1e-6)


def test_what_labels_show_of_the_problem_is_remembered(tmp_path):
    shown = model("multi_label")
    shown.config.problem_type = None
    trainer = make(tmp_path, DENI(members=2), model=shown, train=texts("multi_label"))
    trainer.train()
    assert trainer.population.config.problem_type == "multi_label_classification"
    alone = trainer.predict(texts("multi_label", 5, seed=7).remove_columns("labels")).predictions
    np.testing.assert_array_equal(alone, trainer.predict(texts("multi_label", 5, seed=7)).predictions)


@pytest.mark.parametrize(("task", "outputs"), [("regression", 1), ("regression", 3), ("multi_label", 3)])
def test_the_loss_of_each_member_is_that_of_transformers(task, outputs):
    one = seeded(num_labels=outputs, problem_type=TASKS[task].problem_type).eval()
    ids = torch.tensor([row["input_ids"] for row in rows(12)])
    generator = torch.Generator().manual_seed(0)
    labels = torch.rand(12, outputs, generator=generator, dtype=torch.float64)
    labels = labels.round() if task == "multi_label" else labels.squeeze(-1)
    logits = one(ids).logits
    losses = TASKS[task].member_losses(logits, labels, 3)
    for member, at in enumerate(range(0, 12, 4)):
        theirs = one(ids[at : at + 4], labels=labels[at : at + 4]).loss
        torch.testing.assert_close(losses[member], theirs, rtol=1e-12, atol=1e-14)
    whole = TASKS[task].member_losses(logits, labels, 1)
    (ours,) = torch.autograd.grad(whole.sum(), one.classifier.weight, retain_graph=True)
    (theirs,) = torch.autograd.grad(one(ids, labels=labels).loss, one.classifier.weight)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("combine", ["soft", "hard"])
@pytest.mark.parametrize("task", BOTH)
def test_a_saved_model_says_what_the_trainer_says(tmp_path, model_folder, task, combine):
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    size = {"num_labels": {"regression": 1, "multi_label": 3}[task], "vocab_size": len(tokenizer)}
    sentences = [text for text, _ in toy_rows(7)]
    data = tokenize_with(tokenizer, sentences, texts(task, len(sentences))["labels"])
    options = {"train": data, "processing_class": tokenizer}
    trainer = make(
        tmp_path,
        DENI(members=3, combine=combine),
        model=seeded(problem_type=TASKS[task].problem_type, **size),
        **options,
    )
    trainer.train()
    trainer.save_model(str(tmp_path / "model"))
    classifier = deni.load(tmp_path / "model", "cpu")
    assert classifier.task == task
    card = (tmp_path / "model" / "README.md").read_text()
    what, keys = {
        "regression": ("A model that gives a text a number", "value, standard_deviation"),
        "multi_label": ("A classifier that gives a text none, one or several labels", "labels, probabilities"),
    }[task]
    assert what in card
    assert f"a dictionary for each text: {keys}" in card
    assert list(classifier(sentences[0])[0]) == keys.split(", ")
    assert "pipeline_tag: text-classification" in card
    assert "It was not measured" in card
    members, votes = trainer.predict_members(data), trainer.predict(data).predictions
    np.testing.assert_allclose(classifier.members(sentences), members, atol=1e-5)
    said = classifier(sentences)
    if task == "regression":
        assert [each["value"] for each in said] == pytest.approx(votes[:, 0].tolist(), abs=1e-5)
        assert [each["standard_deviation"] for each in said] == pytest.approx(members[:, :, 0].std(1), abs=1e-5)
        assert classifier.predict(sentences) == [each["value"] for each in said]
    else:
        names = ["LABEL_0", "LABEL_1", "LABEL_2"]
        probabilities = [[each["probabilities"][name] for name in names] for each in said]
        np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-votes)), atol=1e-5)
        expected = [[name for name, odds in zip(names, row, strict=True) if odds > 0] for row in votes]
        assert classifier.predict(sentences) == expected
    with pytest.raises(InputError, match=f"a model of {task} has no log probabilities"):
        classifier.predict_log_probabilities(sentences)


def tokenize_with(tokenizer, sentences, labels):
    return Dataset.from_dict({**tokenizer(sentences), "labels": labels})
