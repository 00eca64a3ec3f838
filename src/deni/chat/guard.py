"""What a server may do to a client: no more than answer. Limits on redirects, size and time; keys stay secret."""

from __future__ import annotations

import asyncio
import importlib
from typing import Any
from urllib.parse import urlsplit

from deni.errors import InputError, short

MOST_BYTES = 16 * 2**20  # of a response; paraphrases have a few thousand
MOST_TIMEOUTS, LEAST_SECONDS = 10, 30  # a whole response may take ten times the timeout, at least half a minute
EXAMPLE = "http://localhost:8000/v1"
MASK = "***"


class Refused(BaseException):
    """A response that is not read on; no client takes it for an error that asking again could cure."""


def check_address(address: str) -> None:
    """Raise InputError where an address is that of no server, or has a secret in it, which is then not shown."""
    try:
        parts = urlsplit(address)
        found = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        found = False
    if not found:
        if "@" in address or "?" in address:
            address = "what --base-url or OPENAI_BASE_URL has"
        raise InputError(f"{short(address)} is not the address of a server: give one such as {EXAMPLE} to --base-url")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise InputError(
            f"the address of {parts.hostname} has a key, a password or parameters in it, which would be stored: set "
            f"the environment variable OPENAI_API_KEY, and give an address such as {EXAMPLE}"
        )


def without(secret: str, text: str) -> str:
    """Text without a key that a server repeated."""
    return text.replace(secret, MASK) if len(secret) > 5 else text


def check_response(response: Any) -> None:
    """Before the body of a response is read: raise `Refused` for a redirect to another place, or compression.

    The body that is read afterwards has `MOST_BYTES` at most.
    """
    asked = response.request.url
    if response.has_redirect_location:
        other = asked.join(response.headers["location"])
        if (other.scheme, other.host, other.port) != (asked.scheme, asked.host, asked.port):
            raise Refused(f"redirects to {short(other.host)}, where texts and key are not sent: check --base-url")
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused("sends a compressed answer, although none was asked for: check --base-url")
    library = importlib.import_module(type(response).__module__.partition(".")[0])  # httpx, or what came after it
    response.stream = _limited(library.AsyncByteStream)(response.stream)


def _limited(base: type) -> type:
    class Limited(base):
        def __init__(self, stream: Any) -> None:
            self.stream = stream

        async def __aiter__(self) -> Any:
            size = 0
            async for chunk in self.stream:
                size += len(chunk)
                if size > MOST_BYTES:
                    raise Refused(f"sends more than {MOST_BYTES >> 20} MiB: check --base-url and --llm-model")
                yield chunk

        async def aclose(self) -> None:
            await self.stream.aclose()

    return Limited


class Clock:
    """A limit on the time of each attempt of a request; waiting between attempts does not count.

    Args:
        seconds: of an attempt, from the first byte sent to the last one read.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._limits: dict[Any, asyncio.Timeout] = {}

    def around(self) -> asyncio.Timeout:
        """A context around all attempts of this task."""
        limit = asyncio.timeout(None)
        self._limits[asyncio.current_task()] = limit
        return limit

    def start(self, wait: float = 0) -> None:
        """An attempt begins.

        Args:
            wait: seconds that the client may wait before the next one.
        """
        self._set(asyncio.get_running_loop().time() + self.seconds + wait)

    def stop(self) -> None:
        """It waits for its turn."""
        self._set(None)

    def forget(self) -> None:
        """The task is at its end."""
        self._limits.pop(asyncio.current_task(), None)

    def _set(self, when: float | None) -> None:
        if (limit := self._limits.get(asyncio.current_task())) is not None:
            limit.reschedule(when)
