"""Which texts of a dataset train, develop and test, as `deni train` and a study's cell ask for them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from deni.data.load import read_data
from deni.data.splits import choose_balanced, choose_stratified, strata, stratified_split
from deni.data.texts import Texts
from deni.errors import InputError, InputWarning
from deni.randomness import Sources, derive
from deni.tasks import TASKS

HELD_OUT = "0.2"  # of the texts: the part that is measured on


def divide(
    texts: Texts,
    sources: Sources,
    *,
    test: str | None = HELD_OUT,
    test_size: int | None = None,
    dev: str | None = None,
    dev_size: int | None = None,
    labelled: int | None = None,
    how_many: Callable[[int | None, int], int | None] = lambda wanted, available: wanted,
    preset: str | None = None,
    columns: Mapping[str, Any] | None = None,
) -> tuple[Texts, Texts | None, Texts | None]:
    """The training, test and dev splits; the arguments are those of
    `deni.commands.train.train_file`.

    Args:
        sources: their data_split and label_choice draw.
        dev_size: as `test_size`, for the dev split.
        how_many: decides from `labelled` and the number of texts there are on how many to train, None for all: the
            strategy's `labelled`.
        columns: how a file of `test` or `dev` is read, see `deni.data.read_data`.

    Raises:
        InputError: a number or fraction that does not fit the texts.
    """
    splits = sources.numpy("data_split")
    train, tested = _part(texts, test, "--test", splits, columns or {})
    train, developed = _part(train, dev, "--dev", splits, columns or {})
    if test_size is not None:
        tested = _some(tested, test_size, sources, "test")
    if dev_size is not None:
        developed = _some(developed, dev_size, sources, "dev")
    labelled = how_many(labelled, len(train))
    if labelled is not None:
        rule = "rounded_up" if preset == "released" and TASKS[texts.task].one_class else "exact"
        train = train.select(
            choose_balanced(_strata(train), labelled, sources.numpy("label_choice"), rule=rule)  # type: ignore[arg-type]
        )
    return train, tested, developed


def _strata(texts: Texts) -> Sequence[str]:
    assert texts.labels is not None
    return strata(texts.labels, texts.task)


def _part(
    texts: Texts, given: str | None, flag: str, generator: Any, columns: Mapping[str, Any]
) -> tuple[Texts, Texts | None]:
    """What is left of the texts, and the part that a file or a fraction names."""
    if given is None or given == "0":
        return texts, None
    try:
        fraction = float(given)
    except ValueError:
        return texts, read_data(given, **columns)
    if not 0 < fraction < 1:
        raise InputError(f"{flag} is a file or a fraction between 0 and 1, not {given}")
    with warnings.catch_warnings():
        if TASKS[texts.task].several:  # of the rarest labels, which texts may have together with others
            warnings.simplefilter("ignore", InputWarning)
        rest, part = stratified_split(_strata(texts), fraction, generator)
    return texts.select(rest), texts.select(part)


def _some(texts: Texts | None, size: int, sources: Sources, part: Literal["test", "dev"]) -> Texts:
    """At most so many texts of a part, drawn apart so that the other parts stay as they are."""
    if texts is None:
        raise InputError(f"--{part}-size needs a {part} split: omit it, or give --{part}")
    if size > len(texts):
        message = f"{size} {part} texts asked for, but there are {len(texts)}: all of them are used"
        warnings.warn(message, InputWarning, stacklevel=3)
        return texts
    generator = np.random.default_rng(derive(sources.seeds["data_split"], f"{part}_size"))
    return texts.select(choose_stratified(_strata(texts), size, generator))
