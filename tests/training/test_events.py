"""Trainer's callbacks with a population: the user's list, the events and their order are those of `Trainer`."""

import pytest
from transformers import (
    DefaultFlowCallback,
    EarlyStoppingCallback,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from deni.strategies import DENI, Default, DelayedEnsemble
from deni.training.trainer import PopulationTrainer
from tests.helpers.trainers import fresh, rows

EVENTS = [name for name in vars(TrainerCallback) if name.startswith("on_")]


class Recorder(TrainerCallback):
    def __init__(self):
        self.seen = []


for _name in EVENTS:
    setattr(Recorder, _name, lambda self, *_, event=_name, **__: self.seen.append(event))


class Later(Recorder):
    pass


def trainer_of(cls, folder, callbacks=(), args=None, **options):
    settings = {"max_steps": 6, "eval_strategy": "steps", "eval_steps": 2, "save_steps": 3, "logging_steps": 2}
    settings |= {"report_to": [], "disable_tqdm": True, "use_cpu": True, **(args or {})}
    arguments = TrainingArguments(str(folder), **settings)
    data = {"train_dataset": rows(24), "eval_dataset": rows(8, seed=2)}
    return cls(fresh(), arguments, callbacks=list(callbacks), **data, **options)


def kinds(trainer):
    return [type(each) for each in trainer.callback_handler.callbacks]


def test_the_list_of_callbacks_is_the_users(tmp_path):
    plain, ours = (trainer_of(cls, tmp_path, [Recorder()]) for cls in (Trainer, PopulationTrainer))
    assert kinds(ours) == kinds(plain)
    assert ours.callback_handler.callback_list == plain.callback_handler.callback_list
    for trainer in (plain, ours):
        assert isinstance(trainer.pop_callback(DefaultFlowCallback), DefaultFlowCallback)
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(EarlyStoppingCallback(3))
    assert kinds(ours) == kinds(plain) == [Recorder, EarlyStoppingCallback]


@pytest.mark.parametrize(
    ("strategy", "evaluate"), [(Default(), "steps"), (Default(), "epoch"), (DENI(members=2), "steps")]
)
def test_events_come_in_trainers_order(tmp_path, strategy, evaluate):
    seen = []
    for cls, options in ((Trainer, {}), (PopulationTrainer, {"strategy": strategy})):
        first, later = Recorder(), Later()
        args = {"eval_strategy": evaluate, "eval_steps": 5, "save_steps": 5, "max_steps": 10}
        trainer = trainer_of(cls, tmp_path / cls.__name__, [first], args, **options)
        trainer.add_callback(later)
        trainer.train()
        trainer.predict(rows(8))
        seen.append([first.seen, later.seen])
    if strategy != Default():  # what happened at a fork is logged, too
        assert all(theirs.count("on_log") < ours.count("on_log") for theirs, ours in zip(*seen, strict=True))
        seen = [[[event for event in events if event != "on_log"] for events in pair] for pair in seen]
    assert seen[0] == seen[1]


def test_callbacks_of_the_user_can_all_go_and_members_fork(tmp_path):
    settings = {"max_steps": 10, "eval_strategy": "no", "save_strategy": "no"}
    trainer = trainer_of(PopulationTrainer, tmp_path, [Recorder()], settings, strategy=DelayedEnsemble(members=3))
    for each in list(trainer.callback_handler.callbacks):
        if not isinstance(each, DefaultFlowCallback):
            trainer.remove_callback(each)
    trainer.train()
    assert kinds(trainer) == [DefaultFlowCallback]
    assert trainer.population.members == 3
    assert trainer.member_steps == 9 + 3


def test_callbacks_given_at_first_see_the_step_before_the_phases_and_later_ones_after(tmp_path):
    sizes = {"first": [], "later": []}

    class Sizes(TrainerCallback):
        def __init__(self, name):
            self.name = name

        def on_step_begin(self, args, state, control, **_):
            sizes[self.name].append(trainer.population.members)
            if state.global_step == 9 and self.name == "later":
                trainer.remove_callback(self)

    settings = {"max_steps": 12, "eval_strategy": "no", "save_strategy": "no"}
    strategy = DelayedEnsemble(members=2, ensemble_from=0.5)
    trainer = trainer_of(PopulationTrainer, tmp_path, [Sizes("first")], settings, strategy=strategy)
    trainer.add_callback(Sizes("later"))
    trainer.train()
    assert sizes == {"first": [1] * 7 + [2] * 5, "later": [1] * 6 + [2] * 4}
