"""Several dropout masks in front of the output layer, against the same in plain PyTorch."""

import random

import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset

from deni.errors import SettingError
from deni.models.pooling import Pooling, attach
from deni.randomness import global_generators
from deni.strategies import DelayedEnsemble, LinearProbe, MultiDropout, make_strategy
from deni.tuning import IA3, Lora, Prompt
from tests.helpers.plain import NO_DROPOUT, bert, distance, fine_tune, make, rows, trained, values
from tests.helpers.tiny import make_tiny


def felt(values):
    """Without the bias of keys: its gradient is rounding alone, of which Adam makes steps."""
    return {name: value for name, value in values.items() if "key.bias" not in name}


def sampled(count, features=lambda model, ids: model.bert(ids).pooler_output):
    """The logits under so many masks, one after another."""

    def forward(model, ids, step):
        given = features(model, ids)
        return [model.classifier(model.dropout(given)) for _ in range(count)]

    return forward


def mean_loss(samples, labels):
    return sum(F.cross_entropy(each.flatten(0, -2), labels.flatten()) for each in samples) / len(samples)


@pytest.mark.parametrize("count", [2, 5])
def test_it_is_the_mean_loss_of_several_masks(tmp_path, count):
    trainer = trained(tmp_path, MultiDropout(dropout_samples=count))
    expected = fine_tune(bert(), forward=sampled(count), objective=mean_loss)
    assert distance(felt(expected), felt(trainer.population.member(0))) < 1e-9
    assert distance(felt(expected), felt(trained(tmp_path).population.member(0))) > 1e-3
    assert trainer.member_steps == 20


def test_roberta_has_a_second_dropout_of_its_head(tmp_path):
    """The layer in between has its mask once; the output layer has several."""

    def forward(model, ids, step):
        head = model.classifier
        given = torch.tanh(head.dense(head.dropout(model.roberta(ids)[0][:, 0])))
        return [head.out_proj(head.dropout(given)) for _ in range(3)]

    trainer = trained(tmp_path, MultiDropout(dropout_samples=3), model=make_tiny("roberta"))
    expected = fine_tune(make_tiny("roberta"), forward=forward, objective=mean_loss)
    assert distance(felt(expected), felt(trainer.population.member(0))) < 1e-9


def test_with_another_pooling_it_is_the_dropout_behind_it(tmp_path):
    model = attach(bert(), Pooling("mean"))
    trainer = trained(tmp_path, MultiDropout(dropout_samples=3), model=model)
    forward = sampled(3, lambda model, ids: model.bert(ids).last_hidden_state.mean(1))
    expected = fine_tune(bert(), forward=forward, objective=mean_loss)
    mine = felt(trainer.population.member(0))
    assert distance(*({n: v for n, v in each.items() if "pooler" not in n} for each in (felt(expected), mine))) < 1e-9


def test_tokens(tmp_path):
    data = [{**row, "labels": [-100, *[each % 3 for each in row["input_ids"][1:]]]} for row in rows()]
    trainer = trained(tmp_path, MultiDropout(dropout_samples=3), model=make_tiny("bert", task="Token"), train=data)
    forward = sampled(3, lambda model, ids: model.bert(ids).last_hidden_state)
    expected = fine_tune(make_tiny("bert", task="Token"), data=data, forward=forward, objective=mean_loss)
    assert distance(felt(expected), felt(trainer.population.member(0))) < 1e-9


@pytest.mark.parametrize("kind", ["several labels", "numbers"])
def test_other_kinds_of_labels(tmp_path, kind):
    if kind == "numbers":
        data, size = [{**row, "labels": row["input_ids"][0] / 10} for row in rows()], {"num_labels": 1}
    else:
        data, size = [{**row, "labels": [float(i % 2) for i in row["input_ids"][:3]]} for row in rows()], {}

    def objective(samples, labels):
        if kind == "numbers":
            return sum(F.mse_loss(each[:, 0], labels.double()) for each in samples) / len(samples)
        return sum(F.binary_cross_entropy_with_logits(each, labels) for each in samples) / len(samples)

    problem = {"problem_type": "multi_label_classification"} if kind == "several labels" else {}
    trainer = trained(tmp_path, MultiDropout(dropout_samples=3), model=bert(**size, **problem), train=data)
    expected = fine_tune(bert(**size), data=data, forward=sampled(3), objective=objective)
    assert distance(felt(expected), felt(trainer.population.member(0))) < 1e-6  # labels are float32


@pytest.mark.parametrize(
    "name", ["albert", "distilbert", "electra", "mpnet", "deberta-v2", "modernbert", "xlm-roberta"]
)
def test_every_encoder_has_it_in_both_engines(tmp_path, name):
    """Two of them cannot be stacked, which the trainer finds out."""
    strategy = MultiDropout(dropout_samples=3) + DelayedEnsemble(members=2, ensemble_from=0.5)

    def loaded():
        model = make_tiny(name)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout) and not module.p:
                module.p = 0.2  # ModernBERT has none by default
        return model

    options = {"model_init": loaded, "train": rows(16)}
    loop, stacked = (trained(tmp_path, strategy, engine=engine, **options) for engine in ("loop", "auto"))
    assert stacked.population.engine_name == ("loop" if name in ("mpnet", "deberta-v2") else "stacked")
    assert distance(felt(values(loop)), felt(values(stacked))) < 1e-8


@pytest.mark.parametrize("tuning", [Lora(lora_r=4), IA3(), Prompt(prompt_tokens=3)])
def test_loop_and_stacked_are_the_same_with_every_tuning(tmp_path, tuning):
    def loaded():
        with global_generators(3):
            return tuning.apply(bert())

    strategy = LinearProbe(probe_c=0.1) + MultiDropout(dropout_samples=3) + DelayedEnsemble(3, ensemble_from=0.5)
    options = {"model_init": loaded, "args": {"num_train_epochs": 1}}
    loop, stacked = (trained(tmp_path, strategy, engine=engine, **options) for engine in ("loop", "stacked"))
    assert [each.population.engine_name for each in (loop, stacked)] == ["loop", "stacked"]
    assert distance(felt(values(loop)), felt(values(stacked))) < 1e-9


@pytest.mark.parametrize("task", ["Sequence", "Token"])
def test_a_pack_of_texts_of_different_lengths_is_its_runs_alone(tmp_path, task):
    def ragged(seed):
        draw = random.Random(seed)
        ids = [[draw.randrange(5, 60) for _ in range(draw.randrange(3, 12))] for _ in range(20)]
        labels = [[each % 3 for each in row] if task == "Token" else row[2] % 3 for row in ids]
        return Dataset.from_dict({"input_ids": ids, "labels": labels})

    def pad(given):
        longest = max(len(row["input_ids"]) for row in given)

        def padded(key, fill):
            return torch.tensor([row[key] + [fill] * (longest - len(row[key])) for row in given])

        labels = padded("labels", -100) if task == "Token" else torch.tensor([row["labels"] for row in given])
        ids = padded("input_ids", 0)
        return {"input_ids": ids, "attention_mask": ids != 0, "labels": labels}

    data = [ragged(1), ragged(2)]
    options = {"model_init": lambda: make_tiny("bert", task=task), "data_collator": pad}
    strategy = MultiDropout(dropout_samples=3)
    pack = trained(tmp_path, strategy, seeds=[5, 6], train=data, **options)
    for run, seed in enumerate((5, 6)):
        alone = trained(tmp_path, strategy, seeds=[seed], train=data[run], **options)
        assert distance(felt(pack.population.member(run)), felt(alone.population.member(0))) < 1e-9


def test_a_loss_function_of_the_user_is_called_for_each_mask(tmp_path):
    def own(outputs, labels, num_items_in_batch=None):
        return F.cross_entropy(outputs.logits, labels)

    one, other = (
        trained(tmp_path, MultiDropout(dropout_samples=3), **options).population.member(0)
        for options in ({}, {"compute_loss_func": own})
    )
    assert distance(felt(one), felt(other)) < 1e-12


@pytest.mark.parametrize(
    ("make_model", "why"),
    [
        (lambda: bert(**NO_DROPOUT), "its rate is 0: raise it"),
        (lambda: make_tiny("llama"), "this model has none"),
    ],
)
def test_without_dropout_it_is_refused_before_the_first_step(tmp_path, make_model, why):
    trainer = make(tmp_path, MultiDropout(), model=make_model())
    with pytest.raises(SettingError, match=f"multi_dropout needs dropout in front of the output layer, and {why}"):
        trainer.train()
    assert trainer.state.global_step == 0


def test_mixout_which_switches_it_off_is_refused():
    with pytest.raises(SettingError, match="switches the dropout in front of it off"):
        make_strategy("mixout+multi_dropout")


def test_a_bad_number_is_refused():
    with pytest.raises(SettingError, match="dropout_samples must be at least 1, not 0"):
        MultiDropout(0)
