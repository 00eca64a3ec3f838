"""What the package sentence-transformers computes from an exported folder is what the model computes."""

import inspect
import itertools
import json
import logging

import numpy as np
import pytest
import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

import deni
from deni.artifact import export
from deni.artifact.encoder_modules import why_no_modules, write_modules
from deni.data import read_texts
from deni.errors import ArtifactError, InputError
from deni.finetune import fine_tune
from deni.models.pooling import attach, choose, own_pooling
from deni.randomness import global_generators
from deni.recipe import Recipe
from tests.helpers.tiny import SMALL, SMALL_TUNINGS, make_tiny, toy_rows

package = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")

TEXTS = ["where is my parcel", "refund", "a code please not the screen is locked", "late"]
LONG = " ".join(["parcel invoice late"] * 12)
DECODERS = ("gpt2", "gpt_neox", "opt", "llama", "mistral", "gemma", "qwen2", "qwen3")


def encode(folder, texts=TEXTS):
    return package.SentenceTransformer(str(folder), device="cpu").encode(texts, show_progress_bar=False)


@pytest.fixture
def tokenizer(model_folder):
    return AutoTokenizer.from_pretrained(model_folder)


def model_of(architecture, **settings):
    """A random model with weights so large that its logits differ from text to text."""
    family, sizes = SMALL[architecture]
    config = getattr(transformers, f"{family}Config")(
        **{**sizes, "vocab_size": 160, "num_labels": 3, "pad_token_id": 0, **settings}
    )
    with global_generators(0):
        model = getattr(transformers, f"{family}ForSequenceClassification")(config)
        for parameter in model.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.3)
            else:
                parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
    return model.eval()


@torch.no_grad()
def logits_of(model, tokenizer, texts=TEXTS, **options):
    inputs = tokenizer(texts, padding=True, return_tensors="pt", **options)
    if "token_type_ids" not in inspect.signature(model.forward).parameters:
        inputs.pop("token_type_ids", None)
    return model(**inputs).logits.numpy()


# ---- each architecture ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", SMALL)
def test_encode_gives_the_logits_of_the_class(architecture, tokenizer, tmp_path, caplog):
    model = model_of(architecture)
    model.config.id2label = {0: "billing", 1: "delivery", 2: "login"}
    expected = logits_of(model, tokenizer)
    assert np.ptp(expected, axis=0).min() > 1e-3  # texts are told apart
    assert why_no_modules(model, tokenizer) == ""
    write_modules(model, tokenizer, tmp_path, 40)
    if architecture == "qwen2":  # transformers reads any tokenizer beside this config as one of Qwen2
        expected = logits_of(model, AutoTokenizer.from_pretrained(tmp_path))
    with caplog.at_level(logging.WARNING):
        np.testing.assert_allclose(encode(tmp_path), expected, rtol=0, atol=2e-5)
    assert "newly initialized" not in caplog.text  # no weight is drawn at random
    assert AutoConfig.from_pretrained(tmp_path).id2label[2] == "login"


@pytest.mark.parametrize("normalize", [False, True], ids=["plain", "normalized"])
@pytest.mark.parametrize(
    "architecture", ["bert", "albert", "roberta", "distilbert", "deberta-v2", "modernbert", "gpt2"]
)
def test_encode_gives_the_logits_with_each_pooling(architecture, normalize, tokenizer, tmp_path):
    kinds = ("mean", "last") if architecture in DECODERS else ("cls", "mean", "last")
    for kind in (*kinds, *(["pooler"] if architecture in ("bert", "albert") else [])):
        model = model_of(architecture)
        plain = logits_of(model, tokenizer)
        attach(model, choose(kind, normalize, model.config))
        expected = logits_of(model, tokenizer)
        assert (kind == own_pooling(model.config) and not normalize) == np.allclose(plain, expected, atol=1e-6)
        assert why_no_modules(model, tokenizer) == ""
        write_modules(model, tokenizer, tmp_path / kind, 40)
        np.testing.assert_allclose(encode(tmp_path / kind), expected, rtol=0, atol=2e-5)


def test_left_padding(tokenizer, tmp_path):
    tokenizer.padding_side = "left"
    model = model_of("bert")
    assert "reads padding on the left" in why_no_modules(model, tokenizer)
    for kind in ("cls", "mean", "last"):
        attach(model, choose(kind, False, model.config, 0, "left"))
        expected = logits_of(model, tokenizer)
        assert why_no_modules(model, tokenizer) == ""
        write_modules(model, tokenizer, tmp_path / kind, 40)
        np.testing.assert_allclose(encode(tmp_path / kind), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_weights_keep_their_type(dtype, tokenizer, tmp_path):
    model = model_of("roberta").to(dtype)
    assert why_no_modules(model, tokenizer) == ""
    write_modules(model, tokenizer, tmp_path, None)
    loaded = package.SentenceTransformer(str(tmp_path), device="cpu", model_kwargs={"dtype": torch.float32})
    found = loaded.encode(TEXTS, show_progress_bar=False)
    np.testing.assert_allclose(found, logits_of(model.float(), tokenizer), rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("architecture", "settings", "why"),
    [
        ("deberta-v2", {"pooler_hidden_act": "gelu_new"}, "the head of deberta-v2 has the activation gelu_new"),
        ("modernbert", {"norm_eps": 1e-3}, "the norm in the head of modernbert has not the eps 1e-05"),
    ],
)
def test_layers_that_the_package_does_not_have(architecture, settings, why, tokenizer):
    model = model_of(architecture, **settings)
    assert why_no_modules(model, tokenizer).startswith(why)
    assert why_no_modules(model, tokenizer).endswith("use --as single")


def test_a_model_that_computes_something_else(tokenizer):
    model = model_of("bert")
    assert why_no_modules(model, tokenizer) == ""
    model.classifier.register_forward_hook(lambda module, given, output: output + 1)
    assert "compute other outputs than BertForSequenceClassification" in why_no_modules(model, tokenizer)


def test_what_is_no_text_or_not_known(tokenizer):
    assert "outputs for each token" in why_no_modules(make_tiny("bert", task="Token"), tokenizer)
    model = model_of("bert")
    model.config.model_type = "perceiver"
    assert "not known for the architecture perceiver" in why_no_modules(model, tokenizer)


# ---- artifacts -----------------------------------------------------------------------------------------------------


@pytest.fixture
def trained(model_folder, tmp_path):
    """Trains the tiny BERT and saves it."""

    def save(tuning="full", rows=None, columns=("text", "label"), strategy="default", settings=None, **fields):
        import pandas as pd

        file = tmp_path / "texts.csv"
        pd.DataFrame(rows or toy_rows(4), columns=list(columns)).to_csv(file, index=False)
        plan = Recipe.of(
            None,
            strategy,
            tuning,
            settings,
            SMALL_TUNINGS.get(tuning),
            **{"model": model_folder, "epochs": 2, "max_length": 16, "learning_rate": 1e-2, **fields},
        )
        pair = {"text_pair_column": "other"} if "other" in columns else {}
        return fine_tune(read_texts(file, task=plan.task, **pair), plan, progress=False).save(
            tmp_path / f"model {next(count)}"
        )

    count = itertools.count()
    return save


@pytest.mark.parametrize("tuning", ["full", "lora", "ia3"])
@pytest.mark.parametrize("pooling", ["auto", "mean"])
def test_the_export_predicts_what_the_artifact_does(trained, tmp_path, tuning, pooling):
    folder = trained(tuning, pooling=pooling, normalize_features=pooling == "mean")
    assert export(folder, tmp_path / "out", "sentence-transformers") == [tmp_path / "out"]
    found = torch.from_numpy(encode(tmp_path / "out", [*TEXTS, LONG])).log_softmax(-1).numpy()
    np.testing.assert_allclose(found, deni.load(folder, "cpu").members([*TEXTS, LONG])[:, 0], rtol=0, atol=1e-5)
    assert np.abs(found[-1] - torch.from_numpy(encode(tmp_path / "out", [LONG[:30]])).log_softmax(-1).numpy()).max() > 0


@pytest.mark.parametrize("merge_lora", ["factors", "product"])
def test_members_are_merged_as_for_one_model(trained, tmp_path, merge_lora):
    folder = trained("lora", strategy="delayed_ensemble", settings={"members": 3}, epochs=5)
    export(folder, tmp_path / "one", "single", merge_lora=merge_lora)
    export(folder, tmp_path / "out", "sentence-transformers", merge_lora=merge_lora)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "one").eval()
    expected = logits_of(model, AutoTokenizer.from_pretrained(tmp_path / "one"))
    np.testing.assert_allclose(encode(tmp_path / "out"), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("task", "label"),
    [
        ("multi_label", lambda at, label: label if at % 3 else "billing|late"),
        ("ordinal", lambda at, label: ["billing", "delivery", "login"].index(label)),
        ("regression", lambda at, label: len(label) / 3),
    ],
)
def test_every_kind_of_labels_of_a_text(trained, tmp_path, task, label):
    rows = [(text, label(at, own)) for at, (text, own) in enumerate(toy_rows(4))]
    folder = trained("lora", rows, task=task, pooling="mean")
    export(folder, tmp_path / "out", "sentence-transformers")
    from deni.tasks import TASKS

    found = TASKS[task].outputs(torch.from_numpy(encode(tmp_path / "out")).reshape(len(TEXTS), -1))
    np.testing.assert_allclose(found, deni.load(folder, "cpu").members(TEXTS)[:, 0], rtol=0, atol=1e-5)


def test_pairs_as_one_input_are_encoded_so(trained, tmp_path):
    rows = [(one, other, label) for (one, label), (other, _) in zip(toy_rows(4), toy_rows(4, seed=1), strict=True)]
    folder = trained("full", rows, ("text", "other", "label"), pooling="mean")
    export(folder, tmp_path / "out", "sentence-transformers")
    pairs = list(zip(TEXTS, [LONG, *TEXTS[:3]], strict=True))
    found = torch.from_numpy(encode(tmp_path / "out", pairs)).log_softmax(-1).numpy()
    np.testing.assert_allclose(found, deni.load(folder, "cpu").members(pairs)[:, 0], rtol=0, atol=1e-5)


def test_the_folder_holds_no_pickles_and_is_replaced_as_others_are(trained, tmp_path):
    folder, out = trained(pooling="mean"), tmp_path / "out"
    export(folder, out, "sentence-transformers")
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert {name.rpartition(".")[2] for name in names} == {"json", "md", "safetensors"}
    listed = json.loads((out / "modules.json").read_text())
    assert [each["path"] for each in listed] == ["", "1_Pooling", "2_Dense"]
    with pytest.raises(InputError, match="exists: choose another folder or give --overwrite"):
        export(folder, out, "sentence-transformers")
    export(folder, out, "sentence-transformers", overwrite=True)
    with pytest.raises(ArtifactError, match="use SentenceTransformer"):
        deni.load(out)
    (out / "2_Dense" / "mine.txt").write_text("")
    with pytest.raises(InputError, match="what deni did not write"):
        export(folder, out, overwrite=True)


def test_what_cannot_be_exported_is_one_line(trained, tmp_path):
    def refused(folder, why, **options):
        with pytest.raises(InputError, match=why) as caught:
            export(folder, tmp_path / "out", "sentence-transformers", **options)
        assert len(str(caught.value).splitlines()) == 1
        assert not (tmp_path / "out").exists()

    rows = [(one, other, label) for (one, label), (other, _) in zip(toy_rows(4), toy_rows(4, seed=1), strict=True)]
    columns = ("text", "other", "label")
    refused(trained("lora"), "omit --adapter", adapter=True)
    refused(trained("prompt"), "a prompt, which cannot be merged into the model: use --as single --adapter")
    refused(trained("full", rows, columns, pairs="bi"), r"u, v, \|u - v\| and u \* v .* use deni.load or deni predict")
    words = [(text, " ".join(["O"] * len(text.split()))) for text, _ in toy_rows(4)]
    refused(trained("full", words, task="token"), "outputs for each token, .* use --as single")


def test_single_names_this_export_where_its_class_cannot_say_the_pooling(trained, tmp_path):
    folder = trained("lora", pooling="mean")
    with pytest.raises(
        InputError, match=r"mean pooling, which an ordinary model of bert .* --as sentence-transformers"
    ):
        export(folder, tmp_path / "out")
    with pytest.raises(
        InputError, match=r"mean pooling, which the base model of a PEFT adapter .*: use it with deni.load"
    ):
        export(trained("prompt", pooling="mean"), tmp_path / "out", adapter=True)
