"""What the driver makes of a cluster's end; Ray is played by processes that behave as it does."""

import time

import psutil
import pytest

from deni.errors import InputError, InputWarning
from deni.study.execution.runners import OnRay, on_ray
from tests.helpers import attached


@pytest.fixture
def attach(monkeypatch):
    pytest.importorskip("ray", reason="needs the extra ray")
    monkeypatch.setattr(on_ray, "LOOK", 0.1)
    monkeypatch.setattr(on_ray, "GOODBYE", 0.5)
    monkeypatch.setattr(on_ray, "PATIENCE", 2.0)
    begun = []

    def start(behavior):
        monkeypatch.setattr(on_ray, "serve", behavior)
        monkeypatch.setattr(on_ray, "_answers", lambda _: True)
        begun.append(OnRay(1, 1, attached.HEAD))
        begun[-1].submit(7, [])
        return begun[-1]

    yield start
    for runner in begun:
        runner.close()
        assert not psutil.pid_exists(runner._process.pid)


@pytest.fixture
def away(monkeypatch):
    def go(looks):
        """From now on the head does not answer, so many times."""
        answers = iter([False] * looks)
        monkeypatch.setattr(on_ray, "_answers", lambda _: next(answers, True))

    return go


def test_a_worker_that_died_with_a_head_that_comes_back_is_given_back_as_died(attach, away):
    runner = attach(attached.whose_workers_die)
    away(3)
    done = runner.wait()
    assert (done.number, done.died) == (7, "the worker died (NodeDiedError)")


def test_a_worker_that_died_with_a_head_that_stays_away_is_the_clusters_fault(attach, away):
    runner = attach(attached.whose_workers_die)
    away(10**6)
    began = time.monotonic()
    with pytest.raises(InputError, match=r"at 10.0.0.1:6379 is gone \(its head has not answered for 2 seconds\)"):
        runner.wait()
    assert time.monotonic() - began < 10


def test_a_process_that_ray_ends_is_said_in_one_line(attach):
    runner = attach(attached.that_ray_ends)
    with pytest.raises(InputError, match=r"Ray has ended the process that was attached to it.*finished cells are safe"):
        runner.wait()


def test_what_no_host_of_a_cluster_has_is_warned_of(attach):
    with pytest.warns(InputWarning, match="no host of the Ray cluster has 8 CPUs, which each worker asks for"):
        attach(attached.whose_hosts_are_small)


def test_a_process_that_does_not_leave_is_killed(attach):
    runner = attach(attached.that_never_leaves)
    began = time.monotonic()
    runner.close()
    assert time.monotonic() - began < 5


def test_a_fault_in_the_attached_process_is_raised_here_and_what_it_prints_is_not_shown(attach, capfd):
    runner = attach(attached.that_has_a_fault)
    with pytest.raises(RuntimeError, match=r"ray_attached.py(.|\n)*ZeroDivisionError: a fault of ours"):
        runner.wait()
    runner.close()
    assert capfd.readouterr() == ("", "")
