import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deni.auto import ROWS, Facts, choose, decide
from deni.data import Texts
from deni.finetune import fine_tune
from deni.recipe import Recipe
from deni.tasks import TASKS
from deni.tuning import TUNINGS


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_what_a_row_names_as_evidence_is_there(row, root):
    files = re.findall(r"[\w/]+\.\w+", row.evidence)
    assert [file for file in files if not (root / file).is_file()] == []
    assert any(file.startswith(("results/", "benchmarks/studies/")) for file in files) or row.evidence.startswith(
        "provisional: waits for "
    )
    assert row.why.endswith(".")
    assert not row.evidence.endswith(".")


@given(
    facts=st.builds(
        Facts,
        task=st.sampled_from(sorted(TASKS)),
        examples=st.integers(1, 10**6),
        classes=st.integers(0, 1000),
        per_class=st.floats(0, 1e6),
        largest=st.integers(0, 10**6),
        pairs=st.booleans(),
        encoder=st.sampled_from(["sentence", "plain"]),
    ),
    tuning=st.sampled_from([None, *TUNINGS]),
)
def test_there_is_a_row_for_all_texts(facts, tuning):
    assert choose(facts, tuning) in ROWS


def test_rows_have_names_of_their_own():
    assert len({row.name for row in ROWS}) == len(ROWS)


def made_for(row, texts_of):
    """Texts for which a row is: of its first task, and of as many classes as it asks for."""
    task = row.tasks[0] if row.tasks else "single_label" if row.one_class else "multi_label"
    texts = texts_of(task, pairs=bool(row.pairs))
    if row.classes[0] <= 3:
        return texts
    names = [f"{at % int(row.classes[0]):02d}" for at in range(2 * int(row.classes[0]))]
    return Texts([texts.texts[at % len(texts)] for at in range(len(names))], names, "toy", texts.frame)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_each_row_trains_what_it_says(row, texts_of, sentence_encoder):
    train = made_for(row, texts_of)
    recipe = decide(Recipe(model=sentence_encoder, task=train.task), train)
    assert recipe.chosen["row"] == row.name
    assert (recipe.strategy.name, recipe.tuning.name) == (row.strategy, row.tuning)
    for name, value in row.recipe.items():
        assert getattr(recipe, name) == value
    fitted = fine_tune(train, dataclasses.replace(recipe, seed=1), progress=False)
    assert fitted.info()["auto"] == recipe.chosen
    assert set(fitted.evaluate(train)) >= set(TASKS[train.task].metrics)


@pytest.mark.parametrize("task", [name for name, task in TASKS.items() if not task.generates])
def test_auto_trains_every_task_with_a_plain_encoder(task, texts_of, model_folder):
    train = texts_of(task)
    fitted = fine_tune(train, Recipe(model=model_folder, task=task, epochs=1), progress=False)
    assert fitted.recipe.chosen["facts"]["encoder"] == "plain"
    assert fitted.member_steps == 2
    assert set(fitted.evaluate(train)) >= set(TASKS[task].metrics)
