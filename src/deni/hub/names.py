"""What is the id of a model of the hub, and what a path."""

from __future__ import annotations

import os
import re
from pathlib import Path

_WORD = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_ID = re.compile(rf"({_WORD}/{_WORD})(?:@([^@\s]+))?")


def is_model_id(name: object) -> bool:
    """Whether a name is `user/name` or `user/name@revision`, and cannot be a path: no folder `user` is here.

    >>> is_model_id("someone/model"), is_model_id("someone/model@v1"), is_model_id("model/"), is_model_id("./a/model")
    (True, True, False, False)
    """
    return isinstance(name, str) and _ID.fullmatch(name) is not None and not os.path.exists(Path(name).parent)


def split_id(name: str) -> tuple[str, str | None]:
    """The id of a model and its revision, which `huggingface_hub` writes behind an `@`.

    >>> split_id("someone/model@v1"), split_id("someone/model")
    (('someone/model', 'v1'), ('someone/model', None))
    """
    model, _, revision = name.partition("@")
    return model, revision or None


def hub_id(name: object) -> str | None:
    """The hub id that a name of a pre-trained model is; None for a path of this machine, or nothing.

    >>> hub_id("bert-base-uncased"), hub_id("someone/model"), hub_id("/home/me/model"), hub_id(None)
    ('bert-base-uncased', 'someone/model', None, None)
    """
    if not isinstance(name, str) or os.path.exists(name):
        return None
    return name if re.fullmatch(rf"{_WORD}(/{_WORD})?", name) else None
