"""`deni report`: from a store to files, each written whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deni.analysis.claims import state_claims
from deni.analysis.runs import read_runs
from deni.analysis.tables import Tables, build_tables
from deni.errors import InputError
from deni.inputs import check_store
from deni.outputs import as_utf8, check_figures, check_file, write_bytes, write_into
from deni.progress import track
from deni.report.html.frame import check_packages
from deni.report.html.page import build_page
from deni.report.repeat import plan_repeat
from deni.report.text_tables import to_csv, to_latex, to_markdown
from deni.study.store.archive import opened

_PLAIN: Mapping[str, Callable[[Tables], str]] = {"markdown": to_markdown, "latex": to_latex, "csv": to_csv}


def write_report(
    store: str | Path,
    output: str | Path | None = None,
    *,
    markdown: str | Path | None = None,
    latex: str | Path | None = None,
    csv: str | Path | None = None,
    figures: str | Path | None = None,
    baseline: str | None = None,
    as_one_model: bool = False,
    title: str | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> Tables:
    """Write the report of a study.

    Args:
        store: the file that `deni study run` wrote.
        output: the page; None for none.
        markdown, latex, csv: files for the tables of results; None for none.
        figures: a folder for the figures as SVG, which is made if it is not there; other files in it stay. None for
            none.
        baseline: the strategy that the others are compared with; None for `default`, or the cheapest.
        as_one_model: see `deni.analysis.runs.read_runs`.
        title: of the page; None for the study's name.
        overwrite: replace files that are there; of the figures those of an earlier report.
        progress: show progress bars.

    Returns:
        The tables that were written.

    Raises:
        SavedElsewhereError: a file that could not be written, and is in the temporary directory.
        InputError: no such store, nothing done in it, or a file that is there or cannot be written.
    """
    wanted = {"page": output, "markdown": markdown, "latex": latex, "csv": csv}
    places = {name: Path(path) for name, path in wanted.items() if path is not None}
    check_store(store)
    if not places and figures is None:
        raise InputError("nothing to write: give --output, --figures, --markdown, --latex or --csv")
    if "page" in places or figures is not None:
        check_packages()
    for path in places.values():
        check_file(path, overwrite, [store])
    if figures is not None:
        check_figures(figures, overwrite, [store])
    if len({path.resolve() for path in places.values()}) < len(places):
        raise InputError("two of the files to write are the same: give each its own name")
    with opened(store) as cells:
        runs = read_runs(cells, _watch("reading", progress), as_one_model)
        tables = build_tables(runs, baseline, watch=_watch("comparing", progress))
    rows = runs.rows
    texts = {name: _PLAIN[name](tables) for name in places if name != "page"}
    if "page" in places:
        names = dict.fromkeys(row.study for row in rows if row.study)
        heading = title or ", ".join(names) or Path(store).stem
        texts["page"] = build_page(tables, state_claims(tables), plan_repeat(rows, Path(store).name), heading)
    for name, path in places.items():
        kept = "the page is" if name == "page" else "the table is"
        write_bytes(path, as_utf8(texts[name]), overwrite, kept)
    if figures is not None:
        write_into(figures, lambda folder: _draw(tables, folder), kept="the figures are")
    return tables


def _draw(tables: Tables, folder: Path) -> None:
    from deni.report.svg import draw_svgs

    for name, svg in draw_svgs(tables):
        (folder / f"{name}.svg").write_bytes(as_utf8(svg))


def _watch(what: str, progress: bool) -> Callable[[Sequence[Any]], Iterable[Any]]:
    return lambda things: track(things, what, unit="parts", shown=progress)
