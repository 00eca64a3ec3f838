import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast, TrainingArguments

import deni
from deni.randomness import global_generators
from deni.strategies import DENI
from deni.training.trainer import PopulationTrainer


def test_save_model_writes_what_load_reads(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "late", "parcel", "money", "back"]
    plain = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="[PAD]", unk_token="[UNK]")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37}
    with global_generators(0):
        model = BertForSequenceClassification(BertConfig(vocab_size=9, num_labels=2, **sizes))
    texts = ["late parcel", "money back"] * 10
    rows = [{"input_ids": tokenizer(text)["input_ids"], "labels": at % 2} for at, text in enumerate(texts)]
    args = TrainingArguments(str(tmp_path), num_train_epochs=3, report_to=[], disable_tqdm=True, use_cpu=True)
    trainer = PopulationTrainer(model, args, strategy=DENI(members=3), train_dataset=rows, processing_class=tokenizer)
    trainer.train()
    trainer.save_model()
    trainer.save_model()  # an artifact that is there is replaced
    classifier = deni.load(tmp_path / "model")
    expected = trainer.predict_members(rows[:2])
    assert np.allclose(classifier.members(texts[:2]), expected, atol=1e-5)  # in float32
    assert torch.equal(
        classifier.population.values["classifier.weight"], trainer.population.values["classifier.weight"]
    )
    assert classifier.labels == ["LABEL_0", "LABEL_1"]
