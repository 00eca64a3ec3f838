"""The exponential mean of the parameters, against its recursion."""

import numpy as np
import pytest
from transformers import AutoTokenizer, TrainerCallback

import deni
from deni.strategies import EMA, Default
from tests.helpers.plain import (
    HELD_OUT,
    Watch,
    bert,
    distance,
    fine_tune,
    make,
    parameters,
    predictions,
    rows,
    same,
    trained,
    values,
    with_questions,
)


def recursion(recorded, decay):
    mean = recorded[0]
    for now in recorded[1:]:
        mean = {name: decay * mean[name] + (1 - decay) * now[name] for name in now}
    return mean


@pytest.mark.parametrize("decay", [0.999, 0.9, 0.5])
def test_the_recursion_from_the_first_step_on_remains_and_predicts(tmp_path, decay):
    watch = Watch()
    trainer = trained(tmp_path, EMA(ema_decay=decay), callbacks=[watch])
    expected = recursion(watch.after, decay)
    assert distance(expected, trainer.population.member(0)) < 1e-12
    assert distance(watch.after[-1], trainer.population.member(0)) > 1e-5
    found = trainer.predict(HELD_OUT).predictions
    assert np.abs(found - predictions(expected, HELD_OUT).numpy()).max() < 1e-10


def test_the_default_decay_is_that_of_the_paper(tmp_path):
    watch = Watch()
    trainer = trained(tmp_path, EMA(), callbacks=[watch])
    assert distance(recursion(watch.after, 0.999), trainer.population.member(0)) < 1e-12


def test_it_is_a_plain_loop_with_the_recursion(tmp_path):
    recorded = []
    fine_tune(bert(), after=lambda model, _: recorded.append(parameters(model)))
    mine = trained(tmp_path, EMA(ema_decay=0.9)).population.member(0)
    assert distance(recursion(recorded, 0.9), mine) < 1e-10


def test_a_decay_of_nothing_is_default(tmp_path):
    assert distance(values(trained(tmp_path, EMA(ema_decay=0.0))), values(trained(tmp_path, Default()))) < 1e-15


def test_during_training_the_mean_so_far_predicts_without_dropout_and_training_goes_on_from_the_last_step(tmp_path):
    _, watch, asks = with_questions(tmp_path, EMA(ema_decay=0.9), steps=[1, 2, 12, 19])
    default = Watch()
    trained(tmp_path, Default(), callbacks=[default])
    assert len(default.after) == 20
    assert all(same(a, b) for a, b in zip(watch.after, default.after, strict=True))
    for done, (first, second) in asks.seen.items():
        expected = recursion(watch.after[:done], 0.9)
        assert np.abs(first - predictions(expected, HELD_OUT).numpy()).max() < 1e-10
        assert np.array_equal(first, second)


def test_what_is_saved_in_the_middle_of_training_is_the_mean(tmp_path, model_folder):
    class Save(TrainerCallback):
        def on_step_begin(self, args, state, control, **_):
            if state.global_step == 12:
                trainer.save_model(str(tmp_path / "artifact"))

    watch = Watch()
    trainer = make(
        tmp_path,
        EMA(ema_decay=0.9),
        model=bert(vocab_size=160),
        callbacks=[watch, Save()],
        processing_class=AutoTokenizer.from_pretrained(model_folder),
        active_vocabulary=False,
    )
    trainer.train()
    loaded, expected = deni.load(tmp_path / "artifact").population.member(0), recursion(watch.after[:12], 0.9)
    assert max(float((loaded[name].double() - expected[name]).abs().max()) for name in expected) < 1e-6
    assert distance(watch.after[11], expected) > 1e-3


def test_resumed_is_not_stopped(tmp_path):
    args = {"save_strategy": "steps", "save_steps": 9}
    whole = trained(tmp_path, EMA(ema_decay=0.9), args=args)
    resumed = make(tmp_path, EMA(ema_decay=0.9), args=args)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out/checkpoint-9"))
    assert same(values(whole), values(resumed))


def test_evaluating_while_training_changes_nothing(tmp_path):
    args = {"eval_strategy": "steps", "eval_steps": 3}
    asked = trained(tmp_path, EMA(ema_decay=0.9), args=args, eval_dataset=rows(5, seed=3))
    assert same(values(asked), values(trained(tmp_path, EMA(ema_decay=0.9))))


@pytest.mark.parametrize("decay", [1.0, -0.1, float("nan")])
def test_a_decay_outside_its_range_is_refused(decay):
    with pytest.raises(ValueError, match=r"ema_decay must be in \[0, 1\)"):
        EMA(ema_decay=decay)
