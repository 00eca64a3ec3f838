"""What `deni serve` does: a model answers over HTTP."""

from __future__ import annotations

import ipaddress
import warnings
from collections.abc import Callable
from pathlib import Path

from deni.artifact import load
from deni.commands.calibration import read_calibration
from deni.errors import InputError, InputWarning
from deni.measures import Selection
from deni.serving import Limits
from deni.serving.extra import check_extra
from deni.serving.token import VARIABLE, read_token


def serve(
    model: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token_file: str | Path | None = None,
    accuracy: float | None = None,
    calibration: str | None = None,
    text_column: str | None = None,
    text_pair_column: str | None = None,
    label_column: str | None = None,
    calibrated: bool = True,
    pairs: bool = False,
    device: str | None = None,
    batch_size: int = 32,
    max_body: int = Limits.max_body,
    max_texts: int = Limits.max_texts,
    max_tokens: int = Limits.max_tokens,
    max_waiting: int = Limits.max_waiting,
    on_selection: Callable[[Selection], None] | None = None,
    on_ready: Callable[[str, int], None] | None = None,
) -> None:
    """Serve a model until SIGTERM, then answer what is under way and return.

    Args:
        port: 0 for a free one.
        token_file: a file with the token that clients must show; None for that of `DENI_SERVE_TOKEN`, if it is set.
        accuracy: answer only where this accuracy is supported, see `deni.artifact.Classifier.selection`.
        calibration: a file of labeled texts that the model has not learned, to tell that by, in place of its
            out-of-fold predictions; the columns are of this file.
        calibrated: whether probabilities are calibrated, see `deni.artifact.load`.
        pairs: whether a model of transformers, whose config does not say it, reads pairs of texts.
        batch_size: texts that are computed at once.
        max_body, max_texts, max_tokens, max_waiting: see `deni.serving.Limits`.
        on_selection: called before the server starts, with where answers are given.
        on_ready: called with host and port once it takes requests.

    Raises:
        InputError: an address that is taken, a token that is short, a model that cannot be loaded.
        KeyboardInterrupt: Ctrl-C, after the same stop.
    """
    check_extra()
    limits = Limits(max_body, max_texts, max_tokens, max_waiting)
    if calibration is not None and accuracy is None:
        raise InputError("--calibration is for --accuracy: give --accuracy, or omit it")
    columns = {"text_column": text_column, "text_pair_column": text_pair_column, "label_column": label_column}
    if calibration is None and (loose := next((name for name, each in columns.items() if each is not None), None)):
        raise InputError(f"--{loose.replace('_', '-')} is of the file of --calibration: omit it")
    token = read_token(token_file)
    from deni.serving.running import bind, run_app

    with bind(host, port) as listening:  # before the model is loaded
        address = listening.getsockname()
        if token is None and not ipaddress.ip_address(address[0]).is_loopback:
            warnings.warn(
                f"whoever reaches {host} can use the model: set {VARIABLE}, or give --token-file",
                InputWarning,
                stacklevel=2,
            )
        classifier = load(model, device, calibrated=calibrated)
        if pairs and not classifier.pairs:
            if not classifier.info.get("plain"):
                raise InputError("the model was trained on one text a row: omit --pairs")
            classifier.info["text_pair_column"] = "text_pair"
        selection = None
        if accuracy is not None:
            labeled = None
            if calibration is not None:
                labeled = read_calibration(classifier, calibration, **columns)
            selection = classifier.selection(accuracy, labeled)
            if on_selection is not None:
                on_selection(selection)
        from deni.serving.app import create_app

        app = create_app(classifier, accuracy=selection, limits=limits, token=token, batch_size=batch_size)
        run_app(app, listening, lambda: on_ready(host, address[1]) if on_ready is not None else None)
