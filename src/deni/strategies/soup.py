"""Model soups: members that become one model in the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from deni.errors import SettingError
from deni.schedule import Phase
from deni.strategies.base import Outputs, Score, Setup
from deni.strategies.forking import Forking, check_fraction, part

if TYPE_CHECKING:
    from torch import Tensor

    from deni.population import Population


@dataclass(frozen=True)
class Soup(Forking, name="soup"):
    """Fork like a delayed ensemble, and average the members in the end (model soups, Wortsman et al. 2022).

    Args:
        soup_from: where the fork is, as a fraction of all steps.
        ingredients: which members are averaged: `uniform`: the mean of all members; `greedy`: the best member, and then
            each that, in the order of their scores on the dev texts, does not make the mean worse.
    """

    when: ClassVar[str] = "When prediction may cost one forward pass only, but the last part of training may cost more."

    soup_from: float = 0.9
    ingredients: Literal["uniform", "greedy"] = "uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fraction("soup_from", self.soup_from)

    @property
    def votes(self) -> bool:
        return False  # what is left in the end is one model

    def prepare(self, setup: Setup) -> Setup:
        if self.ingredients == "greedy" and setup.train is not None:
            if not setup.evaluates:
                raise SettingError("a greedy soup is chosen on a dev split: give --dev, or an evaluation set")
            if setup.runs > 1:
                raise SettingError("a greedy soup can be chosen for one run at a time: use ingredients='uniform'")
        return setup

    def phases(self, steps: int) -> list[Phase]:
        start = max(0, min(part(self.soup_from, steps), steps - 1) - self.shift)
        return [Phase(start, steps, self.members, self.fork(start), merge=self.ingredients == "uniform")]

    def finish(self, population: Population, score: Score | None = None, outputs: Outputs | None = None) -> None:
        if population.members == 1:
            return
        if self.ingredients == "uniform" or score is None:
            population.merge()  # the best checkpoint was in the middle of the phase
            return
        members = [{name: value[at] for name, value in population.values.items()} for at in range(population.size)]
        scores = [score(member) for member in members]
        order = sorted(range(len(members)), key=lambda at: -scores[at])
        chosen, best = [order[0]], scores[order[0]]
        for at in order[1:]:
            mixed = score(_mean([members[each] for each in [*chosen, at]]))
            if mixed >= best:
                chosen, best = [*chosen, at], mixed
        mean = _mean([members[each] for each in chosen])
        population.replace({name: value.unsqueeze(0) for name, value in mean.items()}, 1)


def _mean(members: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: sum(member[name] for member in members) / len(members) for name in members[0]}  # type: ignore[misc]
