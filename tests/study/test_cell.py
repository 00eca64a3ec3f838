import dataclasses

import numpy as np
import pytest

from deni.study.cell import Cell, CellResult, NamedSettings

PLAIN = Cell(
    {"name": "tickets.csv"}, "some/model", NamedSettings("full"), NamedSettings("default"), 100, seed=0, block=0
)


def test_a_cell_of_before_there_were_development_parts_is_one_on_test_texts():
    spec = PLAIN.to_json()
    assert spec.pop("measure") == "test"
    assert Cell.from_json(spec) == PLAIN


def test_the_recipe_of_a_cell_has_its_settings():
    cell = dataclasses.replace(
        PLAIN,
        strategy=NamedSettings("deni", {"members": 3}),
        tuning=NamedSettings("lora", {"lora_r": 8}),
        recipe={"epochs": 2, "learning_rate": 0.5},
        seed=7,
        sources={"dropout": 4},
    )
    plan = cell.resolve()
    assert (plan.strategy.members, plan.tuning.lora_r, plan.epochs, plan.rate) == (3, 8, 2, 0.5)  # type: ignore[attr-defined]
    assert (plan.model, plan.seed, plan.source_seeds) == ("some/model", 7, {"dropout": 4})


def result(**changed):
    values = {"log_probs": np.zeros((4, 3, 2)), "gold": [0, 1, 0, 1], "text_ids": range(4), "labels": ["a", "b"]}
    return CellResult(**{**values, "fingerprint": "f", **changed})


def test_a_result_is_kept_in_single_precision():
    assert result().log_probs.dtype == np.float32


@pytest.mark.parametrize(
    "wrong",
    [
        {"log_probs": np.zeros((4, 2))},
        {"log_probs": np.full((4, 3, 2), np.nan)},
        {"labels": ["a"]},
        {"gold": [0]},
        {"text_ids": [1, 2]},
    ],
)
def test_arrays_that_do_not_fit_are_no_result(wrong):
    with pytest.raises(ValueError, match=r"log_probs|texts"):
        result(**wrong)
