"""What `trainer.model` is: while members are computed their module, after a training an ordinary model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, overload

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput, TokenClassifierOutput

from deni.engine.active_tokens import ActiveEmbedding
from deni.engine.module import in_mode
from deni.errors import SettingError
from deni.population import Merge, Population, mean_of_members
from deni.training.voting import Voting
from deni.tuning.lora import mean_of_products

logger = logging.getLogger(__name__)


class ShownModel:
    """The model that a trainer shows: the module of its population, or what a training has made of it.

    Attributes:
        computed: the module, which Trainer computes with.
    """

    def __init__(self) -> None:
        self.computed: Any = None
        self._make: Callable[[], nn.Module] | None = None
        self._made: nn.Module | None = None

    @property
    def model(self) -> Any:
        """The module; after a training the ordinary model in evaluation mode, which is made when first asked for."""
        if self._make is None:
            return self.computed
        if self._made is None:
            self._made = self._make().eval()
        return self._made

    def replace(self, model: Any) -> None:
        """Show and compute another module."""
        self.computed, self._make, self._made = model, None, None

    def show(self, make: Callable[[], nn.Module]) -> None:
        """From now on show what this makes."""
        self._make, self._made = make, None

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Inside, the module is shown again, for Trainer to compute with."""
        make, made = self._make, self._made
        self._make = None
        try:
            yield
        finally:
            self._make, self._made = make, made


class MemberModels(Sequence[nn.Module]):
    """Each member of a population as a plain model in evaluation mode; a copy is made when it is asked for."""

    def __init__(self, population: Population) -> None:
        self.population = population

    def __len__(self) -> int:
        return self.population.size

    @overload
    def __getitem__(self, member: int) -> nn.Module: ...

    @overload
    def __getitem__(self, member: slice) -> list[nn.Module]: ...

    def __getitem__(self, member: int | slice) -> nn.Module | list[nn.Module]:
        chosen = range(len(self))[member]
        if isinstance(chosen, range):
            return [self[each] for each in chosen]
        return self.population.copy_of(self.population.member(chosen), chosen).eval()


class VotingModel(nn.Module):
    """Independent runs as one model that predicts, in evaluation mode; what is asked of a model, run 0 answers."""

    def __init__(self, voting: Voting) -> None:
        super().__init__()
        self.members, self.voting = voting.phases.population.module, voting

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("members"), name)

    def forward(self, **inputs: Any) -> Any:
        """The vote of the members as `logits`, and with labels its `loss`."""
        with torch.no_grad(), in_mode(self.members, training=False):
            loss, votes = self.voting.one_vote(inputs)
        by_token = self.voting.ballots.task.find().by_token
        return (TokenClassifierOutput if by_token else SequenceClassifierOutput)(loss=loss, logits=votes)

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise SettingError(
            "independent runs vote and are not one model: use trainer.members, a list of plain models, or "
            "trainer.save_model, which keeps all of them"
        )

    save_pretrained = push_to_hub = merge_and_unload = merge_adapter = state_dict = load_state_dict = _refuse


def show_trained(shown: ShownModel, population: Population, voting: Voting, given: nn.Module | None, done: int) -> None:
    """Show the one model that a run has become: the mean of its members, where it has several; or runs that vote.

    Args:
        given: the user's model, which becomes it, as with Trainer; None where another object may.
        done: steps after which the training ended.
    """
    if population.runs > 1:
        return shown.show(lambda: VotingModel(voting))
    last = voting.phases.planned.at(done - 1)
    mean: Merge = mean_of_products if last.fork.merge_lora == "product" else mean_of_members

    def merged() -> nn.Module:
        return population.copy_of(population.full(mean(population.values)))

    active = any(isinstance(module, ActiveEmbedding) for module in population.model.modules())
    if given is None:
        return shown.show(merged if population.size > 1 or active else lambda: population.model)
    if population.model is given and (population.size > 1 or active):
        try:
            population.leave_model()
        except torch.OutOfMemoryError:
            logger.warning("the model of the trainer is not merged: there is no memory for it next to the members")
            return shown.show(merged)
    if population.model is not given:
        put(given, population.full(mean(population.values)))
    given.eval()
    shown.show(lambda: given)


@torch.no_grad()
def put(model: nn.Module, values: dict[str, Tensor]) -> None:
    """Give a plain model these values of its trainable parameters."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, value in values.items():
        parameters[name].copy_(value)
