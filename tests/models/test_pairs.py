"""Two texts that are encoded separately: what plain PyTorch makes of both by hand; saved, it is what loads."""

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import ConvBertConfig

import deni
from deni.artifact import export
from deni.cli import main
from deni.data import read_texts
from deni.engine.probe import why_not_stacked
from deni.errors import ArtifactError, InputError, SettingError
from deni.finetune import fine_tune
from deni.models.pairs import encode_separately, encodes_separately, parts_of
from deni.models.pooling import Pooling, attach, detach
from deni.noise import Noise
from deni.population import Population
from deni.randomness import Sources
from deni.recipe import Recipe
from deni.schedule import Fork
from deni.sklearn import DeniClassifier
from deni.study.plan import read_study
from tests.helpers.references import without_dropout
from tests.helpers.tiny import SMALL_TUNINGS, make_batch, make_tiny, toy_rows

PAIRS = [("where is my parcel", "late"), ("refund", "the screen is locked please"), ("a code", "a code")]
HOW = Fork(noise=Noise(variance=0.1, scope="trainable", floor=0.01))
STACKED = ("bert", "roberta", "distilbert", "modernbert", "gpt2", "llama")


def make_bi(architecture, kind="mean", normalize=False):
    return attach(encode_separately(make_tiny(architecture)), Pooling(kind, normalize))


def bi_batch(side="right"):
    """Two batches of texts, whose padding differs, beside each other; and the labels."""
    one, other = make_batch(side=side), make_batch(seed=1, side=side)
    inputs = {name: torch.stack([one[name], other[name]], -1) for name in ("input_ids", "attention_mask")}
    return inputs, one["labels"]


def by_hand(model, inputs, kind="mean", normalize=False):
    """The logits of a model without pooling and dropout, from the states of its encoder, text by text."""
    encoder = getattr(model, model.base_model_prefix)
    vectors = []
    for side in (0, 1):
        states = encoder(inputs["input_ids"][..., side], attention_mask=inputs["attention_mask"][..., side])[0]
        rows = [row[there.bool()] for row, there in zip(states, inputs["attention_mask"][..., side], strict=True)]
        vectors.append(torch.stack([{"mean": row.mean(0), "cls": row[0], "last": row[-1]}[kind] for row in rows]))
    u, v = [F.normalize(each) for each in vectors] if normalize else vectors
    head = model.score if hasattr(model, "score") else model.classifier
    return torch.cat([u, v, torch.abs(u - v), u * v], 1) @ head.weight.T + head.bias


@pytest.mark.parametrize("architecture", [*STACKED, "albert", "mpnet", "deberta", "opt"])
@torch.no_grad()
def test_the_head_reads_both_vectors_their_difference_and_their_product(architecture):
    for side, kind, normalize in (("right", "mean", False), ("left", "last", True)):
        model, (inputs, _) = make_bi(architecture, kind, normalize).eval(), bi_batch(side)
        found = model(**inputs).logits
        assert found.shape == (4, 3)
        detach(model)
        torch.testing.assert_close(found, by_hand(model, inputs, kind, normalize), rtol=0, atol=1e-6)


@pytest.mark.parametrize("engine", ["stacked", "loop"])
@pytest.mark.parametrize("architecture", STACKED)
def test_members_equal_models_that_plain_pytorch_trains(architecture, engine):
    """In float64, two steps of three members."""
    model, (inputs, labels) = without_dropout(make_bi(architecture)), bi_batch()
    assert not why_not_stacked(model, inputs, {"input_ids": 1})
    population = Population(copy.deepcopy(model), [Sources(7)], engine)
    population.module.train()
    population.fork(3, HOW)
    starts = [{name: value.clone() for name, value in population.member(at).items()} for at in range(3)]
    optimizer = torch.optim.SGD([view for views in population.views.values() for view in views], lr=0.1)
    for _ in range(2):
        for chunk in population.module.chunks:
            population.module.focus(chunk)
            logits = population.module(**population.module.fold(inputs)).logits.double()
            losses = F.cross_entropy(logits, labels.repeat(len(chunk)), reduction="none")
            losses.unflatten(0, (len(chunk), -1)).mean(1).sum().backward()
        population.module.collect()
        optimizer.step()
        population.module.zero_grad()
    for at, start in enumerate(starts):
        alone = copy.deepcopy(model)
        alone.load_state_dict(start, strict=False)
        detach(alone)
        plain = torch.optim.SGD(alone.parameters(), lr=0.1)
        for _ in range(2):
            plain.zero_grad()
            F.cross_entropy(by_hand(alone, inputs).double(), labels).backward()
            plain.step()
        expected = {name: value.detach() for name, value in alone.named_parameters()}
        found = population.member(at)
        # Norms and rotary positions compute in float32 in some families.
        limit = 1e-9 if architecture in ("bert", "roberta", "distilbert", "gpt2") else 1e-6
        assert max(float((found[name] - expected[name]).abs().max()) for name in found) < limit
        assert max(float((start[name] - expected[name]).abs().max()) for name in found) > 1e-3


def test_stacked_members_draw_the_dropout_of_the_loop():
    model, (inputs, _) = make_bi("bert"), bi_batch()
    outputs = []
    for engine in ("loop", "stacked"):
        population = Population(copy.deepcopy(model), [Sources(7)], engine)
        population.module.train()
        population.fork(3, HOW)
        each = []
        for chunk in population.module.chunks:
            population.module.focus(chunk)
            each.append(population.module(**population.module.fold(inputs)).logits)
        outputs.append(torch.cat(each))
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-12)
    assert (outputs[0][:4] - outputs[0][4:8]).abs().max() > 1e-3


def test_a_copy_computes_with_its_own_weights():
    model, (inputs, labels) = make_bi("bert").eval(), bi_batch()
    other = copy.deepcopy(model)
    torch.nn.init.zeros_(other.classifier.weight)
    torch.nn.init.zeros_(other.classifier.bias)
    assert encodes_separately(other)
    assert other(**inputs).logits.abs().max() == 0 < model(**inputs).logits.abs().max()
    assert float(other(**inputs, labels=labels).loss.detach()) == pytest.approx(np.log(3))


# ---- what does not fit ---------------------------------------------------------------------------------------------


def test_what_cannot_encode_separately_is_refused():
    model = make_tiny("bert")
    model.config.model_type = "perceiver"
    with pytest.raises(SettingError, match="pairs cannot be bi: pooling is not known for perceiver: use cross, or one"):
        encode_separately(model)
    with pytest.raises(SettingError, match="pairs cannot be bi in token classification"):
        encode_separately(make_tiny("bert", task="Token"))
    with pytest.raises(SettingError, match="pairs cannot be bi for the task token, whose texts are no pairs"):
        Recipe(task="token", pairs="bi")
    for tuning in ("prompt", "unipelt"):
        with pytest.raises(SettingError, match=f"pairs cannot be bi with tuning {tuning}: use cross, or another"):
            Recipe.of(None, "default", tuning, pairs="bi")
    with pytest.raises(SettingError, match="unknown pairs 'both'"):
        Recipe(pairs="both")
    with pytest.raises(SettingError, match=r"reads \(texts, tokens, 2\), not input_ids \(4, 7\)"):
        make_bi("bert")(make_batch()["input_ids"])
    with pytest.raises(SettingError, match="needs a pooling"):
        encode_separately(make_tiny("bert"))(**bi_batch()[0])


# ---- trained, saved, loaded ----------------------------------------------------------------------------------------


def pair_rows():
    return [
        (one, other, "same" if x == y else "other")
        for (one, x), (other, y) in zip(toy_rows(8), toy_rows(8, seed=1)[::-1], strict=True)
    ]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    file = tmp_path_factory.mktemp("pairs") / "pairs.csv"
    pd.DataFrame(pair_rows(), columns=["text", "other", "label"]).to_csv(file, index=False)
    return file


@pytest.fixture(scope="module")
def train(model_folder, file):
    def trained(tuning="full", strategy="default", settings=None, seeds=None, **fields):
        plan = Recipe.of(
            None,
            strategy,
            tuning,
            settings,
            SMALL_TUNINGS.get(tuning),
            **{"model": model_folder, "epochs": 1, "max_length": 16, "pairs": "bi", **fields},
        )
        return fine_tune(read_texts(file, text_pair_column="other"), plan, seeds=seeds, progress=False)

    return trained


@torch.no_grad()
def vectors_of(model, tokenizer, texts):
    """Of a BERT, text by text, without padding."""
    detach(model)
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    given = [tokenizer(text, return_tensors="pt", truncation=True, max_length=16) for text in texts]
    return torch.stack([inner.bert(**each).last_hidden_state[0].mean(0) for each in given])


@torch.no_grad()
def outputs_of(model, tokenizer, pairs):
    u, v = (vectors_of(model, tokenizer, side) for side in zip(*pairs, strict=True))
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return inner.classifier(parts_of(u, v)).log_softmax(-1)


@pytest.mark.parametrize("tuning", ["full", "lora", "ia3"])
def test_what_is_saved_is_what_predicts_with_every_tuning(train, tmp_path, tuning):
    settings = {"members": 3}
    result = train(tuning, "linear_probe+delayed_ensemble", settings, epochs=2)
    assert result.trainer.population.engine_name == "stacked"
    result.save(tmp_path / "model")
    info = json.loads((tmp_path / "model" / "deni.json").read_text())
    assert (info["pairs"], info["pooling"]["kind"], "needs" in info) == ("bi", "mean", False)
    assert (info["recipe"]["pairs"], info["recipe"]["pooling"]) == ("bi", "mean")
    assert "Pairs: both texts are encoded separately" in (tmp_path / "model" / "README.md").read_text()
    loaded = deni.load(tmp_path / "model", "cpu")
    found = torch.from_numpy(loaded.members(PAIRS))
    assert torch.equal(found, torch.from_numpy(result.classifier().members(PAIRS)))
    assert loaded(PAIRS[0])[0]["label"] in ("same", "other")
    for at, member in enumerate(result.trainer.members):
        expected = outputs_of(member.eval(), result.tokenizer, PAIRS)
        torch.testing.assert_close(found[:, at], expected, rtol=0, atol=1e-5)
    for adapter, what in ((False, "an ordinary model"), *([(True, "the base model")] if tuning != "full" else [])):
        with pytest.raises(InputError, match=f"encodes the two texts of a pair separately, which {what}"):
            export(tmp_path / "model", tmp_path / "out", adapter=adapter)
    with pytest.raises(InputError, match="trained on pairs, give"):
        loaded(["one text"])


def test_a_pack_is_its_runs_alone(train):
    packed = train(seeds=[3, 4], learning_rate=1e-3)
    for at, seed in enumerate((3, 4)):
        alone = train(seed=seed, learning_rate=1e-3)
        found, expected = packed.trainer.population.member(at), alone.trainer.population.member(0)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=0, atol=2e-5)


def test_the_probe_is_logistic_regression_on_what_the_head_reads(train):
    result = train(strategy="linear_probe", settings={"probe_c": 0.1}, learning_rate=1e-12)
    pairs, labels = [row[:2] for row in pair_rows()], [row[2] for row in pair_rows()]
    found = np.exp(result.classifier().votes(PAIRS))
    model = result.trainer.members[0].eval()
    u, v = (vectors_of(model, result.tokenizer, side) for side in zip(*pairs, strict=True))
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000, tol=1e-8))
    theirs.fit(torch.cat([u, v, (u - v).abs(), u * v], 1).double().numpy(), labels)
    u, v = (vectors_of(model, result.tokenizer, side) for side in zip(*PAIRS, strict=True))
    expected = theirs.predict_proba(torch.cat([u, v, (u - v).abs(), u * v], 1).double().numpy())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


def test_a_bad_value_in_an_artifact_is_one_line(train, tmp_path):
    train().save(tmp_path / "model")
    file = tmp_path / "model" / "deni.json"
    info = json.loads(file.read_text())
    file.write_text(json.dumps({**info, "pairs": "both"}))
    with pytest.raises(ArtifactError, match="pairs is 'both' where one of cross, bi was expected"):
        deni.load(tmp_path / "model")
    file.write_text(json.dumps({key: value for key, value in info.items() if key != "pairs"}))
    with pytest.raises(ArtifactError, match=r"the model does not fit: classifier\.weight is"):
        deni.load(tmp_path / "model")


# ---- asked for -----------------------------------------------------------------------------------------------------


def test_it_is_a_flag_that_needs_pairs(file, tickets, tmp_path, model_folder):
    flags = ["--model", model_folder, "--epochs", "1", "--strategy", "default", "--no-progress", "--pairs", "bi"]
    columns = ["--text-pair-column", "other", "--test", "0.5"]
    done = CliRunner().invoke(main, ["train", str(file), "--output", str(tmp_path / "model"), *flags, *columns])
    assert done.exit_code == 0, done.output
    assert deni.load(tmp_path / "model", "cpu").info["pairs"] == "bi"
    done = CliRunner().invoke(main, ["evaluate", str(tmp_path / "model"), str(file)])
    assert done.exit_code == 0, done.output
    wrong = CliRunner().invoke(main, ["train", tickets, "--output", str(tmp_path / "m"), *flags])
    assert (wrong.exit_code, wrong.stderr.count("\n")) == (2, 1)
    assert "pairs cannot be bi, each row has one text: give --text-pair-column, or use cross" in wrong.stderr


def test_the_classifier_of_scikit_learn_takes_pairs(model_folder):
    pairs, labels = [row[:2] for row in pair_rows()], [row[2] for row in pair_rows()]
    fitted = DeniClassifier(model_folder, "default", epochs=1, pairs="bi").fit(pairs, labels)
    expected = fitted.predict_log_proba(pairs)
    assert (fitted.predict_log_proba(pd.DataFrame(pairs)) == expected).all()
    assert (fitted.predict_log_proba(np.array(pairs)) == expected).all()
    for wrong, why in (
        ("one", "not str"),
        (["one", "two"], r"X\[0\] is 'one', not a pair"),
        ([("one", "")], r"X\[0\] is "),
        ([], "no texts"),
    ):
        with pytest.raises(InputError, match=why):
            fitted.predict(wrong)


def test_a_study_varies_it_and_what_was_there_before_keeps_its_keys(tmp_path, file, tickets, model_folder):
    study = tmp_path / "study.yaml"
    dataset = f"datasets: [{{path: {file}, text_pair_column: other}}]\n"
    text = f"models: [{model_folder}]\nstrategies: [default]\nseeds: 1\n"

    def keys(more="", dataset=dataset):
        study.write_text(dataset + text + more)
        return {job.cell.factor.get("pairs"): job for job in read_study(study).jobs}

    plain, found = keys()[None], keys("factor: {pairs: [cross, bi]}\n")
    assert found["cross"].key == plain.key != found["bi"].key
    assert "pairs" not in plain.decides["recipe"]
    assert found["bi"].decides["recipe"]["pairs"] == "bi"
    assert found["bi"].key == keys("recipe: {pairs: bi, pooling: mean}\n")[None].key  # what auto becomes
    with pytest.raises(InputError, match="one text: give text_pair_column, or use cross"):
        keys("recipe: {pairs: bi}\n", f"datasets: [{tickets}]\n")
    ConvBertConfig().save_pretrained(tmp_path / "other")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(Path(model_folder) / name, tmp_path / "other")
    text = text.replace(model_folder, str(tmp_path / "other"))
    with pytest.raises(InputError, match="not known for"):
        keys("recipe: {pairs: bi}\n")
