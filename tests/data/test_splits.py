import math
import warnings
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deni.data import choose_balanced, stratified_split
from deni.errors import InputError, InputWarning

LABELS = [*"aaaaaaaaaa", *"bbbbb", *"cc"]
many_labels = st.lists(st.sampled_from("abcde"), min_size=2, max_size=80)


def generator(seed: int = 7) -> np.random.Generator:
    return np.random.default_rng(seed)


def counts(labels, indices) -> dict[str, int]:
    return dict(Counter(labels[i] for i in indices))


def test_a_split_is_golden():
    rest, part = stratified_split(LABELS, 0.3, generator())
    assert rest.tolist() == [1, 2, 3, 4, 5, 6, 9, 10, 11, 12, 13, 15]
    assert part.tolist() == [0, 7, 8, 14, 16]


def test_a_balanced_choice_is_golden():
    assert choose_balanced(LABELS, 8, generator()).tolist() == [0, 7, 8, 11, 13, 14, 15, 16]
    assert choose_balanced(LABELS, 7, generator(), rule="rounded_up").tolist() == [0, 7, 8, 11, 13, 14, 15, 16]


def test_equal_generators_choose_equally_and_others_do_not():
    labels = ["a", "b"] * 50
    assert choose_balanced(labels, 20, generator()).tolist() == choose_balanced(labels, 20, generator()).tolist()
    assert choose_balanced(labels, 20, generator()).tolist() != choose_balanced(labels, 20, generator(8)).tolist()
    assert (
        stratified_split(labels, 0.2, generator())[1].tolist() == stratified_split(labels, 0.2, generator())[1].tolist()
    )
    assert (
        stratified_split(labels, 0.2, generator())[1].tolist()
        != stratified_split(labels, 0.2, generator(8))[1].tolist()
    )


def test_a_split_keeps_the_proportions():
    labels = ["a"] * 500 + ["b"] * 250 + ["c"] * 33
    rest, part = stratified_split(labels, 0.2, generator())
    assert counts(labels, part) == {"a": 100, "b": 50, "c": 7}
    assert counts(labels, rest) == {"a": 400, "b": 200, "c": 26}


@settings(deadline=None)
@given(many_labels, st.floats(0.01, 0.99), st.integers(0, 9))
def test_every_class_of_two_is_on_both_sides_and_no_text_on_both(labels, fraction, seed):
    sizes = Counter(labels)
    if max(sizes.values()) < 2:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        rest, part = stratified_split(labels, fraction, generator(seed))
    assert sorted([*rest, *part]) == list(range(len(labels)))
    of_rest, of_part = counts(labels, rest), counts(labels, part)
    for label, size in sizes.items():
        assert of_rest[label] >= 1
        assert of_part.get(label, 0) >= (1 if size > 1 else 0)
        assert abs(of_part.get(label, 0) - fraction * size) <= 1


def test_a_class_of_one_text_stays_in_the_first_part_with_a_warning():
    labels = [*"aaaab"]
    with pytest.warns(InputWarning, match="^only one text has the label 'b': it stays in the training split$"):
        rest, part = stratified_split(labels, 0.5, generator())
    assert 4 in rest.tolist()
    assert counts(labels, part) == {"a": 2}


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 20, math.nan])
def test_a_fraction_outside_0_to_1_is_refused(fraction):
    with pytest.raises(InputError) as caught:
        stratified_split(LABELS, fraction, generator())
    assert str(caught.value) == (
        f"a part of {fraction} of the texts: expected a fraction above 0 and below 1, such as 0.2"
    )


@pytest.mark.parametrize("labels", [[], ["a"], ["a", "b", "c"]])
def test_a_part_that_would_be_empty_is_refused(labels):
    with pytest.raises(InputError) as caught:
        stratified_split(labels, 0.2, generator())
    assert str(caught.value) == (
        f"a split of 0.2 would be empty: none of the {len(labels)} classes has two texts; add labeled examples"
    )


@pytest.mark.parametrize(
    ("n", "chosen"),
    [
        (6, {"a": 2, "b": 2, "c": 2}),
        (12, {"a": 5, "b": 5, "c": 2}),
        (16, {"a": 9, "b": 5, "c": 2}),
        (17, {"a": 10, "b": 5, "c": 2}),
    ],
)
def test_where_a_class_runs_short_the_others_fill_up(n, chosen):
    assert counts(LABELS, choose_balanced(LABELS, n, generator())) == chosen


def test_which_class_gets_one_more_is_drawn():
    labels = ["a", "b", "c"] * 10
    extra = {
        max(c, key=c.get) for seed in range(20) for c in [counts(labels, choose_balanced(labels, 4, generator(seed)))]
    }
    assert extra == {"a", "b", "c"}


@settings(deadline=None)
@given(many_labels, st.integers(0, 9), st.data())
def test_an_exact_choice_is_exact_and_as_balanced_as_can_be(labels, seed, data):
    sizes = Counter(labels)
    n = data.draw(st.integers(len(sizes), len(labels)))
    chosen = choose_balanced(labels, n, generator(seed))
    assert len(set(chosen.tolist())) == n
    of = counts(labels, chosen)
    for label, size in sizes.items():  # no class could give a text to a class that has fewer
        assert of[label] == size or of[label] >= max(of.values()) - 1


def test_rounding_up_does_not_fill_up():
    sizes = {"entity": 1071, "description": 1028, "human": 1024, "numeric": 775, "location": 723, "abbreviation": 74}
    labels = [label for label, size in sizes.items() for _ in range(size)]
    chosen = choose_balanced(labels, 1000, generator(), rule="rounded_up")
    assert counts(labels, chosen) == dict.fromkeys(sizes, 167) | {"abbreviation": 74}
    assert len(chosen) == 909


def test_rounding_up_takes_two_of_a_class_at_least():
    assert counts(LABELS, choose_balanced(LABELS, 1, generator(), rule="rounded_up")) == {"a": 2, "b": 2, "c": 2}


@pytest.mark.parametrize("rule", ["exact", "rounded_up"])
@pytest.mark.parametrize("n", [0, -3, 18])
def test_more_than_there_are_and_fewer_than_one_are_refused(n, rule):
    with pytest.raises(InputError) as caught:
        choose_balanced(LABELS, n, generator(), rule=rule)
    assert str(caught.value) == f"{n} labeled examples asked for, but there are 17: choose from 1 to 17 (--labeled)"


def test_fewer_texts_than_classes_warn():
    with pytest.warns(InputWarning, match="^2 labeled examples for 3 classes leave 1 classes out: choose at least 3$"):
        assert len(choose_balanced(LABELS, 2, generator())) == 2


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match=r"^no rule 'fair': choose 'exact' or 'rounded_up'$"):
        choose_balanced(LABELS, 3, generator(), rule="fair")
