"""A classifier computes a batch in as many forward passes as keep each of them small, and gives what one pass gives."""

import numpy as np
import pytest

from deni.artifact import classifier
from deni.engine.module import PopulationModule
from tests.helpers.tiny import toy_rows

TEXTS = [text for text, _ in toy_rows(7, seed=3)]


@pytest.fixture
def passes(monkeypatch):
    """Texts times members, and T, of each forward pass."""
    seen, forward = [], PopulationModule.forward

    def noting(self, **inputs):
        seen.append(tuple(inputs["input_ids"].shape))
        return forward(self, **inputs)

    monkeypatch.setattr(PopulationModule, "forward", noting)
    return seen


def test_a_pass_of_many_members_has_few_tokens(fitted, passes, monkeypatch):
    several = fitted(strategy="ensemble", members=3).classifier()
    passes.clear()
    whole = several.members(TEXTS)
    assert len(passes) == 1
    (rows, length), (texts, members) = passes.pop(), (len(TEXTS), 3)
    assert rows == texts * members
    monkeypatch.setattr(classifier, "TOKENS", 4 * members * length + 1)
    np.testing.assert_allclose(several.members(TEXTS), whole, atol=1e-6)
    assert [rows for rows, _ in passes] == [min(4, texts - at) * members for at in range(0, texts, 4)]


def test_a_pass_has_at_least_one_text(fitted, passes, monkeypatch):
    one = fitted().classifier()
    whole, vectors = one.members(TEXTS), one.features(TEXTS)
    passes.clear()
    monkeypatch.setattr(classifier, "TOKENS", 1)
    np.testing.assert_allclose(one.members(TEXTS), whole, atol=1e-6)
    assert [rows for rows, _ in passes] == [1] * len(TEXTS)
    np.testing.assert_allclose(one.features(TEXTS), vectors, atol=1e-6)
