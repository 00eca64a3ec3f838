"""What a model feeds into its output layer: with the layer's weights it gives the model's logits."""

from pathlib import Path

import numpy as np
import pytest
from scipy.special import log_softmax

from deni.artifact import load
from deni.artifact.features import features_of

ARTIFACTS = Path(__file__).with_name("format_1")
TEXTS = ["where is my parcel", "invoice money", "reset the password please now now", "ab"]


@pytest.mark.parametrize("name", ["full_deni", "lora_deni", "prompt_delayed_ensemble", "pair", "regression", "token"])
def test_features_times_the_output_layer_are_the_logits_of_the_first_member(name):
    classifier = load(ARTIFACTS / name, "cpu")
    texts = [(text, f"{text} b") for text in TEXTS] if classifier.pairs else TEXTS
    before = classifier.members(texts)
    features = features_of(classifier, texts, batch_size=2)
    values = classifier.population.values
    layer = {each.rpartition(".")[2]: values[each][0].double().numpy() for each in classifier.population.scope("head")}
    logits = features @ layer["weight"].T + layer["bias"]
    np.testing.assert_array_equal(classifier.members(texts), before)
    if classifier.task == "token":  # the mean over words commutes with a linear layer, up to a constant of each word
        one = features_of(classifier, [[word] for word in TEXTS[0].split()])
        of_words = classifier.members([[word] for word in TEXTS[0].split()])[:, 0]
        np.testing.assert_allclose(log_softmax(one @ layer["weight"].T + layer["bias"], -1), of_words, atol=1e-5)
        assert features.shape == (4, one.shape[1])
        return
    expected = before[:, 0]
    found = logits if classifier.task == "regression" else log_softmax(logits, -1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_of_words_the_features_are_their_mean():
    classifier = load(ARTIFACTS / "token", "cpu")
    layer = next(module for module, _ in classifier.population.slots[classifier.population.scope("head")[0]])
    seen = []
    hook = layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    (found,) = features_of(classifier, [["a", "b"]])
    hook.remove()
    np.testing.assert_allclose(found, seen[0][0, 1:3].double().mean(0), atol=1e-6)  # behind [CLS], one token a word
