"""A real server on a free port of this machine, in a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import FastAPI

from deni.serving.running import Server, bind


@contextmanager
def served(app: FastAPI) -> Iterator[tuple[str, Server]]:
    """The address of a running server; afterwards it has stopped."""
    ready = threading.Event()
    with bind("127.0.0.1", 0) as listening:
        server = Server(app, ready.set)
        thread = threading.Thread(target=server.run, args=([listening],))
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.start()
        try:
            assert ready.wait(10)
            yield address, server
        finally:
            server.stop()
            thread.join(20)
            assert not thread.is_alive()
