"""What a training step of several LoRA adapters on one language model costs: seconds and peak memory.

A small random model of Llama's shape in float32, LoRA of rank 8, batch 4 of 16 or 64 tokens for each adapter, with
different rows. Each case runs in a separate process:

- stacked: `PopulationTrainer`, one run for each adapter; this includes what Trainer does around a step.
- one after another: the same with one run, times the number of adapters.
- PEFT: one model with all adapters, `set_adapter`, forward and backward in a loop, a fused Adam for each adapter.

Both sides have no padding, no dropout, fused Adam, and a loss on all tokens. The median of the steps counts.

    python benchmarks/lora_adapters.py
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from common import environment, write
from tqdm import tqdm

ADAPTERS = (1, 4, 10, 20)
WAYS = ("stacked", "PEFT")
LENGTHS, BATCH, RANK, RATE = (16, 64), 4, 8, 1e-3
SIZES = {
    "vocab_size": 4096,
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "tie_word_embeddings": True,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
}


def base() -> Any:
    """The model, the same for all."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZES))


def lora() -> Any:
    """The adapter's settings."""
    from peft import LoraConfig

    return LoraConfig(task_type="CAUSAL_LM", r=RANK, lora_alpha=RANK)


def rows(count: int, tokens: int) -> torch.Tensor:
    """Token ids, `(count, T)`."""
    return torch.randint(2, SIZES["vocab_size"], [count, tokens], generator=torch.Generator().manual_seed(1))


def with_peft(adapters: int, tokens: int, steps: int) -> list[float]:
    """Seconds of each step of all adapters, switched in a loop."""
    from peft import get_peft_model

    model = get_peft_model(base(), lora(), "0").train()
    for name in map(str, range(1, adapters)):
        model.add_adapter(name, lora())
    names = [str(each) for each in range(adapters)]
    optimizers = []
    for name in names:
        model.set_adapter(name)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizers.append(torch.optim.AdamW(trained, RATE, weight_decay=0.0, fused=True))
    batches = rows(adapters * steps * BATCH, tokens).view(steps, adapters, BATCH, tokens)
    seconds = []
    for step in range(steps):
        began = time.perf_counter()
        for name, optimizer, batch in zip(names, optimizers, batches[step], strict=True):
            model.set_adapter(name)
            model(batch, labels=batch).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        seconds.append(time.perf_counter() - began)
    return seconds


def stacked(adapters: int, tokens: int, steps: int) -> list[float]:
    """Seconds of each step of all adapters, as runs of one training."""
    from peft import get_peft_model
    from transformers import TrainerCallback, TrainingArguments, default_data_collator

    from deni.training.trainer import PopulationTrainer

    class Clock(TrainerCallback):
        """When each step begins."""

        began: list[float]

        def __init__(self) -> None:
            self.began = []

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            """Note it."""
            self.began.append(time.perf_counter())

    clock = Clock()
    data = [[{"input_ids": ids, "labels": ids} for ids in rows(BATCH, tokens).tolist()]] * adapters
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            folder,
            max_steps=steps + 1,
            per_device_train_batch_size=BATCH,
            learning_rate=RATE,
            max_grad_norm=0.0,
            optim="adamw_torch_fused",
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        )
        trainer = PopulationTrainer(
            args=args,
            model_init=lambda: get_peft_model(base(), lora()),
            seeds=range(adapters),
            train_dataset=data if adapters > 1 else data[0],
            data_collator=default_data_collator,
            task="generation",
            engine="stacked" if adapters > 1 else "auto",
            callbacks=[clock],
        )
        trainer.train()
    return [after - before for before, after in zip(clock.began, clock.began[1:], strict=False)]


def case(way: str, adapters: int, tokens: int, steps: int) -> dict[str, float]:
    """One case in this process: seconds of a step, and MiB at the peak, above those of the bare model."""
    for name in ("peft", "transformers", "deni.training.trainer"):  # what both need is no part of the memory
        importlib.import_module(name)
    torch.set_num_threads(1)
    before = peak()
    measure: Callable[[int, int, int], list[float]] = {"stacked": stacked, "PEFT": with_peft}[way]
    seconds = measure(adapters, tokens, steps + 1)[1:]  # the first one warms up
    return {"seconds": round(statistics.median(seconds), 4), "mib": round(peak() - before, 1)}


def peak() -> float:
    """MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5, help="steps of each case")
    parser.add_argument("--adapters", type=int, nargs="+", default=list(ADAPTERS))
    parser.add_argument("--case", nargs=3, metavar=("WAY", "ADAPTERS", "TOKENS"), help="measure one case and print it")
    args = parser.parse_args()
    if args.case:
        print(json.dumps(case(args.case[0], int(args.case[1]), int(args.case[2]), args.steps)))
        return
    found = []
    for tokens in LENGTHS:
        of_length: list[dict[str, Any]] = []
        for adapters in tqdm(args.adapters, desc=f"{tokens} tokens"):
            row: dict[str, Any] = {"tokens": tokens, "adapters": adapters}
            for way in WAYS:
                own = ["--steps", str(args.steps), "--case", way, str(adapters), str(tokens)]
                done = subprocess.run([sys.executable, __file__, *own], capture_output=True, text=True, check=True)
                row[way] = json.loads(done.stdout.splitlines()[-1])
            of_length.append(row)
        first = of_length[0]
        for row in of_length:
            seconds = first["stacked"]["seconds"] * row["adapters"] / first["adapters"]
            row["one after another"] = {"seconds": round(seconds, 4), "mib": first["stacked"]["mib"]}
        found += of_length
    write("lora_adapters", {**environment(), "threads": 1, "steps": args.steps, "rows": found})


if __name__ == "__main__":
    main()
