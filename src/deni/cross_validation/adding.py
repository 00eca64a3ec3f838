"""What is fitted on out-of-fold predictions, or on a dev split, when the model is trained."""

from __future__ import annotations

from deni.artifact import scope_of
from deni.cross_validation.calibrating import calibrate
from deni.data import Texts
from deni.finetune import FineTuneResult


def fit_added(result: FineTuneResult, train: Texts, dev: Texts | None = None, progress: bool = False) -> None:
    """Fit what goes with a trained model into its `deni.json`: keys of `FineTuneResult.added`.

    Args:
        result: with its `out_of_fold` predictions; without them only `dev` serves.
        train: the texts that it was trained on, in the order of `out_of_fold`.
        dev: labeled texts that it was not trained on, where there is a dev split.
        progress: show a bar while the texts are read.
    """
    result.added |= calibrate(result, dev)
    result.scope = scope_of(result.classifier(progress), train.texts)
