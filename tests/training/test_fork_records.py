"""What is said of forks is what happened."""

import dataclasses
import itertools
import json

import pytest
import torch

from deni.randomness import Sources, generator
from deni.strategies import DENI, DelayedEnsemble, Ensemble, NoisyInterpolation
from deni.training.fork_records import Diagnostics, Measure, Record, disagreement, distance, total_variation
from tests.helpers.members import BATCH, STEPS, Member, make, texts, tiny, trained


def test_disagreement_is_the_share_of_differing_pairs():
    choices = torch.randint(3, (17, 5), generator=generator(0))
    pairs = [float((choices[:, a] != choices[:, b]).double().mean()) for a, b in itertools.combinations(range(5), 2)]
    assert disagreement(choices) == pytest.approx(sum(pairs) / len(pairs))


def test_distance_is_the_mean_over_pairs_relative_to_the_mean_member():
    draw = generator(0)
    values = {"a": torch.randn(6, 3, 4, generator=draw), "b": torch.randn(6, 2, generator=draw)}
    flat = torch.cat([value[2:6].flatten(1) for value in values.values()], 1)
    pairs = [float((flat[a] - flat[b]).norm()) for a, b in itertools.combinations(range(4), 2)]
    assert distance(values, range(2, 6)) == pytest.approx(sum(pairs) / len(pairs) / float(flat.mean(0).norm()))


def test_close_members_are_measured_without_cancellation():
    values = {"a": torch.full((2, 1000), 1000.0)}
    values["a"][1] += 1e-3
    assert distance(values, range(2)) == pytest.approx(1e-6, rel=0.1)


def test_total_variation_is_half_the_difference_of_distributions():
    likely = torch.rand(17, 4, 3, generator=generator(0)).softmax(-1)
    pairs = itertools.combinations(range(4), 2)
    more = [float((likely[:, a] - likely[:, b]).clamp(min=0).sum(-1).mean()) for a, b in pairs]
    assert total_variation(likely) == pytest.approx(sum(more) / 6)


@pytest.mark.parametrize("engine", ["loop", "stacked"])
def test_a_fork_is_measured_as_plain_members_measure_it(tmp_path, engine):
    trainer = trained(tmp_path, DelayedEnsemble(members=3, variance=4.0), engine, active_vocabulary=False)
    parent = Member(Sources(42))
    parent.train(0, 36)
    members = parent.copies(3, variance=4.0, fork=1)
    data = texts()[[at * 40 // 8 for at in range(8)]]  # 8 texts, evenly spaced

    def measured():
        with torch.no_grad():
            ids, labels = torch.tensor(data["input_ids"]), torch.tensor(data["labels"])
            logits = [each.model.eval()(input_ids=ids).logits for each in members]
            losses = [float(torch.nn.functional.cross_entropy(each, labels)) for each in logits]
            for each in members:
                each.model.train()
        choices = torch.stack([each.argmax(-1) for each in logits], 1)
        pairs = itertools.combinations(range(3), 2)
        return losses, sum(float((choices[:, a] != choices[:, b]).double().mean()) for a, b in pairs) / 3

    (record,) = trainer.diagnostics.records
    losses, differ = measured()
    assert (record.step, record.stop, record.members, record.texts, record.how) == (36, 40, 3, 8, "vote")
    assert record.start.disagreement == pytest.approx(differ)
    assert record.start.parent_loss == pytest.approx(losses[0])
    assert record.start.jump == pytest.approx((losses[1] + losses[2]) / 2 - losses[0])
    for each in members:
        each.train(36, STEPS)
    losses, differ = measured()
    assert record.end.disagreement == pytest.approx(differ)
    assert record.end.copies_loss == pytest.approx((losses[1] + losses[2]) / 2)
    flat = [torch.cat([weight.flatten() for weight in each.values().values()]) for each in members]
    pairs = [float((flat[a] - flat[b]).norm()) for a, b in itertools.combinations(range(3), 2)]
    assert record.end.distance == pytest.approx(sum(pairs) / 3 / float((sum(flat) / 3).norm()), rel=1e-5)


def test_there_is_a_record_for_each_fork_and_one_for_an_ensemble(tmp_path):
    records = trained(tmp_path, DENI(members=2)).diagnostics.records
    assert [(each.step, each.stop, each.how, len(each.excess)) for each in records] == [
        (12, 16, "merge", 4),
        (20, 24, "merge", 4),
        (36, 40, "vote", 4),
    ]
    trainer = trained(tmp_path, Ensemble(members=3), model_init=tiny)
    (one,) = trainer.diagnostics.records
    assert (one.start, one.stop, one.how, one.members) == (None, 40, "vote", 3)
    choices = trainer.predict_members(texts().select([at * 40 // 8 for at in range(8)])).argmax(-1)
    assert one.end.disagreement == pytest.approx(disagreement(torch.tensor(choices)))
    assert one.end.distance > 0.1


def test_measuring_changes_nothing(tmp_path, monkeypatch):
    with_it = trained(tmp_path, NoisyInterpolation(members=2)).population.member(0)
    monkeypatch.setattr("deni.training.fork_monitor.ForkMonitor.compare", lambda *_: None)
    without = trained(tmp_path, NoisyInterpolation(members=2)).population.member(0)
    assert all(torch.equal(with_it[name], without[name]) for name in without)


def test_it_is_in_the_logs(tmp_path):
    history = trained(tmp_path, DelayedEnsemble(members=2, variance=4.0)).state.log_history
    logged = [each for each in history if "members_distance" in each]
    assert [each["step"] for each in logged] == [36, 40]
    assert logged[0]["members_loss_jump"] != 0
    assert set(logged[0]) >= {"members_disagreement", "members_parent_loss", "members_copies_loss"}


def test_members_are_compared_on_evaluation_texts_where_there_are_some(tmp_path):
    trainer = trained(tmp_path, DelayedEnsemble(members=2, variance=4.0), eval_dataset=texts(8, seed=5))
    assert trainer.diagnostics.records[0].kind == "evaluation"
    choices = trainer.predict_members(texts(8, seed=5)).argmax(-1)
    assert trainer.diagnostics.records[0].end.disagreement == disagreement(torch.tensor(choices))


def test_gradient_accumulation_compares_losses_of_whole_steps(tmp_path):
    args = {"per_device_train_batch_size": BATCH // 2, "gradient_accumulation_steps": 2}
    trainer = trained(tmp_path, DelayedEnsemble(members=2, variance=4.0), args=args)
    assert len(trainer.diagnostics.records[0].excess) == 4


def record(jump, excess, end=None, parent=0.5):
    start = Measure(0.1, 0.1, parent, parent + jump)
    return Record(10, 4, 8, "training", start, excess, end or Measure(0.1, 0.1, parent, parent), 20, "vote")


def test_recovery_is_the_step_from_which_a_quarter_of_the_jump_is_left():
    assert record(0.4, [0.4, 0.3, 0.2, 0.1, 0.0, -0.2, -0.3]).recovered == 6  # mean of 0.3 0.2 0.1 0.0 -0.2 is 0.08
    assert record(0.4, [0.4, 0.4, 0.4]).recovered is None
    assert record(0.001, [0.4]).recovered == 0
    assert record(-0.1, [0.4]).recovered == 0


def test_identical_members_are_warned_of(tmp_path, caplog):
    strategy = DelayedEnsemble(members=2, ensemble_from=1.0, variance=0.0)
    trainer = trained(tmp_path, strategy, args={"learning_rate": 1e-9})
    assert "had no effect: its 2 members are one model when they vote" in caplog.text
    assert "raise --variance" in caplog.text
    assert [each.summary()["failed"] for each in trainer.diagnostics.records] == [True]


@pytest.mark.parametrize(
    ("kind", "end", "failed"),
    [
        ("evaluation", Measure(0.0, 0.5, total_variation=0.009), True),
        ("evaluation", Measure(0.0, 0.5, total_variation=0.011), False),
        ("evaluation", Measure(0.01, 0.5, total_variation=0.009), False),
        ("training", Measure(0.0, 0.5, total_variation=0.0), False),  # learned by heart
        ("training", Measure(0.0, 0.003, total_variation=0.006), True),
        ("evaluation", Measure(None, 0.003), True),  # numbers
        ("evaluation", Measure(None, 0.5), False),
    ],
)
def test_a_fork_fails_where_its_members_are_one_model(kind, end, failed):
    given = dataclasses.replace(record(0.0, [], end), kind=kind)
    assert given.summary()["failed"] is failed
    assert bool(list(given.warnings())) is failed
    diagnostics = Diagnostics([given])
    assert len(diagnostics.failures) == failed
    assert ("had no effect" in diagnostics.story()) is failed


def test_independent_runs_are_no_fork_that_fails():
    given = dataclasses.replace(record(0.0, [], Measure(0.0, 0.0, total_variation=0.0)), start=None)
    assert not given.summary()["failed"]


def test_a_jump_that_stays_is_warned_of(tmp_path, caplog):
    trained(tmp_path, DelayedEnsemble(members=3, variance=400.0))
    assert "and never came back" in caplog.text
    assert "lower --variance or fork later" in caplog.text


def test_a_usual_run_is_not_warned_of(tmp_path, caplog):
    trained(tmp_path, DENI(members=3))
    assert "Warning" not in caplog.text


def test_records_survive_json(tmp_path):
    diagnostics = trained(tmp_path, DENI(members=2)).diagnostics
    assert Diagnostics.of(json.loads(json.dumps(diagnostics.state()))) == diagnostics


def test_the_story_names_steps_losses_and_ends():
    story = Diagnostics([record(0.4, [0.4, 0.0], Measure(0.25, 0.02, 0.5, 0.5))]).story()
    assert "Step 10: one model became 4, the parent and 3 noisy copies." in story
    assert "loss was 0.900 where their parent's was 0.500 (+0.400)" in story
    assert "Step 20: they vote from here on." in story
    assert "disagreed on 25.0% of 8 training texts, and their parameters were 2.00% apart" in story
    assert Diagnostics().story().startswith("One model was trained from beginning to end")


def test_a_set_of_several_evaluation_sets_is_left_alone(tmp_path):
    trainer = make(tmp_path, DelayedEnsemble(members=2), eval_dataset={"one": texts(5), "other": texts(6)})
    trainer.train()
    assert trainer.diagnostics.records[0].texts == 8
