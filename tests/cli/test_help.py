"""Help in groups: what everyone needs first, settings only of what is named, each text a phrase of its own."""

import inspect
import re
import warnings
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from deni import deprecation
from deni.cli import COMMANDS, main
from deni.cli.diagnose import GROUPS as OF_DIAGNOSE
from deni.cli.options.fields import SettingOption
from deni.cli.train import GROUPS as OF_TRAIN
from deni.strategies import STRATEGIES

CARDS = Path(__file__).parents[2] / "docs" / "strategies"


def help_of(*arguments):
    done = CliRunner().invoke(main, [*arguments, "--help"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def commands():
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {below}", each) for below, each in command.commands.items())


def titles(text):
    return re.findall(r"^(\w.*):$", text, flags=re.MULTILINE)


def flags(text):
    return set(re.findall(r"^  (?:-h, )?(--[a-z0-9-]+)", text, flags=re.MULTILINE))


def test_train_shows_its_flags_in_groups():
    assert titles(help_of("train")) == [*OF_TRAIN, "Other"]


@pytest.fixture
def nothing_warned(monkeypatch):
    monkeypatch.setattr(deprecation, "_warned", set())


@pytest.mark.parametrize("name", ["train", "diagnose", "demo"])
def test_help_shows_labeled_and_the_old_spelling_warns(name, nothing_warned):
    assert "--labeled INTEGER" in help_of(name)
    assert "--labelled" not in help_of(name)
    command = main.get_command(click.Context(main), name)
    given = {"train": ["x.csv", "--output", "m"], "diagnose": ["x.csv"], "demo": []}[name]
    for flags, message in (
        (["--labelled", "30"], "--labelled is deprecated and goes in deni 0.3: use --labeled"),
        (["--labelled=30"], None),  # it warns once
        (["--labeled", "30"], None),
    ):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert command.make_context(name, [*given, *flags]).params["labelled"] == 30
        assert [str(each.message) for each in caught] == ([message] if message else [])


def test_a_flag_under_both_of_its_names_is_refused():
    done = CliRunner().invoke(main, ["demo", "--labelled", "30", "--labeled", "30"])
    assert done.exit_code == 2
    assert "--labelled is the old name of --labeled: give --labeled alone" in done.stderr


def test_without_a_name_no_setting_is_shown_and_help_says_where_they_are():
    shown = help_of("train")
    assert "--members " not in shown
    assert "--lora-r" not in shown
    assert "deni strategies show NAME" in " ".join(shown.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ("--strategy", "deni", "--help"),
        ("--help", "--strategy", "deni"),
        ("--help", "--strategy=deni"),
        ("-h", "tickets.csv", "--members", "3", "--strategy", "deni"),
        ("tickets.csv", "--strategy", "deni", "--output", "model", "--help"),
    ],
)
def test_help_shows_the_settings_of_the_strategy_that_is_named_in_any_order(arguments):
    done = CliRunner().invoke(main, ["train", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    shown = done.output
    assert titles(shown) == [*OF_TRAIN, "Other", "Settings of the strategy deni"]
    assert {"--members", "--ensemble-from"} <= flags(shown)
    assert "--layer-decay" not in shown


def test_strategies_and_tunings_are_shown_one_by_one():
    shown = help_of("train", "--strategy", "llrd+ni", "--tuning", "lora")
    settings = ["strategy llrd", "strategy noisy_interpolation", "tuning lora"]
    assert titles(shown)[-3:] == [f"Settings of the {each}" for each in settings]


def test_help_for_a_mistyped_strategy_says_what_was_meant():
    assert "unknown  did you mean ensemble?" in help_of("train", "--strategy", "ensembel")


def test_a_value_that_is_the_name_of_a_strategy_names_none():
    assert "Settings of" not in help_of("train", "deni.csv", "--output", "deni")


def test_methods_of_augmentation_and_tunings_of_a_diagnosis_are_shown_likewise():
    assert "--p-delete" not in help_of("augment")
    assert "--p-delete" in help_of("augment", "--method", "easy")
    assert "--lora-r" in help_of("diagnose", "--tuning", "lora")


def test_a_setting_of_another_strategy_is_refused_whatever_help_shows(tmp_path):
    (tmp_path / "data.csv").write_text("text,label\na,x\nb,y\n")
    arguments = [str(tmp_path / "data.csv"), "--output", str(tmp_path / "m"), "--strategy", "swa", "--members", "3"]
    done = CliRunner().invoke(main, ["train", *arguments])
    assert done.exit_code == 2
    assert "strategy swa has no setting 'members'" in done.stderr


@pytest.mark.parametrize(("name", "groups"), [("train", OF_TRAIN), ("diagnose", OF_DIAGNOSE)])
def test_each_option_is_in_one_group(name, groups):
    names = [each for listed in groups.values() for each in listed.split()]
    assert len(names) == len(set(names))
    command = main.get_command(click.Context(main), name)
    options = [each for each in command.params if isinstance(each, click.Option)]
    assert set(names) == {each.name for each in options if not isinstance(each, SettingOption)}


@pytest.mark.parametrize(("name", "command"), [pytest.param(*each, id=each[0]) for each in commands()])
def test_the_help_of_each_option_stands_alone(name, command):
    for option in command.params:
        if isinstance(option, click.Option):
            text = re.sub(r"\s+\[default: .*\]$", "", option.help or "")
            assert len(text.split()) > 2, option.opts
            assert text[0].isupper() or text.startswith(("n ", "p ")), f"{option.opts}: {text}"
            assert not re.match(r"(Of|With|To|In|As|At)\b", text), f"{option.opts}: {text}"
            assert text.endswith("."), f"{option.opts}: {text}"


def test_the_list_of_commands_cuts_no_sentence():
    shown = CliRunner().invoke(main, ["--help"], terminal_width=78).output
    assert "..." not in shown.partition("Commands:")[2]


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_says_when_to_take_it_as_its_card_does(name):
    section = (CARDS / f"{name}.md").read_text(encoding="utf-8").partition("## When to use")[2].partition("\n## ")[0]
    card = " ".join(re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", section).replace("`", "").split())
    assert card.startswith(vars(STRATEGIES[name])["when"])
    assert inspect.getdoc(STRATEGIES[name]).partition("\n")[0].endswith(".")
