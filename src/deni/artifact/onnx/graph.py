"""A trained population as one module: from token ids to the vote and the outputs of each member."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from deni.engine.fold import fold_rows, slots_of
from deni.engine.stacked import Stacked
from deni.models.hugging_face import logits_of
from deni.tasks import Task
from deni.tasks.voting import Combine, vote

Form = Literal["one", "stacked", "unrolled"]


class VoteGraph(nn.Module):
    """The vote of members, and the outputs of each.

    Args:
        model: plain, on CPU, in evaluation mode; it is changed.
        values: what differs between the members: name -> `(M, *shape)`; nothing for a single model.
        inputs: the names of what the model takes, in the order of the arguments.
        form: `one`: a single model; `stacked`: the members folded into the batch, see `deni.engine.stacked`;
            `unrolled`: the model once for each member, with the frozen weights in it once.
        task, combine, temperature: how the members vote.

    Raises:
        deni.engine.layers.Unstackable: form `stacked` for a model that cannot be.
    """

    def __init__(
        self,
        model: nn.Module,
        values: Mapping[str, Tensor],
        inputs: Sequence[str],
        form: Form,
        task: Task,
        combine: Combine,
        temperature: float | None,
    ) -> None:
        super().__init__()
        self.model, self.form, self.inputs = model, form, list(inputs)
        self.task, self.combine, self.temperature = task, combine, temperature
        self.members = len(next(iter(values.values()))) if values else 1
        if form == "stacked":
            self.stacked = Stacked(model, slots_of(model, values.keys()))
            self.stacked.mount(values, {name: [nn.Parameter(value[0])] for name, value in values.items()})
        elif form == "unrolled":
            self.names = list(values)
            each = [member for value in values.values() for member in value.unbind()]
            self.values = nn.ParameterList([nn.Parameter(value, requires_grad=False) for value in each])

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The vote with its temperature, `(B, C)`, or `(B, T, C)` of words, and what voted, `(B, M, ...)`."""
        outputs = self._outputs(dict(zip(self.inputs, inputs, strict=True)))
        votes = self.task.temper(vote(outputs, self.combine, self.task.name), self.temperature)
        return votes.float(), outputs.contiguous()

    def _outputs(self, inputs: dict[str, Tensor]) -> Tensor:
        if self.form == "one":
            return self.task.outputs(logits_of(self.model(**inputs))).unsqueeze(1)
        if self.form == "unrolled":
            return torch.stack([self._outputs_of(member, inputs) for member in range(self.members)], 1)
        rows = next(iter(inputs.values())).shape[0]
        self.stacked.fold.members, self.stacked.fold.batch = self.members, rows
        logits = logits_of(self.model(**fold_rows(inputs, [0] * self.members)))  # (M*B, ...)
        return self.task.outputs(logits).unflatten(0, (self.members, rows)).transpose(0, 1)

    def _outputs_of(self, member: int, inputs: dict[str, Tensor]) -> Tensor:
        values = {name: self.values[at * self.members + member] for at, name in enumerate(self.names)}
        return self.task.outputs(logits_of(functional_call(self.model, values, (), inputs)))
