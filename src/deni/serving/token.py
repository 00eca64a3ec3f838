"""The secret that a client shows: read from a file or the environment, compared in constant time."""

from __future__ import annotations

import hmac
import os
from pathlib import Path

from deni.errors import InputError

VARIABLE = "DENI_SERVE_TOKEN"
SHORTEST = 16  # characters


def read_token(file: str | Path | None = None) -> str | None:
    """The token of a file, or of the environment; None where neither has one.

    Never from the command line, which every user of the machine can read in the list of processes.

    Raises:
        InputError: a file that cannot be read, or a token that is short or has blanks in it.
    """
    source = VARIABLE if file is None else str(file)
    if file is None:
        found = os.environ.get(VARIABLE)
    else:
        try:
            found = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{file}: cannot be read ({error}): name a file with the token alone") from error
    if found is None:
        return None
    token = found.strip()
    if len(token) < SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
        raise InputError(
            f"{source}: a token has at least {SHORTEST} ASCII characters and no blanks: make one with "
            "`python -c 'import secrets; print(secrets.token_urlsafe(32))'`"
        )
    return token


def shows_token(header: bytes | None, token: str) -> bool:
    """Whether the header `Authorization` has the token.

    >>> shows_token(b"Bearer abc", "abc"), shows_token(b"Bearer ab", "abc"), shows_token(None, "abc")
    (True, False, False)
    """
    scheme, _, shown = (header or b"").partition(b" ")
    return hmac.compare_digest(shown.strip(), token.encode()) and scheme.lower() == b"bearer"
