"""Fixtures: a chat server of our own, and an augmenter that asks it."""

import pytest

from deni.augmentation import make_augmenter
from tests.helpers.chat_server import PROMPT, serving


@pytest.fixture(autouse=True)
def no_account(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server():
    with serving() as server:
        yield server


@pytest.fixture
def llm(server, tmp_path):
    def make(**settings):
        own = {
            "llm_model": "m",
            "base_url": server.url,
            "prompt": PROMPT,
            "cache": str(tmp_path / "cache"),
            "yes": True,
        }
        return make_augmenter("llm", **{**own, **settings})

    return make
