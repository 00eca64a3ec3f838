"""The real `huggingface_hub` in this process, with a local server in place of the hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import constants, file_download

from tests.helpers.hub_server import Hub, HubServer

TOKENS = {"hf_write": True, "hf_read": False}


@contextmanager
def client_of(hub: Hub, cache: Path, monkeypatch: Any, token: str | None = "hf_write") -> Iterator[Hub]:
    """Inside, the client talks to a server with this content, and keeps what it loads in a cache of its own.

    Args:
        token: that of the login.
    """
    with HubServer(hub=hub) as server, monkeypatch.context() as patch:
        point_to(server.url, cache, patch)
        patch.setenv("HF_TOKEN", token or "")
        yield hub
    _reset()


def point_to(url: str, cache: Path, patch: Any) -> None:
    """Have the client ask another server, without waiting before it asks again."""
    patch.setattr(constants, "ENDPOINT", url)
    for module in (constants, file_download):  # version 0 of the latter has a copy
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        patch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setattr("transformers.utils.hub._is_offline_mode", False, raising=False)  # a copy of transformers 4
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    patch.setattr(constants, "HF_HUB_CACHE", str(cache))
    patch.setattr(constants, "HF_TOKEN_PATH", str(cache / "no token"))
    patch.setattr("huggingface_hub.hf_api.api.endpoint", url)
    patch.setattr("time.sleep", lambda seconds: None)
    _reset()


def _reset() -> None:
    """Sessions know whether there is a network."""
    reset = getattr(huggingface_hub.utils, "reset_sessions", None)  # of version 0
    if reset is not None:
        reset()
