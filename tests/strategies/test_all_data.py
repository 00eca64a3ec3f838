"""All labelled texts, up to a limit."""

import numpy as np
import pytest
from datasets import Dataset

from deni.randomness import Sources
from deni.strategies import AllData
from tests.helpers.plain import make, rows, same, trained, values


def test_fewer_labelled_texts_are_refused():
    message = "all_data trains on all 300 labeled texts, not on 100: omit --labeled or choose another strategy"
    with pytest.raises(ValueError, match=message):
        AllData().labelled(100, 300)
    with pytest.raises(ValueError, match="on all 50 labeled texts, not on 49"):
        AllData(most_texts=50).labelled(49, 300)


@pytest.mark.parametrize(
    ("most", "wanted", "available", "expected"),
    [
        (55_000, None, 300, None),
        (55_000, 300, 300, None),
        (55_000, 1000, 300, None),
        (55_000, None, 60_000, 55_000),
        (55_000, 55_000, 60_000, 55_000),
        (50, None, 300, 50),
        (50, 200, 300, 50),
    ],
)
def test_all_labelled_texts_are_taken_up_to_the_limit(most, wanted, available, expected):
    assert AllData(most_texts=most).labelled(wanted, available) == expected


def test_the_choice_up_to_the_limit_is_that_of_the_source(tmp_path):
    data = Dataset.from_list([{**row, "number": at} for at, row in enumerate(rows())])
    chosen = []
    for seed in (3, 3, 4):
        trainer = make(tmp_path, AllData(most_texts=24), train=data, args={"seed": seed})
        expected = np.random.default_rng(Sources(seed).seeds["label_choice"]).permutation(40)[:24]
        assert trainer.train_dataset["number"] == sorted(expected.tolist())
        chosen.append(list(trainer.train_dataset["number"]))
    assert chosen[0] == chosen[1] != chosen[2]


def test_only_the_chosen_texts_are_trained_on(tmp_path):
    data = Dataset.from_list(rows())
    few = trained(tmp_path, AllData(most_texts=24), train=data)
    kept = sorted(Sources(42).numpy("label_choice").permutation(40)[:24].tolist())
    assert few.state.global_step == 12
    assert same(values(few), values(trained(tmp_path, train=data.select(kept))))


@pytest.mark.parametrize("most", [40, 55_000])
def test_below_the_limit_it_is_default(tmp_path, most):
    data = Dataset.from_list(rows())
    assert same(values(trained(tmp_path, AllData(most_texts=most), train=data)), values(trained(tmp_path, train=data)))


def test_no_text_at_all_is_refused():
    with pytest.raises(ValueError, match="most_texts must be at least 1, not 0"):
        AllData(most_texts=0)
