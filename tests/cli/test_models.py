import json

import pytest
from click.testing import CliRunner

from deni.cli import main
from deni.commands.models import compare_models
from deni.recipe import Recipe


@pytest.fixture(scope="module")
def other(model_folder, tmp_path_factory):
    """A second encoder: the same one without its second layer."""
    from transformers import AutoModel, AutoTokenizer

    folder = tmp_path_factory.mktemp("other") / "half"
    AutoModel.from_pretrained(model_folder, num_hidden_layers=1).save_pretrained(folder)
    AutoTokenizer.from_pretrained(model_folder).save_pretrained(folder)
    return str(folder)


def run(*args):
    return CliRunner().invoke(main, [str(arg) for arg in args])


def test_the_table_and_the_json_are_what_the_function_finds(model_folder, other, tickets, tmp_path):
    names = f"{model_folder},{other}"
    done = run("models", tickets, "--models", names, "--output", tmp_path / "models.json", "--no-progress")
    assert done.exit_code == 0, done.output
    written = json.loads((tmp_path / "models.json").read_text())
    found = compare_models(tickets, [model_folder, other], recipe=Recipe()).to_json()
    printed = json.loads(run("models", tickets, "--models", names, "--json", "--no-progress").stdout)
    for each in (written, found, printed):
        for row in each["compared"]:
            del row["seconds"]
    assert written == found == printed
    assert found["texts"] == 29  # four fifths of 36: the rest is what deni train measures on
    flat = " ".join(done.stdout.split())
    assert f"{100 * found['compared'][0]['score']:.1f}" in flat
    assert "Next: deni train" in flat


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["missing.csv", "--models", "a,b"], "missing.csv: no such file"),
        (["{tickets}", "--models", "minilm"], "only 'minilm' to choose among"),
        (["{tickets}", "--models", "minilm,minilm"], "named twice"),
        (["{tickets}", "--models", "minilm,./nothing"], "no such folder"),
        (["{tickets}", "--models", "minilm,bert", "--output", "{tickets}"], "is what is read"),
        (["{tickets}", "--models", "minilm,bert", "--task", "token"], "each word one tag"),
    ],
)
def test_what_is_wrong_is_one_line(args, message, tickets):
    done = run("models", *(each.format(tickets=tickets) for each in args))
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_train_takes_the_best_and_says_so(model_folder, other, tickets, tmp_path):
    choice = ["--model", f"auto:{model_folder},{other}", "--strategy", "default", "--epochs", 1, "--no-progress"]
    done = run("train", tickets, *choice, "--no-baselines", "--output", tmp_path / "model")
    assert done.exit_code == 0, done.output
    info = json.loads((tmp_path / "model" / "deni.json").read_text())
    assert info["encoders"]["chosen"] in (model_folder, other)
    assert f"The encoder is {info['encoders']['chosen']}, the best of 2" in done.stdout
    flat = "".join(done.stdout.split())
    sentence = "".join(f"The encoder is {info['encoders']['chosen']}, the best of 2".split())
    assert flat.count(sentence) == 2  # in the plan, and in the report
    wrong = run("train", tickets, "--model", "auto:./nothing,minilm", "--output", tmp_path / "other")
    assert wrong.exit_code == 2
    assert "no such folder" in wrong.stderr


def test_an_encoder_whose_vectors_are_not_finite_is_named(model_folder, other, tickets, tmp_path):
    """Found by benchmarks/fuzz.py."""
    import shutil

    from safetensors.torch import load_file, save_file

    folder = tmp_path / "damaged"
    shutil.copytree(other, folder)
    weights = load_file(folder / "model.safetensors")
    weights["embeddings.LayerNorm.weight"][0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    done = run("models", tickets, "--models", f"{model_folder},{folder}", "--no-progress")
    assert done.exit_code == 2
    assert f"Error: the vectors of {folder} are not all finite: its weights or its configuration are" in done.stderr
