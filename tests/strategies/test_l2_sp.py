"""Weight decay towards the weights at the start."""

import pytest
import torch
import torch.nn.functional as F
from transformers import TrainerCallback

from deni.strategies import L2SP, Default, DelayedEnsemble
from tests.helpers.plain import (
    NO_DROPOUT,
    Watch,
    bert,
    distance,
    fine_tune,
    lora,
    make,
    parameters,
    rows,
    same,
    tensors,
    trained,
    values,
)

STRENGTH = 0.5


def felt(ended):
    """All but the biases of keys, which no output depends on: their gradient is rounding, which Adam amplifies."""
    return {name: value for name, value in ended.items() if not name.endswith("key.bias")}


def test_training_is_a_plain_loop_with_the_penalty_in_the_loss(tmp_path):
    """The penalty is written as the loss of Li et al., and autograd derives it."""
    mine = trained(tmp_path, L2SP(l2_strength=STRENGTH)).population.member(0)
    start = parameters(bert())

    def pull(model, step):
        penalty = sum(
            (parameter - start[name]).square().sum()
            for name, parameter in model.named_parameters()
            if not name.startswith("classifier.")
        )
        (STRENGTH / 2 * penalty).backward()

    expected = fine_tune(bert(), gradients=pull)
    assert distance(felt(expected), felt(mine)) < 1e-9
    plain = trained(tmp_path).population.member(0)
    assert distance(expected, plain) > 1e-4
    names = [name for name in start if not name.startswith("classifier.")]

    def way(ended):
        return sum(float((ended[name] - start[name]).square().sum()) for name in names)

    assert way(mine) < way(plain)


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize(("engine", "members"), [("loop", 1), ("loop", 3), ("stacked", 3)])
def test_the_gradient_of_each_member_has_the_pull_once_a_step(tmp_path, accumulation, engine, members):
    model = bert(**NO_DROPOUT)
    start, batches, checked = parameters(model), [], []

    def collate(data):
        if len(data) == 4 // accumulation:  # not what members are compared on
            batches.append(data)
        ids, labels = tensors(data)
        return {"input_ids": ids, "labels": labels}

    class Compare(TrainerCallback):
        def on_train_begin(self, *_, **__):
            batches.clear()  # that of the probe

        def on_pre_optimizer_step(self, args, state, control, model=None, **_):
            done = state.global_step * accumulation
            for member in range(model.size):
                own = {name: value.detach().clone().requires_grad_() for name, value in model.member(member).items()}
                plain, loss = bert(**NO_DROPOUT), 0.0
                for data in batches[done : done + accumulation]:
                    ids, labels = tensors(data)
                    logits = torch.func.functional_call(plain, own, (ids,)).logits
                    loss = loss + F.cross_entropy(logits, labels) / accumulation
                loss.backward()
                for name, value in own.items():
                    pull = 0.0 if name.startswith("classifier.") else STRENGTH * (value - start[name])
                    expected = (value.grad + pull).detach()
                    assert (model.views[name][member].grad - expected).abs().max() < 1e-10, name
                checked.append((state.global_step, member))

    strategy = L2SP(l2_strength=STRENGTH) + DelayedEnsemble(members=members, ensemble_from=0.5)
    args = {"gradient_accumulation_steps": accumulation, "per_device_train_batch_size": 4 // accumulation}
    options = {"args": args, "engine": engine, "data_collator": collate, "active_vocabulary": False}
    trained(tmp_path, strategy, model=model, callbacks=[Compare()], **options)
    assert len(checked) == 10 + 10 * members


def test_clipping_comes_after_the_pull(tmp_path):
    watch = Watch()
    trained(tmp_path, L2SP(l2_strength=1e4), args={"max_grad_norm": 0.1}, callbacks=[watch])
    norms = [float(torch.cat([g.flatten() for g in each.values()]).norm()) for each in watch.gradients[1:]]
    assert norms == pytest.approx([0.1] * 19, rel=1e-4)


def test_each_run_of_a_pack_is_pulled_to_its_own_start(tmp_path):
    pack = values(trained(tmp_path, L2SP(l2_strength=STRENGTH), model_init=lambda: bert(seed=None), seeds=[5, 6]))
    for run, seed in enumerate((5, 6)):
        options = {"model_init": lambda: bert(seed=None), "seeds": [seed]}
        alone = values(trained(tmp_path, L2SP(l2_strength=STRENGTH), **options))
        assert distance(felt({name: value[run : run + 1] for name, value in pack.items()}), felt(alone)) < 1e-9
    assert (pack["bert.pooler.dense.weight"][0] - pack["bert.pooler.dense.weight"][1]).abs().max() > 1e-2


def test_with_lora_the_pull_is_on_its_factors(tmp_path):
    watch = Watch()
    mine = trained(tmp_path, L2SP(l2_strength=100.0), model=lora(), callbacks=[watch]).population.member(0)
    plain = trained(tmp_path, model=lora()).population.member(0)
    start = watch.before[0]
    for part in ("lora_A", "lora_B"):
        names = [name for name in start if part in name]
        assert names
        mine_way = sum(float((mine[name] - start[name]).square().sum()) for name in names)
        plain_way = sum(float((plain[name] - start[name]).square().sum()) for name in names)
        assert 0 < mine_way < plain_way


def test_active_vocabulary_changes_nothing(tmp_path):
    data = [{**row, "input_ids": [at % 30 for at in row["input_ids"]]} for row in rows()]
    ended = []
    for active in (True, False):
        trainer = trained(tmp_path, L2SP(l2_strength=STRENGTH), train=data, active_vocabulary=active)
        assert (trainer.active_ids is not None) == active
        ended.append(trainer.population.member(0))
    assert distance(*map(felt, ended)) < 1e-12


def test_without_strength_it_is_default(tmp_path):
    assert same(values(trained(tmp_path, L2SP(l2_strength=0.0))), values(trained(tmp_path, Default())))


def test_resumed_is_not_stopped(tmp_path):
    args = {"save_strategy": "steps", "save_steps": 9}
    strategy = L2SP(l2_strength=STRENGTH) + DelayedEnsemble(members=2)
    whole = trained(tmp_path, strategy, args=args)
    resumed = make(tmp_path, strategy, args=args)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out/checkpoint-9"))
    assert same(values(whole), values(resumed))


@pytest.mark.parametrize("strength", [-1.0, float("inf"), float("nan")])
def test_a_bad_strength_is_refused(strength):
    with pytest.raises(ValueError, match="l2_strength must be finite and at least 0"):
        L2SP(l2_strength=strength)
