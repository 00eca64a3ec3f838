"""Checkpoints: what goes on as if not stopped, what is refused, which population comes back."""

import json
import shutil

import numpy as np
import pytest

from deni.errors import ArtifactError
from deni.strategies import DENI, Default, DelayedEnsemble, Ensemble, NoisyInterpolation
from tests.helpers.trainers import distance, fresh, lora, make, rows, same, seeded, values

SAVE = {"save_strategy": "steps", "save_steps": 14}


@pytest.mark.parametrize("engine", ["loop", "stacked"])
def test_resumed_in_the_middle_of_an_epoch_with_gradient_accumulation_is_not_stopped(tmp_path, engine):
    args = {**SAVE, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 2}
    whole = make(tmp_path, DENI(members=3), args=args, engine=engine, train=rows(38))
    whole.train()
    for folder in (tmp_path / "out").glob("checkpoint-*"):
        if folder.name != "checkpoint-14":
            shutil.rmtree(folder)
    resumed = make(tmp_path, DENI(members=3), args=args, engine=engine, train=rows(38))
    resumed.train(resume_from_checkpoint=True)
    assert same(values(whole), values(resumed))
    assert np.array_equal(whole.predict(rows(7)).predictions, resumed.predict(rows(7)).predictions)


@pytest.mark.parametrize("strategy", [DENI(members=3), NoisyInterpolation(members=3)])
def test_the_best_population_predicts_what_its_evaluation_gave(tmp_path, strategy):
    seen, held_out = [], rows(30, seed=5)

    def earlier_is_better(prediction):
        seen.append(prediction.predictions)
        return {"age": float(len(seen))}

    best = {"load_best_model_at_end": True, "metric_for_best_model": "age", "greater_is_better": False}
    args = {**SAVE, **best, "eval_strategy": "steps", "eval_steps": 14}
    trainer = make(tmp_path, strategy, args=args, eval_dataset=held_out, compute_metrics=earlier_is_better)
    trainer.train()
    assert trainer.schedule.at(13).members == trainer.population.members == 3  # inside an interpolation
    assert np.array_equal(trainer.predict(held_out).predictions, seen[0])


@pytest.mark.parametrize(
    ("other", "message"),
    [(Default(), r"\(strategy 'deni', not 'default'\)"), (DENI(members=2, variance=0.3), "variance 0.15, not 0.3")],
)
def test_a_checkpoint_of_another_strategy_is_refused(tmp_path, other, message):
    make(tmp_path, DENI(members=2), args=SAVE).train()
    with pytest.raises(ArtifactError, match=message):
        make(tmp_path, other).train(resume_from_checkpoint=str(tmp_path / "out/checkpoint-14"))


@pytest.mark.parametrize("tuned", ["full", "lora"])
def test_a_checkpoint_before_the_first_fork_goes_on_with_other_forks(tmp_path, tuned):
    first = DelayedEnsemble(members=2)  # forks at step 36 of 40
    other = DelayedEnsemble(members=3, variance=0.3, ensemble_from=0.5, fork_rate="restart")
    model = (lambda: lora()) if tuned == "lora" else seeded
    make(tmp_path, first, model=model(), args=SAVE).train()
    whole, resumed = (make(tmp_path, other, model=model()) for _ in range(2))
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "out/checkpoint-14"))
    assert same(values(whole), values(resumed))
    assert whole.member_steps == resumed.member_steps
    with pytest.raises(ArtifactError, match=r"members 2, not 3"):  # it should have forked at step 20
        make(tmp_path, other, model=model()).train(resume_from_checkpoint=str(tmp_path / "out/checkpoint-28"))


def test_a_checkpoint_after_the_first_fork_does_not_go_on_with_other_forks(tmp_path):
    make(tmp_path, DelayedEnsemble(members=2, ensemble_from=0.5), args=SAVE).train()
    other = DelayedEnsemble(members=2, ensemble_from=0.9)
    with pytest.raises(ArtifactError, match=r"ensemble_from 0.5, not 0.9"):
        make(tmp_path, other).train(resume_from_checkpoint=str(tmp_path / "out/checkpoint-28"))
    make(tmp_path, other).train(resume_from_checkpoint=str(tmp_path / "out/checkpoint-14"))


@pytest.mark.parametrize(
    "name",
    ["population.json", "population.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json"],
)
def test_a_truncated_file_of_a_checkpoint_gives_one_line(tmp_path, name):
    make(tmp_path, DENI(members=2), args=SAVE).train()
    file = tmp_path / "out/checkpoint-14" / name
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(ArtifactError, match="checkpoint-14") as raised:
        make(tmp_path, DENI(members=2)).train(resume_from_checkpoint=str(file.parent))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("state", "message"), [({}, "lacks its sizes"), ({"format": 2}, "format 2")])
def test_a_checkpoint_with_other_contents_is_refused(tmp_path, state, message):
    make(tmp_path, Default(), args=SAVE).train()
    file = tmp_path / "out/checkpoint-14/population.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **state} if state else {}))
    with pytest.raises(ArtifactError, match=message):
        make(tmp_path, Default()).train(resume_from_checkpoint=str(file.parent))


def test_training_again_from_model_init_starts_from_nothing(tmp_path):
    trainer = make(tmp_path, DENI(members=2), model_init=fresh)
    trainer.train()
    first = values(trainer)
    trainer.train()
    assert same(first, values(trainer))
    assert trainer.member_steps == DENI(members=2).schedule(40).cost


@pytest.mark.parametrize("strategy", [DelayedEnsemble, NoisyInterpolation, DENI, Ensemble])
def test_one_member_is_default_to_the_bit(tmp_path, strategy):
    default, one = make(tmp_path, Default()), make(tmp_path, strategy(members=1))
    default.train()
    one.train()
    assert same(values(default), values(one))


@pytest.mark.parametrize("tuned", ["full", "lora"])
def test_stacked_is_the_loop_with_clipping_decay_and_accumulation(tmp_path, tuned):
    args = {"max_grad_norm": 0.1, "weight_decay": 0.01}
    args |= {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2}
    trained = []
    for engine in ("stacked", "loop"):
        model = lora() if tuned == "lora" else seeded()
        trainer = make(tmp_path, DENI(members=3), model=model, args=args, engine=engine)
        trainer.train()
        trained.append(values(trainer))
    assert distance(*trained) < 1e-12
