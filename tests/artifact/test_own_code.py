"""A model's own code is told from that of its library by classes and functions."""

import pytest
from torch import nn
from transformers import BertForSequenceClassification

from deni.artifact.own_code import own_code
from tests.helpers.tiny import make_tiny


class Renamed(BertForSequenceClassification):
    """Nothing but another name, a method of its own, and another loss."""

    loss_function = staticmethod(nn.functional.cross_entropy)

    def count(self):
        return 0


class OtherForward(BertForSequenceClassification):
    def forward(self, *args, **options):
        return super().forward(*args, **options)


class OtherLayer(nn.Linear):
    def forward(self, inputs):
        return super().forward(inputs)


def with_class(cls):
    model = make_tiny("bert")
    model.__class__ = cls
    return model


def with_layer():
    model = make_tiny("bert")
    model.classifier.__class__ = OtherLayer
    return model


def hooked(name):
    model = make_tiny("bert")
    getattr(model.classifier, name)(lambda *_: None)
    return model


def patched():
    model = make_tiny("bert")
    forward = model.bert.forward
    model.bert.forward = lambda *args, **options: forward(*args, **options)
    return model


@pytest.mark.parametrize("model", [lambda: make_tiny("bert"), lambda: with_class(Renamed)])
def test_the_same_code_under_another_name_is_the_same(model):
    assert own_code(model(), make_tiny("bert")) == ""


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (lambda: with_class(OtherForward), "OtherForward has its own forward"),
        (with_layer, "OtherLayer has its own forward"),
        (lambda: hooked("register_forward_hook"), "a function is hooked to Linear"),
        (lambda: hooked("register_forward_pre_hook"), "a function is hooked to Linear"),
        (patched, "a function is hooked to BertModel"),
    ],
)
def test_other_code_is_named(model, why):
    assert own_code(model(), make_tiny("bert")) == why
