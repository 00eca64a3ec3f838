"""`deni report`: a study as one page."""

from __future__ import annotations

import click

from deni.cli import example
from deni.inputs import check_store
from deni.terminal import say


@click.command("report", epilog=example("deni report study.db --output report.html"))
@click.argument("store")
@click.option("--output", help="Page to write (HTML); it needs no network and no other file.")
@click.option("--markdown", metavar="FILE", help="File to write the tables to, as Markdown.")
@click.option("--latex", metavar="FILE", help="File to write the tables to, as LaTeX with the package booktabs.")
@click.option("--csv", metavar="FILE", help="File to write the tables to, as CSV with all digits.")
@click.option("--figures", metavar="FOLDER", help="Folder to write the figures to, as SVG.")
@click.option("--baseline", help="Strategy that the others are compared with.  [default: default, or the cheapest]")
@click.option("--as-one-model", is_flag=True, help="Measure forked members as the one model that they export to.")
@click.option("--title", help="Title of the page.  [default: the study's name]")
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@click.option("--progress/--no-progress", default=True, help="Show a progress bar.")
def command(store: str, output: str | None, **how: str | bool | None) -> None:
    """Write what the study in STORE has shown, and what it has not."""
    check_store(store)
    from deni.report import write_report

    write_report(store, output, **how)  # type: ignore[arg-type]
    for path in filter(None, (output, *(how[name] for name in ("markdown", "latex", "csv", "figures")))):
        say(f"wrote {path}")
