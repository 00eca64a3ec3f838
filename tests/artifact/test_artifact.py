import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import deni.artifact
from deni.artifact import Classifier, export, load, read_info
from deni.errors import ArtifactError, InputError
from deni.noise import Noise

TEXTS = ["invoice money charged", "parcel late courier the box", "password reset", "why"]
KINDS = {
    "default, full": {},
    "deni, full": {"strategy": "deni", "members": 3, "epochs": 5},
    "ensemble, full": {"strategy": "ensemble", "members": 2},
    "default, lora": {"tuning": "lora"},
    "deni, lora": {"strategy": "deni", "tuning": "lora", "members": 3, "epochs": 5},
    "deni, ia3": {"strategy": "deni", "tuning": "ia3", "members": 3, "epochs": 5},
    "deni, prompt": {"strategy": "deni", "tuning": "prompt", "members": 3, "epochs": 5},
}


@pytest.fixture(scope="session")
def saved(fitted, tmp_path_factory):
    done = {}

    def save(kind: str) -> Path:
        if kind not in done:
            done[kind] = fitted(**KINDS[kind]).save(tmp_path_factory.mktemp("artifact") / "model")
        return done[kind]

    return save


@pytest.fixture
def damaged(saved, tmp_path):
    """A copy of an artifact, to be damaged."""
    return shutil.copytree(saved("default, full"), tmp_path / "model")


def log_probabilities(folder: Path, model=None) -> np.ndarray:
    model = model or AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return model.eval()(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits.log_softmax(-1).numpy()


def error_of(function, *args, kind=ArtifactError, **settings) -> str:
    with pytest.raises(kind) as caught:
        function(*args, **settings)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_loaded_is_what_was_trained_to_the_bit(fitted, saved, kind):
    before, after = fitted(**KINDS[kind]), load(saved(kind), "cpu")
    assert after.population.size == before.trainer.population.size
    assert (after.population.runs, after.population.members) == (
        before.trainer.population.runs,
        before.trainer.population.members,
    )
    for member in range(after.population.size):
        one, other = before.trainer.population.member(member), after.population.member(member)
        assert one.keys() == other.keys()
        for name in one:
            assert torch.equal(one[name], other[name]), name
    trained = Classifier(before.trainer.population, before.tokenizer, before.labels, before.info())
    assert np.array_equal(trained.members(TEXTS), after.members(TEXTS))
    assert trained(TEXTS) == after(TEXTS)
    assert after.labels == ["billing", "delivery", "login"]


def test_full_tuning_saves_only_the_rows_of_tokens_that_were_trained(saved):
    members = load_file(saved("default, full") / "population.safetensors")
    ids = [name for name in members if name.endswith("@ids")]
    assert len(ids) == 1
    assert members[ids[0].removesuffix("@ids")].shape[1] == len(members[ids[0]]) < 160


def test_an_artifact_saved_again_is_the_same(fitted, saved, tmp_path):
    again = fitted(**KINDS["deni, full"]).save(tmp_path / "again")
    for name in ("population.safetensors", "base.safetensors"):
        assert (again / name).read_bytes() == (saved("deni, full") / name).read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_an_artifact_holds_no_pickle(saved, kind):
    names = {path.name for path in saved(kind).rglob("*") if path.is_file()}
    assert {"deni.json", "population.safetensors", "base.safetensors", "config.json", "README.md"} <= names
    assert {Path(name).suffix for name in names} <= {".json", ".safetensors", ".md", ".txt", ".jinja"}


def test_the_files_of_an_artifact_are_listed_with_their_sizes(saved):
    folder = saved("deni, lora")
    listed = read_info(folder)["files"]
    assert listed == {path.name: path.stat().st_size for path in folder.iterdir() if path.name != "deni.json"}
    assert {"population.safetensors", "base.safetensors", "README.md", "adapter_config.json"} <= listed.keys()


def test_a_further_file_is_written_and_listed(fitted, tmp_path):
    folder = fitted().save(tmp_path / "model", extra_files={"report.html": b"<p>"})
    assert (folder / "report.html").read_bytes() == b"<p>"
    assert read_info(folder)["files"]["report.html"] == 3


def test_the_model_card_names_strategy_classes_and_cost(saved):
    card = (saved("deni, full") / "README.md").read_text()
    info = read_info(saved("deni, full"))
    for part in ("`billing`", "Strategy: deni", "members = 3", "Tuning: full", str(info["member_steps"]), "deni.load"):
        assert part in card


# ---- export --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "prompt" not in kind])  # cannot be merged
def test_the_exported_single_model_predicts_what_the_mean_of_the_members_predicts(fitted, saved, tmp_path, kind):
    (folder,) = export(saved(kind), tmp_path / "out")
    loaded = load(saved(kind), "cpu")
    population = loaded.population
    # The mean over all members: of all runs, too.
    merged = {name: value.mean(0) for name, value in population.values.items()}
    with population.plain() as plain:
        with torch.no_grad():
            for name, places in population.slots.items():
                for module, key in places:
                    module._parameters[key].data = merged[name]
        want = log_probabilities(saved(kind), plain)
    assert np.allclose(log_probabilities(folder), want, atol=1e-5)
    assert AutoModelForSequenceClassification.from_pretrained(folder).config.id2label[2] == "login"


def test_the_exported_single_model_is_what_merge_makes(saved, tmp_path):
    (folder,) = export(saved("deni, full"), tmp_path / "out")
    classifier = load(saved("deni, full"), "cpu")
    classifier.population.merge()
    assert np.allclose(log_probabilities(folder), classifier.members(TEXTS)[:, 0], atol=1e-5)


@pytest.mark.parametrize("kind", ["deni, full", "ensemble, full", "deni, lora", "deni, ia3"])
def test_every_exported_member_predicts_what_it_predicts_in_the_vote(saved, tmp_path, kind):
    folders = export(saved(kind), tmp_path / "out", "members")
    members = load(saved(kind), "cpu").members(TEXTS)
    assert len(folders) == members.shape[1]
    for member, folder in enumerate(folders):
        assert np.allclose(log_probabilities(folder), members[:, member], atol=1e-5)


def test_exported_adapters_load_with_peft_on_the_base_model(saved, tmp_path, model_folder):
    from peft import PeftModel

    folders = export(saved("deni, lora"), tmp_path / "out", "members", adapter=True)
    members = load(saved("deni, lora"), "cpu").members(TEXTS)
    for member, folder in enumerate(folders):
        assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == model_folder
        base = AutoModelForSequenceClassification.from_pretrained(model_folder, num_labels=3)
        model = PeftModel.from_pretrained(base, folder)
        assert np.allclose(log_probabilities(folder, model), members[:, member], atol=1e-5)


def test_adapters_merged_as_products_are_one_model(saved, tmp_path):
    (folder,) = export(saved("deni, lora"), tmp_path / "out", merge_lora="product")
    assert np.isfinite(log_probabilities(folder)).all()


def test_a_fully_tuned_model_has_no_adapter(saved, tmp_path):
    message = error_of(export, saved("default, full"), tmp_path / "out", adapter=True, kind=InputError)
    assert "no adapter" in message
    assert "--adapter" in message
    assert not (tmp_path / "out").exists()


# ---- messages ------------------------------------------------------------------------------------------------------


def test_a_folder_that_is_not_there_is_named(tmp_path):
    message = error_of(load, tmp_path / "nothing")
    assert str(tmp_path / "nothing") in message
    assert "deni train" in message


def test_a_folder_without_deni_json_is_named(tmp_path):
    message = error_of(load, tmp_path)
    assert f"{tmp_path} has no deni.json" in message


@pytest.mark.parametrize("name", ["population.safetensors", "base.safetensors"])
def test_truncated_tensors_are_named(damaged, name):
    whole = (damaged / name).read_bytes()
    (damaged / name).write_bytes(whole[:-100])
    message = error_of(load, damaged)
    assert message.startswith(f"{damaged / name} has {len(whole) - 100} bytes where {len(whole)} were written")
    assert "copy or train the model again" in message


@pytest.mark.parametrize("name", ["population.safetensors", "base.safetensors", "config.json"])
def test_a_missing_file_is_named(damaged, name):
    (damaged / name).unlink()
    message = error_of(load, damaged)
    assert f"{damaged / name} is missing" in message


def test_a_later_format_asks_for_an_upgrade(damaged):
    info = json.loads((damaged / "deni.json").read_text())
    (damaged / "deni.json").write_text(json.dumps({**info, "format": 3, "deni": "9.0"}))
    message = error_of(load, damaged)
    for part in (str(damaged), "9.0", "format 3", deni.__version__, "pip install --upgrade deni"):
        assert part in message


# ---- writing -------------------------------------------------------------------------------------------------------


def no_space(*_, **__):
    raise OSError(28, "No space left on device")


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_existing_folder_is_not_overwritten_unless_asked(fitted, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.txt").write_text("mine")
    message = error_of(fitted().save, tmp_path / "model", kind=InputError)
    assert f"{tmp_path / 'model'} exists" in message
    assert "--overwrite" in message
    message = error_of(fitted().save, tmp_path / "model", overwrite=True, kind=InputError)
    assert "has what deni did not write and is not overwritten ('mine.txt')" in message
    assert content(tmp_path) == {"model/mine.txt": b"mine"}


def test_a_model_is_overwritten_if_asked(fitted, tmp_path):
    fitted("ensemble", members=2).save(tmp_path / "model")
    assert "--overwrite" in error_of(fitted().save, tmp_path / "model", kind=InputError)
    fitted().save(tmp_path / "model", overwrite=True)
    assert load(tmp_path / "model").population.size == 1
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_full_disk_leaves_nothing_behind(fitted, tmp_path, monkeypatch):
    monkeypatch.setattr(deni.artifact.saving, "save_file", no_space)
    message = error_of(fitted().save, tmp_path / "model", kind=InputError)
    assert f"{tmp_path / 'model'} cannot be written (No space left on device)" in message
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_old_model_as_it_was(fitted, tmp_path, monkeypatch):
    fitted().save(tmp_path / "model")
    before = content(tmp_path)
    monkeypatch.setattr(deni.artifact.saving, "save_file", no_space)
    error_of(fitted().save, tmp_path / "model", overwrite=True, kind=InputError)
    assert content(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


# ---- the classifier ------------------------------------------------------------------------------------------------


def test_load_leaves_the_global_generators_alone(saved):
    for generator in (random, np.random, torch):
        getattr(generator, "manual_seed", getattr(generator, "seed", None))(7)
    before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    load(saved("deni, lora"))(TEXTS)
    assert random.getstate() == before[0]
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert torch.equal(torch.get_rng_state(), before[2])


def test_confidence_agreement_and_entropy_are_those_of_the_votes(saved):
    classifier = load(saved("deni, full"), "cpu")
    probabilities = np.exp(classifier.members(TEXTS).astype(np.float64))  # (N, M, C)
    mean = probabilities.mean(1)
    for row, result in enumerate(classifier(TEXTS)):
        chosen = mean[row].argmax()
        assert result["label"] == classifier.labels[chosen]
        assert result["confidence"] == pytest.approx(mean[row, chosen], abs=1e-6)
        assert result["agreement"] == pytest.approx((probabilities[row].argmax(-1) == chosen).mean())
        assert result["entropy"] == pytest.approx(-(mean[row] * np.log(mean[row])).sum(), abs=1e-5)


def test_the_batch_size_and_the_order_of_texts_change_nothing(saved):
    classifier = load(saved("deni, full"), "cpu")
    many = classifier.members(TEXTS)
    assert np.allclose(classifier.members(TEXTS, batch_size=1), many, atol=1e-6)
    assert np.allclose(classifier.members(TEXTS[::-1])[::-1], many, atol=1e-6)


def test_one_text_may_be_a_string_and_no_text_gives_nothing(saved):
    classifier = load(saved("default, full"))
    assert classifier(TEXTS[0]) == classifier([TEXTS[0]])
    assert classifier([]) == []
    assert classifier.predict([]) == []
    assert classifier.predict_log_probabilities([]).shape == (0, 3)


@pytest.mark.parametrize("text", ["", "  \n", None, 3, float("nan")])
def test_a_text_that_is_empty_or_no_string_is_named(saved, text):
    message = error_of(load(saved("default, full")), ["fine", text], kind=InputError)
    assert "text 1" in message


def test_others_may_read_a_model(fitted, tmp_path):
    fitted().save(tmp_path / "model")
    assert {oct(path.stat().st_mode & 0o777) for path in (tmp_path / "model").iterdir()} == {"0o644"}


@pytest.mark.parametrize("kind", ["deni, full", "deni, lora"])
def test_members_are_those_of_the_file_without_a_copy_and_the_file_stays_as_it_is(saved, kind, monkeypatch):
    file, read = saved(kind) / "population.safetensors", {}

    def reading(path):
        read[Path(path).name] = load_file(path)
        return read[Path(path).name]

    monkeypatch.setattr(deni.artifact.loading, "load_file", reading)
    before = file.read_bytes()
    population = load(saved(kind)).population
    for name, value in population.values.items():
        assert value.data_ptr() == read[file.name][name].data_ptr()
    population.perturb(Noise(variance=1.0, scope="trainable", scale="uniform"))
    assert not any(torch.equal(kept, population.values[name]) for name, kept in load_file(file).items())
    assert file.read_bytes() == before
