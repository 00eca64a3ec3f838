"""Which layers have no pre-trained weights, and that deni's tunings train them."""

import numpy as np
import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from deni import artifact
from deni.data import read_texts
from deni.finetune import fine_tune
from deni.models.fresh import fresh_layers
from deni.models.loading import load_model
from deni.randomness import global_generators
from deni.recipe import Recipe
from deni.tuning import make_tuning
from tests.helpers.plain import trained
from tests.helpers.tiny import SMALL, SMALL_TUNINGS, needs_adapters

TEXTS = ["invoice money charged", "parcel late courier the box", "password reset", "why"]
FRESH = {
    "bert": ["bert.pooler.dense", "classifier"],
    "distilbert": ["pre_classifier", "classifier"],
    "deberta-v2": ["pooler.dense", "classifier"],
    "roberta": ["classifier.dense", "classifier.out_proj"],
    "modernbert": ["head.dense", "head.norm", "classifier"],
    "gpt2": ["score"],
}
PEFT = ("lora", "ia3", "prompt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, model_folder):
    """A folder with a tiny encoder, without a pooler, as pre-training on masked words leaves it."""

    def write(architecture):
        path = tmp_path_factory.mktemp(architecture)
        AutoTokenizer.from_pretrained(model_folder).save_pretrained(path)
        family, sizes = SMALL[architecture]
        config = getattr(transformers, f"{family}Config")(**{**sizes, "vocab_size": 160})
        options = {"add_pooling_layer": False} if architecture in ("bert", "roberta") else {}
        with global_generators(0):
            getattr(transformers, f"{family}Model")(config, **options).save_pretrained(path)
        return str(path)

    return write


def trainable(model):
    return [name for name, value in model.named_parameters() if value.requires_grad]


@pytest.mark.parametrize("architecture", FRESH)
def test_layers_that_are_not_in_the_checkpoint_are_fresh(folder, architecture):
    assert fresh_layers(load_model(folder(architecture), ["a", "b"])) == FRESH[architecture]


def test_a_pooler_of_the_checkpoint_is_not_fresh(model_folder):
    assert fresh_layers(load_model(model_folder, ["a", "b"])) == ["classifier"]


def test_of_a_model_that_was_not_loaded_nothing_is_known(tiny):
    assert fresh_layers(tiny("bert")) == []


@pytest.mark.parametrize("name", PEFT)
@pytest.mark.parametrize("architecture", ["bert", "distilbert", "roberta"])
def test_fresh_layers_train_whole_and_others_stay_frozen(folder, model_folder, architecture, name):
    tuning = make_tuning(name, **SMALL_TUNINGS.get(name, {}))
    names = trainable(tuning.apply(load_model(folder(architecture), ["a", "b"])))
    for path in FRESH[architecture]:
        whole = [each for each in names if f".{path}." in each.replace(".modules_to_save.default", "")]
        assert {each.rpartition(".")[2] for each in whole} == {"weight", "bias"}
    if architecture == "bert":
        names = trainable(tuning.apply(load_model(model_folder, ["a", "b"])))
        assert not any("pooler.dense.weight" in each for each in names)


@needs_adapters
def test_fresh_layers_train_with_unipelt_and_are_saved(folder, tickets, tmp_path):
    tuning = make_tuning("unipelt", **SMALL_TUNINGS["unipelt"])
    tuned = tune(folder("bert"), tickets, tuning)
    assert "bert.pooler.dense.weight" in tuned.trainer.population.slots
    tuned.save(tmp_path / "model")
    members = artifact.load(tmp_path / "model", "cpu").members(TEXTS)
    np.testing.assert_allclose(members, predicted(tuned), atol=1e-6)


def tune(base, tickets, tuning):
    plan = Recipe.of(None, "delayed_ensemble", tuning, {"members": 2}, model=base, epochs=2)
    return fine_tune(read_texts(tickets), plan, progress=False)


def predicted(tuned):
    """By the members, before anything is saved; padded as the artifact says."""
    options = {"padding": "max_length", "max_length": tuned.max_length, "truncation": True}
    options = options if tuned.recipe.tuning.pads_fully else {}
    return tuned.trainer.predict_members([dict(tuned.tokenizer(text, **options)) for text in TEXTS])


def with_peft(base, folder, seed):
    """What who loads an exported adapter gets, with another seed for what is not in it."""
    torch.manual_seed(seed)
    plain = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3)
    model = PeftModel.from_pretrained(plain, folder).eval()
    tokens = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        return model(**tokens).logits.log_softmax(-1).numpy()


@pytest.mark.parametrize("name", PEFT)
def test_an_exported_adapter_holds_the_fresh_layers(folder, tickets, tmp_path, name):
    base = folder("bert")
    tuned = tune(base, tickets, make_tuning(name, **SMALL_TUNINGS.get(name, {})))
    expected = predicted(tuned)
    folders = artifact.export(tuned.save(tmp_path / "model"), tmp_path / "out", "members", adapter=True)
    for member, exported in enumerate(folders):
        for seed in (1, 2):
            np.testing.assert_allclose(with_peft(base, exported, seed), expected[:, member], atol=1e-5)


@pytest.mark.parametrize("bias", ["none", "all"])
@pytest.mark.parametrize("architecture", ["bert", "deberta-v2", "modernbert"])
def test_so_it_does_where_the_user_left_them_frozen(folder, tmp_path, architecture, bias):
    """Two runs, each with a frozen layer of its own; read by deni and by PEFT."""
    base = folder(architecture)
    tokenizer = AutoTokenizer.from_pretrained(base)
    target = {"bert": ["query", "value"], "deberta-v2": ["query_proj", "value_proj"], "modernbert": ["Wqkv"]}

    def init():
        model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3)
        return get_peft_model(
            model, LoraConfig(task_type="SEQ_CLS", r=2, bias=bias, target_modules=target[architecture])
        )

    with global_generators():
        trainer = trained(tmp_path, model_init=init, seeds=[0, 1], processing_class=tokenizer)
        trainer.save_model(str(tmp_path / "model"))
        loaded = artifact.load(tmp_path / "model", "cpu")
        members = loaded.members(TEXTS)
        rows = [dict(tokenizer(text)) for text in TEXTS]
        np.testing.assert_allclose(members, trainer.predict_members(rows), atol=1e-5)
        folders = artifact.export(tmp_path / "model", tmp_path / "adapters", "members", adapter=True)
        for member, exported in enumerate(folders):
            np.testing.assert_allclose(with_peft(base, exported, 7), members[:, member], atol=1e-5)
        whole = artifact.export(tmp_path / "model", tmp_path / "whole", "members")
        for member, exported in enumerate(whole):
            model = AutoModelForSequenceClassification.from_pretrained(exported).eval()
            with torch.no_grad():
                logits = model(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits
            np.testing.assert_allclose(logits.log_softmax(-1).numpy(), members[:, member], atol=1e-5)
