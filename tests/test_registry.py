"""A class registers itself in its own file: built-in, of a plug-in, or of the user."""

import importlib.util
import json
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

import deni
import deni.cli.strategies
import deni.cli.train  # before a test adds strategies: their flags are listed when a command is imported
import deni.strategies
from deni.cli import main
from deni.errors import InputError
from deni.strategies import STRATEGIES, Strategy, make_strategy
from deni.strategies.forking import Forking
from deni.study.spec.grid import read_grid
from deni.tuning import TUNINGS
from tests.helpers.registered import forgotten_afterwards

PLUGIN = '''
"""A strategy of somebody else."""

from dataclasses import dataclass

from deni.schedule import Phase
from deni.strategies.forking import Forking


@dataclass(frozen=True)
class Late(Forking, name="late"):
    """Fork for the last steps.

    Args:
        last_steps: how many.
    """

    last_steps: int = 2

    def phases(self, steps: int) -> list[Phase]:
        return [Phase(steps - self.last_steps, steps, self.members, self.fork(0))]
'''


@pytest.fixture
def built_in(tmp_path, monkeypatch):
    """Put a strategy's file into the package, as a change of the library would."""

    def file(name, source):
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.setattr(deni.strategies, "__path__", [*deni.strategies.__path__, str(tmp_path)])
        STRATEGIES.__dict__.pop("_files", None)  # it is listed once

    with forgotten_afterwards():
        yield file
    sys.modules.pop("deni.strategies.late", None)
    STRATEGIES.__dict__.pop("_files", None)


def test_a_strategy_of_the_library_is_its_file_its_card_and_its_row_in_the_tests(built_in):
    """test_docs.py enforces the card, strategies/test_properties.py the row; all else is made of the class."""
    built_in("late", PLUGIN)
    assert list(STRATEGIES).index("late") < len(STRATEGIES.built_in())
    assert deni.Late is STRATEGIES["late"]
    assert "Late" in dir(deni)
    assert str(deni.strategies.Late(members=3).schedule(10)) == "1x8 3x2"
    assert "| [late](late.md) | Fork for the last steps. |  |" in script("strategies").table()
    config = SimpleNamespace(nav=[{"Strategies": []}])
    assert {"late": "strategies/late.md"} in script("strategies").on_config(config).nav[0]["Strategies"]


def script(name):
    """A module of the documentation's site."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / "website" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_plug_in_is_a_strategy_everywhere(install, tmp_path):
    install("late", "late_plugin", PLUGIN)
    assert "late" not in list(STRATEGIES)
    assert "late_plugin" not in sys.modules
    assert "late" in STRATEGIES.names()
    assert str(make_strategy("late", members=3, last_steps=4).schedule(10)) == "1x6 3x4"
    assert make_strategy("llrd+late", last_steps=3).parts[1].last_steps == 3
    shown = CliRunner().invoke(
        main, ["strategies", "show", "late", "--steps", "20", "--members", "2", "--last-steps", "5"]
    )
    assert shown.output.splitlines()[0] == "late: Fork for the last steps."
    assert "schedule: 1x15 2x5" in shown.output.splitlines()
    assert "--last-steps INTEGER" in shown.output
    assert "--last-steps" in CliRunner().invoke(main, ["train", "--strategy=llrd+late", "--help"]).output
    (tmp_path / "data.csv").write_text("text,label\na,x\nb,y\n")
    (tmp_path / "study.yaml").write_text(
        "name: s\ndatasets: [data.csv]\nseeds: 2\nstrategies:\n  - {name: late, last_steps: 3}\n  - default\n"
    )
    points = list(read_grid(tmp_path / "study.yaml").points())
    assert json.loads(json.dumps(dict(points[0].cell.strategy.settings))) == {"last_steps": 3}


def test_a_plug_in_is_not_loaded_before_it_is_named(install):
    install("late", "late_plugin", "raise RuntimeError('loaded')")
    make_strategy("deni")
    assert next(iter(STRATEGIES)) == "default"
    listed = CliRunner().invoke(main, ["strategies"])
    assert listed.exit_code == 0
    assert "late                     ?  Of a plug-in" in listed.output
    with pytest.raises(ValueError, match=r"unknown strategy 'lat': did you mean late\?$"):
        make_strategy("lat")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "import nothing_of_this_name",
            "strategy late of the package late_plugin cannot be loaded: ModuleNotFoundError: No",
        ),
        ("raise OSError('one\\ntwo')", "cannot be loaded: OSError: one two"),
        ("", "the package late_plugin has the entry point late, but no strategy of that name"),
    ],
)
def test_a_plug_in_that_cannot_be_loaded_is_named_in_one_line(install, source, message):
    install("late", "late_plugin", source)
    with pytest.raises(InputError, match=message) as caught:
        make_strategy("late")
    assert "\n" not in str(caught.value)
    result = CliRunner().invoke(main, ["strategies", "show", "late"])
    assert result.exit_code == 2


def test_a_tuning_may_be_a_plug_in_too(install):
    source = 'from deni.tuning.full import Full\n\n\nclass Whole(Full, name="whole"):\n    learning_rate = 2.0\n'
    install("whole", "whole_plugin", source, group="deni.tuning")
    assert deni.tuning.make_tuning("whole").learning_rate == 2.0


def test_a_class_of_the_user_is_known_by_its_name_and_may_be_defined_again():
    with forgotten_afterwards():
        for many in (2, 3):

            @dataclass(frozen=True)
            class Mine(Forking, name="mine"):
                members: int = many

            assert make_strategy("mine").members == many
        with pytest.raises(ValueError, match=r"there is a strategy deni already, in deni\.strategies\.deni: choose"):
            type("Other", (Strategy,), {}, name="deni")
        with pytest.raises(ValueError, match=r"there is a strategy mine already, in tests\.test_registry: choose"):
            type("Other", (Strategy,), {}, name="mine")
    assert "mine" not in STRATEGIES


def test_a_class_without_a_name_is_not_registered():
    known = list(STRATEGIES)

    class Quiet(Strategy):
        pass

    assert list(STRATEGIES) == known


@pytest.mark.parametrize("registry", [STRATEGIES, TUNINGS], ids=lambda registry: registry.kind)
def test_a_built_in_class_is_in_the_file_of_its_name(registry):
    assert len(registry) == len(list(registry)) == len(set(registry))
    for name, cls in registry.items():
        assert cls.name == name
        assert cls.__module__ == f"{registry.package}.{name}"
        assert getattr(sys.modules[registry.package], cls.__name__) is cls


def test_the_strategies_of_the_paper_come_first_in_the_order_of_its_tables():
    paper = "default all_data best_practices ensemble input_noise weight_noise prior_noise swa ema mixout augmentation"
    paper += " delayed_ensemble noisy_interpolation deni denials"
    rest = list(STRATEGIES)[15:]
    assert list(STRATEGIES)[:15] == paper.split()
    assert rest == sorted(rest)


def test_what_is_not_there_is_no_attribute():
    with pytest.raises(AttributeError, match=r"module 'deni\.strategies' has no attribute 'Magic'"):
        deni.strategies.Magic  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'Magic'"):
        exec("from deni.strategies import Magic")


def test_one_strategy_is_made_without_importing_the_others():
    code = "import sys; from deni.strategies import make_strategy; make_strategy('llrd'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "deni.strategies.llrd" in loaded
    assert "deni.strategies.deni" not in loaded


def test_schedules_strategies_and_tunings_load_neither_torch_nor_transformers_nor_peft():
    code = textwrap.dedent("""
        import sys
        import deni.noise, deni.schedule
        from deni.strategies import STRATEGIES, make_strategy
        from deni.tuning import TUNINGS, make_tuning
        for name in STRATEGIES:
            make_strategy(name).schedule(1250)
        for name in TUNINGS:
            make_tuning(name)
        print(*sys.modules)
    """)
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"torch", "transformers", "peft", "deni.population", "deni.engine"} & set(loaded)
