"""Nothing but ours is printed: no notices of the libraries below."""

import os
import subprocess
import sys


def run(code, *arguments):
    """Standard output and error of Python code in a process of its own."""
    noisy = {"TRANSFORMERS_VERBOSITY", "HF_HUB_DISABLE_PROGRESS_BARS", "TOKENIZERS_PARALLELISM", "PYTHONWARNINGS"}
    env = {name: value for name, value in os.environ.items() if name not in noisy}
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_importing_and_fitting_the_estimator_says_nothing(tickets, model_folder):
    code = f"""
import pandas as pd
from deni import DeniClassifier
tickets = pd.read_csv({tickets!r})
for tuning in ("full", "lora"):
    estimator = DeniClassifier({model_folder!r}, "default", tuning, epochs=1)
    print(len(estimator.fit(tickets["text"], tickets["label"]).predict(tickets["text"])))
"""
    assert run(code) == ("36\n36\n", "")


def test_importing_peft_says_nothing_of_optional_kernels():
    assert run("import deni, peft, bitsandbytes") == ("", "")


def test_train_predict_and_export_say_only_what_is_ours(tickets, model_folder, tmp_path):
    code = "import sys; from deni.cli import main; main(sys.argv[1:])"
    flags = ("--model", model_folder, "--tuning", "lora", "--strategy", "deni", "--members", "2", "--epochs", "2")
    output, errors = run(code, "train", tickets, *flags, "--output", str(tmp_path / "model"))
    assert output.splitlines()[-1].startswith("Next: deni predict")
    assert errors == ""
    output, errors = run(code, "export", str(tmp_path / "model"), str(tmp_path / "single"))
    assert (output, errors) == (f"{tmp_path / 'single'}\n", "")
    predict = """
import contextlib, sys
from deni.cli import main
for model in sys.argv[2:]:
    with contextlib.suppress(SystemExit):
        main(["predict", model, sys.argv[1]])
"""
    output, errors = run(predict, tickets, str(tmp_path / "model"), str(tmp_path / "single"))
    assert (len(output.splitlines()), errors) == (2 * 37, "")
