"""The studies in `results/`, and the pages that are written of them."""

import importlib.util
from pathlib import Path

import pytest

from deni.study.spec.grid import read_grid
from deni.study.store.archive import write_archive
from deni.study.store.database import Store
from tests.helpers.made import make, runs

RESULTS = Path(__file__).parents[1] / "results"
PAGES = RESULTS.parent / "docs" / "reproduction"


def script(name):
    spec = importlib.util.spec_from_file_location(f"results_{name}", RESULTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


report, run = script("report"), script("run")


@pytest.mark.parametrize("name", sorted(path.stem for path in RESULTS.glob("*.yaml")))
def test_a_study_can_be_run_and_reported_and_is_listed(name):
    assert len(list(read_grid(RESULTS / f"{name}.yaml").points())) > 0
    assert name in run.STUDIES
    assert name in report.BASELINES
    assert f"[{name}]({name}.yaml)" in (RESULTS / "README.md").read_text()


@pytest.mark.parametrize("name", sorted(path.stem for path in RESULTS.glob("*.parquet")))
def test_a_page_is_of_the_archive_and_the_study_beside_it(name):
    """The whole page is compared by `results/report.py --check`, which takes half a minute."""
    page = (PAGES / f"{name}.md").read_text()
    assert f"`results/{name}.parquet` (SHA-256 {report.sha_of(name)})" in page
    question, _, rest = (RESULTS / f"{name}.yaml").read_text().partition("\n")
    assert question.removeprefix("# ") in page
    assert rest.strip() in page
    assert f"reproduction/{name}.md" in (RESULTS.parent / "mkdocs.yml").read_text()
    assert f"reproduction/{name}.md" in (RESULTS.parent / "docs" / "reproduction.md").read_text()


def test_the_page_of_an_unfinished_study(tmp_path, monkeypatch):
    study = "# Which is better?\nname: made\ndatasets: [trec]\nmodels: [minilm]\ntunings: [lora]\n"
    (tmp_path / "made.yaml").write_text(f"{study}strategies: [default, ensemble, soup]\nseeds: 5\n")
    strategies = {"default": (0.6, 0.04), "ensemble": (0.9, 0.01)}
    cells = [each for name, (right, spread) in strategies.items() for each in runs(name, right, 5, spread=spread)]
    make(tmp_path / "made.db", cells)
    with Store(tmp_path / "made.db") as store:
        write_archive(store, tmp_path / "made.parquet")
    monkeypatch.setattr(report, "HERE", tmp_path)
    monkeypatch.setattr(report, "PAGES", tmp_path / "docs" / "reproduction")
    monkeypatch.setitem(report.BASELINES, "made", ("default", "ensemble"))
    report.write("made", check=False)
    page = (tmp_path / "docs" / "reproduction" / "made.md").read_text()
    assert "\nWhich is better?\n" in page
    assert "**Not finished: 10 of 15 runs are done.**" in page
    assert f"(SHA-256 {report.sha_of('made')})" in page
    overview = page.partition("<!-- overview -->")[2].partition("<!-- /overview -->")[0]
    assert "\n| default |" in overview
    assert "\n| ensemble |" in overview
    assert page.count("## Comparisons with default") == 1
    assert "## Shown\n\n- " in page
    assert "## Not shown" not in page  # everything is
    for figure in (tmp_path / "docs" / "images" / "reproduction" / "made").glob("*.svg"):
        assert f"images/reproduction/made/{figure.name}" in page
    report.write("made", check=True)
    (tmp_path / "docs" / "reproduction" / "made.md").write_text(page.replace("10 of 15", "15 of 15"))
    with pytest.raises(SystemExit, match="is not what made"):
        report.write("made", check=True)
