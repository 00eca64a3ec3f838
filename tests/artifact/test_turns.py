"""A loaded classifier in several threads, and in the processes of a pool."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from threading import Barrier
from time import sleep

import numpy as np
import pytest

import deni
from deni.artifact.turns import in_turn
from deni.data import Texts
from deni.finetune import fine_tune
from deni.recipe import Recipe
from tests.helpers.forked import FORKED
from tests.helpers.tiny import toy_rows

TEXTS = [text for text, _ in toy_rows(6, seed=3)]
THREADS = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory, model_folder):
    """An artifact of two members."""
    rows = toy_rows(4)
    train = Texts([text for text, _ in rows], [label for _, label in rows], "tickets.csv", None)
    recipe = Recipe.of(None, "ensemble", "full", {"members": 2}, model=model_folder, max_length=20, epochs=1)
    return fine_tune(train, recipe, progress=False, device="cpu").save(tmp_path_factory.mktemp("turns") / "model")


def votes(folder, texts):
    """What a worker of a pool computes."""
    return deni.load(folder, device="cpu").votes(texts)


def test_threads_get_what_they_would_get_alone(folder, monkeypatch):
    """Predictions, features and members at the same time, of texts of other lengths."""
    classifier = deni.load(folder, device="cpu")
    module = classifier.population.module
    module.choose("stacked", 1)  # two passes, with another member in focus
    focus = module.focus

    def slow_focus(chunk):
        focus(chunk)
        sleep(1e-3)  # another thread would change the focus now

    monkeypatch.setattr(module, "focus", slow_focus)
    parts = [[*TEXTS[at:], "long " * (at + 1)] for at in range(THREADS)]
    together = Barrier(THREADS)
    calls = [classifier.votes, classifier.features, classifier.members]

    def work(at):
        together.wait()
        return [calls[(at + turn) % 3](parts[at]) for turn in range(3)]

    expected = [[calls[(at + turn) % 3](parts[at]) for turn in range(3)] for at in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(work, range(THREADS)))
    for one, other in zip(found, expected, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_threads_take_turns_where_they_share_something():
    class Shared:
        pass

    class Counts:
        inside, most = 0, 0

        def __init__(self, shared):
            self.shared = shared

        @in_turn("shared")
        def enter(self, together):
            Counts.inside += 1
            Counts.most = max(Counts.most, Counts.inside)
            sleep(1e-3)
            if together is not None:
                together.wait()
            Counts.inside -= 1

    shared = Shared()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda each: [each.enter(None) for _ in range(20)], [Counts(shared), Counts(shared)]))
        assert Counts.most == 1
        together = Barrier(2, timeout=20)  # neither would come out, if they had to wait for each other
        list(pool.map(lambda each: each.enter(together), [Counts(Shared()), Counts(Shared())]))
    assert Counts.most == 2


@pytest.mark.parametrize("context", [multiprocessing.get_context("fork"), FORKED], ids=["fork", "new"])
def test_the_processes_of_a_pool_load_it(folder, context):
    expected = votes(folder, TEXTS)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        found = list(pool.map(votes, [folder] * 2, [TEXTS[:9], TEXTS[9:]]))
    assert np.concatenate(found) == pytest.approx(expected, abs=1e-6)
