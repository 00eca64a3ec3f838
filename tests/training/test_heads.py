"""Whether a loss is the standard one is decided by the class and by the identity of `loss_function`."""

import pytest
import torch
from peft import AdaLoraConfig, IA3Config, LoraConfig, PrefixTuningConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    BertForSequenceClassification,
    LlamaForSequenceClassification,
)

from deni.training.heads import has_head, is_causal, why_own_loss, without_vote
from tests.helpers.tiny import SMALL, make_tiny


class OwnForward(BertForSequenceClassification):
    def forward(self, **inputs):
        return super().forward(**inputs)


class OwnLayer(BertForSequenceClassification):
    pass


class Unnamed(LlamaForSequenceClassification):  # transformers finds the loss of Llama's by the name of the class
    pass


@pytest.mark.parametrize("task", ["Sequence", "Token"])
@pytest.mark.parametrize("architecture", SMALL)
def test_the_losses_of_transformers_are_standard(architecture, task):
    if (architecture, task) == ("opt", "Token"):
        pytest.skip("transformers has no such class")
    model = make_tiny(architecture, task=task)
    assert (why_own_loss(model), without_vote(model), has_head(model), is_causal(model)) == ("", "", True, False)


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(task_type="SEQ_CLS", target_modules=["query"], r=2),
        IA3Config(task_type="SEQ_CLS", target_modules=["query"], feedforward_modules=[]),
        PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3),
    ],
    ids=["lora", "ia3", "prefix"],
)
def test_an_adapter_leaves_the_loss_as_it_is(config):
    assert why_own_loss(get_peft_model(make_tiny("bert"), config)) == ""


def test_a_loss_that_is_changed_anywhere_is_the_models_own():
    config = make_tiny("bert").config
    assert why_own_loss(OwnForward(config)) == "OwnForward computes its own loss"
    assert why_own_loss(OwnLayer(config)) == ""
    assert "loss_function" in why_own_loss(Unnamed(make_tiny("llama").config))
    replaced = make_tiny("llama")
    replaced.loss_function = lambda **_: torch.zeros(())
    assert "loss_function" in why_own_loss(replaced)
    ignored = make_tiny("bert")  # has the losses in its own code
    ignored.loss_function = lambda **_: torch.zeros(())
    assert why_own_loss(ignored) == ""
    hooked = make_tiny("bert")
    hooked.register_forward_hook(lambda *_: None)
    assert "hook" in why_own_loss(hooked)
    adapted = AdaLoraConfig(task_type="SEQ_CLS", target_modules=["query"], total_step=10)
    assert why_own_loss(get_peft_model(make_tiny("bert"), adapted)) == "AdaLoraModel adds to the loss"


@pytest.mark.parametrize("auto", [AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForQuestionAnswering])
@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama"])
def test_language_models_have_their_own_loss_and_no_vote(auto, architecture):
    config = make_tiny(architecture).config
    if type(config) not in auto._model_mapping:
        pytest.skip("transformers has no such class")
    model = auto.from_config(config)
    name = type(model).__name__
    assert (without_vote(model), is_causal(model)) == (name, auto is AutoModelForCausalLM)
    assert why_own_loss(model) == f"{name} computes its own loss"


def test_a_class_of_the_users_own_has_no_head_that_is_known():
    model = torch.nn.Linear(2, 2)
    assert (has_head(model), without_vote(model)) == (False, "")
    assert why_own_loss(model) == "Linear computes its own loss"
