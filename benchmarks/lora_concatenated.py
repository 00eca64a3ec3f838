"""Does LoRA gain by one product for the frozen weight and the factors A of all members? On CPU, one thread.

A layer of MiniLM over the tokens of a step, forward and backward: as members are computed, a product
with the frozen weight and batched ones with A and B; and with the rows of all A below the weight, so that one product
computes every A on every token, of which each member's are taken. Without dropout in front of A, with which
the second way cannot be. Both take turns; seconds are the shortest.

    python benchmarks/lora_concatenated.py
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from common import environment, write
from torch import Tensor
from tqdm import tqdm

from deni.models.products import fast_products
from deni.tuning.lora import Lora

TOKENS, WIDTH = 96, 384  # 8 texts of TREC have about 96 tokens
CASES = [(members, rank) for members in (1, 10) for rank in (Lora().lora_r, 16)]


Way = Callable[[], Tensor]


def layer(members: int, rank: int, dtype: torch.dtype) -> tuple[Way, Way, list[Tensor]]:
    """Both ways to compute a layer, `(M, N, D)` each, and what has a gradient."""
    draw = torch.Generator().manual_seed(0)
    rows, weight = (torch.randn(size, WIDTH, generator=draw).to(dtype) for size in (members * TOKENS, WIDTH))
    a, b = (torch.randn(members, *shape, generator=draw).to(dtype) for shape in ((rank, WIDTH), (WIDTH, rank)))
    learned = [each.requires_grad_() for each in (rows, a, b)]

    def apart() -> Tensor:
        inner = torch.bmm(rows.view(members, TOKENS, WIDTH), a.transpose(1, 2))
        return torch.baddbmm((rows @ weight.T).view(members, TOKENS, WIDTH), inner, b.transpose(1, 2))

    def concatenated() -> Tensor:
        both = rows @ torch.cat([weight, a.flatten(0, 1)]).T
        every = both[:, WIDTH:].view(members, TOKENS, members, rank)
        inner = every.diagonal(dim1=0, dim2=2).permute(2, 0, 1)  # of each member's tokens its own A
        return torch.baddbmm(both[:, :WIDTH].view(members, TOKENS, WIDTH), inner, b.transpose(1, 2))

    return apart, concatenated, learned


def seconds_of(way: Way, learned: list[Tensor]) -> float:
    """Forward and backward."""
    began = time.perf_counter()
    torch.autograd.grad(way().sum(), learned)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for dtype in tqdm([torch.float32, torch.bfloat16], desc="precisions"):
        for members, rank in CASES:
            apart, concatenated, learned = layer(members, rank, dtype)
            with fast_products():
                torch.testing.assert_close(apart(), concatenated(), rtol=0.05, atol=0.05 * apart().std().item())
                pairs = [[seconds_of(way, learned) for way in (apart, concatenated)] for _ in range(args.rounds)]
            now, one = (min(each) * 1e3 for each in zip(*pairs, strict=True))
            case = {"dtype": str(dtype).removeprefix("torch."), "members": members, "rank": rank}
            rows.append({**case, "ms_apart": now, "ms": one, "ratio": one / now})
            print(rows[-1], flush=True)
    write("lora_concatenated", {**environment(), "settings": vars(args), "rows": rows})


if __name__ == "__main__":
    main()
