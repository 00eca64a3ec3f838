"""uvicorn around the application: a socket before the model is loaded, and a stop that loses nothing."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import uvicorn
from fastapi import FastAPI

from deni.errors import InputError

UNDER_WAY = 0.5  # seconds that an open connection has, after the last one was accepted, to send what is under way
LONGEST_STOP = 30  # seconds; a client that never finishes its request cannot hold the server up


def bind(host: str, port: int) -> socket.socket:
    """A socket of this address; it takes connections once the server runs.

    Args:
        port: 0 for a free one.

    Raises:
        InputError: an address that is taken, or is not of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise InputError(f"--host {host}: no address of this machine ({error}): try 127.0.0.1") from error
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
    except OSError as error:
        made.close()
        why = error.strerror or str(error)
        raise InputError(
            f"port {port} of {host} cannot be used ({why}): give another --port, or 0 for a free one"
        ) from error
    return made


class Server(uvicorn.Server):
    """A server that finishes every request that reached it before it stops.

    On SIGTERM, or the first Ctrl-C, it accepts the connections that the system has already completed, closes its
    address, answers what is under way, ending each connection, and then returns.
    """

    def __init__(self, app: FastAPI, on_ready: Callable[[], None] = lambda: None) -> None:
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=LONGEST_STOP,
        )
        super().__init__(config)
        self.app, self.on_ready, self.interrupted = app, on_ready, False

    def stop(self) -> None:
        """Begin to stop."""
        self.app.state.stopping = self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's; then say that it is ready."""
        await super().startup(sockets)
        self.on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, after what has been sent to this address by now is answered."""
        loop, accepted = asyncio.get_running_loop(), []
        for listening in sockets or []:
            with suppress(OSError):  # until none is left
                while True:
                    accepted.append(listening.accept()[0])
        for server in self.servers:
            server.close()
        for connection in accepted:
            await loop.connect_accepted_socket(self._protocol, connection)
        until = loop.time() + UNDER_WAY
        while self.server_state.connections and loop.time() < until and not self.force_exit:
            await asyncio.sleep(0.01)
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        how: dict[str, Any] = {"config": self.config, "server_state": self.server_state}
        protocol: Any = self.config.http_protocol_class
        return protocol(**how, app_state=self.lifespan.state)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Inside, SIGTERM and Ctrl-C begin to stop; a second Ctrl-C does not wait."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {each: signal.signal(each, self._signaled) for each in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def _signaled(self, number: int, frame: Any) -> None:
        self.force_exit = self.interrupted and number == signal.SIGINT
        self.interrupted |= number == signal.SIGINT
        self.stop()


def run_app(app: FastAPI, listening: socket.socket, on_ready: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGTERM.

    Raises:
        KeyboardInterrupt: it was Ctrl-C.
    """
    server = Server(app, on_ready)
    server.run([listening])
    if server.interrupted:
        raise KeyboardInterrupt
