"""Ordinary folders of transformers, read as they are."""

import json

import pytest
import torch
import transformers
from click.testing import CliRunner

import deni
from deni import artifact
from deni.cli import main
from deni.errors import ArtifactError, InputError
from deni.randomness import global_generators

TEXTS = ["my parcel is late", "the invoice is wrong", "I cannot log in to it"]


def probabilities(folder, texts=TEXTS):
    """What transformers itself says, text by text."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return torch.cat([model(**tokenizer(text, return_tensors="pt")).logits for text in texts])


@pytest.fixture
def exported(fitted, tmp_path):
    """A model of three members, exported as one, and as its members."""
    fitted("deni", members=3).save(tmp_path / "model")
    artifact.export(tmp_path / "model", tmp_path / "single")
    artifact.export(tmp_path / "model", tmp_path / "members", "members")
    return tmp_path


@pytest.fixture
def plain(model_folder, tmp_path):
    """A folder with an untrained model of this class and config."""

    def write(kind, **settings):
        config = transformers.AutoConfig.from_pretrained(model_folder, **settings)
        with global_generators(0):
            getattr(transformers, f"AutoModelFor{kind}").from_config(config).save_pretrained(tmp_path / "plain")
        transformers.AutoTokenizer.from_pretrained(model_folder).save_pretrained(tmp_path / "plain")
        return tmp_path / "plain"

    return write


@pytest.mark.parametrize("name", ["single", "members/member-1"])
def test_an_exported_model_predicts_as_transformers_does(exported, name):
    classifier = deni.load(exported / name)
    want = probabilities(exported / name).log_softmax(-1).numpy()
    assert classifier.predict_log_probabilities(TEXTS) == pytest.approx(want, abs=1e-5)
    assert classifier.labels == ["billing", "delivery", "login"]
    assert [each["label"] for each in classifier(TEXTS)] == [classifier.labels[row] for row in want.argmax(1)]
    assert [each["agreement"] for each in classifier(TEXTS)] == [1, 1, 1]
    assert classifier.max_length == 40  # the tokenizer's


def test_predict_and_evaluate_take_an_exported_model(exported, tickets):
    done = CliRunner().invoke(main, ["predict", str(exported / "single"), "-"], input="text\nmy parcel\n")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[0] == "text,label,confidence,agreement,entropy"
    done = CliRunner().invoke(main, ["evaluate", str(exported / "single"), tickets, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["texts"] == 36


def test_the_task_follows_from_the_config(plain):
    several = deni.load(plain("SequenceClassification", num_labels=4, problem_type="multi_label_classification"))
    assert (several.task, several.labels) == ("multi_label", ["LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3"])
    folder = plain("SequenceClassification", num_labels=1)
    number = deni.load(folder)
    assert number.task == "regression"
    assert [each["value"] for each in number(TEXTS)] == pytest.approx(probabilities(folder)[:, 0].tolist(), abs=1e-5)


def test_a_model_of_words_labels_each_word(plain):
    folder = plain("TokenClassification", id2label={0: "O", 1: "B-X"}, label2id={"O": 0, "B-X": 1})
    classifier = deni.load(folder)
    assert classifier.task == "token"
    (found,) = classifier([["my", "parcel"]])
    model = transformers.AutoModelForTokenClassification.from_pretrained(folder).eval()
    batch = classifier.tokenizer(["my", "parcel"], is_split_into_words=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(**batch).logits[0]
    first = [batch.word_ids(0).index(word) for word in (0, 1)]
    assert found["labels"] == [classifier.labels[at] for at in logits[first].argmax(-1).tolist()]


def test_pairs_are_read_where_a_second_column_is_named(exported, tmp_path):
    (tmp_path / "pairs.csv").write_text("text,other\nmy parcel,is late\n")
    done = CliRunner().invoke(
        main, ["predict", str(exported / "single"), str(tmp_path / "pairs.csv"), "--text-pair-column", "other"]
    )
    assert done.exit_code == 0, done.output
    tokenizer = transformers.AutoTokenizer.from_pretrained(exported / "single")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(exported / "single").eval()
    with torch.no_grad():
        logits = model(**tokenizer("my parcel", "is late", return_tensors="pt")).logits[0]
    assert float(done.stdout.splitlines()[1].split(",")[3]) == pytest.approx(logits.softmax(-1).max().item(), abs=1e-5)


def refusal(folder):
    with pytest.raises(ArtifactError) as raised:
        deni.load(folder)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_code_in_the_folder_is_not_run(plain, tmp_path):
    folder = plain("SequenceClassification", num_labels=2)
    config = json.loads((folder / "config.json").read_text())
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    config |= {
        "model_type": "mine",
        "auto_map": {"AutoConfig": "mine.A", "AutoModelForSequenceClassification": "mine.B"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    assert "which deni never runs" in refusal(folder)
    assert not (tmp_path / "ran").exists()


def test_what_is_no_classifier_says_what_it_is(model_folder, plain, exported):
    assert "holds BertModel, which has no trained output layer" in refusal(model_folder)
    assert "holds BertForMaskedLM" in refusal(plain("MaskedLM"))
    assert f"such as {exported / 'members' / 'member-0'}" in refusal(exported / "members")


def test_a_folder_without_its_head_or_weights_is_refused(plain):
    from safetensors.torch import load_file, save_file

    folder = plain("SequenceClassification", num_labels=2)
    weights = load_file(folder / "model.safetensors")
    save_file(
        {k: v for k, v in weights.items() if "classifier" not in k}, folder / "model.safetensors", {"format": "pt"}
    )
    assert "is incomplete: 'classifier.bias' and 1 more missing in its weights" in refusal(folder)
    (folder / "model.safetensors").write_bytes(b"no weights")
    assert f"{folder / 'model.safetensors'} cannot be read (SafetensorError: " in refusal(folder)


def test_a_device_that_is_not_there_is_refused_in_one_line(exported):
    with pytest.raises(InputError, match="there is no device cuda:99 here: choose auto or cpu"):
        deni.load(exported / "single", device="cuda:99")
    with pytest.raises(InputError, match="there is no device gpu here"):
        deni.load(exported / "model", device="gpu")
