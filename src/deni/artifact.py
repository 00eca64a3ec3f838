"""Save, load and export a trained population: safetensors and JSON only."""

from __future__ import annotations

import copy
import json
import math
import platform
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from safetensors.torch import load_file, save_file
from seqeval.metrics.sequence_labeling import get_entities
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedTokenizerBase,
)

from deni._version import __version__
from deni.architectures import auto_class
from deni.data import Text, fed, first_tokens, is_iob2, why_no_text, why_no_words
from deni.engine.embedding import ActiveEmbedding, activate
from deni.engine.fold import trainable_slots
from deni.engine.twins import Unstackable
from deni.errors import ArtifactError, InputError, short
from deni.population import Population, mean_of_members
from deni.randomness import Sources, global_generators
from deni.strategies import make_strategy
from deni.strategies.vote import NUMBER, ONE, SEVERAL, TOKENS, Combine, member_outputs, problem_of, task_of, vote
from deni.tuning import TUNINGS, mean_of_products
from deni.tuning.unipelt import adapted

FORMAT = 1
INFO, MEMBERS, BASE, CARD = "deni.json", "population.safetensors", "base.safetensors", "README.md"
ADAPTERS = "adapters.json"  # what the package `adapters` put into the model, where it did
IDS = "@ids"  # suffix of the tensor that says which rows of an embedding the members hold


class Classifier:
    """A trained population as a function of texts.

    Args:
        population: the members.
        tokenizer: of the model.
        labels: class names in the order of the model's outputs.
        info: what `deni.json` says: strategy, `max_length`, metrics.
        progress: whether to show a bar on standard error while it computes.

    Calling it with a text or a list of texts (tuples of two where it was trained on pairs) gives a dictionary for each:
    `label`, `confidence` (its probability in the vote, from 0 to 1), `agreement` (the share of the members that choose
    it), `entropy` (of the members' mean probabilities, in nats). With several labels a text: `labels` (those that the
    vote chooses), `probabilities` (of each label). For regression: `value` and `standard_deviation` (of the members
    around their mean); lists, where a model puts out several numbers.

    For token classification a text is a list of words, or a string, which is split at white space: so a list of strings
    is a list of texts. It gives `words`, `labels`, `confidences`, `agreements` (of each word) and `entities`:
    dictionaries with `type`, `text`, `start` and `stop` (words `start` to `stop - 1`), `confidence` (mean of its words)
    and `agreement` (the share of the members that find this very entity).
    """

    def __init__(
        self,
        population: Population,
        tokenizer: PreTrainedTokenizerBase,
        labels: Sequence[str],
        info: Mapping[str, Any],
        progress: bool = False,
    ) -> None:
        self.population, self.tokenizer, self.progress = population, tokenizer, progress
        self.labels, self.info = list(labels), dict(info)
        self.max_length: int | None = self.info.get("max_length")
        chosen = self.info.get("strategy", {"name": "default", "settings": {}})
        self.strategy = make_strategy(chosen["name"], **chosen["settings"])
        tuning = TUNINGS.get(self.info.get("tuning", {}).get("name"))
        fully = tuning is not None and tuning.pads_fully and self.max_length is not None
        self.padding = "max_length" if fully else "longest"

    @property
    def problem(self) -> str:
        """`single_label_classification`, `multi_label_classification`, `regression` or `token_classification`."""
        return problem_of(self.population.model)

    @property
    def task(self) -> str:
        """The problem under its name on the command line."""
        return task_of(self.problem)

    @property
    def pairs(self) -> bool:
        """Whether it was trained on pairs of texts."""
        return self.info.get("text_pair_column") is not None

    def __call__(self, texts: str | Sequence[Text], batch_size: int = 32) -> list[dict[str, Any]]:
        one = isinstance(texts, str) or (self.pairs and isinstance(texts, tuple) and isinstance(texts[0], str))
        given: list[Any] = [texts] if one else list(texts)
        if not given:
            return []
        members = torch.from_numpy(self.members(given, batch_size))  # (N, M, C)
        votes = self.strategy.combine_members(members, self.problem)
        if self.problem == NUMBER:
            return self._numbers(members, votes)
        if self.problem == SEVERAL:
            return self._several(votes)
        if self.problem == TOKENS:
            return self._tagged([words_of(text) for text in given], members, votes)
        chosen = votes.argmax(-1)
        mean = vote(members, "soft")
        agreement = (members.argmax(-1) == chosen[:, None]).double().mean(1)
        entropy = torch.special.entr(mean.exp()).sum(-1)
        return [
            {
                "label": self.labels[int(label)],
                "confidence": float(votes[row, label].exp()),
                "agreement": float(agreement[row]),
                "entropy": float(entropy[row]),
            }
            for row, label in enumerate(chosen)
        ]

    def _numbers(self, members: Tensor, votes: Tensor) -> list[dict[str, Any]]:
        one = votes.shape[-1] == 1
        spread = members.double().std(1, correction=0)
        values, spreads = (each[:, 0].tolist() if one else each.tolist() for each in (votes, spread))
        return [{"value": value, "standard_deviation": sd} for value, sd in zip(values, spreads, strict=True)]

    def _several(self, votes: Tensor) -> list[dict[str, Any]]:
        return [
            {
                "labels": [label for label, odds in zip(self.labels, row, strict=True) if odds > 0],
                "probabilities": dict(zip(self.labels, row.sigmoid().tolist(), strict=True)),
            }
            for row in votes
        ]

    def _tagged(self, texts: list[list[str]], members: Tensor, votes: Tensor) -> list[dict[str, Any]]:
        """Members `(W, M, C)` and votes `(W, C)` of all words."""
        result, end = [], 0
        for words in texts:
            at = slice(end, end := end + len(words))
            best = votes[at].max(-1)
            said = members[at].argmax(-1)  # (words, M)
            labels = [self.labels[label] for label in best.indices.tolist()]
            confidences = best.values.exp().tolist()
            found = [set(entities_of([self.labels[label] for label in own])) for own in said.T.tolist()]
            result.append(
                {
                    "words": words,
                    "labels": labels,
                    "confidences": confidences,
                    "agreements": (said == best.indices[:, None]).double().mean(1).tolist(),
                    "entities": [
                        {
                            "type": kind,
                            "text": " ".join(words[start : last + 1]),
                            "start": start,
                            "stop": last + 1,
                            "confidence": float(np.mean(confidences[start : last + 1])),
                            "agreement": float(np.mean([(kind, start, last) in each for each in found])),
                        }
                        for kind, start, last in entities_of(labels)
                    ],
                }
            )
        return result

    def predict(self, texts: Sequence[Text], batch_size: int = 32) -> list[Any]:
        """The label of each text; its labels, where it or its words can have several; its value, in regression."""
        name = {ONE: "label", NUMBER: "value"}.get(self.problem, "labels")
        return [each[name] for each in self(texts, batch_size)]

    def votes(self, texts: Sequence[Text], batch_size: int = 32) -> np.ndarray:
        """What the vote says: `(N, C)` log probabilities; log odds of several labels; numbers for regression; of words
        `(W, C)` log probabilities, those of all texts one after another.
        """
        return self.combined(self.members(texts, batch_size))

    def combined(self, members: np.ndarray) -> np.ndarray:
        """What the vote makes of what `members` gives."""
        return self.strategy.combine_members(torch.from_numpy(members), self.problem).numpy()

    def predict_log_probabilities(
        self, texts: Sequence[Text], batch_size: int = 32, combine: Combine | None = None
    ) -> np.ndarray:
        """The vote: `(N, C)` log probabilities.

        Args:
            combine: another vote than the strategy's: `soft`, `hard` or `parent`.

        Raises:
            InputError: a model of several labels, of numbers or of words.
        """
        if self.problem != ONE:
            raise InputError(f"a model of {self.problem} has no log probabilities: call it, or use members()")
        members = torch.from_numpy(self.members(texts, batch_size))
        result = self.strategy.combine_members(members) if combine is None else vote(members, combine)
        return result.numpy()

    @torch.no_grad()
    def members(self, texts: Sequence[Text], batch_size: int = 32) -> np.ndarray:
        """What every member says: `(N, M, C)` log probabilities; log odds of several labels; numbers for regression; of
        words `(W, M, C)` log probabilities, those of all texts one after another.

        A text of more tokens than `max_length` is cut there. One of words goes on in a row of its own, so that each
        word has a prediction; a word without a token (control characters) has equal probabilities.
        """
        for at, text in enumerate(texts):
            if why := self._why_unfit(text):
                raise InputError(f"text {at} is {short(text)}: {why}")
        tokens = self.problem == TOKENS
        given: list[Any] = [words_of(text) for text in texts] if tokens else list(texts)
        ends = np.cumsum([len(words) if tokens else 1 for words in given], dtype=int)
        starts = [0, *ends[:-1].tolist()]  # of the text's first row in the result
        population = self.population
        was_training = population.training
        population.eval()
        order = sorted(range(len(given)), key=lambda at: sum(map(len, given[at])))
        shape = (int(ends[-1]) if len(ends) else 0, population.size, len(self.labels))
        result = torch.full(shape, -math.log(len(self.labels)))
        try:
            for at in self._shown(range(0, len(order), batch_size)):
                texts_of_batch = order[at : at + batch_size]
                batch = self.tokenizer(
                    **fed([given[row] for row in texts_of_batch], self.task),
                    truncation=True,
                    max_length=self.max_length,
                    padding=self.padding,
                    return_tensors="pt",
                    **({"return_overflowing_tokens": True} if tokens else {}),
                )
                rows, places = [starts[text] for text in texts_of_batch], None
                if tokens:
                    rows, places = self._first_tokens(batch, rows)
                self._compute(batch, rows, places, result)
        finally:
            population.train(was_training)
        return result.numpy()

    def _compute(self, batch: Any, rows: list[int], places: list[int] | None, result: Tensor) -> None:
        """Put what members say of a batch `(B, T)` into rows of the result `(N, M, C)`.

        Args:
            places: which tokens of the batch are meant, counted over all its texts; None for one row a text.
        """
        population = self.population
        inputs = dict(batch.to(next(iter(population.values.values())).device))
        for chunk in population.chunks:
            population.focus(chunk)
            logits = population(**population.fold(inputs)).logits.float()  # (members in focus * B, C) or (..., T, C)
            own = member_outputs(logits, self.problem).unflatten(0, (len(chunk), -1))
            if places is not None:
                own = own.flatten(1, 2)[:, places]
            result[rows, chunk.start : chunk.stop] = own.transpose(0, 1).cpu()

    def _first_tokens(self, batch: Any, starts: list[int]) -> tuple[list[int], list[int]]:
        """The words that begin in a batch, as rows of the result, and their first tokens, counted over all the batch.

        Args:
            starts: the row of the first word of each text.
        """
        tokens = batch["input_ids"].shape[1]
        found: dict[int, int] = {}
        for row, text in enumerate(batch.pop("overflow_to_sample_mapping").tolist()):
            for at, word in first_tokens(batch.word_ids(row)).items():
                # A word that goes on in the next row began in the one before.
                found.setdefault(starts[text] + word, row * tokens + at)
        return list(found), list(found.values())

    def _why_unfit(self, text: Any) -> str | None:
        """Why this is no text of the model; None if it is one."""
        if self.problem == TOKENS and not isinstance(text, str):
            listed = isinstance(text, list | tuple)
            return why_no_words(text) if listed else "give a list of words, or a string that is split at white space"
        if not self.pairs:
            return why_no_text(text)
        if not (isinstance(text, tuple | list) and len(text) == 2):
            return "the model was trained on pairs, give (text, text)"
        return why_no_text(text[0]) or why_no_text(text[1])

    def _shown(self, batches: range) -> Iterable[int]:
        console = Console(stderr=True)
        return track(
            batches, "texts", console=console, transient=True, disable=not (self.progress and console.is_terminal)
        )


def words_of(text: Text) -> list[str]:
    """A list of words as it is, a string split at white space."""
    return text.split() if isinstance(text, str) else list(text)


def entities_of(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """Type, first and last word of each entity, as seqeval finds them; tags that are not IOB2 name none.

    >>> entities_of(["B-PER", "I-PER", "O", "I-LOC"])
    [('PER', 0, 1), ('LOC', 3, 3)]
    """
    return get_entities([tag if is_iob2(tag) else "O" for tag in tags])


# ---- save ----------------------------------------------------------------------------------------------------------


@contextmanager
def writing(target: str | Path, overwrite: bool) -> Iterator[Path]:
    """A folder beside `target` that becomes it when all is written; nothing is left behind if something fails.

    Raises:
        InputError: the target exists and `overwrite` is False, or it cannot be written (the message says why).
    """
    target = Path(target)
    check_free(target, overwrite)
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        temporary.chmod(0o755)
        yield temporary
        for path in temporary.rglob("*.safetensors"):
            path.chmod(0o644)  # safetensors makes files that only their owner can read
        if target.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
            target.rename(old / "old")
            temporary.rename(target)
            shutil.rmtree(old, ignore_errors=True)
        else:
            temporary.rename(target)
    except OSError as error:
        raise InputError(
            f"{target} cannot be written ({error.strerror or error}): free space or choose another"
        ) from error
    finally:
        if temporary is not None and temporary.exists():
            shutil.rmtree(temporary, ignore_errors=True)


def check_free(target: str | Path, overwrite: bool) -> None:
    """Raise InputError where `target` exists and may not be overwritten: only models and empty folders may."""
    target = Path(target)
    if not target.exists():
        return
    if not overwrite:
        raise InputError(f"{target} exists: choose another folder or give --overwrite")
    models = (INFO, "config.json", "adapter_config.json", "member-0")
    if not target.is_dir() or not (_is_empty(target) or any((target / name).exists() for name in models)):
        raise InputError(f"{target} is no model and is not overwritten: choose another folder")


def check_outside(target: str | Path, *kept: str | Path) -> None:
    """Raise InputError where overwriting `target` would take away one of the files or folders to be kept."""
    for path in kept:
        if Path(path).exists() and Path(path).resolve().is_relative_to(Path(target).resolve()):
            raise InputError(f"{path} is in {target}, which would be overwritten: choose another folder")


def _is_empty(folder: Path) -> bool:
    return next(folder.iterdir(), None) is None


def save(
    folder: str | Path,
    *,
    population: Population,
    tokenizer: PreTrainedTokenizerBase,
    labels: Sequence[str],
    info: Mapping[str, Any],
    overwrite: bool = False,
    beside: Mapping[str, bytes] | None = None,
) -> Path:
    """Write an artifact.

    Args:
        folder: must not exist, unless `overwrite`.
        population: its members are stored stacked, what they share once.
        labels: class names in the order of the model's outputs.
        info: JSON values; `strategy` and `tuning` with `name` and `settings`, `max_length`, `metrics`, ...
        beside: names of further files in the folder, and what is in them.

    Returns:
        the folder.

    Raises:
        InputError: the folder exists or cannot be written.
    """
    folder = Path(folder)
    with writing(folder, overwrite) as target:
        model = population.plain()
        try:
            task = task_of(problem_of(model))
            shared, ids = _shared(model, population)
            config = copy.deepcopy(model.config)
            config.id2label, config.label2id = dict(enumerate(labels)), {label: at for at, label in enumerate(labels)}
            for name in ("quantization_config", "_pre_quantization_dtype"):  # what is saved is not quantised
                vars(config).pop(name, None)
            config.save_pretrained(target)
            if hasattr(model, "peft_config"):
                model.peft_config[model.active_adapter].save_pretrained(target)  # type: ignore[index, union-attr, operator]
            if hasattr(model, "adapters_config"):
                kinds = model.adapters_config.to_dict()  # type: ignore[operator, union-attr]
                (target / ADAPTERS).write_text(json.dumps(kinds, indent=1) + "\n", encoding="utf-8")
        finally:
            population.restore()
        _write(target / MEMBERS, {**population.values, **ids})
        _write(target / BASE, shared)
        tokenizer.save_pretrained(target)
        versions = {name: version(name) for name in ("torch", "transformers", "peft")}
        what = {
            "format": FORMAT,
            "deni": __version__,
            "versions": {**versions, "python": platform.python_version()},
            "labels": list(labels),
            "runs": population.runs,
            "members": population.members,
            **info,
            "task": task,
        }
        (target / INFO).write_text(json.dumps(what, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        (target / CARD).write_text(card(folder.name, what), encoding="utf-8")
        for name, content in (beside or {}).items():
            (target / name).write_bytes(content)
    return folder


def _write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, path)


def _shared(model: nn.Module, population: Population) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What the members share, under the plain model's names, and the ids of active rows."""
    shared = {name: value for name, value in model.state_dict().items() if name not in population.slots}
    for name, value in model.named_parameters():
        if hasattr(value, "quant_state"):  # bitsandbytes: the artifact loads everywhere, so its weights are plain ones
            shared = {key: each for key, each in shared.items() if not key.startswith(f"{name}.")}
            shared[name] = _dequantised(value, name)
    ids = {}
    for name, places in population.slots.items():
        for module, _ in places:
            if isinstance(module, ActiveEmbedding):
                shared[name], ids[name + IDS] = module.table, module.ids
    # A tied parameter has several names in a state dict; the members hold it under the first.
    held = {views[0].data_ptr() for views in population.views.values()}
    return {name: value for name, value in shared.items() if value.data_ptr() not in held}, ids


# Of each task: the tag of its pipeline, what such a model is, what its outputs are called, and what it gives.
CARDS = {
    "single_label": ("text-classification", "A text classifier", "Classes", "label, confidence, agreement, entropy"),
    "multi_label": (
        "text-classification",
        "A classifier that gives a text none, one or several labels,",
        "Labels",
        "labels, probabilities",
    ),
    "regression": (
        "text-classification",
        "A model that gives a text a number (regression),",
        "Outputs",
        "value, standard_deviation",
    ),
    "token": (
        "token-classification",
        "A model that labels the words of a text (token classification),",
        "Tags",
        "words, labels, confidences, agreements, entities",
    ),
}
# How a tuning's artifact becomes a model without `deni`; UniPELT's does not.
EXPORTS = {"prompt": ("--as single --adapter", "PEFT adapter"), "unipelt": None}


def _dequantised(value: Any, name: str) -> Tensor:
    """The weight that 4 bits stand for, in the type of the computation."""
    from bitsandbytes.functional import dequantize_4bit

    if value.quant_state is None:
        raise InputError(f"{name} is quantised in a way that cannot be saved: use bitsandbytes' 4 bits")
    return dequantize_4bit(value.data, value.quant_state)


def card(name: str, info: Mapping[str, Any]) -> str:
    """The model card, in Markdown."""
    pipeline, what, outputs, keys = CARDS[info.get("task", "single_label")]
    strategy, tuning = info.get("strategy", {}), info.get("tuning", {}).get("name", "not stated")
    measured = {key: value for key, value in info.get("metrics", {}).items() if isinstance(value, int | float)}
    rows = [f"| {key} | {value if isinstance(value, int) else f'{value:.4f}'} |" for key, value in measured.items()]
    table = (
        "\n".join(["| metric | value |", "| --- | --- |", *rows]) if rows else "It was not measured when it was saved."
    )
    settings = ", ".join(f"{key} = {value}" for key, value in strategy.get("settings", {}).items())
    labels = ", ".join(f"`{label}`" for label in info["labels"])
    example = '"a text"' if info.get("text_pair_column") is None else '("a text", "another")'
    export = EXPORTS.get(tuning, ("--as single", "transformers model"))
    exported = f"\n`deni export {name} out {export[0]}` writes one ordinary {export[1]}.\n" if export else ""
    return f"""---
library_name: deni
pipeline_tag: {pipeline}
tags: [deni, {pipeline}]
---

# {name}

{what} fine-tuned with [deni](https://arxiv.org/abs/2406.12471): {info["runs"] * info["members"]} member(s)
of one model that vote.

- {outputs}: {labels}
- Base model: {info.get("recipe", {}).get("model", "not stated")}
- Tuning: {tuning}
- Strategy: {strategy.get("name", "not stated")}{f" ({settings})" if settings else ""}
- Schedule: `{info.get("schedule", "")}`, {info.get("member_steps", "?")} member-steps
- Seeds: {info.get("seeds", "not stated")}{f", {own}" if (own := info.get("source_seeds")) else ""}

{table}

```python
import deni

classifier = deni.load("{name}")
classifier([{example}])  # a dictionary for each text: {keys}
```
{exported}"""


# ---- load ----------------------------------------------------------------------------------------------------------


def read_info(folder: str | Path) -> dict[str, Any]:
    """What `deni.json` says; raises ArtifactError for a folder that is no artifact, or one of a later version."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ArtifactError(f"{folder} is no folder: give the folder that `deni train --output` wrote")
    if not (folder / INFO).is_file():
        raise ArtifactError(f"{folder} has no {INFO}: give the folder that `deni train --output` wrote")
    try:
        info = json.loads((folder / INFO).read_text(encoding="utf-8"))
        written = int(info["format"])
        if written <= FORMAT and not (isinstance(info["labels"], list) and int(info["runs"]) >= 1):
            raise ValueError("no labels or runs")
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{folder / INFO} is damaged ({error}): copy or train the model again") from error
    if written > FORMAT:
        raise ArtifactError(
            f"{folder} was written by deni {info.get('deni', '?')} in format {written}, this is deni {__version__} "
            f"and reads up to {FORMAT}: upgrade with pip install --upgrade deni"
        )
    return info


def load(folder: str | Path, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> Classifier:
    """Load an artifact; never runs code from the folder.

    Args:
        folder: what `save` wrote.
        device: where to compute; None for a GPU if there is one.
        dtype: of the weights; None as they were saved.

    Raises:
        ArtifactError: a folder that is no artifact, is damaged, or was written by a later version.

    Example: `deni.load("model/")("where is my parcel")`.
    """
    folder = Path(folder)
    info = read_info(folder)
    if not (folder / "config.json").is_file():
        raise ArtifactError(f"{folder / 'config.json'} is missing: copy or train the model again")
    members, base = _read(folder / MEMBERS), _read(folder / BASE)
    model = _skeleton(folder, info)
    for name, ids in [(name, members.pop(name)) for name in list(members) if name.endswith(IDS)]:
        model.get_parameter(name.removesuffix(IDS)).data.copy_(base[name.removesuffix(IDS)])
        activate(model, ids)
    slots = trainable_slots(model)
    missing = sorted(set(slots) - set(members)) + sorted(
        set(model.state_dict()) - set(slots) - set(base) - _tied(model, slots)
    )
    if missing:
        raise ArtifactError(f"{folder} is incomplete: {missing[0]} is missing; copy or train the model again")
    own = model.state_dict()
    with torch.no_grad():
        for name, value in base.items():
            if name in own and name not in slots:
                own[name].copy_(value)
    runs, size = int(info["runs"]), len(next(iter(members.values())))
    model.eval()
    sources = [Sources(run) for run in range(runs)]
    first = [{name: members[name][run * (size // runs)] for name in slots} for run in range(runs)]
    for name, places in slots.items():
        for module, key in places:
            module._parameters[key].data = first[0][name].clone()  # type: ignore[union-attr]
    try:
        population = Population(model, sources, "stacked", first[1:])
        population.replace({name: members[name] for name in slots}, size // runs)
    except Unstackable:
        population = Population(model, sources, "loop", first[1:])
        population.replace({name: members[name] for name in slots}, size // runs)
    if info.get("diagnostics", {}).get("engine") == "loop":
        population.choose("loop")
    population.eval()
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if target.type != "cpu" or dtype is not None:
        population.to(device=target, dtype=dtype)
    return Classifier(population, AutoTokenizer.from_pretrained(folder), info["labels"], info)


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ArtifactError(f"{path} is missing: copy or train the model again")
    try:
        return load_file(path)
    except Exception as error:  # safetensors has an error class of its own
        raise ArtifactError(f"{path} is truncated or damaged ({error}): copy or train the model again") from error


def _skeleton(folder: Path, info: Mapping[str, Any]) -> nn.Module:
    """The model's shape with the right parameters trainable; its values are put in by the caller."""
    from peft import PeftConfig, get_peft_model

    with global_generators(0), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = AutoConfig.from_pretrained(folder)
        model = auto_class(info.get("task") == task_of(TOKENS)).from_config(config).to(torch.float32)
        if (folder / "adapter_config.json").is_file():
            peft_config = PeftConfig.from_pretrained(folder)
            peft_config.inference_mode = False
            return get_peft_model(model, peft_config)  # type: ignore[return-value]
        if (folder / ADAPTERS).is_file():
            return adapted(model, _adapter_settings(folder / ADAPTERS))
    return model


def _adapter_settings(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArtifactError(f"{path} is damaged ({error}): copy or train the model again") from error


def _tied(model: nn.Module, slots: Mapping[str, Any]) -> set[str]:
    """Other names of parameters that the members hold."""
    held = {id(places[0][0]._parameters[places[0][1]]) for places in slots.values()}
    return {
        name
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if id(parameter) in held and name not in slots
    }


# ---- export --------------------------------------------------------------------------------------------------------


def export(
    folder: str | Path,
    out: str | Path,
    how: Literal["single", "members"] = "single",
    adapter: bool = False,
    merge_lora: Literal["factors", "product"] = "factors",
    overwrite: bool = False,
) -> list[Path]:
    """Write an artifact as ordinary transformers models, or as PEFT adapters.

    Args:
        folder: the artifact.
        out: the folder to write; with `members` it gets a folder for each member.
        how: `single`: the mean of the members; `members`: each of them.
        adapter: as PEFT adapter(s) in place of whole models.
        merge_lora: how LoRA is averaged for `single`, see `deni.schedule.Fork`.

    Returns:
        the folders of the models.

    Raises:
        InputError: the target exists, or holds the artifact; adapters of a fully tuned model; a model with UniPELT.
    """
    if how not in ("single", "members"):
        raise InputError(f"unknown export {how!r}: choose single or members")
    check_outside(out, folder)
    check_free(out, overwrite)
    classifier = load(folder, "cpu")
    population = classifier.population
    if hasattr(population.model, "adapters_config"):
        raise InputError(
            f"{folder} has gates that depend on the text, which no ordinary model and no PEFT adapter has: use it with "
            "deni.load or deni predict"
        )
    if adapter and not hasattr(population.model, "peft_config"):
        raise InputError(f"{folder} is fully tuned and has no adapter: leave --adapter away")
    if not adapter and hasattr(population.model, "peft_config") and not hasattr(population.model, "merge_and_unload"):
        raise InputError(f"{folder} has a prompt, which cannot be merged into the model: add --adapter")
    if how == "single":
        mean = mean_of_products if merge_lora == "product" else mean_of_members
        models = {"": population.full(mean(population.values))}
    else:
        models = {f"member-{member}": population.member(member) for member in range(population.size)}
    plain = population.plain()
    with writing(out, overwrite) as target:
        for name, values in models.items():
            _export_one(plain, values, target / name, adapter, Path(folder))
            classifier.tokenizer.save_pretrained(target / name)
    return [Path(out) / name for name in models]


@torch.no_grad()
def _export_one(plain: nn.Module, values: Mapping[str, Tensor], target: Path, adapter: bool, folder: Path) -> None:
    model = copy.deepcopy(plain)
    embedding = model.get_input_embeddings()  # type: ignore[operator]
    if isinstance(embedding, ActiveEmbedding):
        whole = nn.Embedding(
            embedding.num_embeddings, embedding.embedding_dim, embedding.padding_idx, _weight=embedding.table.clone()
        )
        model.set_input_embeddings(whole)  # type: ignore[operator]
    own = dict(model.named_parameters(remove_duplicate=False))
    for name, value in values.items():
        own[name].copy_(value)
    if adapter:
        from deni.pretrained import MINILM

        base = read_info(folder).get("recipe", {}).get("model")
        for config in model.peft_config.values():  # type: ignore[union-attr, operator]
            # PEFT says the artifact, which is no base model; a hub id works on other machines, too.
            config.base_model_name_or_path = MINILM if base == "minilm" else base or config.base_model_name_or_path
            config.inference_mode = True
        model.save_pretrained(target)  # type: ignore[operator]
    else:
        if hasattr(model, "merge_and_unload"):
            model = model.merge_and_unload()  # type: ignore[operator]
        model.save_pretrained(target)  # type: ignore[operator]
