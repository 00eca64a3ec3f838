"""How a language model is asked for labels, and how its answers are read: one form for each kind of label."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from deni.baselines.majority import LEAST
from deni.chat.reading import spoken, values_in
from deni.tasks import Task

if TYPE_CHECKING:
    from deni.data import Text


@dataclass(frozen=True)
class Form(ABC):
    """One kind of label in questions and answers.

    Args:
        labels: names of the C outputs.
    """

    labels: Sequence[str]

    key: ClassVar[str] = "label"  # of the JSON object that an answer is
    task: ClassVar[str]

    @property
    @abstractmethod
    def value(self) -> Mapping[str, Any]:
        """The JSON schema of what is under the key."""

    @abstractmethod
    def as_json(self, label: Any) -> Any:
        """A label as the answer has it."""

    @abstractmethod
    def row(self, value: Any) -> np.ndarray | None:
        """The outputs `(C,)` of what is under the key; None where that is no label."""

    @property
    def schema(self) -> dict[str, Any]:
        """The `response_format` of a request."""
        object_schema = {
            "type": "object",
            "properties": {self.key: self.value},
            "required": [self.key],
            "additionalProperties": False,
        }
        return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": object_schema}}

    def classes_of(self, gold: Sequence[Any]) -> list[Collection[int]]:
        """The classes of each text."""
        return [(label,) for label in gold]

    def prompt(self, descriptions: Mapping[str, str], examples: Sequence[tuple[Text, Any]]) -> str:
        """What comes before the text, equal for all texts, so that servers may keep what they have read of it."""
        found = [self.task]
        if self.key != "number":
            found.append("\n".join(_listed(label, descriptions.get(label, "")) for label in self.labels))
        found.append(f"Answer with a JSON object such as {self.written(None)}, and nothing else.")
        found += [f"{_written(text)}\nAnswer: {self.written(label)}" for text, label in examples]
        return "\n\n".join(found) + "\n\n"

    def asked(self, text: Text) -> str:
        """The text, and the beginning of its answer."""
        return f"{_written(text)}\nAnswer:"

    def written(self, label: Any) -> str:
        """The answer for a text with this label; None for any."""
        return json.dumps({self.key: self._any if label is None else self.as_json(label)}, ensure_ascii=False)

    @property
    def _any(self) -> Any:
        return self.labels[0]

    def read(self, answer: str) -> np.ndarray | None:
        """The outputs `(C,)` in an answer; None where there is no label in it."""
        for value in values_in(answer, "{}"):
            if isinstance(value, dict) and self.key in value:
                return self.row(value[self.key])
        return self.row(spoken(answer).strip().strip("\"'`."))


@dataclass(frozen=True)
class OneLabel(Form):
    """One of the labels."""

    task: ClassVar[str] = "Which one of these labels does the text have?"

    @property
    def value(self) -> Mapping[str, Any]:
        return {"type": "string", "enum": list(self.labels)}

    def as_json(self, label: Any) -> Any:
        return label

    def row(self, value: Any) -> np.ndarray | None:
        at = _number_of(value, self.labels)
        return None if at is None else np.log(np.maximum(np.eye(len(self.labels))[at], LEAST))


@dataclass(frozen=True)
class Ordered(OneLabel):
    """One of the labels, which have an order."""

    task: ClassVar[str] = "Which one of these labels does the text have? They are in order, the lowest first."


@dataclass(frozen=True)
class Several(Form):
    """Any of the labels."""

    key: ClassVar[str] = "labels"
    task: ClassVar[str] = "Which of these labels does the text have? It may have several, one, or none."

    @property
    def value(self) -> Mapping[str, Any]:
        return {"type": "array", "items": {"type": "string", "enum": list(self.labels)}}

    @property
    def _any(self) -> Any:
        return [self.labels[0]]

    def as_json(self, label: Any) -> Any:
        return list(label)

    def classes_of(self, gold: Sequence[Any]) -> list[Collection[int]]:
        return [np.flatnonzero(row).tolist() for row in np.asarray(gold)]

    def row(self, value: Any) -> np.ndarray | None:
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, list):
            return None
        found = [_number_of(each, self.labels) for each in value]
        if None in found:
            return None
        sign = np.full(len(self.labels), 1.0)
        sign[[at for at in found if at is not None]] = -1.0
        return sign * np.log(LEAST)


@dataclass(frozen=True)
class Number(Form):
    """A number."""

    key: ClassVar[str] = "number"
    task: ClassVar[str] = "Which number belongs to the text? The examples show which numbers there are."

    @property
    def value(self) -> Mapping[str, Any]:
        return {"type": "number"}

    @property
    def _any(self) -> Any:
        return 1.5

    def as_json(self, label: Any) -> Any:
        return float(label)

    def row(self, value: Any) -> np.ndarray | None:
        try:
            number = np.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            return None
        return np.array([number]) if np.isfinite(number) else None


def form_of(task: Task, labels: Sequence[str]) -> Form:
    """The form for labels of a task."""
    if not task.chooses:
        return Number(labels)
    if not task.distribution:
        return Several(labels)
    return (Ordered if task.ordered else OneLabel)(labels)


def the_first_of_each(classes: Sequence[Collection[int]], k: int) -> list[int]:
    """The first k texts of each class, as numbers, the classes by turns.

    >>> the_first_of_each([{0}, {0}, {0}, {1}], 2)
    [0, 3, 1]
    """
    of_class: dict[int, list[int]] = {}
    for at, own in enumerate(classes):
        for each in own:
            if len(of_class.setdefault(each, [])) < k:
                of_class[each].append(at)
    rounds = zip_longest(*(of_class[each] for each in sorted(of_class)))
    return list(dict.fromkeys(at for each in rounds for at in each if at is not None))


def spread_over(numbers: np.ndarray, count: int) -> list[int]:
    """Texts whose numbers are evenly spread by rank, the lowest and the highest among them, as numbers.

    >>> spread_over(np.array([5.0, 1.0, 2.0, 9.0, 7.0]), 3)
    [1, 0, 3]
    """
    order = np.argsort(numbers, kind="stable")
    if not count:
        return []
    places = np.linspace(0, len(order) - 1, min(count, len(order)))
    return [int(order[round(each)]) for each in places]


def _number_of(value: Any, labels: Sequence[str]) -> int | None:
    """The place of a label in an answer, whatever its case where that tells no labels apart."""
    if isinstance(value, bool | dict | list) or value is None:
        return None
    name = str(value).strip()
    if name in labels:
        return labels.index(name)
    alike = [at for at, label in enumerate(labels) if label.casefold() == name.casefold()]
    return alike[0] if len(alike) == 1 else None


def _listed(label: str, description: str) -> str:
    return f"- {label}: {description}" if description else f"- {label}"


def _written(text: Text) -> str:
    if isinstance(text, str):
        return f"Text: {text}"
    return "\n".join(f"Text {at}: {part}" for at, part in enumerate(text, 1))
