import pytest

from deni.errors import InputError
from deni.serving.token import VARIABLE, read_token, shows_token

TOKEN = "a-token-of-many-characters"


def test_a_token_comes_from_a_file_else_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert read_token() is None
    monkeypatch.setenv(VARIABLE, TOKEN)
    assert read_token() == TOKEN
    (tmp_path / "token").write_text("another-token-0123456789\n")
    assert read_token(tmp_path / "token") == "another-token-0123456789"


@pytest.mark.parametrize("token", ["", "short", "with a blank in it, too", "ümläute-are-no-header", "a" * 20 + "\nb"])
def test_a_token_that_can_be_guessed_or_not_be_sent_is_refused(token, tmp_path):
    (tmp_path / "token").write_text(token, encoding="utf-8")
    with pytest.raises(InputError, match="at least 16 ASCII characters and no blanks"):
        read_token(tmp_path / "token")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InputError, match="nothing: cannot be read"):
        read_token(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("header", "right"),
    [
        (f"Bearer {TOKEN}", True),
        (f"bearer {TOKEN}", True),
        (f"Basic {TOKEN}", False),
        (TOKEN, False),
        (f"Bearer {TOKEN}x", False),
        (f"Bearer {TOKEN[:-1]}", False),
        ("Bearer", False),
        ("Bearer \xe9", False),
    ],
)
def test_only_the_token_itself_is_right(header, right):
    assert shows_token(header.encode("latin-1"), TOKEN) is right
