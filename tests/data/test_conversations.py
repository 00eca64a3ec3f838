"""Prompts and answers of files: two columns, or the messages of chats; what is wrong is named with row and column."""

import json
import pickle

import pandas as pd
import pytest

from deni.data import read_data
from deni.data.conversations import Conversation
from deni.errors import InputError

ASK, REPLY = {"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}
SYSTEM, MORE = {"role": "system", "content": "Be short."}, {"role": "user", "content": "And 3 + 3?"}
LAST = {"role": "assistant", "content": "6"}


def read(folder, rows, kind="jsonl", **options):
    file, frame = folder / f"qa.{kind}", pd.DataFrame(rows)
    if kind == "jsonl":
        file.write_text("\n".join(json.dumps(each) for each in rows))
    elif kind == "parquet":
        frame.to_parquet(file)
    else:
        frame.map(lambda value: value if isinstance(value, str) else json.dumps(value)).to_csv(file, index=False)
    return read_data(file, task="generation", **options)


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv"])
def test_prompts_and_completions_are_texts_as_they_are(tmp_path, kind):
    texts = read(tmp_path, [{"prompt": "2 + 2 =", "completion": " 4"}, {"prompt": "a", "completion": "b\n"}], kind)
    assert texts.texts == ["2 + 2 =", "a"]
    assert texts.labels == [" 4", "b\n"]
    assert not texts.pairs


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv"])
def test_the_last_message_of_a_chat_is_the_answer(tmp_path, kind):
    texts = read(tmp_path, [{"messages": [SYSTEM, ASK, REPLY, MORE, LAST]}, {"messages": [ASK, REPLY]}], kind)
    assert texts.labels == ["6", "4"]
    assert [list(each.messages) for each in texts.texts] == [[SYSTEM, ASK, REPLY, MORE], [ASK]]
    assert texts.texts[1] == "user: 2 + 2?"
    assert pickle.loads(pickle.dumps(texts.texts[0])).messages == texts.texts[0].messages


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_prompt_of_messages_has_a_completion_of_one_message_or_a_text(tmp_path, kind):
    texts = read(tmp_path, [{"prompt": [ASK], "completion": [REPLY]}, {"prompt": [MORE], "completion": "6"}], kind)
    assert texts.labels == ["4", "6"]
    assert all(isinstance(each, Conversation) for each in texts.texts)


def test_other_columns_may_be_named_and_prompts_need_no_answers(tmp_path):
    named = {"text_column": "question", "label_column": "reply"}
    assert read(tmp_path, [{"question": "a", "reply": "b"}], **named).labels == ["b"]
    assert read(tmp_path, [{"prompt": "a"}], labels=False).labels is None
    whole = read(tmp_path, [{"messages": [ASK]}], labels=False)
    assert list(whole.texts[0].messages) == [ASK]


WRONG = {
    "no answer": (
        [{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": " "}],
        "line 2, column 'completion'",
    ),
    "a null": ([{"prompt": "a", "completion": None}], "line 1, column 'completion': None where an answer"),
    "no prompt": ([{"prompt": "", "completion": "b"}], "line 1, column 'prompt': empty text"),
    "other columns": ([{"question": "a"}], "neither a column 'prompt' nor 'messages' among 'question'"),
    "no column of answers": ([{"prompt": "a"}], "no column 'completion'"),
    "no list": ([{"messages": "hello"}], "line 1, column 'messages': 'hello' where a list of messages"),
    "an empty list": ([{"messages": []}], "line 1, column 'messages': [] where a list of messages"),
    "no role": (
        [{"messages": [{"content": "a"}]}],
        "message 1 is {'content': 'a'}, not an object with role and content",
    ),
    "no content": ([{"messages": [ASK, {"role": "assistant", "content": None}]}], "message 2 (assistant) is empty"),
    "parts": ([{"messages": [{"role": "user", "content": [1]}, REPLY]}], "message 1 (user) is [1], not a text"),
    "the user last": ([{"messages": [ASK, REPLY, MORE]}], "the last message is of 'user'"),
    "an answer alone": ([{"messages": [REPLY]}], "line 1, column 'messages'"),
    "two answers": (
        [{"prompt": [ASK], "completion": [REPLY, LAST]}],
        "column 'completion': one message of 'assistant'",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_named_in_one_line(tmp_path, what):
    rows, expected = WRONG[what]
    with pytest.raises(InputError) as error:
        read(tmp_path, rows)
    assert expected in str(error.value)
    assert "qa.jsonl" in str(error.value)
    assert "\n" not in str(error.value)


def test_pairs_and_orders_are_refused(tmp_path):
    rows = [{"prompt": "a", "second": "b", "completion": "c"}]
    with pytest.raises(InputError, match="one prompt a row, not pairs"):
        read(tmp_path, rows, text_pair_column="second")
    with pytest.raises(InputError, match="an order of the labels is for --task ordinal, not generation"):
        read(tmp_path, rows, label_order=("a", "b"))
