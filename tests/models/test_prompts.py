"""Token ids of prompts and answers: what is learned, what is cut, what cannot be encoded."""

import pytest

from deni.data import Texts
from deni.data.conversations import Conversation
from deni.errors import InputError, SettingError
from deni.models.prompts import Prompting, answer_rows, check_template, encoded, longest_answer, longest_rows
from tests.helpers.generators import CHAT, byte_tokenizer

ASK, REPLY = {"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "four"}
MORE, LAST = {"role": "user", "content": "And 3?"}, {"role": "assistant", "content": "six"}


def texts_of(*rows):
    prompts, answers = zip(*rows, strict=True)
    return Texts(list(prompts), list(answers), "qa.jsonl", None, "generation")


def made(rows, max_length=64, causal=True, tokenizer=None):
    prompting = Prompting(tokenizer or byte_tokenizer(), causal, max_length)
    texts = texts_of(*rows)
    return answer_rows(texts, encoded(texts, prompting), prompting)


def test_a_causal_model_learns_the_answer_and_its_end():
    tokenizer = byte_tokenizer()
    (row,) = made([("2 + 2 =", " 4")])
    assert tokenizer.decode(row["input_ids"]) == "2 + 2 = 4</s>"
    learned = [label for label in row["labels"] if label != -100]
    assert tokenizer.decode(learned) == " 4</s>"
    assert row["labels"][-3:] == row["input_ids"][-3:]
    assert len(learned) == 3
    assert Prompting(tokenizer, True, 64).prompt("2 + 2 =") == row["input_ids"][:7]


def test_an_encoder_reads_the_prompt_and_the_decoder_learns_the_answer():
    tokenizer = byte_tokenizer()
    (row,) = made([("2 + 2 =", "4")], causal=False)
    assert tokenizer.decode(row["input_ids"]) == "2 + 2 ="
    assert tokenizer.decode(row["labels"]) == "4</s>"


def test_of_a_chat_the_tokens_that_the_template_marks_as_generated_are_learned():
    tokenizer, messages = byte_tokenizer(), [ASK, REPLY, MORE]
    (row,) = made([(Conversation(messages), LAST["content"])], 96)
    expected = tokenizer.apply_chat_template(
        [*messages, LAST], return_dict=True, return_assistant_tokens_mask=True, tokenize=True
    )
    assert row["input_ids"] == expected["input_ids"]
    assert [int(label != -100) for label in row["labels"]] == expected["assistant_masks"]
    assert sum(expected["assistant_masks"]) == len("four") + len("six") + 2
    prompt = Prompting(tokenizer, True, 96).prompt(Conversation(messages))
    assert tokenizer.decode(prompt) == "<|user|>2 + 2?<|assistant|>four</s><|user|>And 3?<|assistant|>"
    assert Prompting(tokenizer, True, 96).prompt(messages) == prompt


def test_a_prompt_that_is_too_long_loses_its_first_tokens_and_an_answer_none():
    with pytest.warns(UserWarning, match="1 of 2 rows are longer than 6 tokens: a prompt that is too long loses"):
        long, short = made([("abcdefgh", "xyz"), ("a", "x")], 6)
    assert byte_tokenizer().decode(long["input_ids"]) == "ghxyz</s>"
    assert long["labels"][:2] == [-100, -100]
    assert -100 not in long["labels"][2:]
    assert byte_tokenizer().decode(short["input_ids"]) == "ax</s>"
    with pytest.warns(UserWarning, match="1 of 1 rows"):
        (cut,) = made([("abcdefgh", "xyz")], 6, causal=False)
    assert byte_tokenizer().decode(cut["input_ids"]) == "abcdef"
    with pytest.raises(InputError, match="text 2: an answer of 6 tokens does not fit into 6: raise"):
        made([("a", "x"), ("a", "vwxyz")], 6)
    with pytest.raises(InputError, match="text 1: a conversation of 32 tokens does not fit into 20"):
        made([(Conversation([ASK]), "four")], 20)


def test_the_longest_row_and_answer_decide_what_is_cut_and_generated():
    rows = encoded(texts_of(("abc", "x"), ("a", "vwxyz")), Prompting(byte_tokenizer(), True, 64))
    assert (longest_rows(rows, None, 64), longest_rows(rows, None, 5), longest_rows(rows, 6, 64)) == (7, 5, 6)
    assert longest_answer(rows) == 6
    with pytest.raises(InputError, match="max_length 99 is over the model's limit of 64"):
        longest_rows(rows, 99, 64)


def test_what_cannot_be_encoded_is_named():
    chat = texts_of((Conversation([ASK]), "four"))
    with pytest.raises(InputError, match="its prompts are messages, and the tokenizer of MODEL has no chat template"):
        check_template(byte_tokenizer(None), chat, "MODEL")
    check_template(byte_tokenizer(), chat, "MODEL")
    check_template(byte_tokenizer(None), texts_of(("a", "b")), "MODEL")
    refusing = byte_tokenizer("{{ raise_exception('no such role') }}")
    with pytest.raises(InputError, match=r"qa\.jsonl, text 1: no such role"):
        made([(Conversation([ASK]), "four")], tokenizer=refusing)
    forgetful = byte_tokenizer(CHAT.replace("for message in messages", "for message in messages[-1:]"))
    with pytest.raises(InputError, match="text 1: the chat template writes message 2 not as a continuation"):
        made([(Conversation([ASK, REPLY, MORE]), "six")], tokenizer=forgetful)
    endless = byte_tokenizer()
    endless.eos_token = None
    with pytest.raises(SettingError, match="no eos_token"):
        made([("a", "b")], tokenizer=endless)
