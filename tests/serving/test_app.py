"""What is asked over HTTP is answered as the model answers in Python, or refused in one line."""

import json
import logging
from unittest.mock import Mock

import httpx
import numpy as np
import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import given, settings
from prometheus_client.parser import text_string_to_metric_families
from pydantic import TypeAdapter
from schemathesis import GenerationMode
from scipy.special import softmax

from deni import load
from deni.commands.train import train_file
from deni.errors import ArtifactError, SettingError
from deni.measures import Selection
from deni.recipe import Recipe
from deni.serving import Limits
from deni.serving.app import create_app
from deni.tasks import TASKS
from tests.helpers.serving import served
from tests.helpers.tiny import toy_rows, write_csv

TEXT = "my parcel is late"
ASKED = {  # artifact -> one text, many texts
    "full_deni": (TEXT, [TEXT, "the invoice is wrong " * 5]),
    "multi_label": (TEXT, [TEXT, "refund"]),
    "regression": (TEXT, [TEXT, "refund"]),
    "pair": (("my parcel", "is late"), [("my parcel", "is late"), ("a", "refund")]),
    "token": (TEXT, [TEXT, ["Anna", "left", "Berlin"]]),
}
TOKEN = "a-token-of-many-characters"
SMALL = Limits(max_body=2000, max_texts=4, max_tokens=60, max_waiting=8)


@pytest.fixture
def asked(artifact):
    """A client of an application around a committed artifact."""
    clients = []

    def make(name="full_deni", **how):
        clients.append(TestClient(create_app(artifact(name), **how)).__enter__())
        return clients[-1]

    yield make
    for each in clients:
        each.__exit__(None, None, None)


@pytest.mark.parametrize("name", ASKED)
def test_one_text_and_many_are_predicted_as_in_python(name, artifact, asked):
    client = asked(name)
    for texts in ASKED[name]:
        answer = client.post("/predict", json={"texts": texts})
        assert answer.status_code == 200, answer.text
        want = artifact(name)(texts if isinstance(texts, list) else [texts])
        assert answer.json() == {"predictions": json.loads(json.dumps(want))}
        for each in answer.json()["predictions"]:
            assert tuple(each) == TASKS[artifact(name).task].keys
            for key, kind in TASKS[artifact(name).task].prediction_types.items():
                TypeAdapter(kind).validate_python(each[key], strict=True)


def test_texts_of_which_the_confidence_is_low_have_no_answer(artifact, asked):
    texts = [TEXT, "refund the invoice", "my password"]
    plain = artifact("full_deni")(texts)
    between = sorted(each["confidence"] for each in plain)[1]
    client = asked(accuracy=Selection(0.9, 0.1, between, 0.5, 50, 1, 100))
    found = client.post("/predict", json={"texts": texts}).json()["predictions"]
    want = [
        {**each, "label": None if each["confidence"] <= between else each["label"], "abstained": low}
        for each, low in zip(plain, [each["confidence"] <= between for each in plain], strict=True)
    ]
    assert [each["abstained"] for each in want].count(True) == 2
    for each, other in zip(found, want, strict=True):
        assert each == pytest.approx(other)
    assert metrics(client)["deni_abstained_total"] == 2


def test_a_model_trained_with_folds_answers_with_its_calibrated_probabilities_and_abstains(model_folder, tmp_path):
    tickets = write_csv(tmp_path / "tickets.csv", toy_rows(20))
    plan = Recipe.of(None, "ensemble", "full", {"members": 2}, model=model_folder, epochs=5, learning_rate=1e-2)
    folder = tmp_path / "model"
    train_file(tickets, recipe=plan, output=folder, cv=3, progress=False)
    rows = toy_rows(5, seed=3)
    halves = [one.split()[:3] for one, _ in rows]
    texts = [" ".join([*one, *other]) for one in halves for other in halves]  # of one class, or of two
    temperature = json.loads((folder / "deni.json").read_text())["calibration"]["vote"]["temperature"]
    logits = load(folder, "cpu", calibrated=False).members(texts).astype(np.float64)  # by hand from here on
    shares = softmax(np.log(softmax(logits, -1).mean(1)) / temperature, -1)
    classifier = load(folder, "cpu")
    selection = classifier.selection(0.9)
    with served(create_app(classifier, accuracy=selection)) as (address, _):
        found = httpx.post(f"{address}/predict", json={"texts": texts}).json()["predictions"]
    assert [each["confidence"] for each in found] == [each["confidence"] for each in classifier(texts)]
    assert abs(temperature - 1) > 0.01
    assert [each["confidence"] for each in found] == pytest.approx(shares.max(1), abs=1e-5)
    low = shares.max(1) <= selection.threshold
    assert 0 < low.sum() < len(texts)
    assert [each["abstained"] for each in found] == low.tolist()
    best = [classifier.labels[at] for at in shares.argmax(1)]
    assert [each["label"] for each in found] == [None if left else label for left, label in zip(low, best, strict=True)]


REFUSED = {
    "no text": ({"texts": []}, 422, "at least 1 item"),
    "a blank text": ({"texts": ["a", " "]}, 422, "a text is blank"),
    "a separator that is no text": ({"texts": "\x1c"}, 422, "text 0 is"),
    "too many texts": ({"texts": ["a"] * 5}, 422, "at most 4 items"),
    "a number": ({"texts": ["a", 3]}, 422, "valid string"),
    "nothing": ({}, 422, "Field required"),
    "another field": ({"texts": "a", "label": "b"}, 422, "Extra inputs"),
    "a list": (["a"], 422, "valid dictionary"),
    "too many tokens": ({"texts": "a " * 70}, 413, "the texts have 72 tokens, 60 are taken"),
    "too many bytes": ({"texts": "a " * 1000}, 413, "the body has more than 2000 bytes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_request_is_refused_in_one_line(name, asked):
    body, status, why = REFUSED[name]
    answer = asked(limits=SMALL).post("/predict", json=body)
    assert answer.status_code == status
    assert why in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


BODIES = {
    b'{"texts": "\\ud800"}': 422,  # half a surrogate pair
    b'{"texts': 422,
    b"[" * 1900: 400,
    b"\xff\xfe": 422,
    b"": 422,
}


@pytest.mark.parametrize("body", BODIES)
def test_what_is_no_json_is_refused_in_one_line(body, asked):
    headers = {"content-type": "application/json"}
    answer = asked(limits=SMALL).post("/predict", content=body, headers=headers)
    assert answer.status_code == BODIES[body], answer.text
    assert list(answer.json()) == ["error"]


def test_a_body_in_chunks_ends_where_it_is_too_long(asked):
    read = []

    def chunks():
        for at in range(100):
            read.append(at)
            yield b" " * 100

    headers = {"content-type": "application/json"}
    answer = asked(limits=SMALL).post("/predict", content=chunks(), headers=headers)
    assert answer.status_code == 413
    assert "more than 2000 bytes" in answer.json()["error"]


def test_a_fault_of_the_model_is_told_without_its_details(artifact, asked, monkeypatch, caplog):
    client = asked()
    for error, why in ((RuntimeError("secret"), "cannot compute"), (ArtifactError("secret"), "is damaged")):
        monkeypatch.setattr(type(artifact("full_deni")), "__call__", Mock(side_effect=error))
        with caplog.at_level(logging.CRITICAL + 1, logger="deni.serving"):
            answer = client.post("/predict", json={"texts": TEXT})
        assert answer.status_code == 500
        assert why in answer.json()["error"]
        assert "secret" not in answer.text
    monkeypatch.undo()
    assert client.post("/predict", json={"texts": TEXT}).status_code == 200  # it goes on


def test_without_the_token_nothing_is_predicted_or_counted(asked):
    client = asked(token=TOKEN)
    right = {"authorization": f"Bearer {TOKEN}"}
    for path, how in (("/predict", {"json": {"texts": TEXT}}), ("/metrics", {})):
        method = "POST" if how else "GET"
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {TOKEN}"}):
            answer = client.request(method, path, headers=headers, **how)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert client.request(method, path, headers=right, **how).status_code == 200
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/openapi.json").json()["paths"]["/predict"]["post"]["security"] == [{"token": []}]


def metrics(client):
    """Name, and labels where there are some, -> value."""
    found = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for each in family.samples:
            found[each.name if not each.labels else (each.name, *sorted(each.labels.values()))] = each.value
    return found


def test_requests_texts_and_tokens_are_counted(artifact, asked):
    client = asked()
    client.post("/predict", json={"texts": [TEXT, "refund"]})
    client.post("/predict", json={"texts": []})
    client.get("/a/path/of/the/client")
    found = metrics(client)
    assert found[("deni_requests_total", "/predict", "200")] == 1
    assert found[("deni_requests_total", "/predict", "422")] == 1
    assert found[("deni_requests_total", "404", "other")] == 1
    assert found["deni_texts_total"] == 2
    ids = artifact("full_deni").tokenizer([TEXT, "refund"])["input_ids"]
    assert found["deni_tokens_total"] == sum(map(len, ids))
    assert (found["deni_batch_texts_count"], found["deni_batch_texts_sum"]) == (1, 2)
    assert found["deni_waiting_texts"] == 0


def test_the_page_needs_no_network_and_names_every_path(asked):
    answer = asked(token=TOKEN).get("/docs")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert "<script" not in answer.text
    assert "src=" not in answer.text.replace("-src", "")
    for each in (
        "POST /predict",
        "GET /health",
        "GET /metrics",
        "Authorization: Bearer",
        "curl http://testserver/predict",
    ):
        assert each in answer.text


@pytest.mark.parametrize("name", ["full_deni", "pair", "token"])
def test_fuzzed_from_its_description_it_does_what_it_describes(name, artifact):
    app = create_app(artifact(name), limits=Limits(max_tokens=10**6))
    described = schemathesis.openapi.from_asgi("/openapi.json", app)
    right, wrong = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
    seen = []

    def call(case):
        seen.append((case.path, case.call_and_validate().status_code))

    for method, path, mode in (
        ("POST", "/predict", right),
        ("POST", "/predict", wrong),
        ("GET", "/health", right),
        ("GET", "/metrics", right),
    ):
        cases = described[path][method].as_strategy(generation_mode=mode)
        settings(max_examples=12, deadline=None, database=None, derandomize=True)(given(cases)(call))()
    assert {("/predict", 200), ("/predict", 422), ("/health", 200), ("/metrics", 200)} <= set(seen)


def test_a_batch_size_of_nothing_is_refused(artifact):
    with pytest.raises(SettingError, match="batch_size must be at least 1"):
        create_app(artifact("full_deni"), batch_size=0)
