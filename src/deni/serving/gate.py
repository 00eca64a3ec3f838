"""What is refused before a request is read: without the token, or with too long a body."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from deni.serving.token import shows_token


class Gate:
    """Checks the token and the length of the body of each request of an ASGI application.

    Args:
        guarded: the paths that need the token.
        token: None for none.
        max_body: bytes.
        stopping: whether the server stops: then each answer ends its connection.
    """

    def __init__(
        self,
        app: Callable[..., Awaitable[None]],
        guarded: tuple[str, ...],
        token: str | None,
        max_body: int,
        stopping: Callable[[], bool],
    ) -> None:
        self.app, self.guarded, self.token = app, guarded, token
        self.max_body, self.stopping = max_body, stopping

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def ending(message: Any) -> None:
            if message["type"] == "http.response.start" and self.stopping():
                MutableHeaders(scope=message)["connection"] = "close"
            await send(message)

        headers = Headers(scope=scope)
        if self.token is not None and scope["path"] in self.guarded:
            shown = headers.get("authorization")
            if not shows_token(None if shown is None else shown.encode("latin-1"), self.token):
                refusal = problem(401, "give the token in the header Authorization: Bearer TOKEN")
                refusal.headers["www-authenticate"] = "Bearer"
                await refusal(scope, receive, ending)
                return
        if (length := headers.get("content-length", "")).isdecimal() and int(length) > self.max_body:
            await self._too_long()(scope, receive, ending)
            return
        read = 0

        async def counting() -> Any:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.max_body:  # a body that is sent in chunks has no length
                raise HTTPException(413, self._why())
            return message

        await self.app(scope, counting, ending)

    def _why(self) -> str:
        return f"the body has more than {self.max_body} bytes: send fewer texts at a time"

    def _too_long(self) -> JSONResponse:
        return problem(413, self._why())


def problem(status: int, error: str) -> JSONResponse:
    """A refusal: one line that says what is wrong and what to do."""
    return JSONResponse({"error": error}, status)
