"""How long a study will take is measured once for each model, tuning and dataset."""

import pytest

from deni.study.execution import calibrate
from deni.study.execution.calibrate import Calibration, Pace
from deni.study.library import Library
from tests.helpers.studies import jobs_of, writer


@pytest.fixture
def measured(monkeypatch):
    """The packs that are measured: tuning, and runs in the largest."""
    found = []

    def measure(cell, library, most, threads, device):
        found.append((cell.tuning.name, most))
        return Pace({size: 1 / size for size in (1, 2, 4, 8) if size <= most}, 1, most)

    monkeypatch.setattr(calibrate, "_measured", measure)
    return found


def test_strategies_labels_blocks_and_smaller_packs_need_no_measurement_of_their_own(
    tmp_path, tickets, model_folder, measured
):
    study = writer(tmp_path / "study.yaml", tickets, model_folder)
    strategies = ["default", {"name": "ensemble", "members": 2}, {"name": "ensemble", "members": 3, "label": "three"}]
    jobs = jobs_of(study(strategies=strategies, tunings=["full", "lora"], seeds=4, blocks=2))
    calibration = Calibration(Library(), 1, "cpu")
    for tuning in ("full", "lora"):
        own = [job for job in jobs if job.cell.tuning.name == tuning]
        for most in (4, 3, 1):
            for job in own:
                assert calibration.seconds([job] * most, most) == job.member_steps * most / {4: 4, 3: 2, 1: 1}[most]
    assert measured == [("full", 4), ("lora", 4)]


def test_a_larger_pack_is_measured_again(tmp_path, tickets, model_folder, measured):
    (job, *_) = jobs_of(writer(tmp_path / "study.yaml", tickets, model_folder)(strategies=["default"], seeds=8))
    calibration = Calibration(Library(), 1, "cpu")
    assert calibration.seconds([job], 1) == job.member_steps
    assert calibration.seconds([job] * 8, 8) == job.member_steps
    assert measured == [("full", 1), ("full", 8)]
