"""A training that is killed anywhere in a checkpoint, or at its end, is resumed and ends as one that was not."""

from pathlib import Path

from tests.helpers.forked import run

ROOT = Path(__file__).parents[2]
SCRIPT = """
import random
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
import torch
from kills_of_commands import Operation, digests, fork, whole
from safetensors.torch import save_file
from transformers import BertConfig, BertForSequenceClassification, TrainingArguments

from deni.strategies import DENI
from deni.training.trainer import PopulationTrainer

root = Path(sys.argv[2])
sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
draw = torch.Generator().manual_seed(1)
rows = [{"input_ids": torch.randint(1, 60, (9,), generator=draw).tolist(), "labels": row % 3} for row in range(16)]
SCORES = {2: 1.0, 4: 3.0, 6: 2.0, 8: 2.5}  # the best is neither the first nor the last


def train(folder, resume):
    torch.set_num_threads(1)
    args = TrainingArguments(
        str(folder / "out"), max_steps=8, per_device_train_batch_size=4, learning_rate=1e-2, report_to=[], use_cpu=True,
        disable_tqdm=True, save_strategy="steps", save_steps=2, eval_strategy="steps", eval_steps=2,
        save_total_limit=1, load_best_model_at_end=True, metric_for_best_model="score", greater_is_better=True,
    )
    trainer = PopulationTrainer(
        args=args, model_init=lambda: BertForSequenceClassification(BertConfig(vocab_size=60, num_labels=3, **sizes)),
        strategy=DENI(members=2), train_dataset=rows, eval_dataset=rows[:4],
        compute_metrics=lambda _: {"score": SCORES[trainer.state.global_step]},
    )
    trainer.train(resume_from_checkpoint=resume or None)
    save_file({name: value.clone() for name, value in trainer.population.values.items()}, folder / "values")
    return 0


import json
from functools import partial

first = root / "first"
first.mkdir()
code, said = fork(partial(train, first, False), first, root / "log", notes=root / "notes")
assert code == 0, said
seen = json.loads((root / "notes").read_text())[0]
expected = digests(first)["values"]
kills, resumed = 0, 0
picks = random.Random(0).sample(range(1, len(seen) + 1), int(sys.argv[3]))
for number, at in enumerate(picks):
    folder = root / f"{number}"
    folder.mkdir()
    code, said = fork(partial(train, folder, False), folder, root / "log", at, delay=0.002 * (number % 2))
    kills += code == -9
    there = list((folder / "out").glob("checkpoint-*"))
    assert all(whole(each) for each in there), (seen[at - 1], there)
    if code == -9:
        code, said = fork(partial(train, folder, bool(there)), folder, root / "log")
        resumed += bool(there)
        assert "passed over" not in said, said
    assert code == 0, (seen[at - 1], said)
    assert digests(folder)["values"] == expected, seen[at - 1]
    assert [each.name for each in (folder / "out").iterdir()] == ["checkpoint-4"], list((folder / "out").iterdir())
print(len(seen), kills, resumed)
"""


def test_a_training_that_is_killed_anywhere_is_resumed_to_the_same_end(tmp_path):
    done = run(SCRIPT, ROOT / "benchmarks", tmp_path, 6)
    operations, kills, resumed = map(int, done.stdout.split())
    assert operations > 200
    assert kills >= 5
    assert resumed >= 3
