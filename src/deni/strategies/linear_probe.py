"""An output layer that is fitted before anything else moves."""

from __future__ import annotations

import hashlib
import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from deni.errors import SettingError
from deni.settings import check_choices, setting
from deni.strategies.base import Outputs, Strategy
from deni.tasks import DEFAULT, find_task, task_of
from deni.tasks.cross_validation import centered_sd, choose_c

if TYPE_CHECKING:
    from torch import Tensor

    from deni.population import Population

logger = logging.getLogger(__name__)

# What `probe_c="cv"` tries: half a power of ten apart, around 1 / D of standardized features, which have a squared norm
# of D, and around 1 of those whose mean norm is 1.
GRID = tuple(10 ** (step / 2) for step in range(-5, 9))

_FITTED: OrderedDict[str, tuple[np.ndarray, np.ndarray]] = OrderedDict()  # digest of what is fitted -> output layer
KEPT = 32  # output layers


VARIES = 1e-6  # SD of a feature, relative to that of the one that varies most, below which it counts as constant


@dataclass(frozen=True)
class LinearProbe(Strategy, name="linear_probe"):
    """Begin with a fitted output layer: linear probing, then fine-tuning (LP-FT, Kumar et al. 2022).

    The output layer becomes the logistic regression (ridge regression for numbers) on what the model feeds into it for
    the labeled texts, in place of its random initialization. Class weights count in the regression, too.

    Args:
        probe_c: inverse strength C of the regression's L2 penalty, finite and at least 0, on standardized
            features; 0 leaves the output layer as it is. A large one fits all texts, which leaves the encoder little to
            learn from. `cv`: chosen by stratified cross-validation.
        probe_penalty: what is penalized for two classes: `one`: the difference of their weights, as in binary
            logistic regression; `each`: the weights of each, as for more classes, so that C means the same.
        probe_scale: the standard deviation, above 0, that the logits of left-out texts get around their mean over
            the classes, on features divided by their mean norm; needs `probe_c="cv"`. None does not scale. The larger
            it is, the less the encoder moves (arXiv 2405.16747).
    """

    generates: ClassVar[bool] = False
    when: ClassVar[str] = (
        "When the random initialization of the output layer makes runs differ, or distorts the pre-trained "
        "model in the first steps."
    )

    probe_c: float | Literal["cv"] = 0.001
    probe_penalty: Literal["one", "each"] = setting("one", neutral="one")
    probe_scale: float | None = setting(None, neutral=None)

    def __post_init__(self) -> None:
        check_choices(self)
        if isinstance(self.probe_c, str):
            if self.probe_c != "cv":
                raise SettingError(f"probe_c must be a number or cv, not {self.probe_c!r}")
        elif not (self.probe_c >= 0 and math.isfinite(self.probe_c)):
            raise SettingError(f"probe_c must be finite and at least 0, or cv, not {self.probe_c}")
        if self.probe_scale is not None:
            if not (self.probe_scale > 0 and math.isfinite(self.probe_scale)):
                raise SettingError(f"probe_scale must be finite and above 0, not {self.probe_scale}")
            if self.probe_c != "cv":
                raise SettingError(f"probe_scale needs probe_c=cv, not {self.probe_c}: it scales what that chooses")

    @property
    def fits(self) -> bool:
        return bool(self.probe_c)

    def start(self, population: Population, outputs: Outputs | None = None) -> None:
        if not self.probe_c or outputs is None:
            return
        layer = OutputLayer.of(population, self.name)
        for run in range(population.runs):
            members = slice(run * population.members, (run + 1) * population.members)
            layer.put(members, layer.fitted(self, layer.inputs(outputs, run), outputs.class_weights))

    def _fitted(
        self,
        features: np.ndarray,
        labels: np.ndarray,
        classes: int,
        task: str,
        intercept: bool,
        weight: np.ndarray | None,
        rows: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The output layer, kept for runs with the same features: their adapters change nothing yet."""
        digest = hashlib.sha256(repr((self, features.shape, classes, task, intercept)).encode())
        for name, array in {"features": features, "labels": labels, "weight": weight, "rows": rows}.items():
            if array is not None:
                digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
        key = digest.hexdigest()
        if key not in _FITTED:
            by_norm = self.probe_scale is not None
            penalty = "each" if self.probe_c == "cv" else self.probe_penalty
            how = partial(fit, classes=classes, task=task, intercept=intercept, weight=weight)
            regression = partial(how, penalty=penalty, by_norm=by_norm)
            if isinstance(self.probe_c, str):
                _FITTED[key] = cross_validated(regression, features, labels, task, weight, self.probe_scale, rows)
            else:
                _FITTED[key] = regression(features, labels, c=self.probe_c, rows=rows)
        _FITTED.move_to_end(key)
        while len(_FITTED) > KEPT:
            _FITTED.popitem(last=False)
        return _FITTED[key]


def fit(
    features: np.ndarray,
    labels: np.ndarray,
    classes: int,
    c: float,
    task: str = DEFAULT,
    intercept: bool = True,
    weight: np.ndarray | None = None,
    penalty: Literal["one", "each"] = "one",
    by_norm: bool = False,
    rows: np.ndarray | None = None,
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
        weight: of each class, `(C,)`; None where all count alike.
        penalty: see `LinearProbe`.
        by_norm: whether features are divided by their mean norm, in place of being standardized.
        rows: how much each row counts, `(N,)`, above 0; None where all count alike.

    >>> weight, bias = fit(np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0, 0, 1, 1]), classes=3, c=1.0)
    >>> (np.array([[1.0], [2.0]]) @ weight.T + bias).argmax(1)
    array([0, 1])
    """
    from sklearn.preprocessing import StandardScaler

    if not np.isfinite(features).all():
        raise SettingError(
            "what the model feeds into its output layer is not finite: likely fp16 overflowed (try bf16)"
        )
    kind, counts = find_task(task), {} if rows is None else {"rows": rows}
    if penalty == "each" and kind.distribution and len(np.unique(labels)) == 2:
        # |w|^2 of the difference w is twice that of its halves, of which each class has one.
        c = 2 * c
    if by_norm:
        size = float(np.average(np.linalg.norm(features, axis=1), weights=rows)) or 1.0
        coefficients, bias = kind.fit_output_layer(features / size, labels, classes, c, intercept, weight, **counts)
        return coefficients / size, bias
    scaler = StandardScaler(with_mean=intercept).fit(features, sample_weight=rows)
    # A feature that hardly varies (1e-40 in a state of MiniLM) is not blown up to the size of the others.
    scaler.scale_ = np.where(scaler.scale_ > VARIES * scaler.scale_.max(), scaler.scale_, 1.0)
    x = scaler.transform(features)
    coefficients, bias = kind.fit_output_layer(x, labels, classes, c, intercept, weight, **counts)
    coefficients /= scaler.scale_
    if intercept:
        bias -= coefficients @ scaler.mean_
    return coefficients, bias


def cross_validated(
    regression: Callable[..., tuple[np.ndarray, np.ndarray]],
    features: np.ndarray,
    labels: np.ndarray,
    task: str,
    weight: np.ndarray | None = None,
    scale: float | None = None,
    rows: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The regression with the C that cross-validation chooses, see `deni.tasks.cross_validation`.

    Args:
        regression: `fit` with its settings, without features, labels and C.
        features, labels, task, weight, rows: as `fit` takes them.
        scale: see `LinearProbe.probe_scale`.
    """
    kind = find_task(task)
    if scale is not None and not kind.chooses:
        raise SettingError(f"probe_scale scales the logits of classes, and {task} has none: omit it")
    unit = 1.0 if scale is not None else 1 / features.shape[1]
    grid = [unit * step for step in GRID]
    chosen = choose_c(lambda x, y, c, **own: regression(x, y, c=c, **own), features, labels, kind, grid, weight, rows)
    logger.info("output layer: C = %.3g by cross-validation, loss %.4f", chosen.c, min(chosen.losses))
    coefficients, bias = regression(features, labels, c=chosen.c, rows=rows)
    sd = centered_sd(chosen.logits, kind)
    factor = 1.0 if scale is None or not sd else scale / sd
    return coefficients * factor, bias * factor


@dataclass(frozen=True)
class LabeledRows:
    """What an output layer is fitted to: texts that have a label and count; of words, those words.

    Soft labels play no part: the regression is fitted to classes, the most probable ones where no others are known.

    Args:
        features: `(N, D)`.
        labels: `(N,)` or `(N, C)`.
        weights: how much each counts, `(N,)`; None where all count alike.
    """

    features: np.ndarray
    labels: np.ndarray
    weights: np.ndarray | None

    @classmethod
    def of(
        cls, batches: Sequence[tuple[Tensor, Tensor]], weights: Sequence[Tensor] | None, classes: bool
    ) -> LabeledRows:
        """Of batches of features and labels.

        Args:
            batches: `(B, D)` and `(B,)` or `(B, C)`; of words `(B, T, D)` and `(B, T)`.
            weights: how much each text counts, `(B,)`, batch by batch.
            classes: whether labels are class numbers, -100 where there is none.
        """
        import torch

        found: list[list[Tensor]] = []
        of_rows: Sequence[Tensor | None] = weights or [None] * len(batches)
        for (features, labels), counts in zip(batches, of_rows, strict=True):
            there = labels != -100 if classes else torch.ones_like(labels[:, 0] if labels.dim() > 1 else labels).bool()
            parts = [features.double(), labels]
            if counts is not None:
                parts.append(counts.double().view(-1, *[1] * (there.dim() - 1)).expand(there.shape))
                there = there & (parts[-1] > 0)
            found.append([part[there].cpu() for part in parts])
        together = [torch.cat(parts).numpy() for parts in zip(*found, strict=True)]
        return cls(together[0], together[1], together[2] if weights else None)


@dataclass(frozen=True)
class OutputLayer:
    """The last linear layer of the members, which a regression may take the place of.

    Args:
        population: whose it is.
        weight, bias: the names of its tensors; a layer may have no bias.
    """

    population: Population
    weight: str
    bias: str | None

    @classmethod
    def of(cls, population: Population, strategy: str) -> OutputLayer:
        """That of a population.

        Args:
            strategy: who asks, for the message.

        Raises:
            SettingError: it is not one linear layer, or does not train as a whole.
        """
        from torch import nn

        names = population.scope("head")
        of = {population.slots[name][0][1]: name for name in names}
        layer = population.slots[names[0]][0][0] if names else None
        whole = layer is not None and set(of) == {key for key, _ in layer.named_parameters()}
        if not isinstance(layer, nn.Linear) or not whole or len(names) > 2:
            raise SettingError(f"{strategy} needs an output layer that is one linear layer and trains as a whole")
        return cls(population, of["weight"], of.get("bias"))

    @property
    def outputs(self) -> int:
        """C."""
        return self.population.values[self.weight].shape[1]

    @property
    def task(self) -> str:
        """What a text has, one of `deni.tasks.TASKS`."""
        return task_of(self.population.model).name

    def inputs(self, outputs: Outputs, run: int, member: int = 0) -> LabeledRows:
        """What a member feeds into it for the labeled examples of its run."""
        from deni.models.feature_cache import passes_its_input

        layer = self.population.slots[self.weight][0][0]
        batches: list[tuple[Tensor, Tensor]] = []
        # The layer lets its input pass: what the model returns then is that input, pooled as the model pools its
        # outputs.
        hook = layer.register_forward_hook(passes_its_input)
        try:
            batches.extend(outputs(run, member))
        finally:
            hook.remove()
        return LabeledRows.of(batches, outputs.weights(run), find_task(self.task).distribution)

    def fitted(
        self, probe: LinearProbe, rows: LabeledRows, class_weights: Tensor | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The regression in its place, weight `(C, D)` and bias `(C,)`.

        Args:
            probe: its settings.
            class_weights: of the loss, `(C,)`; None where all classes count alike.
        """
        weight = None if class_weights is None else class_weights.double().cpu().numpy()
        given = (self.outputs, self.task, self.bias is not None, weight, rows.weights)
        return probe._fitted(rows.features, rows.labels, *given)

    def put(self, members: slice, fitted: tuple[np.ndarray, np.ndarray]) -> None:
        """Give some members this weight `(C, D)` and bias `(C,)`."""
        import torch

        for name, value in zip((self.weight, self.bias), fitted, strict=True):
            if name is not None:
                values = self.population.values[name]
                values[members] = torch.from_numpy(value).to(values)
