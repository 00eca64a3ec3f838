"""What a checkpoint holds of a population on top of what Trainer keeps and of the artifact: sizes, generators."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from deni.errors import ArtifactError, short
from deni.population import Population
from deni.strategies import Strategy
from deni.written import written_text

VALUES, STATE, RANDOMNESS = "population.safetensors", "population.json", "randomness_{rank}.safetensors"
KEPT = "kept.safetensors"
TRAINED = "trained.safetensors"  # the members, where the artifact's are what the strategy makes of them (a mean)


def save(population: Population, folder: str | Path, extra: dict[str, Any], strategy: Strategy | None = None) -> None:
    """Write the members and their sizes into a checkpoint folder.

    Args:
        extra: JSON values to get back from `load`.
        strategy: of an artifact in the folder, which holds the members already where they predict as they are; None
            for a folder without one.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    kept = {f"{key}/{name}": value for key, values in population.kept.items() for name, value in values.items()}
    as_they_are = strategy is None or all(type(part).predicting is Strategy.predicting for part in strategy.parts)
    if strategy is None:
        _write(folder / VALUES, population.values)
    _write(folder / TRAINED, {} if as_they_are else population.values)
    _write(folder / KEPT, kept)
    state = {"format": 1, "runs": population.runs, "members": population.members, "forks": population.forks, **extra}
    (folder / STATE).write_text(json.dumps(state, indent=1), encoding="utf-8")


def _write(file: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write tensors; without any, leave no file of an earlier checkpoint."""
    if tensors:
        save_file({name: value.detach().contiguous() for name, value in tensors.items()}, file)
    else:
        file.unlink(missing_ok=True)


def save_randomness(population: Population, folder: str | Path, rank: int = 0) -> None:
    """Write the states of all named generators into a checkpoint folder."""
    states = {
        f"{run}/{name}": state
        for run, source in enumerate(population.sources)
        for name, state in source.state_dict().items()
    }
    streams = {f"stream/{member}": stream.get_state() for member, stream in enumerate(population.streams)}
    save_file({**states, **streams}, Path(folder) / RANDOMNESS.format(rank=rank))


def check(
    folder: str | Path,
    origin: dict[str, Any],
    before_fork: Callable[[int], dict[str, Any] | None] = lambda step: None,
) -> None:
    """Raise ArtifactError unless training can resume from a checkpoint folder.

    Args:
        origin: what the run that goes on is made from, as it was given to `save`.
        before_fork: the part of that which counts until so many steps are done; None where it has forked by then. It
            is enough that these parts are equal.

    Raises:
        ArtifactError: a checkpoint of another origin, or one without a readable `trainer_state.json`.
    """
    folder = Path(folder)
    state = _state(folder)
    theirs, ours = state.get("origin"), _as_json(origin)
    same = state.get("before_fork") is not None and state["before_fork"] == _as_json(before_fork(state["step"]))
    if theirs != ours and not same:
        raise another_run(folder, theirs, ours)
    try:
        json.loads(written_text(folder / "trainer_state.json"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{folder} is truncated ({error}): resume from an earlier checkpoint") from error


def another_run(folder: Path, theirs: Any, ours: Mapping[str, Any]) -> ArtifactError:
    """The error for what was made from another origin: says what differs."""
    theirs = theirs if isinstance(theirs, dict) else {}
    keys = [key for key in {**ours, **theirs} if theirs.get(key) != ours.get(key)]
    for kind in {"strategy", "tuning"} & set(keys):
        keys = [key for key in keys if not key.startswith(f"{kind}'s ")]  # of course they differ
    differ = ", ".join(f"{key} {short(theirs.get(key))}, not {short(ours.get(key))}" for key in keys)
    return ArtifactError(f"{folder} is of another run ({differ}): resume with the settings it was made with")


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _state(folder: Path) -> dict[str, Any]:
    try:
        state = json.loads(written_text(folder / STATE))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{folder} is not a readable checkpoint ({error}): resume from an earlier one") from error
    if not isinstance(state, dict) or not {"format", "runs", "members", "forks"} <= state.keys():
        raise ArtifactError(f"{folder} is not a checkpoint of a population: {STATE} lacks its sizes")
    if state["format"] != 1:
        raise ArtifactError(f"{folder} has format {state['format']}: this version reads 1, use a later one")
    return state


def load(population: Population, folder: str | Path, rank: int = 0) -> dict[str, Any]:
    """Take the members, their number and their generators from a checkpoint folder.

    Returns:
        what was given to `save` as `extra`, and the sizes.

    Raises:
        ArtifactError: a folder that is not a checkpoint of this population; the message names it.
    """
    folder = Path(folder)
    state = _state(folder)
    try:
        values = load_file(folder / (TRAINED if (folder / TRAINED).is_file() else VALUES))
        randomness = folder / RANDOMNESS.format(rank=rank)
        states = load_file(randomness) if randomness.is_file() else {}
        kept = load_file(folder / KEPT) if (folder / KEPT).is_file() else {}
    except (OSError, ValueError, RuntimeError) as error:
        raise ArtifactError(f"{folder} is not a readable checkpoint ({error}): resume from an earlier one") from error
    except Exception as error:  # safetensors has its own error class
        raise ArtifactError(f"{folder} is truncated ({error}): resume from an earlier checkpoint") from error
    if state["runs"] != population.runs:
        raise ArtifactError(
            f"{folder} holds {state['runs']} runs, not {population.runs}: use the same strategy and seeds"
        )
    population.forks = state["forks"]
    try:
        population.replace(values, state["members"])
    except ValueError as error:
        raise ArtifactError(f"{folder} does not fit this model ({error})") from error
    population.kept.clear()
    device = next(iter(population.values.values())).device
    for name, value in kept.items():
        key, _, name = name.partition("/")
        population.kept.setdefault(key, {})[name] = value.to(device)
    for run, source in enumerate(population.sources):
        run_states = {key.partition("/")[2]: value for key, value in states.items() if key.startswith(f"{run}/")}
        source.load_state_dict({name: value.to(torch.uint8) for name, value in run_states.items()})
    for member, stream in enumerate(population.streams):
        if f"stream/{member}" in states:
            stream.set_state(states[f"stream/{member}"])
    return state


@contextmanager
def readable_states(folder: str | None) -> Iterator[None]:
    """Inside, an unreadable optimizer or scheduler state raises an error with a clear message.

    Args:
        folder: the checkpoint; None where nothing is read.

    Raises:
        ArtifactError: a truncated state, or one of another optimizer.
    """
    try:
        yield
    except (RuntimeError, ValueError, EOFError, KeyError, UnpicklingError) as error:
        if folder is None:
            raise
        reason = str(error).partition("\n")[0]
        raise ArtifactError(
            f"{folder} has no readable optimizer state ({reason}): resume from an earlier one"
        ) from error
