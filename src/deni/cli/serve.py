"""`deni serve`: a model answers over HTTP."""

from __future__ import annotations

from typing import Any

import click

from deni.cli import example
from deni.cli.options.calibration import CALIBRATED, CALIBRATION, CALIBRATION_LABEL, say_selection
from deni.cli.options.device import DEVICE
from deni.cli.options.numbers import COUNT, Number
from deni.cli.quick_imports import quick_imports
from deni.errors import InputError
from deni.inputs import check_file, check_named_model
from deni.serving.extra import check_extra
from deni.serving.limits import Limits
from deni.terminal import say


@click.command("serve", epilog=example("deni serve model/ --port 8000"))
@click.argument("model")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port; 0 for a free one.",
)
@click.option(
    "--token-file",
    metavar="FILE",
    help="File with the token that clients must show.  [default: the token in DENI_SERVE_TOKEN, if it is set]",
)
@click.option(
    "--accuracy",
    type=Number(),
    help="Answer only where this accuracy is supported by labels, such as 0.95; abstain from the other texts.",
)
@CALIBRATION
@CALIBRATION_LABEL
@click.option("--text-column", help="Column of the texts in the file of --calibration.  [default: text]")
@click.option("--text-pair-column", help="Column of the second texts there.  [default: as the model was trained]")
@CALIBRATED
@click.option("--pairs", is_flag=True, help="A model of transformers reads pairs of texts, which its files do not say.")
@DEVICE
@click.option("--batch-size", type=COUNT, default=32, show_default=True, help="Texts to compute at once.")
@click.option("--max-body", type=COUNT, default=Limits.max_body, show_default=True, help="Most bytes of a request.")
@click.option("--max-texts", type=COUNT, default=Limits.max_texts, show_default=True, help="Most texts of a request.")
@click.option(
    "--max-tokens", type=COUNT, default=Limits.max_tokens, show_default=True, help="Most tokens of a request's texts."
)
@click.option(
    "--max-waiting",
    type=COUNT,
    default=Limits.max_waiting,
    show_default=True,
    help="Most texts of all requests that wait; further ones get status 503.",
)
def command(model: str, **given: Any) -> None:
    """Serve MODEL over HTTP.

    POST /predict takes {"texts": ...}, one text or a list, and gives what `deni predict` gives: label, confidence,
    agreement of the members, entropy. GET /docs describes it, /health and /metrics are for whoever watches it.

    SIGTERM stops it: what has been sent by then is answered. A token is read from a file or the environment, never from
    the command line, which others can see.
    """
    check_extra()  # before seconds of imports, as the rest
    check_named_model(model)
    for each in (given["token_file"], given["calibration"]):
        check_file(each)
    if given["accuracy"] is not None and not 0 < given["accuracy"] < 1:
        raise InputError(f"--accuracy must be between 0 and 1, such as 0.95, not {given['accuracy']:g}")
    with quick_imports():
        from deni.commands.serve import serve

    serve(model, **given, on_selection=say_selection, on_ready=lambda host, port: say(_ready(model, host, port)))


def _ready(model: str, host: str, port: int) -> str:
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    return f"Serving {model} at {address}, described at {address}/docs; Ctrl-C stops it"
