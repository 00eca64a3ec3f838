"""What holds for every strategy, present or future: a new one is added to `CASES`, or the suite fails."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from datasets import Dataset
from transformers import AutoTokenizer

from deni.cli.train import command as train_command
from deni.strategies import ARGUMENTS, STRATEGIES, make_strategy
from tests.helpers.cases import CASES
from tests.helpers.members import SEED, At, make, tiny
from tests.helpers.tiny import toy_rows

ROOT = Path(__file__).parents[2]
SEEDS = (SEED, 7)


@pytest.fixture(scope="module")
def tokenizer(model_folder):
    return AutoTokenizer.from_pretrained(model_folder)


@pytest.fixture(scope="module")
def augmented(tmp_path_factory):
    file = tmp_path_factory.mktemp("augmented") / "texts.csv"
    rows = [(text, f"{text} {extra}", label) for text, label in toy_rows(14) for extra in ("please", "is", "not")]
    pd.DataFrame(rows, columns=["seed", "text", "label"]).to_csv(file, index=False)
    return str(file)


@pytest.fixture
def start(tokenizer, augmented, tmp_path):
    """Makes a trainer over 40 toy texts."""
    names = sorted({label for _, label in toy_rows()})

    def dataset(rows):
        columns = {"text": [text for text, _ in rows], "labels": [names.index(label) for _, label in rows]}
        return Dataset.from_dict({**columns, **Small()(columns["text"])})

    class Small:
        """The tokenizer, with ids that the tiny model has."""

        pad_token_id, padding_side = 0, "right"

        def __call__(self, given, **options):
            ids = [[token % 60 for token in row] for row in tokenizer(given, **options)["input_ids"]]
            return {"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids]}

        def pad(self, features):
            longest = max(len(each["input_ids"]) for each in features)
            keys = ("input_ids", "attention_mask")
            rows = {key: [each[key] + [0] * (longest - len(each[key])) for each in features] for key in keys}
            return {key: torch.tensor(value) for key, value in rows.items()} | {
                "labels": torch.tensor([each["labels"] for each in features])
            }

        def save_pretrained(self, *_, **__):
            return ()

    def make_trainer(name, settings, engine="stacked", folder=tmp_path, **options):
        given = {key: augmented if value == "FILE" else value for key, value in settings.items()}
        # A setting of None is a value here, not "not given".
        strategy = dataclasses.replace(make_strategy(name), **given)
        small = Small()
        return make(
            folder,
            strategy,
            engine,
            model_init=tiny,
            train_dataset=dataset(toy_rows(14)[:40]),
            eval_dataset=dataset(toy_rows(4, seed=9)),
            processing_class=small,
            data_collator=small.pad,
            **options,
        )

    return make_trainer


@pytest.fixture(scope="module")
def kept():
    """What `trained` has trained."""
    return {}


@pytest.fixture
def trained(start, kept):
    """Outcome and engine of a training with the settings of its case; several tests look at the same one."""

    def find(name, engine="stacked", **options):
        key = repr((name, engine, options))
        if key not in kept:
            trainer = start(name, CASES[name].settings, engine, **options)
            kept[key] = run(trainer), trainer.population.engine_name
        return kept[key]

    return find


def run(trainer, **options):
    trainer.train(**options)
    return outcome(trainer)


def outcome(trainer):
    """What training leaves: all parameters, and the predictions on other texts."""
    members = [trainer.population.member(at) for at in range(trainer.population.size)]
    values = {f"{name} of {at}": value for at, member in enumerate(members) for name, value in member.items()}
    return {**values, "predictions": torch.tensor(trainer.predict(trainer.eval_dataset).predictions)}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def apart(one, other):
    """The largest difference, without the bias of keys: its gradient is rounding alone, of which Adam makes steps."""
    assert one.keys() == other.keys()
    return max(float((one[key] - other[key]).abs().max()) for key in one if "key.bias" not in key)


def test_every_strategy_is_here():
    assert list(CASES) == [name for name in STRATEGIES if name != "auto"]  # which becomes one of them


@pytest.mark.parametrize("name", CASES)
def test_phases_tile_every_number_of_steps_or_say_that_they_do_not_fit(name):
    strategy, fits = make_strategy(name), 0
    for steps in [*range(1, 60), 125, 1250, 9999]:
        try:
            schedule = strategy.tiled(steps)
        except ValueError as error:
            assert "train longer" in str(error)
            assert steps < 10
            continue
        fits += 1
        edges = [0, *(phase.stop for phase in schedule)]
        assert [phase.start for phase in schedule] == edges[:-1]
        assert edges[-1] == schedule.steps == steps
        assert schedule.cost == strategy.runs * strategy.passes * sum(phase.members * phase.steps for phase in schedule)
        assert strategy.schedule(steps) == strategy.tiled(math.ceil(steps * strategy.run_length))
    assert fits > 50


@pytest.mark.parametrize("name", CASES)
def test_the_same_seed_gives_the_same_bits_and_another_does_not(start, trained, name):
    (first, _), again = trained(name, args={"seed": SEEDS[0]}), run(start(name, CASES[name].settings))
    assert same(first, again)
    other, _ = trained(name, args={"seed": SEEDS[1]})
    assert not any(torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", CASES)
def test_switched_off_it_is_the_default_and_switched_on_it_is_not(start, trained, name):
    default, _ = trained("default", args={"seed": SEEDS[0]})
    assert same(run(start(name, CASES[name].off)), default)
    if name != "default":
        on, _ = trained(name, args={"seed": SEEDS[0]})
        assert not torch.equal(on["predictions"], default["predictions"])


@pytest.mark.parametrize("name", CASES)
def test_loop_and_stacked_train_the_same(trained, name):
    """Two runs side by side, so that there are members to stack in any case."""
    seeds = None if CASES[name].settings.get("ingredients") == "greedy" else SEEDS
    outcomes, engines = zip(*(trained(name, engine, seeds=seeds) for engine in ("loop", "stacked")), strict=True)
    assert engines == ("loop", "stacked")
    assert apart(*outcomes) < 1e-9


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].settings.get("ingredients") != "greedy"])
def test_a_pack_is_its_runs_alone(trained, name):
    predictions = trained(name, seeds=SEEDS)[0]["predictions"]  # (N, R, C)
    for at, seed in enumerate(SEEDS):
        alone, _ = trained(name, args={"seed": seed})
        assert np.allclose(predictions[:, at], alone["predictions"], atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_stopped_in_each_kind_of_phase_and_resumed_is_not_stopped(start, tmp_path, name):
    settings = CASES[name].settings
    middles = {}  # the last step in the middle of a phase of so many members, and of the quarters of the run
    for phase in start(name, settings).strategy.schedule(40):
        middles[phase.members, phase.start // 10] = (phase.start + phase.stop) // 2
    stops = sorted({*middles.values(), 27})

    def save(step, control):
        control.should_save = True

    whole = start(name, settings, callbacks=[At(stops, save)])
    wanted = run(whole)
    assert whole.state.global_step == 40 if name != "all_data" else 32
    for stop in stops:
        resumed = start(name, settings)
        assert same(run(resumed, resume_from_checkpoint=str(tmp_path / f"checkpoint-{stop}")), wanted), stop
        assert resumed.member_steps == whole.member_steps
        assert resumed.diagnostics == whole.diagnostics


@pytest.mark.parametrize("name", STRATEGIES)
def test_it_has_a_card_a_test_and_a_text_for_each_flag(name):
    assert (ROOT / "docs" / "strategies" / f"{name}.md").is_file()
    assert "def test_" in (ROOT / "tests" / "strategies" / f"test_{name}.py").read_text()
    assert STRATEGIES[name].__doc__
    shown = CliRunner().invoke(train_command, ["--strategy", name, "--help"]).output
    flags = {flag: option for option in train_command.params for flag in option.opts}
    for each in dataclasses.fields(STRATEGIES[name]):
        option = flags["--" + each.name.replace("_", "-")]
        assert len(option.help or "") > 15, each.name
        assert option.opts[0] in shown
        if each.name not in (*ARGUMENTS, "augmented"):  # which texts without labels have, too
            assert name in option.owners


@pytest.mark.parametrize("name", CASES)
def test_its_settings_survive_json(name):
    for settings in (CASES[name].settings, {key: value for key, value in CASES[name].off.items() if value is not None}):
        strategy = make_strategy(name, **settings)
        assert make_strategy(name, **json.loads(json.dumps(strategy.settings()))) == strategy
