import dataclasses
import importlib.util
import math
import shutil
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from transformers import TrainerCallback

from deni.artifact import OutOfFold, digests_of, load, read_out_of_fold
from deni.data import read_texts
from deni.errors import ArtifactError, InputError, InputWarning, SettingError, TrainingDivergedError
from deni.finetune import fine_tune
from deni.models.loading import MINILM, load_tokenizer, locate
from deni.models.tokenizing import choose_max_length, encode
from deni.recipe import Recipe
from deni.strategies import DENI, Auto, Default
from deni.tasks.metrics import of_classes
from deni.tuning import Full, Lora, make_tuning
from tests.helpers.tiny import toy_rows, write_csv


def fit(texts, model_folder, strategy="default", epochs=2, **settings):
    run = {
        name: settings.pop(name)
        for name in ("dev", "seeds", "checkpoints", "start_from", "callbacks")
        if name in settings
    }
    plan = Recipe.of(None, strategy, model=model_folder, epochs=epochs, **settings)
    return fine_tune(texts, plan, progress=False, **run)


@pytest.fixture
def texts(tickets):
    return read_texts(tickets)


@pytest.fixture
def others(tmp_path):
    """Texts to measure on."""
    return read_texts(write_csv(tmp_path / "others.csv", toy_rows(6, seed=1)))


# ---- recipe --------------------------------------------------------------------------------------------------------


def test_a_recipe_without_preset_has_the_defaults():
    assert Recipe.of() == Recipe() == Recipe(strategy=Auto())
    assert Recipe.of(strategy="deni") == Recipe(strategy=DENI()) == Recipe(tuning=Full(), strategy=DENI(), epochs=10)
    assert Recipe.of(tuning="lora").rate == Lora.learning_rate
    assert Recipe.of(strategy="default").strategy == Default()


@pytest.mark.parametrize("preset", ["paper", "released"])
@pytest.mark.parametrize("tuning", [Full, Lora])
def test_a_preset_fills_what_is_not_given(preset, tuning):
    plan = Recipe.of(preset, tuning=tuning.name)
    assert (plan.epochs, plan.batch_size, plan.max_length, plan.dropout) == (10, 8, 50, 0.3)
    assert plan.rate == tuning.paper_learning_rate
    given = Recipe.of(preset, tuning=tuning.name, epochs=3, learning_rate=1e-3, strategy_settings={"members": 4})
    assert (given.epochs, given.rate, given.batch_size, given.strategy.members) == (3, 1e-3, 8, 4)


@pytest.mark.parametrize(
    ("family", "tuning", "rate"),
    [("Roberta", "lora", 1e-5), ("Roberta", "unipelt", 2.5e-4), ("Albert", "unipelt", 6e-5), ("Albert", "lora", 1e-4)],
)
def test_the_preset_knows_the_papers_rate_of_a_family(family, tuning, rate, tmp_path):
    getattr(transformers, f"{family}Config")().save_pretrained(tmp_path)
    assert Recipe.of("paper", tuning=tuning, model=str(tmp_path)).rate == rate
    assert Recipe.of("paper", tuning=tuning, model=str(tmp_path), learning_rate=1e-3).rate == 1e-3
    assert Recipe.of(tuning=tuning, model=str(tmp_path)).rate == make_tuning(tuning).learning_rate


def test_none_means_not_given():
    assert (
        Recipe.of(epochs=None, learning_rate=None, tuning_settings={}, strategy_settings={"members": None})
        == Recipe.of()
    )


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"epochs": 0}, "epochs must be above 0"),
        ({"epochs": math.nan}, "epochs must be a finite number, not nan"),
        ({"learning_rate": math.inf}, "learning_rate must be a finite number, not inf"),
        ({"batch_size": -1}, "batch_size must be above 0"),
        ({"dropout": 1}, r"dropout must be in \[0, 1\)"),
        ({"warmup_ratio": -0.1}, r"warmup_ratio must be in \[0, 1\)"),
        ({"weight_decay": -1}, "weight_decay must be at least 0"),
        ({"members_at_a_time": 0}, "members_at_a_time must be at least 1"),
        ({"max_length": 3}, "max_length must be at least 4"),
        ({"batch_size": 8, "gradient_accumulation_steps": 3}, "does not divide"),
        ({"engine": "fast"}, "unknown engine 'fast'"),
        ({"optim": "adamw_tourch"}, "unknown optim 'adamw_tourch'.*adamw_torch"),
        ({"strategy": "magic"}, "unknown strategy 'magic'"),
        ({"tuning": "magic"}, "unknown tuning 'magic'"),
        ({"preset": "magic"}, "unknown preset 'magic'"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(settings, part):
    with pytest.raises(ValueError, match=part):
        Recipe.of(**settings)


# ---- training ------------------------------------------------------------------------------------------------------


def test_training_learns_what_is_easy(texts, others, model_folder):
    fitted = fit(texts, model_folder, "deni", epochs=12, learning_rate=3e-3)
    assert fitted.evaluate(texts)["macro_f1"] > 0.9
    assert fitted.evaluate(others)["macro_f1"] > 0.6


def test_the_same_seed_gives_the_same_model_and_another_seed_another(texts, model_folder):
    one, same, other = (fit(texts, model_folder, seed=seed).trainer.population.member(0) for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_a_training_leaves_nothing_in_the_folder_it_runs_in(texts, model_folder, tmp_path, monkeypatch):
    before = set(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    fit(texts, model_folder, epochs=1)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("kept", [True, False])
def test_the_best_epoch_on_the_development_texts_is_kept(texts, others, model_folder, tmp_path, kept):
    checkpoints = tmp_path / "checkpoints" if kept else None
    fitted = fit(texts, model_folder, epochs=8, learning_rate=3e-3, dev=others, checkpoints=checkpoints)
    measured = [line["eval_macro_f1"] for line in fitted.trainer.state.log_history if "eval_macro_f1" in line]
    assert len(measured) == 8
    assert fitted.evaluate(others)["macro_f1"] == pytest.approx(max(measured))


def test_early_stopping_ends_after_so_many_epochs_without_a_better_score(texts, others, model_folder):
    fitted = fit(texts, model_folder, epochs=30, learning_rate=1e-9, dev=others, early_stopping_patience=2)
    measured = [line["eval_macro_f1"] for line in fitted.trainer.state.log_history if "eval_macro_f1" in line]
    assert len(measured) == 3  # nothing is learnt: the first is the best
    assert fitted.trainer.state.global_step == 3 * 5


def test_early_stopping_without_examples_to_stop_by_is_refused(texts, model_folder):
    with pytest.raises(SettingError, match="early_stopping_patience needs examples to stop by"):
        fit(texts, model_folder, epochs=1, early_stopping_patience=2)


def test_class_weights_make_all_classes_count_alike(tmp_path, model_folder):
    rows = [row for at, row in enumerate(toy_rows()) if row[1] == "login" or at < 9]
    texts = read_texts(write_csv(tmp_path / "skewed.csv", rows))
    counts = np.bincount(encode(texts, ["billing", "delivery", "login"]))
    weights = fit(texts, model_folder, class_weights=True, epochs=1).trainer.class_weights
    assert torch.allclose(weights, torch.tensor(len(rows) / (3 * counts), dtype=torch.float32))
    assert float((weights * torch.tensor(counts)).sum()) == pytest.approx(len(rows))
    assert fit(texts, model_folder, epochs=1).trainer.class_weights is None


def test_several_seeds_are_the_runs_of_one_training(texts, model_folder):
    both = fit(texts, model_folder, seeds=[3, 4], epochs=1).trainer.population
    assert both.runs == 2
    for run, seed in enumerate((3, 4)):
        alone = fit(texts, model_folder, seed=seed, epochs=1).trainer.population.member(0)
        assert all(torch.allclose(both.member(run)[name], alone[name], atol=1e-5) for name in alone)


def test_a_loss_that_is_no_number_ends_the_training_with_the_step(texts, model_folder):
    with pytest.raises(TrainingDivergedError, match=r"at step \d+ .*learning rate.*--save-steps"):
        fit(texts, model_folder, learning_rate=1e30)


@pytest.mark.parametrize(
    ("strategy", "settings"),
    [("default", {}), ("swa", {}), ("delayed_ensemble", {"members": 2}), ("soup", {"members": 2})],
)
def test_weights_that_are_no_numbers_after_the_last_step_end_the_training(texts, model_folder, strategy, settings):
    last = 2 * math.ceil(len(texts) / 8) - 1

    class Poison(TrainerCallback):
        """What the last update may do: its loss was still finite."""

        def on_optimizer_step(self, args, state, control, model, **_):
            if state.global_step == last:
                with torch.no_grad():
                    model.values["classifier.weight"][-1, 0, 0] = float("inf")

    with pytest.raises(
        TrainingDivergedError, match=rf"run 0 has non-finite weights or predictions after step {last}, the last: "
    ):
        fit(texts, model_folder, strategy, strategy_settings=settings, callbacks=[Poison()])


def test_weights_that_are_too_large_to_predict_end_the_training(texts, model_folder):
    with pytest.raises(TrainingDivergedError, match="non-finite weights or predictions after step 0, the last: "):
        fit(texts, model_folder, epochs=1, batch_size=64, learning_rate=1e30)  # one step, whose loss was finite


@pytest.mark.parametrize("step", [0, 4])
def test_a_run_that_diverged_is_no_part_of_the_model(texts, others, model_folder, tmp_path, step):
    class Poison(TrainerCallback):
        def on_optimizer_step(self, args, state, control, model, **_):
            if state.global_step == step:
                with torch.no_grad():
                    model.values["classifier.weight"][1, 0, 0] = float("nan")

    settings = {"strategy_settings": {"members": 3}, "epochs": 1}
    result = fit(texts, model_folder, "ensemble", callbacks=[Poison()], **settings)
    whole = fit(texts, model_folder, "ensemble", **settings).classifier().members(others.texts)
    assert result.trainer.state.global_step == 5
    assert [each.run for each in result.trainer.failures] == [1]
    assert np.allclose(result.test(others).members, whole[:, [0, 2]], atol=1e-6)
    loaded = load(result.save(tmp_path / "model"), "cpu")
    assert (loaded.population.size, loaded.info["runs"], loaded.info["members"]) == (2, 2, 1)
    assert np.allclose(loaded.members(others.texts), whole[:, [0, 2]], atol=1e-6)
    (failure,) = loaded.info["diagnostics"]["failures"]
    assert failure.startswith("run 1 has ")


def test_texts_that_cannot_be_trained_on_are_refused(tmp_path, model_folder):
    one = read_texts(write_csv(tmp_path / "one.csv", [("hello", "a"), ("hi", "a")]))
    with pytest.raises(InputError, match=r"one\.csv: all texts have the label 'a'"):
        fit(one, model_folder)
    (tmp_path / "none.csv").write_text("text\nhello\n")
    none = read_texts(tmp_path / "none.csv", label_column=None, labels_required=False)
    with pytest.raises(InputError, match=r"none\.csv: training needs labels"):
        fit(none, model_folder)


def test_resume_needs_a_checkpoint(texts, model_folder, tmp_path):
    plan = Recipe.of(strategy="default", model=model_folder)
    with pytest.raises(InputError, match="there is no checkpoint folder"):
        fine_tune(texts, plan, resume=True)
    with pytest.raises(InputError, match="has no checkpoint to resume from"):
        fine_tune(texts, plan, resume=True, checkpoints=tmp_path / "nothing")


def test_early_stopping_goes_on_being_patient_after_a_resume(texts, others, model_folder, tmp_path):
    class Keep(TrainerCallback):
        """Copies the checkpoints, of which the best and the last stay."""

        def on_save(self, args, state, control, **_):
            shutil.copytree(args.output_dir, tmp_path / f"kept{round(state.epoch)}")

    still = {"epochs": 9, "learning_rate": 1e-9, "dev": others, "early_stopping_patience": 3}  # no score is better
    whole = fit(texts, model_folder, **still, checkpoints=tmp_path / "checkpoints", callbacks=[Keep()])
    assert whole.trainer.state.epoch == 4
    assert not (tmp_path / "kept4").exists()  # a training resumed from there would train on
    again = fit(texts, model_folder, **still, start_from=tmp_path / "kept3")
    assert again.trainer.state.epoch == 4
    found, expected = again.trainer.population.values, whole.trainer.population.values
    assert all(torch.equal(found[name], value) for name, value in expected.items())


# ---- parts ---------------------------------------------------------------------------------------------------------


def test_minilm_is_the_packaged_model_or_the_hub_id(monkeypatch, tmp_path):
    assert locate("bert-base-uncased") == "bert-base-uncased"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert locate("minilm") == MINILM
    spec = SimpleNamespace(origin=str(tmp_path / "package" / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    assert locate("minilm") == str(tmp_path / "package" / "model")


def test_a_model_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nothing' cannot be loaded: .*a folder or a hub id"):
        load_tokenizer(str(tmp_path / "nothing"))


def test_the_maximum_length_is_the_99th_percentile_and_warns_of_more_cuts(texts, model_folder):
    tokenizer = load_tokenizer(model_folder)
    lengths = [len(ids) for ids in tokenizer(texts.texts)["input_ids"]]
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputWarning)
        assert choose_max_length(tokenizer, texts, 40, 40) == 40
        chosen = choose_max_length(tokenizer, texts, None, 10_000)
    assert np.mean(np.array(lengths) > chosen) <= 0.01
    with pytest.warns(InputWarning, match=r"tickets.csv: 100% of the texts are longer than 5 tokens"):
        assert choose_max_length(tokenizer, texts, 5, 40) == 5
    with pytest.raises(InputError, match="max_length 50 is over the model's limit of 40"):
        choose_max_length(tokenizer, texts, 50, 40)


def test_a_label_that_training_never_saw_is_named(texts):
    with pytest.raises(InputError, match=r"text 1 has label 'billing', which training never saw \(it saw a, b"):
        encode(texts, ["a", "b"])


def test_scores_are_those_of_scikit_learn():
    assert of_classes([0, 1, 2], [0, 1, 2]) == {"macro_f1": 1, "accuracy": 1, "mcc": 1}
    assert of_classes([0, 0, 1, 1], [0, 0, 0, 0]) == pytest.approx({"macro_f1": 1 / 3, "accuracy": 0.5, "mcc": 0})


def test_the_output_layer_has_its_own_rate(texts, model_folder):
    fitted = fit(texts, model_folder, epochs=1, head_lr_scale=4.0)
    of = {id(each): group["initial_lr"] for group in fitted.trainer.optimizer.param_groups for each in group["params"]}
    starts = {name: of[id(views[0])] for name, views in fitted.trainer.population.views.items()}
    assert {rate / fitted.recipe.rate for name, rate in starts.items() if "classifier" in name} == {4.0}
    assert {rate / fitted.recipe.rate for name, rate in starts.items() if "classifier" not in name} == {1.0}
    assert fitted.info()["recipe"]["head_lr_scale"] == 4.0
    with pytest.raises(SettingError, match="head_lr_scale must be above 0, not 0"):
        Recipe(head_lr_scale=0.0)


def test_what_is_added_to_a_model_is_in_its_artifact(texts, model_folder, tmp_path):
    result = fit(texts, model_folder, epochs=1)
    result.added["calibration"] = {"temperature": 2.0}
    result.out_of_fold = OutOfFold(
        {"vote": np.zeros((1, len(texts), len(result.labels)))},
        np.zeros((1, len(texts)), int),
        encode(texts, result.labels),
        digests_of(texts.texts),
        result.labels,
    )
    result.save(tmp_path / "model")
    assert load(tmp_path / "model").info["calibration"] == {"temperature": 2.0}
    assert read_out_of_fold(tmp_path / "model").digests == digests_of(texts.texts)


# ---- soft labels -----------------------------------------------------------------------------------------------------


def test_texts_with_one_hot_soft_labels_train_as_their_labels(model_folder, texts):
    one_hot = np.eye(3)[encode(texts, sorted(set(texts.labels)))]
    soft = dataclasses.replace(texts, soft=one_hot, weights=np.ones(len(texts)))
    hard, same = (fit(each, model_folder).trainer.population.values for each in (texts, soft))
    assert max(float((hard[name] - same[name]).abs().max()) for name in hard) < 1e-6


def test_a_checkpoint_of_other_soft_labels_is_refused(tmp_path, model_folder, texts):
    soft = np.full((len(texts), 3), 1 / 3)
    plan = Recipe.of(None, "default", model=model_folder, epochs=1)
    fine_tune(texts, plan, progress=False, checkpoints=tmp_path / "c", save_steps=2)
    for other in ({"soft": soft}, {"weights": np.arange(len(texts)) + 1.0}):
        with pytest.raises(ArtifactError, match="training texts"):
            fit(dataclasses.replace(texts, **other), model_folder, start_from=tmp_path / "c", epochs=1)


def test_a_training_without_bf16_is_in_float32_also_after_one_with_it(texts, model_folder):
    fits = (fit(texts, model_folder, epochs=1, bf16=bf16) for bf16 in (True, False))
    assert [each.trainer.accelerator.mixed_precision for each in fits] == ["bf16", "no"]
