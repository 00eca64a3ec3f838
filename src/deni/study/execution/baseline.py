"""A pack whose strategy is a baseline: fitted once, since none of the seeds in which its cells differ reaches it."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence

import numpy as np

from deni.baselines import Baseline
from deni.errors import InputWarning
from deni.models.devices import find_device
from deni.models.tokenizing import encode
from deni.provenance import environment
from deni.study.cell import CellResult
from deni.study.execution.job import Job
from deni.study.library import Library
from deni.tasks import TASKS


def run_baseline(jobs: Sequence[Job], library: Library, device: str | None = None) -> list[CellResult]:
    """Fit the baseline of these cells on their labeled texts, and predict those that they are measured on.

    Args:
        jobs: of cells that differ in `seed` alone.
        library: what is read already.
        device: where an encoder computes, see `deni.models.devices.find_device`.

    Returns:
        The same for each cell, but for the file that it names; `seconds` are those of the one fit.

    Raises:
        InputError, SettingError: texts for which the baseline makes no sense.
    """
    recipe, baseline = jobs[0].recipe, jobs[0].recipe.strategy
    assert isinstance(baseline, Baseline)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)  # each was shown when the study was read
        train, measured = jobs[0].texts(library)
        began = time.perf_counter()
        fitted = baseline.fit(train, recipe, device)
        outputs = fitted.outputs(measured.texts)
    seconds = time.perf_counter() - began
    gold, task = encode(measured, fitted.labels), TASKS[recipe.task]
    return [
        CellResult(
            log_probs=outputs[:, None],
            gold=np.asarray(gold),
            text_ids=measured.frame.index.to_numpy(),
            labels=tuple(fitted.labels),
            fingerprint=library.fingerprint_of_data(job.cell),
            metrics=task.scores(gold, outputs),
            cost={"member_steps": 0, "seconds": round(seconds, 3)},
            diagnostics={"pack": len(jobs), **fitted.notes},
            environment=environment(find_device(device)),
        )
        for job in jobs
    ]
