"""Members that see the texts in orders of their own."""

import random

import numpy as np
import pytest
import torch
from datasets import Dataset, IterableDataset

from deni.randomness import Sources
from deni.strategies import DENI, DelayedEnsemble, NoisyInterpolation
from deni.training.batches import LENGTHS, PackedCollator, SampleOrder
from tests.helpers.members import STEPS, At, Member, apart, make, trained
from tests.helpers.plain import bert

OWN = {"members": 3, "member_order": "own", "variance": 0.15}


def ragged(seed=1):
    """Texts of different lengths."""
    draw = random.Random(seed)
    ids = [[draw.randrange(5, 60) for _ in range(draw.randrange(3, 12))] for _ in range(40)]
    return Dataset.from_dict({"input_ids": ids, "labels": [each[2] % 3 for each in ids]})


def pad(rows):
    longest = max(len(row["input_ids"]) for row in rows)
    ids = torch.tensor([row["input_ids"] + [0] * (longest - len(row["input_ids"])) for row in rows])
    return {"input_ids": ids, "attention_mask": ids != 0, "labels": torch.tensor([row["labels"] for row in rows])}


def values(trainer, runs=slice(None)):
    """Without the bias of keys: its gradient is rounding alone, of which Adam makes steps."""
    members = [trainer.population.member(at) for at in range(trainer.population.size)]
    return {name: torch.stack([each[name] for each in members])[runs] for name in members[0] if "key.bias" not in name}


def distance(one, other):
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize("engine", ["loop", "stacked"])
def test_each_copy_has_an_order_of_its_own_as_by_hand(tmp_path, engine):
    trainer = trained(tmp_path, DelayedEnsemble(ensemble_from=0.6, **OWN), engine)
    one = Member(Sources(42))
    one.train(0, 24)
    members = one.copies(3, 0.15, fork=1)
    for copy, member in enumerate(members):
        member.lane = (copy,) if copy else ()
        member.train(24, STEPS)
    assert apart(trainer, members) < 1e-6
    shared = trained(tmp_path, DelayedEnsemble(members=3, ensemble_from=0.6, variance=0.15), engine)
    assert distance(values(trainer, slice(0, 1)), values(shared, slice(0, 1))) < 1e-9  # the parent's order is the run's
    assert distance(values(trainer, slice(1, 3)), values(shared, slice(1, 3))) > 1e-3


@pytest.mark.parametrize("accumulation", [1, 2])
def test_loop_and_stacked_train_the_same_on_texts_of_different_lengths(tmp_path, accumulation):
    args = {"gradient_accumulation_steps": accumulation, "per_device_train_batch_size": 4 // accumulation}
    options = {"train_dataset": ragged(), "data_collator": pad, "args": args}
    ended = [trained(tmp_path, DENI(**OWN), engine, **options) for engine in ("loop", "stacked")]
    assert [each.population.engine_name for each in ended] == ["loop", "stacked"]
    assert distance(*map(values, ended)) < 1e-9
    assert ended[0].diagnostics.records[0].excess == []  # on other batches losses cannot be compared
    assert "whether it came back was not followed" in ended[0].diagnostics.story()


@pytest.mark.parametrize("runs", [{}, {"combine": "hard"}])
def test_a_pack_is_its_runs_alone(tmp_path, runs):
    data = [ragged(1), ragged(2)]
    options = {"model_init": lambda: bert(), "data_collator": pad}
    pack = values(trained(tmp_path, DENI(**OWN, **runs), seeds=[5, 6], train_dataset=data, **options))
    for run, seed in enumerate((5, 6)):
        alone = values(trained(tmp_path, DENI(**OWN, **runs), seeds=[seed], train_dataset=data[run], **options))
        assert distance({name: value[3 * run : 3 * run + 3] for name, value in pack.items()}, alone) < 1e-9


@pytest.mark.parametrize("engine", ["loop", "stacked"])
def test_before_the_first_fork_nothing_differs(tmp_path, engine):
    """The rows of lanes that do not train yet neither count nor lengthen the others."""
    seen = {}
    for order in ("shared", "own"):
        strategy = DENI(members=3, member_order=order)
        trainer = make(tmp_path, strategy, engine, train_dataset=ragged(), data_collator=pad)

        def look(step, control, trainer=trainer, order=order):
            seen[order] = values(trainer)

        trainer.add_callback(At([11], look))
        trainer.train()
    assert all(torch.equal(seen["own"][name], seen["shared"][name]) for name in seen["own"])


def test_beside_a_fork_with_a_shared_order_each_phase_has_its_own(tmp_path):
    both = NoisyInterpolation(**OWN) + DelayedEnsemble(members=4, ensemble_from=0.9)
    options = {"train_dataset": ragged(), "data_collator": pad}
    loop, stacked = (trained(tmp_path, both, engine, **options) for engine in ("loop", "stacked"))
    assert distance(values(loop), values(stacked)) < 1e-9
    assert [bool(record.excess) for record in loop.diagnostics.records] == [False, False, True]


def test_resumed_in_the_middle_of_an_epoch_and_a_phase_is_not_stopped(tmp_path):
    def save(step, control):
        control.should_save = True

    options = {"train_dataset": ragged(), "data_collator": pad}
    whole = trained(tmp_path, DENI(**OWN), callbacks=[At([7, 13, 18, 37], save)], **options)
    for stop in (7, 13, 18, 37):
        resumed = make(tmp_path, DENI(**OWN), **options)
        resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{stop}"))
        one, other = values(whole), values(resumed)
        assert all(torch.equal(one[name], other[name]) for name in one), stop


def test_orders_are_permutations_that_differ_and_the_first_is_the_run_s():
    sources = [Sources(3), Sources(4)]
    lanes = np.array(list(SampleOrder(20, sources, lanes=3)))  # (rows, R * lanes)
    assert lanes.shape == (20, 6)
    assert all(sorted(lane) == list(range(20)) for lane in lanes.T)
    assert len({tuple(lane) for lane in lanes.T}) == 6
    np.testing.assert_array_equal(lanes[:, ::3], np.array(list(SampleOrder(20, sources))))
    later = SampleOrder(20, sources, lanes=3)
    later.set_epoch(1)
    assert not (np.array(list(later)) == lanes).all(0).any()


@pytest.mark.parametrize("side", ["left", "right"])
def test_chosen_lanes_are_what_they_would_be_collated_alone(side):
    """Labels of texts, here four of them, stay whole where four is a number of tokens, too."""

    def collate(rows):
        ids, masks = torch.tensor([row[0] for row in rows]), torch.tensor([[1] * len(row[0]) for row in rows])
        return {"input_ids": ids, "attention_mask": masks, "labels": torch.tensor([row[1] for row in rows])}

    lanes = [
        [([lane * 10 + row + 1] * length, [row, 1, 0, lane]) for row in range(2)]
        for lane, length in enumerate((4, 6, 3))
    ]
    collator = PackedCollator(collate, {"input_ids": 9}, side, whole=("labels",))
    batch = collator([list(row) for row in zip(*lanes, strict=True)])
    lengths = batch.pop(LENGTHS)
    assert lengths.tolist() == [4, 6, 3]
    assert batch["labels"].shape == (6, 4)
    for wanted in ([0], [2], [0, 2], [1, 0], [0, 1, 2]):
        chosen, own = collator.choose(batch, lengths, wanted)
        expected = collator([list(row) for row in zip(*(lanes[lane] for lane in wanted), strict=True)])
        assert torch.equal(own, expected.pop(LENGTHS))
        assert chosen.keys() == expected.keys()
        assert all(torch.equal(chosen[key], expected[key]) for key in chosen), wanted


def test_a_stream_is_refused(tmp_path):
    stream = IterableDataset.from_generator(lambda: iter(ragged()))
    trainer = make(tmp_path, DENI(**OWN), args={"max_steps": 20}, train_dataset=stream, data_collator=pad)
    with pytest.raises(ValueError, match="orders of members' own, need datasets with a length, not streams"):
        trainer.train()


def test_another_order_is_refused():
    with pytest.raises(ValueError, match="unknown member_order 'mine': choose from shared, own"):
        DENI(member_order="mine")
