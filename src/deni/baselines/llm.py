"""A language model behind any OpenAI-compatible endpoint, which is told the labels and a few examples."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from deni.baselines.asking import Form, form_of, spread_over, the_first_of_each
from deni.baselines.base import Baseline, FittedBaseline
from deni.baselines.majority import outputs_of_shares
from deni.chat.endpoint import CHARACTERS, Endpoint, tokens_of
from deni.errors import InputError, SettingError, did_you_mean, short
from deni.tasks import TASKS, Task

if TYPE_CHECKING:
    from deni.chat.answers import Answer
    from deni.data import Text, Texts
    from deni.recipe import Recipe

NUMBERS = 5  # times as many examples of numbers as of one class


@dataclass(frozen=True)
class LLM(Endpoint, Baseline, name="llm", row=6):
    """A language model behind any OpenAI-compatible endpoint: it reads the labels and a few examples with each text.

    It is only asked where it is named. Each text is one request, with the first `examples` labeled texts of each class;
    its answer is held to the labels by a JSON schema and stored on disk, so the same request is never paid twice. An
    answer without a label counts as the most frequent class. Probabilities are 0 or 1: it gives labels alone.

    The key comes from the environment variable OPENAI_API_KEY; local servers mostly need none.

    Args:
        temperature: temperature of the answers, at least 0. Unset (null in a study file) leaves the server's own, which
            some models demand.
        examples: labeled texts of each class in the prompt; 0 for none. Numbers have five times as many in all.
        descriptions: what the labels mean: a YAML or JSON file of `label: description`, or in a study file such a
            mapping.
        instruction: what the prompt says first, such as what the texts are.
        structured: ask for answers by a JSON schema of the labels; off for servers that know none.
    """

    when: ClassVar[str] = "As what many would do without training, where texts may go to a server, at a price each."
    packages: ClassVar[tuple[str, ...]] = ()
    on_request: ClassVar[bool] = True

    temperature: float | None = 0.0
    examples: int = 3
    descriptions: str | Mapping[str, str] | None = None
    instruction: str = ""
    structured: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.examples < 0:
            raise SettingError(f"examples must be at least 0, not {self.examples}")

    def settings(self) -> dict[str, Any]:
        """What decides the answers: the address that is asked, and the descriptions themselves."""
        names = [each.name for each in dataclasses.fields(self) if each.name not in self.incidental]
        return {
            **{name: getattr(self, name) for name in names},
            "base_url": self.address,
            "descriptions": self._descriptions(),
        }

    def why_unfit(self, task: Task, pairs: bool) -> str:
        return "labels whole texts, and here each word has a tag: take frequent_tag" if task.of_words else ""

    def check(self) -> None:
        """No model, package, key or address, a file of descriptions that cannot be read, or nobody to ask."""
        self.open().answers.close()
        self.check_consent()
        self._descriptions()

    def learn(self, train: Texts, labels: list[str], recipe: Recipe, device: Any) -> FittedBaseline:
        task = TASKS[train.task]
        gold = task.encode(train.labels or (), labels, train.source)
        form = form_of(task, labels)
        known = self._descriptions()
        if unknown := sorted(set(known) - set(labels)):
            raise InputError(f"descriptions has {short(unknown[0])}, no label here: {did_you_mean(unknown[0], labels)}")
        if task.chooses:
            shown = the_first_of_each(form.classes_of(gold), self.examples)
        else:
            shown = spread_over(np.asarray(gold, dtype=float), NUMBERS * self.examples)
        prompt = form.prompt(known, [(train.texts[at], train.labels[at]) for at in shown] if train.labels else [])
        prompt = f"{self.instruction.strip()}\n\n{prompt}" if self.instruction.strip() else prompt
        length = int(np.mean([len(form.written(label)) for label in train.labels or ()])) // CHARACTERS + 1
        unusable, notes = outputs_of_shares(task, gold, len(labels)), {"examples": len(shown)}

        def outputs(texts: Sequence[Text]) -> np.ndarray:
            answers = self._ask([f"{prompt}{form.asked(text)}" for text in texts], form, length)
            rows = [form.read(answer.text) for answer in answers]
            notes.update(self._counted(answers), unusable=sum(row is None for row in rows))
            return np.stack([unusable if row is None else row for row in rows])

        return FittedBaseline(labels, outputs, notes)

    def remark(self, notes: Mapping[str, Any]) -> str:
        """Price and unusable answers."""
        found = []
        if notes.get("price_per_1000") is not None:
            found.append(f"{notes['price_per_1000']:,.4g} per 1,000 texts")
        if notes.get("unusable"):
            found.append(f"{notes['unusable']} of {notes['asked']:,} answers unusable")
        return ", ".join(found)

    def _ask(self, questions: Sequence[str], form: Form, length: int) -> list[Answer]:
        chat = self.open(form.schema if self.structured else None)
        try:
            self.confirm(chat, questions, [length] * len(questions), "answers as long as the labels")
            return chat.map(lambda question: chat.ask(question, 0), questions)
        finally:
            self.close(chat)

    def _counted(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """Tokens, and what 1,000 such texts cost, whether their answers came from the server or from the store."""
        counted = [each for each in answers if each.input_tokens is not None]
        tokens = tokens_of(counted)
        price = self.price(*(1000 * each / len(counted) for each in tokens)) if counted else None
        found = {"asked": len(answers), "input_tokens": tokens[0], "output_tokens": tokens[1]}
        return found if price is None else {**found, "price_per_1000": price}

    def _descriptions(self) -> dict[str, str]:
        given = self.descriptions
        if isinstance(given, str):
            given = _read(given)
        return {} if given is None else {str(label): str(text) for label, text in given.items()}


def _read(path: str) -> Mapping[str, str]:
    import yaml

    try:
        with open(path, encoding="utf-8") as file:
            found = yaml.safe_load(file)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} is neither YAML nor JSON: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict) or any(isinstance(each, dict | list) for each in found.values()):
        raise InputError(f"{path} has no `label: description` pairs: {short(json.dumps(found, default=str))}")
    return found
