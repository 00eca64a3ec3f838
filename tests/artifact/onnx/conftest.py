from typing import NamedTuple

import pytest

from deni.artifact import export
from tests.helpers.graphs import make_artifact, population_of

pytest.importorskip("onnxscript", reason="the extra onnx is not installed")


class Exported(NamedTuple):
    artifact: str
    graph: str


@pytest.fixture(scope="session")
def vote_graph(tmp_path_factory, model_folder):
    """The vote of three members with LoRA, calibrated."""
    folder = tmp_path_factory.mktemp("vote")
    calibration = {"vote": {"temperature": 2.5}}
    artifact = make_artifact(folder / "model", model_folder, population_of(), calibration=calibration)
    (graph,) = export(artifact, folder / "out", "onnx")
    return Exported(artifact, graph)


@pytest.fixture(scope="session")
def mean_graph(tmp_path_factory, model_folder):
    """The mean of three whole models with an output for each word, calibrated."""
    folder = tmp_path_factory.mktemp("mean")
    calibration = {"vote": {"temperature": 0.5}, "merged": {"temperature": 3.0}}
    population = population_of("full", "Token")
    folds = {"folds": 5, "metric": "entity_f1", "score": 0.7, "low": 0.6, "high": 0.8, "confidence": 0.95}
    folds |= {"trained_on": 0.8, "merged": {"score": 0.65, "low": 0.5, "high": 0.75}}
    known = {"calibration": calibration, "cross_validation": folds, "metrics": {"entity_f1": 0.9}}
    artifact = make_artifact(folder / "model", model_folder, population, "token", **known)
    (graph,) = export(artifact, folder / "out", "onnx", mean=True)
    return Exported(artifact, graph)
