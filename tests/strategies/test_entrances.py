"""Every strategy works from the command line and from scikit-learn, and does the same there."""

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import deni
from deni.cli import main
from deni.sklearn import DeniClassifier
from tests.helpers.cases import CASES
from tests.helpers.tiny import toy_rows

COMPOSED = {
    "best_practices+deni": {"epochs": 4, "members": 2},
    "prior_noise+swa": {"variance": 0.1},
    "augmentation+deni": {"augmented": "FILE", "members": 2, "epochs": 4},
}
RUNS = {**{name: case.settings for name, case in CASES.items()}, **COMPOSED}
# Fewer texts than there are make no `all_data`; a greedy soup needs development texts, which scikit-learn has not.
RUNS |= {"all_data": {}, "soup": {"members": 3, "soup_from": 0.8}}


@pytest.fixture(scope="module")
def augmented(tmp_path_factory):
    file = tmp_path_factory.mktemp("augmented") / "texts.jsonl"
    rows = [{"seed": text, "text": f"{text} {extra}"} for text, _ in toy_rows() for extra in ("please", "is", "not")]
    pd.DataFrame(rows).to_json(file, orient="records", lines=True)
    return str(file)


@pytest.mark.parametrize("name", RUNS)
def test_the_command_line_and_scikit_learn_do_the_same(name, model_folder, tickets, augmented, tmp_path):
    settings = {key: augmented if value == "FILE" else value for key, value in RUNS[name].items()}
    flags = [f"--{key.replace('_', '-')}{'' if value is True else f'={value}'}" for key, value in settings.items()]
    own = ["--model", model_folder, "--strategy", name, "--learning-rate", "0.003", "--test", "0", "--no-progress"]
    epochs = [] if "epochs" in settings else ["--epochs", "3"]
    command = ["train", tickets, *own, *epochs, *flags, "--output", str(tmp_path / "model")]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output

    rows = toy_rows()
    texts = [text for text, _ in rows]
    model = DeniClassifier(model_folder, name, learning_rate=0.003, strategy_settings=settings)
    if "epochs" not in settings:
        model.set_params(epochs=3)
    model.fit(texts, [label for _, label in rows])
    wanted = deni.load(tmp_path / "model").predict_log_probabilities(texts)
    assert np.array_equal(model.predict_log_proba(texts), wanted)


def test_an_explained_training_tells_of_its_forks(model_folder, tickets, tmp_path):
    command = ["train", tickets, "--model", model_folder, "--strategy", "deni", "--epochs", "4", "--test", "0"]
    result = CliRunner().invoke(
        main, [*command, "--members", "3", "--explain", "--no-progress", "--output", str(tmp_path / "model")]
    )
    assert result.exit_code == 0, result.output
    story = result.output.partition("Step 6:")[2]
    assert story.startswith(" one model became 3, the parent and 2 noisy copies.\n  The copies' loss was ")
    assert "Step 20: they vote from here on." in story
    forks = deni.load(tmp_path / "model").info["diagnostics"]["forks"]
    assert [(each["step"], each["stop"], each["how"]) for each in forks] == [
        (6, 8, "merge"),
        (10, 12, "merge"),
        (18, 20, "vote"),
    ]
    assert f"two of them disagreed on {forks[-1]['end']['disagreement']:.1%}".lower() in story.lower()


def test_a_run_without_members_has_nothing_to_explain(model_folder, tickets, tmp_path):
    command = ["train", tickets, "--model", model_folder, "--strategy", "default", "--epochs", "1", "--explain"]
    result = CliRunner().invoke(main, [*command, "--no-progress", "--output", str(tmp_path / "model")])
    assert "no members, nothing to compare" in result.output


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--strategy", "deni+de"], "deni and delayed_ensemble cannot be combined: one is a part of the other"),
        (["--strategy", "swa+ema"], "each would predict with a mean of its own"),
        (["--strategy", "deni+magic"], "unknown strategy 'magic'"),
        (["--strategy", "prior_noise+swa", "--members", "3"], "none of prior_noise, swa has a setting 'members'"),
        (["--strategy", "all_data", "--labeled", "9"], "all_data trains on all 29 labeled texts, not on 9"),
        (["--strategy", "augmentation"], "--augmented FILE"),
        (["--strategy", "augmentation", "--augmented", "none.csv"], "none.csv: no such file"),
        (["--strategy", "soup", "--ingredients", "greedy"], "give --dev"),
        (["--strategy", "reinit", "--tuning", "lora"], "with PEFT they are frozen"),
        (["--strategy", "reinit", "--reinit-layers", "9"], "the model has 2 layers"),
        (["--strategy", "prior_noise", "--prior", "noisytune", "--tuning", "lora"], "frozen with PEFT"),
    ],
)
def test_what_makes_no_sense_is_one_line_before_anything_is_trained(flags, message, model_folder, tickets, tmp_path):
    command = ["train", tickets, "--model", model_folder, "--output", str(tmp_path / "model"), *flags]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert len([line for line in result.stderr.splitlines() if line.startswith("Error:")]) == 1
    assert list(tmp_path.iterdir()) == []


def test_development_texts_choose_a_greedy_soup(model_folder, tickets, tmp_path):
    flags = ["--strategy", "soup", "--ingredients", "greedy", "--members", "3", "--soup-from", "0.5", "--dev", "0.3"]
    own = ["--model", model_folder, "--epochs", "4", "--learning-rate", "0.003", "--no-progress"]
    result = CliRunner().invoke(main, ["train", tickets, *own, *flags, "--output", str(tmp_path / "model")])
    assert result.exit_code == 0, result.output
    model = deni.load(tmp_path / "model")
    assert model.population.size == 1
    assert model.info["strategy"]["settings"]["ingredients"] == "greedy"
