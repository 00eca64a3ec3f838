"""The tables as Markdown, LaTeX and CSV, and the overview."""

import re

import pandas as pd
import pytest

from deni.analysis.tables import build_tables
from deni.report import write_report
from deni.report.text_tables import build_overview
from tests.helpers.made import cell_of, result_of, runs


def test_markdown_latex_and_csv_have_the_same_numbers(db, tmp_path):
    places = {kind: tmp_path / f"table.{kind}" for kind in ("markdown", "latex", "csv")}
    found = write_report(db, **places)
    frame = pd.read_csv(places["csv"])
    assert frame["mean"].tolist() == pytest.approx(found.results["mean"].tolist())
    assert frame["difference"].iloc[1] == pytest.approx(found.comparisons["difference"].iloc[0])
    means = [f"{value:.2f}" for value in frame["mean"]]
    markdown = [re.split(r"(?<!\\)\|", line) for line in places["markdown"].read_text().splitlines()]
    assert markdown[0] == [r"All settings: model minilm, tuning lora (lora\_r=8), labeled 100."]
    results = markdown.index(["## Results"]) + 4
    alignment = dict(zip(*(map(str.strip, line) for line in markdown[results - 2 : results]), strict=True))
    assert (alignment["strategy"], alignment["mean"], alignment["95 % interval"]) == ("---", "---:", "---:")
    assert {len(line) for line in markdown[results - 2 : results + 2]} == {len(markdown[results])}
    assert [line[3].strip().removesuffix(" ★") for line in markdown[results : results + 2]] == means
    assert markdown[results + 1][1].strip() == r"s\_w&a\|&lt;b&gt;"
    latex = places["latex"].read_text()
    assert latex.count(r"\toprule") == 3
    assert all(mean in latex for mean in means)
    assert r"s\_w\&a|<b>" in latex
    assert rf"{means[1]} $\star$" in latex


def test_the_overview_has_a_row_for_each_strategy_and_a_column_for_each_dataset(tables):
    cells = [
        cell
        for dataset, strategies in {"trec": ("default", "deni", "half"), "cola": ("deni", "default")}.items()
        for strategy in strategies
        for cell in runs(strategy, 0.8, 6, spread=0.1, shift=len(strategy) + len(dataset), dataset=dataset)
    ]
    by_default = tables(cells)
    by_deni = build_tables(by_default.runs, "deni")
    found = build_overview(by_default, by_deni)
    assert list(found["strategy"]) == ["default", "deni", "half"]
    frame = pd.concat([by_default.results, by_default.overall]).set_index(["strategy", "dataset"])
    for name in ("default", "deni"):
        for dataset in ("trec", "cola", "all 2"):
            row = frame.loc[name, dataset]
            assert found.set_index("strategy").loc[name, dataset] == f"{row['mean']:.1f} ± {row['sd']:.1f}"
    half = found.set_index("strategy").loc["half"]
    assert half[["cola", "all 2", "minus default", "minus deni"]].tolist() == ["–"] * 4
    (row,) = by_default.overall_comparisons.to_dict("records")
    (ratio,) = by_deni.overall_comparisons["sd_ratio"]
    assert found["minus default"].tolist() == [
        "–",
        f"{row['difference']:.2f} ({row['low']:.2f} to {row['high']:.2f})",
        "–",
    ]
    assert found["SD / SD of deni"][0].startswith(f"{ratio:.2f} (")
    assert found["failed"].tolist() == ["0 of 12", "0 of 12", "0 of 6"]


def test_the_overview_counts_runs_at_chance_and_without_a_result(tables):
    cells = [
        *runs("default", 0.9, 5),
        (cell_of("default", 5), result_of(0.0, 5)),
        (cell_of("default", 6), "Trace\nBoom"),
    ]
    assert build_overview(tables(cells))["failed"].tolist() == ["2 of 7"]


def test_the_overview_of_one_dataset_compares_on_it(tables):
    found = tables([*runs("default", 0.5, 5, spread=0.1), *runs("deni", 0.9, 5, spread=0.1, shift=1)])
    (difference,) = found.comparisons["difference"]
    assert build_overview(found)["minus default"][1].startswith(f"{difference:.2f} (")
