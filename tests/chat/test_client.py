"""Requests to a server: key, address, distance, retries, refusals."""

import asyncio
import threading
import time

import pytest

from deni.chat.answers import FILE
from deni.errors import InputError
from tests.helpers.chat_server import (
    TEXTS,
    expected,
    made,
    refusing,
)


def test_it_works_where_an_event_loop_runs_already_as_in_a_notebook(server, llm):
    async def cell():
        return made(llm(), TEXTS[:1])

    assert asyncio.run(cell()) == expected(TEXTS[:1])


@pytest.mark.parametrize(("key", "sent"), [(None, "Bearer none"), ("secret-key\n", "Bearer secret-key")])
def test_the_key_comes_from_the_environment_and_a_local_server_needs_none(
    server, llm, monkeypatch, tmp_path, key, sent
):
    if key:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    made(llm(), TEXTS[:1])
    assert server.keys == [sent]
    assert b"secret-key" not in (tmp_path / "cache" / FILE).read_bytes()


def test_the_address_may_come_from_the_environment(server, llm, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    augmenter = llm(base_url=None)
    assert augmenter.decided_by() == {"base_url": f"{server.url}/"}
    assert made(augmenter) == expected()


def test_requests_keep_a_distance_so_that_a_minute_has_no_more_than_allowed(server, llm):
    begun = time.monotonic()
    made(llm(requests_per_minute=100), TEXTS[:3])
    assert time.monotonic() - begun > 1.2
    assert len(server.asked) == 3


def test_a_server_that_is_busy_is_asked_again_after_the_time_it_says(server, llm):
    server.plan = [refusing(429, Retry_After=0.7)]
    assert made(llm(), TEXTS[:1]) == expected(TEXTS[:1])
    assert len(server.asked) == 2
    assert server.times[1] - server.times[0] > 0.69  # the client's own first wait is 0.5 s at most


def test_a_server_that_fails_twice_is_asked_a_third_time(server, llm):
    server.plan = [refusing(500, Retry_After=0.01), refusing(503, Retry_After=0.01)]
    assert made(llm(), TEXTS[:1]) == expected(TEXTS[:1])
    assert len(server.asked) == 3


def test_a_server_that_does_not_answer_in_time_is_asked_again(server, llm):
    server.plan = [lambda _: time.sleep(1.2)]
    assert made(llm(timeout=0.4), TEXTS[:1]) == expected(TEXTS[:1])
    assert len(server.asked) > 1


def test_what_is_under_way_when_another_request_is_refused_is_stored(server, llm):
    both = threading.Barrier(2)

    def one_of_two(body):
        both.wait()
        if body["messages"][0]["content"].endswith("parcel 0"):
            return refusing(400)(body)
        time.sleep(0.3)

    server.always = one_of_two
    with pytest.raises(InputError, match="refused with 400"):
        made(llm(concurrency=2), TEXTS[:4])
    server.always = None
    assert made(llm(), TEXTS[:4]) == expected(TEXTS[:4])
    assert [text for text in TEXTS[:4] for asked in server.asked if asked.endswith(text)] == [TEXTS[0], *TEXTS[:4]]


def test_retries_end_and_what_was_answered_is_kept(server, llm):
    server.plan = [lambda _: None, *[refusing(500, Retry_After=0.01)] * 3]
    with pytest.raises(InputError, match=r"refused with 500, 'it cannot be'.*answers so far are kept"):
        made(llm(max_retries=2, concurrency=1))
    assert len(server.asked) == 4
    assert made(llm()) == expected()
    assert sorted(server.answered) == sorted(set(server.answered))


def test_a_server_that_is_not_there_is_named_with_what_to_check(llm, server):
    with pytest.raises(InputError, match=r"http://127.0.0.1:1/v1/: .* after 0 retries: check --base-url"):
        made(llm(base_url="http://127.0.0.1:1/v1", max_retries=0))


@pytest.mark.parametrize(
    ("status", "cure"),
    [(400, "check --llm-model, --temperature"), (401, "OPENAI_API_KEY"), (403, "OPENAI_API_KEY"), (404, "--base-url")],
)
def test_a_refusal_that_stays_one_ends_it_at_once(server, llm, status, cure):
    server.always = refusing(status)
    with pytest.raises(InputError, match=rf"refused with {status}, 'it cannot be': .*{cure}") as caught:
        made(llm(concurrency=1))
    assert len(server.asked) == 1
    assert "\n" not in str(caught.value)


def test_a_wait_of_many_minutes_is_said_and_not_waited_for(server, llm):
    server.always = refusing(429, Retry_After=3600)
    with pytest.raises(InputError, match=r"429, .*Retry-After: 3600.*--requests-per-minute"):
        made(llm(concurrency=1))
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "body", [b"<html>hello</html>", b'{"choices": [', b'{"result": 1}', b"[1]", b'{"choices": null}']
)
def test_what_is_no_chat_completion_is_shown(server, llm, body):
    server.always = lambda _: (200, {}, body)
    with pytest.raises(InputError, match=r"no chat completion but .*: check --base-url"):
        made(llm(concurrency=1))
    assert len(server.asked) == 1


def test_a_key_with_impossible_characters_is_not_sent(llm, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "ключ")
    with pytest.raises(InputError, match="OPENAI_API_KEY"):
        made(llm())
