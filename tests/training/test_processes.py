"""Several processes train one population."""

import os
import subprocess
import sys
from socket import socket

import pytest
from safetensors.torch import load_file
from transformers import TrainingArguments

from deni.errors import ArtifactError
from deni.strategies import DENI, DelayedEnsemble
from deni.training.trainer import PopulationTrainer
from tests.helpers.forked import start
from tests.helpers.generators import answered_rows, collate_answers, make_generator
from tests.helpers.tiny import TRANSFORMERS_5
from tests.helpers.trainers import make

SCRIPT = """
import os
import sys
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertForSequenceClassification, TrainingArguments
from deni.strategies import DENI
from deni.training.trainer import PopulationTrainer

torch.set_num_threads(1)
torch.manual_seed(0)
sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37}
still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
model = BertForSequenceClassification(BertConfig(vocab_size=60, num_labels=3, **sizes, **still)).double()
draw = torch.Generator().manual_seed(1)
rows = [
    {"input_ids": torch.randint(1, 60, (9,), generator=draw).tolist(), "labels": row % 3} for row in range(48)
]
args = TrainingArguments(
    sys.argv[2], num_train_epochs=2, per_device_train_batch_size=int(sys.argv[3]), learning_rate=1e-3, report_to=[],
    disable_tqdm=True, save_strategy="no", use_cpu=True, max_grad_norm=0.1,
    ddp_backend="gloo" if "RANK" in os.environ else None,
)
strategy = DENI(members=3, member_order=sys.argv[5], variance=0.15)
trainer = PopulationTrainer(model, args, strategy=strategy, engine=sys.argv[4], train_dataset=rows)
trainer.train()
assert "DistributedDataParallel" not in type(trainer.model_wrapped).__name__
assert trainer.state.global_step == 12, trainer.state.global_step
if args.process_index == 0:
    save_file({name: value.clone() for name, value in trainer.population.values.items()}, sys.argv[1])
if torch.distributed.is_initialized():
    torch.distributed.destroy_process_group()  # without it gloo's threads may abort the interpreter at its end
"""


LOSSES = """
import os
import sys
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import BertConfig, BertForSequenceClassification, TrainingArguments
from deni.strategies import Default
from deni.training.trainer import PopulationTrainer

torch.set_num_threads(1)
sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37}
still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
draw = torch.Generator().manual_seed(1)
rows = [{"input_ids": torch.randint(1, 60, (9,), generator=draw).tolist(), "labels": row % 3} for row in range(48)]
poisoned = sys.argv[4] == "poisoned"
rank, calls = int(os.environ.get("RANK", 0)), []

def init():
    return BertForSequenceClassification(BertConfig(vocab_size=60, num_labels=3, **sizes, **still)).double()

def mean_over_items(outputs, labels, num_items_in_batch=None):
    calls.append(1)
    loss = F.cross_entropy(outputs["logits"], labels, reduction="sum") / num_items_in_batch
    bad = poisoned and len(calls) % 2 == 0 and len(calls) > 8 and rank == int(os.environ.get("WORLD_SIZE", 1)) - 1
    return loss * float("nan") if bad else loss  # the second run of two, from step 4 on, in the last process

args = TrainingArguments(
    sys.argv[2], num_train_epochs=2, per_device_train_batch_size=int(sys.argv[3]), learning_rate=1e-2, report_to=[],
    optim="sgd", disable_tqdm=True, save_strategy="no", use_cpu=True, max_grad_norm=0.0,
    ddp_backend="gloo" if "RANK" in os.environ else None,
)
trainer = PopulationTrainer(
    args=args, model_init=init, strategy=Default(), seeds=[0, 1], engine="loop", train_dataset=rows,
    compute_loss_func=mean_over_items,
)
trainer.train()
assert [(failure.run, failure.step) for failure in trainer.failures] == ([(1, 4)] if poisoned else [])
save_file({name: value.clone() for name, value in trainer.population.values.items()}, f"{sys.argv[1]}{rank}")
if torch.distributed.is_initialized():
    torch.distributed.destroy_process_group()  # without it gloo's threads may abort the interpreter at its end
"""


def run_as_one_and_as_two(folder, script, *arguments):
    """Run a script in one process with batch 8 and in two with batch 4; its arguments: values, output, batch, more."""
    one = start(script, folder / "one", folder / "one.out", 8, *arguments)
    run_as_two(script, folder / "two", folder / "two.out", 4, *arguments)
    assert one.wait() == 0, one.stderr[-3000:]


def run_as_two(script, *arguments):
    """Run a script in two processes of one group."""
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    for each in [start(script, *arguments, **group, RANK=rank, LOCAL_RANK=rank) for rank in ("0", "1")]:
        assert each.wait() == 0, each.stderr[-3000:]


@pytest.mark.parametrize(("engine", "order"), [("stacked", "shared"), ("loop", "shared"), ("stacked", "own")])
def test_two_processes_are_one_with_the_same_global_batch(tmp_path, engine, order):
    run_as_one_and_as_two(tmp_path, SCRIPT, engine, order)
    one, two = load_file(tmp_path / "one"), load_file(tmp_path / "two")
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-10
    head = one["classifier.weight"]
    assert float((head[0] - head[1]).abs().max()) > 0.01


@pytest.mark.parametrize("loss", ["sound", "poisoned"])
def test_processes_share_the_items_of_a_loss_and_what_they_freeze(tmp_path, loss):
    run_as_one_and_as_two(tmp_path, LOSSES, loss)
    one, *two = (load_file(tmp_path / name) for name in ("one0", "two0", "two1"))
    for each in two:  # SGD, so that a gradient of another size moves them elsewhere
        assert max(float((one[name] - each[name]).abs().max()) for name in one) < 1e-10


CHECKPOINTS = """
import os
import sys
import torch
from transformers import BertConfig, BertForSequenceClassification, TrainingArguments
from deni.strategies import DENI
from deni.training import manifest
from deni.training.trainer import PopulationTrainer

torch.set_num_threads(1)
sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
draw = torch.Generator().manual_seed(1)
rows = [{"input_ids": torch.randint(1, 60, (9,), generator=draw).tolist(), "labels": row % 3} for row in range(48)]
rank = int(os.environ["RANK"])

class Trainer(PopulationTrainer):
    def _save_rng_state(self, output_dir):
        if rank == 1 and self.state.global_step == broken:
            raise OSError(28, "No space left on device")
        super()._save_rng_state(output_dir)

def new():
    args = TrainingArguments(
        sys.argv[1], max_steps=12, per_device_train_batch_size=4, learning_rate=1e-2, report_to=[], disable_tqdm=True,
        save_steps=4, use_cpu=True, ddp_backend="gloo",
    )
    init = lambda: BertForSequenceClassification(BertConfig(vocab_size=60, num_labels=3, **sizes))
    return Trainer(args=args, model_init=init, strategy=DENI(members=2), train_dataset=rows)

broken = None
whole = new()
whole.train()
torch.distributed.barrier()
found = {path.name: manifest.obstacle(path, rank, 2) for path in manifest.checkpoints(sys.argv[1])}
assert found == {"checkpoint-12": None, "checkpoint-8": None, "checkpoint-4": None}, found
assert os.path.isfile(sys.argv[1] + f"/checkpoint-8/randomness_{rank}.safetensors")
torch.distributed.barrier()
if rank == 0:
    os.remove(sys.argv[1] + "/checkpoint-12/rng_state_1.pth")
    for step in (8, 4):
        os.rename(f"{sys.argv[1]}/checkpoint-{step}", f"{sys.argv[1]}/checkpoint-{step - 1}")
torch.distributed.barrier()
broken = 8
resumed = new()
resumed.train(resume_from_checkpoint=sys.argv[1] + "/checkpoint-3")
torch.distributed.barrier()
assert sorted(os.listdir(sys.argv[1])) == ["checkpoint-12", "checkpoint-3", "checkpoint-7"], os.listdir(sys.argv[1])
for name, value in whole.population.values.items():
    assert torch.equal(value, resumed.population.values[name]), name
torch.distributed.destroy_process_group()
"""


@pytest.mark.skipif(not TRANSFORMERS_5, reason="transformers 4.57 and its torch restore no state of processes on a CPU")
def test_processes_write_one_whole_checkpoint_or_none_and_resume_from_it(tmp_path):
    file = tmp_path / "train.py"
    file.write_text(CHECKPOINTS)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [sys.executable, *launch, str(file), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line for line in done.stderr.splitlines() if "InputWarning" in line]
    assert len(lines) == 1, lines
    assert "checkpoint-8 could not be written (another process could not write its part)" in lines[0]
    one = make(tmp_path, DENI(members=2))
    with pytest.raises(ArtifactError, match=r"checkpoint-12 is not .*the number of processes was 2, not 1"):
        one.train(resume_from_checkpoint=str(tmp_path / "out/checkpoint-12"))


# ---- answers of language models --------------------------------------------------------------------------------------

ANSWERS = """
import os
import sys
import torch
from safetensors.torch import save_file
from tests.training.test_processes import answering
trainer = answering(sys.argv[1], 4, int(sys.argv[2]))
if os.environ["RANK"] == "0":
    save_file({name: value.clone() for name, value in trainer.population.values.items()}, sys.argv[1] + ".values")
torch.distributed.destroy_process_group()  # without it gloo's threads may abort the interpreter at its end
"""


def answering(folder, batch, parts):
    """A training of a language model whose answers have very different lengths."""
    options = {"per_device_train_batch_size": batch // parts, "gradient_accumulation_steps": parts}
    args = TrainingArguments(
        str(folder),
        num_train_epochs=1,
        learning_rate=0.3,
        optim="sgd",
        report_to=[],
        disable_tqdm=True,
        save_strategy="no",
        logging_strategy="no",
        use_cpu=True,
        max_grad_norm=0.0,
        ddp_backend="gloo" if "RANK" in os.environ else None,
        **options,
    )
    rows = answered_rows(32)
    trainer = PopulationTrainer(
        make_generator("gpt2"),
        args,
        strategy=DelayedEnsemble(members=2, variance=0.15),
        train_dataset=rows,
        data_collator=collate_answers,
        task="generation",
        engine="stacked",
    )
    trainer.train()
    return trainer


def test_tokens_of_all_processes_count_alike(tmp_path):
    one = answering(tmp_path / "one", 8, 1).population.values
    run_as_two(ANSWERS, tmp_path / "two", 2)
    two = load_file(tmp_path / "two.values")
    assert max((one[name] - two[name]).abs().max().item() for name in one) < 1e-10
