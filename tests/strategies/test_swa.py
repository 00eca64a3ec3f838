"""The running mean of the parameters, against the parameters of every step."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, TrainerCallback

import deni
from deni.strategies import SWA, Default, Ensemble
from tests.helpers.plain import (
    HELD_OUT,
    RATE,
    Watch,
    bert,
    distance,
    fine_tune,
    lora,
    make,
    mean,
    parameters,
    predictions,
    same,
    tensors,
    trained,
    values,
    with_questions,
)


def test_the_mean_over_every_step_from_a_quarter_on_remains_and_predicts(tmp_path):
    watch = Watch()
    trainer = trained(tmp_path, SWA(), callbacks=[watch])
    expected = mean(watch.after[4:])  # after 5, 6, ..., 20 of 20 steps
    assert distance(expected, trainer.population.member(0)) < 1e-12
    assert distance(watch.after[-1], trainer.population.member(0)) > 1e-4
    logits = predictions(expected, HELD_OUT)
    assert np.abs(trainer.predict(HELD_OUT).predictions - logits.numpy()).max() < 1e-10


@pytest.mark.parametrize(("start", "first"), [(0.0, 1), (0.5, 10), (0.52, 10), (0.53, 11), (1.0, 20)])
def test_the_mean_begins_where_it_was_asked_to(tmp_path, start, first):
    watch = Watch()
    trainer = trained(tmp_path, SWA(average_from=start), callbacks=[watch])
    assert distance(mean(watch.after[first - 1 :]), trainer.population.member(0)) < 1e-12


def test_it_is_a_plain_loop_with_a_mean(tmp_path):
    recorded = []
    fine_tune(bert(), after=lambda model, _: recorded.append(parameters(model)))
    assert distance(mean(recorded[4:]), trained(tmp_path, SWA()).population.member(0)) < 1e-10


def test_during_training_the_mean_so_far_predicts_without_dropout_and_training_goes_on_from_the_last_step(tmp_path):
    _, watch, asks = with_questions(tmp_path, SWA(), steps=[3, 5, 6, 12, 19])
    default = Watch()
    trained(tmp_path, Default(), callbacks=[default])
    assert len(default.after) == 20
    assert all(same(a, b) for a, b in zip(watch.after, default.after, strict=True))  # to the bit
    assert all(same(a, b) for a, b in zip(watch.before[1:], watch.after, strict=False))
    for done, (first, second) in asks.seen.items():
        expected = mean(watch.after[4:done]) if done >= 5 else watch.after[done - 1]
        assert np.abs(first - predictions(expected, HELD_OUT).numpy()).max() < 1e-10
        assert np.array_equal(first, second)


def test_evaluations_of_the_trainer_are_by_the_mean(tmp_path):
    watch, losses = Watch(), {}

    class Read(TrainerCallback):
        def on_evaluate(self, args, state, control, metrics, **_):
            losses[state.global_step] = metrics["eval_loss"]

    args = {"eval_strategy": "steps", "eval_steps": 8}
    trained(tmp_path, SWA(), args=args, eval_dataset=HELD_OUT, callbacks=[watch, Read()])
    assert {8, 16} <= set(losses)
    for done, loss in losses.items():
        logits = predictions(mean(watch.after[4:done]), HELD_OUT)
        expected = torch.nn.functional.nll_loss(logits, tensors(HELD_OUT)[1])
        assert loss == pytest.approx(float(expected), abs=1e-6)


def test_the_rate_is_constant_from_there_on(tmp_path):
    watch = Watch()
    trained(tmp_path, SWA(swa_rate=0.3), callbacks=[watch])
    rates = [each["classifier.weight"] for each in watch.rates]
    assert rates == pytest.approx([RATE * (1 - step / 20) for step in range(5)] + [0.3 * RATE] * 15)
    recorded = []
    fine_tune(
        bert(),
        factor=lambda step: 1 - step / 20 if step < 5 else 0.3,
        after=lambda model, _: recorded.append(parameters(model)),
    )
    assert distance(recorded[-1], watch.after[-1]) < 1e-10


def test_without_a_rate_of_its_own_the_schedule_is_left_alone(tmp_path):
    watch = Watch()
    trained(tmp_path, SWA(), callbacks=[watch])
    assert [each["classifier.bias"] for each in watch.rates] == pytest.approx(
        [RATE * (1 - step / 20) for step in range(20)]
    )


def test_what_is_saved_in_the_middle_of_training_is_the_mean(tmp_path, model_folder):
    class Save(TrainerCallback):
        def on_step_begin(self, args, state, control, **_):
            if state.global_step == 12:
                trainer.save_model(str(tmp_path / "artifact"))

    watch = Watch()
    trainer = make(
        tmp_path,
        SWA(),
        model=bert(vocab_size=160),
        callbacks=[watch, Save()],
        processing_class=AutoTokenizer.from_pretrained(model_folder),
        active_vocabulary=False,
    )
    trainer.train()
    saved = load_file(tmp_path / "artifact" / "population.safetensors")
    expected = mean(watch.after[4:12])
    for name, value in expected.items():
        assert (saved[name].reshape(value.shape) - value).abs().max() < 1e-7, name
    loaded = deni.load(tmp_path / "artifact").population.member(0)
    assert max(float((loaded[name].double() - expected[name]).abs().max()) for name in expected) < 1e-6
    assert same(watch.before[12], watch.after[11])  # training went on from the last step


def test_resumed_is_not_stopped(tmp_path):
    for save in (3, 9):  # before the mean begins, and then
        args = {"save_strategy": "steps", "save_steps": save}
        whole = trained(tmp_path / str(save), SWA(), args=args)
        resumed = make(tmp_path / str(save), SWA(), args=args)
        resumed.train(resume_from_checkpoint=str(tmp_path / f"{save}/out/checkpoint-{save}"))
        assert same(values(whole), values(resumed))


@pytest.mark.parametrize("best", [3, 9])
def test_the_best_checkpoint_comes_back_with_its_mean(tmp_path, best):
    calls = []

    def only_one_is_good(prediction):
        calls.append(1)
        return {"age": float(len(calls) == best // 3)}

    steps = {"eval_strategy": "steps", "eval_steps": 3, "save_strategy": "steps", "save_steps": 3}
    args = {**steps, "load_best_model_at_end": True, "metric_for_best_model": "age", "greater_is_better": True}
    watch = Watch()
    options = {"args": args, "eval_dataset": HELD_OUT, "compute_metrics": only_one_is_good, "callbacks": [watch]}
    trainer = trained(tmp_path, SWA(), **options)
    assert trainer.state.best_model_checkpoint.endswith(f"checkpoint-{best}")
    expected = mean(watch.after[4:best]) if best > 5 else watch.after[best - 1]
    assert distance(expected, trainer.population.member(0)) < 1e-12


def test_with_lora_the_mean_is_over_the_factors(tmp_path):
    watch = Watch()
    trainer = trained(tmp_path, SWA(), model=lora(), callbacks=[watch])
    assert distance(mean(watch.after[4:]), trainer.population.member(0)) < 1e-12


@pytest.mark.parametrize("engine", ["loop", "stacked"])
def test_each_run_of_an_ensemble_has_a_mean_of_its_own(tmp_path, engine):
    options = {"model_init": lambda: bert(), "engine": engine}
    ensemble = values(trained(tmp_path, SWA() + Ensemble(members=2), **options))
    alone = values(trained(tmp_path, SWA(), **options))
    assert distance({name: value[:1] for name, value in ensemble.items()}, alone) < 1e-9
    assert not torch.equal(ensemble["classifier.weight"][0], ensemble["classifier.weight"][1])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"average_from": 1.1}, "average_from is a fraction of all steps, from 0 to 1, not 1.1"),
        ({"swa_rate": 0.0}, "swa_rate must be above 0, not 0.0"),
    ],
)
def test_bad_settings_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        SWA(**setting)
