"""Metrics of several seeds are the means of what plain trainers of the single seeds report."""

import copy
import random

import numpy as np
import pytest
import torch
from transformers import Trainer

from deni.errors import SettingError
from deni.training.seed_metrics import mean_of_metrics
from tests.helpers.tiny import make_tiny
from tests.helpers.trainers import fresh, make, rows

SEEDS = [0, 1, 2]


def hits(prediction):
    """Whether each text, or each token, is right; predictions may be chosen already, and come batch by batch."""
    batches = [prediction.predictions], [prediction.label_ids]
    if isinstance(prediction.predictions, list):
        batches = prediction.predictions, prediction.label_ids
    right = []
    for outputs, labels in zip(*batches, strict=True):
        outputs, labels = np.asarray(outputs), np.asarray(labels)
        chosen = outputs.argmax(-1) if outputs.ndim > labels.ndim else outputs
        right += (chosen == labels)[labels != -100].tolist()
    return right


def accuracy(prediction):
    return {"accuracy": float(np.mean(hits(prediction)))}


def of_all_kinds(prediction):
    right = hits(prediction)
    return {"halves": [float(np.mean(right[:6])), np.float32(np.mean(right[6:]))], "none": None, "count": len(right)}


def of_inputs(prediction):
    longest = np.asarray(prediction.inputs).max(1)
    return {"weighted": float((longest * np.asarray(hits(prediction))).sum())}


def of_losses(prediction):
    return {"largest": float(np.max(prediction.losses)), "rows": len(prediction.losses)}


def batch_by_batch():
    right = []

    def compute(prediction, compute_result):
        right.extend(hits(prediction))
        if not compute_result:
            return {}
        result = {"accuracy": float(np.mean(right)), "count": len(right)}
        right.clear()
        return result

    return compute


CASES = {
    "plain": ({}, lambda: accuracy, None),
    "lists and None": ({}, lambda: of_all_kinds, None),
    "batch_eval_metrics": ({"batch_eval_metrics": True}, batch_by_batch, None),
    "include_for_metrics": ({"include_for_metrics": ["inputs"]}, lambda: of_inputs, None),
    "include_for_metrics loss": ({"include_for_metrics": ["loss"]}, lambda: of_losses, None),
    "eval_do_concat_batches": ({"eval_do_concat_batches": False}, lambda: accuracy, None),
    "preprocess": ({}, lambda: accuracy, lambda logits, labels: logits.argmax(-1)),
    "preprocess to several": ({}, lambda: first_of_two, lambda logits, labels: (logits.argmax(-1), logits * 0)),
}


def first_of_two(prediction):
    chosen, zeros = prediction.predictions
    assert zeros.shape == (*chosen.shape, 3)
    right = (chosen == prediction.label_ids)[prediction.label_ids != -100]
    return {"accuracy": float(right.mean())}


def token_rows(count=12, seed=3):
    draw = random.Random(seed)
    return [
        {
            "input_ids": [draw.randrange(5, 60) for _ in range(9)],
            "labels": [draw.choice([-100, 0, 1, 2]) for _ in range(9)],
        }
        for _ in range(count)
    ]


def tokens():
    model = make_tiny("bert", task="Token")
    with torch.no_grad():
        model.classifier.weight.normal_()  # from the generator of the run
    return model


@pytest.mark.parametrize(
    ("kind", "case"),
    [*(("texts", case) for case in CASES), *(("tokens", case) for case in CASES if "include" not in case)],
)
def test_every_option_of_metrics_is_that_of_the_seeds_alone(tmp_path, kind, case):
    settings, compute, preprocess = CASES[case]
    settings = {**settings, "per_device_eval_batch_size": 5}
    data = rows(12, 3) if kind == "texts" else token_rows()
    options = {"args": settings, "train": data, "eval_dataset": data, "preprocess_logits_for_metrics": preprocess}
    init = fresh if kind == "texts" else tokens
    trainer = make(tmp_path, model_init=init, seeds=SEEDS, compute_metrics=compute(), **options)
    ours = trainer.evaluate()
    alone = []
    for run in range(len(SEEDS)):
        with trainer.population.alone(run) as model:
            plain = copy.deepcopy(model)
        reference = Trainer(
            plain,
            copy.copy(trainer.args),
            eval_dataset=data,
            compute_metrics=compute(),
            preprocess_logits_for_metrics=preprocess,
        )
        alone.append(reference.evaluate())
    about_time = ("eval_runtime", "eval_samples", "eval_steps", "eval_model", "epoch")
    names = [key for key in alone[0] if not key.startswith(about_time)]
    assert len(names) > 1
    assert len({each["eval_loss"] for each in alone}) == len(SEEDS)
    for name in names:
        values = [each[name] for each in alone]
        if values[0] is None:
            assert ours[name] is None
        else:
            assert ours[name] == pytest.approx(np.mean(values, axis=0), rel=1e-6)


def test_metrics_that_have_no_mean_are_those_of_each_seed():
    metrics = [
        {"name": "a", "of": {"x": 1, "y": [1, 2]}, "odd": [1]},
        {"name": "b", "of": {"x": 2, "y": [3, 4]}, "odd": []},
    ]
    assert mean_of_metrics(metrics) == {"name": ["a", "b"], "of": {"x": 1.5, "y": [2.0, 3.0]}, "odd": [[1], []]}


def test_inputs_for_metrics_of_seeds_with_their_own_rows_are_refused(tmp_path):
    sets = [rows(12, seed) for seed in SEEDS]
    with pytest.raises(SettingError, match="where each seed has its own eval_dataset"):
        make(
            tmp_path,
            model_init=fresh,
            seeds=SEEDS,
            eval_dataset=sets,
            args={"include_for_metrics": ["inputs"]},
            compute_metrics=of_inputs,
        )


def test_members_are_not_preprocessed(tmp_path):
    trainer = make(tmp_path, model_init=fresh, seeds=SEEDS, preprocess_logits_for_metrics=lambda logits, _: logits * 0)
    assert np.abs(trainer.predict_members(rows(6))).min() > 0
