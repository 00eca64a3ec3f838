"""How long a study will take is measured once for each model, tuning and dataset."""

import pytest
import torch

from deni.study.execution import calibrate
from deni.study.execution.calibrate import Calibration, Timing
from deni.study.library import Library
from tests.helpers.studies import jobs_of, writer

CPU = torch.device("cpu")


@pytest.fixture
def measured(monkeypatch):
    """The populations that are measured: tuning, runs, members."""
    found = []

    def measure(self, cell, runs, members):
        found.append((cell.tuning.name, runs, members))
        return Timing(1 / (runs * members), 0.5, 0.25, 1)

    monkeypatch.setattr(Calibration, "_measured", measure)
    return found


@pytest.fixture
def jobs(tmp_path, tickets, model_folder):
    study = writer(tmp_path / "study.yaml", tickets, model_folder)
    return lambda **given: jobs_of(study(**given))


def test_strategies_labels_blocks_and_smaller_packs_need_no_measurement_of_their_own(jobs, measured):
    strategies = ["default", {"name": "ensemble", "members": 2}, {"name": "ensemble", "members": 3, "label": "three"}]
    calibration = Calibration(Library(), 1, CPU)
    for job in jobs(strategies=strategies, tunings=["full", "lora"], seeds=4, blocks=2):
        for most in (4, 3, 1):
            calibration.seconds([job] * most, most)
    assert measured == [("full", 4, 1), ("lora", 4, 1)]


def test_the_seconds_are_those_of_steps_by_members_of_predictions_and_of_each_start(jobs, measured):
    deni = {"name": "deni", "members": 3}
    plain, forked = (next(j for j in jobs(strategies=[s], seeds=1)) for s in ("default", deni))
    texts = len(plain.texts(Library())[1])
    calibration = Calibration(Library(), 1, CPU)
    assert calibration.seconds([plain], 1) == plain.member_steps + 0.25 * texts + 0.5
    assert calibration.seconds([plain] * 3, 1) == 3 * calibration.seconds([plain], 1)
    single = sum(phase.cost for phase in forked.schedule if phase.members == 1)
    triple = sum(phase.cost for phase in forked.schedule if phase.members == 3)
    assert min(single, triple) > 0
    assert single + triple == forked.member_steps
    # Three members predict, and their mean.
    assert calibration.seconds([forked], 1) == pytest.approx(single + triple / 3 + 0.25 * 4 * texts + 0.5)
    assert measured == [("full", 1, 1), ("full", 1, 3)]


def test_the_pack_is_the_one_with_the_least_time_for_a_cell_not_the_largest(jobs, monkeypatch):
    (job, *_) = jobs(strategies=["default"], seeds=8)
    tried = []

    def measure(self, cell, runs, members):
        tried.append(runs)
        return Timing({1: 1.0, 2: 0.7, 4: 0.9, 8: 0.1}[runs], 0.0, 0.0, 1)

    monkeypatch.setattr(Calibration, "_measured", measure)
    assert Calibration(Library(), 1, CPU).size([job] * 8) == 2
    assert tried == [1, 2, 4]  # a larger one that is slower ends the search


def test_a_short_training_is_packed_for_its_start(jobs, monkeypatch):
    """Steps are as fast in any pack; each pack has to load the model."""
    (job, *_) = jobs(strategies=["default"], seeds=8)
    monkeypatch.setattr(Calibration, "_measured", lambda *_: Timing(0.01, 60.0, 0.0, 1))
    assert Calibration(Library(), 1, CPU).size([job] * 8) == 8


def test_a_pack_that_does_not_fit_into_memory_is_not_taken(jobs, monkeypatch):
    (job, *_) = jobs(strategies=["default"], seeds=8)
    monkeypatch.setattr(Calibration, "_measured", lambda self, cell, runs, members: Timing(1 / runs, 0.0, 0.0, 100))
    monkeypatch.setattr(calibrate, "available", lambda device: 2 * 4 * 100)
    assert Calibration(Library(), 1, CPU).size([job] * 8) == 4


def test_no_population_is_measured_that_is_larger_than_worth_it(jobs, measured):
    (job, *_) = jobs(strategies=[{"name": "delayed_ensemble", "members": 20}], seeds=1)
    assert Calibration(Library(), 1, CPU).size([job] * 8) == 1
    assert set(measured) == {("full", 1, 1), ("full", 1, 20)}


def test_a_measurement_is_of_real_trainings(jobs):
    (job, *_) = jobs(strategies=[{"name": "delayed_ensemble", "members": 2}], seeds=2)
    calibration = Calibration(Library(), 1, CPU)
    assert calibration.size([job] * 2) in (1, 2)
    (pace,) = calibration._paces.values()
    assert {(1, 1), (1, 2)} <= pace.measured.keys()
    for timing in pace.measured.values():
        assert 0 < timing.member_step < 1
        assert 0 < timing.prediction < 1
        assert timing.around > 0
        assert timing.member_bytes > 1000
