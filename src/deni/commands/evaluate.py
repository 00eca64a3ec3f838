"""What `deni evaluate` does: an artifact is evaluated on a file of labeled examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deni.artifact import load
from deni.artifact.calibration import measure, why_not_calibrated
from deni.commands.reading import read_for_model
from deni.data import read_data
from deni.errors import InputError
from deni.models.tokenizing import encode
from deni.tasks import TASKS


def evaluate_file(
    model: str | Path,
    file: str | Path,
    *,
    text_column: str | None = None,
    text_pair_column: str | None = None,
    label_column: str | None = None,
    split: str | None = None,
    config_name: str | None = None,
    revision: str | None = None,
    device: str | None = None,
    calibrated: bool = True,
    progress: bool = False,
) -> dict[str, Any]:
    """Macro F1, accuracy, MCC and F1 of each class, of an artifact on a file or dataset with labels.

    Other tasks have their own metrics, `deni.tasks.Task.metrics`; of words F1 of each type of entity. Where the model
    has probabilities, `calibration` has their expected calibration error, Brier score and negative log likelihood.
    A model that generates answers the prompts, see `deni.artifact.generator.TextGenerator.evaluate`.

    Args:
        file: as in `deni.commands.train.train_file`, and so are the columns, `split` and `config_name`.
        revision: of a model of the hub, see `deni.load`.
        device: where to compute, see `deni.models.devices.find_device`.
        calibrated: whether probabilities are calibrated, see `deni.artifact.load`.

    Raises:
        InputError: a label that training never saw, a file that cannot be read, or an option that the model has no use
            for.
    """
    classifier = load(model, device, calibrated=calibrated, revision=revision)
    classifier.progress = progress
    if TASKS[classifier.task].generates:
        of_labels = {"--text-pair-column": text_pair_column, "--uncalibrated": not calibrated}
        if given := [name for name, value in of_labels.items() if value]:
            raise InputError(f"{model} generates texts and labels none: omit {' and '.join(given)}")
        of_prompts: dict[str, Any] = {"text_column": text_column, "label_column": label_column}
        texts = read_data(file, task=classifier.task, split=split, config_name=config_name, **of_prompts)
        generator: Any = classifier
        return {"texts": len(texts), **generator.evaluate(texts, progress=progress)}
    columns = {"text_column": text_column, "label_column": label_column, "split": split, "config_name": config_name}
    texts = read_for_model(classifier, file, text_pair_column, **columns)
    task = TASKS[classifier.task]
    gold, votes = encode(texts, classifier.labels), classifier.votes(texts.texts)
    by_class = task.scores_by_class(gold, votes, classifier.labels)
    scores = task.scores(gold, votes, classifier.labels)
    measured = {} if why_not_calibrated(task, classifier.combine) else {"calibration": measure(votes, gold, task)}
    return {"texts": len(texts), **scores, **measured, **({"f1": by_class} if by_class or task.chooses else {})}
