"""Which learning rate each tuning starts with: plain fine-tuning of MiniLM, macro F1 on a dev split.

The dev split is cut from the training split; the test split is never read.

    python benchmarks/learning_rates.py --labelled 200 --epochs 10
"""

from __future__ import annotations

import argparse
import json
import statistics
import warnings
from importlib.metadata import version

import torch
from common import RESULTS, data, environment, write

from deni.data import choose_balanced, read_texts, stratified_split
from deni.finetune import fine_tune, scores
from deni.models.tokenizing import encode, tokenize
from deni.randomness import Sources
from deni.recipe import Recipe

RATES = {
    "full": (3e-5, 1e-4, 3e-4),
    "lora": (1e-4, 3e-4, 1e-3),
    "ia3": (3e-3, 1e-2, 3e-2),
    "prompt": (1e-2, 3e-2, 1e-1, 3e-1, 1e0),
    "unipelt": (1e-4, 3e-4, 1e-3, 3e-3),
}


def earlier() -> list[dict]:
    """The rows of the last result, each with the commit and the transformers that it is of."""
    path = RESULTS / "learning_rates.json"
    if not path.is_file():
        return []
    result = json.loads(path.read_text(encoding="utf-8"))
    origin = {"commit": result["commit"], "transformers": result["versions"]["transformers"]}
    return [{**origin, **row} for row in result["rows"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="+", default=["trec", "sst2"])
    runnable = [name for name in RATES if name != "unipelt" or version("transformers").startswith("4.57.")]
    parser.add_argument("--tunings", nargs="+", choices=RATES, default=runnable, help="rows of others are kept")
    parser.add_argument("--labelled", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--dev", type=int, default=500, help="texts of the dev split")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")
    kept = [row for row in earlier() if row["tuning"] not in args.tunings]
    rows: list[dict] = []
    here = {"commit": environment()["commit"], "transformers": version("transformers")}
    for name in args.datasets:
        texts = read_texts(data(name))
        sources = Sources(0)
        train, _ = stratified_split(texts.labels, 0.2, sources.numpy("data_split"))
        part = texts.select(train)
        rest, dev = stratified_split(part.labels, args.dev / len(part), sources.numpy("data_split"))
        chosen = part.select(rest)
        chosen = chosen.select(choose_balanced(chosen.labels, args.labelled, sources.numpy("label_choice")))
        held_out = part.select(dev)
        for tuning in args.tunings:
            for rate in RATES[tuning]:
                plan = Recipe.of(strategy="default", tuning=tuning, learning_rate=rate, epochs=args.epochs)
                fitted = fine_tune(chosen, plan, seeds=range(args.seeds), progress=False)
                tokens = tokenize(held_out, fitted.tokenizer, fitted.max_length, fitted.labels)
                votes = fitted.trainer.predict(tokens).predictions  # (N, R, C)
                gold = encode(held_out, fitted.labels)
                f1 = [scores(gold, votes[:, run].argmax(-1))["macro_f1"] for run in range(args.seeds)]
                row = {**here, "dataset": name, "tuning": tuning, "learning_rate": rate, "macro_f1": f1}
                rows.append({**row, "mean": statistics.mean(f1), "seconds": round(fitted.seconds, 1)})
                print(rows[-1], flush=True)
    rows = sorted(
        [*kept, *rows], key=lambda row: (args.datasets.index(row["dataset"]), list(RATES).index(row["tuning"]))
    )
    mean: dict[str, dict[float, float]] = {}
    for tuning, rates in RATES.items():
        own = {rate: [r["mean"] for r in rows if (r["tuning"], r["learning_rate"]) == (tuning, rate)] for rate in rates}
        mean[tuning] = {rate: statistics.mean(values) for rate, values in own.items() if values}
    best = {tuning: max(by_rate, key=by_rate.__getitem__) for tuning, by_rate in mean.items() if by_rate}
    print(best)
    write("learning_rates", {**environment(), "settings": vars(args), "rows": rows, "chosen": best})


if __name__ == "__main__":
    main()
