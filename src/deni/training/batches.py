"""Which rows a run trains on, and how the rows of several runs become one batch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler, SequentialSampler
from transformers.trainer_pt_utils import LengthGroupedSampler, get_length_grouped_indices

from deni.errors import SettingError
from deni.randomness import Sources

LENGTHS = "run_lengths"  # key of a packed batch: T that the rows of each run, or lane, would have alone

Draw = Callable[[torch.Generator], list[int]]  # the order of rows in an epoch


def shuffled(rows: int) -> Draw:
    """All rows at random."""
    return lambda generator: torch.randperm(rows, generator=generator).tolist()


def draw_of(sampler: Sampler | None, rows: int) -> Draw:
    """How one of Trainer's samplers orders its rows in an epoch.

    Args:
        sampler: what `train_sampling_strategy` makes, for one process; None where there are no rows to order.
        rows: how many there are.
    """
    if isinstance(sampler, LengthGroupedSampler):
        lengths, batch = sampler.lengths, sampler.batch_size
        return lambda generator: get_length_grouped_indices(lengths, batch, generator=generator)
    if isinstance(sampler, SequentialSampler):
        return lambda _: list(range(rows))
    return shuffled(rows)


class SampleOrder(Sampler):
    """The order of the rows in each epoch: a function of the run's source of sample order and the epoch alone.

    Args:
        rows: how many rows the data of each run has.
        sources: of each run. With one lane an index is a row, with several it is a tuple of a row for each, run-major.
        lanes: how many orders each run has: that of the parent, and those of copies with their own orders.
        draws: the order of each run's rows in an epoch; default: at random.
    """

    def __init__(self, rows: int, sources: Sequence[Sources], lanes: int = 1, draws: Sequence[Draw] = ()) -> None:
        self.rows, self.sources, self.lanes, self.epoch = rows, sources, lanes, 0
        self.draws = list(draws) or [shuffled(rows)] * len(sources)

    def set_epoch(self, epoch: int) -> None:
        """The next iteration is this epoch, counted from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[Any]:
        orders = [
            draw(source.derived("sample_order", self.epoch, *lane))
            for draw, source in zip(self.draws, self.sources, strict=True)
            for lane in [(), *((copy,) for copy in range(1, self.lanes))]
        ]
        return iter(orders[0]) if len(orders) == 1 else zip(*orders, strict=True)


class InOrder(Sampler):
    """Every run's rows in their own order, as tuples."""

    def __init__(self, rows: int, runs: int) -> None:
        self.rows, self.runs = rows, runs

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        return ((row,) * self.runs for row in range(self.rows))


class PackedDataset(Dataset):
    """The data of several runs side by side: an item is one row of each.

    Raises:
        SettingError: datasets of different lengths; their runs would not have the same steps.
    """

    def __init__(self, datasets: Sequence[Any]) -> None:
        lengths = {len(dataset) for dataset in datasets}
        if len(lengths) > 1:
            raise SettingError(f"the runs of a pack need datasets of one length, not {sorted(lengths)}")
        self.datasets = datasets

    def __len__(self) -> int:
        return len(self.datasets[0])

    def __getitem__(self, rows: tuple[int, ...]) -> list[Any]:
        return [dataset[row] for dataset, row in zip(self.datasets, rows, strict=True)]


@dataclass
class PackedCollator:
    """Collate the rows of each run as they would be alone, then pad all runs to a common T.

    Args:
        collate: the collator of one run.
        padding: fill values for keys whose padding is not 0: token ids, labels of tokens.
        side: `right` or `left`, the tokenizer's.
        whole: keys whose values have no axis of tokens, such as the labels of texts.
    """

    collate: Callable[[list[Any]], Mapping[str, Any]]
    padding: Mapping[str, int] = field(default_factory=dict)
    side: str = "right"
    whole: Collection[str] = ()

    def __call__(self, features: list[list[Any]]) -> dict[str, Any]:
        runs = [self.collate([row[run] for row in features]) for run in range(len(features[0]))]
        lengths = torch.tensor([tokens(run) for run in runs])
        batch = {key: torch.cat([self._lengthen(key, run[key], runs) for run in runs]) for key in runs[0]}
        return {**batch, LENGTHS: lengths}

    def _lengthen(self, key: str, value: Tensor, runs: Sequence[Mapping[str, Tensor]]) -> Tensor:
        """As long as the longest of all runs: T, or of an encoder with a decoder the length of the answers."""
        if key in self.whole or value.dim() < 2:
            return value
        length, longest = value.shape[1], max(run[key].shape[1] for run in runs)
        if length == longest:
            return value
        more = [longest - length, 0] if self.side == "left" else [0, longest - length]
        more = [0, 0] * (value.dim() - 2) + more
        return torch.nn.functional.pad(value, more, value=self.padding.get(key, 0))

    def choose(self, batch: Mapping[str, Any], lengths: Tensor, lanes: Sequence[int]) -> tuple[dict[str, Any], Tensor]:
        """The rows of some lanes, no longer than the longest of them; and T that each of these would have alone.

        Args:
            batch: as it was collated, without `LENGTHS`.
            lengths: of all lanes.
            lanes: which ones, in their new order.
        """
        chosen, longest, own = {}, int(lengths.max()), lengths[list(lanes)]
        cut = longest - int(own.max())
        for key, value in batch.items():
            if isinstance(value, Tensor) and value.dim() > 0:
                value = value.unflatten(0, (len(lengths), -1))[list(lanes)].flatten(0, 1)
                if cut and key not in self.whole and value.dim() > 1 and value.shape[1] == longest:
                    value = value[:, cut:] if self.side == "left" else value[:, :-cut]
            chosen[key] = value
        return chosen, own


def tokens(batch: Mapping[str, Any]) -> int:
    """T of a collated batch: the length of `input_ids`, or of the longest input."""
    if isinstance(ids := batch.get("input_ids"), Tensor):
        return ids.shape[1]
    return max((v.shape[1] for v in batch.values() if isinstance(v, Tensor) and v.dim() > 1), default=0)


def copied(rows: Mapping[str, Any]) -> dict[str, Any]:
    """Rows whose tensors may be changed."""
    return {key: value.clone() if isinstance(value, Tensor) else value for key, value in rows.items()}
