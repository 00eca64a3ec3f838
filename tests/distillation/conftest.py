"""Tiny teachers, one for each kind of task."""

import functools

import pandas as pd
import pytest

from deni.data import Texts
from deni.finetune import fine_tune
from deni.recipe import Recipe
from tests.helpers.tiny import SMALL_TUNINGS, toy_rows


def toy_texts(task, each=8, seed=0):
    """Toy texts with the labels of a task."""
    given = toy_rows(each, seed)
    texts, labels = [text for text, _ in given], [label for _, label in given]
    if task == "multi_label":
        labels = [tuple(sorted({label, "login" if "my" in text else label})) for text, label in given]
    elif task == "regression":
        labels = [float(len(label)) for label in labels]
    elif task == "token":
        texts = [tuple(text.split()) for text in texts]
        labels = [tuple("O" if len(word) < 5 else "B-WORD" for word in words) for words in texts]
    return Texts(texts, labels, "tickets.csv", pd.DataFrame({"text": texts}), task)


@pytest.fixture(scope="session")
def taught(model_folder):
    """The result of training a teacher of three members on 24 texts, with out-of-fold predictions unless `cv` is None.

    The same settings are trained once.
    """

    @functools.cache
    def train(task="single_label", tuning="full", cv=2, strategy="ensemble", **recipe):
        settings = {"model": model_folder, "task": task, "epochs": 2, "max_length": 20, "learning_rate": 1e-3}
        members = {"members": 3} if "ensemble" in strategy else {}
        plan = Recipe.of(None, strategy, tuning, members, SMALL_TUNINGS.get(tuning), **{**settings, **recipe})
        return fine_tune(toy_texts(task), plan, progress=False, device="cpu", cv=cv)

    return train
