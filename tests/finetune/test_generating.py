"""Language models are fine-tuned, measured, saved, loaded and exported; what makes no sense for them is refused."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

import deni
from deni.artifact import export
from deni.artifact.generator import GeneratesError
from deni.cli import main
from deni.data import Texts, read_data
from deni.errors import InputError, SettingError
from deni.finetune import fine_tune
from deni.recipe import Recipe
from deni.strategies import Default, DelayedEnsemble, Ensemble, make_strategy
from deni.tuning import Full, Lora, make_tuning
from tests.helpers.generators import save_generator

SUMS = [(f"{a}+{b}=", str(a + b)) for a in range(4) for b in range(4)]


def texts(rows=SUMS):
    prompts, answers = zip(*rows, strict=True)
    return Texts(list(prompts), list(answers), "qa.jsonl", None, "generation")


def recipe(model, strategy=None, tuning=None, **options):
    return Recipe(
        model=model,
        task="generation",
        strategy=strategy or DelayedEnsemble(members=2, variance=0.1),
        tuning=tuning or Lora(lora_r=4),
        **{"epochs": 2, **options},
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_generator(tmp_path_factory.mktemp("llama"), "llama")


@pytest.fixture(scope="module")
def trained(model):
    return fine_tune(texts(), recipe(model), progress=False)


def test_perplexity_is_that_of_the_mean_of_the_members_probabilities(trained):
    tokenizer, likely = trained.tokenizer, []
    for prompt, answer in SUMS[:5]:
        start = tokenizer(prompt)["input_ids"]
        ids = torch.tensor([[*start, *tokenizer(answer)["input_ids"], tokenizer.eos_token_id]])
        with torch.no_grad():
            each = torch.stack([member(ids).logits[0].double().softmax(-1) for member in trained.trainer.members])
        mean = each.mean(0)
        likely += [mean[at - 1, ids[0, at]].item() for at in range(len(start), ids.shape[1])]
    found = trained.test(texts(SUMS[:5]))
    assert found.metrics["perplexity"] == pytest.approx(np.exp(-np.mean(np.log(likely))), rel=1e-5)
    assert set(found.metrics) >= {"exact_match", "token_accuracy", "perplexity"}


def test_answers_are_those_of_the_runs_that_did_not_fail(model):
    result = fine_tune(texts(), recipe(model, Ensemble(members=2)), progress=False)
    both = result.test(texts(SUMS[:5]))
    result.trainer.failures.note_members([True, False], 2, 1)
    found = result.test(texts(SUMS[:5]))
    alone = fine_tune(texts(), recipe(model, Default()), progress=False).test(texts(SUMS[:5]))
    assert found.answers == alone.answers
    assert found.metrics == pytest.approx(alone.metrics, rel=1e-4)
    assert found.metrics["perplexity"] != pytest.approx(both.metrics["perplexity"], rel=1e-4)


def test_a_saved_model_generates_what_was_measured(trained, tmp_path):
    found = trained.test(texts(SUMS[:3]), score=lambda answers, right: {"count": len(answers)})
    assert found.metrics["count"] == 3
    trained.save(tmp_path / "model", {"exact_match": 0.5})
    loaded = deni.load(tmp_path / "model")
    prompts = [prompt for prompt, _ in SUMS[:3]]
    assert loaded(prompts) == found.answers
    assert loaded(prompts[0]) == found.answers[0]
    assert loaded.max_new_tokens == 2
    assert loaded.max_length == 6
    info = json.loads((tmp_path / "model" / "deni.json").read_text())
    assert info["generation"] == {"max_new_tokens": 2}
    assert info["task"] == "generation"
    assert info["labels"] == []
    card = (tmp_path / "model" / "README.md").read_text()
    assert 'model(["a prompt"])  # an answer for each prompt' in card
    assert "pipeline_tag: text-generation" in card
    with pytest.raises(GeneratesError, match="model generates texts and labels none, so it has no votes"):
        loaded.votes(prompts)


def test_the_mean_of_the_members_is_an_ordinary_model_or_adapter(trained, model, tmp_path):
    trained.save(tmp_path / "model")
    (single,) = export(tmp_path / "model", tmp_path / "single")
    (adapter,) = export(tmp_path / "model", tmp_path / "adapter", adapter=True)
    ids = trained.tokenizer("1+1=", return_tensors="pt").input_ids
    with torch.no_grad():
        expected = trained.trainer.model(ids).logits  # the mean of the members
        for found in (AutoModelForCausalLM.from_pretrained(single), AutoPeftModelForCausalLM.from_pretrained(adapter)):
            assert torch.allclose(found.eval()(ids).logits, expected, atol=1e-5)
    assert json.loads((adapter / "adapter_config.json").read_text())["modules_to_save"] is None
    assert AutoTokenizer.from_pretrained(single)("1").input_ids == trained.tokenizer("1").input_ids
    with pytest.raises(InputError, match="generates texts, which is not written as onnx"):
        export(tmp_path / "model", tmp_path / "graph", how="onnx")


def test_an_encoder_with_a_decoder_is_trained_saved_and_exported(tmp_path):
    source = save_generator(tmp_path / "t5", "t5")
    result = fine_tune(texts(), recipe(source), progress=False)
    names = result.trainer.population.values
    assert names
    # An earlier PEFT takes the table of relative positions for a bias.
    assert all("lora" in name or "relative_attention_bias" in name for name in names)
    result.save(tmp_path / "model")
    prompts = [prompt for prompt, _ in SUMS[:4]]
    assert deni.load(tmp_path / "model")(prompts) == result.test(texts(SUMS[:4])).answers
    (single,) = export(tmp_path / "model", tmp_path / "single")
    ids = result.tokenizer("1+1=", return_tensors="pt").input_ids
    start = torch.zeros_like(ids[:, :1])
    with torch.no_grad():
        found, expected = (
            each.eval()(input_ids=ids, decoder_input_ids=start).logits
            for each in (AutoModelForSeq2SeqLM.from_pretrained(single), result.trainer.model)
        )
    assert torch.allclose(found, expected, atol=1e-5)


def test_full_tuning_learns_the_answers_by_heart(model):
    few = SUMS[:4]
    result = fine_tune(
        texts(few), recipe(model, Default(), Full(), epochs=150, batch_size=4, learning_rate=5e-3), progress=False
    )
    found = result.test(texts(few))
    assert found.answers == [answer for _, answer in few]
    assert found.metrics["exact_match"] == found.metrics["token_accuracy"] == 1
    ids = torch.tensor([[*result.tokenizer("0+1=1").input_ids, result.tokenizer.eos_token_id]])
    with torch.no_grad():
        alone = F.cross_entropy(result.trainer.model(ids).logits[0, 3:5], ids[0, 4:])
    assert result.test(texts(few[1:2])).metrics["perplexity"] == pytest.approx(alone.exp().item(), rel=1e-4)


@pytest.mark.parametrize("name", ["gpt2", "qwen2", "t5"])
def test_an_embedding_that_is_the_output_layer_too_is_so_again_when_it_is_loaded(name, tmp_path):
    """Found by benchmarks/fuzz.py: in full tuning the members have such a table under one name."""
    source = save_generator(tmp_path / name, name)
    result = fine_tune(texts(SUMS[:4]), recipe(source, tuning=Full(), epochs=1), progress=False)
    model = result.trainer.population.model
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    result.save(tmp_path / "model")
    loaded = deni.load(tmp_path / "model")
    prompts = [prompt for prompt, _ in SUMS[:4]]
    assert loaded(prompts) == result.test(texts(SUMS[:4])).answers
    assert loaded.population.values.keys() == result.trainer.population.values.keys()
    (single,) = export(tmp_path / "model", tmp_path / "single")
    assert any(each.suffix == ".safetensors" for each in single.iterdir())


def test_rates_and_epochs_are_those_of_the_field_unless_they_are_given():
    assert [recipe("m", tuning=each).rate for each in (Lora(), Full())] == [2e-4, 2e-5]
    assert Recipe(model="m", task="generation", strategy=Default()).epochs == 3
    assert recipe("m", learning_rate=0.1, epochs=7).rate == 0.1


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"strategy": "auto"}, "auto has no evidence for the task generation: name a strategy"),
        ({"strategy": "linear_probe"}, "linear_probe is for models that label texts"),
        ({"strategy": "contrastive"}, "contrastive is for models that label texts"),
        ({"strategy": "deni+r_drop"}, "r_drop is for models that label texts"),
        ({"tuning": "prompt"}, "tuning prompt is not for the task generation"),
        ({"class_weights": True}, "class_weights needs the task"),
        ({"dropout": 0.1}, "dropout is of models that label texts"),
        ({"pooling": "mean"}, "pooling is of models that label texts"),
    ],
)
def test_what_makes_no_sense_for_generation_is_refused_in_one_line(given, expected):
    strategy, tuning = given.pop("strategy", "default"), given.pop("tuning", "lora")
    with pytest.raises(SettingError, match=expected) as error:
        Recipe(task="generation", strategy=make_strategy(strategy), tuning=make_tuning(tuning), **given)
    assert "\n" not in str(error.value)


def test_other_arguments_and_models_are_refused_before_anything_is_read(model, model_folder, tmp_path):
    with pytest.raises(SettingError, match="cv is for models that label texts, not for the task generation"):
        fine_tune(texts(), recipe(model), cv=2, progress=False)
    with pytest.raises(InputError, match="which does not generate texts: take a causal"):
        fine_tune(texts(), recipe(model_folder), progress=False)


def test_a_file_becomes_a_model_on_the_command_line(model, tmp_path):
    file, out = tmp_path / "qa.jsonl", tmp_path / "model"
    chats = [[{"role": "user", "content": one}, {"role": "assistant", "content": other}] for one, other in SUMS]
    file.write_text("\n".join(json.dumps({"messages": chat}) for chat in chats))
    options = ["--task", "generation", "--model", model, "--tuning", "lora", "--lora-r", "4", "--epochs", "1"]
    command = ["train", str(file), *options, "--output", str(out), "--no-progress"]
    done = CliRunner().invoke(main, [*command, "--strategy", "deni", "--members", "2", "--batch-size", "1"])
    assert done.exit_code == 0, done.output
    assert "exact match" in done.output
    assert f"deni.load({str(out)!r}).generate(" in " ".join(done.output.split())
    assert "perplexity" in done.output
    (answer,) = deni.load(out).generate([chats[0][:1]])
    assert len(answer.tokens) <= 2
    assert read_data(file, task="generation").labels[1] == "1"
    for more, expected in (
        (["--cv", "2"], "cv is for models that label texts"),
        (["--strategy", "auto"], "auto has no"),
    ):
        done = CliRunner().invoke(main, [*command[:-2], str(tmp_path / "other"), "--strategy", "default", *more])
        assert done.exit_code == 2
        assert expected in done.output


def jsonl(path, rows=SUMS):
    path.write_text("\n".join(json.dumps({"prompt": prompt, "completion": answer}) for prompt, answer in rows))
    return str(path)


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_evaluate_measures_what_training_measures(name, tmp_path):
    model = save_generator(tmp_path / name, name)
    strategy = DelayedEnsemble(members=3, variance=0.3, ensemble_from=0.5)
    result = fine_tune(texts(), recipe(model, strategy), progress=False)
    expected = result.evaluate(texts())
    result.save(tmp_path / "model")
    done = CliRunner().invoke(main, ["evaluate", str(tmp_path / "model"), jsonl(tmp_path / "qa.jsonl"), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found.pop("texts") == len(SUMS)
    assert found == pytest.approx(expected, rel=1e-5)
    table = CliRunner().invoke(main, ["evaluate", str(tmp_path / "model"), jsonl(tmp_path / "qa.jsonl")])
    assert f"{expected['perplexity']:.4f}" in table.stdout


def test_evaluate_refuses_options_of_labels(trained, tmp_path):
    trained.save(tmp_path / "model")
    command = ["evaluate", str(tmp_path / "model"), jsonl(tmp_path / "qa.jsonl")]
    done = CliRunner().invoke(main, [*command, "--uncalibrated", "--text-pair-column", "other"])
    assert done.exit_code == 2
    assert "generates texts and labels none: omit --text-pair-column and --uncalibrated" in done.output


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_all_weights_of_an_encoder_decoder_cannot_be_stacked(name, tmp_path):
    model = save_generator(tmp_path / name, name)
    with pytest.raises(SettingError, match=r"^this model cannot be stacked: .*; use engine='auto' or 'loop'$"):
        fine_tune(texts(), recipe(model, tuning=Full(), engine="stacked"), progress=False)
