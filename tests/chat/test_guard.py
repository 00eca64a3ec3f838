"""What a server may not do: take texts elsewhere, fill memory, never end, learn or show a key."""

import gzip
import itertools
import json
import stat
import time

import pytest

from deni.chat import guard
from deni.chat.answers import FILE
from deni.chat.guard import check_address
from deni.errors import InputError
from tests.helpers.chat_server import TEXTS, completion, expected, made, serving

KEY = "sk-very-secret-1234"


def cached(folder):
    return (folder / "cache" / FILE).read_bytes()


def test_a_redirect_to_another_place_is_not_followed(server, llm, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving() as other:
        for status in (301, 302, 307, 308):
            server.always = lambda _, status=status: (status, {"Location": f"{other.url}/chat/completions"}, {})
            before = len(server.asked)
            with pytest.raises(
                InputError, match=r"redirects to '127\.0\.0\.1', where texts and key are not sent"
            ) as caught:
                made(llm(max_retries=2), TEXTS[:1])
            assert "\n" not in str(caught.value)
            assert len(server.asked) == before + 1  # nor tried again
        assert other.asked == []


def test_a_redirect_on_the_same_server_is_followed(server, llm):
    server.plan = [lambda _: (307, {"Location": f"{server.url}/chat/completions"}, {})]
    assert made(llm(), TEXTS[:1]) == expected(TEXTS[:1])
    assert len(server.asked) == 2


@pytest.mark.parametrize("status", [200, 400])
def test_an_endless_answer_is_not_read_to_its_end(server, llm, status, monkeypatch):
    monkeypatch.setattr(guard, "MOST_BYTES", 2**20)
    sent = []

    def endless():
        for _ in range(500):
            sent.append(2**16)
            yield b" " * 2**16

    server.plan = [lambda _: (status, {}, endless())]
    with pytest.raises(InputError, match="sends more than 1 MiB"):
        made(llm(max_retries=0), TEXTS[:1])
    time.sleep(0.1)
    assert sum(sent) < 20 * 2**20


def test_an_answer_that_drips_ends(server, llm):
    augmenter = llm(timeout=5, max_retries=0)
    augmenter._chat._clock.seconds = 0.6
    server.plan = [lambda _: (200, {}, (time.sleep(0.1) or b" " for _ in itertools.count()))]
    begun = time.monotonic()
    with pytest.raises(InputError, match=r"has not ended after 0\.6 s"):
        made(augmenter, TEXTS[:1])
    assert time.monotonic() - begun < 4


def test_a_compressed_answer_that_nobody_asked_for_is_refused(server, llm):
    bomb = gzip.compress(b" " * 2**24)
    server.plan = [lambda _: (200, {"Content-Encoding": "gzip"}, bomb)]
    with pytest.raises(InputError, match="sends a compressed answer"):
        made(llm(max_retries=0), TEXTS[:1])


BODIES = [b"[" * 200_000, b'{"choices":' * 100_000, b"1" * 10_000, b"\xff\xfe", b"{}", b""]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: repr(body[:10]))
def test_a_body_that_is_no_completion_is_one_line(server, llm, body):
    server.always = lambda _: (200, {}, body)
    with pytest.raises(InputError, match="no chat completion") as caught:
        made(llm(max_retries=0), TEXTS[:1])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("count", [10**30, -1, True, 1.5, "many", None, 2**53])
def test_counts_that_are_none_are_unknown(server, llm, count, capsys):
    usage = {"usage": {"prompt_tokens": count, "completion_tokens": 5}}
    server.always = lambda _: (200, {}, completion(json.dumps(["a b c", "d e f"])) | usage)
    made(llm(), TEXTS[:1])
    said = capsys.readouterr().err
    assert "0 input and 5 output tokens; the server did not count those of 1 answers" in said


@pytest.mark.parametrize(
    "address",
    [
        "http://localhost:99999/v1",
        "http://localhost:-1",
        "http://localhost:x/v1",
        "ftp://a/b",
        "http://",
        "localhost",
        "http://[::1",
    ],
)
def test_an_address_that_is_none_is_one_line(llm, address):
    with pytest.raises(InputError, match="is not the address of a server"):
        made(llm(base_url=address), TEXTS[:1])


@pytest.mark.parametrize(
    "address",
    [
        f"http://{KEY}@host/v1",
        f"http://me:{KEY}@host/v1",
        f"http://host/v1?key={KEY}",
        f"http://host:99999999/v1?k={KEY}",
        f"x{KEY}@y",
    ],
)
def test_a_key_in_the_address_is_refused_and_not_shown(address):
    with pytest.raises(InputError) as caught:
        check_address(address)
    assert KEY not in str(caught.value)


def test_a_key_that_the_server_repeats_is_neither_shown_nor_stored(server, llm, monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.plan = [lambda _: (401, {}, {"error": {"message": f"Incorrect API key provided: {KEY}"}})]
    with pytest.raises(InputError, match=r"provided: \*\*\*") as caught:
        made(llm(), TEXTS[:1])
    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is None
    server.plan = [lambda _: json.dumps([f"one {KEY}", "two"])]
    (texts,) = made(llm(), TEXTS[:1])
    assert texts[0] == "one ***"
    assert KEY.encode() not in cached(tmp_path)


def test_answers_are_their_owners_alone(server, llm, tmp_path):
    made(llm(), TEXTS[:1])
    file = tmp_path / "cache" / FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o644)  # as an earlier version left it
    made(llm(), TEXTS[:1])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
