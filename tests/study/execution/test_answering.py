"""Studies of language models that generate: what is kept of each cell is what its model answers."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from deni.analysis.predictions import measure_answers
from deni.analysis.runs import read_runs
from deni.cli import main
from deni.errors import InputError
from deni.finetune import fine_tune
from deni.study.execution.pack import run_pack
from deni.study.library import Library
from deni.study.plan import read_study
from deni.study.store.archive import opened
from deni.study.store.database import Store
from deni.study.store.rows import Outputs, pack_arrays
from deni.study.store.validate import DamagedCellError, check_arrays
from tests.helpers.generators import save_generator

STRATEGIES = ("default", {"name": "deni", "members": 3}, {"name": "ensemble", "members": 2}, "soup")
ROWS = [(f"{a}+{b}=", str(a + b)) for a in range(6) for b in range(6)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_generator(tmp_path_factory.mktemp("llama"), "llama")


@pytest.fixture
def study(tmp_path, model):
    """Write a study of two seeds; its file and its path."""

    def write(strategies, **changed):
        lines = [json.dumps({"prompt": prompt, "completion": answer}) for prompt, answer in ROWS]
        (tmp_path / "sums.jsonl").write_text("\n".join(lines))
        said = {
            "datasets": [{"path": "sums.jsonl", "task": "generation"}],
            "models": [model],
            "tunings": [{"name": "lora", "lora_r": 4}],
            "strategies": list(strategies),
            "labelled": 24,
            "seeds": 2,
            "test_size": 6,
            "recipe": {"epochs": 10, "learning_rate": 0.03},
            **changed,
        }
        (tmp_path / "study.yaml").write_text(json.dumps(said))
        return tmp_path / "study.yaml"

    return write


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_a_cell_of_a_pack_answers_as_its_model_alone(study, strategy):
    planned = read_study(study([strategy]))
    (pack,) = planned.packs
    for job, found in zip(pack, run_pack(pack, Library()), strict=True):
        train, measured = job.texts(Library())
        alone = fine_tune(train, job.recipe, progress=False)
        expected = alone.test(measured)
        assert found.answers.tolist() == expected.answers
        assert found.gold.tolist() == measured.labels
        for name, value in expected.metrics.items():
            assert found.metrics[name] == pytest.approx(value, rel=1e-4), name
        tokens = found.log_probs[:, 0].sum(0)
        assert tokens[2] == sum(len(answer) + 1 for answer in measured.labels)
        assert np.exp(-tokens[0] / tokens[2]) == pytest.approx(expected.metrics["perplexity"], rel=1e-4)
        population = alone.trainer.population
        if population.members > 1 and job.recipe.strategy.runs == 1:
            population.merge()
            of_mean = alone.test(measured)
            assert found.metrics["merged_exact_match"] == of_mean.metrics["exact_match"]
            assert found.metrics["merged_perplexity"] == pytest.approx(of_mean.metrics["perplexity"], rel=1e-4)
            assert found.metrics["disagreement"] == pytest.approx(expected.disagreement)
        else:
            assert found.merged is None


def test_answers_of_the_seeds_differ(study):
    (pack,) = read_study(study(["default"])).packs
    one, other = run_pack(pack, Library())
    assert one.answers.tolist() != other.answers.tolist()


def test_a_run_that_diverges_fails_alone(study):
    rates = {"seeds": 1, "tunings": ["full"], "factor": {"learning_rate": [0.02, 1e30]}, "recipe": {"epochs": 5}}
    (pack,) = read_study(study(["default"], **rates)).packs
    good, bad = run_pack(pack, Library())
    assert isinstance(bad, str)
    assert "diverged" in bad.lower()
    train, measured = pack[0].texts(Library())
    assert good.answers.tolist() == fine_tune(train, pack[0].recipe, progress=False).test(measured).answers


def test_the_command_runs_reports_and_archives(study, tmp_path):
    file, store, run = study(STRATEGIES[:2]), tmp_path / "s.db", CliRunner().invoke
    assert run(main, ["study", "run", str(file), "--store", str(store), "--threads", "1"]).exit_code == 0
    archive = tmp_path / "s.parquet"
    assert run(main, ["study", "export", str(store), "--archive", "--output", str(archive)]).exit_code == 0
    page, table = tmp_path / "page.html", tmp_path / "table.csv"
    done = run(main, ["report", str(archive), "--output", str(page), "--csv", str(table)])
    assert done.exit_code == 0, done.output
    assert "exact match" in page.read_text()
    with Store(store) as kept, opened(archive) as archived:
        for row in kept.results():
            mine, its = kept.outputs(row.key), archived.outputs(row.key)
            assert mine.answers.tolist() == its.answers.tolist()
            assert np.array_equal(mine.log_probs, its.log_probs)
        groups = read_runs(kept).groups
        for group in groups:
            hits = [row.metrics["exact_match"] for row in group.rows]
            assert group.scores.tolist() == hits
            answers = [kept.outputs(row.key).answers.tolist() for row in group.rows]
            differ = [one != other for one, other in zip(*answers, strict=True)]
            assert group.blocks[0].measures.disagreement == pytest.approx(np.mean(differ))
        as_one = next(group for group in read_runs(kept, as_one_model=True).groups if "as one" in group.strategy)
        assert as_one.scores.tolist() == [row.metrics["merged_exact_match"] for row in as_one.rows]
        assert as_one.blocks[0].measures is None


def test_disagreement_of_answers_counts_pairs_of_seeds():
    answers = np.array([["a", "b", "c "], ["a", "x", "c"], ["a", "y", "c"]])
    assert measure_answers(answers).disagreement == pytest.approx(1 / 3)
    assert np.isnan(measure_answers(answers[:1]).disagreement)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"strategies": ["auto"]}, "auto has no evidence for the task generation"),
        ({"strategies": ["majority"]}, "majority is for models that label texts"),
        ({"strategies": ["distilled"]}, "distilled is for models that label texts"),
        ({"strategies": ["linear_probe"]}, "linear_probe is for models that label texts"),
        ({"models": ["minilm"]}, "models[0]: model 'minilm' is BertModel, which does not generate texts"),
        ({"tunings": ["prompt"]}, "tuning prompt is not for the task generation"),
        ({"recipe": {"dropout": 0.1}}, "dropout is of models that label texts"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_trained(study, changed, said):
    file = study(**{"strategies": ["default"], **changed})
    with pytest.raises(InputError) as caught:
        read_study(file)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"answers": np.array(["a"])}, "answers is (1,), not (2,)"),
        ({"answers": np.array([1, 2])}, "answers holds no texts"),
        ({"gold": np.array([1, 2])}, "gold holds no texts"),
        ({"answers": None}, "gold holds no numbers"),
    ],
)
def test_damaged_answers_are_found(changed, said):
    sums = torch.ones(2, 1, 3).numpy()
    outputs = Outputs(sums, np.array(["a", "b"]), np.arange(2), None, np.array(["a", "c"]))
    assert check_arrays(pack_arrays(outputs), ["x"] * 3).answers.tolist() == ["a", "c"]
    with pytest.raises(DamagedCellError) as caught:
        check_arrays(pack_arrays(outputs._replace(**changed)), ["x"] * 3)
    assert said in str(caught.value)
