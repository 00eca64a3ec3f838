"""What a request holds and what an answer holds, for a kind of task: as the OpenAPI description shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from deni.tasks import TASKS

OneText = Annotated[str, Field(pattern=r"\S")]


class Problem(BaseModel):
    """Why a request was refused."""

    error: str = Field(description="What is wrong and what to do, in one line.")


class Health(BaseModel):
    """Whether the server answers."""

    status: str = Field(description="ok, or stopping.")


class Strict(BaseModel):
    """Fields that are not there are refused."""

    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Messages:
    """The messages of one server.

    Args:
        asked, answered: of `/predict`.
        expected: what a request holds, in a line.
        example: a request.
    """

    asked: type[BaseModel]
    answered: type[BaseModel]
    expected: str
    example: dict[str, Any]


def messages(task: str, pairs: bool, max_texts: int, abstains: bool) -> Messages:
    """What is asked and answered.

    Args:
        task: one of `deni.tasks.TASKS`.
        pairs: whether a text is a pair of texts.
        abstains: whether a prediction may have no answer.
    """
    text: Any = OneText
    name = "a text"
    example: Any = ["where is my parcel", "I cannot log in"]
    if TASKS[task].of_words:
        text = OneText | Annotated[list[OneText], Field(min_length=1)]
        name, example = "a text (a string, or in a list a list of words)", [["Anna", "lives", "in", "Berlin"]]
    elif pairs:
        text = tuple[OneText, OneText]
        name, example = "a pair [TEXT, TEXT]", [["Is it open?", "It opens at nine."]]
    several: Any = Annotated[list[text], Field(min_length=1, max_length=max_texts)]
    # A list of strings is a list of texts, never the words of one.
    texts: Any = (text if pairs else OneText) | several
    described: Any = (texts, Field(description=f"{name.capitalize()}, or a list."))
    asked = create_model("Question", __base__=Strict, texts=described)
    asked.model_config["json_schema_extra"] = {"examples": [{"texts": example}]}
    expected = f'{{"texts": ...}}, {name} or a list of 1 to {max_texts}, none of them blank'
    one_answer = _prediction(task, abstains)
    answered = create_model("Answer", predictions=(list[one_answer], ...))  # type: ignore[valid-type]
    return Messages(asked, answered, expected, {"texts": example})


def _prediction(task: str, abstains: bool) -> Any:
    """What a prediction of a task holds; of a task of the user's that does not say it, a dictionary."""
    types: Mapping[str, Any] = TASKS[task].prediction_types
    if not types:
        return dict[str, Any]
    fields: dict[str, Any] = {name: (kind, ...) for name, kind in types.items()}
    if abstains:
        answer = TASKS[task].answer
        fields |= {answer: (types[answer] | None, ...), "abstained": (bool, ...)}
    return create_model("Prediction", **fields)


def as_texts(texts: Any, pairs: bool) -> list[Any]:
    """One or many texts as a list.

    >>> as_texts("a", False), as_texts(("a", "b"), True), as_texts(["a", ["b", "c"]], False)
    (['a'], [('a', 'b')], ['a', ['b', 'c']])
    """
    one = isinstance(texts, str) or (pairs and isinstance(texts, tuple))
    found: Sequence[Any] = [texts] if one else texts
    return list(found)
