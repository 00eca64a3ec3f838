"""The order of rows, of one run and of several."""

from dataclasses import fields

import pytest
import torch
from torch.utils.data import SequentialSampler
from transformers import TrainingArguments
from transformers.trainer_pt_utils import LengthGroupedSampler

from deni.errors import SettingError
from deni.randomness import Sources
from deni.strategies import DelayedEnsemble, Ensemble
from deni.training.trainer import PopulationTrainer
from tests.helpers.trainers import fresh, make, pad, padded, rows

STRATEGIES = ["random", "sequential", "group_by_length"]
ROWS = 48


def sampling(name, **more):
    """The argument under its name in the installed version."""
    if "group_by_length" in {field.name for field in fields(TrainingArguments)}:  # transformers 4.57
        if name == "sequential":
            pytest.skip("transformers 4.57 has no such order")
        return {"group_by_length": name == "group_by_length", **more}
    return {"train_sampling_strategy": name, **more}


def texts(seed=1):
    data = padded(ROWS, seed)
    return [{**row, "labels": at} for at, row in enumerate(data.remove_columns("comment"))]


def order(trainer, epoch, runs=1):
    """The rows of each run in an epoch, told by their labels."""
    loader = trainer.get_train_dataloader()
    if hasattr(loader, "set_epoch"):
        loader.set_epoch(epoch)
    if trainer.phases.order is not None:
        trainer.phases.order.set_epoch(epoch)
    batches = [batch["labels"].unflatten(0, (runs, -1)) for batch in loader]
    return torch.cat(batches, 1).tolist()


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_pack_has_the_orders_of_its_runs_alone(tmp_path, name):
    data, settings = [texts(1), texts(2)], sampling(name, gradient_accumulation_steps=2)
    options = {"args": settings, "data_collator": pad, "model_init": fresh}
    pack = make(tmp_path, seeds=[3, 4], train=data, **options)
    for epoch in (0, 1):
        alone = []
        for seed, each in zip((3, 4), data, strict=True):
            alone += order(make(tmp_path, seeds=[seed], train=each, **options), epoch)
        assert order(pack, epoch, runs=2) == alone
        assert all(sorted(each) == list(range(ROWS)) for each in alone)


def test_grouped_by_length_is_what_transformers_makes_of_the_source_of_order(tmp_path):
    data = texts()
    trainer = make(tmp_path, train=data, args=sampling("group_by_length"), data_collator=pad)
    for epoch in (0, 1):
        generator = Sources(42).derived("sample_order", epoch)
        theirs = LengthGroupedSampler(4, lengths=[len(row["input_ids"]) for row in data], generator=generator)
        assert order(trainer, epoch) == [list(theirs)]
    assert order(trainer, 0) != order(trainer, 1)


def test_copies_with_their_own_orders_group_by_length_too(tmp_path):
    strategy = DelayedEnsemble(members=2, member_order="own")
    trainer = make(tmp_path, strategy, train=texts(), args=sampling("group_by_length"), data_collator=pad)
    trainer.phases.schedule = strategy.schedule(24)
    parent, copy = order(trainer, 0, runs=2)
    lengths = [len(row["input_ids"]) for row in texts()]
    assert sorted(parent) == sorted(copy)
    assert parent != copy
    alone = make(tmp_path, train=texts(), args=sampling("group_by_length"), data_collator=pad)
    assert order(alone, 0) == [parent]
    generator = Sources(42).derived("sample_order", 0, 1)
    assert copy == list(LengthGroupedSampler(4, lengths=lengths, generator=generator))


@pytest.mark.parametrize(("strategy", "runs"), [(None, 1), (Ensemble(members=2), 2)])
def test_data_seed_is_the_seed_of_the_order_alone(tmp_path, strategy, runs):
    def trainer(**settings):
        return make(tmp_path, strategy, model_init=fresh, train=rows(ROWS), args=settings)

    def drawn(made):
        with made.population.alone(0) as model:
            return model.classifier.weight.detach().clone()

    with_seed, other, without = trainer(data_seed=5), trainer(data_seed=6), trainer()
    labels = [row["labels"] for row in rows(ROWS)]
    expected = torch.randperm(ROWS, generator=Sources(5).derived("sample_order", 0)).tolist()
    assert order(with_seed, 0, runs)[0] == [labels[row] for row in expected]
    assert len({str(order(each, 0, runs)) for each in (with_seed, other, without)}) == 3
    assert torch.equal(drawn(with_seed), drawn(without))
    assert with_seed.origin["source_seeds"] == {"sample_order": 5}


def test_an_order_of_the_users_own_is_that_of_one_run(tmp_path):
    class Backwards(PopulationTrainer):
        def _get_train_sampler(self, *_):
            return SequentialSampler(range(ROWS))

    args = make(tmp_path).args
    one = Backwards(fresh(), args, train_dataset=texts(), data_collator=pad)
    assert order(one, 0) == [list(range(ROWS))]
    two = Backwards(None, args, model_init=fresh, train_dataset=texts(), data_collator=pad, seeds=[0, 1])
    with pytest.raises(SettingError, match="a _get_train_sampler of your own orders the rows of one run"):
        two.train()
