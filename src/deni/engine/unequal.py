"""What runs of one population may have apart from values: dropout, and the scaling and rank of LoRA.

A smaller rank is padded with zeros to the largest. The gradients of the padding are zero: a factor's are products with
its partner's padding. So it stays zero under every optimizer that treats each element by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deni.engine.dropout import Rates
from deni.errors import SettingError

RANK_AXES = {"lora_A": 0, "lora_B": 1}  # of PEFT's factors: which axis has the rank


def rank_axis(name: str) -> int | None:
    """Which axis of a parameter has the rank of LoRA; None for one that has none.

    >>> rank_axis("layer.query.lora_B.default.weight")
    1
    """
    owner, _, key = name.rpartition(".")
    kind = owner.rpartition(".")[0].rpartition(".")[2]
    return RANK_AXES.get(kind) if key == "weight" else None


@dataclass(frozen=True)
class Layers:
    """The settings of the layers of one model.

    Args:
        dropout: path -> probability.
        scaling: path of a LoRA layer, and name of its adapter -> what its product is multiplied with.
        shapes: name of a LoRA factor -> its shape.
        numbers: path and attribute of any other layer -> a number that it computes with.
        adapters: what PEFT keeps about its adapters, by their names; nothing without PEFT.
    """

    dropout: Mapping[str, float]
    scaling: Mapping[tuple[str, str], float]
    shapes: Mapping[str, torch.Size]
    numbers: Mapping[tuple[str, str], float]
    adapters: Mapping[str, Any]

    @classmethod
    def of(cls, model: nn.Module) -> Layers:
        """Those of a plain model."""
        dropout: dict[str, float] = {}
        scaling: dict[tuple[str, str], float] = {}
        numbers: dict[tuple[str, str], float] = {}
        for path, module in model.named_modules():
            if isinstance(module, nn.Dropout):
                dropout[path] = float(module.p)
                continue
            found = vars(module).get("scaling")
            if isinstance(found, dict):
                scaling |= {(path, adapter): float(value) for adapter, value in found.items()}
            numbers |= {(path, key): value for key, value in vars(module).items() if isinstance(value, float)}
        factors = {name: each.shape for name, each in model.named_parameters() if rank_axis(name) is not None}
        return cls(dropout, scaling, factors, numbers, deepcopy(getattr(model, "peft_config", {})))


class Bound(Protocol):
    """Sets up layers for the members of these runs; for a single one by itself where `alone`."""

    def __call__(self, runs: Sequence[int], alone: bool) -> None: ...


@dataclass(frozen=True)
class Unequal:
    """The settings of layers that are not equal in all runs.

    Args:
        dropout, scaling: as in `Layers`, of each run.
        shapes: name of a factor that is padded in some run -> its own shape in each run.
        adapters: as in `Layers`, of each run; none where all are alike.
    """

    dropout: Mapping[str, Sequence[float]] = field(default_factory=dict)
    scaling: Mapping[tuple[str, str], Sequence[float]] = field(default_factory=dict)
    shapes: Mapping[str, Sequence[torch.Size]] = field(default_factory=dict)
    adapters: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def among(cls, runs: Sequence[Layers]) -> Unequal:
        """What differs between the models of these runs.

        Raises:
            SettingError: numbers differ that all runs must share.
        """
        first = runs[0]
        for other in runs[1:]:
            odd = [at for at, value in first.numbers.items() if other.numbers.get(at, value) != value]
            odd += [at for at in first.scaling if at not in other.scaling]
            if odd:
                path, key = odd[0]
                raise SettingError(f"{path}.{key} differs between runs, which share it: train them one by one")
        paths = {path: None for each in runs for path in each.dropout}
        return cls(
            _differing({path: [each.dropout.get(path, 0.0) for each in runs] for path in paths}),
            _differing({at: [each.scaling[at] for each in runs] for at in first.scaling}),
            _differing({name: [each.shapes[name] for each in runs] for name in first.shapes}),
            [each.adapters for each in runs],
        )

    def largest(self, name: str) -> torch.Size:
        """The shape of a padded factor."""
        return torch.Size(map(max, *self.shapes[name]))

    def padded(self, name: str, value: Tensor) -> Tensor:
        """A parameter of a run as all runs have it."""
        if name not in self.shapes:
            return value
        missing = [most - size for most, size in zip(self.largest(name), value.shape, strict=True)]
        return F.pad(value, [amount for size in reversed(missing) for amount in (0, size)])

    def own(self, name: str, run: int, value: Tensor) -> Tensor:
        """The part of a run's parameter `(*shape)`, or of several `(..., *shape)`, that is not padding; a view."""
        if name not in self.shapes:
            return value
        for axis, size in enumerate(self.shapes[name][run], -len(self.shapes[name][run])):
            value = value.narrow(axis, 0, size)
        return value

    @torch.no_grad()
    def widen(self, model: nn.Module) -> None:
        """Give the model of the first run the padding of the others, and dropout where only others have it."""
        for name in self.shapes:
            owner, _, key = name.rpartition(".")
            module, old = model.get_submodule(owner), model.get_parameter(name)
            module._parameters[key] = nn.Parameter(self.padded(name, old.detach()), old.requires_grad)
        for path in self.dropout:
            parent, _, key = path.rpartition(".")
            if not isinstance(model.get_submodule(path), nn.Dropout):
                model.get_submodule(parent)._modules[key] = nn.Dropout(0.0).train(model.training)

    @torch.no_grad()
    def narrow(self, model: nn.Module, run: int) -> None:
        """Give a plain copy the factors of a run without padding, and what PEFT writes about them."""
        for name in self.shapes:
            owner, _, key = name.rpartition(".")
            module, old = model.get_submodule(owner), model.get_parameter(name)
            module._parameters[key] = nn.Parameter(self.own(name, run, old.detach()).clone(), old.requires_grad)
            if isinstance(module, nn.Linear):
                module.out_features, module.in_features = module.weight.shape
        if not self.adapters or not self.adapters[run]:
            return
        configs = deepcopy(dict(self.adapters[run]))
        for layer in model.modules():
            if "peft_config" in vars(layer):
                vars(layer)["peft_config"] = configs
            for setting in ("r", "lora_alpha"):
                kept = vars(layer).get(setting)
                if isinstance(kept, dict):
                    kept |= {name: getattr(configs[name], setting) for name in kept if hasattr(configs[name], setting)}

    def bound(self, model: nn.Module) -> Bound:
        """What sets up the layers of this model, which holds its plain layers now."""
        dropouts: list[tuple[Any, Sequence[float]]] = [
            (model.get_submodule(path), rates) for path, rates in self.dropout.items()
        ]
        scalings: list[tuple[dict[str, Any], str, Sequence[float]]] = [
            (vars(model.get_submodule(path))["scaling"], adapter, values)
            for (path, adapter), values in self.scaling.items()
        ]

        def bind(runs: Sequence[int], alone: bool) -> None:
            for module, rates in dropouts:
                # In a fold each call of dropout is there in all runs, so that calls can be counted.
                module.p = rates[runs[0]] if alone else Rates([rates[run] for run in runs], max(rates))
            for scaling, adapter, values in scalings:
                chosen = [values[run] for run in runs]
                scaling[adapter] = chosen[0] if len(set(chosen)) == 1 else Scales(chosen)

        return bind


EQUAL = Unequal()


class Scales:
    """A number for each member of the fold, which PEFT multiplies what it computes with.

    Args:
        values: M of them.
    """

    def __init__(self, values: Iterable[float]) -> None:
        self.values = tuple(values)

    def __rmul__(self, folded: Tensor) -> Tensor:
        """`(M*B, ...)`, each member's rows by its number; numbers are not rounded to a shorter type before."""
        dtype = torch.promote_types(folded.dtype, torch.float32)
        numbers = torch.tensor(self.values, dtype=dtype, device=folded.device)
        rows = folded.unflatten(0, (len(self.values), -1))
        return (rows * numbers.view(-1, *[1] * folded.dim())).to(folded.dtype).flatten(0, 1)

    __mul__: Callable[[Scales, Tensor], Tensor] = __rmul__


def _differing(values: Mapping[Any, Sequence[Any]]) -> dict[Any, Sequence[Any]]:
    return {at: each for at, each in values.items() if any(value != each[0] for value in each)}
