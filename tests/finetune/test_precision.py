"""Whether a training computes in bfloat16 where its recipe leaves that open."""

import pandas as pd
import pytest
import torch

from deni import DeniClassifier
from deni.auto import as_lines, decide
from deni.data import Texts
from deni.errors import InputError
from deni.finetune import fine_tune, precision
from deni.finetune.precision import multiplies_bfloat16, settle
from deni.recipe import Recipe
from tests.helpers.tiny import toy_rows


@pytest.fixture
def processor(monkeypatch):
    """Make the processor have these instructions, and the environment say nothing."""

    def has(*instructions, said=None):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, **dict.fromkeys(instructions, True)})
        monkeypatch.setattr(precision, "_OF_THE_USER", said)

    return has


def toy_texts(task="single_label"):
    rows = toy_rows(4)
    labels = [label if task == "single_label" else float(len(label)) for _, label in rows]
    return Texts([text for text, _ in rows], labels, "toy", pd.DataFrame(), task)


def settled(texts, **given):
    return settle(decide(Recipe.of(**given), texts), "cpu").bf16


@pytest.mark.parametrize("instruction", ["avx512_bf16", "amx_bf16"])
def test_auto_computes_in_bfloat16_where_the_processor_multiplies_it(processor, instruction, model_folder):
    processor(instruction)
    assert settled(toy_texts(), model=model_folder) is True


def test_what_was_not_compared_is_in_float32(processor, model_folder):
    texts = toy_texts()
    processor()
    assert settled(texts, model=model_folder) is False
    processor("avx512_bf16")
    assert settled(texts, model=model_folder, strategy="default") is False
    assert settled(texts, model=model_folder, preset="paper", learning_rate=1e-3) is False
    for said in ("no", "fp16"):
        processor("avx512_bf16", said=said)
        assert settled(texts, model=model_folder) is False


@pytest.mark.parametrize("given", [False, True])
def test_what_is_given_wins(processor, given, model_folder):
    processor(*[] if given else ["avx512_bf16"])
    assert settled(toy_texts(), model=model_folder, bf16=given) is given


def test_other_tasks_and_devices_are_in_float32(processor, model_folder):
    processor("avx512_bf16")
    assert not multiplies_bfloat16(torch.device("cuda"))
    numbers = toy_texts("regression")
    assert settled(numbers, model=model_folder, task="regression") is False
    with pytest.raises(InputError, match="no device cuda:7"):
        settle(decide(Recipe.of(model=model_folder), toy_texts()), "cuda:7")


def test_the_plan_says_so(processor, model_folder):
    processor("amx_bf16")
    decided = decide(Recipe.of(model=model_folder), toy_texts())
    plan = {line.strip() for line in as_lines(settle(decided).chosen)}
    assert any(line.split() == ["bf16", "True", "[auto]"] for line in plan)
    assert "bf16" not in decided.chosen["settings"]  # of the recipe that was given


def test_fine_tune_trains_in_it_and_says_so(processor, model_folder):
    processor("avx512_bf16")
    result = fine_tune(toy_texts(), Recipe.of(model=model_folder, epochs=1), progress=False, device="cpu")
    assert result.trainer.accelerator.mixed_precision == "bf16"
    assert result.recipe.settings()["bf16"] is True


def test_the_estimator_takes_it(processor, model_folder):
    processor("avx512_bf16")
    texts, epochs = toy_texts(), {"epochs": 1, "model": model_folder}
    fits = (DeniClassifier(bf16=bf16, **epochs).fit(texts.texts, texts.labels).fitted_ for bf16 in (None, False))
    assert [each.trainer.accelerator.mixed_precision for each in fits] == ["bf16", "no"]
