"""The vector that the head reads is the pooling of the encoder's states, computed by hand; saved, it is what loads."""

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertModel

import deni
from deni.artifact import export, save
from deni.cli import main
from deni.data import read_texts
from deni.engine.probe import why_not_stacked
from deni.errors import ArtifactError, InputError, SettingError
from deni.finetune import fine_tune
from deni.models.loading import MINILM, locate
from deni.models.pooling import (
    KINDS,
    OWN,
    Pooling,
    attach,
    choose,
    declared_pooling,
    detach,
    own_pooling,
    pooling_of,
    resolve,
)
from deni.noise import Noise
from deni.population import Population
from deni.randomness import Sources, global_generators
from deni.recipe import Recipe
from deni.schedule import Fork
from deni.sklearn import DeniClassifier
from deni.study.plan import read_study
from deni.tuning import make_tuning
from tests.helpers.plain import bert
from tests.helpers.plain import make as trainer_of
from tests.helpers.plain import rows as bert_rows
from tests.helpers.references import without_dropout
from tests.helpers.tiny import SMALL, SMALL_TUNINGS, make_batch, make_tiny, needs_adapters, toy_rows

DECODERS = ("gpt2", "gpt_neox", "opt", "llama", "mistral", "gemma", "qwen2", "qwen3")
TEXTS = ["where is my parcel", "refund", "a code please not the screen is locked", "late"]
HOW = Fork(noise=Noise(variance=0.1, scope="trainable", floor=0.01))


def kinds_of(architecture):
    if architecture in DECODERS:
        return ("mean", "last")
    return KINDS if architecture in ("bert", "albert") else ("cls", "mean", "last")


def by_hand(states, real, kind, normalize=False):
    """Text by text, the real tokens alone: `(B, D)`."""
    rows = [row[there.bool()] for row, there in zip(states, real, strict=True)]
    of = {"cls": lambda row: row[0], "mean": lambda row: row.mean(0), "last": lambda row: row[-1]}
    vectors = torch.stack([of[kind](row) for row in rows])
    return vectors / vectors.norm(dim=1, keepdim=True) if normalize else vectors


def head_of(model, vectors):
    """What the layers behind the encoder make of these vectors, in evaluation mode."""
    family = model.config.model_type
    if family in DECODERS:
        return model.score(vectors)
    if family == "distilbert":
        return model.classifier(F.relu(model.pre_classifier(vectors)))
    if family == "modernbert":
        return model.classifier(model.head(vectors))
    if family.startswith("deberta"):
        return model.classifier(model.pooler(vectors[:, None]))
    return model.classifier(vectors if family in ("bert", "albert") else vectors[:, None])


def inputs_of(batch):
    return {name: value for name, value in batch.items() if name != "labels"}


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("architecture", SMALL)
@torch.no_grad()
def test_the_head_reads_what_is_pooled_by_hand(architecture, side):
    model, data = make_tiny(architecture).eval(), inputs_of(make_batch(side=side))
    encoder = getattr(model, model.base_model_prefix)
    before, output = model(**data).logits, encoder(**data)
    for kind in kinds_of(architecture):
        for normalize in (False, True):
            if kind == "pooler" and side == "left":
                continue
            attach(model, choose(kind, normalize, model.config, 0, side))
            if kind == "pooler":
                vectors = F.normalize(output.pooler_output) if normalize else output.pooler_output
            else:
                vectors = by_hand(output.last_hidden_state, data["attention_mask"], kind, normalize)
            torch.testing.assert_close(model(**data).logits, head_of(model, vectors), rtol=0, atol=1e-6)
            if kind == own_pooling(model.config) and not normalize and (side == "right" or kind == "last"):
                assert torch.equal(model(**data).logits, before)  # what the class does by itself, to the bit
    detach(model)
    assert pooling_of(model) is None
    assert torch.equal(model(**data).logits, before)


def test_texts_without_padding_need_no_mask():
    model, data = make_tiny("bert").eval(), inputs_of(make_batch())
    attach(model, Pooling("mean"))
    with torch.no_grad():
        expected = model.classifier(model.bert(data["input_ids"]).last_hidden_state[:, 0])  # all tokens alike by now
        assert torch.equal(model(data["input_ids"]).logits, expected)
        detach(model)
        states = model.bert(data["input_ids"]).last_hidden_state
        torch.testing.assert_close(model.classifier(states.mean(1)), expected, rtol=0, atol=1e-12)


def test_half_precision_is_averaged_in_float32():
    states = torch.tensor([[[256.0], [1.0], [1.0], [1.0]]], dtype=torch.bfloat16).repeat(1, 64, 1)
    expected = states.double().mean(1).to(torch.bfloat16)
    assert torch.equal(Pooling("mean").pooled(states, None), expected)


CASES = [
    *(("bert", kind) for kind in KINDS),
    *((family, kind) for family in ("roberta", "distilbert", "modernbert", "deberta-v2") for kind in ("cls", "mean")),
    *((family, kind) for family in ("gpt2", "llama") for kind in ("mean", "last")),
    ("bert", "normalized"),
]


@pytest.mark.parametrize("engine", ["stacked", "loop"])
@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_members_equal_models_that_plain_pytorch_trains(case, engine):
    """In float64, one step of three members; DeBERTa-v2 is never stacked."""
    architecture, kind = case
    model = without_dropout(make_tiny(architecture))
    kind, normalize = ("mean", True) if kind == "normalized" else (kind, False)
    attach(model, choose(kind, normalize, model.config))
    data = make_batch()
    why = why_not_stacked(model, inputs_of(data), {"input_ids": 1})
    assert bool(why) == (architecture == "deberta-v2"), why
    population = Population(copy.deepcopy(model), [Sources(7)], engine if not why else "loop")
    population.module.train()
    population.fork(3, HOW)
    starts = [{name: value.clone() for name, value in population.member(at).items()} for at in range(3)]
    optimizer = torch.optim.SGD([view for views in population.views.values() for view in views], lr=0.1)
    for chunk in population.module.chunks:
        population.module.focus(chunk)
        logits = population.module(**population.module.fold(inputs_of(data))).logits.double()
        losses = F.cross_entropy(logits, data["labels"].repeat(len(chunk)), reduction="none")
        losses.unflatten(0, (len(chunk), -1)).mean(1).sum().backward()
    population.module.collect()
    optimizer.step()
    for at, start in enumerate(starts):
        alone = copy.deepcopy(model)
        alone.load_state_dict(start, strict=False)
        detach(alone)
        plain = torch.optim.SGD(alone.parameters(), lr=0.1)
        output = getattr(alone, alone.base_model_prefix)(**inputs_of(data))
        vectors = (
            output.pooler_output
            if kind == "pooler"
            else by_hand(output.last_hidden_state, data["attention_mask"], kind, normalize)
        )
        F.cross_entropy(head_of(alone, vectors).double(), data["labels"]).backward()
        plain.step()
        expected = {name: value.detach() for name, value in alone.named_parameters()}
        found = population.member(at)
        # Norms and rotary positions compute in float32 in some families.
        limit = 1e-9 if architecture in ("bert", "roberta", "distilbert", "gpt2") else 1e-6
        assert max(float((found[name] - expected[name]).abs().max()) for name in found) < limit
        assert max(float((start[name] - expected[name]).abs().max()) for name in found) > 1e-3


# ---- which one -----------------------------------------------------------------------------------------------------


def test_auto_is_what_the_class_does():
    for architecture in SMALL:
        assert choose("auto", False, make_tiny(architecture).config) is None
    config = make_tiny("modernbert").config
    config.classifier_pooling = "mean"
    assert own_pooling(config) == "mean"
    assert choose("auto", True, config) == Pooling("mean", normalize=True)


@pytest.mark.parametrize(
    ("architecture", "kind", "side", "why"),
    [
        ("roberta", "pooler", "right", "roberta has no pooler in its encoder: choose cls, mean or last"),
        ("gpt2", "pooler", "right", "gpt2 has no pooler in its encoder: choose mean or last"),
        ("llama", "cls", "right", "its first token knows no text"),
        ("bert", "pooler", "left", "reads padding on the left"),
    ],
)
def test_what_an_architecture_cannot_is_refused(architecture, kind, side, why):
    with pytest.raises(SettingError, match=why):
        choose(kind, False, make_tiny(architecture).config, 0, side)


def test_an_architecture_that_is_not_known_is_refused():
    config = make_tiny("bert").config
    config.model_type = "perceiver"
    assert choose("auto", False, config) is None
    for name, normalize in (("mean", False), ("auto", True)):
        with pytest.raises(SettingError, match="not known for the architecture perceiver: use auto, or one of albert"):
            choose(name, normalize, config)


def test_every_known_head_has_its_pooling():
    from deni.models.architectures import HEADS

    assert OWN.keys() == HEADS.keys()


def test_minilm_declares_the_mean_of_its_tokens_normalized():
    assert declared_pooling(locate("minilm")) == Pooling("mean", normalize=True)
    assert locate("minilm") != MINILM


def encoder_folder(folder, pooling, *, modules=("Transformer", "Pooling"), kind="sentence_transformers.models."):
    listed = [{"idx": at, "path": f"{at}_{name}" if at else "", "type": kind + name} for at, name in enumerate(modules)]
    (folder / "1_Pooling").mkdir()
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling" / "config.json").write_text(pooling if isinstance(pooling, str) else json.dumps(pooling))
    return folder


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, Pooling("cls")),
        ({"embedding_dimension": 8, "pooling_mode": "lasttoken", "include_prompt": True}, Pooling("last")),
        ({"pooling_mode": ["mean"]}, Pooling("mean")),
        ({"pooling_mode": ["mean", "cls"]}, None),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, None),
        ({"pooling_mode": "max"}, None),
        ("{", None),
        ([1], None),
    ],
)
def test_what_a_sentence_encoder_declares_is_read(tmp_path, pooling, expected):
    assert declared_pooling(encoder_folder(tmp_path, pooling)) == expected


def test_further_modules_are_not_ours(tmp_path, model_folder):
    folder = encoder_folder(tmp_path, {"pooling_mode": "cls"}, modules=("Transformer", "Pooling", "Dense"))
    assert declared_pooling(folder) is None
    assert declared_pooling(model_folder) is None


@pytest.mark.parametrize(
    ("declared", "name", "normalize", "expected"),
    [
        ({"pooling_mode": "mean"}, "auto", False, ("mean", False)),
        ({"pooling_mode": "cls"}, "auto", True, ("cls", True)),
        ({"pooling_mode": "mean"}, "pooler", False, ("auto", False)),  # what BERT's class does by itself
        ({"pooling_mode": "mean"}, "pooler", True, ("pooler", True)),
        ({"pooling_mode": "mean"}, "last", False, ("last", False)),
        (None, "auto", False, ("auto", False)),
        (None, "pooler", False, ("auto", False)),
        (None, "mean", False, ("mean", False)),
    ],
)
def test_auto_reads_a_sentence_encoder_as_its_files_declare(
    tmp_path, model_folder, declared, name, normalize, expected
):
    folder = shutil.copytree(model_folder, tmp_path / "encoder")
    if declared is not None:
        encoder_folder(folder, declared, modules=("Transformer", "Pooling", "Normalize"))
    assert resolve(name, normalize, str(folder)) == expected
    assert resolve("auto", normalize, str(folder), "bi") == ("mean", normalize)


def test_the_hub_is_asked_once_for_all_cells_of_a_study(monkeypatch):
    asked = []
    monkeypatch.setattr("transformers.utils.cached_file", lambda source, name: asked.append((source, name)))
    for _ in range(3):
        assert resolve("auto", False, "made/of-no-files") == ("auto", False)
    assert asked == [("made/of-no-files", "modules.json")]


def test_minilm_is_read_as_the_mean_of_its_tokens_by_default_and_words_are_not_pooled():
    assert Recipe().settings()["pooling"] == "mean"
    assert Recipe(pooling="pooler").settings()["pooling"] == "auto"
    assert Recipe(task="token").settings()["pooling"] == "auto"


def test_the_package_sentence_transformers_pools_the_same(tmp_path, model_folder):
    package = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    from sentence_transformers.sentence_transformer import modules as models

    made = models.Transformer(model_folder, max_seq_length=16)
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
    model = AutoModelForSequenceClassification.from_pretrained(model_folder).eval()
    seen = []
    model.classifier.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    for at, (mode, kind) in enumerate([("mean", "mean"), ("cls", "cls"), ("lasttoken", "last")]):
        for normalize in (False, True):
            modules = [made, models.Pooling(32, mode), *([models.Normalize()] if normalize else [])]
            theirs = package.SentenceTransformer(modules=modules, device="cpu")
            expected = theirs.encode(TEXTS, convert_to_tensor=True)
            with torch.no_grad():
                attach(model, Pooling(kind, normalize))(**inputs)
            torch.testing.assert_close(seen[-1], expected, rtol=0, atol=1e-6)
            folder = tmp_path / f"{at}{normalize}"
            theirs.save(str(folder), create_model_card=False)
            assert declared_pooling(folder) == Pooling(kind, normalize)


# ---- trained, saved, loaded ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def train(model_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pooled")

    def trained(tuning="full", rows=None, columns=None, strategy="default", settings=None, **fields):
        import pandas as pd

        file = folder / "texts.csv"
        pd.DataFrame(rows or toy_rows(4), columns=columns or ["text", "label"]).to_csv(file, index=False)
        plan = Recipe.of(
            None,
            strategy,
            tuning,
            settings,
            SMALL_TUNINGS.get(tuning),
            **{"model": model_folder, "epochs": 1, "max_length": 16, **fields},
        )
        pair = {"text_pair_column": "other"} if "other" in (columns or []) else {}
        return fine_tune(read_texts(file, task=plan.task, **pair), plan, progress=False)

    return trained


def outputs_of(model, texts, tokenizer, virtual=0, kind="mean"):
    """The outputs of a model with a BERT in it, by hand from the states of its encoder."""
    found: list[torch.Tensor] = []
    kept: list[torch.Tensor] = []
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    detach(model)
    for text in texts:  # one by one: nothing is padded
        given = (text,) if isinstance(text, str) else text
        inputs = tokenizer(*given, return_tensors="pt", truncation=True, max_length=16)
        handle = inner.bert.register_forward_hook(lambda module, args, output: kept.append(output.last_hidden_state))
        with torch.no_grad():
            model(**inputs)
        handle.remove()
        states = kept.pop()[:, virtual:]
        with torch.no_grad():
            found.append(inner.classifier(by_hand(states, torch.ones(states.shape[:2]), kind))[0])
    return torch.stack(found)


@pytest.mark.parametrize("tuning", ["full", "lora", "ia3", "prompt"])
def test_what_is_saved_is_what_predicts_with_every_tuning(train, tmp_path, tuning):
    result = train(tuning, pooling="mean")
    virtual = 3 if tuning == "prompt" else 0
    result.save(tmp_path / "model")
    info = json.loads((tmp_path / "model" / "deni.json").read_text())
    assert info["pooling"] == {"kind": "mean", "normalize": False, "virtual_tokens": virtual}
    assert (info["recipe"]["pooling"], "needs" in info) == ("mean", False)
    loaded = deni.load(tmp_path / "model", "cpu")
    found = torch.from_numpy(loaded.members(TEXTS)[:, 0])
    assert torch.equal(found, torch.from_numpy(result.classifier().members(TEXTS)[:, 0]))
    member = result.trainer.members[0].eval()
    expected = outputs_of(member, TEXTS, result.tokenizer, virtual).log_softmax(-1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@needs_adapters
def test_what_is_saved_is_what_predicts_with_unipelt(train, tmp_path):
    result = train("unipelt", pooling="mean")
    result.save(tmp_path / "model")
    found = deni.load(tmp_path / "model", "cpu").members(TEXTS)
    assert (found == result.classifier().members(TEXTS)).all()
    assert (found != train("unipelt").classifier().members(TEXTS)).any()


@pytest.mark.parametrize(
    ("task", "label"),
    [
        ("multi_label", lambda at, label: label if at % 3 else "billing|late"),
        ("ordinal", lambda at, label: ["billing", "delivery", "login"].index(label)),
        ("regression", lambda at, label: len(label) / 3),
        ("single_label", lambda at, label: label),
    ],
)
def test_every_kind_of_labels(train, task, label):
    rows = [(text, label(at, own)) for at, (text, own) in enumerate(toy_rows(4))]
    result = train("full", rows, task=task, pooling="last")
    found = torch.from_numpy(result.classifier().members(TEXTS)[:, 0])
    logits = outputs_of(result.trainer.members[0].eval(), TEXTS, result.tokenizer, kind="last")
    from deni.tasks import TASKS

    torch.testing.assert_close(found, TASKS[task].outputs(logits), rtol=0, atol=1e-5)


def test_pairs(train):
    rows = [(one, other, label) for (one, label), (other, _) in zip(toy_rows(4), toy_rows(4, seed=1), strict=True)]
    result = train("full", rows, ["text", "other", "label"], pooling="mean")
    pairs = list(zip(TEXTS, reversed(TEXTS), strict=True))
    found = torch.from_numpy(result.classifier().members(pairs)[:, 0])
    expected = outputs_of(result.trainer.members[0].eval(), pairs, result.tokenizer).log_softmax(-1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_members_of_a_fork_and_the_probe_read_what_is_pooled(train, tmp_path):
    result = train("full", pooling="mean", strategy="linear_probe+delayed_ensemble", settings={"members": 3}, epochs=2)
    result.save(tmp_path / "model")
    found = deni.load(tmp_path / "model", "cpu").members(TEXTS)
    assert found.shape[1] == 3
    for at, member in enumerate(result.trainer.members):
        expected = outputs_of(member.eval(), TEXTS, result.tokenizer).log_softmax(-1)
        torch.testing.assert_close(torch.from_numpy(found[:, at]), expected, rtol=0, atol=1e-5)


def test_tokens_have_no_pooling():
    for fields in ({"pooling": "mean"}, {"normalize_features": True}):
        with pytest.raises(SettingError, match=f"{next(iter(fields))} is not for the task token"):
            Recipe(task="token", **fields)
    with pytest.raises(SettingError, match="token classification has no pooling"):
        attach(make_tiny("bert", task="Token"), Pooling("mean"))


def test_a_bad_pooling_in_an_artifact_is_one_line(train, tmp_path):
    train("lora", pooling="mean").save(tmp_path / "model")
    file = tmp_path / "model" / "deni.json"
    info = json.loads(file.read_text())
    for pooling in ({"kind": "max"}, 3, {**info["pooling"], "kind": "max"}, {**info["pooling"], "virtual_tokens": -1}):
        file.write_text(json.dumps({**info, "pooling": pooling}))
        with pytest.raises(ArtifactError, match="pooling is "):
            deni.load(tmp_path / "model")


# ---- exported ------------------------------------------------------------------------------------------------------


def test_an_ordinary_model_that_would_pool_otherwise_is_not_exported(train, tmp_path):
    train("lora", pooling="mean", normalize_features=True).save(tmp_path / "model")
    for adapter, what in ((False, "an ordinary model of bert"), (True, "the base model of a PEFT adapter")):
        with pytest.raises(InputError, match=f"mean pooling, normalized, which {what} does not do"):
            export(tmp_path / "model", tmp_path / "out", adapter=adapter)
    assert not (tmp_path / "out").exists()


def test_the_pooling_of_the_class_is_exported(train, tmp_path):
    train("full", pooling="pooler").save(tmp_path / "model")
    export(tmp_path / "model", tmp_path / "out")
    expected = deni.load(tmp_path / "model", "cpu").members(TEXTS)
    assert (deni.load(tmp_path / "out", "cpu").members(TEXTS) == expected).all()


@pytest.mark.parametrize("kind", ["cls", "mean"])
def test_modernbert_says_its_pooling_itself(tmp_path, model_folder, kind):
    family, _ = SMALL["modernbert"]
    assert family == "ModernBert"
    with global_generators(0):
        model = make_tiny("modernbert", dtype=torch.float32)
    attach(model, Pooling(kind))
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    population = Population(model, [Sources(0)], "loop")
    info = {"vote": {"combine": "soft"}, "engine": "loop", "max_length": 16, "padding": "longest"}
    info |= {"text_pair_column": None}
    save(tmp_path / "model", population=population, tokenizer=tokenizer, labels=["a", "b", "c"], info=info)
    export(tmp_path / "model", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["classifier_pooling"] == kind
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    ids = {"input_ids": torch.tensor([[5, 6, 7, 0], [8, 9, 10, 11]])}
    ids["attention_mask"] = (ids["input_ids"] != 0).long()
    with torch.no_grad():
        torch.testing.assert_close(plain(**ids).logits, model.eval()(**ids).logits, rtol=0, atol=1e-5)


def test_the_trainer_writes_no_ordinary_weights_that_would_pool_otherwise(tmp_path):
    model = attach(bert().float(), Pooling("mean"))
    trainer = trainer_of(tmp_path, model=model, train=bert_rows())
    trainer.train()
    trainer.save_model(tmp_path / "model")
    assert json.loads((tmp_path / "model" / "deni.json").read_text())["pooling"]["kind"] == "mean"
    assert not (tmp_path / "model" / "model.safetensors").exists()
    trainer_of(tmp_path, model=bert().float(), train=bert_rows()).save_model(tmp_path / "plain")
    assert (tmp_path / "plain" / "model.safetensors").exists()


# ---- asked for -----------------------------------------------------------------------------------------------------


def test_it_is_a_flag_and_a_parameter(tickets, tmp_path, model_folder):
    flags = ["--model", model_folder, "--epochs", "1", "--strategy", "default", "--no-progress", "--pooling", "mean"]
    done = CliRunner().invoke(main, ["train", tickets, "--output", str(tmp_path / "model"), *flags])
    assert done.exit_code == 0, done.output
    assert "Pooling: mean" in (tmp_path / "model" / "README.md").read_text()
    wrong = CliRunner().invoke(main, ["train", tickets, "--output", str(tmp_path / "m"), *flags[:-1], "max"])
    assert wrong.exit_code == 2
    texts = [text for text, _ in toy_rows(4)]
    labels = [label for _, label in toy_rows(4)]
    fitted = DeniClassifier(model_folder, "default", epochs=1, pooling="cls", normalize_features=True)
    fitted.fit(texts, labels)
    member = fitted.fitted_.trainer.members[0]
    assert pooling_of(member) == Pooling("cls", normalize=True)


def test_a_study_varies_it_and_what_was_there_before_keeps_its_keys(tmp_path, tickets, model_folder):
    file = tmp_path / "study.yaml"
    text = f"datasets: [{tickets}]\nmodels: [{model_folder}]\nstrategies: [default]\nseeds: 1\n"

    def keys(more=""):
        file.write_text(text + more)
        return {job.cell.factor.get("pooling"): job for job in read_study(file).jobs}

    plain = keys()[None]
    found = keys("factor: {pooling: [auto, mean, last]}\n")
    assert len({job.key for job in found.values()}) == 3
    assert found["auto"].key == plain.key
    assert not {"pooling", "normalize_features"} & plain.decides["recipe"].keys()
    assert found["mean"].decides["recipe"]["pooling"] == "mean"
    with pytest.raises(InputError, match=r"line 5: recipe\.pooling: expected one of auto, pooler, .* not 'max'"):
        keys("recipe: {pooling: max}\n")
    make_tiny("roberta").config.save_pretrained(tmp_path / "roberta")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(Path(model_folder) / name, tmp_path / "roberta")
    text = text.replace(model_folder, str(tmp_path / "roberta"))
    with pytest.raises(InputError, match=r"line 5: .*roberta has no pooler in its encoder"):
        keys("factor: {pooling: [cls, pooler]}\n")


def test_the_encoder_stays_what_it_was(model_folder):
    """Nothing of the model but a hook changes, so its state and its file are those of its class."""
    model = AutoModelForSequenceClassification.from_pretrained(model_folder)
    names, config = list(model.state_dict()), model.config.to_dict()
    attach(model, Pooling("mean"))
    assert isinstance(model.bert, BertModel)
    assert isinstance(copy.deepcopy(model), nn.Module)
    assert (list(model.state_dict()), model.config.to_dict()) == (names, config)
    assert pooling_of(copy.deepcopy(model)) == Pooling("mean")
    assert pooling_of(make_tuning("lora").apply(model)) == Pooling("mean")
