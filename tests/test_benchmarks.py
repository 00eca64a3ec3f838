import json
import subprocess
import sys
from pathlib import Path

from deni.tuning import TUNINGS

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_the_tables_are_what_the_results_say():
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "tables.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_default_learning_rates_are_the_chosen_ones():
    chosen = json.loads((BENCHMARKS / "results" / "learning_rates.json").read_text())["chosen"]
    assert chosen == {name: tuning.learning_rate for name, tuning in TUNINGS.items()}
