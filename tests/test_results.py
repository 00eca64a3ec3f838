"""The studies in `results/`, and the pages that are written of them."""

import dataclasses
import functools
import importlib.util
import operator
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from deni.study.spec.grid import read_grid
from deni.study.store.archive import write_archive
from deni.study.store.database import Store
from tests.helpers.made import make, runs

RESULTS = Path(__file__).parents[1] / "results"
DOCS = RESULTS.parent / "docs"


def script(name):
    spec = importlib.util.spec_from_file_location(f"results_{name}", RESULTS / f"{name}.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


report, run, home, which = script("report"), script("run"), script("home"), script("which_strategy")
students = script("students")


def table(page, head):
    """Rows of the first table of a page whose head begins so: first cell -> the others, by column."""
    lines = iter((RESULTS / page).read_text().replace("\\_", "_").replace("\xa0", " ").splitlines())
    columns = next(line for line in lines if line.startswith(head)).strip("| ").split(" | ")
    next(lines)
    rows = (line.strip("| ").split(" | ") for line in iter(lambda: next(lines), ""))
    return {row[0]: dict(zip(columns[1:], row[1:], strict=True)) for row in rows}


def test_the_first_page_shows_twenty_seeds_of_the_archive(tmp_path):
    scores, steps = home.read_scores(RESULTS / "confirmation.parquet")
    assert [len(each) for each in scores.values()] == [20, 20, 20]
    assert home.FIGURE.read_text() == home.draw(scores, steps)
    found = table("confirmation.md", "| strategy | ag_news |")
    for name, points in scores.items():
        assert found[name]["db_pedia"] == f"{points.mean():.1f} ± {points.std(ddof=1):.1f}"
    told = (DOCS / "index.md").read_text()
    values = [found[name]["all 4"] for name in scores]
    assert f"means ± SDs are {values[0]}, {values[1]} and {values[2]}" in told


def test_the_numbers_of_the_guide_to_strategies_are_those_of_the_studies():
    told = (DOCS / "strategies" / "index.md").read_text()
    four, three = (table(page, "| strategy | minus default |") for page in ("confirmation.md", "claims.md"))

    def gain(cell):
        value, low, high = (float(each) for each in re.findall(r"-?\d+\.\d+", cell))
        return f"{value:+.1f}", f"{low:.1f} to {high:.1f}"

    for rows, name in (
        (four, "linear_probe+best_practices"),
        (four, "linear_probe"),
        (four, "ensemble"),
        (three, "ensemble"),
        (three, "deni"),
    ):
        value, interval = gain(rows[name]["minus default"])
        ratio = rows[name]["SD / SD of default"].partition(" ")[0]
        line = next(line for line in told.splitlines() if value in line and ratio in line)
        assert interval in line or (rows, name) == (four, "ensemble")
    assert gain(four["linear_probe+best_practices"]["minus ensemble"])[0] in told


def test_the_page_of_texts_and_strategies_is_what_archives_and_auto_say(monkeypatch):
    assert which.PAGE.read_text() == which.build_page()
    found = {line for study in which.STUDIES for line in which.table_of(which.read_study(study)).splitlines()}
    assert any("what auto takes | 96.2" in line for line in found)
    pages = table("confirmation.md", "| strategy | ag_news |")
    assert pages["linear_probe+best_practices"]["db_pedia"].startswith("96.2 ")
    rows = [dataclasses.replace(row, strategy_settings={"probe_c": 0.5}) for row in which.ROWS]
    monkeypatch.setattr(which, "ROWS", rows)
    monkeypatch.setattr("deni.auto.table.ROWS", rows)
    with pytest.raises(SystemExit, match="no study of STUDIES has what auto takes for pairs, classes: name one"):
        which.build_page()


def test_students_are_paired_with_their_teachers_of_the_archive():
    scores, seconds = students.read_archives()
    assert f"{students.START}{students.build_tables(scores, seconds)}\n{students.END}" in students.PAGE.read_text()
    for labels, names in ((200, ("distillation", "other_pool", "auto_students")), (50, ("few_distillation",))):
        pages = functools.reduce(operator.or_, (table(f"{name}.md", "| strategy | trec |") for name in names))
        for name in (*students.STUDENTS, *students.OTHERS):
            for dataset, each in scores[labels].items():
                points = np.array(list(each[name].values()))
                if len(points) >= 2:
                    assert pages[name][dataset].startswith(f"{points.mean():.1f} ± {points.std(ddof=1):.1f}")
    student, of_trec = students.STUDENTS[0], scores[200]["trec"]
    teachers = of_trec[students.TEACHER]
    assert of_trec[student].keys() == teachers.keys()
    better = {seed: score + 1 + seed % 2 for seed, score in teachers.items()}  # by one and two points in turn
    told = students.build_tables({200: {"trec": {**of_trec, student: better}}}, seconds).replace("\xa0", " ")
    each = np.array([1 + seed % 2 for seed in teachers])
    half = stats.t.ppf(0.975, len(each) - 1) * stats.sem(each)
    interval = f"{each.mean():.2f} ({each.mean() - half:.2f} to {each.mean() + half:.2f})"
    assert f"| student | to | trec, {len(each)} seeds |" in told
    assert f"| 500 texts | teacher of ten | {interval} |" in told


@pytest.mark.parametrize("name", sorted(path.stem for path in RESULTS.glob("*.yaml")))
def test_a_study_can_be_run_and_reported_and_is_listed(name):
    assert len(list(read_grid(RESULTS / f"{name}.yaml").points())) > 0
    assert name in run.STUDIES
    assert name in report.BASELINES
    listed = (RESULTS / "README.md").read_text()
    assert f"| [{name}]({name}.yaml) |" in listed
    assert f"| [page]({name}.md) |" in listed


@pytest.mark.parametrize("name", sorted(path.stem for path in RESULTS.glob("*.parquet")))
def test_a_page_is_of_the_archive_and_the_study_beside_it(name):
    """The whole page is compared by `results/report.py --check`, which takes half a minute."""
    page = (RESULTS / f"{name}.md").read_text()
    assert f"`results/{name}.parquet` (SHA-256 {report.sha_of(name)})" in page
    question, _, rest = (RESULTS / f"{name}.yaml").read_text().partition("\n")
    assert question.removeprefix("# ") in page
    assert rest.strip() in page
    told = (DOCS / "reproduction.md").read_text()
    assert f"(../results/{name}.md" in told


def test_reproduction_is_for_readers():
    """At most 1,200 words and five figures; what is generated in full is beside the archives."""
    text = (DOCS / "reproduction.md").read_text()
    assert len(text.split()) <= 1200
    assert text.count("![") == text.count("(images/reproduction/") == 5


@pytest.mark.parametrize("page", [*sorted(RESULTS.glob("*.md")), DOCS / "reproduction.md"], ids=lambda page: page.name)
def test_figures_of_a_page_are_there_and_every_figure_is_on_a_page(page):
    images = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page.read_text())
    assert all((page.parent / image).is_file() for image in images)
    if page.stem in report.BASELINES:
        drawn = {image.name for image in (DOCS / "images" / "reproduction" / page.stem).glob("*.svg")}
        assert {Path(image).name for image in images} == drawn


def test_the_page_of_an_unfinished_study(tmp_path, monkeypatch):
    study = "# Which is better?\nname: made\ndatasets: [trec]\nmodels: [minilm]\ntunings: [lora]\n"
    (tmp_path / "made.yaml").write_text(f"{study}strategies: [default, ensemble, soup]\nseeds: 5\n")
    strategies = {"default": (0.6, 0.04), "ensemble": (0.9, 0.01)}
    cells = [each for name, (right, spread) in strategies.items() for each in runs(name, right, 5, spread=spread)]
    make(tmp_path / "made.db", cells)
    with Store(tmp_path / "made.db") as store:
        write_archive(store, tmp_path / "made.parquet")
    monkeypatch.setattr(report, "HERE", tmp_path)
    monkeypatch.setattr(report, "IMAGES", tmp_path / "docs" / "images" / "reproduction")
    monkeypatch.setitem(report.BASELINES, "made", ("default", "ensemble"))
    report.write("made", check=False)
    page = (tmp_path / "made.md").read_text()
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
        assert f"(../docs/images/reproduction/made/{figure.name})" in page
    report.write("made", check=True)
    (tmp_path / "made.md").write_text(page.replace("10 of 15", "15 of 15"))
    with pytest.raises(SystemExit, match="is not what made"):
        report.write("made", check=True)
