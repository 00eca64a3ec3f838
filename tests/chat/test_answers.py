"""Stored answers: which requests are sent again, and many writers at one time."""

import threading

import pytest

from deni.chat.answers import FILE, Answer, Answers
from deni.errors import InputError
from tests.helpers.chat_server import PROMPT, TEXTS, expected, made, serving


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
