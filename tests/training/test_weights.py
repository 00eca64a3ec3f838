"""Models whose predictions have no vote are saved as Trainer saves them, and go on from what was saved."""

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, TrainingArguments

import deni
from deni.artifact import save
from deni.errors import ArtifactError, InputError, SettingError
from deni.population import Population
from deni.randomness import Sources, global_generators
from deni.strategies import EMA, Default, DelayedEnsemble, Ensemble
from deni.training.trainer import PopulationTrainer
from tests.helpers.references import Ours, Reference


def llama():
    sizes = {"vocab_size": 20, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    with global_generators(0):
        return LlamaForCausalLM(LlamaConfig(num_attention_heads=2, num_key_value_heads=1, **sizes))


class Normed(nn.Module):
    """A module of the user's own, with running means, and a buffer that counts its calls."""

    def __init__(self):
        super().__init__()
        with global_generators(0):
            self.layer, self.norm, self.last = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, x, labels=None):
        self.calls = self.calls + 1
        logits = self.last(self.norm(self.layer(x)))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels, weight=torch.tensor([1.0, 3.0]))
        return {"loss": loss, "logits": logits}


def blocks(count=16):
    ids = [[(7 * row + 3 * at) % 20 for at in range(6)] for row in range(count)]
    return [{"input_ids": row, "labels": row} for row in ids]


def points(count=16):
    with global_generators(1):
        return [{"x": row, "labels": int(row[0] > 0)} for row in torch.randn(count, 4)]


def make(cls, folder, model, data, *, args=None, **options):
    settings = {
        "max_steps": 6,
        "save_steps": 2,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-2,
        "report_to": [],
    }
    settings |= {"use_cpu": True, "disable_tqdm": True, **(args or {})}
    arguments = TrainingArguments(str(folder), **settings)
    if callable(model) and not isinstance(model, nn.Module):
        return cls(args=arguments, train_dataset=data, model_init=model, **options)
    return cls(model, arguments, train_dataset=data, **options)


def assert_equal(state, expected):
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(state[name], value, msg=name)


def test_checkpoints_and_models_of_a_language_model_are_those_of_trainer(tmp_path):
    for cls in (Reference, Ours):
        trainer = make(cls, tmp_path / cls.__name__, llama(), blocks())
        trainer.train()
        trainer.save_model(tmp_path / cls.__name__ / "final")
    for part in ("checkpoint-2", "checkpoint-6", "final"):
        expected, got = (
            AutoModelForCausalLM.from_pretrained(tmp_path / cls.__name__ / part) for cls in (Reference, Ours)
        )
        assert_equal(got.state_dict(), expected.state_dict())
        files = [{file.name for file in (tmp_path / cls.__name__ / part).iterdir()} for cls in (Reference, Ours)]
        assert files[0] <= files[1]


@pytest.mark.parametrize("resume", [False, True])
def test_a_module_with_running_means_trains_and_resumes_as_with_trainer(tmp_path, resume):
    saved = []
    for cls in (Reference, Ours):
        folder = tmp_path / cls.__name__
        trainer = make(cls, folder, Normed(), points())
        trainer.train()
        if resume:
            trainer = make(cls, folder, Normed(), points())
            trainer.train(resume_from_checkpoint=str(folder / "checkpoint-4"))
        saved.append(load_file(folder / "checkpoint-6" / "model.safetensors"))
        trainer.save_model(folder / "final")
        assert_equal(load_file(folder / "final" / "model.safetensors"), saved[-1])
        assert_equal(trainer.model.state_dict(), saved[-1])
    assert saved[0]["calls"] == 6
    assert_equal(saved[1], saved[0])


FORK = DelayedEnsemble(members=2, ensemble_from=0.5, scope="trainable")


@pytest.mark.parametrize("strategy", [FORK, EMA(ema_decay=0.5)])
def test_what_is_saved_of_a_language_model_is_the_one_that_predicts(tmp_path, strategy):
    trainer = make(Ours, tmp_path, llama(), blocks(), strategy=strategy)
    trainer.train()
    trainer.save_model(tmp_path / "final")
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "final")
    with strategy.predicting(trainer.population):
        values = {name: value.mean(0) for name, value in trainer.population.values.items()}
    assert trainer.population.members == (2 if strategy is FORK else 1)
    assert_equal({name: value for name, value in saved.named_parameters() if name in values}, values)


def test_independent_language_models_are_saved_one_by_one(tmp_path):
    trainer = make(PopulationTrainer, tmp_path, llama, blocks(), strategy=Ensemble(members=2))
    trainer.train()  # with checkpoints
    with pytest.raises(SettingError, match=r"are not one model: save each of trainer\.members"):
        trainer.save_model()
    whole = [dict(model.named_parameters()) for model in trainer.members]
    resumed = make(PopulationTrainer, tmp_path, llama, blocks(), strategy=Ensemble(members=2))
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    for model, expected in zip(resumed.members, whole, strict=True):
        assert_equal(dict(model.named_parameters()), expected)


@pytest.mark.parametrize(("strategy", "calls"), [(Default(), 6), (FORK, 3 + 3 * 2)])
def test_trying_out_is_no_training(tmp_path, strategy, calls):
    trainer = make(Ours, tmp_path, Normed(), points(), args={"save_strategy": "no"}, strategy=strategy)
    trainer.train()
    assert trainer.model.calls == calls


@pytest.mark.parametrize("task", ["token", "single_label"])
def test_a_language_model_has_no_task_and_no_artifact(tmp_path, task):
    args = TrainingArguments(str(tmp_path), use_cpu=True, report_to=[])
    with pytest.raises(SettingError, match="LlamaForCausalLM is a language model, whose predictions have no vote"):
        PopulationTrainer(llama(), args, train_dataset=blocks(), task=task)
    population = Population(llama(), [Sources(0)], "loop")
    with pytest.raises(InputError, match="LlamaForCausalLM is a language model"):
        save(tmp_path / "model", population=population, tokenizer=None, labels=["a", "b"], info={})
    assert not (tmp_path / "model").exists()
    llama().save_pretrained(tmp_path / "plain")
    with pytest.raises(ArtifactError, match="holds LlamaForCausalLM, which has no trained output layer"):
        deni.load(tmp_path / "plain")
