"""A summary of a training that has nothing in it but what a test gives."""

from typing import Any

import pandas as pd

from deni.report.training.summary import TrainingSummary


def bare_summary(**given: Any) -> TrainingSummary:
    """No test split, no member, no cost."""
    values: dict[str, Any] = {
        **{"data": "made", "train_texts": 50, "metrics": {}, "on_test": None, "missing": {}, "phases": []},
        **{name: pd.DataFrame() for name in ("losses", "scores", "forks", "excess")},
        **{"failures": [], "failed_forks": [], "schedule": "", "member_steps": 1, "plain_steps": 1, "voters": 1},
        **{"seconds": 1.0, "resumed": False, "settings": {}, "environment": {}, "commands": []},
    }
    return TrainingSummary(**{**values, **given})
