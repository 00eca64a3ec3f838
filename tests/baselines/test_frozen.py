"""The frozen baseline as a model that is trained, saved and exported like any other: a probe without a step."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from transformers import AutoModel, pipeline

import deni
from deni.artifact import export
from deni.baselines import make_baseline
from deni.cli import main
from deni.data import Texts
from deni.errors import SettingError
from deni.finetune import fine_tune
from deni.recipe import Recipe
from deni.strategies import SWA, Default, Ensemble, LinearProbe
from deni.tasks import TASKS
from tests.helpers.tiny import toy_rows

ROWS = toy_rows(10)
NOISY = [label if at % 5 else ROWS[at - 1][1] for at, (_, label) in enumerate(ROWS)]  # no C fits all
TRAIN = Texts([text for text, _ in ROWS], NOISY, "toy", pd.DataFrame())
TEST = Texts([text for text, _ in toy_rows(20, seed=1)], [label for _, label in toy_rows(20, seed=1)], "toy", None)
PROBE = LinearProbe(probe_c="cv")


@pytest.fixture(scope="module")
def frozen(model_folder):
    recipe = Recipe(model=model_folder, strategy=PROBE, epochs=0, pooling="mean", max_length=30)
    return fine_tune(TRAIN, recipe, progress=False)


def test_it_scores_what_the_baseline_scores(frozen):
    baseline = make_baseline("frozen").fit(TRAIN, frozen.recipe)
    mine, theirs = frozen.test(TEST), baseline.outputs(TEST.texts)
    assert np.abs(np.exp(mine.votes) - np.exp(theirs)).max() < 2e-3  # the fits end at scikit-learn's tolerance
    assert mine.metrics == TASKS["single_label"].scores(mine.gold, theirs, frozen.labels)
    assert mine.metrics["macro_f1"] > 0.4


def test_nothing_but_the_output_layer_changes(frozen, model_folder):
    assert (frozen.member_steps, str(frozen.schedule)) == (0, "")
    before = AutoModel.from_pretrained(model_folder).state_dict()
    model = frozen.trainer.model
    after = {name.removeprefix("bert."): value for name, value in model.state_dict().items()}
    assert all(torch.equal(after[name], value) for name, value in before.items() if "position_ids" not in name)


def test_it_is_saved_and_loaded_as_any_other(frozen, tmp_path):
    frozen.save(tmp_path / "model")
    loaded = deni.load(tmp_path / "model")
    texts = list(TEST.texts)
    mine = frozen.classifier().predict_log_probabilities(texts)
    assert np.allclose(loaded.predict_log_probabilities(texts), mine, atol=1e-6)
    assert json.loads((tmp_path / "model" / "deni.json").read_text())["member_steps"] == 0


def test_it_is_trained_reported_and_exported_on_the_command_line(model_folder, tickets, tmp_path):
    flags = ["--strategy", "linear_probe", "--probe-c", "cv", "--epochs", "0", "--no-progress"]
    done = CliRunner().invoke(
        main, ["train", tickets, "--model", model_folder, *flags, "--output", str(tmp_path / "model")]
    )
    assert done.exit_code == 0, done.output
    assert (tmp_path / "model" / "report.html").is_file()
    flat = " ".join(done.output.split())
    assert "The encoder is as it was: the output layer was fitted, and nothing trained; one model predicts." in flat
    assert "0 member-steps (nothing was trained;" in flat
    export(tmp_path / "model", tmp_path / "single", how="single")
    text = "parcel late courier"
    label = pipeline("text-classification", str(tmp_path / "single"))(text)[0]["label"]
    assert label == deni.load(tmp_path / "model")([text])[0]["label"]


def test_two_seeds_side_by_side_and_an_adapter_without_a_step(model_folder):
    recipe = Recipe(model=model_folder, strategy=PROBE + SWA(), epochs=0, tuning=deni.Lora(lora_r=2))
    fitted = fine_tune(TRAIN, recipe, seeds=[0, 1], progress=False)
    members = fitted.test(TEST).members
    assert np.allclose(members[:, 0], members[:, 1])


@pytest.mark.parametrize("strategy", [Default(), Ensemble(members=2), LinearProbe(probe_c=0)])
def test_without_a_fit_a_run_needs_a_step(strategy):
    with pytest.raises(SettingError, match="epochs must be above 0, not 0"):
        Recipe(strategy=strategy, epochs=0)
