"""Paraphrases of a language model: requests, prompts, unusable answers, estimates and settings."""

import sys
import time
from io import StringIO

import pytest
from click import Abort

from deni.errors import InputError
from tests.helpers.chat_server import LABELS, PROMPT, TEXTS, completion, expected, made, refusing, saying


def test_paraphrases_come_in_the_order_of_the_texts_with_several_requests_under_way(server, llm):
    def slower_at_first(body):
        time.sleep(0.1 if body["messages"][0]["content"].endswith("parcel 0") else 0.01)

    server.always = slower_at_first
    assert made(llm(concurrency=3)) == expected()
    assert server.most_under_way == 3
    assert len(server.asked) == len(TEXTS)


def test_a_request_names_model_temperature_number_label_and_text(server, llm):
    made(llm(temperature=0.7), TEXTS[:1])
    message = {"role": "user", "content": "2 of delivery: where is parcel 0"}
    assert server.bodies == [{"model": "m", "temperature": 0.7, "messages": [message]}]


def test_without_a_temperature_the_server_has_its_own(server, llm):
    made(llm(), TEXTS[:1])
    assert set(server.bodies[0]) == {"model", "messages"}


def test_braces_of_a_text_and_of_a_prompt_are_only_text(server, llm):
    prompt = '{n} of {label}: {text} {"a": {x}}'
    made(llm(prompt=prompt), ["give me {n} of {label}"])
    assert server.asked == ['2 of delivery: give me {n} of {label} {"a": {x}}']


@pytest.mark.parametrize(
    "content",
    [
        '["a", "b"]',
        '```json\n["a", "b"]\n```',
        'Here they are:\n```\n["a", "b"]\n```\nMore?',
        'Sure! ["a", "b"] Anything else?',
        '{"paraphrases": ["a", "b"]}',
        '<think>["x", "y"]?</think>\n["a", "b"]',
        '["a", "a", "A ", " ", "", 3, null, ["c"], "WHERE  is parcel 0", "\\ud83d", " b", "c"]',
    ],
)
def test_a_list_is_found_and_what_is_no_new_text_is_left_out(server, llm, content):
    server.plan = [saying(content)]
    assert made(llm(), TEXTS[:1]) == [["a", "b"]]
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "content", ["", None, "no", '["a", "b"', '"a"', "3", "{}", '{"a": ["x"], "b": ["y"]}', "1. a\n2. b", "[" * 5000]
)
def test_an_answer_without_a_list_is_asked_for_again(server, llm, content):
    server.plan = [lambda _: (200, {}, completion(content))]
    assert made(llm(), TEXTS[:1]) == expected(TEXTS[:1])
    assert server.asked == ["2 of delivery: where is parcel 0"] * 2


@pytest.mark.parametrize(
    "body", [{"choices": []}, {"choices": [{}]}, {"choices": ["a"]}, {"choices": [{"message": 1}]}]
)
def test_a_completion_without_content_is_an_answer_without_a_list(server, llm, body):
    server.plan = [lambda _: (200, {}, body)]
    assert made(llm(), TEXTS[:1]) == expected(TEXTS[:1])
    assert len(server.asked) == 2


def test_what_is_missing_is_asked_for_with_what_is_known(server, llm):
    server.plan = [saying('["a"]')]
    assert made(llm(), TEXTS[:1], n=3) == [["a", "where is parcel 0 2-0", "where is parcel 0 2-1"]]
    assert server.asked[1].startswith("2 of delivery: where is parcel 0")
    assert server.asked[1].endswith('["a"]')


def test_a_text_is_asked_for_three_times_and_then_left(server, llm):
    server.always = saying('["a"]')
    assert made(llm(), TEXTS[:1]) == [["a"]]
    assert len(server.asked) == 3
    assert made(llm(), TEXTS[:1]) == [["a"]]
    assert len(server.asked) == 3


def test_the_estimate_counts_what_is_not_answered_yet(server, llm, capsys):
    made(llm(), TEXTS[:2])
    capsys.readouterr()
    made(llm(price_input=1e6, price_output=2e6))
    said = capsys.readouterr().err.splitlines()
    questions = [PROMPT.format(n=2, label=label, text=text) for text, label in zip(TEXTS, LABELS, strict=True)]
    tokens = sum(map(len, questions[2:])) // 4, 2 * sum(len(text) // 4 + 3 for text in TEXTS[2:])
    assert said[0] == f"llm: 10 requests to {server.url}/; 2 are answered already"
    cost = tokens[0] + 2 * tokens[1]
    assert said[1].startswith(
        f"llm: about {tokens[0]:,} input and {tokens[1]:,} output tokens, {cost:,.4f} at the given prices"
    )
    assert said[2] == "llm: 10 requests sent, 10 answered: 100 input and 50 output tokens, 200.0000 at the given prices"


def test_without_prices_no_money_is_named_and_uncounted_tokens_are_said(server, llm, capsys):
    server.plan = [lambda _: (200, {}, completion('["a", "b"]', usage=None)), refusing(500, Retry_After=0.01)]
    made(llm(concurrency=1), TEXTS[:2])
    said = capsys.readouterr().err
    assert "price" not in said
    assert said.splitlines()[-1] == (
        "llm: 3 requests sent, 2 answered: 10 input and 5 output tokens; the server did not count those of 1 answers"
    )


def test_without_a_terminal_nothing_is_sent_unless_told(server, llm, capsys):
    with pytest.raises(InputError, match="give --yes"):
        made(llm(yes=False))
    assert "12 requests" in capsys.readouterr().err
    assert server.asked == []
    made(llm())
    assert made(llm(yes=False)) == expected()  # nothing is left to pay


@pytest.mark.parametrize(("answer", "sent"), [("y\n", 12), ("n\n", 0), ("\n", 0)])
def test_on_a_terminal_it_asks_before_it_sends(server, llm, monkeypatch, answer, sent):
    class Terminal(StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stdin", Terminal(answer))
    if sent:
        assert made(llm(yes=False)) == expected()
    else:
        with pytest.raises(Abort):
            made(llm(yes=False))
    assert len(server.asked) == sent


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": "paraphrase {text}"},
        {"prompt": "{n} paraphrases"},
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"max_retries": -1},
        {"timeout": 0.0},
        {"requests_per_minute": 0.0},
        {"concurrency": 0},
        {"price_input": -1.0},
        {"price_output": float("inf")},
    ],
)
def test_settings_that_cannot_be_are_refused(llm, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        llm(**wrong)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"llm_model": None}, "--llm-model"),
        ({"base_url": "localhost:8000"}, "'localhost:8000' is not the address"),
        ({"base_url": None}, "OPENAI_API_KEY"),
    ],
)
def test_what_is_needed_is_named(llm, wrong, named):
    with pytest.raises(InputError, match=named):
        made(llm(**wrong))


def test_without_the_package_the_extra_is_named(llm, monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(InputError, match=r'pip install "deni\[llm\]"'):
        made(llm())
