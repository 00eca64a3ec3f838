"""A loss is that of `transformers.Trainer`, whoever computes it, and in however many parts a batch comes."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from peft import AdaLoraConfig, get_peft_model
from torch import nn
from transformers import BertForSequenceClassification
from transformers.modeling_outputs import SequenceClassifierOutput

from deni import SettingError
from deni.randomness import global_generators
from deni.strategies import Default, DelayedEnsemble, Ensemble
from deni.training.trainer import PopulationTrainer
from tests.helpers.references import (
    Ours,
    OursWeighted,
    Reference,
    ReferenceWeighted,
    WeightedLoss,
    apart,
    collate,
    plain,
    rows,
    trained,
    without_dropout,
)

WEIGHTS = torch.tensor(WeightedLoss.weights, dtype=torch.float64)


class Focal(BertForSequenceClassification):
    def forward(self, input_ids=None, attention_mask=None, labels=None, **_):
        logits = super().forward(input_ids=input_ids, attention_mask=attention_mask).logits
        if labels is None:
            return SequenceClassifierOutput(logits=logits)
        entropy = F.cross_entropy(logits, labels, reduction="none")
        return SequenceClassifierOutput(loss=((1 - torch.exp(-entropy)) ** 2 * entropy).mean(), logits=logits)


class Penalized(BertForSequenceClassification):
    """Its loss sees the whole table of embeddings, also the rows of tokens that no text has."""

    def forward(self, input_ids=None, attention_mask=None, labels=None):
        outputs = super().forward(input_ids=input_ids, attention_mask=attention_mask, labels=labels)
        if labels is not None:
            outputs.loss = outputs.loss + self.get_input_embeddings().weight.square().sum()
        return outputs


def focal(seed=0):
    standard = plain(seed=seed)
    model = Focal(standard.config).double()
    model.load_state_dict(standard.state_dict())
    return without_dropout(model)


def weighted_llama():
    model = plain("llama")
    model.loss_function = lambda pooled_logits, labels, **_: F.cross_entropy(pooled_logits, labels, weight=WEIGHTS)
    return model


def adalora():
    config = AdaLoraConfig(
        task_type="SEQ_CLS",
        target_modules=["query"],
        init_r=4,
        target_r=2,
        total_step=10,
        tinit=1,
        tfinal=1,
        orth_reg_weight=0.5,
        lora_dropout=0.0,
    )
    with global_generators(0):
        return get_peft_model(plain(), config).double()


def penalized():
    return without_dropout(Penalized(plain().config).double())


OWN = {"focal": focal, "penalty": penalized, "loss_function": weighted_llama, "adalora": adalora}


@pytest.mark.parametrize("own", OWN)
def test_a_models_own_loss_trains_and_evaluates_as_in_transformers(tmp_path, own):
    model = OWN[own]()
    theirs = trained(tmp_path, Reference, copy.deepcopy(model))
    ours = trained(tmp_path, Ours, copy.deepcopy(model))
    assert apart(ours, theirs, model) == 0
    assert ours.evaluate()["eval_loss"] == theirs.evaluate()["eval_loss"]
    predicted = torch.tensor(theirs.predict(rows(8)).predictions).log_softmax(-1).numpy()
    assert np.allclose(ours.predict(rows(8)).predictions, predicted, atol=1e-12)


@pytest.mark.parametrize("own", ["focal", "loss_function"])
def test_members_train_by_the_models_own_loss_undivided(tmp_path, own):
    model = OWN[own]()
    theirs = trained(tmp_path, Reference, copy.deepcopy(model))
    copies = DelayedEnsemble(members=3, variance=0.0, ensemble_from=0.3)  # copies without noise are the parent
    ours = trained(tmp_path, Ours, copy.deepcopy(model), strategy=copies)
    assert (ours.population.size, ours.engine_plan.engine) == (3, "loop")
    assert apart(ours, theirs, model) < 1e-12
    assert ours.evaluate()["eval_loss"] == pytest.approx(theirs.evaluate()["eval_loss"], rel=1e-12)


def test_the_loss_of_an_evaluation_is_the_mean_of_the_members_own_losses(tmp_path, caplog):
    ours = trained(tmp_path, Ours, focal(), strategy=DelayedEnsemble(members=3, variance=0.5), args={"max_steps": 10})
    loss = ours.evaluate()["eval_loss"]
    assert "mean of the members' losses" in caplog.text
    expected = []
    for member in range(3):
        with ours.population.alone(member) as model, torch.no_grad():
            expected.append(float(model.eval()(**collate(rows(8, seed=2))).loss))
    assert len(set(expected)) == 3
    assert loss == pytest.approx(np.mean(expected), rel=1e-9)
    members = ours.predict_members(rows(8))
    assert np.allclose(np.exp(ours.predict(rows(8)).predictions), np.exp(members).mean(1))


def test_runs_of_a_pack_with_the_models_own_loss_are_their_runs_alone(tmp_path):
    def fresh():
        model = focal(seed=0)
        with torch.no_grad():
            for value in model.parameters():
                value.add_(0.05 * torch.randn_like(value))
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.1
        return model

    def run(seeds):
        data = [rows(seed=seed) for seed in seeds]
        options = {"model_init": fresh, "seeds": seeds, "data": data, "evaluated": data}
        return trained(tmp_path, PopulationTrainer, None, strategy=DelayedEnsemble(members=2), **options)

    pack, alone = run([3, 4]), [run([3]), run([4])]
    for at, trainer in enumerate(alone):
        for member in range(2):
            together, single = pack.population.member(2 * at + member), trainer.population.member(member)
            assert max(float((together[name] - single[name]).abs().max()) for name in single) < 1e-12
    expected = np.mean([trainer.evaluate()["eval_loss"] for trainer in alone])
    assert pack.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-9)


def test_members_that_need_the_model_are_not_stacked(tmp_path):
    with pytest.raises(SettingError, match=r"cannot be stacked, Focal computes its own loss.*compute_loss_func"):
        trained(tmp_path, Ours, focal(), strategy=DelayedEnsemble(members=2), engine="stacked")


def test_a_run_whose_own_loss_is_not_finite_is_frozen(tmp_path):
    made = []

    def fresh():
        made.append(focal(seed=len(made)))
        if len(made) % 3 == 2:
            with torch.no_grad():
                made[-1].classifier.weight.fill_(float("nan"))
        return made[-1]

    ours = trained(tmp_path, PopulationTrainer, None, model_init=fresh, strategy=Ensemble(members=3))
    assert [failure.run for failure in ours.failures] == [1]
    assert np.isfinite(ours.evaluate()["eval_loss"])


# ---- an overridden compute_loss --------------------------------------------------------------------------------------


@pytest.mark.parametrize("members", [1, 3])
def test_an_overridden_compute_loss_trains_and_evaluates_as_in_transformers(tmp_path, members):
    model = plain()
    strategy = DelayedEnsemble(members=members, variance=0.0, ensemble_from=0.3) if members > 1 else Default()
    theirs = trained(tmp_path, ReferenceWeighted, copy.deepcopy(model))
    ours = trained(tmp_path, OursWeighted, copy.deepcopy(model), strategy=strategy)
    assert apart(ours, theirs, model) < (1e-12 if members > 1 else 1e-300)
    assert ours.evaluate()["eval_loss"] == pytest.approx(theirs.evaluate()["eval_loss"], rel=1e-12)


def test_an_overridden_compute_loss_gets_a_plain_member_and_its_own_rows(tmp_path):
    seen = []

    class Looking(Ours):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            seen.append((type(model), tuple(inputs["input_ids"].shape), int(inputs["input_ids"].sum())))
            inputs["input_ids"].fill_(7)  # the next member has a copy of its own
            loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
            assert loss.item() == pytest.approx(F.cross_entropy(outputs.logits, inputs["labels"]).item())
            return (loss, outputs) if return_outputs else loss

    data = rows(4)
    strategy = DelayedEnsemble(members=3)
    trained(tmp_path, Looking, plain(), data=data, evaluated=data, strategy=strategy, args={"max_steps": 10})
    whole = collate(data)["input_ids"]
    assert {(each, shape) for each, shape, _ in seen} == {(BertForSequenceClassification, tuple(whole.shape))}
    assert {total for _, _, total in seen} == {int(whole.sum())}


def test_class_weights_beside_an_overridden_compute_loss_are_refused(tmp_path):
    with pytest.raises(SettingError, match="overridden compute_loss"):
        trained(tmp_path, OursWeighted, plain(), class_weights=WEIGHTS)


@pytest.mark.parametrize("other", [{"args": {"label_smoothing_factor": 0.1}}, {"compute_loss_func": len}])
def test_class_weights_beside_another_loss_are_refused(tmp_path, other):
    with pytest.raises(SettingError, match="class_weights cannot be combined"):
        trained(tmp_path, Ours, plain(), class_weights=WEIGHTS, **other)


# ---- the batch of a step in parts ------------------------------------------------------------------------------------


def mean_of_items(outputs, labels, num_items_in_batch=None):
    total = F.cross_entropy(outputs["logits"].flatten(0, -2), labels.flatten(), reduction="sum")
    return total / (labels.ne(-100).sum() if num_items_in_batch is None else num_items_in_batch)


PARTS = {
    "standard": (plain, {}, False),
    "class weights": (plain, {"class_weights": WEIGHTS}, False),
    "smoothing": (plain, {"args": {"label_smoothing_factor": 0.1}}, False),
    "tokens": (lambda: plain(task="Token"), {}, True),
    "tokens, smoothing": (lambda: plain(task="Token"), {"args": {"label_smoothing_factor": 0.1}}, True),
    "compute_loss_func of tokens": (lambda: plain(task="Token"), {"compute_loss_func": mean_of_items}, True),
    "own loss": (focal, {}, False),
}


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("case", PARTS)
def test_a_batch_in_parts_is_one_batch(tmp_path, case, members):
    make, options, tokens = PARTS[case]
    model, data = make(), rows(tokens=tokens)  # 22: the last batch has 6 rows, in parts of 4 and 2
    options = copy.copy(options)
    args, weights = options.pop("args", {}), options.pop("class_weights", None)
    whole = {**args, "per_device_train_batch_size": 8}
    parts = {**args, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "logging_steps": 1}
    theirs = trained(
        tmp_path, Reference if weights is None else ReferenceWeighted, copy.deepcopy(model),
        data=data, evaluated=data, args={**whole, "logging_steps": 1}, **options,
    )  # fmt: skip
    strategy = DelayedEnsemble(members=2, variance=0.0, ensemble_from=0.4) if members > 1 else Default()
    if weights is not None:
        options["class_weights"] = weights
    options |= {"data": data, "evaluated": data}
    ours = trained(tmp_path, Ours, copy.deepcopy(model), args=parts, strategy=strategy, **options)
    smooth = "label_smoothing_factor" in args  # in float32
    assert apart(ours, theirs, model) < (1e-6 if smooth else 1e-11)
    logged = [[each["loss"] for each in trainer.state.log_history if "loss" in each] for trainer in (ours, theirs)]
    assert logged[0] == pytest.approx(logged[1], abs=2e-4)  # rounded


@pytest.mark.parametrize("parts", [1, 2])
def test_items_are_those_of_each_run_and_part(tmp_path, parts):
    data = [rows(seed=seed, tokens=True) for seed in (3, 4)]
    args = {"gradient_accumulation_steps": parts, "per_device_train_batch_size": 4 // parts}

    def run(seeds, **more):
        own = [data[seed - 3] for seed in seeds]
        init = {"model_init": lambda: plain(task="Token"), "data": own, "evaluated": own, "seeds": seeds}
        return trained(tmp_path, PopulationTrainer, None, compute_loss_func=mean_of_items, **init, **more)

    pack = run([3, 4], args=args)
    for at, seed in enumerate((3, 4)):
        alone = run([seed])
        together, single = pack.population.member(at), alone.population.member(0)
        assert max(float((together[name] - single[name]).abs().max()) for name in single) < 1e-11


def test_a_function_of_the_users_gets_in_an_evaluation_what_transformers_gives_it(tmp_path):
    def noting(seen):
        def function(outputs, labels, num_items_in_batch=None):
            seen.append((type(outputs), sorted(outputs), len(outputs["hidden_states"]), int(num_items_in_batch)))
            return F.cross_entropy(outputs["logits"], labels) + outputs["hidden_states"][-1].square().mean()

        return function

    model, seen = plain(), ([], [])
    model.config.output_hidden_states = True
    losses = []
    for cls, each in ((Reference, seen[0]), (Ours, seen[1])):
        trainer = trained(tmp_path, cls, copy.deepcopy(model), compute_loss_func=noting(each))
        each.clear()
        losses.append(trainer.evaluate()["eval_loss"])
    assert seen[0] == seen[1]
    assert len(seen[0]) == 1
    assert losses[0] == losses[1]


# ---- the loss of a vote ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("combine", ["soft", "hard", "parent"])
def test_the_loss_of_an_evaluation_comes_from_probabilities(tmp_path, combine):
    strategy = DelayedEnsemble(members=3, variance=0.5, combine=combine)
    ours = trained(tmp_path, Ours, plain(), strategy=strategy, args={"max_steps": 10})
    gold = [row["labels"] for row in rows(8, seed=2)]
    members = np.exp(ours.predict_members(rows(8, seed=2)))  # (N, M, C)
    likely = members[:, 0] if combine == "parent" else members.mean(1)
    assert ours.evaluate()["eval_loss"] == pytest.approx(-np.log(likely[range(8), gold]).mean(), rel=1e-9)


def test_soft_labels_of_a_class_that_has_its_own_loss_for_them_are_refused(tmp_path):
    def soft(features):
        batch = collate(features)
        return {**batch, "labels": F.one_hot(batch["labels"], 3).double()}

    for architecture in ("deberta", "deberta-v2"):
        with pytest.raises(SettingError, match="problem_type"):
            trained(tmp_path, Ours, plain(architecture), collator=soft)
    model = plain("deberta-v2")
    model.config.problem_type = "multi_label_classification"
    theirs = trained(tmp_path, Reference, copy.deepcopy(model), collator=soft)
    assert apart(trained(tmp_path, Ours, copy.deepcopy(model), collator=soft), theirs, model) < 1e-12
