"""What a trained model feeds into its output layer: one vector for each text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deni.artifact.classifier import Classifier, words_of
from deni.data import Text
from deni.engine.module import in_mode
from deni.errors import SettingError
from deni.models.feature_cache import passes_its_input
from deni.models.hugging_face import logits_of
from deni.progress import ProgressBar


@torch.no_grad()
def features_of(classifier: Classifier, texts: Sequence[Text], batch_size: int = 32) -> np.ndarray:
    """The vectors of texts, by the first member, `(N, D)`, float64; of words the mean over a text's words.

    Raises:
        SettingError: a model without an output layer that is one trained layer.
    """
    population, of_words = classifier.population, classifier._task.of_words
    names = population.scope("head")
    if not names:
        raise SettingError("the model has no output layer of its own, so its texts have no features")
    layer = population.slots[names[0]][0][0]
    given: list[Any] = [words_of(text) for text in texts] if of_words else list(texts)
    order = sorted(range(len(given)), key=lambda at: sum(map(len, given[at])))
    vectors: list[np.ndarray] = []
    hook = layer.register_forward_hook(passes_its_input)
    try:
        with (
            population.alone(0) as model,
            in_mode(population.module, training=False),
            ProgressBar("features", len(order), shown=classifier.progress) as bar,
        ):
            device = next(model.parameters()).device
            for start in range(0, len(order), batch_size):
                some = [given[at] for at in order[start : start + batch_size]]
                batch = classifier._tokenized(some)
                lengths = [len(words) for words in some]
                if of_words:
                    rows, places = classifier._first_tokens(batch, np.cumsum([0, *lengths[:-1]]).tolist())
                accepted = classifier._accepted
                moved = batch.to(device)
                inputs = {name: value for name, value in moved.items() if accepted is None or name in accepted}
                states = logits_of(model(**inputs)).double().cpu()  # (B, D), or (B, T, D) of words
                if of_words:
                    states = _mean_of_words(
                        states.flatten(0, 1)[places], np.repeat(range(len(some)), lengths)[rows], len(some)
                    )
                vectors.append(states.numpy())
                bar.advance(len(some))
    finally:
        hook.remove()
    return np.concatenate(vectors)[np.argsort(order, kind="stable")]


def _mean_of_words(states: Tensor, texts: np.ndarray, count: int) -> Tensor:
    """The mean over the words of each text, `(N, D)`; zeros for a text whose words have no token.

    Args:
        states: of words, `(W, D)`.
        texts: whose they are, `(W,)`.
        count: N.
    """
    owners = torch.from_numpy(texts)
    total = states.new_zeros(count, states.shape[-1]).index_add_(0, owners, states)
    return total / torch.bincount(owners, minlength=count).clamp(min=1)[:, None]
