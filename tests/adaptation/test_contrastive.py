"""SimCSE against the formula of its paper and against sentence-transformers."""

import importlib.util

import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch.nn import functional as F

from deni.adaptation.contrastive import SimCSE, ranking_loss
from deni.errors import InputError, SettingError
from deni.models.loading import load_encoder, load_tokenizer
from deni.models.pooling import Pooling


@pytest.fixture
def objective(sentence_folder):
    return SimCSE(load_tokenizer(sentence_folder), Pooling("mean"))


@pytest.fixture
def encoder(sentence_folder):
    return load_encoder(sentence_folder)[0]


def test_the_loss_is_that_of_the_paper(objective, encoder, texts):
    batch = objective.collate(objective.rows(texts[:6], 20), 0)
    torch.manual_seed(4)
    vectors = objective.vectors(encoder.train(), batch)
    one, other = F.normalize(vectors[:6], dim=1), F.normalize(vectors[6:], dim=1)
    expected = F.cross_entropy(one @ other.T / 0.05, torch.arange(6))
    torch.manual_seed(4)
    assert objective.loss(encoder, batch).item() == pytest.approx(expected.item(), abs=1e-5)
    assert (one - other).abs().max() > 1e-3  # each with its own dropout


def test_without_dropout_it_equals_sentence_transformers_on_its_own_model(objective, encoder, sentence_folder, texts):
    theirs = SentenceTransformer(sentence_folder, device="cpu").eval()
    features = theirs.tokenizer(texts[:6], padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = ranking_loss()(theirs)([{**features}, {**features}], torch.arange(6))
        found = objective.loss(encoder.eval(), objective.collate(objective.rows(texts[:6], 20), 0))
    assert found.item() == pytest.approx(expected.item(), abs=1e-5)


def test_an_encoder_without_dropout_is_refused(objective, encoder, texts):
    row = objective.rows(texts[:1], 20)[0]
    objective.check_dropout(encoder, row, "tiny")
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "dropout_prob"):
            module.dropout_prob = 0.0
    with pytest.raises(SettingError, match="model 'tiny' has no dropout"):
        objective.check_dropout(encoder, row, "tiny")


def test_a_missing_package_is_one_line(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'needs the package sentence-transformers: pip install "deni\[adapt\]"'):
        ranking_loss()
