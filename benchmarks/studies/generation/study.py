"""Does it hold for models that generate? Default, ensemble, DENI and soup on two tasks, 20 seeds each.

The model is the one of `pretrain.py`. The learning rate of each task is chosen on its dev examples, for plain
fine-tuning, with other seeds; all strategies take it. What is trained is a pack of all seeds; finished parts of the
result are kept, and the same command goes on.

    python benchmarks/studies/generation/pretrain.py /tmp/bytes --minutes 20
    python benchmarks/studies/generation/study.py /tmp/bytes
    python benchmarks/studies/generation/study.py --page
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[2]))

from common import environment

from deni.artifact.generator import TextGenerator
from deni.data import Texts
from deni.errors import InputWarning
from deni.finetune import fine_tune
from deni.finetune.generating import GeneratorResult
from deni.finetune.result import FineTuneResult
from deni.measures import mean_interval, pitman_morgan, sd_interval
from deni.recipe import Recipe
from deni.strategies import DENI, Default, Ensemble, Soup, Strategy
from deni.tuning import Lora
from examples import DEV, LABELED, TASKS, TEST, splits

RESULTS = Path(__file__).parents[3] / "results"
FILE, PAGE = RESULTS / "generation.json", RESULTS / "generation.md"
RATES, CHOOSING = (1e-3, 2e-3, 4e-3), (100, 101)  # learning rates, and the seeds that choose among them
MEMBERS, SEEDS, EPOCHS, BATCH = 3, range(20), 8, 4
STRATEGIES: dict[str, Strategy] = {
    "default": Default(),
    "soup": Soup(members=MEMBERS),
    "deni": DENI(members=MEMBERS),
    "ensemble": Ensemble(members=MEMBERS),
}


def recipe(model: str, strategy: Strategy, rate: float, seed: int = 0) -> Recipe:
    """LoRA of rank 16 with its defaults."""
    return Recipe(
        model=model,
        task="generation",
        strategy=strategy,
        tuning=Lora(lora_r=16),
        learning_rate=rate,
        epochs=EPOCHS,
        batch_size=BATCH,
        seed=seed,
    )


def generators(result: FineTuneResult, models: int) -> list[TextGenerator]:
    """The members of each model of a pack by themselves, as what generates."""
    assert isinstance(result, GeneratorResult)
    size = result.trainer.population.size // models
    return [result.generator(range(at * size, (at + 1) * size)) for at in range(models)]


def exact(generator: TextGenerator, texts: Texts) -> list[int]:
    """Of each prompt, whether the answer, which is chosen greedily, is right."""
    answers = generator.generate(list(texts.texts), batch_size=50)
    assert texts.labels is not None
    return [int(answer.text.strip() == right) for answer, right in zip(answers, texts.labels, strict=True)]


def choose(model: str, train: Texts, dev: Texts) -> dict[str, Any]:
    """Mean exact match of each learning rate on the dev examples; all of them are trained in one pack."""
    pairs = [(rate, seed) for rate in RATES for seed in CHOOSING]
    result = fine_tune(train, [recipe(model, Default(), *pair) for pair in pairs], progress=False)
    hits = [float(np.mean(exact(each, dev))) for each in generators(result, len(pairs))]
    by_rate = np.reshape(hits, (len(RATES), len(CHOOSING)))
    means = dict(zip(RATES, by_rate.mean(1).round(4).tolist(), strict=True))
    return {"dev_exact_match": means, "learning_rate": max(means, key=lambda rate: means[rate])}


def measure(model: str, strategy: Strategy, rate: float, train: Texts, test: Texts) -> dict[str, Any]:
    """Hits of each seed on the test examples, and the cost of one seed."""
    began = time.process_time()
    result = fine_tune(train, recipe(model, strategy, rate), seeds=list(SEEDS), progress=False)
    spent = time.process_time() - began
    hits = [exact(each, test) for each in tqdm(generators(result, len(SEEDS)), desc=strategy.name)]
    return {
        "strategy": {"name": strategy.name, **strategy.settings()},
        "member_steps": result.member_steps / len(SEEDS),
        "processor_seconds": round(spent / len(SEEDS), 1),
        "failed_runs": len(result.trainer.failures),
        "hits": ["".join(map(str, each)) for each in hits],
    }


def run(model: str, tasks: Sequence[str], result: dict[str, Any]) -> None:
    """Compute what the result lacks; it is written after each part."""
    for task in tasks:
        train, dev, test = splits(task)
        found = result["tasks"].setdefault(task, {"strategies": {}})
        if "learning_rate" not in found:
            found |= choose(model, train, dev)
            keep(result)
        for name, strategy in STRATEGIES.items():
            if name not in found["strategies"]:
                found["strategies"][name] = measure(model, strategy, found["learning_rate"], train, test)
                keep(result)


def keep(result: dict[str, Any]) -> None:
    """Write the result, whole or not at all."""
    temporary = FILE.with_suffix(".tmp")
    temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    temporary.replace(FILE)


def scores(found: dict[str, Any], name: str) -> np.ndarray:
    """Exact match of each seed, in percent, `(S,)`."""
    return np.array([100 * np.mean([int(hit) for hit in hits]) for hits in found["strategies"][name]["hits"]])


def page(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    about = result["pretraining"]
    lines = [
        "# Generation",
        "",
        "Written by `python benchmarks/studies/generation/study.py --page` from [generation.json](generation.json).",
        "",
        f"A language model of bytes of Llama's shape with {about['parameters']:,} parameters, pre-trained for "
        f"{about['minutes']:g} processor minutes on {about['bytes'] / 1e6:.1f} MB of {about['text']}, "
        f"{about['bits_per_byte']} bits a byte on text that was held out. Fine-tuned with LoRA of rank 16 on "
        f"{LABELED} examples for {EPOCHS} epochs in batches of {BATCH}, learning rate chosen on {DEV} dev examples for "
        f"plain fine-tuning, measured on {TEST} test examples: exact match of answers that are chosen greedily, in "
        f"percent, with 95 % intervals over {len(SEEDS)} seeds; {MEMBERS} members. One draw of the examples, so the "
        "intervals are about other seeds on these examples.",
    ]
    for task, found in result["tasks"].items():
        lines += ["", f"## {task.capitalize()}", "", f"Learning rate {found['learning_rate']:g}.", ""]
        lines += [
            "| strategy | mean | SD | worst seed | mean minus default | SD ratio to default | member-steps |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        plain = scores(found, "default")
        for name in (name for name in STRATEGIES if name in found["strategies"]):
            own, cost = scores(found, name), found["strategies"][name]["member_steps"]
            mean, sd = mean_interval(own), sd_interval(own)
            difference = ratio = ""
            if name != "default":
                gain, spread = mean_interval(own - plain), pitman_morgan(own, plain)
                difference = f"{gain.value:+.1f} [{gain.low:+.1f}, {gain.high:+.1f}]"
                ratio = f"{spread.ratio:.2f} [{spread.low:.2f}, {spread.high:.2f}]"
            lines.append(
                f"| {name} | {mean.value:.1f} [{mean.low:.1f}, {mean.high:.1f}] "
                f"| {sd.value:.1f} [{sd.low:.1f}, {sd.high:.1f}] | {own.min():.1f} | {difference} | {ratio} "
                f"| {cost:.0f} |"
            )
    lines += [
        "",
        "What so small a model can show: whether votes over tokens, forks and merges work in generation, and whether "
        "they narrow the spread over seeds of an adapter that has learned a narrow format from few examples. What it "
        "cannot show: how large the spread of a model of billions of parameters is, whose pre-training has seen such "
        "formats; anything about answers without an exact form; other tuning than LoRA, or another number of examples. "
        "Each task is one draw of examples, so no claim about tasks follows.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="folder of pretrain.py")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--page", action="store_true", help="write the page from the results that are there")
    parser.add_argument("--check", action="store_true", help="with --page: compare only")
    args = parser.parse_args()
    result = json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {"tasks": {}}
    if not args.page:
        torch.set_num_threads(1)
        warnings.simplefilter("ignore", InputWarning)
        pretrained = json.loads((Path(args.model) / "pretraining.json").read_text(encoding="utf-8"))
        command = "python benchmarks/studies/generation/study.py MODEL"
        result = {**environment(), "command": command, "pretraining": pretrained, "tasks": result["tasks"]}
        run(args.model, args.tasks, result)
    if args.check:
        if PAGE.read_text(encoding="utf-8") != page(result):
            sys.exit(f"{PAGE} is not what its result says: write it with --page")
        return
    PAGE.write_text(page(result), encoding="utf-8")


if __name__ == "__main__":
    main()
