"""What `deni export` writes, in the `pipeline` of transformers."""

import pytest
import torch
from peft import AutoPeftModelForSequenceClassification
from transformers import AutoTokenizer, pipeline

import deni
from deni.artifact import export
from deni.data import Texts
from deni.finetune import fine_tune
from deni.recipe import Recipe
from tests.helpers.tiny import toy_rows

ROWS = toy_rows(4)
NEW = [text for text, _ in toy_rows(2, seed=3)]


def exported(tmp_path, model, train, tuning="full", adapter=False, **settings):
    """An artifact of one member, loaded, and the folder of its export."""
    tunings = {"lora_r": 4} if tuning == "lora" else {}
    shape = {"model": model, "task": train.task, "max_length": 20, "epochs": 3, "learning_rate": 1e-3, **settings}
    recipe = Recipe.of(None, "default", tuning, None, tunings, **shape)
    folder = fine_tune(train, recipe, progress=False, device="cpu").save(tmp_path / "model")
    (out,) = export(folder, tmp_path / "out", adapter=adapter)
    return deni.load(folder, device="cpu"), str(out)


@pytest.mark.parametrize(("tuning", "adapter"), [("full", False), ("lora", False), ("lora", True)])
def test_texts_are_classified_as_deni_does(tmp_path, model_folder, tuning, adapter):
    """Single models, and adapters on their base, which PEFT loads."""
    train = Texts([text for text, _ in ROWS], [label for _, label in ROWS], "tickets.csv", None)
    classifier, out = exported(tmp_path, model_folder, train, tuning, adapter)
    given, names = {"model": out}, dict(enumerate(classifier.labels))
    if adapter:
        model = AutoPeftModelForSequenceClassification.from_pretrained(out, num_labels=len(names), id2label=names)
        given = {"model": model, "tokenizer": AutoTokenizer.from_pretrained(out)}
    found = pipeline("text-classification", **given, device="cpu")(NEW, top_k=None)
    expected = torch.from_numpy(classifier.predict_log_probabilities(NEW)).exp()
    for each, row in zip(found, expected, strict=True):
        scores = {one["label"]: one["score"] for one in each}
        assert [scores[label] for label in classifier.labels] == pytest.approx(row.tolist(), abs=1e-5)


def test_pairs_are_classified_as_deni_does(tmp_path, model_folder):
    texts = [(text, "my card") for text, _ in ROWS]
    classifier, out = exported(tmp_path, model_folder, Texts(texts, [label for _, label in ROWS], "pairs.csv", None))
    new = [(text, "the code") for text in NEW]
    found = pipeline("text-classification", out, device="cpu")(
        [{"text": first, "text_pair": second} for first, second in new]
    )
    assert [each["label"] for each in found] == classifier.predict(new)
    confidences = [each["confidence"] for each in classifier(new)]
    assert [each["score"] for each in found] == pytest.approx(confidences, abs=1e-5)


def test_words_are_labeled_as_deni_does(tmp_path, model_folder):
    """Each word has the label of its first token."""
    texts = [tuple(text.split()) for text, _ in ROWS]
    tags = [tuple("O" if len(word) < 5 else "B-LONG" for word in words) for words in texts]
    classifier, out = exported(tmp_path, model_folder, Texts(texts, tags, "words.csv", None, "token"))
    label = pipeline("token-classification", out, device="cpu", ignore_labels=[])
    for text in NEW:
        (expected,) = classifier([text])
        words, start = text.split(), 0
        first = {each["start"]: each for each in label(text)}
        for word, tag, confidence in zip(words, expected["labels"], expected["confidences"], strict=True):
            at = text.index(word, start)
            start = at + len(word)
            assert first[at]["entity"] == tag
            assert first[at]["score"] == pytest.approx(confidence, abs=1e-5)
