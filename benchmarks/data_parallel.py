"""A training by one process, or by several that `torchrun` starts: a part of `cluster.py`, which compares them.

    python benchmarks/data_parallel.py FOLDER --batch 8
    torchrun --nnodes 2 --nproc-per-node 1 ... benchmarks/data_parallel.py FOLDER --batch 4

A tiny random model in float64 without dropout, DENI with three members. A second call goes on from the last checkpoint.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertForSequenceClassification, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from deni import DENI, PopulationTrainer

ROWS, EPOCHS, EVERY = 96, 4, 6  # 48 steps of 8 rows, a checkpoint each 6


class Slow(TrainerCallback):
    """Makes steps long enough for a host to be lost between two of them."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Wait."""
        time.sleep(self.seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batch", type=int, required=True, help="Rows of each process.")
    parser.add_argument("--pause", type=float, default=0.0, help="Seconds after each step.")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37}
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # processes draw masks of their own
    model = BertForSequenceClassification(BertConfig(vocab_size=60, num_labels=3, **sizes, **still)).double()
    draw = torch.Generator().manual_seed(1)
    rows = [
        {"input_ids": torch.randint(1, 60, (9,), generator=draw).tolist(), "labels": row % 3} for row in range(ROWS)
    ]
    args = TrainingArguments(
        str(given.folder / "checkpoints"),
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=given.batch,
        learning_rate=1e-3,
        save_strategy="steps",
        save_steps=EVERY,
        report_to=[],
        disable_tqdm=True,
        ddp_backend="gloo" if "RANK" in os.environ else None,
        ddp_timeout=20,  # seconds; without effect together with use_cpu
    )
    trainer = PopulationTrainer(
        model, args, strategy=DENI(members=3), train_dataset=rows, callbacks=[Slow(given.pause)]
    )
    last = get_last_checkpoint(args.output_dir) if os.path.isdir(args.output_dir) else None
    trainer.train(resume_from_checkpoint=last)
    if args.process_index == 0:
        values = {name: value.clone() for name, value in trainer.population.values.items()}
        save_file(values, given.folder / "values.safetensors", {"began": Path(last).name if last else "step 0"})
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()  # without it gloo's threads may abort the interpreter at its end


if __name__ == "__main__":
    main()
