"""Models, batches and single optimizer steps of a population, without a trainer around them."""

from __future__ import annotations

import contextlib
import functools
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification, Qwen2Config, Qwen2ForSequenceClassification

from deni import Fork, Noise
from deni.engine.active_tokens import activate
from deni.models.loading import load_model
from deni.population import Population
from deni.randomness import Sources, generator
from deni.tuning import make_tuning

Precision = Literal["bf16", "float32", "tf32", "float64"]
CLASSES = 6
DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")


LANGUAGE: dict[str, dict[str, Any]] = {
    "0.5b": {
        "vocab_size": 151936,
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    "3b": {
        "vocab_size": 151936,
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
}


@dataclass(frozen=True, eq=False)
class Sizes:
    """How much is measured; see `TINY` for the dry run."""

    bert: dict[str, Any] = field(default_factory=dict)  # BertConfig's own is BERT-base
    decoder: dict[str, Any] = field(
        default_factory=lambda: {
            "vocab_size": 151936,
            "hidden_size": 896,
            "intermediate_size": 4864,
            "num_hidden_layers": 24,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
        }
    )
    language: dict[str, dict[str, Any]] = field(default_factory=lambda: dict(LANGUAGE))  # causal language models
    adapters: tuple[int, ...] = (1, 4, 10, 20)  # of a language model
    lora: dict[str, Any] = field(default_factory=dict)
    members: tuple[int, ...] = (1, 2, 5, 10, 20)
    more_members: tuple[int, ...] = (50, 100)  # of LoRA
    fork: int = 10  # members of a fork where one number stands for all
    rows: int = 8
    tokens: int = 32
    vocabulary: int = 2000  # distinct tokens of the batches
    warm: int = 4
    steps: int = 12
    trainer_steps: int = 40
    labelled: int = 200
    epochs: int = 10
    seeds: int = 20
    test_texts: int = 1000
    matrix: int = 8192
    study_seeds: int = 5


_SMALL: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
TINY = Sizes(
    bert={**_SMALL, "vocab_size": 200, "max_position_embeddings": 64},
    decoder={**_SMALL, "vocab_size": 200, "num_key_value_heads": 2, "max_position_embeddings": 64},
    language={name: {**_SMALL, "vocab_size": 200, "num_key_value_heads": 2} for name in LANGUAGE},
    adapters=(1, 2),
    lora={"lora_r": 4},
    members=(1, 2),
    more_members=(3,),
    fork=2,
    rows=2,
    tokens=9,
    vocabulary=50,
    warm=1,
    steps=2,
    trainer_steps=3,
    labelled=12,
    epochs=3,
    seeds=2,
    test_texts=9,
    matrix=64,
    study_seeds=2,
)


@dataclass(frozen=True, eq=False)
class Setting:
    """What the cases share.

    Args:
        sizes: how much is measured.
        model: the folder with MiniLM.
        device: where.
    """

    sizes: Sizes
    model: Path
    device: torch.device

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def wait(self) -> None:
        """Until the device has done all."""
        if self.on_gpu:
            torch.cuda.synchronize()


def tuning_of(setting: Setting, name: str) -> Any:
    """A tuning by its name, small in a dry run."""
    return make_tuning(name, **(setting.sizes.lora if name == "lora" else {}))


def model_of(setting: Setting, name: str, tuning: str, dropout: bool = True, classes: int = CLASSES) -> nn.Module:
    """A model on the device, in training mode: `minilm` with its weights, the others with random ones."""
    torch.manual_seed(0)
    none = (
        {} if dropout else {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout": 0.0}
    )
    if name == "minilm":
        model = load_model(str(setting.model), [str(at) for at in range(classes)])
        if not dropout:
            for module in model.modules():
                if isinstance(module, nn.Dropout):
                    module.p = 0.0
                if hasattr(module, "dropout_prob"):
                    module.dropout_prob = 0.0
    elif name == "bert-base":
        with torch.device(setting.device):
            model = BertForSequenceClassification(BertConfig(num_labels=classes, **setting.sizes.bert, **none))
    else:
        config = Qwen2Config(num_labels=classes, pad_token_id=0, **setting.sizes.decoder)
        with torch.device(setting.device):
            model = Qwen2ForSequenceClassification(config)
    return tuning_of(setting, tuning).apply(model).to(setting.device).train()


def batch_of(setting: Setting, model: nn.Module, rows: int | None = None, seed: int = 0) -> dict[str, Tensor]:
    """Random tokens `(B, T)`, texts of different length padded on the right; labels."""
    sizes, draw = setting.sizes, generator(seed)
    rows = rows or sizes.rows
    most = min(sizes.vocabulary, model.config.vocab_size - 5)  # type: ignore[union-attr, operator]
    ids = torch.randint(5, 5 + most, (rows, sizes.tokens), generator=draw)
    lengths = torch.randint(sizes.tokens // 2, sizes.tokens + 1, (rows,), generator=draw)
    lengths[0] = sizes.tokens
    mask = (torch.arange(sizes.tokens) < lengths[:, None]).long()
    batch = {"input_ids": ids * mask, "attention_mask": mask, "labels": torch.randint(CLASSES, (rows,), generator=draw)}
    return {key: value.to(setting.device) for key, value in batch.items()}


def population_of(setting: Setting, name: str, tuning: str, seeds: tuple[int, ...] = (0,), **how: Any) -> Population:
    """A population of one member for each seed; of the embeddings only the rows of the batches' tokens train."""
    model = model_of(setting, name, tuning, **how)
    most = min(setting.sizes.vocabulary, model.config.vocab_size - 5)  # type: ignore[union-attr, operator]
    activate(model, torch.arange(5, 5 + most))
    starts = [] if len(seeds) == 1 else [_parameters(model)] * (len(seeds) - 1)
    return Population(model, [Sources(seed, setting.device) for seed in seeds], initial=starts)


def _parameters(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters() if value.requires_grad}


def become(population: Population, members: int, engine: Literal["stacked", "loop"] = "stacked") -> None:
    """Make it a population of so many members of each run."""
    if population.members > 1:
        population.merge()
    population.module.choose(engine)
    if members > 1:
        population.fork(members, Fork(noise=Noise(variance=0.01)))


def autocast(setting: Setting, how: Precision) -> Any:
    """Inside, forward passes compute in bfloat16 if that is the precision."""
    return torch.autocast(setting.device.type, torch.bfloat16, enabled=how == "bf16")


@contextlib.contextmanager
def products(how: Precision) -> Iterator[None]:
    """Inside, products of float32 may use TF32 if that is the precision, else not."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if how == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class Step:
    """One optimizer step of all members: forward, backward, fused AdamW.

    Args:
        population: whose members train.
        batch: `(groups*B, T)`, with labels.
        how: the precision.
        groups: 1: all members see the same rows; R: each run its own.
        lengths: of a pack, see `PopulationModule.forward`.
        capturable: for a CUDA graph.
        optimizer: another than AdamW, given the parameters.
    """

    def __init__(
        self,
        setting: Setting,
        population: Population,
        batch: dict[str, Tensor],
        how: Precision = "float32",
        groups: int = 1,
        lengths: list[int] | None = None,
        capturable: bool = False,
        optimizer: Callable[..., torch.optim.Optimizer] | None = None,
    ) -> None:
        self.setting, self.population, self.how = setting, population, how
        self.given: dict[str, Any] = {} if lengths is None else {"lengths": lengths}
        module = self.module = population.module
        self.folded = []
        for chunk in module.chunks:
            module.focus(chunk)
            self.folded.append((chunk, module.fold(batch, groups)))
        leaves = [view for views in population.views.values() for view in views]
        more = {"capturable": True} if capturable else {}
        make = optimizer or functools.partial(torch.optim.AdamW, lr=1e-5, weight_decay=0.0, fused=True, **more)
        self.optimizer = make(leaves)
        module.train()

    def losses(self) -> Tensor:
        """Forward and backward; the loss of each member `(M,)`."""
        every = []
        for chunk, rows in self.folded:
            self.module.focus(chunk)
            inputs = {key: value for key, value in rows.items() if key != "labels"}
            with autocast(self.setting, self.how):
                output = self.module(**inputs, **self.given)
                logits = output["logits"].unflatten(0, (len(chunk), -1))  # (M, B, C)
            logits = logits if logits.dtype == torch.float64 else logits.float()
            labels = rows["labels"].unflatten(0, (len(chunk), -1))
            loss = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none").mean(1)
            loss.sum().backward()
            every.append(loss.detach())
        self.module.collect()
        return torch.cat(every)

    def __call__(self) -> Tensor:
        with products(self.how):
            self.module.zero_grad()
            losses = self.losses()
            self.optimizer.step()
        return losses


def timed(
    setting: Setting, step: Callable[[], Any], warm: int | None = None, steps: int | None = None, streamed: bool = True
) -> dict[str, Any]:
    """Seconds of a step: `seconds`, the median with a wait after each, and `streamed`, the median gap without."""
    warm, steps = warm or setting.sizes.warm, steps or setting.sizes.steps
    for _ in range(warm):
        step()
    setting.wait()
    times = []
    for _ in range(steps):
        began = time.perf_counter()
        step()
        setting.wait()
        times.append(time.perf_counter() - began)
    found: dict[str, Any] = {"seconds": statistics.median(times), "steps": steps}
    if setting.on_gpu and streamed:
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(steps + 1)]
        marks[0].record()
        for mark in marks[1:]:
            step()
            mark.record()
        setting.wait()
        gaps = [a.elapsed_time(b) / 1000 for a, b in itertools.pairwise(marks)]
        found["streamed"] = statistics.median(gaps)
    return found


class Peak:
    """The peak of the device's memory since this was made; of a processor it is not measured here."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        if setting.on_gpu:
            torch.cuda.reset_peak_memory_stats()

    @property
    def mib(self) -> float | None:
        """MiB until now."""
        return torch.cuda.max_memory_allocated() / 2**20 if self.setting.on_gpu else None
