"""Short independent runs from one start that become one model."""

import copy

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from deni.errors import SettingError
from deni.randomness import Sources, global_generators
from deni.strategies import BestPractices, Default, DiWA, Ensemble, LinearProbe, make_strategy
from deni.tuning import IA3, Lora, Prompt
from tests.helpers import plain
from tests.helpers.members import RATE, At, Member, make, texts, trained
from tests.helpers.plain import bert, distance, lora
from tests.helpers.tiny import make_tiny


def by_hand(count, steps, model=None):
    """Members in plain PyTorch that begin as one, each with its own order and dropout."""
    one = Member(Sources(42))
    if model is not None:
        one.model = model.train()
    members = [one]
    for number in range(1, count):
        other = Member(Sources(42))
        other.model = copy.deepcopy(one.model)
        other.lane, other.stream = (number,), Sources(42).derived("dropout", "fork", 1, number)
        members.append(other)
    for member in members:
        trainable = [each for each in member.model.parameters() if each.requires_grad]
        member.optimizer = torch.optim.AdamW(trainable, lr=RATE, weight_decay=0.0)
        member.train(0, steps, steps)
    return [member.values() for member in members]


def felt(values):
    """Without the bias of keys: its gradient is rounding alone, of which Adam makes steps."""
    return {name: value for name, value in values.items() if "key.bias" not in name}


@pytest.mark.parametrize("engine", ["loop", "stacked"])
@pytest.mark.parametrize(("length", "steps"), [(0.5, 20), (0.2, 8)])
def test_it_is_the_mean_of_short_runs_by_hand(tmp_path, engine, length, steps):
    trainer = trained(tmp_path, DiWA(members=3, run_length=length), engine)
    members = by_hand(3, steps)
    assert trainer.state.global_step == steps
    assert trainer.member_steps == 3 * steps
    assert trainer.population.size == 1
    assert distance(felt(plain.mean(members)), felt(trainer.population.member(0))) < 1e-9
    assert distance(felt(members[0]), felt(members[1])) > 1e-3


def test_of_lora_the_products_are_averaged(tmp_path):
    trainer = trained(tmp_path, DiWA(members=3, run_length=0.5), model_init=lambda: lora())
    members = by_hand(3, 20, lora())
    merged = trainer.population.member(0)
    pairs = [name for name in merged if "lora_A" in name]
    assert pairs
    for a in pairs:
        b = a.replace("lora_A", "lora_B")
        assert not torch.equal(members[0][a], members[1][a])
        whole = torch.stack([each[b] @ each[a] for each in members]).mean(0)
        left, spread, right = torch.linalg.svd(whole, full_matrices=False)
        best = left[:, :4] @ spread[:4].diag() @ right[:4]  # of rank 4
        assert (merged[b] @ merged[a] - best).abs().max() < 1e-9
    whole = {name: torch.stack([each[name] for each in members]).mean(0) for name in merged if "lora" not in name}
    assert distance(felt(whole), felt({name: merged[name] for name in whole})) < 1e-9


def test_all_members_begin_with_the_same_probe_and_the_same_factors(tmp_path):
    """The probe is fitted once, in front of the fork; each seed of a pack has its own start."""

    def loaded():
        model = bert()  # the same for all seeds; the factors of LoRA are not
        return Lora(lora_r=4, lora_alpha=4).apply(model)

    trainer = make(tmp_path, LinearProbe(probe_c=1.0) + DiWA(members=3), model_init=loaded, seeds=[1, 2])
    trainer.create_optimizer()
    trainer._plan()
    trainer.phases.begin(0)
    trainer.phases.begin_step(0)
    assert trainer.population.size == 6
    data = texts()
    with torch.no_grad():
        features = bert().eval().bert(torch.tensor(data["input_ids"])).pooler_output.numpy()
    scaler = StandardScaler()
    logistic = LogisticRegression(C=1.0, max_iter=1000).fit(scaler.fit_transform(features), data["labels"])
    for name, value in trainer.population.values.items():
        for run in (0, 3):
            assert torch.equal(value[run], value[run + 1])
            assert torch.equal(value[run], value[run + 2])
        if "lora_A" in name:
            assert not torch.equal(value[0], value[3])
        if "classifier" in name and name.endswith("weight"):
            np.testing.assert_allclose(value[0].detach().numpy(), logistic.coef_ / scaler.scale_, atol=1e-6)


@pytest.mark.parametrize("tuning", [Lora(lora_r=4), IA3(), Prompt(prompt_tokens=3)])
def test_loop_and_stacked_are_the_same_with_every_tuning(tmp_path, tuning):
    def loaded():
        with global_generators(3):
            return tuning.apply(bert())

    loop, stacked = (
        trained(tmp_path, DiWA(run_length=0.2), engine, model_init=loaded) for engine in ("loop", "stacked")
    )
    assert [each.population.engine_name for each in (loop, stacked)] == ["loop", "stacked"]
    one, other = (each.population.member(0) for each in (loop, stacked))
    assert all("lora" in name or "ia3" in name or distance(felt({name: one[name]}), felt({name: other[name]})) < 1e-9
               for name in one if "key.bias" not in name)  # fmt: skip
    predictions = [each.predict(texts(9, seed=2)).predictions for each in (loop, stacked)]
    assert np.abs(predictions[0] - predictions[1]).max() < 1e-8  # a product has many factors


@pytest.mark.parametrize("kind", ["several labels", "numbers", "tokens"])
def test_loop_and_stacked_are_the_same_for_every_kind_of_labels(tmp_path, kind):
    data = texts()
    if kind == "tokens":
        model_init = lambda: make_tiny("bert", task="Token")  # noqa: E731
        data = data.map(lambda row: {"labels": [each % 3 for each in row["input_ids"]]})
    elif kind == "numbers":
        model_init = lambda: bert(num_labels=1)  # noqa: E731
        data = data.map(lambda row: {"labels": row["input_ids"][0] / 10}, features=None)
        data = data.cast_column("labels", type(data.features["labels"])("float64"))
    else:
        model_init = lambda: bert(problem_type="multi_label_classification")  # noqa: E731
        data = data.map(lambda row: {"labels": [float(row["input_ids"][at] % 2) for at in range(3)]})
    options = {"model_init": model_init, "train_dataset": data}
    loop, stacked = (trained(tmp_path, DiWA(run_length=0.2), engine, **options) for engine in ("loop", "stacked"))
    assert loop.state.global_step == 8
    assert distance(felt(loop.population.member(0)), felt(stacked.population.member(0))) < 1e-9


def test_the_learning_rate_falls_to_0_over_its_own_steps_and_the_arguments_stay(tmp_path):
    watch = plain.Watch()
    trainer = trained(tmp_path, DiWA(members=2, run_length=0.5), callbacks=[watch])
    rates = [rate["classifier.weight"] for rate in watch.rates]
    np.testing.assert_allclose(rates, [RATE * (1 - step / 20) for step in range(20)], rtol=1e-12)
    assert (trainer.args.max_steps, trainer.args.num_train_epochs) == (-1, 4)
    assert str(trainer.schedule) == "2x20"
    trainer = trained(tmp_path, DiWA(members=2, run_length=0.5), args={"max_steps": 7})
    assert (trainer.state.global_step, trainer.args.max_steps) == (4, 7)


def test_resumed_in_the_middle_of_a_shorter_run_is_not_stopped(tmp_path):
    def save(step, control):
        control.should_save = True

    strategy = DiWA(members=2, run_length=0.5)
    whole = trained(tmp_path, strategy, callbacks=[At([13], save)])
    resumed = make(tmp_path, strategy)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-13"))
    assert (resumed.state.global_step, resumed.member_steps) == (20, 40)
    assert plain.same(plain.values(whole), plain.values(resumed))


def test_with_best_practices_its_length_is_a_fraction_of_their_epochs(tmp_path):
    trainer = trained(tmp_path, BestPractices(epochs=2) + DiWA(members=2, run_length=0.5))
    assert (trainer.state.global_step, trainer.member_steps) == (10, 20)
    assert str((BestPractices() + DiWA()).schedule(1250)) == "3x625"
    assert (Ensemble(members=2) + DiWA()).schedule(1250).cost == 2 * 3 * 625


def test_the_best_checkpoint_becomes_one_model_too(tmp_path):
    args = {"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 10, "save_steps": 10}
    args |= {"load_best_model_at_end": True, "metric_for_best_model": "step", "greater_is_better": False}
    measured = []

    def first_is_best(prediction):
        measured.append(len(prediction.predictions))
        return {"step": len(measured)}

    trainer = trained(
        tmp_path, DiWA(members=3), args=args, eval_dataset=texts(8, seed=3), compute_metrics=first_is_best
    )
    assert trainer.population.size == 1
    members = by_hand_until(3, 10, 20)
    assert distance(felt(plain.mean(members)), felt(trainer.population.member(0))) < 1e-9


def by_hand_until(count, stop, steps):
    members = []
    for number in range(count):
        member = Member(Sources(42))
        if number:
            member.lane, member.stream = (number,), Sources(42).derived("dropout", "fork", 1, number)
        member.train(0, stop, steps)
        members.append(member.values())
    return members


def test_one_run_of_full_length_is_default(tmp_path):
    one, other = (trained(tmp_path, strategy) for strategy in (DiWA(members=1, run_length=1.0), Default()))
    assert plain.same(plain.values(one), plain.values(other))


@pytest.mark.parametrize("name", ["diwa+soup", "diwa+deni", "diwa+swa", "diwa+ema"])
def test_what_needs_members_of_its_own_or_one_model_is_refused(name):
    with pytest.raises(SettingError, match=r"cannot be combined: (both fork at the same time|a mean over time)"):
        make_strategy(name)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"members": 0}, "members must be at least 1, not 0"),
        ({"run_length": 0.0}, "run_length is a fraction of all steps, above 0 and at most 1, not 0.0"),
        ({"run_length": 1.5}, "above 0 and at most 1, not 1.5"),
    ],
)
def test_bad_settings_are_refused(setting, message):
    with pytest.raises(SettingError, match=message):
        DiWA(**setting)
