"""Answers to prompts, from texts to texts."""

import json

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from deni.errors import SettingError
from deni.generation.answers import majority
from deni.generation.generator import Generator
from tests.helpers.generating import END, VOCABULARY, by_hand, copies, language_model, members_of

TEXTS = ["w5 w9 w31", "w8 w20 w7 w6 w12", "w3"]


def tokenizer(**special):
    """A token for each word."""
    words = {f"w{at}": at for at in range(1, VOCABULARY - 1)} | {"<pad>": 0, "<end>": END, "abcdef": VOCABULARY - 1}
    del words[f"w{END}"]
    made = Tokenizer(models.WordLevel(words, unk_token="w1"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>", **special)


def ids(text):
    return [int(word[1:]) for word in text.split()]


def text_of(tokens):
    return tokenizer(pad_token="<pad>").decode(tokens, skip_special_tokens=True)


@pytest.mark.parametrize("name", ["llama", "bart"])
def test_the_vote_on_tokens_answers_each_prompt_in_its_order(name):
    population = members_of(language_model(name, "lora"))
    answers = Generator(population, tokenizer(pad_token="<pad>")).generate(TEXTS, max_new_tokens=4, batch_size=2)
    expected = [by_hand(copies(population), ids(text), 4) for text in TEXTS]
    assert [answer.tokens for answer in answers] == expected
    assert [answer.text for answer in answers] == [text_of(tokens) for tokens in expected]
    assert all(len(answer.disagreement) == len(answer.tokens) == len(answer.divergence) for answer in answers)
    assert {answer.agreement for answer in answers} == {None}


def test_the_vote_on_answers_is_the_majority_of_what_each_member_writes():
    population = members_of(language_model("gpt2", "lora"), members=4, variance=0.05)
    generator = Generator(population, tokenizer(pad_token="<pad>"))
    answers = generator.generate(TEXTS, vote="answers", max_new_tokens=3)
    for text, answer in zip(TEXTS, answers, strict=True):
        own = [text_of(by_hand([model], ids(text), 3)) for model in copies(population)]
        assert answer.answers == own
        counts = [own.count(each) for each in own]
        assert own.count(answer.text) == max(counts)
        assert answer.agreement == max(counts) / 4
    assert any(answer.agreement < 1 for answer in answers)


def test_without_a_padding_token_the_end_token_pads():
    population = members_of(language_model("llama", "lora"))
    expected = Generator(population, tokenizer(pad_token="<pad>")).generate(TEXTS, max_new_tokens=3)
    population.model.get_base_model().generation_config.pad_token_id = None
    assert [each.tokens for each in Generator(population, tokenizer()).generate(TEXTS, max_new_tokens=3)] == [
        each.tokens for each in expected
    ]


def test_samples_of_all_members_are_counted():
    population = members_of(language_model("llama", "lora"), members=2)
    generator = Generator(population, tokenizer(pad_token="<pad>"))
    options = {"vote": "answers", "do_sample": True, "num_return_sequences": 3, "max_new_tokens": 1}
    first, again, other = (generator.generate(TEXTS, seed=seed, **options) for seed in (1, 1, 2))
    assert first == again != other
    for answer in first:
        assert len(answer.answers) == 6
        assert answer.agreement == majority(answer.answers, [0.0] * 6).share


def test_members_answers_beside_the_vote_on_tokens():
    population = members_of(language_model("llama", "lora"))
    generator = Generator(population, tokenizer(pad_token="<pad>"))
    answers = generator.generate(TEXTS, with_answers=True, max_new_tokens=3)
    own = [[text_of(by_hand([model], ids(text), 3)) for model in copies(population)] for text in TEXTS]
    assert [answer.answers for answer in answers] == own
    shares = [each.count(answer.text) / 3 for each, answer in zip(own, answers, strict=True)]
    assert [answer.agreement for answer in answers] == shares
    row = json.loads(json.dumps(answers[0].row()))
    assert row["answer_agreement"] == shares[0]
    assert row["token_disagreement"] == pytest.approx(sum(answers[0].disagreement) / len(answers[0].tokens))


def test_a_stop_string_ends_an_answer():
    population = members_of(language_model("llama", "lora"))
    generator = Generator(population, tokenizer(pad_token="<pad>"))
    whole = generator.generate(TEXTS, max_new_tokens=4)
    words = whole[0].text.split()
    stopped = generator.generate(TEXTS, max_new_tokens=4, stop_strings=[words[1]])
    assert stopped[0].text == " ".join(words[:2]) != whole[0].text
    assert len(stopped[0].tokens) == 2


def test_messages_go_through_the_template_of_the_chat():
    population = members_of(language_model("llama", "lora"))
    chat = tokenizer(pad_token="<pad>")
    chat.chat_template = (
        "{% for each in messages %}w11 {{ each['content'] }} {% endfor %}{% if add_generation_prompt %}w12{% endif %}"
    )
    generator = Generator(population, chat)
    answer = generator.generate([[{"role": "user", "content": "w5"}]], max_new_tokens=3)
    assert answer == generator.generate(["w11 w5 w12"], max_new_tokens=3)


def test_the_callers_generators_stay_where_they_are():
    generator = Generator(members_of(language_model("llama", "lora")), tokenizer(pad_token="<pad>"))
    before = torch.get_rng_state()
    generator.generate(TEXTS[:1], do_sample=True, max_new_tokens=2)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vote": "members"}, "vote must be one of tokens, answers, not 'members'"),
        ({"num_return_sequences": 2}, "a vote on tokens has one answer"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"prompts": ["w5", ""]}, r"prompts without tokens: 1 \(counted from 0\)"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    generator = Generator(members_of(language_model("llama", "lora")), tokenizer(pad_token="<pad>"))
    with pytest.raises(SettingError, match=message):
        generator.generate(**{"prompts": TEXTS, "max_new_tokens": 2, **options})
