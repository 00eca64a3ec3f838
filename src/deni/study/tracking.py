"""The cells of a study as runs of MLflow: one a cell, with its settings, metrics and cost."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from deni.errors import InputError, InputWarning
from deni.study.store.rows import Row
from deni.training.loggers import check_tool, parameters

KEY, STUDY = "deni.key", "deni.study"  # tags of a run
LONGEST = 500  # characters of a parameter


class CellLog:
    """Logs cells that are done, each once: those that have a run are left out, whoever logged them.

    MLflow's environment variables say where, and `MLFLOW_EXPERIMENT_NAME` in which experiment; without it that has the
    name of the study.

    Args:
        study: its name.

    Raises:
        InputError: MLflow is not installed, or cannot be reached.
    """

    def __init__(self, study: str) -> None:
        check_tool("mlflow")
        from mlflow import MlflowClient, get_tracking_uri
        from mlflow.exceptions import MlflowException

        self._name, self._experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME") or study, ""
        self._logged: set[str] = set()
        try:
            self._client = MlflowClient()
            found = self._client.get_experiment_by_name(self._name)
            if found is not None:
                self._experiment = found.experiment_id
                self._logged = set(self._logged_keys())
        except MlflowException as error:
            why = " ".join(str(error).split())
            raise InputError(f"--report-to mlflow cannot log to {get_tracking_uri()}: {why:.200}") from error

    def log(self, rows: Iterable[Row]) -> None:
        """Log those of these cells that have no run yet; a warning where MLflow does not take them, now."""
        from mlflow.exceptions import MlflowException

        try:
            for row in rows:
                if row.key not in self._logged:
                    self._log(row)
                    self._logged.add(row.key)
        except MlflowException as error:
            why = " ".join(str(error).split())
            warnings.warn(
                f"MLflow has not all cells ({why:.200}): the same command logs them later", InputWarning, stacklevel=2
            )

    def _log(self, row: Row) -> None:
        from mlflow.entities import Metric, Param

        cell, client = row.cell, self._client
        self._experiment = self._experiment or client.create_experiment(self._name)
        name = f"{cell.label or cell.strategy.name} {cell.dataset['name']} seed {cell.seed}"
        run = client.create_run(self._experiment, run_name=name, tags={KEY: row.key, STUDY: row.study}).info.run_id
        settings = [Param(key, str(value)[:LONGEST]) for key, value in parameters(cell.to_json())]
        metrics = [Metric(key, value, 0, 0) for key, value in _numbers({**row.metrics, **row.cost})]
        client.log_batch(run, metrics=metrics, params=settings)
        client.set_terminated(run)

    def _logged_keys(self) -> Iterator[str]:
        """Keys of the runs that are whole; others, of a process that was killed, are deleted."""
        token = None
        while True:
            page = self._client.search_runs([self._experiment], f"tags.`{KEY}` LIKE '%'", page_token=token)
            for run in page:
                if run.info.status == "FINISHED":
                    yield run.data.tags[KEY]
                else:
                    self._client.delete_run(run.info.run_id)
            token = page.token
            if not token:
                return


def _numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, int | float):
            yield name, float(value)
