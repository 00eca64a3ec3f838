"""The supervised contrastive loss, against the formula written out and against a plain loop in PyTorch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from deni.errors import SettingError
from deni.models.pairs import encode_separately, parts_of
from deni.models.pooling import Pooling, attach
from deni.randomness import global_generators
from deni.strategies import BestPractices, Contrastive, DelayedEnsemble, Ensemble, LinearProbe, Refit, make_strategy
from deni.tasks.losses import Soft, supervised_contrast
from deni.training.trainer import PopulationTrainer
from deni.tuning import IA3, Lora, Prompt
from tests.helpers.plain import bert, distance, fine_tune, make, rows, same, tensors, trained, values
from tests.helpers.tiny import make_tiny

HEAD = ("classifier.weight", "classifier.bias")
WEIGHT = torch.tensor([0.2, 1.0, 5.0], dtype=torch.float64)


def felt(values):
    """Without the bias of keys: its gradient is rounding alone, of which Adam makes steps."""
    return {name: value for name, value in values.items() if "key.bias" not in name}


def encoder(values):
    return {name: value for name, value in felt(values).items() if name not in HEAD}


def pooled(model, ids, step=0):
    return model.dropout(model.bert(ids).pooler_output)


def written_out(features, labels, temperature, weight=None):
    """L_out of Khosla et al. 2020, row by row, for one model."""
    total, counts = 0.0, 0.0
    for i in range(len(labels)):
        others = [a for a in range(len(labels)) if a != i]
        alike = [p for p in others if labels[p] == labels[i]]
        if not alike:
            continue
        cosine = {a: F.cosine_similarity(features[i], features[a], dim=0) / temperature for a in others}
        partition = sum(torch.exp(each) for each in cosine.values())
        count = 1.0 if weight is None else float(weight[labels[i]])
        total = total - count / len(alike) * sum(torch.log(torch.exp(cosine[p]) / partition) for p in alike)
        counts += count
    return total / counts if counts else 0 * features.sum()


@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_it_is_the_formula_in_value_and_gradient(temperature, weight):
    torch.manual_seed(0)
    features = torch.randn(2 * 6, 5, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, 0, 2, 1, 0, 2, 2, 2, 0, 1, 1])  # class 2 has one row in the first member
    losses = supervised_contrast(features, labels, 2, temperature, weight)
    expected = [written_out(features[at], labels[at], temperature, weight) for at in (slice(0, 6), slice(6, 12))]
    assert torch.allclose(losses, torch.stack(expected), rtol=0, atol=1e-12)
    (mine,), (theirs,) = (torch.autograd.grad(sum(each), features) for each in (losses, expected))
    assert torch.allclose(mine, theirs, rtol=0, atol=1e-12)


def test_soft_targets_weigh_pairs_by_the_probability_that_both_are_of_one_class():
    torch.manual_seed(0)
    features, labels = torch.randn(8, 5, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    targets, counts = torch.rand(8, 3, dtype=torch.float64).softmax(-1), torch.rand(8, dtype=torch.float64)
    total = 0.0
    for i in range(8):
        others = [a for a in range(8) if a != i]
        cosine = {a: F.cosine_similarity(features[i], features[a], dim=0) / 0.1 for a in others}
        partition = sum(torch.exp(each) for each in cosine.values())
        alike = {a: sum(targets[i, c] * targets[a, c] for c in range(3)) for a in others}
        row = sum(alike[a] * torch.log(torch.exp(cosine[a]) / partition) for a in others) / sum(alike.values())
        total -= counts[i] * row
    (mine,) = supervised_contrast(features, labels, 1, 0.1, soft=Soft(targets, counts))
    assert torch.allclose(mine, total / counts.sum(), rtol=0, atol=1e-12)
    certain = Soft(F.one_hot(labels, 3).double())
    hard, soft = (supervised_contrast(features, labels, 1, 0.1, WEIGHT, soft) for soft in (None, certain))
    assert torch.allclose(hard, soft, rtol=0, atol=1e-12)


def test_a_member_does_not_see_the_rows_of_another():
    torch.manual_seed(0)
    features, labels = torch.randn(3 * 4, 5, requires_grad=True), torch.tensor([0, 0, 1, 1] * 3)
    losses = supervised_contrast(features, labels, 3, 0.1)
    (gradient,) = torch.autograd.grad(losses[1], features)
    assert gradient[4:8].abs().min() > 0
    assert not gradient[:4].any()
    assert not gradient[8:].any()


@pytest.mark.parametrize("labels", [[3], [0, 1, 2]])
def test_without_two_rows_of_a_class_it_is_0_and_has_a_gradient_of_0(labels):
    features = torch.randn(len(labels), 5, requires_grad=True)
    (loss,) = supervised_contrast(features, torch.tensor(labels), 1, 0.1)
    assert loss == 0
    (gradient,) = torch.autograd.grad(loss, features)
    assert not gradient.any()


def test_lower_precision_is_computed_in_float32():
    torch.manual_seed(0)
    features, labels = torch.randn(8, 5).bfloat16(), torch.tensor([0, 1] * 4)
    with torch.autocast("cpu", torch.bfloat16):
        low = supervised_contrast(features, labels, 1, 0.05)
    assert torch.equal(low, supervised_contrast(features.float(), labels, 1, 0.05))


def test_the_encoder_is_that_of_a_plain_loop_and_the_output_layer_a_regression_on_it(tmp_path):
    data = rows()
    trainer = trained(tmp_path, Contrastive(contrastive_temperature=0.2, refit_c=0.3))
    member, model = trainer.population.member(0), bert()
    expected = fine_tune(model, forward=pooled, objective=lambda features, labels: written_out(features, labels, 0.2))
    assert distance(encoder(expected), encoder(member)) < 1e-9
    assert distance(encoder(expected), encoder(trained(tmp_path).population.member(0))) > 1e-3
    with torch.no_grad():
        features = model.eval().bert(tensors(data)[0]).pooler_output.numpy()
    regression = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=1000))
    probabilities = regression.fit(features, tensors(data)[1].numpy()).predict_proba(features)
    np.testing.assert_allclose(np.exp(trainer.predict(data).predictions), probabilities, rtol=0, atol=1e-5)
    assert trainer.member_steps == 20


def test_mixed_with_the_loss_of_the_task_both_have_their_part(tmp_path):
    def forward(model, ids, step):
        features = pooled(model, ids)
        return features, model.classifier(features)

    def objective(both, labels):
        return 0.7 * written_out(both[0], labels, 0.1, WEIGHT) + 0.3 * F.cross_entropy(both[1], labels, weight=WEIGHT)

    strategy = Contrastive(contrastive_weight=0.7, refit_c=0.0)
    member = trained(tmp_path, strategy, class_weights=WEIGHT).population.member(0)
    assert distance(felt(fine_tune(bert(), forward=forward, objective=objective)), felt(member)) < 1e-9


def test_another_pooling_is_what_is_compared(tmp_path):
    model = attach(bert(), Pooling("mean"))
    member = trained(tmp_path, Contrastive(), model=model).population.member(0)

    def forward(model, ids, step):
        return model.dropout(model.bert(ids).last_hidden_state.mean(1))

    expected = fine_tune(bert(), forward=forward, objective=lambda f, labels: written_out(f, labels, 0.1))
    assert distance(*({n: v for n, v in encoder(e).items() if "pooler" not in n} for e in (expected, member))) < 1e-9


def test_pairs_that_are_encoded_separately_are_compared_by_what_their_head_reads(tmp_path):
    def siamese():
        with global_generators(3):
            return attach(encode_separately(bert()), Pooling("mean"))

    data = [{**row, "input_ids": [[a, a % 7 + 1] for a in row["input_ids"]]} for row in rows(16)]
    member = trained(tmp_path, Contrastive(), model=siamese(), train=data).population.member(0)

    def forward(model, ids, step):
        u, v = (model.bert(ids[..., side]).last_hidden_state[:, 0] for side in (0, 1))
        return model.dropout(parts_of(u, v))

    model = siamese()
    expected = fine_tune(model, data=data, forward=forward, objective=lambda f, labels: written_out(f, labels, 0.1))
    assert distance(*({n: v for n, v in encoder(e).items() if "pooler" not in n} for e in (expected, member))) < 1e-9


@pytest.mark.parametrize("tuning", [Lora(lora_r=4), IA3(), Prompt(prompt_tokens=3)])
def test_loop_and_stacked_are_the_same_with_every_tuning(tmp_path, tuning):
    def loaded():
        with global_generators(3):
            return tuning.apply(bert())

    strategy = Contrastive(contrastive_weight=0.5) + DelayedEnsemble(members=3, ensemble_from=0.5)
    options = {"model_init": loaded, "args": {"num_train_epochs": 1}}
    loop, stacked = (trained(tmp_path, strategy, engine=engine, **options) for engine in ("loop", "stacked"))
    assert [each.population.engine_name for each in (loop, stacked)] == ["loop", "stacked"]
    assert distance(felt(values(loop)), felt(values(stacked))) < 1e-9


@pytest.mark.parametrize("name", ["roberta", "distilbert", "llama"])
def test_other_architectures_are_the_same_in_both_engines(tmp_path, name):
    def loaded():
        model = make_tiny(name)
        model.config.pad_token_id = 0
        return model

    strategy = Contrastive(contrastive_weight=0.5) + DelayedEnsemble(members=2, ensemble_from=0.5)
    options = {"model_init": loaded, "train": rows(16)}
    loop, stacked = (trained(tmp_path, strategy, engine=engine, **options) for engine in ("loop", "stacked"))
    assert distance(felt(values(loop)), felt(values(stacked))) < 1e-8


def test_an_ensemble_is_its_runs_each_with_its_own_regression(tmp_path):
    strategy = Contrastive() + BestPractices(epochs=2) + Ensemble(members=2)
    options = {"model_init": lambda: bert(seed=None), "seeds": [5]}
    loop, stacked = (trained(tmp_path, strategy, engine=engine, **options) for engine in ("loop", "stacked"))
    mine = felt(values(stacked))
    assert distance(felt(values(loop)), mine) < 1e-9
    assert (mine["classifier.weight"][0] - mine["classifier.weight"][1]).abs().max() > 1e-3


def test_without_a_part_in_the_loss_it_is_refit(tmp_path):
    one, other = (trained(tmp_path, strategy).population.member(0) for strategy in (Contrastive(0.3, 0.0), Refit(0.3)))
    assert same(one, other)


def test_certain_soft_labels_are_labels(tmp_path):
    soft = [{**row, "soft_labels": [float(row["labels"] == at) for at in range(3)]} for row in rows()]
    strategy = Contrastive(contrastive_weight=0.5)
    one, other = (trained(tmp_path, strategy, train=data).population.member(0) for data in (rows(), soft))
    assert distance(felt(one), felt(other)) < 1e-9


@pytest.mark.parametrize(
    ("options", "task"),
    [
        (
            {
                "model": lambda: bert(problem_type="multi_label_classification"),
                "train": [{**row, "labels": [1.0, 0.0, 1.0]} for row in rows(8)],
            },
            "multi_label",
        ),
        (
            {"model": lambda: bert(num_labels=1), "train": [{**row, "labels": 0.5 + row["labels"]} for row in rows(8)]},
            "regression",
        ),
        (
            {
                "model": lambda: make_tiny("bert", task="Token"),
                "train": [{**row, "labels": [1] * len(row["input_ids"])} for row in rows(8)],
            },
            "token",
        ),
    ],
)
def test_a_task_without_one_class_a_text_is_refused_before_the_first_step(tmp_path, options, task):
    trainer = make(tmp_path, Contrastive(), **{**options, "model": options["model"]()})
    with pytest.raises(SettingError, match=f"contrastive needs one class a text, which the task {task} does not have"):
        trainer.train()
    assert trainer.state.global_step == 0


def test_a_best_epoch_is_refused_where_the_output_layer_waits_for_the_end(tmp_path):
    args = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
    options = {"args": args, "eval_dataset": rows(8, seed=4)}
    with pytest.raises(SettingError, match="contrastive keeps no best epoch: the output layer is fitted when training"):
        trained(tmp_path, Contrastive(), **options)
    assert trained(tmp_path, Contrastive(contrastive_weight=0.5), **options).state.best_model_checkpoint


class OwnLoss(PopulationTrainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)


def test_a_loss_that_the_user_computes_is_refused_before_the_first_step(tmp_path):
    trainer = OwnLoss(bert(), make(tmp_path).args, strategy=Contrastive(), train_dataset=rows())
    with pytest.raises(SettingError, match="contrastive needs a loss that follows from outputs and labels"):
        trainer.train()
    assert trainer.state.global_step == 0


@pytest.mark.parametrize(
    ("name", "settings", "why"),
    [
        ("linear_probe+contrastive", {}, "nothing is left of the output layer that it fits first"),
        ("contrastive+soup", {"ingredients": "greedy"}, "nothing can be compared on dev texts before"),
        ("contrastive+refit", {}, "one is a part of the other"),
        ("contrastive+r_drop", {}, "each has its own loss"),
    ],
)
def test_what_it_cannot_be_combined_with(name, settings, why):
    with pytest.raises(SettingError, match=why):
        make_strategy(name, **settings)


def test_with_the_loss_of_the_task_it_may_begin_with_a_fitted_output_layer(tmp_path):
    strategy = LinearProbe(probe_c=0.1) + Contrastive(contrastive_weight=0.5)
    mine = trained(tmp_path, strategy).population.member(0)
    assert distance(encoder(mine), encoder(trained(tmp_path, strategy.parts[1]).population.member(0))) > 1e-4


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"contrastive_weight": 1.5}, "contrastive_weight must be from 0 to 1, not 1.5"),
        ({"contrastive_weight": float("nan")}, "contrastive_weight must be from 0 to 1"),
        ({"contrastive_temperature": 0.0}, "contrastive_temperature must be finite and above 0, not 0.0"),
        ({"contrastive_temperature": float("inf")}, "finite and above 0"),
        ({"refit_c": -1.0}, "refit_c must be finite and at least 0"),
        ({"refit_c": 0.0}, "refit_c 0 leaves the output layer untrained: give another, or take a contrastive_weight"),
    ],
)
def test_a_bad_number_is_refused(settings, why):
    with pytest.raises(SettingError, match=why):
        Contrastive(**settings)
