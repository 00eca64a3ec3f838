"""Reading YAML so that every value knows where it stands."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import yaml

from deni.data.values import has_surrogate
from deni.errors import InputError, did_you_mean, short

LARGEST = 2**63 - 1  # what a store's columns hold
KINDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


@dataclass(frozen=True)
class Spot:
    """A value of a YAML file, and where it stands.

    Args:
        file: as the user named it.
        path: such as `strategies[2].members`; empty for the whole file.
        line: counted from 1.
        node: as PyYAML composed it.
    """

    file: str
    path: str
    line: int
    node: yaml.Node = field(repr=False)

    def wrong(self, message: str) -> InputError:
        """The error to raise: one line with file, line and path."""
        at = f"{self.path}: " if self.path else ""
        return InputError(f"{self.file}, line {self.line}: {at}{' '.join(message.split())}")

    @property
    def is_mapping(self) -> bool:
        """Whether it is `name: value` pairs."""
        return isinstance(self.node, yaml.MappingNode)

    @property
    def is_list(self) -> bool:
        """Whether it is a list."""
        return isinstance(self.node, yaml.SequenceNode)

    @property
    def value(self) -> Any:
        """Of a plain value (text, number, true, false, null); raises InputError for a list or mapping."""
        if not isinstance(self.node, yaml.ScalarNode):
            raise self.wrong(f"expected one value, not a {'mapping' if self.is_mapping else 'list'}")
        try:
            value = yaml.SafeLoader("").construct_object(self.node)
        except (yaml.YAMLError, ValueError) as error:  # such as the 31st of February
            raise self.wrong(f"{short(self.node.value)} is not a value: {error}") from None
        if isinstance(value, int) and abs(value) > LARGEST:
            raise self.wrong(f"{short(value)} is too large a number")
        if isinstance(value, str):
            self._check_text(value)
        return value

    def pairs(self, known: Collection[str] | None = None, what: str = "key") -> dict[str, Spot]:
        """Of a mapping; each at the line of its name.

        Args:
            known: names that may come; None for any.
            what: what the names are, for messages.
        """
        if not isinstance(self.node, yaml.MappingNode):
            raise self.wrong(f"expected `name: value` pairs, not {self._shown()}")
        found: dict[str, Spot] = {}
        for name_node, node in self.node.value:
            if not isinstance(name_node, yaml.ScalarNode):
                line = name_node.start_mark.line + 1
                raise Spot(self.file, self.path, line, name_node).wrong(
                    "a name must be one word, not a list or mapping"
                )
            name = str(name_node.value)
            self._check_text(name)
            spot = Spot(self.file, f"{self.path}.{name}" if self.path else name, name_node.start_mark.line + 1, node)
            if name in found:
                raise spot.wrong(f"given twice, first in line {found[name].line}")
            if known is not None and name not in known:
                raise spot.wrong(f"no such {what}; {did_you_mean(name, known)}")
            found[name] = spot
        return found

    def items(self) -> list[Spot]:
        """The values of a list; a single value counts as a list of one."""
        if not isinstance(self.node, yaml.SequenceNode):
            return [self]
        if not self.node.value:
            raise self.wrong("an empty list: give at least one value, or omit it")
        return [
            Spot(self.file, f"{self.path}[{at}]", node.start_mark.line + 1, node)
            for at, node in enumerate(self.node.value)
        ]

    def as_type(self, hint: Any) -> Any:
        """The value, if it is of this type (of a dataclass field); raises InputError otherwise.

        A text such as `1e-4`, which YAML does not take for a number, is one where a number is expected.
        """
        if self.is_mapping and any(get_origin(each) is Mapping for each in get_args(hint)):
            return {name: each.as_type(str) for name, each in self.pairs().items()}
        value = self.value
        kinds = get_args(hint) if get_origin(hint) in (UnionType, Union) else (hint,)
        for kind in kinds:
            fits, converted = _convert(value, kind)
            if fits:
                return converted
        raise self.wrong(f"expected {' or '.join(_words(kinds))}, not {short(value)}")

    def _check_text(self, text: str) -> None:
        """Raise InputError for an escape such as `\\ud83d`, which no file can hold."""
        if has_surrogate(text):
            raise self.wrong(f"{short(text)}: half a surrogate pair is not a character, write the whole one")

    def _shown(self) -> str:
        return "a list" if self.is_list else short(self.value)


def read_yaml(path: str | Path) -> Spot:
    """The file as one value; raises InputError with the line of invalid YAML."""
    file = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 text (byte {error.start}): expected a YAML file") from None
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        begun = error.context_mark
        since = f" ({error.context} in line {begun.line + 1})" if begun and mark and begun.line != mark.line else ""
        raise InputError(f"{file}{line}: no YAML: {error.problem or error.context}{since}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from None
    if node is None:
        raise InputError(f"{file} is empty")
    return Spot(file, "", node.start_mark.line + 1, node)


def _convert(value: Any, kind: Any) -> tuple[bool, Any]:
    """Whether a value is of this kind, and what it is then."""
    if kind is type(None):
        return value is None, None
    if get_origin(kind) is Literal:
        return value in get_args(kind) and not isinstance(value, bool), value
    if kind is bool:
        return isinstance(value, bool), value
    if kind is str:
        return isinstance(value, str), value
    if isinstance(value, bool):
        return False, None
    if kind is int:
        return isinstance(value, int), value
    if kind is float:
        if isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                return False, None
        return isinstance(value, int | float) and math.isfinite(value), value
    return False, None


def _words(kinds: Collection[Any]) -> Iterator[str]:
    for kind in kinds:
        if get_origin(kind) is Literal:
            yield "one of " + ", ".join(map(str, get_args(kind)))
        elif kind is not type(None):
            yield KINDS.get(kind, getattr(kind, "__name__", str(kind)))


def mentioned(message: str, spots: Mapping[str, Spot], otherwise: Spot) -> Spot:
    """Where to point for a message of another part of the library: the first setting that it names."""
    words = message.replace("`", " ").replace(":", " ").replace(",", " ").split()
    return next((spots[word] for word in words if word in spots), otherwise)
