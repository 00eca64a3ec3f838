"""What folding would compute wrongly is caught before the first step."""

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from deni.engine.precision import unrounded
from deni.engine.probe import why_not_stacked
from tests.helpers.tiny import make_batch, make_tiny

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


# ---- a fault of two per cent, in every type -------------------------------------------------------------------------

TYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
PLACES = (
    "bert.embeddings.dropout",
    "bert.encoder.layer.0.output.dropout",
    "bert.encoder.layer.1.intermediate.dense",
    "bert.pooler.activation",
    "dropout",
    "classifier",
)


class Mixes(nn.Module):
    """Adds 2 % of the mean of all rows; of their gradients only, where the values stay."""

    def __init__(self, values=True):
        super().__init__()
        self.values = values

    def forward(self, h):
        mean = 0.02 * h.mean(0, keepdim=True)
        return h + (mean if self.values else mean - mean.detach())


class HalfOnly(nn.Module):
    """As a kernel for half precision only; may be as noisy as its type, and mix rows."""

    def __init__(self, noise=0.0, mixes=0.0):
        super().__init__()
        self.noise, self.mixes = noise, mixes

    def forward(self, h):
        if h.dtype == torch.float32:
            raise RuntimeError("no kernel for Float")
        # Rounding that depends on how many rows there are, as that of a matrix product does.
        h = h * (1 + self.noise * len(h) / 32)
        return h + self.mixes * h.mean(0, keepdim=True)


def planted(place, fault, dtype):
    model = with_layer(nn.Identity())
    parent, _, key = place.rpartition(".")
    owner = model.get_submodule(parent)
    setattr(owner, key, nn.Sequential(getattr(owner, key), fault))
    return model.to(dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("place", PLACES)
def test_a_layer_that_mixes_rows_by_two_per_cent_is_caught(place, dtype):
    assert "differ from the loop's" in probe(planted(place, Mixes(), dtype))


@pytest.mark.parametrize("dtype", TYPES)
def test_so_is_one_that_mixes_gradients_only(dtype):
    why = probe(planted("bert.pooler.activation", Mixes(values=False), dtype))
    assert why.startswith("stacked gradients of ")


@pytest.mark.parametrize("dtype", TYPES)
def test_a_model_without_a_fault_is_stacked_and_stays_as_it_was(dtype):
    model = planted("dropout", nn.Identity(), dtype)
    model.register_buffer("scale", torch.ones(2, dtype=dtype))
    before = {name: (value.data_ptr(), value.clone()) for name, value in model.state_dict().items()}
    assert probe(model) == ""
    for name, value in model.state_dict().items():
        assert value.data_ptr() == before[name][0]
        assert value.dtype == dtype
        assert torch.equal(value, before[name][1])


@pytest.mark.parametrize(
    ("layer", "stacks"),
    [(HalfOnly(), True), (HalfOnly(noise=0.05), False), (HalfOnly(mixes=0.02), False), (HalfOnly(mixes=0.5), False)],
    ids=["exact", "noisy", "mixes", "mixes much"],
)
def test_a_model_for_half_precision_only_is_stacked_where_a_planted_fault_would_stand_out(layer, stacks):
    """The engines are equal to the bit in the first; in the others what differs is no smaller than a fault."""
    model = planted("bert.pooler.activation", layer, torch.bfloat16)
    model.requires_grad_(False)
    model.classifier.requires_grad_(True)
    assert (probe(model) == "") is stacks


def test_precision_that_the_process_allows_is_given_back():
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with unrounded():
            assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_forward_hooks_are_caught():
    model = with_layer(nn.Identity())
    model.classifier.register_forward_hook(lambda module, inputs, output: output)
    assert probe(model) == "classifier has forward hooks"


# ---- texts as long as the model has positions ------------------------------------------------------------------------


@pytest.mark.parametrize(("architecture", "tokens"), [("bert", 40), ("roberta", 38), ("distilbert", 40), ("gpt2", 40)])
@pytest.mark.parametrize("side", ["right", "left"])
def test_texts_that_fill_all_positions_of_the_model_are_stacked(architecture, tokens, side):
    batch = make_batch(tokens=tokens, side=side)
    del batch["labels"]
    assert why_not_stacked(make_tiny(architecture), batch, {"input_ids": 1}) == ""


def test_and_a_fault_is_caught_there():
    model = make_tiny("bert")
    model.bert.embeddings.dropout = nn.Sequential(MixesRows(), model.bert.embeddings.dropout)
    batch = make_batch(tokens=40)
    del batch["labels"]
    assert "differ from the loop's" in why_not_stacked(model, batch)
