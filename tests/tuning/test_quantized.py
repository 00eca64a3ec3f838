"""A base in 4 bits (bitsandbytes) stays frozen and shared under members of LoRA; on a GPU where there is one."""

import json

import numpy as np
import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    BitsAndBytesConfig,
    PreTrainedTokenizerFast,
    TrainingArguments,
)

import deni
from deni import artifact
from deni.engine import answers
from deni.generation.generator import Generator
from deni.randomness import global_generators
from deni.strategies import DENI, DelayedEnsemble, Ensemble
from deni.training.compat import renamed
from deni.training.trainer import PopulationTrainer
from deni.tuning import Lora
from tests.helpers.generators import (
    answered_rows,
    byte_tokenizer,
    check_against_plain_pytorch,
    collate_answers,
    make_generator,
    with_lora,
)

bitsandbytes = pytest.importorskip("bitsandbytes", reason="needs bitsandbytes")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZES = {
    "vocab_size": 60,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("base")
    with global_generators(0):
        AutoModelForSequenceClassification.from_config(BertConfig(num_labels=3, **SIZES)).save_pretrained(path)
    return path


def in_four_bits(kind, folder, but):
    """The model of a folder in 4 bits, all but one layer."""
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.float32,
        llm_int8_skip_modules=[but],
    )
    return kind.from_pretrained(folder, quantization_config=config, device_map={"": DEVICE}, dtype=torch.float32)


def quantized(folder):
    """The base in 4 bits but for its output layer, with LoRA."""
    base = in_four_bits(AutoModelForSequenceClassification, folder, but="classifier")
    with global_generators(1):
        return Lora(lora_r=4, lora_alpha=4, lora_bias="none").apply(base)


def rows():
    draw = np.random.default_rng(2)
    labels = draw.integers(3, size=32)
    ids = [[int(5 + 10 * label + word) for word in draw.integers(10, size=7)] for label in labels]
    return Dataset.from_dict({"input_ids": ids, "attention_mask": [[1] * 7] * 32, "labels": labels.tolist()})


def train(folder, tmp_path, engine):
    args = TrainingArguments(
        str(tmp_path / engine),
        num_train_epochs=15,
        learning_rate=1e-2,
        report_to=[],
        disable_tqdm=True,
        use_cpu=DEVICE == "cpu",
        per_device_train_batch_size=8,
    )
    trainer = PopulationTrainer(quantized(folder), args, strategy=DENI(members=3), train_dataset=rows(), engine=engine)
    trainer.train()
    return trainer


def words(ids):
    return " ".join(f"w{at}" for at in ids)


@pytest.fixture
def tokenizer():
    names = {0: "[PAD]", 1: "[UNK]"}
    plain = Tokenizer(models.WordLevel({names.get(at, f"w{at}"): at for at in range(60)}, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="[PAD]", unk_token="[UNK]")


def packed(model):
    """The weights in 4 bits, as they are stored."""
    found = {name: p for name, p in model.named_parameters() if isinstance(p, bitsandbytes.nn.Params4bit)}
    return {name.removeprefix("model."): p.detach().cpu().clone() for name, p in found.items()}


def test_members_over_a_base_in_4_bits_are_stacked_and_equal_the_loop(folder, tmp_path):
    stacked, loop = train(folder, tmp_path, "stacked"), train(folder, tmp_path, "loop")
    assert stacked.population.engine_name == "stacked"
    assert loop.population.engine_name == "loop"
    said = stacked.predict_members(rows())
    assert said.shape == (32, 3, 3)
    assert np.abs(said[:, 0] - said[:, 1]).max() > 0
    assert np.allclose(said, loop.predict_members(rows()), atol=2e-3)
    assert (stacked.predict(rows()).predictions.argmax(-1) == np.array(rows()["labels"])).mean() > 0.8
    before, after = packed(quantized(folder)), packed(stacked.population.model)
    assert len(before) == len(after) == 13  # six matrices in each of two layers, and the pooler
    assert all(torch.equal(a, b) for a, b in zip(before.values(), after.values(), strict=True))


def test_an_artifact_of_a_base_in_4_bits_has_plain_weights_that_say_the_same(folder, tmp_path, tokenizer):
    trainer = train(folder, tmp_path, "stacked")
    trainer.processing_class = tokenizer
    trainer.save_model()
    config = json.loads((tmp_path / "stacked" / "config.json").read_text())
    assert "quantization_config" not in config
    classifier = deni.load(tmp_path / "stacked")
    texts = [words(ids) for ids in rows()["input_ids"]]
    assert np.allclose(classifier.members(texts), trainer.predict_members(rows()), atol=2e-3)
    artifact.export(tmp_path / "stacked", tmp_path / "single", how="single")
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path / "single").num_labels == 3


# ---- language models that generate -----------------------------------------------------------------------------------

RATE = 0.2


@pytest.fixture(scope="module")
def language_folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("language")
    make_generator("llama", dtype=torch.float32, vocabulary=len(byte_tokenizer())).save_pretrained(path)
    return path


def train_language(language_folder, tmp_path, strategy, engine, monkeypatch, resume=None, **settings):
    """Answers of at most 6 tokens, whose logits are computed in parts of 2 tokens."""

    def made():
        base = in_four_bits(AutoModelForCausalLM, language_folder, but="lm_head")
        return with_lora(base, "llama", seed=int(torch.randint(1000, ())))

    monkeypatch.setattr(answers, "PART", 4 * 3 * len(byte_tokenizer()) * 2)
    args = TrainingArguments(
        str(tmp_path / engine),
        learning_rate=RATE,
        lr_scheduler_type="constant",
        optim="sgd",
        max_grad_norm=0.0,
        report_to=[],
        disable_tqdm=True,
        use_cpu=DEVICE == "cpu",
        per_device_train_batch_size=4,
        **renamed({"num_train_epochs": 1, "save_strategy": "no", **settings}),
    )
    trainer = PopulationTrainer(
        args=args,
        model_init=made,
        strategy=strategy,
        train_dataset=answered_rows(12),
        eval_dataset=answered_rows(12),
        data_collator=collate_answers,
        task="generation",
        engine=engine,
    )
    trainer.train(resume_from_checkpoint=resume)
    assert trainer.engine_plan.engine == engine
    return trainer


@pytest.mark.parametrize("checkpointing", [False, True])
def test_language_models_over_a_base_in_4_bits_are_trained_as_by_plain_pytorch(
    language_folder, tmp_path, monkeypatch, checkpointing
):
    options = {"gradient_checkpointing": checkpointing}
    ours = train_language(language_folder, tmp_path, Ensemble(members=3), "stacked", monkeypatch, **options)
    shared = [each for each in ours.population.model.modules() if isinstance(each, bitsandbytes.nn.Linear4bit)]
    assert len(shared) == 14  # seven matrices in each of two layers, which members share
    check_against_plain_pytorch(ours, answered_rows(12), RATE)


def test_evaluations_checkpoints_and_the_best_epoch_change_nothing(language_folder, tmp_path, monkeypatch):
    """Evaluation on a CPU would pack the weights anew, and a checkpoint has the plain ones."""
    strategy, each = Ensemble(members=2), {"num_train_epochs": 2}
    expected = train_language(language_folder, tmp_path / "plain", strategy, "stacked", monkeypatch, **each)
    saved = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
    best = train_language(language_folder, tmp_path / "best", strategy, "stacked", monkeypatch, **each, **saved)
    assert best.state.best_model_checkpoint.endswith("checkpoint-6")
    middle = str(tmp_path / "best" / "stacked" / "checkpoint-3")
    resumed = train_language(language_folder, tmp_path, strategy, "stacked", monkeypatch, middle, **each, **saved)
    for name, value in expected.population.values.items():
        assert torch.equal(value, best.population.values[name])
        assert torch.equal(value, resumed.population.values[name])


def test_an_artifact_of_a_language_model_in_4_bits_generates_the_same(language_folder, tmp_path, monkeypatch):
    trainer = train_language(language_folder, tmp_path, DelayedEnsemble(members=2), "stacked", monkeypatch)
    trainer.processing_class = byte_tokenizer()
    trainer.save_model()
    loaded = deni.load(tmp_path / "stacked")
    ours = Generator(trainer.population, byte_tokenizer(), loaded.encode)
    prompts = ["one and", "two, three"]
    expected = ours.generate(prompts, max_new_tokens=6)
    found = loaded.generate(prompts, max_new_tokens=6)
    assert [each.tokens for each in found] == [each.tokens for each in expected]
    assert [each.log_probability for each in found] == pytest.approx(
        [each.log_probability for each in expected], abs=1e-3
    )
    artifact.export(tmp_path / "stacked", tmp_path / "single", how="single")
    AutoModelForCausalLM.from_pretrained(tmp_path / "single")
