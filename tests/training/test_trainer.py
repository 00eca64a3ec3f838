import copy
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.optim.lr_scheduler import LambdaLR
from transformers import BertConfig, BertForSequenceClassification, TrainerCallback, TrainingArguments

from deni.engine import memory
from deni.engine.dropout import MemberDropout, Streams
from deni.errors import ArtifactError
from deni.randomness import Sources, derive
from deni.strategies import DENI, Default, DelayedEnsemble, Ensemble, NoisyInterpolation
from deni.training.trainer import PopulationTrainer
from tests.helpers.trainers import (
    CONFIG,
    accuracy,
    bert,
    distance,
    fresh,
    lora,
    make,
    pad,
    padded,
    rows,
    same,
    seeded,
    values,
)


@pytest.mark.parametrize("clip", [0.0, 0.05])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_one_member_is_plain_fine_tuning(tmp_path, clip, accumulation):
    args = {"max_grad_norm": clip, "weight_decay": 0.01, "num_train_epochs": 2}
    args["gradient_accumulation_steps"] = accumulation
    args["per_device_train_batch_size"] = 4 // accumulation
    trainer = make(tmp_path, args=args)
    trainer.train()

    model, data, sources = seeded().train(), rows(), Sources(42)
    no_decay = [p for n, p in model.named_parameters() if "bias" in n or "LayerNorm" in n]
    decay = [p for n, p in model.named_parameters() if not ("bias" in n or "LayerNorm" in n)]
    groups = [{"params": decay, "weight_decay": 0.01}, {"params": no_decay, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    schedule = LambdaLR(optimizer, lambda step: 1 - step / 20)
    stream = sources["dropout"]
    for epoch in range(2):
        order = torch.randperm(40, generator=sources.derived("sample_order", epoch)).tolist()
        for at in range(0, 40, 4):
            for part in range(0, 4, 4 // accumulation):
                batch = [data[row] for row in order[at + part : at + part + 4 // accumulation]]
                with MemberDropout(Streams([stream])):
                    logits = model(input_ids=torch.tensor([row["input_ids"] for row in batch])).logits
                (F.cross_entropy(logits, torch.tensor([row["labels"] for row in batch])) / accumulation).backward()
            if clip:
                torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    mine = trainer.population.member(0)
    assert distance({n: p.detach() for n, p in model.named_parameters()}, mine) < 1e-10


@pytest.mark.parametrize("make_model", [seeded, lora])
def test_loop_and_stacked_train_the_same_members(tmp_path, make_model):
    args = {"max_grad_norm": 0.1, "weight_decay": 0.01, "gradient_accumulation_steps": 2}
    trained = []
    for engine in ("loop", "stacked"):
        strategy = DENI(members=3, fork_rate="restart")
        trainer = make(tmp_path, strategy, model=make_model(), engine=engine, args=args)
        trainer.train()
        assert trainer.population.engine_name == engine
        trained.append(values(trainer))
    assert distance(*trained) < 1e-9
    head = next(name for name in trained[0] if name.endswith("classifier.weight") or "classifier.modules" in name)
    assert not torch.equal(trained[0][head][0], trained[0][head][1])


@pytest.mark.parametrize("strategy", [DENI(members=1), DelayedEnsemble(members=1), NoisyInterpolation(members=1)])
def test_a_strategy_of_one_member_is_the_default(tmp_path, strategy):
    default, other = make(tmp_path, Default()), make(tmp_path, strategy)
    default.train()
    other.train()
    assert same(values(default), values(other))


def test_the_parent_of_a_delayed_ensemble_is_the_default_model(tmp_path):
    default = make(tmp_path, Default())
    forked = make(tmp_path, DelayedEnsemble(members=3, variance=0.15), engine="loop")
    default.train()
    forked.train()
    parent = {name: value[:1] for name, value in values(forked).items()}
    assert distance(values(default), parent) < 1e-12


@pytest.mark.parametrize(("rate", "expected"), [("schedule", None), ("constant", 1e-3), ("restart", 1e-3)])
def test_copies_train_at_the_rate_that_was_asked_for(tmp_path, rate, expected):
    seen = []

    class Watch(TrainerCallback):
        def on_train_begin(self, *_, optimizer=None, **__):
            inner = getattr(optimizer, "optimizer", optimizer)
            inner.register_step_pre_hook(lambda o, *_: seen.append([g["lr"] for g in o.param_groups if g["params"]]))

    trainer = make(tmp_path, DelayedEnsemble(members=2, fork_rate=rate), callbacks=[Watch()])
    trainer.train()
    groups = 2 if rate == "schedule" else 4  # two groups; those of the copies, if their rates differ, after the fork
    assert [len(rates) for rates in seen] == [2] * 36 + [groups] * 4
    parents, copies = [rates[0] for rates in seen[36:]], [rates[-2] for rates in seen[36:]]
    assert parents == pytest.approx([1e-3 * (1 - step / 40) for step in range(36, 40)])
    if rate == "restart":
        assert copies == pytest.approx([1e-3 * (1 - step / 4) for step in range(4)])
    else:
        assert copies == pytest.approx(parents if expected is None else [expected] * 4)


@pytest.mark.parametrize(("state", "steps"), [("inherit", 40), ("fresh", 4)])
def test_a_copy_has_the_optimiser_state_that_was_asked_for(tmp_path, state, steps):
    trainer = make(tmp_path, DelayedEnsemble(members=2, fork_optimizer=state))
    trainer.train()
    inner = getattr(trainer.optimizer, "optimizer", trainer.optimizer)
    views = trainer.population.views["classifier.weight"]
    assert float(inner.state[views[0]]["step"]) == 40
    assert float(inner.state[views[1]]["step"]) == steps


@pytest.mark.parametrize("make_model", [seeded, lora])
@pytest.mark.parametrize("stop", [7, 12, 14, 16, 22, 38])
def test_resumed_is_not_stopped(tmp_path, make_model, stop):
    """In a single phase, at a fork, in an interpolation, at a merge, in another one, in the last phase."""
    strategy = DENI(members=3, fork_rate="restart", fork_optimizer="fresh")
    save = {"save_strategy": "steps", "save_steps": stop}
    whole = make(tmp_path, strategy, model=make_model(), args=save)
    whole.train()
    resumed = make(tmp_path, strategy, model=make_model(), args=save)
    resumed.train(resume_from_checkpoint=str(tmp_path / f"out/checkpoint-{stop}"))
    assert same(values(whole), values(resumed))
    assert resumed.member_steps == whole.member_steps == strategy.schedule(40).cost


def test_the_best_checkpoint_comes_back_at_its_size(tmp_path):
    class Best(TrainerCallback):
        """Makes the evaluation inside an interpolation the best one."""

        def on_evaluate(self, args, state, control, metrics, **_):
            seen[state.global_step] = metrics["eval_accuracy"]

    seen, held_out = {}, rows(30, seed=5)
    args = {
        "eval_strategy": "steps",
        "eval_steps": 14,
        "save_strategy": "steps",
        "save_steps": 14,
        "load_best_model_at_end": True,
        "metric_for_best_model": "accuracy",
        "greater_is_better": False,
    }

    def worse_later(prediction):
        calls.append(1)
        return {"accuracy": float(len(calls))}

    calls = []
    strategy = DENI(members=3)
    trainer = make(
        tmp_path, strategy, args=args, eval_dataset=held_out, compute_metrics=worse_later, callbacks=[Best()]
    )
    trainer.train()
    assert seen[14] == 1.0
    assert trainer.state.best_model_checkpoint.endswith("checkpoint-14")
    stopped = make(tmp_path, strategy)
    from deni.training import checkpoint

    checkpoint.load(stopped.population, trainer.state.best_model_checkpoint)
    assert trainer.population.members == stopped.population.members == 3
    assert same(values(trainer), values(stopped))


def test_a_pack_is_its_runs_alone(tmp_path):
    sets = [padded(seed=seed) for seed in (1, 2, 3)]
    strategy = DENI(members=2)
    options = {"model_init": fresh, "data_collator": pad}
    pack = make(tmp_path, strategy, train=sets, seeds=[5, 6, 7], **options)
    pack.train()
    for run, seed in enumerate((5, 6, 7)):
        alone = make(tmp_path, strategy, train=sets[run], seeds=[seed], active_vocabulary=False, **options)
        alone.train()
        own = {name: value[2 * run : 2 * run + 2] for name, value in values(pack).items()}
        assert distance(own, values(alone)) < 1e-10


def test_an_ensemble_is_default_runs_that_vote(tmp_path):
    ensemble = make(tmp_path, Ensemble(members=3), model_init=fresh, args={"seed": 4})
    ensemble.train()
    assert ensemble.member_steps == 120
    tests = rows(7, seed=9)
    members = []
    for seed in (4, derive(4, "ensemble", 1), derive(4, "ensemble", 2)):
        alone = make(tmp_path, Default(), model_init=fresh, seeds=[seed])
        alone.train()
        members.append(alone.predict(tests).predictions)
    assert np.allclose(ensemble.predict_members(tests), np.stack(members, 1), atol=1e-9)
    vote = np.log(np.exp(np.stack(members, 1)).mean(1))
    assert np.allclose(ensemble.predict(tests).predictions, vote, atol=1e-9)


def test_metrics_of_a_pack_are_means_over_its_seeds(tmp_path):
    options = {"eval_dataset": rows(12, seed=3), "compute_metrics": accuracy}
    trainer = make(tmp_path, DENI(members=2), model_init=fresh, seeds=[0, 1], **options)
    trainer.train()
    metrics = trainer.evaluate()
    single = [each["accuracy"] for each in trainer.compute_metrics.per_run]
    assert len(single) == 2
    assert metrics["eval_accuracy"] == pytest.approx(np.mean(single))
    assert trainer.predict(rows(5)).predictions.shape == (5, 2, 3)


def test_several_runs_need_model_init(tmp_path):
    with pytest.raises(ValueError, match="3 runs need `model_init`"):
        make(tmp_path, Ensemble(members=3))


def test_the_global_generators_stay_as_they_were(tmp_path):
    def states():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    before = states()
    trainer = make(tmp_path, DENI(members=2), model_init=fresh)
    trainer.train()
    trainer.predict(rows(5))
    assert states() == before


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(tmp_path):
    trained = []
    for seed in (3, 3, 4):
        trainer = make(tmp_path, DENI(members=2), model_init=fresh, args={"seed": seed})
        trainer.train()
        trained.append(values(trainer))
    assert same(trained[0], trained[1])
    assert not same(trained[0], trained[2])


def test_a_run_without_a_loss_freezes_alone(tmp_path):
    made = []

    def init():
        made.append(bert())
        if len(made) % 3 == 2:
            with torch.no_grad():
                made[-1].classifier.weight.fill_(float("nan"))
        return made[-1]

    pack = make(tmp_path, DENI(members=2), model_init=init, seeds=[0, 1, 2])
    output = pack.train()
    assert [failure.run for failure in pack.failures] == [1]
    assert "step 0" in str(pack.failures[0])
    assert "learning rate" in str(pack.failures[0])
    assert output.metrics["failed_runs"] == 1
    well = make(tmp_path, DENI(members=2), model_init=fresh, seeds=[0, 2])
    well.train()
    for run, other in ((0, 0), (2, 1)):
        own = {name: value[2 * run : 2 * run + 2] for name, value in values(pack).items()}
        assert distance(own, {name: value[2 * other : 2 * other + 2] for name, value in values(well).items()}) < 1e-10


def test_training_stops_when_no_run_is_left_and_keeps_the_last_good_checkpoint(tmp_path):
    class Poison(TrainerCallback):
        def on_step_begin(self, args, state, control, model, **_):
            if state.global_step == 12:
                with torch.no_grad():
                    trainer.population.values["classifier.weight"].fill_(float("nan"))

    args = {"save_strategy": "steps", "save_steps": 5}
    trainer = make(tmp_path, Default(), args=args, callbacks=[Poison()])
    trainer.train()
    assert trainer.state.global_step == 13
    assert [(failure.run, failure.step) for failure in trainer.failures] == [(0, 12)]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["checkpoint-10", "checkpoint-5"]


def test_predictions_are_log_probabilities_batch_first(tmp_path):
    trainer = make(tmp_path, DENI(members=3), eval_dataset=rows(12), compute_metrics=accuracy)
    trainer.train()
    members, vote = trainer.predict_members(rows(5)), trainer.predict(rows(5)).predictions
    assert members.shape == (5, 3, 3)
    assert np.allclose(np.exp(members).sum(-1), 1)
    assert np.allclose(np.exp(vote), np.exp(members).mean(1))
    assert "eval_accuracy" in trainer.evaluate()


def test_columns_that_the_model_does_not_know_are_dropped_and_others_kept(tmp_path):
    trainer = make(tmp_path, DENI(members=2), train=padded(), data_collator=pad)
    trainer.train()
    assert trainer.state.global_step == 24


@pytest.mark.parametrize("option", ["label_smoothing_factor", "compute_loss_func", "class_weights"])
def test_each_member_has_the_loss_that_the_user_chose(tmp_path, option):
    def twice(outputs, labels, num_items_in_batch=None):
        return 2 * F.cross_entropy(outputs["logits"], labels)

    given = {
        "label_smoothing_factor": {"args": {"label_smoothing_factor": 0.1}},
        "compute_loss_func": {
            "compute_loss_func": lambda out, y, num_items_in_batch=None: 2 * F.cross_entropy(out["logits"], y)
        },
        "class_weights": {"class_weights": torch.tensor([1.0, 2.0, 0.5])},
    }[option]
    model = seeded(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).train()
    batch = rows(8)
    logits = model(input_ids=torch.tensor([row["input_ids"] for row in batch])).logits
    labels = torch.tensor([row["labels"] for row in batch])
    expected = {
        "label_smoothing_factor": 0.9 * F.cross_entropy(logits, labels) - 0.1 * logits.log_softmax(-1).mean(),
        "compute_loss_func": 2 * F.cross_entropy(logits, labels),
        "class_weights": F.cross_entropy(logits, labels, weight=torch.tensor([1.0, 2.0, 0.5]).double()),
    }[option]
    trainer = make(tmp_path, Default(), model=copy.deepcopy(model), **given)
    inputs = {"input_ids": torch.tensor([row["input_ids"] for row in batch]), "labels": labels}
    trainer.population.module.train()
    loss = trainer.compute_loss(trainer.model, inputs)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-7)  # transformers smooths labels in float32


def test_active_vocabulary_changes_nothing(tmp_path):
    trained = []
    for active in (True, False):
        strategy = DENI(members=2, variance=0.15)
        trainer = make(tmp_path, strategy, train=padded(), data_collator=None, active_vocabulary=active)
        assert (trainer.active_ids is not None) == active
        trainer.data_collator = pad
        trainer.train()
        trained.append(trainer.population.member(1))
    assert distance(*trained) < 1e-12


def test_active_vocabulary_is_off_where_it_would_not_be_exact(tmp_path):
    head = DENI(members=2, variance=0.15)
    assert make(tmp_path, head).active_ids is not None
    assert make(tmp_path, head, args={"weight_decay": 0.1}).active_ids is None
    assert make(tmp_path, DENI(members=2)).active_ids is None  # noise on all that trains


def test_checkpointing_draws_the_same_masks(tmp_path):
    before = seeded()
    before.gradient_checkpointing_enable()
    trained = []
    for model, on in [(seeded(), False), (seeded(), True), (before, False)]:
        trainer = make(tmp_path, DENI(members=2), model=model, args={"gradient_checkpointing": on})
        trainer.train()
        assert trainer.population.engine_name == "stacked"
        trained.append([trainer.population.member(member) for member in range(2)])
    plain, *checkpointed = trained
    assert all(distance(a, b) < 1e-12 for other in checkpointed for a, b in zip(plain, other, strict=True))


def test_bfloat16_stays_finite(tmp_path):
    trainer = make(tmp_path, DENI(members=2), model=seeded().float(), args={"bf16": True})
    trainer.train()
    assert all(torch.isfinite(value).all() for value in trainer.population.values.values())


def test_too_little_memory_computes_fewer_members_at_a_time(tmp_path, monkeypatch):
    plenty = make(tmp_path, DENI(members=4))
    plenty.train()
    need = memory.estimate(seeded().train(), {"input_ids": torch.ones(4, 9, dtype=torch.long)}, 0).resident()
    monkeypatch.setattr(memory, "available", lambda device: need.peak(4, 2) + 1)
    scarce = make(tmp_path, DENI(members=4), active_vocabulary=False)
    scarce.train()
    assert scarce.engine_plan.at_a_time == 2
    plain = make(tmp_path, DENI(members=4), active_vocabulary=False, engine="loop")
    monkeypatch.undo()
    plain.train()
    assert distance(values(scarce), values(plain)) < 1e-9


def test_on_a_cpu_members_are_computed_in_passes_that_save_memory(tmp_path, monkeypatch):
    whole = make(tmp_path, DENI(members=4), model=lora())
    whole.train()
    monkeypatch.setattr(memory, "KERNELS", 0)
    frugal = make(tmp_path, DENI(members=4), model=lora())
    frugal.train()
    assert whole.engine_plan.at_a_time is None
    assert frugal.engine_plan.at_a_time in (1, 2)
    assert distance(values(whole), values(frugal)) < 1e-12


def test_no_memory_at_all_says_what_would_fit(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda device: 1000)
    with pytest.raises(ValueError, match="use fewer members, LoRA, or a smaller batch"):
        make(tmp_path, DENI(members=4)).train()


def test_phases_that_do_not_fit_raise_before_training(tmp_path):
    with pytest.raises(ValueError, match="train longer"):
        make(tmp_path, DENI(members=2), args={"max_steps": 1}).train()


def test_a_checkpoint_of_other_runs_is_refused(tmp_path):
    save = {"save_strategy": "steps", "save_steps": 20}
    make(tmp_path, Default(), args=save).train()
    other = make(tmp_path, Default(), model_init=fresh, seeds=[0, 1])
    with pytest.raises(ArtifactError, match=r"of another run \(seeds \[42\], not \[0, 1\]\)"):
        other.train(resume_from_checkpoint=str(tmp_path / "out/checkpoint-20"))


def test_a_truncated_checkpoint_is_refused(tmp_path):
    make(tmp_path, Default(), args={"save_strategy": "steps", "save_steps": 20}).train()
    path = tmp_path / "out/checkpoint-20/population.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ArtifactError, match="checkpoint-20 is"):
        make(tmp_path, Default()).train(resume_from_checkpoint=str(path.parent))


def test_data_parallel_in_one_process_is_refused(tmp_path):
    args = TrainingArguments(str(tmp_path), report_to=[], use_cpu=True)
    args._n_gpu = 2
    with pytest.raises(ValueError, match="accelerate launch"):
        PopulationTrainer(seeded(), args, train_dataset=rows())


def test_auto_find_batch_size_is_refused(tmp_path):
    with pytest.raises(ValueError, match="auto_find_batch_size"):
        make(tmp_path, args={"auto_find_batch_size": True})


class Normed(BertForSequenceClassification):
    def __init__(self, config):
        super().__init__(config)
        self.classifier = torch.nn.Sequential(torch.nn.BatchNorm1d(32), torch.nn.Linear(32, 3))


def test_a_model_that_cannot_be_stacked_runs_in_the_loop_or_is_refused(tmp_path, caplog):
    def normed():
        return Normed(BertConfig(**CONFIG)).double()

    auto = make(tmp_path, DENI(members=2, scope="trainable"), model=normed())
    auto.train()
    assert auto.population.engine_name == "loop"
    assert len([r for r in caplog.records if "computed sequentially: " in r.message]) == 1
    with pytest.raises(ValueError, match="cannot be stacked: a buffer of the model changes"):
        make(tmp_path, DENI(members=2), model=normed(), engine="stacked").train()


def test_the_users_own_optimizer_follows_the_members(tmp_path):
    model = seeded()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9)
    scheduler = LambdaLR(optimizer, lambda step: 1.0)
    trainer = make(tmp_path, DENI(members=3), model=model, optimizers=(optimizer, scheduler))
    trainer.train()
    assert trainer.population.size == 3
    assert len(scheduler.base_lrs) == len(optimizer.param_groups) == 1
    assert len(optimizer.param_groups[0]["params"]) == 3 * len(trainer.population.slots)


def test_an_optimizer_with_an_empty_group_keeps_it_and_one_of_another_model_is_refused(tmp_path):
    model = seeded()
    optimizer = torch.optim.AdamW([{"params": list(model.parameters())}, {"params": [], "weight_decay": 0.5}], lr=1e-3)
    scheduler = LambdaLR(optimizer, lambda step: 1.0)
    trainer = make(tmp_path, model=model, optimizers=(optimizer, scheduler))
    trainer.train()
    assert [len(group["params"]) > 0 for group in optimizer.param_groups][:2] == [True, False]

    other = torch.optim.AdamW(seeded().parameters(), lr=1e-3)
    with pytest.raises(ValueError, match="parameters that are none of the model's"):
        make(tmp_path, optimizers=(other, None)).train()
