"""What strategies share before their first fork: trained once, with the same numbers."""

import dataclasses
import os

import numpy as np
import pytest
from click.testing import CliRunner

from deni.cli import main
from deni.strategies import DelayedEnsemble, Denials, make_strategy
from deni.study.execution.pack import run_pack
from deni.study.execution.runners import processes
from deni.study.execution.trunks import SECONDS, trunk_of
from deni.study.library import Library
from deni.study.store.database import Store
from tests.helpers.forked import FORKED
from tests.helpers.studies import RECIPE, jobs_of

OWN = {"members": 3, "ensemble_from": 0.5, "variance": 0.15}
VARIANTS = (
    {},
    {"variance": 1.0},
    {"fork_optimizer": "fresh", "fork_rate": "constant", "combine": "hard"},
    {"fork_rate": "restart", "antithetic": True},
    {"members": 2, "member_order": "own"},
)


def named(name="delayed_ensemble", **settings):
    return {"name": name, **settings}


def packs(file):
    """The jobs, those of each strategy together."""
    found = {}
    for job in jobs_of(file):
        found.setdefault((job.cell.strategy.name, str(job.cell.strategy.settings)), []).append(job)
    return list(found.values())


def same(one, other):
    return (
        np.array_equal(one.log_probs, other.log_probs)
        and (np.array_equal(one.merged, other.merged))
        and one.metrics == other.metrics
        and one.cost["member_steps"] == other.cost["member_steps"]
        and one.diagnostics["forks"] == other.diagnostics["forks"]
    )


@pytest.mark.parametrize(
    ("tuning", "before"),
    [("full", {}), ("lora", {}), ("lora", {"linear_probe": {}}), ("lora", {"best_practices": {"epochs": 2}})],
)
def test_a_pack_that_goes_on_from_a_trunk_has_the_numbers_of_one_that_does_not(study, tmp_path, before, tuning):
    name = "+".join([*before, "delayed_ensemble"])
    strategies = [named(name, **before, delayed_ensemble={**OWN, **more}) for more in VARIANTS[-2:]]
    if not before:
        strategies = [named(**{**OWN, **more}) for more in VARIANTS]
    folder, library = str(tmp_path / "trunks"), Library()
    for jobs in packs(study(strategies=strategies, tunings=[tuning], seeds=2)):
        plain, shared = run_pack(jobs, library), run_pack(jobs, library, folder)
        assert all(same(*pair) for pair in zip(plain, shared, strict=True))
    (trunk,) = os.listdir(folder)
    assert float((tmp_path / "trunks" / trunk / SECONDS).read_text()) > 0


def test_noise_on_all_that_trains_has_a_trunk_with_all_embeddings(study, tmp_path):
    folder, library = str(tmp_path / "trunks"), Library()
    for scope in ("head", "trainable", "head"):
        (jobs,) = packs(study(strategies=[named(**OWN, scope=scope)], tunings=["full"], seeds=2))
        plain, shared = run_pack(jobs, library), run_pack(jobs, library, folder)
        assert all(same(*pair) for pair in zip(plain, shared, strict=True))
    assert len(os.listdir(folder)) == 2


def test_the_second_pack_trains_from_its_first_fork_only(study, tmp_path, monkeypatch):
    from deni.training.phases import Phases

    walked, walk = [], Phases.begin_step
    monkeypatch.setattr(Phases, "begin_step", lambda self, step: [walked.append(step), walk(self, step)])
    first, second = packs(study(strategies=[named(**OWN), named(**{**OWN, "variance": 1.0})]))
    run_pack(first, Library(), str(tmp_path / "trunks"))
    assert walked == list(range(walked[-1] + 1))
    walked.clear()
    (one, *_) = run_pack(second, Library(), str(tmp_path / "trunks"))
    fork = one.diagnostics["forks"][0]["step"]
    assert fork > 0
    assert walked == list(range(fork, walked[-1] + 1))


def test_a_trunk_is_of_what_counts_before_the_first_fork(study, tmp_path):
    def trunk(recipe=None, seeds=3, **strategy):
        given = {"strategies": [{**named(**OWN), **strategy}], "seeds": seeds, "recipe": {**RECIPE, **(recipe or {})}}
        found = trunk_of(jobs_of(study(**given)), tmp_path)
        return found and found.folder

    first = trunk()
    assert all(trunk(**more) == first for more in VARIANTS)
    assert trunk(ensemble_from=0.9) != first  # a longer one
    assert trunk(recipe={"learning_rate": 0.001}) != first
    assert trunk(seeds=2) != first
    assert trunk(name="deni", interpolate_from=0.5, ensemble_from=0.9) != first
    assert trunk(ensemble_from=0.0) is None


def test_settings_that_are_not_of_forks_count_before_them():
    @dataclasses.dataclass(frozen=True)
    class Slow(DelayedEnsemble):
        name = "slow"
        slowness: float = 2.0

    assert Slow(members=2).before_fork() == {"slowness": 2.0}
    assert set(Denials(members=2).before_fork()) == {"augmentations", "augmented", "epochs"}
    assert make_strategy("deni").before_fork() == make_strategy("noisy_interpolation").before_fork() == {}
    both = make_strategy("linear_probe+de", probe_c=0.1)
    assert both.before_fork() == {"linear_probe": make_strategy("linear_probe", probe_c=0.1).settings(),
                                  "delayed_ensemble": {}}  # fmt: skip


def test_a_study_in_processes_shares_trunks(study, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "SPAWN", FORKED)
    file = study(strategies=["default", named(**OWN), named(**{**OWN, "variance": 1.0})])
    stores = [str(tmp_path / name) for name in ("plain.db", "shared.db")]
    options = ["--runner", "processes", "--workers", "1", "--threads", "1", "--pack", "3", "--no-progress"]
    for store, more in zip(stores, ([], ["--trunks", str(tmp_path / "trunks")]), strict=True):
        result = CliRunner().invoke(main, ["study", "run", file, "--store", store, *options, *more])
        assert result.exit_code == 0, result.output
    plain, shared = ({row.key: row for row in Store(store).results("done")} for store in stores)
    assert len(plain) == 9
    assert plain.keys() == shared.keys()
    for key in plain:
        assert plain[key].metrics == shared[key].metrics
    assert len(os.listdir(tmp_path / "trunks")) == 1


def test_a_trunk_that_cannot_be_kept_is_done_without(study, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr("shutil.copytree", full)
    (jobs,) = packs(study(strategies=[named(**OWN)]))
    results = run_pack(jobs, Library(), str(tmp_path / "trunks"))
    assert all(result.cost["member_steps"] > 0 for result in results)
    assert not (tmp_path / "trunks").exists()


def test_trunks_in_a_file_are_refused_in_one_line(study, tmp_path):
    (tmp_path / "trunks").write_text("")
    options = ["--store", str(tmp_path / "s.db"), "--trunks", str(tmp_path / "trunks")]
    result = CliRunner().invoke(main, ["study", "run", study(), *options])
    assert result.exit_code == 2
    assert "name a folder" in result.output
    assert not (tmp_path / "s.db").exists()
