"""`deni report`: a study as one page."""

from __future__ import annotations

import click

from deni.cli import example


@click.command("report", epilog=example("deni report study.db --output report.html"))
@click.argument("store")
@click.option("--output", help="The page to write (HTML); it needs no network and no other file.")
@click.option("--markdown", metavar="FILE", help="Write the tables as Markdown.")
@click.option("--latex", metavar="FILE", help="Write the tables as LaTeX, for the package booktabs.")
@click.option("--csv", metavar="FILE", help="Write the tables as CSV, with all digits.")
@click.option("--figures", metavar="FOLDER", help="Write the figures as SVG files.")
@click.option("--baseline", help="Strategy that others are compared with.  [default: default, or the cheapest]")
@click.option("--as-one-model", is_flag=True, help="Measure forked members as the one model that they export to.")
@click.option("--title", help="Of the page.  [default: the study's name]")
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
@click.option("--progress/--no-progress", default=True, help="Show how far it is.")
def command(store: str, output: str | None, **how: str | bool | None) -> None:
    """Write what the study in STORE has shown, and what it has not."""
    from deni.report import write_report

    write_report(store, output, **how)  # type: ignore[arg-type]
    for path in filter(None, (output, *(how[name] for name in ("markdown", "latex", "csv", "figures")))):
        click.echo(f"wrote {path}")
