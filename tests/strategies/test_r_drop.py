"""Two passes with different dropout masks that are to agree, against the formula in plain PyTorch."""

import pytest
import torch
import torch.nn.functional as F

from deni.errors import SettingError
from deni.randomness import global_generators
from deni.strategies import DelayedEnsemble, Ensemble, LinearProbe, RDrop, make_strategy
from deni.training.trainer import PopulationTrainer
from deni.tuning import IA3, Lora, Prompt
from tests.helpers.plain import bert, distance, fine_tune, make, rows, trained, values
from tests.helpers.tiny import make_tiny


def felt(values):
    """Without the bias of keys: its gradient is rounding alone, of which Adam makes steps."""
    return {name: value for name, value in values.items() if "key.bias" not in name}


def twice(model, ids, step):
    return model(input_ids=ids).logits, model(input_ids=ids).logits


def kl(p, q, weight=None):
    """As the authors' code has it, but for the mean over rows."""
    one = F.kl_div(p.log_softmax(-1), q.softmax(-1), reduction="none").sum(-1)
    other = F.kl_div(q.log_softmax(-1), p.softmax(-1), reduction="none").sum(-1)
    weight = torch.ones_like(one) if weight is None else weight
    return ((one + other) / 2 * weight).sum() / weight.sum()


def of_classes(alpha, weight=None):
    def objective(both, labels):
        flat = [each.flatten(0, -2) for each in both]
        labels = labels.flatten()
        kept = labels != -100
        losses = [F.cross_entropy(each, labels, weight=weight) for each in flat]
        counts = None if weight is None else weight[labels[kept]]
        return sum(losses) / 2 + alpha * kl(*(each[kept] for each in flat), counts)

    return objective


@pytest.mark.parametrize("alpha", [0.5, 4.0])
def test_one_label_a_text(tmp_path, alpha):
    trainer = trained(tmp_path, RDrop(r_drop_alpha=alpha))
    expected = fine_tune(bert(), forward=twice, objective=of_classes(alpha))
    assert distance(felt(expected), felt(trainer.population.member(0))) < 1e-9
    assert distance(felt(expected), felt(trained(tmp_path).population.member(0))) > 1e-3


def test_class_weights_count_in_the_divergence_as_in_the_loss(tmp_path):
    weight = torch.tensor([0.2, 1.0, 5.0], dtype=torch.float64)
    whole = trained(tmp_path, RDrop(), class_weights=weight).population.member(0)
    expected = fine_tune(bert(), forward=twice, objective=of_classes(1.0, weight))
    assert distance(felt(expected), felt(whole)) < 1e-9


def test_a_batch_in_parts_is_the_batch(tmp_path):
    """Without dropout, so that masks do not depend on the parts; noise on the output layer tells the passes apart."""
    weight = torch.tensor([0.2, 1.0, 5.0], dtype=torch.float64)
    ended = []
    for size, parts in ((4, 1), (2, 2)):
        trainer = make(
            tmp_path,
            RDrop(),
            model=bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0),
            class_weights=weight,
            args={"per_device_train_batch_size": size, "gradient_accumulation_steps": parts},
        )
        calls = []

        def scaled(module, given, output, calls=calls):
            calls.append(1)
            return output * (1.0 if len(calls) % 2 else 1.5)

        trainer.population.model.classifier.register_forward_hook(scaled)
        trainer.train()
        ended.append(felt(trainer.population.member(0)))
    assert distance(*ended) < 1e-9


def test_each_label_is_there_or_not(tmp_path):
    data = [{**row, "labels": [float(row["input_ids"][at] % 2) for at in range(3)]} for row in rows()]

    def objective(both, labels):
        losses = [F.binary_cross_entropy_with_logits(each, labels) for each in both]
        sides = [torch.stack([each, torch.zeros_like(each)], -1) for each in both]  # as two classes
        return sum(losses) / 2 + 0.5 * kl(*sides)

    model = bert(problem_type="multi_label_classification")
    trainer = trained(tmp_path, RDrop(r_drop_alpha=0.5), model=model, train=data)
    expected = fine_tune(bert(), data=data, forward=twice, objective=objective)
    assert distance(felt(expected), felt(trainer.population.member(0))) < 1e-9


def test_numbers(tmp_path):
    data = [{**row, "labels": row["input_ids"][0] / 10} for row in rows()]

    def objective(both, labels):
        losses = [F.mse_loss(each[:, 0], labels.double()) for each in both]
        return sum(losses) / 2 + 0.5 * F.mse_loss(*both)

    trainer = trained(tmp_path, RDrop(r_drop_alpha=0.5), model=bert(num_labels=1), train=data)
    expected = fine_tune(bert(num_labels=1), data=data, forward=twice, objective=objective)
    assert distance(felt(expected), felt(trainer.population.member(0))) < 1e-6  # labels are float32


def test_tokens_without_a_label_do_not_count(tmp_path):
    data = [{**row, "labels": [-100, *[each % 3 for each in row["input_ids"][1:]]]} for row in rows()]
    trainer = trained(tmp_path, RDrop(), model=make_tiny("bert", task="Token"), train=data)
    expected = fine_tune(make_tiny("bert", task="Token"), data=data, forward=twice, objective=of_classes(1.0))
    assert distance(felt(expected), felt(trainer.population.member(0))) < 1e-9


@pytest.mark.parametrize("tuning", [Lora(lora_r=4), IA3(), Prompt(prompt_tokens=3)])
def test_loop_and_stacked_are_the_same_with_every_tuning(tmp_path, tuning):
    def loaded():
        with global_generators(3):
            return tuning.apply(bert())

    strategy = LinearProbe(probe_c=0.1) + RDrop() + DelayedEnsemble(members=3, ensemble_from=0.5)
    options = {"model_init": loaded, "args": {"num_train_epochs": 1}}
    loop, stacked = (trained(tmp_path, strategy, engine=engine, **options) for engine in ("loop", "stacked"))
    assert [each.population.engine_name for each in (loop, stacked)] == ["loop", "stacked"]
    assert distance(felt(values(loop)), felt(values(stacked))) < 1e-9


def test_two_passes_cost_two_member_steps(tmp_path):
    assert RDrop().schedule(1250).cost == 2500
    assert (RDrop() + Ensemble(members=3)).schedule(1250).cost == 7500
    assert RDrop(r_drop_alpha=0.0).schedule(1250).cost == 1250
    trainer = trained(tmp_path, RDrop(), args={"num_train_epochs": 1})
    assert (trainer.state.global_step, trainer.member_steps) == (10, 20)


class OwnLoss(PopulationTrainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)


def test_a_loss_that_the_user_computes_is_refused_before_the_first_step(tmp_path):
    plain = make(tmp_path)
    trainer = OwnLoss(bert(), plain.args, strategy=RDrop(), train_dataset=rows())
    with pytest.raises(
        SettingError, match="r_drop needs a loss that follows from outputs and labels, and compute_loss is overridden"
    ):
        trainer.train()
    assert trainer.state.global_step == 0


def test_a_loss_function_of_the_user_is_called_for_both_passes(tmp_path):
    def smooth(outputs, labels, num_items_in_batch=None):
        return F.cross_entropy(outputs.logits, labels, label_smoothing=0.1)

    def objective(both, labels):
        return sum(F.cross_entropy(each, labels, label_smoothing=0.1) for each in both) / 2 + kl(*both)

    trainer = trained(tmp_path, RDrop(), compute_loss_func=smooth)
    expected = fine_tune(bert(), forward=twice, objective=objective)
    assert distance(felt(expected), felt(trainer.population.member(0))) < 1e-9


@pytest.mark.parametrize(
    ("name", "why"),
    [("r_drop+multi_dropout", "each has its own loss"), ("input_noise+r_drop", "there would be two")],
)
def test_what_it_cannot_be_combined_with(name, why):
    with pytest.raises(SettingError, match=why):
        make_strategy(name)


@pytest.mark.parametrize("alpha", [-1.0, float("inf")])
def test_a_bad_alpha_is_refused(alpha):
    with pytest.raises(SettingError, match="r_drop_alpha must be finite and at least 0"):
        RDrop(alpha)
