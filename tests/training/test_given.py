"""What is changed between making a trainer and `train` acts as if it had been given from the start."""

import copy
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch
from accelerate.state import GradientState
from transformers.trainer_utils import HPSearchBackend

from deni.engine.active_tokens import ActiveEmbedding
from deni.errors import SettingError
from deni.strategies import Default, DelayedEnsemble, Ensemble
from deni.training.trainer import PopulationTrainer
from tests.helpers.references import InOrder, Reference
from tests.helpers.trainers import distance, fresh, make, rows, same, seeded, values

PLAIN = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
SHORT = {"num_train_epochs": 1, "logging_strategy": "no"}


def model():
    return seeded(**PLAIN)


def trained(trainer):
    trainer.train()
    return {name: value.detach().clone() for name, value in trainer.model.named_parameters()}


CHANGES = {
    "weight_decay": lambda trainer: setattr(trainer.args, "weight_decay", 0.3),
    "learning_rate": lambda trainer: setattr(trainer.args, "learning_rate", 1e-2),
    "max_steps": lambda trainer: setattr(trainer.args, "max_steps", 7),
    "optim": lambda trainer: setattr(trainer.args, "optim", "adafactor"),
    "train_dataset": lambda trainer: setattr(trainer, "train_dataset", rows(24, seed=9)),
    "args": lambda trainer: setattr(trainer, "args", changed(trainer.args)),
    "frozen layers": lambda trainer: trainer.model.bert.encoder.requires_grad_(False),
}


def changed(args):
    args = copy.copy(args)
    args.weight_decay, args.num_train_epochs = 0.2, 2
    return args


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_changed_before_training_acts_as_in_trainer(tmp_path, change, monkeypatch):
    monkeypatch.setattr(PopulationTrainer, "_get_train_sampler", InOrder._get_train_sampler)
    ours, untouched = (make(tmp_path, model=model(), args=SHORT, train=rows(16)) for _ in range(2))
    theirs = Reference(model(), copy.copy(ours.args), train_dataset=rows(16))
    CHANGES[change](ours)
    CHANGES[change](theirs)
    wanted = trained(theirs)
    ours.train()
    assert distance(ours.population.member(0), wanted) < 1e-12
    untouched.train()
    assert distance(untouched.population.member(0), wanted) > 1e-6


@pytest.mark.parametrize("engine", ["loop", "stacked"])
def test_what_is_frozen_before_training_is_frozen_for_all_members(tmp_path, engine):
    strategy = DelayedEnsemble(members=2, scope="trainable")
    trainer = make(tmp_path, strategy, model=model(), engine=engine, args=SHORT, train=rows(16))
    trainer.model.bert.requires_grad_(False)
    trainer.train()
    before = dict(model().named_parameters())
    moved = {name for name, value in trainer.model.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {"classifier.weight", "classifier.bias"}
    assert trainer.population.members == 2
    trainer.population.model.classifier.requires_grad_(False)
    with pytest.raises((SettingError, RuntimeError), match="make a new"):
        trainer.train()


@pytest.mark.parametrize("strategy", [Default(), DelayedEnsemble(members=2)])
def test_a_seed_that_is_set_later_is_the_seed(tmp_path, strategy):
    late = make(tmp_path, strategy, args=SHORT)
    late.args.seed = 7
    late.train()
    early = make(tmp_path, strategy, args={**SHORT, "seed": 7})
    early.train()
    assert same(values(late), values(early))
    assert late.seeds == late.origin["seeds"] == [7]
    other = make(tmp_path, strategy, args=SHORT)
    other.train()
    assert not same(values(late), values(other))


def test_a_seed_that_is_set_later_initializes_the_runs(tmp_path):
    late = make(tmp_path, Ensemble(members=2), model_init=fresh, args=SHORT)
    late.args.seed = 7
    late.train()
    early = make(tmp_path, Ensemble(members=2), model_init=fresh, args={**SHORT, "seed": 7})
    early.train()
    assert same(values(late), values(early))


def test_the_datasets_of_several_seeds_may_be_replaced(tmp_path):
    ones, others = [rows(16, seed) for seed in (1, 2)], [rows(16, seed) for seed in (3, 4)]
    late = make(tmp_path, model_init=model, seeds=[0, 1], train=ones, args=SHORT)
    late.train_dataset = others
    late.train()
    early = make(tmp_path, model_init=model, seeds=[0, 1], train=others, args=SHORT)
    early.train()
    assert same(values(late), values(early))


class Decaying:
    """In a subclass of a user: the optimizer is made in another way."""

    def create_optimizer(self, *_):
        if self.optimizer is None:
            self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, weight_decay=0.3)
        return self.optimizer


def test_an_optimizer_that_a_subclass_makes_is_followed_by_all_members(tmp_path, monkeypatch):
    class Ours(Decaying, PopulationTrainer):
        _get_train_sampler = InOrder._get_train_sampler

    class Theirs(Decaying, Reference):
        pass

    args = make(tmp_path, args=SHORT).args
    theirs = Theirs(model(), copy.copy(args), train_dataset=rows(16))
    wanted = trained(theirs)
    ours = Ours(model(), copy.copy(args), train_dataset=rows(16), strategy=DelayedEnsemble(members=2, variance=0))
    assert not any(isinstance(module, ActiveEmbedding) for module in ours.population.model.modules())
    ours.train()
    for member in range(2):
        assert distance(wanted, ours.population.member(member)) < 1e-12


@pytest.mark.parametrize("strategy", [Default(), DelayedEnsemble(members=2, member_order="own"), Ensemble(members=2)])
def test_each_trial_of_a_search_is_a_training_with_its_arguments(tmp_path, strategy, monkeypatch):
    """Trials as `hyperparameter_search` runs them: it removes the model after each."""
    trials = [
        {"learning_rate": 1e-2, "num_train_epochs": 2},
        {"learning_rate": 1e-3, "weight_decay": 0.3, "num_train_epochs": 1},
        {"learning_rate": 1e-3, "num_train_epochs": 1, "seed": 5, "max_steps": 9},
    ]
    trainer = make(tmp_path, strategy, model_init=model, args=SHORT, train=rows(12))
    monkeypatch.setattr("transformers.integrations.hp_params", lambda trial: trial.params)  # it asks for optuna's type
    trainer.hp_search_backend, trainer.hp_space = HPSearchBackend.OPTUNA, lambda trial: trial.params
    for number, trial in enumerate(trials):
        trainer.train(trial=SimpleNamespace(number=number, params=trial))
        settings = {**SHORT, "weight_decay": 0.0, **trial}
        alone = make(tmp_path, strategy, model_init=model, args=settings, train=rows(12))
        alone.args.weight_decay = trainer.args.weight_decay  # Trainer keeps what an earlier trial has set
        alone.train()
        assert trainer.state.global_step == alone.state.global_step
        assert same(values(trainer), values(alone))
        trainer.model_wrapped = trainer.model = None
        trainer.accelerator.clear()


@pytest.mark.filterwarnings("ignore:`get_trial_id` is meant:UserWarning")  # there is no cluster
@pytest.mark.skipif(find_spec("ray") is None, reason="needs the package ray")
@pytest.mark.parametrize("strategy", [Default(), DelayedEnsemble(members=2, member_order="own"), Ensemble(members=2)])
def test_a_trial_of_ray_is_a_training_with_its_arguments(tmp_path, strategy):
    """As Ray runs them: the trainer without its model is pickled, and each trial trains a copy of it."""
    from ray import cloudpickle

    GradientState._reset_state()  # the loaders of earlier trainings in this process cannot be pickled
    trainer = make(tmp_path, strategy, model_init=model, args=SHORT, train=rows(12))
    trainer.hp_search_backend, trainer.model = HPSearchBackend.RAY, None
    pickled = cloudpickle.dumps(trainer)
    for trial in ({"learning_rate": 1e-2}, {"learning_rate": 1e-3, "seed": 5}):
        copied = cloudpickle.loads(pickled)
        copied.train(trial=dict(trial))
        alone = make(tmp_path, strategy, model_init=model, args={**SHORT, **trial}, train=rows(12))
        alone.train()
        assert same(values(copied), values(alone))
