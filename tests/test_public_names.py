"""The public names of `deni`: few, found at their first use, documented."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import deni
from deni.deprecation import Renamed
from deni.errors import DeprecatedWarning
from deni.strategies import STRATEGIES, Strategy
from deni.tuning import TUNINGS, Tuning
from tests.helpers.forked import run

NAMES = [name for name in dir(deni) if name != "__version__"]
HEAVY = ("torch", "transformers", "peft", "sklearn", "numpy", "pandas")


def python(code: str) -> str:
    """What a fresh process prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_deni_loads_nothing_heavy():
    code = f"import sys, deni; deni.__version__; print([name for name in {HEAVY} if name in sys.modules])"
    assert python(code) == "[]"


def test_strategies_and_tunings_load_neither_torch_nor_peft():
    code = (
        "import sys, deni; dir(deni); deni.DENI; deni.Lora; print({'torch', 'transformers', 'peft'} & set(sys.modules))"
    )
    assert python(code) == "set()"


def test_a_public_name_loads_no_more_than_it_needs():
    assert python("import sys; from deni import Schedule, Phase, Fork; print('torch' in sys.modules)") == "False"


def test_the_star_gives_the_public_names():
    code = "from deni import *; import deni; print(all(name in globals() for name in dir(deni)))"
    assert run(code).stdout.strip() == "True"


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_there_and_documented(name):
    found = getattr(deni, name)
    assert found.__name__ == name
    assert inspect.getdoc(found)
    assert name in dir(deni)


def test_every_strategy_and_tuning_is_public():
    for base, table in ((Strategy, STRATEGIES), (Tuning, TUNINGS)):
        public = {getattr(deni, name) for name in NAMES}
        assert {table[name] for name in list(table)} | {base} <= public


def test_type_checkers_see_no_name_that_is_not_there():
    tree = Path(deni.__file__).read_text(encoding="utf-8").partition("if TYPE_CHECKING:")[2].partition("\n\n")[0]
    seen = {line.rpartition(" as ")[2] for line in tree.splitlines() if " as " in line}
    assert set(deni._MODULES) <= seen <= set(NAMES)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'deni' has no attribute 'Denni'"):
        deni.Denni  # noqa: B018


def test_a_renamed_name_works_and_warns(monkeypatch):
    monkeypatch.setitem(deni._RENAMED, "EnsembleTrainer", Renamed("PopulationTrainer", "9.0"))
    with pytest.warns(DeprecatedWarning, match=r"deni.EnsembleTrainer .* 9\.0: use deni.PopulationTrainer"):
        assert deni.EnsembleTrainer is deni.PopulationTrainer
