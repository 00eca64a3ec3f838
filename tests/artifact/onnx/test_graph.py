"""What the graph computes, in PyTorch: that of the artifact, however the members are in it."""

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from deni.artifact.classifier import Classifier
from deni.artifact.onnx.graph import VoteGraph
from deni.artifact.onnx.writing import source_of
from deni.engine.layers import Unstackable
from deni.tasks import TASKS
from tests.helpers.graphs import TEXTS, population_of
from tests.helpers.tiny import make_tiny


def classifier_of(population, model_folder, task="single_label", labels=3, combine="soft", engine="stacked"):
    info = {
        "vote": {"combine": combine},
        "engine": engine,
        "task": task,
        "max_length": 12,
        "padding": "longest",
        "text_pair_column": None,
    }
    names = [f"label {at}" for at in range(labels)]
    return Classifier(population, AutoTokenizer.from_pretrained(model_folder), names, info)


@torch.no_grad()
def computed(classifier, form, mean=None, temperature=None):
    source, inputs = source_of(classifier, mean), classifier.inputs_of(TEXTS)
    graph = VoteGraph(
        source.model, source.values, inputs, form, TASKS[classifier.task], classifier.combine, temperature
    )
    votes, members = graph.eval()(*inputs.values())
    return votes.numpy(), members.numpy()


@pytest.mark.parametrize("form", ["stacked", "unrolled"])
@pytest.mark.parametrize("tuning", ["lora", "full", "ia3"])
def test_a_graph_has_the_outputs_of_each_member(form, tuning, model_folder):
    classifier = classifier_of(population_of(tuning), model_folder)
    expected = classifier.members(TEXTS)
    assert np.ptp(expected, axis=1).max() > 1e-2  # members differ
    votes, members = computed(classifier, form)
    np.testing.assert_allclose(members, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(votes, np.log(np.exp(expected).mean(1)), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("task", "labels"), [("multi_label", 3), ("regression", 1), ("ordinal", 3)])
@pytest.mark.parametrize("combine", ["soft", "hard", "parent"])
def test_members_vote_as_in_the_artifact(task, labels, combine, model_folder):
    classifier = classifier_of(population_of(labels=labels), model_folder, task, labels, combine)
    votes, _ = computed(classifier, "stacked")
    np.testing.assert_allclose(votes, classifier.votes(TEXTS), rtol=0, atol=1e-5)


def test_the_temperature_is_in_the_vote_and_not_in_its_members(model_folder):
    classifier = classifier_of(population_of(), model_folder)
    plain, members = computed(classifier, "stacked")
    tempered, same = computed(classifier, "stacked", temperature=2.0)
    np.testing.assert_array_equal(same, members)
    np.testing.assert_allclose(tempered, torch.from_numpy(plain / 2).log_softmax(-1), rtol=0, atol=1e-6)


def test_a_single_adapter_is_merged_into_the_model(model_folder):
    classifier = classifier_of(population_of(members=1), model_folder)
    source = source_of(classifier, None)
    assert source.forms == ("one",)
    assert not any("lora" in name for name, _ in source.model.named_parameters())
    _, members = computed(classifier, "one")
    np.testing.assert_allclose(members, classifier.members(TEXTS), rtol=0, atol=1e-5)


def test_an_encoder_that_all_members_share_is_computed_once(model_folder):
    shared = population_of("full", frozen="bert")
    assert all(name.startswith("classifier") for name in shared.values)
    classifier = classifier_of(shared, model_folder)
    assert source_of(classifier, None).forms == ("unrolled",)
    _, members = computed(classifier, "unrolled")
    np.testing.assert_allclose(members, classifier.members(TEXTS), rtol=0, atol=1e-5)


def test_a_model_that_cannot_be_stacked_is_not(model_folder):
    population = population_of("full", model=make_tiny("deberta", dtype=torch.float32))
    with pytest.raises(Unstackable, match="has its own parameters around trainable layers"):
        computed(classifier_of(population, model_folder), "stacked")
