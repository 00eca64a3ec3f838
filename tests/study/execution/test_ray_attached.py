"""What the attached process makes of what Ray says."""

from multiprocessing import Pipe
from types import SimpleNamespace

import pytest

from deni.study.execution.runners import ray_attached
from deni.study.execution.runners.base import PackResult
from deni.study.execution.runners.ray_attached import Gone, _Cluster


@pytest.fixture
def cluster(monkeypatch):
    """A cluster with one task that is never done."""
    exceptions = pytest.importorskip("ray", reason="needs the extra ray").exceptions
    made = object.__new__(_Cluster)
    made._ray = SimpleNamespace(exceptions=exceptions, wait=lambda tasks, **_: ([], tasks))
    made._node, made._running, made._hosts, made._tells = "this", {"task": 0}, {}, True
    monkeypatch.setattr(ray_attached, "LOOK", 0.0)
    return made


def host(name, alive=True):
    return {"NodeID": name, "Alive": alive, "Resources": {"CPU": 4.0}}


@pytest.mark.parametrize("hosts", [[], [host("other")], [host("other"), host("this", alive=False)]])
def test_a_head_that_does_not_know_this_host_is_not_waited_for(cluster, hosts):
    cluster._ray.nodes = lambda: hosts
    ours, _ = Pipe()
    with pytest.raises(Gone, match="its head does not know this host"):
        cluster.wait(ours)


def test_a_head_that_knows_this_host_is_waited_for_until_something_is_sent(cluster):
    ours, theirs = Pipe()
    asked = []

    def nodes():
        asked.append(1)
        if len(asked) == 3:
            theirs.send(None)
        return [host("this")]

    cluster._ray.nodes = nodes
    assert cluster.wait(ours) is None
    assert len(asked) == 3


def test_a_pack_whose_host_is_lost_without_a_word_is_given_back(cluster):
    first, second = iter(["one"]), iter(["two"])
    cluster._running = {first: 4, second: 5}
    ready = [[first], [second]]
    cluster._ray.wait = lambda tasks, **_: (ready.pop(0) if ready else [], tasks)
    cluster._ray.get = lambda said: said
    cluster._ray.nodes = lambda: [host("this"), host("one"), host("two", alive=bool(ready))]
    ours, _ = Pipe()
    assert cluster.wait(ours) == PackResult(5, died="the worker died (its host is lost)")
    assert list(cluster._running.values()) == [4]


def test_a_result_comes_after_the_name_of_the_host(cluster):
    result = PackResult(0, outcomes=[])
    task = iter(["one", result])
    cluster._running = {task: 0}
    cluster._ray.wait = lambda tasks, **_: ([task], [])
    cluster._ray.get = lambda said: said
    cluster._ray.nodes = lambda: [host("this"), host("one")]
    ours, _ = Pipe()
    assert cluster.wait(ours) is result
    assert cluster._running == {}


@pytest.mark.parametrize(
    ("needs", "lacks"),
    [
        ({"CPU": 4, "GPU": 0}, ""),
        ({"CPU": 5, "GPU": 0}, "5 CPUs"),
        ({"CPU": 1, "GPU": 0.25}, "1 CPU and 0.25 GPUs"),
    ],
)
def test_what_no_living_host_has_is_named(cluster, needs, lacks):
    dead = {**host("dead", alive=False), "Resources": {"CPU": 64.0, "GPU": 8.0}}
    cluster._ray.nodes, cluster._needs = lambda: [host("this"), dead], needs
    assert cluster.lacks() == lacks
