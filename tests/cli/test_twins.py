"""A command and what it does are twins: what is typed reaches a function under the same name."""

import dataclasses
import inspect

import pytest

from deni.artifact import export, push
from deni.augmentation import AUGMENTERS
from deni.baselines import BASELINES
from deni.cli import COMMANDS, main
from deni.commands.adapt import adapt_file
from deni.commands.augment import augment_file
from deni.commands.compare import compare_files
from deni.commands.demo import run_demo
from deni.commands.diagnose import diagnose_file
from deni.commands.distil import distil_file
from deni.commands.evaluate import evaluate_file
from deni.commands.forecast import forecast_file
from deni.commands.inspect import inspect_file
from deni.commands.models import compare_models
from deni.commands.parts import read_parts
from deni.commands.predict import predict_file
from deni.commands.serve import serve
from deni.commands.show import show_auto
from deni.commands.strategies import show_strategies
from deni.commands.study import damaged_cells, export_cells, merge_stores, plan_study, retry_cells, study_status
from deni.commands.suggest import suggest_file
from deni.commands.train import train_file
from deni.distillation import Distillation
from deni.randomness import SOURCES
from deni.recipe import Recipe
from deni.report import write_report
from deni.strategies import STRATEGIES
from deni.study.execution.run import Run
from deni.tuning import TUNINGS


def fields(classes):
    return {field.name for cls in classes for field in dataclasses.fields(cls)}


def arguments(function):
    return set(inspect.signature(function).parameters)


FUNCTIONS = {
    "adapt": (adapt_file,),
    "augment": (augment_file,),
    "compare": (compare_files,),
    "demo": (run_demo,),
    "diagnose": (diagnose_file,),
    "distil": (distil_file,),
    "evaluate": (evaluate_file,),
    "export": (export,),
    "forecast": (forecast_file, Recipe.of),
    "inspect": (inspect_file,),
    "predict": (predict_file,),
    "push": (push,),
    "report": (write_report,),
    "models": (compare_models, Recipe.of),
    "show auto": (show_auto, Recipe.of),
    "strategies list": (show_strategies,),
    "strategies show": (show_strategies,),
    "study check": (damaged_cells,),
    "study export": (export_cells,),
    "study merge": (merge_stores,),
    "study retry": (retry_cells,),
    "study run": (plan_study, Run),
    "study status": (study_status,),
    "serve": (serve,),
    "suggest": (suggest_file,),
    "train": (train_file, Recipe.of),
    "tunings list": (lambda: None,),  # it prints what the classes say
    "tunings show": (lambda tuning: None,),
}
# What decides how the result is shown, not what it is.
SHOWN = {
    "augment": {"yes"},
    "compare": {"as_json"},
    "demo": {"json_file", "output", "overwrite"},
    "diagnose": {"dry_run", "as_json", "no_baselines"},
    "distil": {"as_json"},
    "evaluate": {"as_json"},
    "forecast": {"as_json", "output", "overwrite"},
    "inspect": {"json_file", "overwrite"},
    "models": {"as_json", "output", "overwrite"},
    "show auto": {"as_json"},
    "study run": {"dry_run"},
    "train": {"baselines", "no_baselines", "explain", *fields(BASELINES.built_in().values())},
}
# What has another name in the function, which takes an object, a mapping, or a folder as the library calls it.
HELD = {
    "augment": {"augmenter": {"method", *fields(AUGMENTERS.values())}},
    "diagnose": {"tuning_settings": fields(TUNINGS.values()), "baselines": fields(BASELINES.built_in().values())},
    "distil": {"given": fields([Recipe]), "distillation": fields([Distillation])},
    "export": {"folder": {"model"}},
    "forecast": {"given": fields([Recipe])},
    "models": {"parts": arguments(read_parts) - {"file", "recipe"}, "given": fields([Recipe])},
    "show auto": {"parts": arguments(read_parts) - {"file", "recipe"}, "given": fields([Recipe])},
    "strategies show": {"settings": fields(STRATEGIES.values())},
    "train": {
        "file": {"data"},
        "strategy_settings": fields(STRATEGIES.values()),
        "tuning_settings": fields(TUNINGS.values()),
        "distillation": fields([Distillation]),
        "given": {*fields([Recipe]), *(f"seed_{source}" for source in SOURCES)},
    },
}


def test_each_command_has_its_twin():
    groups = {name.partition(" ")[0] for name in FUNCTIONS if " " in name}
    assert set(COMMANDS) == {name for name in FUNCTIONS if " " not in name} | groups
    for group in groups:
        assert {f"{group} {name}" for name in main.get_command(None, group).commands} == {
            name for name in FUNCTIONS if name.startswith(f"{group} ")
        }


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_typed_reaches_the_function_under_the_same_name(name):
    group, _, below = name.partition(" ")
    command = main.get_command(None, group)
    typed = {each.name for each in (command.commands[below] if below else command).params}
    taken = set().union(*map(arguments, FUNCTIONS[name]))
    held = HELD.get(name, {})
    assert held.keys() <= taken
    assert typed - SHOWN.get(name, set()) - set().union(*held.values()) <= taken
    assert SHOWN.get(name, set()) <= typed


def test_a_setting_of_no_strategy_is_refused():
    with pytest.raises(ValueError, match="members: name the strategy"):
        show_strategies(members=3)
