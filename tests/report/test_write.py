"""`deni report`: what it writes, what the page has, and what it refuses."""

import dataclasses
import os
import re
import sys

import pandas as pd
import pytest
from click.testing import CliRunner

from deni.analysis.claims import NOT_EQUAL
from deni.cli import main
from deni.report import write_report
from deni.study.store.database import Store
from tests.helpers.made import cell_of, make, of_datasets, on_both_parts, runs, said


def test_a_study_on_development_texts_says_so_wherever_it_would_say_test_texts(tables, tmp_path):
    cells = [each for each in on_both_parts() if each[0].measure == "development"]
    found = tables(cells)
    (setting,) = found.runs.settings
    assert (setting.label, setting.other) == ("trec, dev split", "dev split")
    assert all(text.startswith("On dev texts: ") for text in said(found, "shown") + said(found, "not shown"))
    write_report(tmp_path / "study.db", tmp_path / "page.html", markdown=tmp_path / "t.md", csv=tmp_path / "t.csv")
    page = (tmp_path / "page.html").read_text()
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.S)
    assert all("not results on test texts" in line for line in markup.splitlines() if "test texts" in line)
    assert "the same seeds, blocks and dev texts" in markup
    assert ">dev texts</button>" in markup
    assert "The share of dev texts on which two seeds" in page
    assert "measure: development" in markup  # to repeat it
    assert "dev split" in (tmp_path / "t.md").read_text().splitlines()[0]
    assert set(pd.read_csv(tmp_path / "t.csv")["other"]) == {"dev split"}


def test_what_is_not_shown_stands_below_a_word_on_equality(tmp_path):
    for name, right in (("alike", 0.7), ("apart", 0.99)):
        store, page = tmp_path / f"{name}.db", tmp_path / f"{name}.html"
        write_report(make(store, [*runs("default", 0.7, 6), *runs("swa", right, 6, shift=1)]), page)
        head, _, rest = page.read_text().partition("<h3>Not shown</h3>")
        assert "<h3>Shown</h3>" in head
        assert (NOT_EQUAL in rest) == (name == "alike")


def test_the_page_has_no_address_of_anything_outside(db, tmp_path):
    write_report(db, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.S)
    assert not re.findall(r"(?:src|href|action)\s*=\s*(?![\"']?(?:#|data:,))[^\s>]+|url\(|@import", markup)
    assert "default-src 'none'" in page.replace("&#39;", "'")


def test_the_command_writes_what_it_says(db, tmp_path):
    arguments = ["report", str(db), "--output", str(tmp_path / "r.html"), "--csv", str(tmp_path / "r.csv")]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert [line for line in done.stdout.splitlines() if line] == [
        f"wrote {tmp_path / 'r.html'}",
        f"wrote {tmp_path / 'r.csv'}",
    ]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["r.csv", "r.html", "study.db"]


def refused(*arguments):
    done = CliRunner().invoke(main, ["report", *map(str, arguments), "--no-progress"])
    assert done.exit_code == 2, done.output
    (line,) = done.stderr.splitlines()
    return line


def test_half_a_character_in_a_title_or_a_file_name_is_written_as_an_escape(db, tmp_path):
    page, named = tmp_path / "page.html", tmp_path / os.fsdecode(b"\xff.db")
    db.rename(named)
    write_report(named, page, title="half \ud83d")
    text = page.read_text(encoding="utf-8")
    assert "<h1>half \\ud83d</h1>" in text
    assert "\\udcff.db" in text


def test_mistakes_are_one_line(db, tmp_path):
    page = tmp_path / "r.html"
    assert "no such store" in refused(tmp_path / "none.db", "--output", page)
    assert "give --output" in refused(db)
    assert "is a folder" in refused(db, "--output", tmp_path)
    assert "the same" in refused(db, "--output", page, "--csv", page)
    assert "choose one of default" in refused(db, "--output", page, "--baseline", "best")
    page.write_text("mine")
    assert "exists: choose another file or give --overwrite" in refused(db, "--output", page)
    assert page.read_text() == "mine"
    waiting = make(tmp_path / "waiting.db", [(cell_of(), None), (cell_of(seed=1), "Error: it broke")])
    assert "no run is done (1 wait, 1 failed)" in refused(waiting, "--output", tmp_path / "other.html")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_that_is_not_writable_is_named(db, tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    assert "is not writable" in refused(db, "--output", folder / "r.html")


def test_a_folder_that_cannot_be_written_is_named_for_everybody(db, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert f"{tmp_path} is not writable" in refused(db, "--output", tmp_path / "r.html")


def test_a_missing_package_is_said_at_once_and_tables_do_without_it(db, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    assert 'vl_convert: pip install "deni[report]"' in refused(db, "--output", tmp_path / "r.html")
    write_report(db, csv=tmp_path / "r.csv")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["r.csv", "study.db"]


def test_a_report_leaves_the_store_as_it_was(db, tmp_path):
    with Store(db) as store:
        before = [(row.key, row.status) for row in store.results(None)]
    write_report(db, csv=tmp_path / "r.csv")
    with Store(db) as store:
        assert [(row.key, row.status) for row in store.results(None)] == before


def test_the_page_and_the_plain_tables_have_votes_and_all_datasets(tmp_path):
    cells = list(of_datasets(seeds=5))
    cells[-1] = (cells[-1][0], dataclasses.replace(cells[-1][1], metrics={"soft_macro_f1": 0.5, "macro_f1": 0.5}))
    make(tmp_path / "study.db", cells)
    write_report(tmp_path / "study.db", tmp_path / "page.html", markdown=tmp_path / "tables.md")
    page, text = ((tmp_path / name).read_text() for name in ("page.html", "tables.md"))
    for table in ("table-overall", "table-overall-comparisons", "table-votes"):
        assert f'id="{table}"' in page
    for title in ("## Over all datasets", "## Over all datasets, compared with default", "## Votes"):
        assert f"{title}\n" in text


def test_figures_are_drawn_with_the_names_that_the_page_has_beside_them(tmp_path):
    make(tmp_path / "study.db", of_datasets(seeds=5))
    done = CliRunner().invoke(main, ["report", str(tmp_path / "study.db"), "--figures", str(tmp_path / "drawn")])
    assert done.exit_code == 0, done.output
    drawn = {path.name: path.read_text() for path in (tmp_path / "drawn").iterdir()}
    assert {"cost-mean-data0.svg", "cost-mean-data1.svg", "seeds-data0.svg", "ranks.svg"} <= set(drawn)
    for name in ("cost-mean-data0.svg", "seeds-data1.svg"):
        words = re.findall(r">([^<>]+)</text>", drawn[name])
        assert {"default", "swa"} <= set(words)
        assert "var(" not in drawn[name]
    again = CliRunner().invoke(main, ["report", str(tmp_path / "study.db"), "--figures", str(tmp_path / "again")])
    assert again.exit_code == 0
    assert {path.name: path.read_text() for path in (tmp_path / "again").iterdir()} == drawn
    line = refused(tmp_path / "study.db", "--figures", tmp_path / "drawn")
    assert "exists" in line
    assert "name a folder" in refused(tmp_path / "study.db", "--figures", tmp_path / "study.db")
