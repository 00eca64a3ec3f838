"""Checkpoints: what goes on as if not stopped, what is refused, which population comes back."""

import shutil

import numpy as np
import pytest

from deni.errors import ArtifactError, InputWarning
from deni.strategies import DENI, Default, DelayedEnsemble, Ensemble, NoisyInterpolation
from deni.training import checkpoint
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


def test_a_checkpoint_of_the_last_step_has_the_engine_that_its_members_predict_with(tmp_path):
    args = {"save_strategy": "steps", "save_steps": 40}
    whole = make(tmp_path, DENI(members=3), args=args, at_a_time=2)
    whole.train()
    resumed = make(tmp_path, DENI(members=3), args=args, at_a_time=2)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out/checkpoint-40"))
    for trainer in (whole, resumed):
        assert (trainer.population.engine_name, trainer.population.module.at_a_time) == ("stacked", 2)
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
    [(Default(), r"\(strategy 'deni', not 'default'\)"), (DENI(members=2, variance=0.3), "variance None, not 0.3")],
)
def test_a_checkpoint_of_another_strategy_is_refused(tmp_path, other, message):
    make(tmp_path, DENI(members=2), args=SAVE).train()
    with pytest.raises(ArtifactError, match=message):
        make(tmp_path, other).train(resume_from_checkpoint=str(tmp_path / "out/checkpoint-14"))


@pytest.mark.parametrize("tuned", ["full", "lora"])
def test_a_checkpoint_before_the_first_fork_goes_on_with_other_forks(tmp_path, tuned):
    first = DelayedEnsemble(members=2, variance=0.15)  # forks at step 36 of 40
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


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A training with checkpoints at 14 and 28 of 40 steps, inside an interpolation and after it."""
    folder = tmp_path_factory.mktemp("whole")
    trainer = make(folder, DENI(members=2), args=SAVE)
    trainer.train()
    return trainer, folder / "out"


FILES = [
    *("population.safetensors", "base.safetensors", "population.json", "deni.json", "config.json"),
    *("optimizer.pt", "scheduler.pt", "rng_state.pth", "randomness_0.safetensors", "trainer_state.json"),
]


@pytest.mark.parametrize("damage", ["missing", "truncated", "altered"])
@pytest.mark.parametrize("name", FILES)
def test_a_checkpoint_with_a_damaged_file_is_refused_in_one_line(whole, tmp_path, name, damage):
    folder = tmp_path / "checkpoint-14"
    shutil.copytree(whole[1] / folder.name, folder)
    file = folder / name
    content = file.read_bytes()
    file.unlink()
    at = len(content) // 2
    if damage != "missing":
        file.write_bytes(content[:at] if damage == "truncated" else content[:at] + b"~" + content[at + 1 :])
    what = {"missing": "is missing", "truncated": f"has {at} bytes, not", "altered": "was changed after it was written"}
    with pytest.raises(ArtifactError, match=f"checkpoint-14 is not .* \\({name} {what[damage]}") as raised:
        make(tmp_path, DENI(members=2)).train(resume_from_checkpoint=str(folder))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "randomness_0.safetensors"])
def test_a_damaged_checkpoint_is_passed_over(whole, tmp_path, name):
    trainer, folder = whole
    for step in (14, 28):
        shutil.copytree(folder / f"checkpoint-{step}", tmp_path / f"out/checkpoint-{step}")
    (tmp_path / "out/checkpoint-28" / name).unlink()
    resumed = make(tmp_path, DENI(members=2), args=SAVE)
    with pytest.warns(InputWarning, match=rf"resumed from .*-14, passed over .*checkpoint-28 \({name} is missing\)"):
        resumed.train(resume_from_checkpoint=True)
    assert same(values(trainer), values(resumed))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("population.json", "{}", "lacks its sizes"),
        ("population.json", '{"format": 2, "runs": 1, "members": 1, "forks": 0}', "format 2"),
        ("population.json", "[", "not a readable checkpoint"),
        ("trained.safetensors", "[", "is truncated"),
    ],
)
def test_other_contents_are_refused_where_no_manifest_is_asked(whole, tmp_path, file, content, message):
    folder = tmp_path / "checkpoint-14"
    shutil.copytree(whole[1] / folder.name, folder)
    (folder / file).write_text(content)
    with pytest.raises(ArtifactError, match=f"checkpoint-14.*{message}"):
        checkpoint.load(make(tmp_path, DENI(members=2)).population, folder)


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
