"""What people do with `transformers.Trainer`, done with one line changed: each equals what `Trainer` itself gives."""

import importlib.util
import math

import numpy as np
import pytest
import torch
from datasets import Dataset
from sklearn.metrics import f1_score
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from torch import nn
from transformers import (
    AutoFeatureExtractor,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertForTokenClassification,
    DataCollatorForLanguageModeling,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    EarlyStoppingCallback,
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    TrainingArguments,
    Wav2Vec2FeatureExtractor,
    default_data_collator,
    pipeline,
)

from deni.models.products import fast_products
from deni.randomness import global_generators
from tests.helpers.references import Ours, OursWeighted, Reference, ReferenceWeighted
from tests.helpers.tiny import FILLERS, TOPICS, toy_rows

CLASSES = sorted(TOPICS)
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *FILLERS, *" ".join(TOPICS.values()).split()]
SIZES = {"vocab_size": len(WORDS), "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
SIZES |= {"num_hidden_layers": 1, "max_position_embeddings": 32, "pad_token_id": 0}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # masks come from streams of ours


BOTH = (Reference, Ours)


def make_tokenizer():
    tokenizer = Tokenizer(WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=32, **special)


def bert(cls=BertForSequenceClassification, **config):
    labels = {"id2label": dict(enumerate(CLASSES)), "label2id": {name: at for at, name in enumerate(CLASSES)}}
    with global_generators(0):
        return cls(BertConfig(**{**SIZES, **NO_DROPOUT, **labels, **config}))


def texts(seed=0):
    rows = toy_rows(each=8, seed=seed)
    return Dataset.from_dict({"text": [text for text, _ in rows], "label": [CLASSES.index(name) for _, name in rows]})


def tokenized(seed=0):
    """As the example script for text classification does it: a map that keeps the text's column."""
    tokenizer = make_tokenizer()
    return texts(seed).map(lambda batch: tokenizer(batch["text"], truncation=True), batched=True)


def arguments(folder, **settings):
    known = {"learning_rate": 5e-3, "num_train_epochs": 2, "per_device_train_batch_size": 4, "logging_steps": 3}
    known |= {"report_to": [], "use_cpu": True, "disable_tqdm": True, "save_strategy": "no"}
    return TrainingArguments(str(folder), **{**known, **settings})


def macro_f1(prediction):
    return {"f1": f1_score(prediction.label_ids, prediction.predictions.argmax(-1), average="macro")}


def curve(trainer):
    """What was logged, without times."""
    ignored = ("runtime", "per_second", "total_flos", "members", "member_steps", "failed_runs", "phase")
    return [
        {name: value for name, value in entry.items() if not name.endswith(ignored)}
        for entry in trainer.state.log_history
    ]


def assert_same(plain, ours, tolerance=1e-5):
    """Weights and curves of the two trainers are the same."""
    expected, got = plain.model.state_dict(), ours.model.state_dict()
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, atol=tolerance, rtol=tolerance, msg=name)
    expected, got = curve(plain), curve(ours)
    assert [entry.keys() for entry in got] == [entry.keys() for entry in expected]
    for one, other in zip(got, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=tolerance)


def classifier(cls, folder, *, model=None, settings=None, **options):
    tokenizer = make_tokenizer()
    if model is None and "model_init" not in options:
        model = bert()
    data = {"train_dataset": tokenized(), "eval_dataset": tokenized(seed=1), "processing_class": tokenizer}
    options = {**data, "data_collator": DataCollatorWithPadding(tokenizer), "compute_metrics": macro_f1, **options}
    return cls(model, arguments(folder / cls.__name__, **(settings or {})), **options)


def test_the_script_for_text_classification(tmp_path, capsys):
    saved = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
    trainers, predicted, written = [], [], []
    for cls in BOTH:
        trainer = classifier(cls, tmp_path, settings={**saved, "metric_for_best_model": "f1", "weight_decay": 0.01})
        result = trainer.train()
        trainer.log_metrics("train", result.metrics)
        trainer.save_metrics("train", result.metrics)
        trainer.save_state()
        metrics = trainer.evaluate()
        trainer.save_metrics("eval", metrics)
        predicted.append(trainer.predict(tokenized(seed=2).remove_columns("label")).predictions)
        written.append({file.name for file in (tmp_path / cls.__name__).iterdir()})
        trainers.append(trainer)
    assert_same(*trainers)
    np.testing.assert_allclose(predicted[1], torch.tensor(predicted[0]).log_softmax(-1), atol=1e-5)
    assert written[0] == written[1]
    assert trainers[0].state.best_metric == pytest.approx(trainers[1].state.best_metric)
    assert "***** train metrics *****" in capsys.readouterr().out


def test_the_script_for_token_classification(tmp_path):
    tokenizer = make_tokenizer()

    def aligned(batch):
        words = [text.split() for text in batch["text"]]
        encoded = tokenizer(words, is_split_into_words=True)
        encoded["labels"] = []
        for row, text in enumerate(words):
            tags = [next((at for at, name in enumerate(CLASSES) if word in TOPICS[name].split()), 0) for word in text]
            places = encoded.word_ids(row)
            encoded["labels"].append([-100 if place is None else tags[place] for place in places])
        return encoded

    def accuracy(prediction):
        chosen, known = prediction.predictions.argmax(-1), prediction.label_ids
        return {"accuracy": (chosen == known)[known != -100].mean()}

    trainers, predicted = [], []
    for cls in BOTH:
        data = [texts(seed).map(aligned, batched=True, remove_columns=["text", "label"]) for seed in (0, 1)]
        collator = DataCollatorForTokenClassification(tokenizer)
        args = arguments(tmp_path / cls.__name__, eval_strategy="epoch")
        model = bert(BertForTokenClassification)
        trainer = cls(model, args, collator, *data, processing_class=tokenizer, compute_metrics=accuracy)
        trainer.train()
        predicted.append(trainer.predict(data[1]))
        trainers.append(trainer)
    assert_same(*trainers)
    real = predicted[0].label_ids != -100
    np.testing.assert_array_equal(predicted[1].label_ids, predicted[0].label_ids)
    expected = torch.tensor(predicted[0].predictions).log_softmax(-1).numpy()
    np.testing.assert_allclose(predicted[1].predictions[real], expected[real], atol=1e-5)


def test_the_script_for_masked_language_modeling(tmp_path):
    tokenizer, trainers = make_tokenizer(), []
    for cls in BOTH:
        torch.manual_seed(len(trainers))  # which words are masked is decided by `args.seed` alone
        data = [tokenized(seed).remove_columns(["text", "label"]) for seed in (0, 1)]
        collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.3)
        args = arguments(tmp_path / cls.__name__, num_train_epochs=3)
        trainer = cls(bert(BertForMaskedLM), args, collator, *data, processing_class=tokenizer)
        trainer.train()
        trainers.append(trainer)
    assert_same(*trainers)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_script_for_causal_language_modeling(tmp_path, accumulation):
    trainers, perplexities = [], []
    for cls in BOTH:
        ids = [(word * 7 + at) % 20 for word in range(32) for at in range(8)]
        blocks = Dataset.from_dict({"input_ids": [ids[at : at + 8] for at in range(0, len(ids), 8)]})
        blocks = blocks.map(lambda block: {"labels": block["input_ids"], "attention_mask": [1] * 8})
        with global_generators(0):
            model = LlamaForCausalLM(LlamaConfig(**{**SIZES, "num_key_value_heads": 1}))
        settings = {"gradient_accumulation_steps": accumulation, "per_device_train_batch_size": 4 // accumulation}
        args = arguments(tmp_path / cls.__name__, eval_strategy="epoch", **settings)
        trainer = cls(model, args, default_data_collator, blocks, blocks.select(range(9)))
        trainer.train()
        perplexities.append(math.exp(trainer.evaluate()["eval_loss"]))
        trainers.append(trainer)
    assert_same(*trainers)
    assert perplexities[1] == pytest.approx(perplexities[0], rel=1e-5)


def test_early_stopping_stops_at_the_same_step(tmp_path):
    """With the same products, since Adam makes whole steps of gradients that are zero but for rounding."""
    settings = {"num_train_epochs": 10, "eval_strategy": "epoch", "save_strategy": "epoch", "learning_rate": 5e-2}
    settings |= {"load_best_model_at_end": True, "metric_for_best_model": "loss"}
    trainers = []
    for cls in BOTH:
        trainer = classifier(cls, tmp_path, settings=settings, callbacks=[EarlyStoppingCallback(1)])
        with fast_products():
            trainer.train()
        trainers.append(trainer)
    plain, ours = trainers
    assert plain.state.global_step < 10 * 6
    assert ours.state.global_step == plain.state.global_step
    assert ours.state.best_metric == pytest.approx(plain.state.best_metric, rel=1e-3)
    assert ours.state.best_model_checkpoint.split("/")[-1] == plain.state.best_model_checkpoint.split("/")[-1]
    assert_same(plain, ours, tolerance=1e-3)


def test_a_weighted_compute_loss(tmp_path):
    trainers = []
    for cls in (ReferenceWeighted, OursWeighted):
        trainer = classifier(cls, tmp_path, settings={"eval_strategy": "epoch"})
        trainer.train()
        trainers.append(trainer)
    assert_same(*trainers)


@pytest.mark.skipif(importlib.util.find_spec("optuna") is None, reason="needs the package optuna")
def test_a_search_of_optuna_finds_the_same_learning_rate(tmp_path):
    import optuna

    rates, found = [1e-4, 1e-2, 5e-2], []
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for cls in BOTH:
        trainer = classifier(cls, tmp_path, model_init=lambda: bert(), settings={"eval_strategy": "epoch"})
        best = trainer.hyperparameter_search(
            direction="maximize",
            backend="optuna",
            hp_space=lambda trial: {"learning_rate": trial.suggest_categorical("learning_rate", rates)},
            compute_objective=lambda metrics: metrics["eval_f1"] - metrics["eval_loss"],
            n_trials=3,
            sampler=optuna.samplers.GridSampler({"learning_rate": rates}, seed=0),
        )
        found.append(best)
    assert found[1].hyperparameters == found[0].hyperparameters
    assert found[1].objective == pytest.approx(found[0].objective, rel=1e-4)


def test_a_pipeline_of_the_trained_model_and_what_it_saves(tmp_path):
    said, trainers, loaded = [], [], []
    sentences = list(texts(seed=3)["text"])
    for cls in BOTH:
        trainer = classifier(cls, tmp_path)
        trainer.train()
        classify = pipeline("text-classification", model=trainer.model, tokenizer=make_tokenizer(), top_k=None)
        said.append([{each["label"]: each["score"] for each in answer} for answer in classify(sentences)])
        trainer.model.save_pretrained(tmp_path / f"saved {cls.__name__}")
        loaded.append(AutoModelForSequenceClassification.from_pretrained(tmp_path / f"saved {cls.__name__}"))
        trainers.append(trainer)
    assert_same(*trainers)
    for one, other in zip(*said, strict=True):
        assert other == pytest.approx(one, abs=1e-4)  # pipelines pad, in float32
    assert type(loaded[1]) is type(loaded[0]) is BertForSequenceClassification
    assert loaded[1].config.id2label == loaded[0].config.id2label
    for name, value in loaded[0].state_dict().items():
        torch.testing.assert_close(loaded[1].state_dict()[name], value, atol=1e-5, rtol=1e-5)


def test_what_processes_inputs_is_saved_as_trainer_saves_it(tmp_path):
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["parcels"])
    for cls in BOTH:
        folder = tmp_path / cls.__name__
        collator = DataCollatorWithPadding(tokenizer)
        cls(bert(), arguments(folder / "text"), collator, tokenized()).save_model()  # without processing_class
        assert len(AutoTokenizer.from_pretrained(folder / "text")) == len(tokenizer)
        sound = Wav2Vec2FeatureExtractor(sampling_rate=8000)
        cls(bert(), arguments(folder / "sound"), processing_class=sound).save_model()
        assert AutoFeatureExtractor.from_pretrained(folder / "sound").to_dict() == sound.to_dict()


class TwoNumbers(PreTrainedModel):
    """Two outputs and two labels a text, and a loss of its own."""

    config_class = PretrainedConfig

    def __init__(self, config):
        super().__init__(config)
        self.layer = nn.Linear(3, 2)
        self.post_init()

    def forward(self, x, labels=None, others=None):
        first, second = self.layer(x).unbind(-1)  # (B,) each
        if labels is None:
            return first, second
        return nn.functional.mse_loss(first, labels) + nn.functional.l1_loss(second, others), first, second


@pytest.mark.parametrize("labeled", [True, False])
def test_a_model_with_several_outputs_and_labels(tmp_path, labeled):
    with global_generators(1):
        rows = [{"x": x, "labels": x.sum(), "others": x[0]} for x in torch.randn(12, 3)]
    held_out = rows if labeled else [{"x": row["x"]} for row in rows]
    trainers, predicted = [], []
    for cls in BOTH:
        args = arguments(tmp_path / cls.__name__, label_names=["labels", "others"], eval_strategy="epoch")
        with global_generators(0):
            model = TwoNumbers(PretrainedConfig())
        trainer = cls(model, args, train_dataset=rows, eval_dataset=rows)
        trainer.train()
        trainers.append(trainer)
        predicted.append(trainer.predict(held_out))
    assert_same(*trainers)
    for theirs, ours in zip(predicted[0].predictions, predicted[1].predictions, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    if labeled:
        for theirs, ours in zip(predicted[0].label_ids, predicted[1].label_ids, strict=True):
            np.testing.assert_array_equal(ours, theirs)
