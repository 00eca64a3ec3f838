"""What holds for every tuning, and what each computes."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from peft import AdaLoraConfig, LoraConfig, PeftModel, get_peft_model
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from deni.artifact import export, load
from deni.errors import InputError, SettingError
from deni.randomness import global_generators
from deni.tuning import IA3, TUNINGS, Lora, Prompt, make_tuning, tuning_of
from deni.tuning.lora import mean_of_products
from tests.helpers.tiny import ARCHITECTURES, make_batch, make_tiny

SETTINGS = {"lora": {"lora_r": 4, "lora_alpha": 4}, "prompt": {"prompt_tokens": 3}}
TEXTS = ["invoice money charged", "parcel late courier the box", "password reset", "why"]


def tuned(tuning, architecture="bert"):
    with global_generators(5):
        return tuning.apply(make_tiny(architecture)).to(torch.float64).eval()


def inputs(**options):
    batch = make_batch(**options)
    batch.pop("labels")
    return batch


@pytest.mark.parametrize("name", TUNINGS)
def test_settings_survive_json_and_have_a_text(name):
    tuning = make_tuning(name, **SETTINGS.get(name, {}))
    assert make_tuning(name, **json.loads(json.dumps(tuning.settings()))) == tuning
    for field in dataclasses.fields(tuning):
        assert f"{field.name}: " in type(tuning).__doc__
    assert tuning.learning_rate > 0


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_ia3_starts_as_the_model_itself_and_scales_keys_values_and_feed_forward(architecture):
    model, plain = tuned(IA3(), architecture), make_tiny(architecture).eval()
    batch = inputs()
    factors = {name: value for name, value in model.named_parameters() if "ia3_l" in name}
    assert all(bool((value == 1).all()) for value in factors.values())
    others = {name for name, value in model.named_parameters() if value.requires_grad} - set(factors)
    assert others
    assert all("modules_to_save" in name for name in others)
    with torch.no_grad():
        assert torch.allclose(model(**batch).logits, plain(**batch).logits, atol=1e-12)


@pytest.mark.parametrize(
    ("architecture", "lora", "ia3"),
    [
        ("granite", {"q_proj", "v_proj"}, {"k_proj", "v_proj", "down_proj"}),
        ("phi3", {"qkv_proj"}, {"qkv_proj", "down_proj"}),
        ("mbart", {"q_proj", "v_proj"}, {"k_proj", "v_proj", "fc2"}),
        ("starcoder2", {"q_proj", "k_proj", "v_proj", "o_proj", "c_fc", "c_proj"}, None),
    ],
)
def test_language_models_that_peft_does_not_know_are_adapted(architecture, lora, ia3):
    """In a model that nobody knows LoRA adapts all linear layers but the output layer, and IA3 is refused."""
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 24}
    config = CONFIG_MAPPING[architecture](vocab_size=30, num_hidden_layers=1, d_model=16, pad_token_id=0, **sizes)
    auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM

    def adapted(tuning, mark):
        found = dict(make_tuning(tuning).apply(auto.from_config(config)).named_modules())
        return {name.removesuffix(mark).rpartition(".")[2] for name in found if name.endswith(mark)}

    assert adapted("lora", ".lora_A") == lora
    if ia3 is None:
        with pytest.raises(SettingError, match="ia3 does not know which layers of starcoder2 to scale: use lora"):
            adapted("ia3", ".ia3_l")
    else:
        assert adapted("ia3", ".ia3_l") == ia3


def test_ia3_computes_what_its_formula_says():
    model, plain = tuned(IA3()), make_tiny("bert").eval()
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, factor in model.named_parameters():
            if "ia3_l" not in name:
                continue
            factor.copy_(1 + 0.3 * torch.randn(factor.shape, generator=draw, dtype=factor.dtype))
            layer = plain.get_submodule(name.removeprefix("base_model.model.").removesuffix(".ia3_l.default"))
            vector = factor.flatten()
            if name.endswith("output.dense.ia3_l.default"):
                layer.weight.mul_(vector)  # scaled at the input
            else:
                layer.weight.mul_(vector[:, None])
                layer.bias.mul_(vector)
        assert torch.allclose(model(**inputs()).logits, plain(**inputs()).logits, atol=1e-12)


def test_a_prompt_is_put_in_front_of_each_text():
    model, plain = tuned(Prompt(prompt_tokens=3)), make_tiny("bert").eval()
    batch = inputs()
    prompt = model.prompt_encoder["default"].embedding.weight
    assert prompt.shape == (3, 32)
    assert {
        name for name, value in model.named_parameters() if value.requires_grad and "modules_to_save" not in name
    } == {"prompt_encoder.default.embedding.weight"}
    with torch.no_grad():
        words = plain.get_input_embeddings()(batch["input_ids"])
        rows = len(words)
        embeds = torch.cat([prompt.expand(rows, 3, 32), words], 1)
        mask = torch.cat([torch.ones(rows, 3, dtype=torch.long), batch["attention_mask"]], 1)
        wanted = plain(inputs_embeds=embeds, attention_mask=mask).logits
        assert torch.allclose(model(**batch).logits, wanted, atol=1e-12)


def test_a_prompt_of_each_member_is_repeated_for_its_own_rows():
    from deni.engine.fold import FoldError
    from deni.engine.layers import Prompts

    prompts = torch.arange(6.0).view(2, 3, 1).as_subclass(Prompts)
    assert prompts.repeat(4, 1, 1)[:, 0, 0].tolist() == [0, 0, 3, 3]
    for sizes in ((5, 1, 1), (4, 2, 1), (4,)):
        with pytest.raises(FoldError, match="virtual tokens of 2 members"):
            prompts.repeat(*sizes)


@pytest.mark.parametrize("name", ["lora", "ia3", "prompt"])
def test_an_adapter_is_exported_for_peft(fitted, model_folder, tmp_path, name):
    artifact = fitted("deni", name, members=3, epochs=5).save(tmp_path / "model")
    folders = export(artifact, tmp_path / "out", "members", adapter=True)
    members = load(artifact, "cpu").members(TEXTS)
    for member, folder in enumerate(folders):
        base = AutoModelForSequenceClassification.from_pretrained(model_folder, num_labels=3)
        model = PeftModel.from_pretrained(base, folder).eval()
        tokens = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
        with torch.no_grad():
            alone = model(**tokens).logits.log_softmax(-1).numpy()
        assert np.allclose(alone, members[:, member], atol=1e-5)


def test_a_prompt_cannot_be_merged_into_the_model(fitted, tmp_path):
    artifact = fitted("default", "prompt").save(tmp_path / "model")
    with pytest.raises(InputError, match="has a prompt, which cannot be merged into the model: add --adapter"):
        export(artifact, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_virtual_tokens_count_towards_the_models_limit(model_folder, tickets):
    from deni.data import read_texts
    from deni.finetune import fine_tune
    from deni.recipe import Recipe

    plan = Recipe.of(None, "default", Prompt(prompt_tokens=30), model=model_folder, epochs=1, max_length=11)
    with pytest.raises(InputError, match="max_length 11 is over the model's limit of 10 tokens"):
        fine_tune(read_texts(tickets), plan, progress=False)


@pytest.mark.parametrize(
    ("tuning", "message"),
    [
        (lambda: Prompt(prompt_tokens=0), "prompt_tokens must be at least 1, not 0"),
        (lambda: Lora(lora_r=0), "lora_r must be at least 1, not 0"),
        (lambda: make_tuning("magic"), "unknown tuning 'magic': choose from full, lora, ia3, unipelt, prompt"),
    ],
)
def test_bad_settings_are_refused(tuning, message):
    with pytest.raises(ValueError, match=message):
        tuning()


@pytest.mark.parametrize(("tuning", "name"), [(Lora(lora_r=2), "lora"), (IA3(), "ia3"), (Prompt(), "prompt")])
def test_a_model_that_the_user_made_is_named_by_what_trains(tuning, name):
    assert tuning_of(tuned(tuning)) == name
    assert tuning_of(make_tiny("bert")) == "full"


# ---- the mean of LoRA's products -------------------------------------------------------------------------------------

PRODUCTS = {
    "linear": (LoraConfig(task_type="SEQ_CLS", target_modules=["query"], r=4), "lora"),
    "embedding": (LoraConfig(task_type="SEQ_CLS", target_modules=["word_embeddings"], r=4), "lora_embedding"),
    "adalora": (
        AdaLoraConfig(task_type="SEQ_CLS", target_modules=["query"], init_r=4, target_r=2, total_step=10),
        "lora",
    ),
}


@pytest.mark.parametrize("kind", PRODUCTS)
def test_the_mean_of_products_is_the_best_approximation_of_its_rank(kind):
    """Eckart and Young: what the best one of rank 4 misses is the norm of the singular values after the fourth."""
    config, mark = PRODUCTS[kind]
    with global_generators(3):
        model = get_peft_model(make_tiny("bert"), config)
        names = [name for name, p in model.named_parameters() if p.requires_grad and "lora_" in name]
        shapes = dict(model.named_parameters())
        values = {name: torch.randn(5, *shapes[name].shape, dtype=torch.float64) for name in names}
    a = next(name for name in names if "_A." in name)

    def product(of):
        between = of.get(a.replace("_A.", "_E."))
        return of[a.replace(f"{mark}_A", f"{mark}_B")] @ (of[a] if between is None else of[a] * between)

    want = torch.stack([product({name: value[k] for name, value in values.items()}) for k in range(5)]).mean(0)
    best = torch.linalg.svdvals(want)[4:].norm()
    merged = mean_of_products(values)
    assert float((product(merged) - want).norm()) == pytest.approx(float(best), rel=1e-9)
    one_by_one = {name: value.mean(0) for name, value in values.items()}
    assert float((product(one_by_one) - want).norm()) > 1.1 * float(best)
    assert all(
        torch.equal(value, values[name][0])
        for name, value in mean_of_products(
            {name: value[:1].repeat(3, *[1] * (value.dim() - 1)) for name, value in values.items()}
        ).items()
    )


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_the_mean_of_products_of_a_member_that_diverged_is_not_finite(bad):
    names = ("query.lora_A.default.weight", "query.lora_B.default.weight")
    values = {name: torch.randn(3, *shape) for name, shape in zip(names, [(2, 6), (5, 2)], strict=True)}
    values[names[0]][1, 0, 0] = bad
    assert not bool(mean_of_products(values)[names[0]].isfinite().all())


def test_a_factor_whose_partner_is_frozen_is_averaged_by_itself():
    values = {"query.lora_A.default.weight": torch.randn(3, 4, 6, dtype=torch.float64)}
    merged = mean_of_products(values)["query.lora_A.default.weight"]
    assert torch.allclose(merged, values["query.lora_A.default.weight"].mean(0), rtol=0, atol=1e-15)
