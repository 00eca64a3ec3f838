"""Strategies over all datasets of a study that share model, tuning and number of labeled examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from deni.analysis.runs import Block, Group, Runs, Setting


def group_settings(runs: Runs) -> dict[str, list[Setting]]:
    """Settings that differ in the dataset alone: what they share -> one setting for each dataset."""
    together: dict[str, list[Setting]] = {}
    for each in runs.settings:
        label = ", ".join(filter(None, (each.model, each.tuning, each.amount, each.other)))
        together.setdefault(label, []).append(each)
    return together


def join_datasets(runs: Runs) -> Iterator[list[Group]]:
    """The strategies that ran on all of two or more datasets: their blocks side by side, as of one setting.

    A difference between two of them is then the mean of its values on the datasets, which count equally where they have
    equally many blocks, and spread is spread within them.
    """
    several = len(group_settings(runs)) > 1
    for shared, settings in group_settings(runs).items():
        if len(settings) < 2 or len({each.task for each in settings}) > 1:
            continue
        by_strategy = [{group.strategy: group for group in runs.of(each)} for each in settings]
        label = f"all {len(settings)} datasets together"
        setting = dataclasses.replace(
            settings[0],
            dataset=f"all {len(settings)}",
            label=f"{label} ({shared})" if several else label,
        )
        blocks = [
            (each, number)
            for each in settings
            for number in sorted({block.number for group in runs.of(each) for block in group.blocks})
        ]
        places = {block: at for at, block in enumerate(blocks)}
        groups = [
            _joined(setting, name, [each[name] for each in by_strategy], places)
            for name in runs.strategies
            if all(name in each for each in by_strategy)
        ]
        if groups:
            yield groups


def _joined(setting: Setting, strategy: str, of: list[Group], places: dict[tuple[Setting, int], int]) -> Group:
    blocks: list[Block] = [
        dataclasses.replace(block, number=places[group.setting, block.number]) for group in of for block in group.blocks
    ]
    return Group(setting, strategy, blocks, [row for group in of for row in group.failed])
