"""What share of the machine's rate of matrix products does a step of training reach? On CPU, one thread.

The limit is the best rate that is measured of the products of a MiniLM step, forward and both gradients, in the shapes
that the linear layers have for one member and for ten, with the kernels that training uses (`deni.models.products`).
Then real steps on TREC texts at batch 8: seconds of the processor, which other processes hardly change, FLOPs of the
products with padding (what is computed; compared with torch's count) and without (what the texts need), and where the
time goes, by the profiler.

    python benchmarks/roofline.py
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from common import environment, write
from member_step import WARM, texts_of
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from transformers import TrainerCallback

from deni.engine.unpadded import Layout, text_tokens
from deni.finetune import fine_tune
from deni.models.loading import load_config
from deni.models.products import are_fast, fast_products
from deni.recipe import Recipe
from deni.strategies import Default, DelayedEnsemble

BATCH, RANK = 8, 64
TARGET = 0.7
PASSES = ("forward", "gradient of the input", "gradient of the weight")
CASES = [(tuning, members, bf16) for bf16 in (False, True) for tuning in ("full", "lora") for members in (1, 10)]
# The first kind that is found in the name of an operator or of an annotation of the optimizer.
KINDS = {
    "fetching batches": ("dataloader",),
    "optimizer": ("adam", "optimizer", "_foreach"),
    "matrix products": ("mm", "baddbmm", "bmm", "addmm", "mkldnn_linear", "dot"),
    "attention": ("attention", "softmax"),
    "dropout": ("random_", "dropout", "bernoulli"),
    "casts and copies": (
        "copy_",
        "_to_copy",
        "clone",
        "cat",
        "stack",
        "contiguous",
        "fill_",
        "zero_",
        "index_select",
        "_select",
    ),
    "LayerNorm, GELU, sums and other elementwise work": ("",),
}


# ---- the limit -----------------------------------------------------------------------------------------------------


def shapes(tuning: str, members: int, tokens: int) -> dict[str, tuple[int, int, int, int]]:
    """The products of the forward pass -> (batch, rows, in, out); those of the gradients follow from them.

    Args:
        tokens: B*T.
    """
    config = load_config("minilm")
    width, inner = config.hidden_size, config.intermediate_size
    layers = {"attention": (width, width), "up": (width, inner), "down": (inner, width)}
    if tuning == "full":
        return {name: (members, tokens, *layer) for name, layer in layers.items()}
    shared = {name: (1, members * tokens, *layer) for name, layer in layers.items()}
    return {**shared, "A": (members, tokens, width, RANK), "B": (members, tokens, RANK, width)}


def passes(tuning: str, name: str) -> tuple[str, ...]:
    """What is computed of a layer: frozen weights have no gradient."""
    return PASSES if tuning == "full" or name in ("A", "B") else PASSES[:2]


def product_rates(tuning: str, members: int, bf16: bool, tokens: int, seconds: float) -> dict[str, float]:
    """FLOPs a second of each product, the best of those that fit into some seconds: layer and pass -> rate."""
    dtype = torch.bfloat16 if bf16 else torch.float32
    rates = {}
    for name, (batch, rows, width, out) in shapes(tuning, members, tokens).items():
        h, grad = torch.randn(batch, rows, width, dtype=dtype), torch.randn(batch, rows, out, dtype=dtype)
        weight = torch.randn(batch, out, width, dtype=dtype)
        pairs: list[tuple[Tensor, Tensor]] = [(h, weight.transpose(1, 2)), (grad, weight), (grad.transpose(1, 2), h)]
        for each, (left, right) in zip(passes(tuning, name), pairs, strict=False):
            if batch == 1:
                left, right = left[0], right[0]
            best = best_of(lambda left=left, right=right: left @ right, seconds)  # type: ignore[misc]
            rates[f"{name}, {each}"] = 2 * batch * rows * width * out / best
    return rates


def best_of(call: Callable[[], Any], seconds: float) -> float:
    """The shortest time of a call, repeated for some seconds."""
    for _ in range(3):
        call()
    end, best = time.perf_counter() + seconds, float("inf")
    while (began := time.perf_counter()) < end:
        call()
        best = min(best, time.perf_counter() - began)
    return best


def product_flops(tuning: str, tokens: float) -> dict[str, float]:
    """FLOPs of one member's step in all linear layers: those of `product_rates` -> FLOPs. Attention adds 1 %."""
    depth, counts = load_config("minilm").num_hidden_layers, {"attention": 4, "up": 1, "down": 1, "A": 2, "B": 2}
    flops = {}
    for name, (_, _, width, out) in shapes(tuning, 1, 1).items():
        for each in passes(tuning, name):
            flops[f"{name}, {each}"] = 2.0 * depth * counts[name] * tokens * width * out
    return flops


# ---- steps ---------------------------------------------------------------------------------------------------------


class Watch(TrainerCallback):
    """Counts seconds and tokens of the steps after a warm-up, then ends the run.

    Args:
        steps: when it ends.
        profiled: what the steps after the warm-up run under, if anything.
        count: whether torch counts the FLOPs of the last step, which is left out of the seconds.

    Attributes:
        seconds, wall: of the processor and of the clock, from the end of the last step of the warm-up.
        places, tokens: of these steps and of all members: tokens that are computed, and those of texts.
        flops, flops_places: of the products of the last step, and its places.
    """

    def __init__(self, steps: int, profiled: profile | None = None, count: bool = False) -> None:
        self.steps, self.profiled = steps, profiled
        self.seconds, self.wall, self.flops = 0.0, 0.0, 0.0
        self.places, self.tokens, self.flops_places = 0, 0, 0
        self._counter = FlopCounterMode(display=False) if count else None
        self._read: list[tuple[int, int]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        def look(module: Any, args: Any, given: dict[str, Any]) -> None:
            mask = given["attention_mask"]
            each = module.size // (len(mask) // BATCH)  # members that read these rows, where they are not repeated
            layout = (
                Layout.of(mask[:, None, None] != 0, len(module.in_focus)) if module.compute is text_tokens else None
            )
            places = mask.numel() if layout is None else len(layout.source)
            self._read.append((places * each, int(mask.sum()) * each))

        self._hook = model.register_forward_pre_hook(look, with_kwargs=True)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == WARM:
            self._read.clear()
            if self.profiled:
                self.profiled.__enter__()
            self._began = time.process_time(), time.perf_counter()
        if state.global_step == self.steps:
            assert self._counter
            self._read.clear()
            self._counter.__enter__()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.steps:
            self.seconds, self.wall = time.process_time() - self._began[0], time.perf_counter() - self._began[1]
            if self.profiled:
                self.profiled.__exit__(None, None, None)
            self.places, self.tokens = (sum(each) for each in zip(*self._read, strict=True))
            control.should_training_stop = self._counter is None
        if state.global_step == self.steps + 1:
            assert self._counter
            self._counter.__exit__(None, None, None)
            self.flops, self.flops_places = self._counter.get_total_flops(), sum(places for places, _ in self._read)
            control.should_training_stop = True
        if control.should_training_stop:
            self._hook.remove()


def run(tuning: str, members: int, bf16: bool, watch: Watch) -> Watch:
    """A training that the watch ends."""
    how: dict[str, Any] = {"strategy": Default()}
    if members > 1:
        how = {"strategy": DelayedEnsemble(ensemble_from=0.0, members=members), "engine": "stacked"}
        how["members_at_a_time"] = members  # not in passes, which save memory
    recipe = Recipe.of(tuning=tuning, bf16=bf16, epochs=1 + (watch.steps + 1) * BATCH // 160, **how)
    fine_tune(texts_of(160), recipe, progress=False, callbacks=[watch])
    return watch


def kinds(profiled: profile, seconds: float) -> dict[str, float]:
    """The share of each kind of work in the time of the steps; what no operator took is Python's."""
    taken = dict.fromkeys(KINDS, 0.0)
    for event in profiled.key_averages():
        name = event.key.lower()
        kind = next(kind for kind, parts in KINDS.items() if any(part in name for part in parts))
        taken[kind] += event.self_cpu_time_total / 1e6
    total = sum(taken.values())
    shares = {kind: each / max(total, seconds) for kind, each in taken.items()}
    return {**shares, "Python": max(0.0, 1 - total / seconds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=16, help="of ten members; of one four times as many")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.1, help="of each product")
    parser.add_argument("--float32", action="store_true", help="float32 only, without bfloat16")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    best: dict[tuple[str, int, bool], Watch] = {}
    for _ in range(args.rounds):
        for case in [each for each in CASES if not (args.float32 and each[2])]:
            steps = WARM + (args.steps if case[1] > 1 else 4 * args.steps)
            watch = run(*case, Watch(steps, count=case not in best))
            last = best.get(case)
            if last is not None:
                watch.flops, watch.flops_places = last.flops, last.flops_places
            if last is None or watch.seconds / watch.places < last.seconds / last.places:
                best[case] = watch
    with fast_products():
        by_onednn = are_fast()
        rates = {}
        for case, watch in best.items():
            places = round(watch.places / case[1] / (watch.steps - WARM))
            rates[case] = product_rates(*case, tokens=places, seconds=args.seconds)
    rows = []
    for case, watch in best.items():
        tuning, members, bf16 = case
        limit = max(max(each.values()) for (_, _, half), each in rates.items() if half == bf16)
        needed, computed = (product_flops(tuning, count) for count in (watch.tokens, watch.places))
        counted = sum(product_flops(tuning, watch.flops_places).values())
        assert 0.98 < counted / watch.flops <= 1, (case, counted, watch.flops)  # the formula against torch's count
        profiled = profile(activities=[ProfilerActivity.CPU], acc_events=True)
        under = run(*case, Watch(watch.steps, profiled))
        alone = sum(flops / rates[case][name] for name, flops in computed.items())
        row = {
            "tuning": tuning,
            "members": members,
            "bf16": bf16,
            "ms_per_member_step": 1e3 * watch.seconds / (watch.steps - WARM) / members,
            "gflops_per_member_step": sum(needed.values()) / (watch.steps - WARM) / members / 1e9,
            "padded": watch.places / watch.tokens,
            "limit_gflops": limit / 1e9,
            "share": sum(needed.values()) / watch.seconds / limit,
            "share_with_padding": sum(computed.values()) / watch.seconds / limit,
            "products_alone": alone / watch.seconds,
            "kinds": kinds(profiled, under.wall),
        }
        print({key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()}, flush=True)
        rows.append(row)
    products = []
    for (tuning, members, bf16), each in rates.items():
        gflops = {name: rate / 1e9 for name, rate in each.items()}
        products.append({"tuning": tuning, "members": members, "bf16": bf16, "gflops": gflops})
    others = [product_rates("full", members, False, tokens=152, seconds=args.seconds) for members in (1, 10)]
    settings = {**environment(), "settings": vars(args), "onednn": by_onednn, "target": TARGET}
    settings["limit_outside_gflops"] = max(max(each.values()) for each in others) / 1e9  # as PyTorch computes by itself
    write("roofline", {**settings, "rows": rows, "products": products})


if __name__ == "__main__":
    main()
