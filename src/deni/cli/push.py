"""`deni push`: a model to the hub."""

from __future__ import annotations

from typing import Any

import click

from deni.cli import example
from deni.terminal import say


def _codes(context: click.Context, option: click.Parameter, value: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in value.split(",")) if value else ()


@click.command("push", epilog=example("deni push model/ user/name --private"))
@click.argument("model")
@click.argument("name", metavar="USER/NAME")
@click.option("--private", is_flag=True, help="Make a private repository.")
@click.option("--revision", metavar="NAME", help="Branch to push to, made if it is not there.  [default: main]")
@click.option(
    "--all", "everything", is_flag=True, help="Also push out-of-fold predictions, the models of folds, and the report."
)
@click.option("--base-model", metavar="ID", help="Hub id of the pre-trained model, if it was trained from a folder.")
@click.option("--dataset", metavar="ID", help="Hub id of the labeled texts, if they are published.")
@click.option(
    "--language",
    metavar="A,B",
    callback=_codes,
    help="Language of the texts, such as en.  [default: that of the base model's card]",
)
@click.option("--license", metavar="NAME", help="License, such as mit.  [default: that of the base model's card]")
@click.option("--message", default="Upload model", show_default=True, help="Message of the commit.")
@click.option("--dry-run", is_flag=True, help="Print the files and the model card, and push nothing.")
def command(model: str, name: str, dry_run: bool, **given: Any) -> None:
    """Push MODEL to the hub as USER/NAME, with a model card.

    MODEL is what deni train or deni export wrote: an artifact, a single model or an adapter. Training texts, and what
    tells of single ones, stay here, and so do names of files and folders. The token is that of `hf auth login`, or
    HF_TOKEN.
    """
    from deni.artifact.publishing import push

    done = push(model, name, **given, dry_run=dry_run, progress=True)
    for path, size in done.files.items():
        say(f"  {path}  {_size(size)}")
    if done.left_out:
        say(f"Not pushed: {', '.join(done.left_out)}")
    if done.commit is None:
        say(f"\n{done.card}")
    else:
        say(f"Pushed: {done.commit.commit_url}")
        say(f"Next: deni predict {name} FILE, or deni.load({name!r})")


def _size(count: int) -> str:
    """A number of bytes, rounded.

    >>> _size(900), _size(88_400_000)
    ('900 B', '88.4 MB')
    """
    for unit, least in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= least:
            return f"{count / least:.1f} {unit}"
    return f"{count} B"
