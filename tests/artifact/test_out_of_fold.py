"""Out-of-fold predictions are read as they were written; what is damaged is refused in one line."""

import json
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
from safetensors.numpy import load, save

from deni.artifact import OUT_OF_FOLD, OutOfFold, as_bytes, digests_of, read_out_of_fold
from deni.errors import ArtifactError

TEXTS = ["where is it", ("a", "b"), "a\x1fc"]
LOGS = np.log([[[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]], [[0.4, 0.6], [0.8, 0.2], [0.3, 0.7]]])
FOUND = OutOfFold(
    outputs={"vote": LOGS, "merged": LOGS.astype(np.float32)},
    folds=np.array([[0, 1, 1], [1, 0, 1]]),
    gold=[1, 0, 1],
    digests=digests_of(TEXTS),
    labels=["käse", "no"],
)


def written(folder, found=FOUND, content=None):
    """A folder as an artifact has it, as far as it is read here."""
    content = content or as_bytes(found)
    (folder / OUT_OF_FOLD).write_bytes(content)
    (folder / "deni.json").write_text(json.dumps({"files": {OUT_OF_FOLD: len(content)}}))
    return folder


def same(one, other):
    assert one.outputs.keys() == other.outputs.keys()
    for name, values in one.outputs.items():
        assert values.dtype == other.outputs[name].dtype
        np.testing.assert_array_equal(values, other.outputs[name])
    np.testing.assert_array_equal(one.folds, other.folds)
    assert (one.gold, one.digests, one.labels) == (other.gold, other.digests, other.labels)


def test_what_is_written_is_read(tmp_path):
    found = read_out_of_fold(written(tmp_path))
    same(found, FOUND)
    assert found.texts is None


def test_words_have_their_texts(tmp_path):
    words = replace(FOUND, texts=np.array([0, 0, 1]), digests=FOUND.digests[:2])
    found = read_out_of_fold(written(tmp_path, words))
    same(found, words)
    assert found.texts.tolist() == [0, 0, 1]


@pytest.mark.parametrize("gold", [[[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]], [1.5, -2.0, 0.0]])
def test_labels_of_other_tasks_are_read_as_they_were(tmp_path, gold):
    assert read_out_of_fold(written(tmp_path, replace(FOUND, gold=gold))).gold == gold


def test_a_digest_is_that_of_the_text_or_of_its_parts():
    assert digests_of(TEXTS) == [sha256(text.encode()).hexdigest() for text in ("where is it", "a\x1fb", "a\x1fc")]


def test_a_model_without_cross_validation_has_none(tmp_path):
    (tmp_path / "deni.json").write_text("{}")
    assert read_out_of_fold(tmp_path) is None


def test_predictions_that_are_listed_and_missing_are_missed(tmp_path):
    (written(tmp_path) / OUT_OF_FOLD).unlink()
    with pytest.raises(ArtifactError, match=f"{OUT_OF_FOLD} is missing: copy or train the model again"):
        read_out_of_fold(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: tensors.pop("outputs.vote"), "outputs.vote is missing"),
        (lambda tensors: tensors.pop("gold"), "gold is missing"),
        (lambda tensors: tensors.update(gold=np.zeros(2)), "3 labels were expected"),
        (lambda tensors: tensors.update(folds=np.array([[0, -1, 1], [0, 0, 0]])), "whole numbers of at least 0"),
        (lambda tensors: tensors.update(folds=np.zeros((0, 3), int)), "whole numbers of at least 0"),
        (lambda tensors: tensors.update({"outputs.vote": LOGS[:1]}), r"numbers of shape \(2, 3, 2\) were expected"),
        (lambda tensors: tensors.update({"outputs.merged": LOGS * np.nan}), "outputs.merged has a value that is NaN"),
        (lambda tensors: tensors.update(digests=np.zeros((3, 31), np.uint8)), "32 bytes a text were expected"),
        (lambda tensors: tensors.update(digests=np.zeros((2, 32), np.uint8)), "2 texts where 3 were expected"),
        (lambda tensors: tensors.update(texts=np.array([0, 1, 3])), "from 0 to 2"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, said):
    tensors = dict(load(as_bytes(FOUND)))
    change(tensors)
    written(tmp_path, content=save(tensors, metadata={"labels": json.dumps(FOUND.labels)}))
    with pytest.raises(ArtifactError, match=said) as raised:
        read_out_of_fold(tmp_path)
    assert str(raised.value).startswith(str(tmp_path / OUT_OF_FOLD))
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("labels", [None, "[]", "[1, 2]", "{"])
def test_names_of_classes_that_are_none_are_refused(tmp_path, labels):
    metadata = None if labels is None else {"labels": labels}
    written(tmp_path, content=save(dict(load(as_bytes(FOUND))), metadata=metadata))
    with pytest.raises(ArtifactError, match=OUT_OF_FOLD):
        read_out_of_fold(tmp_path)


def test_a_file_that_is_cut_is_refused(tmp_path):
    written(tmp_path)
    (tmp_path / OUT_OF_FOLD).write_bytes(as_bytes(FOUND)[:-8])
    with pytest.raises(ArtifactError, match="bytes where"):
        read_out_of_fold(tmp_path)
    (tmp_path / "deni.json").write_text("{}")  # nor is it read where nobody says how large it is
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_out_of_fold(tmp_path)
