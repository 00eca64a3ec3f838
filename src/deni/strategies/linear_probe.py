"""An output layer that is fitted before anything else moves."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from deni.errors import SettingError
from deni.strategies.base import Outputs, Strategy
from deni.tasks import DEFAULT, find_task, task_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from deni.population import Population


@dataclass(frozen=True)
class LinearProbe(Strategy, name="linear_probe"):
    """Begin with a fitted output layer: linear probing, then fine-tuning (LP-FT, Kumar et al. 2022).

    The output layer becomes the logistic regression (ridge regression for numbers) on what the model feeds into it for
    the labeled texts, in place of its random initialization.

    Args:
        probe_c: inverse strength C of the regression's L2 penalty, finite and at least 0, on standardized
            features; 0 leaves the output layer as it is. A large one fits all texts, which leaves the encoder little to
            learn from.
    """

    when: ClassVar[str] = (
        "When the random initialization of the output layer makes runs differ, or distorts the pre-trained "
        "model in the first steps."
    )

    probe_c: float = 0.001

    def __post_init__(self) -> None:
        if not (self.probe_c >= 0 and math.isfinite(self.probe_c)):
            raise SettingError(f"probe_c must be finite and at least 0, not {self.probe_c}")

    def start(self, population: Population, outputs: Outputs | None = None) -> None:
        if not self.probe_c or outputs is None:
            return
        import torch

        weight, bias = _output_layer(population)
        for run in range(population.runs):
            features, labels = _features(population.slots[weight][0][0], outputs(run))
            fitted = fit(
                features.numpy(),
                labels.numpy(),
                classes=population.values[weight].shape[1],
                c=self.probe_c,
                task=task_of(population.model).name,
                intercept=bias is not None,
            )
            members = slice(run * population.members, (run + 1) * population.members)
            for name, value in zip((weight, bias), fitted, strict=True):
                if name is not None:
                    population.values[name][members] = torch.from_numpy(value).to(population.values[name])


def fit(
    features: np.ndarray, labels: np.ndarray, classes: int, c: float, task: str = DEFAULT, intercept: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """The regression of scikit-learn on standardized features, as weight `(C, D)` and bias `(C,)` for the features.

    A class without a text gets weights 0 and the lowest bias: it is never chosen. A label that all texts have, or
    none, gets weights 0 and its log odds, one text of either kind added.

    Args:
        features: `(N, D)`.
        labels: `(N,)` classes; of several labels `(N, C)`, 0 or 1; numbers `(N,)` or `(N, C)`.
        c: inverse strength of the L2 penalty, above 0.
        task: what a text has, one of `deni.tasks.TASKS`.
        intercept: whether there is a bias; without one the features are scaled only and the bias is 0.

    >>> weight, bias = fit(np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0, 0, 1, 1]), classes=3, c=1.0)
    >>> (np.array([[1.0], [2.0]]) @ weight.T + bias).argmax(1)
    array([0, 1])
    """
    from sklearn.preprocessing import StandardScaler

    if not np.isfinite(features).all():
        raise SettingError(
            "what the model feeds into its output layer is not finite: likely fp16 overflowed (try bf16)"
        )
    scaler = StandardScaler(with_mean=intercept).fit(features)
    x = scaler.transform(features)
    weight, bias = find_task(task).fit_output_layer(x, labels, classes, c, intercept)
    weight /= scaler.scale_
    if intercept:
        bias -= weight @ scaler.mean_
    return weight, bias


def _output_layer(population: Population) -> tuple[str, str | None]:
    """The names of its weight and, where it has one, its bias."""
    from torch import nn

    names = population.scope("head")
    of = {population.slots[name][0][1]: name for name in names}
    layer = population.slots[names[0]][0][0] if names else None
    if not isinstance(layer, nn.Linear) or set(of) != {key for key, _ in layer.named_parameters()} or len(names) > 2:
        raise SettingError("linear_probe needs an output layer that is one linear layer and trains as a whole")
    return of["weight"], of.get("bias")


def _features(layer: nn.Module, outputs: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """What is fed into the output layer, `(N, D)`, and the labels; of words, where these are labeled."""
    import torch

    batches = []
    # The layer lets its input pass: what the model returns then is that input, pooled as the model pools its outputs.
    hook = layer.register_forward_hook(lambda module, given, output: given[0])
    try:
        for features, labels in outputs:
            labeled = labels != -100 if features.dim() == 3 else slice(None)
            batches.append((features[labeled].double().cpu(), labels[labeled].cpu()))
    finally:
        hook.remove()
    features, labels = map(torch.cat, zip(*batches, strict=True))
    return features, labels
