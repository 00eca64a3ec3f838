import threading

import pytest

from deni.errors import InputError
from deni.serving.batching import Batcher, BusyError, StoppedError

WAIT = 10  # seconds


class Model:
    """Predicts the length of a text; the first batch waits until it is let go."""

    def __init__(self):
        self.batches, self.begun, self.go = [], threading.Event(), threading.Event()

    def __call__(self, texts):
        self.batches.append(list(texts))
        self.begun.set()
        assert self.go.wait(WAIT)
        if "fault" in texts:
            raise RuntimeError("a fault")
        return [{"length": len(text)} for text in texts]


def check(texts):
    if "unfit" in texts:
        raise InputError("unfit")


@pytest.fixture
def model():
    return Model()


@pytest.fixture
def batches(model):
    made = Batcher(model, check, batch_size=4, max_waiting=6)
    yield made
    model.go.set()
    made.stop()


def submit_after_first(batches, model, *requests):
    """Futures of a first request, and of others that come while it is computed."""
    first = batches.submit(["first"])
    assert model.begun.wait(WAIT)
    return [first, *(batches.submit(texts) for texts in requests)]


def test_what_comes_while_the_model_computes_goes_into_the_next_batch(batches, model):
    futures = submit_after_first(batches, model, ["a"], ["bb", "ccc"], ["dddd", "eeeee"])
    assert batches.waiting == 5
    model.go.set()
    found = [[each["length"] for each in future.result(WAIT)] for future in futures]
    assert found == [[5], [1], [2, 3], [4, 5]]
    assert model.batches == [["first"], ["a", "bb", "ccc"], ["dddd", "eeeee"]]  # no more than 4, no request split


def test_a_request_of_more_texts_than_a_batch_is_computed_as_a_whole(batches, model):
    model.go.set()
    assert len(batches.submit(list("abcdef")).result(WAIT)) == 6
    assert model.batches == [list("abcdef")]


def test_a_fault_or_an_unfit_text_of_one_request_is_not_that_of_another(batches, model):
    first, fine, fault, unfit = submit_after_first(batches, model, ["a"], ["fault"], ["unfit"])
    model.go.set()
    assert [each.result(WAIT) for each in (first, fine)] == [[{"length": 5}], [{"length": 1}]]
    with pytest.raises(RuntimeError, match="a fault"):
        fault.result(WAIT)
    with pytest.raises(InputError, match="unfit"):
        unfit.result(WAIT)
    assert batches.submit(["bb"]).result(WAIT) == [{"length": 2}]  # it goes on


def test_too_many_waiting_texts_are_refused(batches, model):
    submit_after_first(batches, model, list("abcdef"))
    with pytest.raises(BusyError):
        batches.submit(["g"])


def test_a_request_that_nobody_waits_for_is_not_computed(batches, model):
    _, left, other = submit_after_first(batches, model, ["left"], ["other"])
    assert left.cancel()
    model.go.set()
    assert other.result(WAIT) == [{"length": 5}]
    assert model.batches == [["first"], ["other"]]


def test_what_waits_when_it_stops_is_computed_and_nothing_else_is_taken(batches, model):
    futures = submit_after_first(batches, model, ["a"], ["bb"])
    stopping = threading.Thread(target=batches.stop)
    stopping.start()
    model.go.set()
    stopping.join(WAIT)
    assert [each.result(0) for each in futures] == [[{"length": 5}], [{"length": 1}], [{"length": 2}]]
    with pytest.raises(StoppedError):
        batches.submit(["ccc"])
