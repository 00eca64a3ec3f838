"""Settings as frozen dataclasses: checked values, made from a table by name."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from deni.deprecation import renamed_settings
from deni.errors import InputError, SettingError, did_you_mean, short
from deni.registry import Registry

T = TypeVar("T")

LARGEST = 1e30  # of a setting: times a weight it still fits into float32


def setting(default: T, *, neutral: Any) -> T:
    """A field of a frozen dataclass that came after results were kept in stores and archives.

    Args:
        default: of the field.
        neutral: the value that gives what was before there was the field: at it, results keep their keys. It never
            changes, whatever becomes of the default.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Noisy:
    ...     antithetic: bool = setting(False, neutral=False)
    >>> Noisy().antithetic, neutral_values(Noisy)
    (False, {'antithetic': False})
    """
    return dataclasses.field(default=default, metadata={"neutral": neutral})


def left_open(plain: T, **metadata: Any) -> T:
    """A field of a frozen dataclass that may be left open, as None, for somebody else to decide.

    Args:
        plain: what it becomes where nobody does.
        metadata: more of the field, such as `neutral`, see `setting`.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Training:
    ...     epochs: float = left_open(10)
    >>> Training().epochs is None, open_fields(Training)
    (True, {'epochs': 10})
    """
    return dataclasses.field(default=None, metadata={"plain": plain, **metadata})  # type: ignore[return-value]


def open_fields(cls: type) -> dict[str, Any]:
    """The fields of a dataclass that may be left open, with their plain values, see `left_open`."""
    fields = dataclasses.fields(cls)
    return {field.name: field.metadata["plain"] for field in fields if "plain" in field.metadata}


def neutral_values(cls: type) -> dict[str, Any]:
    """The fields of a dataclass that came later, with their neutral values, see `setting`."""
    fields = dataclasses.fields(cls)
    return {field.name: field.metadata["neutral"] for field in fields if "neutral" in field.metadata}


@cache  # a study makes thousands of settings
def _choices(cls: type) -> dict[str, tuple[Any, ...]]:
    """The fields with a `Literal` type, and its values."""
    return {name: get_args(hint) for name, hint in get_type_hints(cls).items() if get_origin(hint) is Literal}


def check_choices(settings: Any) -> None:
    """Raise SettingError for a dataclass field with a `Literal` type and another value."""
    for name, choices in _choices(type(settings)).items():  # type: ignore[arg-type]
        if (value := getattr(settings, name)) not in choices:
            raise SettingError(f"unknown {name} {short(value)}: {did_you_mean(str(value), map(str, choices))}")


def check_numbers(settings: Mapping[str, Any]) -> None:
    """Raise SettingError for a number that is not finite, beyond float32, or of more than 64 bits.

    >>> check_numbers({"rate": 0.1, "members": 10**30})
    Traceback (most recent call last):
    deni.errors.SettingError: members must be below 2**63, not 1000000000000000000000000000000
    """
    for name, value in settings.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise SettingError(f"{name} must be a finite number, not {value}")
        if isinstance(value, float) and abs(value) > LARGEST:
            raise SettingError(f"{name} must be below {LARGEST:g}, not {value}")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise SettingError(f"{name} must be below 2**63, not {short(value)}")


def subset(cls: type[T], settings: Any) -> T:
    """The dataclass that another one has the fields of, with its values."""
    return cls(**{field.name: getattr(settings, field.name) for field in dataclasses.fields(cls)})  # type: ignore[arg-type]


def as_it_is(kind: str, made: T, settings: Mapping[str, Any]) -> T:
    """What is given in place of a name; raises SettingError where settings are given, too, since it has its own."""
    given = sorted((key for key, value in settings.items() if value is not None), key=str)
    if given:
        raise SettingError(f"{kind} is {short(made)} with its own settings: put {short(given[0])} there or give a name")
    return made


def without_missing(cls: type, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are given: None means not given, but for fields of a dataclass that may be None.

    Those under a name that the class's `renamed` calls old, if it has that, get today's, with a warning.
    """
    settings = renamed_settings(cls.__name__, getattr(cls, "renamed", {}), settings)
    may_be = {name for name, hint in get_type_hints(cls).items() if type(None) in get_args(hint)}
    return {key: value for key, value in settings.items() if value is not None or key in may_be}


def make(kind: str, table: Mapping[str, type[T]], name: str, settings: Mapping[str, Any]) -> T:
    """A dataclass from a table.

    Args:
        kind: what the table holds, for messages: `strategy`, `tuning`.
        table: name -> class, such as a registry.
        name: which one.
        settings: its fields; None means not given.

    Raises:
        SettingError: a name or setting that does not exist, or a value that the class refuses.
    """
    if not isinstance(name, str) or name not in table:
        names = table.names() if isinstance(table, Registry) else list(table)
        raise SettingError(f"unknown {kind} {short(name)}: {did_you_mean(str(name), names)}")
    given = without_missing(table[name], settings)
    known = [field.name for field in dataclasses.fields(table[name])]  # type: ignore[arg-type]
    unknown = sorted(set(given) - set(known), key=str)
    if unknown:
        has = did_you_mean(str(unknown[0]), known, instead=f"it has {', '.join(known) or 'none'}")
        raise SettingError(f"{kind} {name} has no setting {short(unknown[0])}: {has}")
    check_numbers(given)
    try:
        return table[name](**given)
    except (InputError, SettingError):
        raise
    except Exception as error:
        module = table[name].__module__
        if module.partition(".")[0] == "deni":  # a fault of ours keeps its traceback
            raise
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise SettingError(f"{kind} {name} of {module} refuses its settings ({why})") from error
