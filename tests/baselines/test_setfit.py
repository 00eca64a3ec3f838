"""SetFit as a baseline: what the package itself predicts, and what is refused."""

import pickle
import shutil
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from deni.baselines import make_baseline
from deni.data import Texts
from deni.errors import InputError, SettingError
from deni.recipe import Recipe
from tests.helpers.tiny import toy_rows

ROWS = toy_rows(4)
TEXTS, LABELS = [text for text, _ in ROWS], [label for _, label in ROWS]
HAS_SETFIT = find_spec("setfit") is not None
needs_setfit = pytest.mark.skipif(not HAS_SETFIT, reason='needs the package setfit: pip install "deni[setfit]"')


def texts_of(texts, labels, task="single_label", order=()):
    return Texts(texts, labels, "toy", None, task, order)


@pytest.mark.skipif(HAS_SETFIT, reason="the package setfit is there")
def test_without_the_package_one_line_says_what_to_install():
    with pytest.raises(InputError, match=r'needs the package setfit: pip install "deni\[setfit\]"'):
        make_baseline("setfit").fit(texts_of(TEXTS, LABELS), Recipe())
    with pytest.raises(InputError, match="needs the package setfit"):
        make_baseline("setfit").settings()


@pytest.mark.parametrize(
    ("texts", "labels", "task", "why"),
    [
        ([("a", "b")], [("O", "B-X")], "token", "take frequent_tag"),
        (["a", "b"], [("x",), ("y",)], "multi_label", "is for one class a text, not for multi_label"),
        (["a", "b"], [1.0, 2.0], "regression", "not for regression: take frozen"),
        ([("a", "b"), ("c", "d")], ["x", "y"], "single_label", "each row has two"),
    ],
)
def test_texts_for_which_it_makes_no_sense_are_refused(texts, labels, task, why):
    with pytest.raises(SettingError, match=why):
        make_baseline("setfit").fit(texts_of(texts, labels, task), Recipe(task=task))


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(SettingError, match="setfit_steps must be at least 1, not 0"):
        make_baseline("setfit", setfit_steps=0)


@needs_setfit
@pytest.mark.filterwarnings("ignore:'pin_memory':UserWarning")  # of the plain training below
def test_it_predicts_what_the_package_predicts(model_folder, tmp_path, capfd):
    import setfit
    from datasets import Dataset

    classes = sorted(set(LABELS))
    model = setfit.SetFitModel.from_pretrained(model_folder, device="cpu")
    rows = Dataset.from_dict({"text": TEXTS, "label": [classes.index(label) for label in LABELS]})
    settings = {"output_dir": str(tmp_path), "num_iterations": 2, "max_steps": 3, "report_to": "none"}
    setfit.Trainer(model=model, args=setfit.TrainingArguments(**settings), train_dataset=rows).train()
    expected = model.predict_proba(TEXTS, as_numpy=True)
    capfd.readouterr()
    torch.manual_seed(7)
    before = torch.get_rng_state()
    baseline = make_baseline("setfit", setfit_iterations=2, setfit_steps=3)
    found = baseline.fit(texts_of(TEXTS, LABELS), Recipe(model=model_folder), "cpu")
    assert np.allclose(np.exp(found.outputs(TEXTS)), expected, atol=1e-5)
    assert found.notes["steps"] == 3
    assert torch.equal(torch.get_rng_state(), before)
    assert "it/s" not in capfd.readouterr().err
    assert {"setfit version", "setfit_iterations", "setfit_steps"} < set(baseline.settings())


@needs_setfit
def test_a_pickle_beside_the_encoder_is_not_read(model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "encoder")
    (folder / "model_head.pkl").write_bytes(pickle.dumps(Touches(tmp_path / "touched")))
    baseline = make_baseline("setfit", setfit_steps=1)
    baseline.fit(texts_of(TEXTS, LABELS), Recipe(model=str(folder)), "cpu")
    assert not (tmp_path / "touched").exists()


class Touches:
    """Makes a file when it is unpickled."""

    def __init__(self, file):
        self.file = str(file)

    def __reduce__(self):
        return (open, (self.file, "w"))


@needs_setfit
def test_a_class_without_a_text_has_no_probability_and_one_text_a_class_is_too_few(model_folder):
    order = ("billing", "delivery", "login", "none")
    baseline, recipe = make_baseline("setfit", setfit_steps=1), Recipe(task="ordinal", model=model_folder)
    found = baseline.fit(texts_of(TEXTS, LABELS, "ordinal", order), recipe, "cpu")
    outputs = found.outputs(TEXTS)
    assert outputs.shape == (len(TEXTS), 4)
    assert np.isfinite(outputs).all()
    assert np.exp(outputs[:, 3]).max() < 1e-30
    with pytest.raises(InputError, match="no class has two"):
        baseline.fit(texts_of(["a", "b"], ["x", "y"]), Recipe(model=model_folder), "cpu")
