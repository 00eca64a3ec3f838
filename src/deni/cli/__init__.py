"""The command line: one file for each command, arguments only."""

from __future__ import annotations

import importlib
import logging
import os
import warnings
from typing import Any

import click

from deni._version import __version__
from deni.cli.boundary import boundary
from deni.terminal import say, streams, visible

COMMANDS = (
    "demo",
    "inspect",
    "augment",
    "adapt",
    "forecast",
    "train",
    "evaluate",
    "compare",
    "predict",
    "suggest",
    "distil",
    "export",
    "push",
    "serve",
    "strategies",
    "tunings",
    "show",
    "models",
    "study",
    "diagnose",
    "report",
)


class _Commands(click.Group):
    """Loads a command when it is asked for, so that `deni strategies` does not wait for torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it speaks when it is imported, before `_quiet`
        return importlib.import_module(f"deni.cli.{cmd_name}").command

    def main(self, *args: Any, **options: Any) -> Any:
        """As click's, with streams that take any text and may end early."""
        with streams():
            return super().main(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """An error becomes one line and an exit code, see `boundary`."""
        with boundary(debug=bool(ctx.params.get("debug"))):
            return super().invoke(ctx)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="deni")
@click.option("--debug", is_flag=True, help="Print the traceback of an error.")
def main(debug: bool) -> None:
    """Fine-tuning of pre-trained language models without the seed lottery.

    Example: deni demo
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not debug:
        _quiet()


def _quiet() -> None:
    """Others' notices off; ours are one line each."""
    from deni.errors import InputWarning

    warnings.simplefilter("ignore")
    warnings.simplefilter("always", InputWarning)
    warnings.showwarning = lambda message, *_, **__: say(f"Warning: {message}", err=True)
    handler = logging.StreamHandler()
    handler.setFormatter(_Visible("%(message)s"))
    logging.basicConfig(handlers=[handler])
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


class _Visible(logging.Formatter):
    """Messages of the log as `visible` shows them."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


def example(line: str) -> str:
    """The end of a help text."""
    return f"\b\nExample:\n  {line}"
