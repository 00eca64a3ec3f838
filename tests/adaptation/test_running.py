"""From texts to a folder that every command takes; interrupted, resumed, refused."""

import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from deni.adaptation import adapt
from deni.adaptation.trainer import AdaptationTrainer
from deni.data import Texts
from deni.errors import ArtifactError, InputError, SettingError
from deni.finetune import fine_tune
from deni.models.features import FrozenEncoder
from deni.randomness import global_generators
from deni.recipe import Recipe
from tests.helpers.tiny import SMALL, TOPICS, toy_rows

FAST = {"learning_rate": 2e-3, "epochs": 3, "batch_size": 16, "progress": False, "device": "cpu"}


@pytest.fixture(scope="module")
def masked(masked_folder, texts, tmp_path_factory):
    """The masked model, adapted."""
    output = tmp_path_factory.mktemp("adapted") / "encoder"
    return adapt(texts, model=masked_folder, output=output, **FAST)


@pytest.fixture(scope="module")
def contrastive(sentence_folder, texts, tmp_path_factory):
    """The sentence encoder, adapted."""
    output = tmp_path_factory.mktemp("adapted") / "encoder"
    return adapt(texts, model=sentence_folder, output=output, **FAST)


def weights(folder):
    return load_file(Path(folder) / "model.safetensors")


def test_the_loss_on_held_out_texts_falls_and_the_best_weights_are_written(masked, masked_folder, texts):
    assert masked.improved
    assert masked.after == min(masked.losses.values()) < masked.before
    again = adapt(texts, model=str(masked.output), output=masked.output.parent / "again", **{**FAST, "epochs": 0.1})
    assert again.before == pytest.approx(masked.after, abs=1e-6)  # the same texts are held out, the same tokens hidden


def test_what_the_objective_does_not_train_stays_to_the_bit(masked, masked_folder, contrastive, sentence_folder):
    before, after = weights(masked_folder), weights(masked.output)
    equal = {name for name in after if torch.equal(before[name], after[name])}
    assert equal == {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}
    before, after = weights(sentence_folder), weights(contrastive.output)
    assert before.keys() == after.keys()
    assert {name for name in after if torch.equal(before[name], after[name])} == {
        "pooler.dense.weight",
        "pooler.dense.bias",
    }


def test_transformers_reads_it_as_encoder_as_masked_model_and_for_labels(masked, masked_folder, texts):
    model, info = transformers.AutoModelForMaskedLM.from_pretrained(masked.output, output_loading_info=True)
    assert not info["missing_keys"]
    encoder, info = transformers.AutoModel.from_pretrained(masked.output, output_loading_info=True)
    assert not info["missing_keys"]
    tokens = transformers.AutoTokenizer.from_pretrained(masked.output)(texts[:3], padding=True, return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(
            model.eval().bert(**tokens).last_hidden_state, encoder.eval()(**tokens).last_hidden_state
        )
    _, info = transformers.AutoModelForSequenceClassification.from_pretrained(masked.output, output_loading_info=True)
    assert set(info["missing_keys"]) == {"classifier.weight", "classifier.bias"}  # not the pooler
    assert encoder.config.vocab_size == 160


@pytest.mark.parametrize("architecture", ["roberta", "distilbert", "albert", "modernbert"])
def test_other_architectures_are_written_whole(architecture, model_folder, texts, tmp_path):
    family, sizes = SMALL[architecture]
    source, output = tmp_path / "source", tmp_path / "encoder"
    shutil.copytree(model_folder, source)
    with global_generators(0):
        config = getattr(transformers, f"{family}Config")(**{**sizes, "vocab_size": 160})
        model = getattr(transformers, f"{family}ForMaskedLM")(config)
        model.save_pretrained(source)
    adapt(texts[:60], model=str(source), output=output, steps=2, **{**FAST, "learning_rate": 1e-2})
    for kind in (transformers.AutoModelForMaskedLM, transformers.AutoModel):
        _, before = kind.from_pretrained(source, output_loading_info=True)
        _, after = kind.from_pretrained(output, output_loading_info=True)
        assert after["missing_keys"] == before["missing_keys"]
        assert after["unexpected_keys"] == before["unexpected_keys"]
    tokens = transformers.AutoTokenizer.from_pretrained(output)(texts[:2], padding=True, return_tensors="pt")
    inputs = {name: tokens[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        logits = transformers.AutoModelForMaskedLM.from_pretrained(output).eval()(**inputs).logits
        assert (logits - model.eval()(**inputs).logits).abs().max() > 1e-4


def test_deni_and_sentence_transformers_read_the_same_vectors(contrastive, sentence_folder, texts):
    ours = FrozenEncoder(str(contrastive.output), device="cpu")(texts[:5])
    theirs = SentenceTransformer(str(contrastive.output), device="cpu").encode(texts[:5])
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert np.abs(ours - FrozenEncoder(sentence_folder, device="cpu")(texts[:5])).max() > 1e-3
    for name in ("modules.json", "1_Pooling/config.json", "sentence_bert_config.json"):
        assert (contrastive.output / name).read_text() == (Path(sentence_folder) / name).read_text()


@pytest.mark.parametrize("which", ["masked", "contrastive"])
def test_fine_tuning_starts_from_it(which, request):
    adapted = request.getfixturevalue(which)
    rows = toy_rows(4)
    train = Texts([text for text, _ in rows], [label for _, label in rows], "train", None)
    result = fine_tune(train, Recipe.of(strategy="default", model=str(adapted.output), epochs=0.5), progress=False)
    assert sorted(result.labels) == sorted(TOPICS)


def test_the_tokenizer_is_as_it_was(contrastive, sentence_folder):
    assert (contrastive.output / "tokenizer.json").read_text() == (Path(sentence_folder) / "tokenizer.json").read_text()


def test_the_folder_says_what_was_done(masked_folder, texts, tmp_path, read):
    done = adapt([*texts, texts[0].upper()], model=masked_folder, output=tmp_path / "encoder", test=texts[1:3], **FAST)
    said = read(done.output)
    assert said["texts"] == {
        "read": 121,
        "left_out_empty": 0,
        "left_out_test": 2,
        "left_out_repeated": 1,
        "trained_on": 106,
        "held_out": 12,
    }
    assert said["held_out_losses"] == [[step, loss] for step, loss in done.losses.items()]
    assert said["improved"]
    assert said["held_out_loss"] == {"before": done.before, "after": done.after}
    card = (done.output / "README.md").read_text()
    assert f"from {done.before:.4g} to {done.after:.4g}" in card
    assert "2 of its texts are in test and were left out" in card
    assert not (tmp_path / "encoder.checkpoints").exists()


def test_what_never_improves_is_written_as_it_was_and_says_so(masked_folder, texts, tmp_path, read):
    done = adapt(texts, model=masked_folder, output=tmp_path / "encoder", **{**FAST, "learning_rate": 5.0})
    assert not done.improved
    assert (done.best_step, done.after) == (0, done.before)
    before, after = weights(masked_folder), weights(done.output)
    assert all(torch.equal(before[name], value) for name, value in after.items())
    assert not read(done.output)["improved"]
    assert "**these are its weights, unchanged**" in (done.output / "README.md").read_text()


def test_it_stops_early(masked_folder, texts, tmp_path):
    settings = {**FAST, "learning_rate": 0.1, "epochs": 10}
    done = adapt(texts[:60], model=masked_folder, output=tmp_path / "encoder", patience=1, **settings)
    assert done.stopped_early
    assert (list(done.losses), done.best_step, done.steps, done.planned) == ([0, 3, 6], 3, 6, 30)
    assert done.losses[6] > done.losses[3] < done.losses[0]


def test_it_draws_nothing_from_the_generators_of_the_caller(masked, masked_folder, texts, tmp_path):
    torch.manual_seed(5)
    before, numbers = torch.get_rng_state(), np.random.get_state()[1].copy()
    done = adapt(texts, model=masked_folder, output=tmp_path / "encoder", **FAST)
    assert torch.equal(before, torch.get_rng_state())
    assert (np.random.get_state()[1] == numbers).all()
    assert done.losses == masked.losses


def test_the_cost_is_told_before_the_first_step(masked, masked_folder, texts, tmp_path):
    costs = []
    done = adapt(texts, model=masked_folder, output=tmp_path / "encoder", on_cost=costs.append, **FAST)
    (cost,) = costs
    assert (cost.texts, cost.steps, cost.device) == (108, 18, "cpu")
    assert 0 < cost.seconds < 60
    assert cost.memory > 2**20
    assert done.losses == masked.losses  # timing changes nothing


# ---- interrupted -----------------------------------------------------------------------------------------------------


def at_step(monkeypatch, step, what):
    """Have something happen while a step is computed."""
    compute, calls = AdaptationTrainer.compute_loss, []

    def counted(self, *arguments, **options):
        calls.append(1)
        if len(calls) == step:
            what()
        return compute(self, *arguments, **options)

    monkeypatch.setattr(AdaptationTrainer, "compute_loss", counted)


def fail():
    raise RuntimeError("the power went")


@pytest.mark.parametrize("which", ["masked", "contrastive"])
@pytest.mark.parametrize("how", ["Ctrl-C", "killed"])
def test_resumed_equals_uninterrupted_to_the_bit(how, which, request, texts, tmp_path, monkeypatch, read):
    expected = request.getfixturevalue(which)
    folder = request.getfixturevalue({"masked": "masked_folder", "contrastive": "sentence_folder"}[which])
    output = tmp_path / "encoder"
    with monkeypatch.context() as patch:
        at_step(patch, 7, fail if how == "killed" else lambda: os.kill(os.getpid(), signal.SIGINT))
        if how == "killed":
            with pytest.raises(RuntimeError, match="the power went"):
                adapt(texts, model=folder, output=output, **FAST)
        else:
            stopped = adapt(texts, model=folder, output=output, **FAST)
            assert (stopped.output, stopped.steps) == (None, 7)
            assert stopped.checkpoint.name == "checkpoint-7"
    assert not output.exists()
    done = adapt(texts, model=folder, output=output, resume=True, **FAST)
    assert done.losses == expected.losses
    own, theirs = weights(done.output), weights(expected.output)
    assert own.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in own.items())
    assert not (tmp_path / "encoder.checkpoints").exists()


def test_an_interrupted_training_is_not_lost_and_not_mixed_up(masked_folder, texts, tmp_path, monkeypatch):
    output = tmp_path / "encoder"
    with monkeypatch.context() as patch:
        at_step(patch, 7, fail)
        with pytest.raises(RuntimeError):
            adapt(texts, model=masked_folder, output=output, **FAST)
    with pytest.raises(InputError, match="has an interrupted training: give --resume, or --overwrite to begin anew"):
        adapt(texts, model=masked_folder, output=output, **FAST)
    with pytest.raises(ArtifactError, match=r"of another training \(learning_rate 0.002, not 0.1\)"):
        adapt(texts, model=masked_folder, output=output, resume=True, **{**FAST, "learning_rate": 0.1})
    with pytest.raises(ArtifactError, match=r"of another training \(texts '120 with SHA-256"):
        adapt(texts[:110], model=masked_folder, output=output, resume=True, **FAST)
    assert adapt(texts, model=masked_folder, output=output, overwrite=True, **{**FAST, "epochs": 0.2}).steps == 1


# ---- refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"epochs": 0}, SettingError, "epochs must be above 0, not 0"),
        ({"steps": -1}, SettingError, "steps must be above 0"),
        ({"learning_rate": float("nan")}, SettingError, "learning_rate must be a finite number"),
        ({"max_length": 3}, SettingError, "max_length must be at least 4"),
        ({"max_length": 100}, InputError, "max_length 100 is over the model's limit of 40 tokens"),
        ({"objective": "mlm"}, SettingError, "has no trained head for masked language modelling"),
        ({"objective": "tsdae"}, SettingError, "unknown objective 'tsdae'"),
        ({"batch_size": 1}, SettingError, "batch_size must be at least 2 for simcse"),
        ({"device": "gpu"}, InputError, "there is no device gpu here"),
        ({"resume": True}, InputError, "has no checkpoint to resume from: omit --resume"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(settings, error, message, model_folder, texts, tmp_path):
    with pytest.raises(error, match=message):
        adapt(texts, model=model_folder, output=tmp_path / "encoder", **{**FAST, **settings})
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_is_replaced_only_where_deni_wrote_it(masked_folder, texts, tmp_path):
    output, quick = tmp_path / "encoder", {**FAST, "epochs": 0.2}
    adapt(texts, model=masked_folder, output=output, **quick)
    with pytest.raises(InputError, match="exists: choose another folder or give --overwrite"):
        adapt(texts, model=masked_folder, output=output, **quick)
    adapt(texts, model=masked_folder, output=output, overwrite=True, **quick)
    (output / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="has what deni did not write"):
        adapt(texts, model=masked_folder, output=output, overwrite=True, **quick)
    with pytest.raises(InputError, match="is what is read"):
        adapt(texts, model=masked_folder, output=masked_folder, overwrite=True, **quick)
