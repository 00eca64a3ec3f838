"""Low-rank adaptation (Hu et al. 2021), and how LoRA members are averaged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from deni.errors import SettingError
from deni.settings import check_choices
from deni.tuning.base import Tuning, fan_in_fan_out, modules_to_save, task_type

if TYPE_CHECKING:
    from torch import Tensor, nn

# Query and value, as PEFT has it for BERT, of architectures that PEFT does not know.
# ModernBERT has one layer for query, key and value.
_DECODER = ["q_proj", "v_proj"]
TARGETS = {
    "albert": ["query", "value"],
    "camembert": ["query", "value"],
    "distilbert": ["q_lin", "v_lin"],
    "modernbert": ["Wqkv"],
    "mpnet": ["q", "v"],
    **dict.fromkeys(["cohere", "cohere2", "granite", "mbart", "olmo", "olmo2", "pegasus", "smollm3"], _DECODER),
    "phi3": ["qkv_proj"],
}
FACTORS = ("lora", "lora_embedding")  # what their names begin with


@dataclass(frozen=True)
class Lora(Tuning, name="lora", paper_row=2):
    """Train low-rank factors next to frozen weights, and the output layer.

    Args:
        lora_r: rank r of the factors, at least 1; 64 in the paper (arXiv 2406.12471).
        lora_alpha: scale of the update of LoRA; 64 in the paper.
        lora_dropout: dropout in front of the factors, in [0, 1); 0.1 in the paper.
        lora_bias: which biases train: `none`, `all` or `lora_only`; all in the paper.
        rslora: scale by alpha/sqrt(r) instead of alpha/r (rank-stabilized, Kalajdzievski 2023), as in the paper.
    """

    when: ClassVar[str] = "When memory is short; the result is an adapter, or merges into an ordinary model."

    by_run: ClassVar = ("lora_r", "lora_alpha", "lora_dropout", "rslora")
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
        from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

        # PEFT knows which layers of most architectures to adapt; of the rest all linear ones but the output layer.
        family = getattr(getattr(model, "config", None), "model_type", "")
        known = family in TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
        return get_peft_model(
            model,
            LoraConfig(
                task_type=task_type(model),
                modules_to_save=modules_to_save(model),
                target_modules=TARGETS.get(family) or (None if known else "all-linear"),
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
    singular value decomposition), with the singular values shared evenly by both factors. AdaLoRA's B diag(E) A is
    averaged the same way, with the singular values in E.

    Args:
        values: name -> `(K, *shape)`; factors are named `...lora_A...` `(K, r, in)` and `...lora_B...` `(K, out, r)`,
            as in PEFT and in `adapters`, those of embeddings `...lora_embedding_A...`. A factor whose partner is frozen
            is averaged by itself, which is exact.
    """
    from deni.population import mean_of_members

    mean = mean_of_members(values)
    for name in values:
        for mark in FACTORS:
            partner = name.replace(f".{mark}_A", f".{mark}_B")
            if f".{mark}_A." in f"{name}." and partner in values:
                diagonal = name.replace(f".{mark}_A", f".{mark}_E")
                names = [name, partner, *([diagonal] if diagonal in values else [])]
                mean.update(zip(names, _mean_product(*(values[each] for each in names)), strict=False))
    return mean


def _mean_product(a: Tensor, b: Tensor, diagonal: Tensor | None = None) -> list[Tensor]:
    """Factors `(r, in)` and `(out, r)`, and what is between them, whose product is near the mean of the members'.

    Args:
        a: `(K, r, in)`; of a convolution `(K, r, in, ...)`.
        b: `(K, out, r)`; of a convolution `(K, out, r, 1, ...)`.
        diagonal: `(K, r, 1)`.

    Returns:
        nothing for equal members, which stay exactly themselves, or where one is not finite.
    """
    import torch

    members = [a, b] if diagonal is None else [a, b, diagonal]
    if all(bool((each == each[:1]).all()) for each in members):
        return []
    left, right = b.flatten(2).double(), a.flatten(2).double()  # (K, out, r), (K, r, in)
    if diagonal is not None:
        right = right * diagonal.double()
    product = (left @ right).mean(0)
    if not bool(product.isfinite().all()):
        return []
    u, s, vh = torch.linalg.svd(product, full_matrices=False)
    rank = min(a.shape[1], len(s))
    scale = s[:rank].sqrt() if diagonal is None else torch.ones_like(s[:rank])
    new_a, new_b = torch.zeros_like(right[0]), torch.zeros_like(left[0])
    new_a[:rank], new_b[:, :rank] = scale[:, None] * vh[:rank], u[:, :rank] * scale
    factors = [new_a.view(a.shape[1:]).to(a), new_b.view(b.shape[1:]).to(b)]
    if diagonal is not None:
        new_diagonal = torch.zeros_like(diagonal[0])
        new_diagonal[:rank, 0] = s[:rank].to(diagonal)
        factors.append(new_diagonal)
    return factors
