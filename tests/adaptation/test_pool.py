"""Which texts an encoder learns from, and which are held out."""

import numpy as np
import pytest

from deni.adaptation.pool import as_texts, divide, make_pool
from deni.data import Texts
from deni.errors import InputError

PLAIN = [f"ticket number {number} is open" for number in range(45)]


def made(texts, **more):
    return Texts(texts, None, "pool.csv", None, **more)


def test_test_texts_and_repeated_ones_are_left_out_and_no_other():
    copies = ["Ticket number 3 is  open!", "ticket number 40 is open", "TICKET NUMBER 7 IS OPEN"]
    pool = make_pool(made([*PLAIN, *copies]), made(["ticket number 3 is open.", "ticket number 4 is  OPEN", "another"]))
    assert pool.texts.texts == [text for at, text in enumerate(PLAIN) if at not in (3, 4)]
    assert (pool.read, pool.left_out) == (48, {"test": 3, "repeated": 2})  # of number 3 the copy is a test text, too


def test_without_test_texts_only_what_repeats_is_left_out():
    pool = make_pool(made([*PLAIN, PLAIN[0]]))
    assert (list(pool.texts.texts), pool.left_out) == (PLAIN, {"repeated": 1})


def test_each_side_of_a_pair_is_a_text():
    pairs = [(text, f"and {text}") for text in PLAIN]
    pool = make_pool(made(pairs), made([(PLAIN[1], "something else"), ("nothing", f"And {PLAIN[2]}?")]))
    expected = [text for at, text in enumerate(PLAIN) if at != 1]
    expected += [f"and {text}" for at, text in enumerate(PLAIN) if at != 2]
    assert (list(pool.texts.texts), pool.left_out) == (expected, {"test": 2})


def test_single_test_texts_are_found_among_pairs():
    pool = make_pool(made([(text, f"and {text}") for text in PLAIN]), made([f"and {PLAIN[5]}"]))
    assert pool.left_out == {"test": 1}
    assert f"and {PLAIN[5]}" not in pool.texts.texts


def test_words_are_a_text():
    pool = make_pool(made([tuple(text.split()) for text in PLAIN], task="token"))
    assert list(pool.texts.texts) == PLAIN


def test_too_few_are_refused_with_why():
    with pytest.raises(
        InputError, match=r"pool.csv: 39 texts to adapt to \(left out: 1 in the test split, 5 repeated\)"
    ):
        make_pool(made([*PLAIN[:40], *PLAIN[:5]]), made([PLAIN[39]]))


@pytest.mark.parametrize(
    ("given", "message"),
    [("one", "one string where a list"), (["a", " "], "text 2 is ' ' where"), (["a", 3], "text 2 is 3 where")],
)
def test_what_is_no_list_of_texts_is_refused(given, message):
    with pytest.raises(InputError, match=message):
        as_texts(given, "texts")


@pytest.mark.parametrize(("count", "expected"), [(40, 4), (500, 50), (20_000, 1000)])
def test_a_tenth_is_held_out(count, expected):
    trained, held_out = divide(count, np.random.default_rng(0))
    assert len(held_out) == expected
    assert sorted([*trained, *held_out]) == list(range(count))
