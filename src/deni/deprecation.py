"""What is renamed or moved goes on working for a while, with a warning about what to use and until when."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

from deni.errors import DeprecatedWarning, SettingError

_warned: set[str] = set()


class Renamed(NamedTuple):
    """What an old name is called now.

    Attributes:
        name: today's name.
        removal: the version of `deni` that no longer knows the old one, such as `1.0`.
    """

    name: str
    removal: str


def deprecate(what: str, instead: str, removal: str, stacklevel: int = 2) -> None:
    """Warn of something that a later version removes, once in a process.

    Args:
        what: what is used, such as `the setting 'replicas' of strategy deni`.
        instead: what to use.
        removal: the version that removes it.
        stacklevel: as in `warnings.warn`: 2 for the caller of the function that calls this.
    """
    message = f"{what} is deprecated and goes in deni {removal}: use {instead}"
    if message not in _warned:
        _warned.add(message)
        warnings.warn(message, DeprecatedWarning, stacklevel=stacklevel + 1)


def renamed_settings(owner: str, renames: Mapping[str, Renamed], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings under today's names; an old name warns.

    Args:
        owner: what has the settings, for the message, such as `strategy deni`.
        renames: old name -> today's.
        settings: None means not given.

    Raises:
        SettingError: a setting under both of its names.
    """
    result = {name: value for name, value in settings.items() if name not in renames}
    for old, (new, removal) in renames.items():
        if settings.get(old) is None:
            continue
        if result.get(new) is not None:
            raise SettingError(f"{owner} has {new!r} and its old name {old!r} at once: give {new!r} alone")
        deprecate(f"the setting {old!r} of {owner}", repr(new), removal, stacklevel=4)
        result[new] = settings[old]
    return result
