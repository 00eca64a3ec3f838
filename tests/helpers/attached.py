"""Processes that behave like the one that is attached to a Ray cluster, see `deni.study.execution.runners.on_ray`."""

import os
import sys
import time
from contextlib import suppress

from deni.study.execution.runners import ray_attached
from deni.study.execution.runners.base import PackResult
from deni.study.execution.runners.ray_attached import Attached

HEAD = "10.0.0.1:6379"


def whose_workers_die(pipe, *_):
    """Says of each pack that its worker died."""
    pipe.send(Attached(HEAD, ""))
    numbers = []
    while (message := pipe.recv()) is not None:
        if message == "wait":
            pipe.send(PackResult(numbers.pop(), died="the worker died (NodeDiedError)"))
        else:
            numbers.append(message[0])


def that_ray_ends(pipe, *_):
    """Ends in the middle, as Ray ends processes that lost their cluster."""
    pipe.send(Attached(HEAD, ""))
    pipe.recv()
    os._exit(1)


def whose_hosts_are_small(pipe, *_):
    """No host has what a worker asks for."""
    pipe.send(Attached(HEAD, "8 CPUs"))
    pipe.recv()


def that_never_leaves(pipe, *_):
    """Is attached, answers nothing and does not go."""
    pipe.send(Attached(HEAD, ""))
    while True:
        with suppress(EOFError):
            pipe.recv()
        time.sleep(0.1)


def that_has_a_fault(pipe, *_):
    """Serves a cluster that raises what it should not."""

    class Faulty:
        head = HEAD

        def __init__(self, *_):
            pass

        def lacks(self):
            return ""

        def submit(self, *_):
            print("Ray says a lot", file=sys.stderr, flush=True)
            os.write(2, b"and its C++ too")
            raise ZeroDivisionError("a fault of ours")

    ray_attached._Cluster = Faulty
    ray_attached.serve(pipe, None, 1, 1, 0, None, None)
