"""A module that is none of transformers is saved with the word that loading needs the function that makes it."""

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from deni.artifact import how_to_read, load, save
from deni.artifact.skeleton import Misfit, fill
from deni.errors import ArtifactError
from deni.population import Population
from deni.randomness import Sources, global_generators

WORDS = ["pad", "unk", "late", "parcel", "money", "back"]
INFO = {
    "vote": {"combine": "soft"},
    "engine": "loop",
    "task": "single_label",
    "max_length": None,
    "padding": "longest",
    "text_pair_column": None,
}


class Bag(nn.Module):
    """The mean of the words' vectors, and a layer on top; returns a tuple."""

    def __init__(self):
        super().__init__()
        self.words, self.out = nn.Embedding(6, 4), nn.Linear(4, 3)
        self.register_buffer("scale", torch.ones(3), persistent=False)

    def forward(self, input_ids, attention_mask):
        mask = attention_mask.unsqueeze(-1).to(self.words.weight)
        mean = (self.words(input_ids) * mask).sum(1) / mask.sum(1)
        return (self.out(mean) * self.scale,)


def small():
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    return BertForSequenceClassification(BertConfig(vocab_size=6, num_labels=3, initializer_range=0.5, **sizes))


@pytest.fixture
def tokenizer():
    plain = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="unk"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="pad", unk_token="unk")


def population_of(make_model):
    with global_generators(0):
        model = make_model()
    return Population(model, [Sources(0)], "loop")


def test_a_plain_module_is_loaded_with_the_function_that_makes_it(tmp_path, tokenizer):
    population, labels = population_of(Bag), ["a", "b", "c"]
    save(tmp_path / "model", population=population, tokenizer=tokenizer, labels=labels, info=INFO)
    with pytest.raises(ArtifactError, match=r"Bag has no config .*deni\.load\(folder, model_init=\.\.\.\)"):
        load(tmp_path / "model")
    weights = population.member(0)
    found = load(tmp_path / "model", "cpu", model_init=Bag).members(["late parcel", "money"])[:, 0]
    means = torch.stack([weights["words.weight"][[2, 3]].mean(0), weights["words.weight"][4]])
    expected = (means @ weights["out.weight"].T + weights["out.bias"]).log_softmax(-1)
    assert np.allclose(found, expected.numpy(), atol=1e-6)


def test_what_the_config_describes_needs_nothing(tokenizer):
    reading = how_to_read(population_of(small), tokenizer)
    assert (reading.needs, reading.dtype, reading.buffers, reading.outputs) == ("", None, (), 3)


def test_settings_that_are_no_part_of_the_config_are_found_by_their_predictions(tokenizer):
    population = population_of(small)
    population.model.bert.encoder.layer[0].attention.output.LayerNorm.eps = 0.5
    assert "predicts otherwise" in how_to_read(population, tokenizer).needs


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_model_that_diverged_is_what_its_config_describes(tokenizer, bad):
    population = population_of(small)
    population.values["classifier.bias"][0, 0] = bad
    assert how_to_read(population, tokenizer).needs == ""


def test_a_buffer_that_the_config_does_not_describe_is_named(tokenizer):
    population = population_of(small)
    population.model.register_buffer("own", torch.ones(1), persistent=False)
    assert how_to_read(population, tokenizer).needs.endswith("own")


def test_trying_leaves_model_generators_and_tokenizer_as_they_were(tokenizer):
    tokenizer("late", truncation=True, max_length=9)
    population = population_of(small)
    before = {name: value.clone() for name, value in population.model.state_dict().items()}
    modes = [module.training for module in population.model.modules()]
    state = torch.get_rng_state()
    how_to_read(population, tokenizer)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in population.model.state_dict().items())
    assert [module.training for module in population.model.modules()] == modes
    assert tokenizer.backend_tokenizer.truncation["max_length"] == 9
    assert nn.Linear(2, 2).weight.device.type == "cpu"  # new layers have values again


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda tensors: tensors.pop("out.bias"), "out.bias is missing"),
        (lambda tensors: tensors.update({"out.bias": torch.ones(2)}), "out.bias is (2,), not (3,)"),
        (lambda tensors: tensors.update(more=torch.ones(2)), "it has no more"),
        (lambda tensors: tensors.update(scale=torch.ones(1)), "scale is (1,), not (3,)"),
    ],
)
def test_tensors_of_another_model_are_refused(change, what):
    tensors = dict(Bag().state_dict())
    change(tensors)
    with pytest.raises(Misfit) as caught:
        fill(Bag(), tensors, ())
    assert str(caught.value) == what


@pytest.mark.parametrize(
    ("alias", "what"),
    [
        (torch.ones(0, 4), "b.weight is (0, 4), not (3, 4)"),
        (torch.ones(3, 4, dtype=torch.int64), "b.weight is torch.int64, not torch.float32"),
        (torch.zeros(3, 4), "b.weight is not equal to a.weight, with which it is tied"),
    ],
)
def test_the_second_name_of_a_tied_parameter_is_checked_too(alias, what):
    model = nn.ModuleDict({"a": nn.Embedding(3, 4), "b": nn.Linear(4, 3, bias=False)})
    model["b"].weight = model["a"].weight
    fill(model, {"a.weight": torch.ones(3, 4), "b.weight": torch.ones(3, 4)}, ())
    assert model["b"].weight is model["a"].weight
    with pytest.raises(Misfit) as caught:
        fill(model, {"a.weight": torch.ones(3, 4), "b.weight": alias}, ())
    assert str(caught.value) == what
