"""Several processes train one population."""

import socket
import subprocess
import sys
import textwrap

import pytest
from safetensors.torch import load_file

SCRIPT = """
import os
import sys
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertForSequenceClassification, TrainingArguments
from deni.strategies import DENI
from deni.trainer import PopulationTrainer

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
trainer = PopulationTrainer(model, args, strategy=DENI(members=3), engine=sys.argv[4], train_dataset=rows)
trainer.train()
assert "DistributedDataParallel" not in type(trainer.model_wrapped).__name__
assert trainer.state.global_step == 12, trainer.state.global_step
if args.process_index == 0:
    save_file({name: value.clone() for name, value in trainer.population.values.items()}, sys.argv[1])
"""


@pytest.mark.parametrize("engine", ["stacked", "loop"])
def test_two_processes_are_one_with_the_same_global_batch(tmp_path, engine):
    script = tmp_path / "train.py"
    script.write_text(textwrap.dedent(SCRIPT))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(port)]
    for name, before, batch in (("one", [], "8"), ("two", launch, "4")):
        command = [sys.executable, *before, str(script), str(tmp_path / f"{name}.safetensors"), str(tmp_path / name)]
        done = subprocess.run([*command, batch, engine], capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = load_file(tmp_path / "one.safetensors"), load_file(tmp_path / "two.safetensors")
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-10
    head = one["classifier.weight"]
    assert float((head[0] - head[1]).abs().max()) > 0.01
