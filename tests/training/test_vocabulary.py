"""Which embedding rows a training trains, and what it may go on with."""

import pytest

from deni.errors import SettingError
from tests.helpers.trainers import make, seeded

PLAIN = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
SHORT = {"num_train_epochs": 1, "logging_strategy": "no"}


def model():
    return seeded(**PLAIN)


def test_active_rows_are_those_of_the_texts_at_train(tmp_path):
    trainer = make(tmp_path, model=model(), args=SHORT, train=[{"input_ids": [3, 4, 5], "labels": 1}] * 8)
    assert trainer.active_ids.tolist() == [3, 4, 5]
    trainer.train_dataset = [{"input_ids": [3, 9], "labels": 1}] * 8
    trainer.train()
    assert trainer.active_ids.tolist() == [3, 9]
    before = model().bert.embeddings.word_embeddings.weight
    moved = (trainer.population.member(0)["bert.embeddings.word_embeddings.weight"] != before).any(1)
    assert moved.nonzero().flatten().tolist() == [3, 9]


def test_a_trained_population_does_not_go_on_with_tokens_that_it_froze(tmp_path):
    trainer = make(tmp_path, model=model(), args=SHORT, train=[{"input_ids": [3, 4, 5], "labels": 1}] * 8)
    trainer.train()
    trainer.train_dataset = [{"input_ids": [3, 5], "labels": 1}] * 8
    trainer.train()
    trainer.train_dataset = [{"input_ids": [3, 9], "labels": 1}] * 8
    with pytest.raises(SettingError, match="on texts without some of these tokens"):
        trainer.train()
