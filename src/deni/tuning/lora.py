"""Low-rank adaptation (Hu et al. 2021), and how LoRA members are averaged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from deni.errors import SettingError
from deni.settings import check_choices
from deni.tuning.base import Tuning, fan_in_fan_out, task_type

if TYPE_CHECKING:
    from torch import Tensor, nn

# Query and value, as PEFT has it for BERT, of architectures that PEFT does not know.
# ModernBERT has one layer for query, key and value.
TARGETS = {
    "albert": ["query", "value"],
    "camembert": ["query", "value"],
    "distilbert": ["q_lin", "v_lin"],
    "modernbert": ["Wqkv"],
    "mpnet": ["q", "v"],
}


@dataclass(frozen=True)
class Lora(Tuning, name="lora", paper_row=2):
    """Train low-rank factors next to frozen weights, and the output layer.

    Args:
        lora_r: rank r of the factors, at least 1; 64 in the paper (arXiv 2406.12471).
        lora_alpha: scale of the update of LoRA; 64 in the paper.
        lora_dropout: dropout in front of the factors, in [0, 1); 0.1 in the paper.
        lora_bias: which biases train: `none`, `all` or `lora_only`; all in the paper.
        rslora: scale by alpha/sqrt(r) instead of alpha/r (rank-stabilised, Kalajdzievski 2023), as in the paper.
    """

    when: ClassVar[str] = "When memory is short; the result is an adapter, or merges into an ordinary model."

    learning_rate: ClassVar[float] = 3e-4
    paper_learning_rate: ClassVar[float] = 1e-4
    paper_learning_rates: ClassVar[Mapping[str, float]] = {"roberta": 1e-5}

    lora_r: int = 64
    lora_alpha: int = 64
    lora_dropout: float = 0.1
    lora_bias: Literal["none", "all", "lora_only"] = "all"
    rslora: bool = True

    def __post_init__(self) -> None:
        check_choices(self)
        if self.lora_r < 1:
            raise SettingError(f"lora_r must be at least 1, not {self.lora_r}")
        if not 0 <= self.lora_dropout < 1:
            raise SettingError(f"lora_dropout must be in [0, 1), not {self.lora_dropout}")

    def apply(self, model: nn.Module) -> nn.Module:
        from peft import LoraConfig, get_peft_model

        # PEFT knows which layers of most architectures to adapt.
        family = getattr(getattr(model, "config", None), "model_type", "")
        return get_peft_model(
            model,
            LoraConfig(
                task_type=task_type(model),
                target_modules=TARGETS.get(family),
                r=self.lora_r,
                lora_alpha=self.lora_alpha,
                lora_dropout=self.lora_dropout,
                bias=self.lora_bias,
                use_rslora=self.rslora,
                fan_in_fan_out=fan_in_fan_out(model),
            ),
        )


def mean_of_products(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """The mean over members, where each pair of LoRA factors is averaged as the product it stands for.

    mean(B) mean(A) is not mean(B A); this takes the best approximation of mean(B A) of the same rank (a truncated
    singular value decomposition), with the singular values shared evenly by both factors.

    Args:
        values: name -> `(K, *shape)`; factors are named `...lora_A...` `(K, r, in)` and `...lora_B...` `(K, out, r)`,
            as in PEFT and in `adapters`.
    """
    import torch

    from deni.population import mean_of_members

    mean = mean_of_members(values)
    for name in values:
        if ".lora_A." not in f"{name}." or values[name].dim() != 3:
            continue
        partner = name.replace(".lora_A", ".lora_B")
        a, b = values[name], values[partner]
        if bool((a == a[:1]).all() and (b == b[:1]).all()):
            continue  # equal members stay exactly themselves
        product = (b.double() @ a.double()).mean(0)
        u, s, vh = torch.linalg.svd(product, full_matrices=False)
        rank = min(a.shape[1], len(s))
        root = s[:rank].sqrt()
        new_a, new_b = torch.zeros_like(mean[name]), torch.zeros_like(mean[partner])
        new_a[:rank] = (root[:, None] * vh[:rank]).to(a.dtype)
        new_b[:, :rank] = (u[:, :rank] * root).to(b.dtype)
        mean[name], mean[partner] = new_a, new_b
    return mean
