import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
from click import Abort
from click.testing import CliRunner

from deni.augmentation import make_augmenter
from deni.augmentation.answers import FILE, Answer, Answers
from deni.cli import main
from deni.errors import InputError
from tests.helpers.chat_server import PROMPT, completion, paraphrases, serving
from tests.helpers.tiny import heed_interrupts

TEXTS = [f"where is parcel {i}" for i in range(12)]
LABELS = ["delivery", "billing"] * 6


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


def made(augmenter, texts=TEXTS, labels=LABELS, n=2, seed=0):
    """What the augmenter makes of the texts, from start to finish."""
    augmenter.start(texts, labels[: len(texts)], n, seed)
    try:
        return augmenter.make(texts, labels[: len(texts)], n, [])
    finally:
        augmenter.finish()


def expected(texts=TEXTS, n=2):
    return [paraphrases(f"{n} of any: {text}") for text in texts]


def refusing(status, **headers):
    body = {"error": {"message": "it cannot be"}}
    return lambda _: (status, {name.replace("_", "-"): str(value) for name, value in headers.items()}, body)


def saying(content):
    return lambda _: content


# What is asked, and how.


def test_paraphrases_come_in_the_order_of_the_texts_with_several_requests_under_way(server, llm):
    def slower_at_first(body):
        time.sleep(0.1 if body["messages"][0]["content"].endswith("parcel 0") else 0.01)

    server.always = slower_at_first
    assert made(llm(concurrency=3)) == expected()
    assert server.most_under_way == 3
    assert len(server.asked) == len(TEXTS)


def test_it_works_where_an_event_loop_runs_already_as_in_a_notebook(server, llm):
    async def cell():
        return made(llm(), TEXTS[:1])

    assert asyncio.run(cell()) == expected(TEXTS[:1])


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


# What a server may do instead of answering.


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


# What may be in an answer.


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


# What is stored.


def test_an_answered_request_is_not_sent_again(server, llm):
    made(llm(), TEXTS[:5])
    assert made(llm(timeout=5, concurrency=1, max_retries=0, price_input=1.0)) == expected()
    assert len(server.asked) == len(TEXTS) == len(set(server.asked))


@pytest.mark.parametrize(
    "change", [{"llm_model": "other"}, {"temperature": 0.5}, {"prompt": PROMPT + "!"}, {"seed": 1}, {"n": 3}]
)
def test_what_decides_an_answer_asks_anew(server, llm, change):
    made(llm(), TEXTS[:2])
    call = {key: change[key] for key in change if key in ("seed", "n")}
    made(llm(**{key: change[key] for key in change if key not in call}), TEXTS[:2], **call)
    assert len(server.asked) == 4


def test_another_server_asks_anew(server, llm):
    made(llm(), TEXTS[:2])
    with serving() as other:
        made(llm(base_url=other.url), TEXTS[:2])
        assert len(other.asked) == 2


def test_equal_texts_at_one_time_are_asked_for_once(server, llm):
    assert made(llm(), ["same"] * 4, ["a"] * 4) == expected(["same"] * 4)
    assert len(server.asked) == 1


def test_of_two_answers_to_one_request_the_first_counts(tmp_path):
    first, second = Answers(tmp_path), Answers(tmp_path)
    assert first.put("?", Answer("a", 1, 2)) == Answer("a", 1, 2)
    assert second.put("?", Answer("b")) == Answer("a", 1, 2)
    assert second.get("!") is None
    first.close(), second.close()


def test_answers_of_many_writers_are_all_there(tmp_path):
    def write(own):
        answers = Answers(tmp_path)
        for i in range(8):
            answers.put(f"{own} {i}", Answer(str(i)))
        answers.close()

    threads = [threading.Thread(target=write, args=(own,)) for own in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers = Answers(tmp_path)
    assert all(answers.get(f"{own} {i}") == Answer(str(i)) for own in range(4) for i in range(8))
    answers.close()


@pytest.mark.parametrize("spoil", ["file", "folder"])
def test_a_store_that_cannot_be_used_is_named(llm, tmp_path, spoil):
    folder = tmp_path / "cache"
    if spoil == "folder":
        folder.write_text("")
    else:
        folder.mkdir()
        (folder / FILE).write_text("no database, but long enough to be looked at")
    with pytest.raises(InputError, match=rf"{FILE}: .*--cache"):
        made(llm())


# What it costs.


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


# What is refused before anything is asked.


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
        ({"base_url": "localhost:8000"}, "'localhost:8000/' is no address"),
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


def test_a_key_with_impossible_characters_is_not_sent(llm, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "ключ")
    with pytest.raises(InputError, match="OPENAI_API_KEY"):
        made(llm())


# The whole command.


@pytest.fixture
def texts(tmp_path):
    file = tmp_path / "texts.csv"
    pd.DataFrame({"text": TEXTS, "label": LABELS}).to_csv(file, index=False)
    return file


@pytest.fixture
def arguments(server, texts):
    def make(output, cache, *more):
        own = ["--llm-model", "m", "--base-url", server.url, "--prompt", PROMPT, "--cache", cache, "--concurrency", 3]
        return [str(each) for each in ("augment", texts, "--method", "llm", "--n", 2, "--output", output, *own, *more)]

    return make


def deni(arguments):
    return CliRunner().invoke(main, arguments)


def started(arguments):
    command = [sys.executable, "-c", "from deni.cli import main; main()", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=os.environ, preexec_fn=heed_interrupts, **pipes)


def wait_for(what):
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_command_writes_paraphrases_with_the_labels_of_their_texts(server, arguments, tmp_path):
    output = tmp_path / "new.csv"
    result = deni(arguments(output, tmp_path / "cache", "--yes"))
    assert result.exit_code == 0, result.output
    frame = pd.read_csv(output)
    assert list(frame.seed) == [text for text in TEXTS for _ in range(2)]
    assert list(frame.label) == [label for label in LABELS for _ in range(2)]
    assert list(frame.text) == [new for own in expected() for new in own]
    assert "12 requests sent, 12 answered: 120 input and 60 output tokens" in result.stderr
    assert "24 new texts of 12 labelled ones" in result.stdout


def test_the_command_without_yes_and_terminal_shows_the_estimate_and_exits_with_2(server, arguments, tmp_path):
    result = deni(arguments(tmp_path / "new.csv", tmp_path / "cache"))
    assert result.exit_code == 2
    assert "12 requests" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("Error: nothing was sent")
    assert server.asked == []
    assert not (tmp_path / "new.csv").exists()


def test_missing_paraphrases_are_a_warning_of_the_command(server, arguments, tmp_path):
    def poor(body):
        return '["only this"]' if "parcel 3" in body["messages"][0]["content"] else None

    server.always = poor
    result = deni(arguments(tmp_path / "new.csv", tmp_path / "cache", "--yes"))
    assert result.exit_code == 0, result.output
    assert "1 of 24 new texts are missing" in result.stderr
    assert len(pd.read_csv(tmp_path / "new.csv")) == 23


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_command_goes_on_without_asking_anything_twice(server, arguments, tmp_path, how):
    answered, released, calls = 5, threading.Event(), []

    def five_then_hang(body):
        calls.append(body)
        if len(calls) > 5:
            released.wait(60)

    server.always = five_then_hang
    again = arguments(tmp_path / "stopped.csv", tmp_path / "cache", "--yes")
    process = started(again)
    # Each of three places has a request that is not answered: what was answered before is stored.
    wait_for(lambda: len(calls) == 8)
    begun = time.monotonic()
    process.send_signal(how)
    said = []
    for line in process.stderr:
        said.append(line)
        if "waiting" in line:
            released.set()  # what is under way comes in, for it is paid
    stdout, stderr = process.stdout.read(), "".join(said)
    process.wait(60)
    assert time.monotonic() - begun < 10
    assert process.returncode == (130 if how == signal.SIGINT else -how)
    if how == signal.SIGINT:
        answered += 3
        assert "Interrupted." in stdout
        assert "llm: 8 requests sent, 8 answered: 80 input" in stderr
        assert "Traceback" not in stderr
    assert not (tmp_path / "stopped.csv").exists()
    paid = list(server.answered)
    assert len(paid) == answered
    server.always = None
    released.set()
    server.asked.clear()
    result = deni(again)
    assert result.exit_code == 0, result.output
    assert f"{12 - answered} requests to {server.url}/; {answered} are answered already" in result.stderr
    assert sorted([*server.asked, *paid]) == sorted(
        PROMPT.format(n=2, label=label, text=text) for text, label in zip(TEXTS, LABELS, strict=True)
    )
    assert deni(arguments(tmp_path / "whole.csv", tmp_path / "other", "--yes")).exit_code == 0
    assert (tmp_path / "stopped.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_two_commands_at_one_time_share_their_answers(server, arguments, tmp_path):
    numbers = iter(range(1000))

    def never_the_same(_):
        time.sleep(0.1)
        with server.lock:
            return json.dumps([f"new {next(numbers)}", f"new {next(numbers)}"])

    server.always = never_the_same
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    process = started(arguments(one, tmp_path / "cache", "--yes"))
    wait_for(lambda: server.asked)
    result = deni(arguments(two, tmp_path / "cache", "--yes"))
    assert result.exit_code == 0, result.output
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert one.read_bytes() == two.read_bytes()


def test_a_run_with_other_decisions_is_not_continued(server, arguments, tmp_path):
    server.plan = [*[lambda _: None] * 10, refusing(401)]
    big = tmp_path / "big.csv"
    pd.DataFrame({"text": [f"text {i}" for i in range(24)], "label": LABELS * 2}).to_csv(big, index=False)
    own = arguments(tmp_path / "new.csv", tmp_path / "cache", "--yes", "--concurrency", 1)
    own[1] = str(big)
    first = deni(own)
    assert first.exit_code == 2
    assert "8 of 24 texts are finished and kept" in first.stderr
    second = deni([*own, "--temperature", "0.5"])
    assert second.exit_code == 2
    assert "temperature: None there, 0.5 here" in second.stderr
    server.plan = []
    third = deni([*own, "--timeout", "9", "--max-retries", "1"])
    assert third.exit_code == 0, third.output
    assert len(server.answered) == len(set(server.answered)) == 24
    assert not Path(f"{tmp_path / 'new.csv'}.partial.jsonl").exists()
