"""What a step of several LoRA adapters on one language model costs: stacked, and switched one by one in PEFT.

Random weights in bfloat16, of the shapes of Qwen2.5 with 0.5 and 3 billion parameters; each adapter has its own rows.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
from members import Peak, Setting, timed
from peft import LoraConfig, get_peft_model
from running import Case, forget
from torch import Tensor, nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from deni.engine.answers import ANSWERS, answer
from deni.population import Population
from deni.randomness import Sources
from deni.tasks import TASKS

RATE = 1e-4


def cases(setting: Setting) -> Iterator[Case]:
    """Each shape and number of adapters, both ways."""
    for shape in setting.sizes.language:
        for count in setting.sizes.adapters:
            for way, measure in (("stacked", stacked), ("PEFT", switched)):
                yield Case(f"adapters/{shape}/{way}/{count}", functools.partial(measure, setting, shape, count), 10)


def model_of(setting: Setting, shape: str) -> nn.Module:
    """The model with its first adapter, in training mode."""
    torch.manual_seed(0)
    config = Qwen2Config(pad_token_id=0, **setting.sizes.language[shape])
    with torch.device(setting.device):
        model = Qwen2ForCausalLM(config).to(torch.bfloat16)
    return get_peft_model(model, _lora(), "0").train()


def _lora() -> LoraConfig:
    return LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=16)


def rows_of(setting: Setting, model: nn.Module, adapters: int) -> Tensor:
    """Token ids of all adapters' rows, `(adapters*B, T)`."""
    sizes, most = setting.sizes, int(model.config.vocab_size)  # type: ignore[union-attr, arg-type]
    draw = torch.Generator().manual_seed(0)
    return torch.randint(2, most, [adapters * sizes.rows, sizes.tokens], generator=draw).to(setting.device)


def stacked(setting: Setting, shape: str, adapters: int) -> dict[str, Any]:
    """One step of a population with a run for each adapter."""
    forget()
    model = model_of(setting, shape)
    answer(model)
    ids = rows_of(setting, model, adapters)
    population = Population(model, [Sources(seed, setting.device) for seed in range(adapters)])
    module = population.module.train()
    leaves = [view for views in population.views.values() for view in views]
    optimizer = torch.optim.AdamW(leaves, RATE, weight_decay=0.0, fused=True)
    peak, task = Peak(setting), TASKS["generation"]

    def step() -> None:
        module.zero_grad()
        for chunk in module.chunks:
            module.focus(chunk)
            own = module.fold({"input_ids": ids, ANSWERS: ids}, adapters)
            logits = module(**own).logits
            task.member_losses(logits, own[ANSWERS], len(chunk)).sum().backward()
        module.collect()
        optimizer.step()

    return {**timed(setting, step), "peak_mib": peak.mib}


def switched(setting: Setting, shape: str, adapters: int) -> dict[str, Any]:
    """One step of all adapters of a model, one after another."""
    forget()
    model: Any = model_of(setting, shape)
    for name in map(str, range(1, adapters)):
        model.add_adapter(name, _lora())
    optimizers = {}
    for name in map(str, range(adapters)):
        model.set_adapter(name)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizers[name] = torch.optim.AdamW(trained, RATE, weight_decay=0.0, fused=True)
    batches = rows_of(setting, model, adapters).unflatten(0, (adapters, -1))
    peak = Peak(setting)

    def step() -> None:
        for (name, optimizer), batch in zip(optimizers.items(), batches, strict=True):
            model.set_adapter(name)
            model(batch, labels=batch).loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return {**timed(setting, step), "peak_mib": peak.mib}
