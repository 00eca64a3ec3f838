import dataclasses
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deni.provenance import canonical
from deni.randomness import SOURCES
from deni.study.cell import Cell, CellResult, Fingerprints, Named, Planned

FILES = Fingerprints("data", "model")
VERSIONS = {"deni": "0", "torch": "2", "transformers": "5", "peft": "0.17"}
PLAIN = Cell({"name": "tickets.csv"}, "some/model", Named("full"), Named("default"), 100, seed=0, block=0)


def key(cell: Cell, files: Fingerprints = FILES, **versions: str) -> str:
    return cell.key(files, {**VERSIONS, **versions})


def test_the_key_of_a_plain_cell_is_the_same_for_ever():
    # Fails when a default of recipe, tuning or strategy changes, or one is added: then every store trains its cells
    # again. Where that is meant, write the new key here and a line in the changelog.
    assert key(PLAIN) == "6bc0f6b8236e995feba190fead3d63cfec35bf5b13682addbd766ffd27346213"


def test_a_cell_of_before_there_were_development_parts_is_one_on_test_texts():
    spec = PLAIN.to_json()
    assert spec.pop("measure") == "test"
    assert Cell.from_json(spec) == PLAIN
    assert "measure" not in PLAIN.decides(FILES, VERSIONS)
    developed = dataclasses.replace(PLAIN, measure="development")
    assert developed.decides(FILES, VERSIONS) == {**PLAIN.decides(FILES, VERSIONS), "measure": "development"}


def test_a_setting_that_came_later_leaves_the_keys_of_stores_alone():
    deni = dataclasses.replace(PLAIN, strategy=Named("deni", {"members": 5}))
    assert key(deni) == "4ed1570592878722d73bc820995b7797942c5c51457aa032798c891213b6ba2c"
    for changed in ({"antithetic": True}, {"member_order": "own"}):
        assert key(dataclasses.replace(PLAIN, strategy=Named("deni", {"members": 5, **changed}))) != key(deni)


def test_the_key_is_the_sha_256_of_what_decides():
    planned = Planned.of(PLAIN, FILES, VERSIONS)
    assert planned.decides == json.loads(canonical(planned.decides))
    assert planned.key == key(PLAIN)
    assert planned.pack == PLAIN.pack_key(FILES, VERSIONS)


def cells(model: str) -> dict[str, st.SearchStrategy]:
    """Values of each field that decide the result, none of them twice in another spelling."""
    named = [Named("default"), Named("deni"), Named("deni", {"members": 5}), Named("prior_noise+deni")]
    tunings = [Named("full"), Named("lora"), Named("lora", {"lora_r": 8}), Named("ia3")]
    recipes = [{}, {"epochs": 3}, {"batch_size": 4}, {"learning_rate": 1e-3, "epochs": 3}]
    return {
        "model": st.sampled_from([model, f"{model}/"]),
        "tuning": st.sampled_from(tunings),
        "strategy": st.sampled_from(named),
        "labelled": st.none() | st.integers(1, 10**6),
        "seed": st.integers(0, 2**40),
        "block": st.integers(0, 2**40),
        "sources": st.dictionaries(st.sampled_from(SOURCES), st.integers(2**41, 2**42), max_size=3),
        "test_size": st.none() | st.integers(1, 10**6),
        "protocol": st.sampled_from([None, "paper"]),
        "preset": st.sampled_from([None, "paper", "released"]),
        "measure": st.sampled_from(["test", "development"]),
        "recipe": st.sampled_from(recipes),
    }


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_changing_any_one_field_changes_the_key(model_folder, data):
    values = cells(model_folder)
    cell = Cell({"name": "tickets.csv"}, **{name: data.draw(each, name) for name, each in values.items()})
    field = data.draw(st.sampled_from(sorted(values)), "field")
    other = data.draw(values[field].filter(lambda value: value != getattr(cell, field)), "other")
    changed = dataclasses.replace(cell, **{field: other})
    assert key(changed) != key(cell)
    assert Cell.from_json(json.loads(json.dumps(cell.to_json()))) == cell
    apart = changed.pack_key(FILES, VERSIONS) != cell.pack_key(FILES, VERSIONS)
    assert apart == (field != "seed")


def test_every_field_that_is_no_label_is_tried():
    labels = {"vary", "factor"}
    assert set(cells("x")) | labels | {"dataset"} == {field.name for field in dataclasses.fields(Cell)}


@pytest.mark.parametrize("label", [{"vary": "all"}, {"factor": {"labelled": 100}}])
def test_a_label_does_not_change_the_key(label):
    assert key(dataclasses.replace(PLAIN, **label)) == key(PLAIN)


@pytest.mark.parametrize(
    "how", [{"engine": "loop"}, {"members_at_a_time": 2}, {"eval_batch_size": 8}, {"gradient_checkpointing": True}]
)
def test_how_it_is_computed_does_not_change_the_key(how):
    assert key(dataclasses.replace(PLAIN, recipe=how)) == key(PLAIN)


def test_bfloat16_changes_the_key():
    assert key(dataclasses.replace(PLAIN, recipe={"bf16": True})) != key(PLAIN)


@pytest.mark.parametrize("name", ["data", "model", "augmented"])
def test_other_content_of_a_file_is_another_cell(name):
    assert key(PLAIN, dataclasses.replace(FILES, **{name: "other"})) != key(PLAIN)


@pytest.mark.parametrize("name", VERSIONS)
def test_another_version_is_another_cell(name):
    assert key(PLAIN, **{name: "9"}) != key(PLAIN)


def test_a_file_at_another_place_is_the_same_cell():
    moved = dataclasses.replace(PLAIN, dataset={"name": "elsewhere/tickets.csv"})
    assert key(moved) == key(PLAIN)
    for strategy in ("augmentation", "augmentation+deni"):
        here, there = (
            dataclasses.replace(PLAIN, dataset={"name": "x.csv", "augmented": file}, strategy=Named(strategy))
            for file in ("a.csv", "b.csv")
        )
        assert here.plan().strategy.parts[0].augmented == "a.csv"
        assert key(here) == key(there)


def test_a_default_that_is_written_out_is_the_same_cell():
    written = dataclasses.replace(
        PLAIN, strategy=Named("deni", {"members": 10}), tuning=Named("lora", {"lora_r": 64}), recipe={"epochs": 10}
    )
    assert key(written) == key(dataclasses.replace(PLAIN, strategy=Named("deni"), tuning=Named("lora")))


def test_a_whole_number_is_the_same_with_a_point():
    one, other = (
        dataclasses.replace(PLAIN, strategy=Named("deni", {"variance": two}), recipe={"epochs": two})
        for two in (2, 2.0)
    )
    assert key(one) == key(other)


def test_a_changed_default_is_another_cell(monkeypatch):
    from deni.strategies import DENI
    from deni.study import cell

    deni = dataclasses.replace(PLAIN, strategy=Named("deni"))
    before = key(deni)
    monkeypatch.setattr(DENI, "settings", lambda self: {**dataclasses.asdict(self), "members": 11})
    cell._settled.cache_clear()
    after = key(deni)
    cell._settled.cache_clear()
    assert after != before


def test_a_seed_given_to_a_source_counts_as_the_seed_itself():
    same = dataclasses.replace(PLAIN, sources={"dropout": PLAIN.seed, "data_split": PLAIN.block})
    assert key(same) == key(PLAIN)


def test_the_recipe_of_a_cell_has_its_settings():
    cell = dataclasses.replace(
        PLAIN,
        strategy=Named("deni", {"members": 3}),
        tuning=Named("lora", {"lora_r": 8}),
        recipe={"epochs": 2, "learning_rate": 0.5},
        seed=7,
        sources={"dropout": 4},
    )
    plan = cell.plan()
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
