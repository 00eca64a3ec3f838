"""What folding would compute wrongly is caught before the first step."""

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from deni.engine.probe import why_not_stacked

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37}


class MixesRows(nn.Module):
    def forward(self, h):
        return h - h.mean(0, keepdim=True)


class RelativePositions(nn.Module):
    """A trainable layer on positions: its input is (T, 1), whatever the batch."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Linear(1, 32)

    def forward(self, h):
        positions = torch.arange(h.shape[1], dtype=h.dtype).unsqueeze(-1)
        return h + self.bias(positions)


class BareParameter(nn.Module):
    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(32))
        self.linear = nn.Linear(32, 32)

    def forward(self, h):
        return self.linear(h) + self.shift


class Counts(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, h):
        self.calls += 1
        return h


class RMSNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(32))

    def forward(self, h):
        return self.weight * h * (h.square().mean(-1, keepdim=True) + 1e-6).rsqrt()


def with_layer(layer):
    """A BERT with one more layer behind its embeddings."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BertForSequenceClassification(BertConfig(vocab_size=60, num_labels=3, **SIZES))
        model.bert.embeddings.dropout = nn.Sequential(layer, model.bert.embeddings.dropout)
    return model.double()


def probe(model):
    draw = torch.Generator().manual_seed(1)
    return why_not_stacked(model, {"input_ids": torch.randint(1, 60, (4, 9), generator=draw)})


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (MixesRows(), "differ from the loop's"),
        (RelativePositions(), "does not work row by row"),
        (BareParameter(), "its own parameters around trainable layers"),
        (nn.BatchNorm1d(32), ""),
        (Counts(), "a buffer of the model changes"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_layer_that_does_not_fold_is_caught_and_the_model_stays_as_it_was(layer, reason):
    model = with_layer(layer)
    if isinstance(layer, nn.BatchNorm1d):  # on the pooled output, `(B, D)`
        model = with_layer(nn.Identity())
        model.dropout = nn.Sequential(layer.double(), model.dropout)
    model.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rng = torch.get_rng_state()
    why = probe(model)
    assert why
    assert reason in why
    assert "\n" not in why
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module.training for module in model.modules())
    assert torch.equal(rng, torch.get_rng_state())


@pytest.mark.parametrize("layer", [nn.Identity(), RMSNorm(), nn.LayerNorm(32), nn.Linear(32, 32, bias=False)])
def test_a_layer_that_folds_is_stacked(layer):
    assert probe(with_layer(layer)) == ""


def test_forward_hooks_are_caught():
    model = with_layer(nn.Identity())
    model.classifier.register_forward_hook(lambda module, inputs, output: output)
    assert probe(model) == "classifier has forward hooks"
