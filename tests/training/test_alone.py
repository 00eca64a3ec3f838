"""Models that only Trainer's own code can compute: language models, modules of the user's own, several outputs."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForQuestionAnswering

from deni import SettingError
from deni.randomness import global_generators
from deni.strategies import DelayedEnsemble, Ensemble
from deni.training.trainer import PopulationTrainer
from tests.helpers.references import Ours, Reference, apart, collate, plain, rows, trained, without_dropout
from tests.helpers.tiny import make_tiny

HEADS = {
    "gpt2": ("gpt2", AutoModelForCausalLM),
    "llama": ("llama", AutoModelForCausalLM),
    "masked": ("bert", AutoModelForMaskedLM),
    "answers": ("bert", AutoModelForQuestionAnswering),
}


def headed(name):
    architecture, auto = HEADS[name]
    config = make_tiny(architecture, num_labels=2).config  # an answer has two ends
    with global_generators(0):
        return without_dropout(auto.from_config(config).double())


def answered(features):
    batch = collate(features)
    first = batch.pop("labels")
    return {**batch, "start_positions": first, "end_positions": first + 1}


def with_ids(features):
    batch = collate(features)
    return {**batch, "labels": batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)}


def pair(folder, model, *, collator=collate, **options):
    """The same training by transformers and by ours."""
    theirs = trained(folder, Reference, copy.deepcopy(model), collator=collator, **options)
    return theirs, trained(folder, Ours, copy.deepcopy(model), collator=collator, **options)


def same_predictions(theirs, ours, collator=None):
    """Whether two trainers predict the same arrays and labels."""
    found = [trainer.predict(rows(8)) for trainer in (theirs, ours)]
    for expected, got in zip(*([each.predictions, each.label_ids] for each in found), strict=True):
        assert isinstance(got, tuple) == isinstance(expected, tuple)
        several = isinstance(expected, tuple)
        for one, other in zip(expected if several else [expected], got if several else [got], strict=True):
            assert np.array_equal(one, other)


@pytest.mark.parametrize("name", HEADS)
def test_a_model_without_a_vote_is_trained_and_predicts_as_by_transformers(tmp_path, name):
    model = headed(name)
    if name == "answers":  # "labels", of which the collator makes others, are no column of this model
        options = {"collator": answered, "args": {"remove_unused_columns": False}}
    else:
        options = {"collator": with_ids}
    theirs, ours = pair(tmp_path, model, **options)
    assert apart(ours, theirs, model) == 0
    assert ours.evaluate()["eval_loss"] == theirs.evaluate()["eval_loss"]
    same_predictions(theirs, ours)


@pytest.mark.parametrize("name", ["gpt2", "masked"])
@pytest.mark.parametrize("options", [{}, {"args": {"label_smoothing_factor": 0.1}}], ids=["plain", "smoothing"])
def test_a_batch_of_a_language_model_in_parts_is_one_batch(tmp_path, name, options):
    model, args = headed(name), options.get("args", {})
    whole = {**args, "per_device_train_batch_size": 8}
    theirs = trained(tmp_path, Reference, copy.deepcopy(model), collator=with_ids, args=whole)
    parts = {**args, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    ours = trained(tmp_path, Ours, copy.deepcopy(model), collator=with_ids, args=parts)
    assert apart(ours, theirs, model) < 1e-5  # transformers computes these losses in float32


def test_members_of_a_language_model_have_a_mean_loss_but_no_vote(tmp_path):
    ours = trained(
        tmp_path, Ours, headed("llama"), collator=with_ids, strategy=DelayedEnsemble(members=2, variance=0.1)
    )
    held_out = rows(8, seed=2)
    alone = [Reference(model, ours.args, data_collator=with_ids, eval_dataset=held_out) for model in ours.members]
    expected = [trainer.evaluate()["eval_loss"] for trainer in alone]
    assert expected[0] != expected[1]
    assert ours.evaluate()["eval_loss"] == pytest.approx(np.mean(expected), rel=1e-5)
    with pytest.raises(SettingError, match="LlamaForCausalLM have no vote"):
        ours.predict(rows(8))


def test_metrics_of_a_vote_that_there_is_not_are_refused_before_the_first_step(tmp_path):
    options = {"compute_metrics": len, "strategy": DelayedEnsemble(members=2)}
    with pytest.raises(SettingError, match="LlamaForCausalLM have no vote"):
        trained(tmp_path, Ours, headed("llama"), collator=with_ids, **options)


# ---- modules of the user's own ---------------------------------------------------------------------------------------


class Named(nn.Module):
    """Without a config, an output that is not called logits."""

    def __init__(self):
        super().__init__()
        with global_generators(0):
            self.table, self.out = nn.Embedding(60, 8).double(), nn.Linear(8, 3).double()

    def scores(self, input_ids, attention_mask):
        mask = attention_mask.unsqueeze(-1)
        return self.out((self.table(input_ids) * mask).sum(1) / mask.sum(1))

    def forward(self, input_ids=None, attention_mask=None, labels=None):
        scores = self.scores(input_ids, attention_mask)
        return {"scores": scores} if labels is None else {"loss": F.cross_entropy(scores, labels), "scores": scores}


class Tuples(Named):
    def forward(self, input_ids=None, attention_mask=None, labels=None):
        return tuple(super().forward(input_ids, attention_mask, labels).values())


class Needs(Named):
    def forward(self, input_ids, attention_mask, labels):
        return super().forward(input_ids, attention_mask, labels)


@pytest.mark.parametrize("cls", [Named, Tuples, Needs])
def test_a_module_of_the_users_own_is_trained_as_by_transformers(tmp_path, cls):
    theirs, ours = pair(tmp_path, cls())
    assert apart(ours, theirs, cls()) == 0
    assert ours.evaluate()["eval_loss"] == theirs.evaluate()["eval_loss"]
    expected = torch.tensor(theirs.predict(rows(8)).predictions).log_softmax(-1).numpy()
    assert np.array_equal(ours.predict(rows(8)).predictions, expected)


@pytest.mark.parametrize("cls", [Named, Tuples, Needs])
@pytest.mark.parametrize(
    "strategy", [DelayedEnsemble(members=2, variance=0.2), Ensemble(members=2)], ids=["de", "runs"]
)
def test_members_of_a_module_of_the_users_own_vote(tmp_path, cls, strategy):
    ours = trained(tmp_path, PopulationTrainer, None, model_init=cls, strategy=strategy)
    batch = collate(rows(8, seed=2))
    likely = []
    for model in ours.members:
        with torch.no_grad():
            likely.append(model.scores(batch["input_ids"], batch["attention_mask"]).softmax(-1).numpy())
    vote = ours.predict(rows(8, seed=2)).predictions
    assert np.allclose(np.exp(vote), np.mean(likely, axis=0), atol=1e-12)
    losses = [-np.log(each[range(8), batch["labels"].numpy()]).mean() for each in likely]
    assert ours.evaluate()["eval_loss"] == pytest.approx(np.mean(losses), rel=1e-9)


class WithoutLoss(Named):
    def forward(self, input_ids=None, attention_mask=None, labels=None):
        return {"logits": self.scores(input_ids, attention_mask)}


def test_a_module_that_returns_no_loss_has_that_of_its_task(tmp_path):
    theirs = trained(tmp_path, Reference, Named())
    ours = trained(tmp_path, Ours, WithoutLoss())
    assert apart(ours, theirs, Named()) < 1e-12
    assert ours.evaluate()["eval_loss"] == pytest.approx(theirs.evaluate()["eval_loss"], rel=1e-12)


# ---- several outputs, several columns of labels ----------------------------------------------------------------------


class TwoLabels(Named):
    def forward(self, input_ids=None, attention_mask=None, labels=None, labels_2=None):
        scores = self.scores(input_ids, attention_mask)
        outputs = {"scores": scores, "doubled": 2 * scores}
        if labels is None:
            return outputs
        return {"loss": F.cross_entropy(scores, labels) + F.cross_entropy(2 * scores, labels_2), **outputs}


def twice(features):
    batch = collate(features)
    return {**batch, "labels_2": batch["labels"].flip(0)}


def test_all_columns_of_labels_and_all_outputs_are_predicted(tmp_path):
    theirs, ours = pair(tmp_path, TwoLabels(), collator=twice)
    assert apart(ours, theirs, TwoLabels()) == 0
    assert ours.evaluate()["eval_loss"] == theirs.evaluate()["eval_loss"]
    expected, got = theirs.predict(rows(8)), ours.predict(rows(8))
    assert np.array_equal(got.predictions[1], expected.predictions[1])
    assert len(expected.label_ids) == 2
    assert all(map(np.array_equal, got.label_ids, expected.label_ids))


def test_other_outputs_of_a_standard_model_are_predicted_as_by_transformers(tmp_path):
    model = plain()
    model.config.output_hidden_states = True
    theirs, ours = pair(tmp_path, model)
    same = [rows(1)[0]] * 4  # of one length: Trainer pads no hidden states
    expected, got = theirs.predict(same).predictions, ours.predict(same).predictions
    assert np.allclose(got[0], torch.tensor(expected[0]).log_softmax(-1).numpy(), atol=1e-12)
    assert len(got[1]) == len(expected[1]) == 3
    assert all(np.allclose(one, other, atol=1e-12) for one, other in zip(got[1], expected[1], strict=True))


def test_other_outputs_have_an_axis_of_members(tmp_path):
    model = plain()
    model.config.output_hidden_states = True
    ours = trained(tmp_path, Ours, model, strategy=DelayedEnsemble(members=2, variance=0.2, scope="trainable"))
    same = [rows(1)[0]] * 4
    votes, hidden = ours.predict(same).predictions
    assert ours.predict_members(same).shape == (4, 2, 3)
    for at, member in enumerate(ours.members):
        with torch.no_grad():
            expected = member(**{key: each for key, each in collate(same).items() if key != "labels"})
        assert np.allclose(hidden[-1][:, :, at], expected.hidden_states[-1].numpy(), atol=1e-9)  # (N, T, M, D)
    assert votes.shape == (4, 3)
