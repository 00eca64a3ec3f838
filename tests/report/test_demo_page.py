import io
import re

import numpy as np
import pytest
from rich.console import Console

from deni.commands.demo import Row
from deni.measures.comparison import Difference
from deni.report.demo.page import build_page
from deni.report.demo.scale import place_of, ticks_of
from deni.report.demo.terminal import dot_plot, table

GOLD = np.arange(20) % 2
RESULT = {
    "train_texts": 60,
    "test_texts": 20,
    "settings": {"seeds": 3, "model": "<b>model</b>", "epochs": 5},
}


def predictions(*wrong):
    return np.stack([np.where(np.arange(20) < count, 1 - GOLD, GOLD) for count in wrong])


@pytest.fixture
def rows():
    against = Difference(0.05, -0.01, 0.11, None)
    return [
        Row("default", predictions(8, 8, 2), GOLD, 40, 21.4),
        Row("auto", predictions(4, 2, 0), GOLD, 40, 17.0, against),
        Row("frozen", predictions(4), GOLD, 0, 0.4, against),
    ]


def test_the_plot_has_a_dot_where_the_score_lies(rows):
    lines = list(dot_plot(rows, width=45))
    ticks = [int(each) for each in lines[-1].split()]
    assert ticks == ticks_of(score for row in rows for score in row.macro_f1) == [60, 70, 80, 90, 100]
    for line, row in zip(lines, rows, strict=False):
        counted = {
            round(place_of(f1, ticks) * 44): sum(abs(f1 - each) < 1e-9 for each in row.macro_f1) for f1 in row.macro_f1
        }
        marks = line[9:]
        assert {at: mark for at, mark in enumerate(marks) if mark != " "} == {
            at: "●" if count == 1 else str(count) for at, count in counted.items()
        }


@pytest.mark.parametrize("scores", [[0.5], [0.0, 1.0], [0.612, 0.613], [0.581, 0.66, 0.71]])
def test_ticks_enclose_all_scores(scores):
    ticks = ticks_of(scores)
    assert ticks[0] <= 100 * min(scores)
    assert ticks[-1] >= 100 * max(scores)
    assert 2 <= len(ticks) <= 6
    assert len(set(np.diff(ticks))) == 1


def test_five_seeds_fit_80_columns():
    row = Row("ensemble", predictions(2, 2, 2, 2, 2), GOLD, 12345, 1234.0)
    screen = Console(width=80, record=True, file=io.StringIO())
    screen.print(table([row], RESULT))
    lines = [*screen.export_text().splitlines(), *dot_plot([row])]
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if "90.0  90.0  90.0  90.0  90.0" in line and "1234" in line]


def test_the_page_has_the_scores_and_no_script(rows):
    page = build_page(rows, RESULT)
    assert "<script" not in page
    assert "script-src" not in page
    assert "<b>model" not in page
    circles = [float(each) for each in re.findall(r'<circle cx="([\d.]+)%"', page)]
    ticks = ticks_of(score for row in rows for score in row.macro_f1)
    assert circles == [pytest.approx(100 * place_of(f1, ticks), abs=0.01) for row in rows for f1 in row.macro_f1]
    assert "auto: +5.0 (-1.0 to +11.0), no difference shown." in page
    for row in rows:
        assert f'<td class="number">{100 * row.mean:.1f}</td>' in page
