"""What the attached process makes of what Ray says."""

from multiprocessing import Pipe
from types import SimpleNamespace

import pytest

from deni.study.execution.runners.ray_attached import Gone, _Cluster


@pytest.fixture
def cluster():
    """A cluster with one task that is never done."""
    exceptions = pytest.importorskip("ray", reason="needs the extra ray").exceptions
    made = object.__new__(_Cluster)
    made._ray = SimpleNamespace(exceptions=exceptions, wait=lambda tasks, **_: ([], tasks))
    made._node, made._running = "this", {"task": 0}
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
