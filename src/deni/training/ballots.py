"""What the members predict of a batch, however they are computed: their ballots."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from deni.engine.answers import ANSWERS
from deni.models.products import fast_products
from deni.tasks.losses import Soft
from deni.training.alone import Alone, Step
from deni.training.losses import Losses, first_output, rows_of_member
from deni.training.phases import Phases
from deni.training.soft_labels import taken_from
from deni.training.task import TrainingTask


def labels_of(inputs: dict[str, Any], names: Sequence[str]) -> Any:
    """The labels of a batch, which has none of these columns afterwards; None if it had none."""
    found = [inputs.pop(name) for name in names if inputs.get(name) is not None]
    return found[0] if found else None


@dataclass(frozen=True)
class Predicted:
    """What the members predict of a batch.

    Args:
        outputs: `(B, M, C)` or `(B, M, T, C)`, see `deni.tasks.Task.outputs`; None if only the loss is wanted.
        labels: as the batch had them; None if it had none.
        others: the model's other outputs, `(B, M, ...)` or `(B, T, M, ...)`.
        losses: of each member on its rows, `(M,)`; None where the loss is that of the vote.
    """

    outputs: Any
    labels: Any
    others: tuple[Any, ...] = ()
    losses: Tensor | None = None


def ignored_outputs(model: nn.Module, more: Sequence[str] | None) -> list[str]:
    """Names of outputs that are no predictions, as Trainer leaves them out."""
    config = getattr(model, "config", None)
    default = getattr(config, "keys_to_ignore_at_inference", ["past_key_values"])
    return ["loss", *(default if more is None else more)]


def other_outputs(outputs: Any, main: Tensor, ignored: Collection[str]) -> tuple[Any, ...]:
    """What a model returns besides its first output."""
    pairs = outputs.items() if isinstance(outputs, Mapping) else ((str(at), each) for at, each in enumerate(outputs))
    return tuple(value for name, value in pairs if name not in ignored and value is not main and value is not None)


def nested(function: Callable[..., Any], *structures: Any) -> Any:
    """A function of tensors, on each of those that structures of tuples and dictionaries have in the same place."""
    first = structures[0]
    if isinstance(first, Mapping):
        return {key: nested(function, *(each[key] for each in structures)) for key in first}
    if isinstance(first, tuple | list):
        return tuple(nested(function, *each) for each in zip(*structures, strict=True))
    return function(*structures)


def of_all_members(parts: Sequence[Any]) -> Any:
    """Other outputs of each member, `(B, ...)`, as `(B, M, ...)`, of tokens `(B, T, M, ...)`; of one as they are."""
    if len(parts) == 1:
        return parts[0]
    return nested(lambda *each: torch.stack(each, min(2, max(1, each[0].dim() - 1))), *parts)


def equally_long(tensors: Sequence[Any]) -> Sequence[Any]:
    """Values of tokens of several runs, padded to the longest with -100, as Trainer pads."""
    if not isinstance(tensors[0], Tensor) or tensors[0].dim() < 2:
        return tensors
    longest = max(each.shape[1] for each in tensors)
    return [
        nn.functional.pad(each, [0, 0] * (each.dim() - 2) + [0, longest - each.shape[1]], value=-100)
        for each in tensors
    ]


class Ballots:
    """Collects what the members in training predict.

    Args:
        phases: which members there are.
        label_names: columns of labels.
        losses: of members.
        alone: computes members one by one.
        task: of the model.
        context: of a forward pass.
        step: `Trainer.prediction_step`, for members that are computed one by one.
    """

    def __init__(
        self,
        phases: Phases,
        label_names: Sequence[str],
        losses: Losses,
        alone: Alone,
        task: TrainingTask,
        context: Callable[[], AbstractContextManager],
        step: Callable[..., Step],
    ) -> None:
        self.phases, self.label_names, self.losses, self.alone = phases, label_names, losses, alone
        self.task, self.context, self.step = task, context, step

    def labels_of(self, inputs: dict[str, Any]) -> Any:
        """The labels of a batch, which has neither labels nor soft ones afterwards."""
        self.soft_of(inputs)
        return labels_of(inputs, self.label_names)

    def asking(self, inputs: dict[str, Any], labels: Any) -> dict[str, Any]:
        """The inputs of a forward pass: a language model puts out what its labels ask for."""
        return {**inputs, ANSWERS: labels} if self.losses.answers and labels is not None else inputs

    def soft_of(self, inputs: dict[str, Any]) -> Soft | None:
        """The soft targets and weights of a batch, which has none afterwards."""
        return taken_from(inputs, self.losses.soft_columns)

    def shown_labels_of(self, inputs: dict[str, Any]) -> Any:
        """The same; what they show of the task is remembered."""
        labels = self.labels_of(inputs)
        self.task.find(labels)
        return labels

    @fast_products()
    def collect(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        lengths: Tensor | None,
        loss_only: bool = False,
        ignore: list[str] | None = None,
    ) -> Predicted:
        """What members predict of a batch.

        Args:
            model: as Trainer passes it.
            inputs: on the device.
            lengths: T that the rows of each run would have alone, where each has its own.
            loss_only, ignore: as `Trainer.prediction_step` takes them.
        """
        self.losses.look(self.phases.population, inputs)
        if self.losses.alone:
            steps = self.alone.predict(lambda plain, rows: self.step(plain, rows, loss_only, ignore), inputs, lengths)
            return self.one_by_one(steps, lengths is not None)
        groups = 1 if lengths is None else len(lengths)
        return self.together(model, inputs, groups, ignore, self.losses.function is not None)

    def together(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        groups: int = 1,
        ignore: Sequence[str] | None = None,
        losses: bool = False,
    ) -> Predicted:
        """What members predict that are computed side by side.

        Args:
            model: as Trainer passes it.
            inputs: `(groups*B, ...)`, see `PopulationModule.fold`.
            ignore: names of outputs that are no predictions.
            losses: whether the loss of each member is asked for.
        """
        labels = self.labels_of(inputs)
        module = self.phases.population.module
        ignored = ignored_outputs(module, ignore)
        parts, others, of_members = [], [], []
        with torch.no_grad(), self.context():
            for chunk in module.chunks:
                module.focus(chunk)
                outputs = model(**module.fold(self.asking(inputs, labels), groups))
                main = first_output(outputs)
                task = self.task.find(labels, main)
                parts.append(main.unflatten(0, (len(chunk), -1)))
                rows = len(main) // len(chunk)
                rest = other_outputs(outputs, main, ignored)
                others += [rows_of_member(rest, at * rows, rows) for at in range(len(chunk))] if rest else []
                if losses and labels is not None:
                    own = module.fold({"labels": labels}, groups)["labels"]
                    of_members.append(self.losses.of_members(outputs, own, len(chunk), counted=True))
        members = task.outputs(torch.cat(parts).transpose(0, 1))
        each = torch.cat(of_members) if of_members else None
        return Predicted(members, labels, of_all_members(others) if others else (), each)

    def one_by_one(self, steps: Sequence[tuple[Tensor | None, Any, Any]], packed: bool) -> Predicted:
        """What members predict that were computed one by one.

        Args:
            steps: what `Trainer.prediction_step` returns for each: its loss, outputs and labels.
            packed: whether each has its own rows.
        """
        losses = None if steps[0][0] is None else torch.stack([loss for loss, _, _ in steps if loss is not None])
        each = [outputs if isinstance(outputs, tuple) else (outputs,) for _, outputs, _ in steps]
        runs = [labels for _, _, labels in steps[:: self.phases.population.members]]
        labels = runs[0]
        if packed and labels is not None:
            labels = nested(lambda *rows: torch.cat(rows), *equally_long(runs))
        if each[0][0] is None:
            return Predicted(None, labels, losses=losses)
        task = self.task.known(runs[0], each[0][0])
        others = of_all_members([outputs[1:] for outputs in each]) if len(each[0]) > 1 else ()
        if task is None and len(each) > 1:
            self.task.find()
        firsts = [outputs[0] if task is None else task.outputs(outputs[0]) for outputs in each]
        members = torch.stack(list(equally_long(firsts)), 1) if isinstance(firsts[0], Tensor) else firsts[0]
        return Predicted(members, labels, others, losses)

    @fast_products()
    def called(self, inputs: Mapping[str, Any]) -> Predicted:
        """What members predict of rows that all of them share, each with labels called as a model is."""
        module = self.phases.population.module
        if self.losses.alone:
            return self.one_by_one([self._called(member, dict(inputs)) for member in range(module.size)], False)
        return self.together(module, dict(inputs), losses=self.losses.function is not None)

    def _called(self, member: int, inputs: dict[str, Any]) -> tuple[Tensor | None, Any, Any]:
        """The loss, outputs and labels of one member as a plain model that is called with all inputs."""
        labels = self.labels_of(dict(inputs))
        with self.phases.population.module.computing(member) as plain, torch.no_grad():
            outputs = plain(**inputs)
        if labels is None:
            return None, first_output(outputs), None
        if isinstance(outputs, Mapping):
            return outputs["loss"], first_output({key: each for key, each in outputs.items() if key != "loss"}), labels
        return outputs[0], outputs[1], labels
