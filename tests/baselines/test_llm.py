"""A language model as a baseline: what it is asked, how its answers count, what it costs, where it runs."""

import json
import math

import numpy as np
import pytest
import yaml
from sklearn.metrics import f1_score

from deni.baselines import BaselineClassifier, make_baseline
from deni.data import Texts
from deni.errors import InputError, SettingError
from deni.recipe import Recipe
from tests.helpers.chat_server import completion, refusing
from tests.helpers.tiny import toy_rows

ROWS, NEW = toy_rows(4), toy_rows(6, seed=1)
TEXTS, LABELS = [text for text, _ in ROWS], [label for _, label in ROWS]
CLASSES = sorted(set(LABELS))
RIGHT = dict(ROWS + NEW)


def asked_for(body):
    """The text at the end of a prompt."""
    return body["messages"][0]["content"].rpartition("Text: ")[2].removesuffix("\nAnswer:")


def knowing(body):
    """Always right."""
    return json.dumps({"label": RIGHT[asked_for(body)]})


@pytest.fixture
def llm(server, tmp_path):
    def make(**settings):
        own = {"llm_model": "m", "base_url": server.url, "cache": str(tmp_path / "cache"), "yes": True}
        return make_baseline("llm", **{**own, **settings})

    server.always = knowing
    return make


def fitted(baseline, texts=TEXTS, labels=LABELS, task="single_label", order=()):
    return baseline.fit(Texts(texts, labels, "toy", None, task, order), Recipe(task=task))


def test_a_request_has_the_labels_examples_the_text_and_a_schema(server, llm):
    baseline = llm(examples=1, descriptions={"fruit": "what grows"}, instruction="Notes of a shop.")
    found = fitted(baseline, ["a", "b", "c"], ["fruit", "animal", "fruit"])
    server.always = lambda _: '{"label": "animal"}'
    assert found.outputs(["d e"]).argmax(1).tolist() == [0]
    (body,) = server.bodies
    assert body["messages"] == [
        {
            "role": "user",
            "content": "Notes of a shop.\n\nWhich one of these labels does the text have?\n\n- animal\n"
            '- fruit: what grows\n\nAnswer with a JSON object such as {"label": "animal"}, and nothing else.\n\n'
            'Text: b\nAnswer: {"label": "animal"}\n\nText: a\nAnswer: {"label": "fruit"}\n\nText: d e\nAnswer:',
        }
    ]
    schema = {
        "type": "object",
        "properties": {"label": {"type": "string", "enum": ["animal", "fruit"]}},
        "required": ["label"],
        "additionalProperties": False,
    }
    assert body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "strict": True, "schema": schema},
    }
    assert (body["model"], body["temperature"]) == ("m", 0.0)


def test_no_schema_and_no_temperature_where_the_server_knows_none(server, llm):
    fitted(llm(structured=False, temperature=None)).outputs([NEW[0][0]])
    assert set(server.bodies[0]) == {"model", "messages"}


def test_the_score_is_that_of_its_answers_and_equal_requests_are_paid_once(server, llm):
    wrong = {text for text, _ in NEW[:5]}
    server.always = lambda body: json.dumps(
        {"label": CLASSES[0] if asked_for(body) in wrong else RIGHT[asked_for(body)]}
    )
    texts, gold = [text for text, _ in NEW], [label for _, label in NEW]
    found = fitted(llm())
    outputs = found.outputs(texts)
    predicted = [CLASSES[at] for at in outputs.argmax(1)]
    assert predicted == [CLASSES[0] if text in wrong else label for text, label in NEW]
    assert f1_score(gold, predicted, average="macro") < 1
    assert np.exp(outputs).sum(1) == pytest.approx(1)
    assert np.isfinite(outputs).all()
    sent = len(server.asked)
    assert sent == len(set(texts))
    assert np.array_equal(fitted(llm()).outputs(texts), outputs)
    assert len(server.asked) == sent


@pytest.mark.parametrize(
    ("content", "label"),
    [
        ('{"label": "fruit"}', "fruit"),
        ('```json\n{"label": "Fruit"}\n```', "fruit"),
        ('<think>{"label": "car"}?</think> It is {"label": " fruit "}.', "fruit"),
        ("Fruit.", "fruit"),
        ('"fruit"', "fruit"),
        ('{"label": "plant"}', None),
        ('{"label": ["fruit"]}', None),
        ('{"label": true}', None),
        ('{"name": "fruit"}', None),
        ("fruit or car", None),
        ("", None),
        (None, None),
        ("[" * 5000, None),
    ],
)
def test_a_label_is_found_and_an_answer_without_one_counts_as_the_most_frequent_class(server, llm, content, label):
    found = fitted(llm(), ["a", "b", "c", "d"], ["car", "zoo", "zoo", "fruit"])
    server.always = lambda _: (200, {}, completion(content))
    (row,) = np.exp(found.outputs(["x"]))
    expected = [0, 1, 0] if label else [0.25, 0.25, 0.5]
    assert row == pytest.approx(expected)
    assert found.notes["unusable"] == (label is None)


def test_labels_that_differ_in_case_alone_are_told_apart(server, llm):
    found = fitted(llm(), ["a", "b"], ["A", "a"])
    server.plan = [lambda _: '{"label": "a"}']
    assert found.outputs(["x"]).argmax(1).tolist() == [1]


def test_the_price_of_a_thousand_texts_counts_what_the_store_answered_too(server, llm, capsys):
    texts = [text for text, _ in NEW[:4]]
    fitted(llm()).outputs(texts[:2])
    found = fitted(llm(price_input=2.0, price_output=8.0))
    capsys.readouterr()
    found.outputs(texts)
    # 10 input and 5 output tokens an answer, as the server counts
    assert found.notes["price_per_1000"] == pytest.approx(1000 * (10 * 2 + 5 * 8) / 1e6)
    assert (found.notes["asked"], found.notes["input_tokens"], found.notes["output_tokens"]) == (4, 40, 20)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"llm: 2 requests to {server.url}/; 2 are answered already"
    questions = server.asked[2:]
    assert f"about {sum(map(len, questions)) // 4:,} input and" in said[1]
    assert said[2].startswith("llm: 2 requests sent, 2 answered: 20 input and 10 output tokens, 0.0001 at")
    baseline = llm(price_input=2.0)
    assert baseline.remark({"price_per_1000": 0.06, "unusable": 1, "asked": 4}) == (
        "0.06 per 1,000 texts, 1 of 4 answers unusable"
    )
    assert baseline.remark({"unusable": 0, "asked": 4}) == ""


def test_tokens_that_the_server_does_not_count_are_not_free(server, llm):
    found = fitted(llm(price_input=1e6))
    server.plan = [lambda body: (200, {}, completion(knowing(body), usage=None))]
    found.outputs([text for text, _ in NEW[:4]])
    assert found.notes["price_per_1000"] == pytest.approx(1000 * 10)  # of the three that are counted


# ---- other labels -------------------------------------------------------------------


def test_several_labels(server, llm):
    found = fitted(llm(examples=1), ["a", "b", "c"], [("x",), ("x", "y"), ("x", "y")], "multi_label")
    said = ['{"labels": ["y"]}', '{"labels": []}', '{"labels": ["y", "z"]}', '{"labels": "x"}']
    server.always = lambda body: said["defg".index(asked_for(body))]
    chosen = found.outputs(list("defg")) > 0
    assert chosen.tolist() == [[False, True], [False, False], [True, True], [True, False]]  # the third is unusable
    assert found.notes["unusable"] == 1
    assert 'Text: b\nAnswer: {"labels": ["x", "y"]}' in server.asked[0]
    items = server.bodies[0]["response_format"]["json_schema"]["schema"]["properties"]["labels"]["items"]
    assert items == {"type": "string", "enum": ["x", "y"]}


def test_numbers(server, llm):
    found = fitted(llm(examples=1), list("abcdefg"), [1.0, 7.0, 3.0, 2.0, 6.0, 5.0, 4.0], "regression")
    said = {"x": '{"number": 2.5}', "y": "about 3", "z": '{"number": 1e999}'}
    server.always = lambda body: said[asked_for(body)]
    assert found.outputs(list("xyz"))[:, 0].tolist() == [2.5, 4.0, 4.0]  # the mean where there is no number
    assert found.notes["unusable"] == 2
    assert server.asked[0].count('Answer: {"number": ') == 5  # from the lowest to the highest
    assert '{"number": 1.0}' in server.asked[0]
    assert '{"number": 7.0}' in server.asked[0]


def test_classes_with_an_order_and_pairs(server, llm):
    labels = ["low", "high", "middle"]
    found = fitted(llm(), [("a", "b"), ("c", "d"), ("e", "f")], labels, "ordinal", order=("low", "middle", "high"))
    server.always = lambda _: '{"label": "high"}'
    assert found.outputs([("g", "h")]).argmax(1).tolist() == [2]
    assert "They are in order, the lowest first.\n\n- low\n- middle\n- high" in server.asked[0]
    assert server.asked[0].endswith("Text 1: g\nText 2: h\nAnswer:")


def test_tags_of_words_are_refused(llm):
    with pytest.raises(SettingError, match="llm labels whole texts, and here each word has a tag: take frequent_tag"):
        fitted(llm(), [("a", "b")], [("O", "B-X")], "token")


# ---- what is refused -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"llm_model": None}, "--llm-model"),
        ({"yes": False}, "give --yes"),
        ({"base_url": "http://user:secret@host/v1"}, "has a key, a password or parameters in it"),
        ({"base_url": None}, "OPENAI_API_KEY"),
        ({"descriptions": {"frut": "what grows"}}, "descriptions has 'frut', no label here"),
        ({"descriptions": "missing.yaml"}, "missing.yaml cannot be read"),
    ],
)
def test_what_is_missing_is_said_before_a_request(server, llm, wrong, why):
    with pytest.raises(InputError, match=why) as caught:
        fitted(llm(**wrong))
    assert "secret" not in str(caught.value)
    assert server.asked == []


@pytest.mark.parametrize(
    ("wrong", "why"), [({"examples": -1}, "examples"), ({"timeout": 0.0}, "timeout"), ({"exampls": 1}, "examples")]
)
def test_settings_that_make_no_sense_are_refused(llm, wrong, why):
    with pytest.raises(SettingError, match=why):
        llm(**wrong)


def test_a_refusal_of_the_schema_says_what_to_do(server, llm):
    server.always = refusing(400)
    with pytest.raises(InputError, match=r"refused with 400.*--no-structured"):
        fitted(llm()).outputs(["x"])


def test_what_decides_an_answer_is_in_the_key_and_nothing_else(llm, tmp_path, server):
    file = tmp_path / "labels.yaml"
    file.write_text(yaml.safe_dump({"fruit": "what grows"}))
    settings = llm(descriptions=str(file), concurrency=9, price_input=3.0).settings()
    assert settings == llm(descriptions={"fruit": "what grows"}).settings()
    assert settings["base_url"] == server.url
    assert not {"concurrency", "price_input", "cache", "yes", "timeout"} & set(settings)
    assert settings != llm(descriptions={"fruit": "a plant"}).settings()


# ---- in Python -------------------------------------------------------------------


def test_as_an_estimator_it_reads_the_labels_as_they_are(server, tmp_path):
    settings = {"llm_model": "m", "base_url": server.url, "cache": str(tmp_path / "cache"), "yes": True}
    numbers = [10, 9, 10, 9]
    server.always = lambda _: '{"label": "9"}'
    classifier = BaselineClassifier("llm", settings=settings).fit(["a", "b", "c", "d"], numbers)
    assert classifier.classes_.tolist() == [9, 10]
    assert classifier.predict(["x"]).tolist() == [9]
    assert "- 10\n- 9\n" in server.asked[0]
    assert classifier.notes_["asked"] == 1
    assert not math.isnan(classifier.predict_log_proba(["x"]).sum())
