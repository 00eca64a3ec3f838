"""A trained population as a function of texts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from deni.artifact.abstention import select, why_no_abstention
from deni.artifact.calibration import temperature_of
from deni.artifact.out_of_fold import OutOfFold
from deni.artifact.scope import Scope
from deni.artifact.turns import in_turn
from deni.data import Text, fed, why_no_text, why_no_words
from deni.engine.module import in_mode
from deni.errors import ArtifactError, InputError, short
from deni.measures import Selection
from deni.models.architectures import head_of
from deni.models.feature_cache import passes_its_input
from deni.models.hugging_face import accepted_inputs, logits_of
from deni.models.pair_rows import pair_batch
from deni.models.pairs import encodes_separately
from deni.models.products import fast_products
from deni.models.reading import told
from deni.population import Population
from deni.progress import ProgressBar
from deni.tasks import Task, find_task, task_of
from deni.tasks.iob2 import first_tokens
from deni.tasks.voting import Combine, vote

if TYPE_CHECKING:
    from deni.artifact.sets import Conformal

# Tokens times members of one forward pass on a CPU. glibc keeps blocks of at most 32 MiB for the next pass, and takes
# larger ones from the system each time: ten members on 32 texts of 50 tokens at once took up to 1.6 times as long.
TOKENS = 2048


class Classifier:
    """A trained population as a function of texts.

    Args:
        population: the members.
        tokenizer: of the model.
        labels: class names in the order of the model's outputs.
        info: the content of `deni.json`, see `deni.artifact.describe`: `vote`, `max_length`, `padding`, ...
        progress: whether to show a bar on standard error while it computes.
        source: the folder that it was loaded from, for messages; None for one that was trained here.
        voters: the members that predict; None for all.
        calibrated: whether probabilities are calibrated, where the artifact has a temperature.
        out_of_fold: predictions for the training texts by models that had not seen them; None without
            cross-validation.
        labeled: where the texts lie that it was trained on, as vectors; None where that is not known.

    Attributes:
        temperature: what the vote's log probabilities, or log odds, are divided by; None for none. It can be set.

    Calling it with a text or a list of texts (tuples of two where it was trained on pairs) gives a dictionary for each:
    `label`, `confidence` (its probability in the vote, from 0 to 1), `agreement` (the share of the members that choose
    it), `entropy` (of the members' mean probabilities, in nats); with a target accuracy also `abstained`. With several
    labels a text: `labels` (those that the vote chooses), `probabilities` (of each label). For regression: `value` and
    `standard_deviation` (of the members around their mean); lists, where a model puts out several numbers.

    For token classification a text is a list of words, or a string, which is split at white space: so a list of strings
    is a list of texts. It gives `words`, `labels`, `confidences`, `agreements` (of each word) and `entities`:
    dictionaries with `type`, `text`, `start` and `stop` (words `start` to `stop - 1`), `confidence` (mean of its words)
    and `agreement` (the share of the members that find this very entity).

    Several threads may use it: they take turns, and each gets what it would get alone.
    """

    def __init__(
        self,
        population: Population,
        tokenizer: PreTrainedTokenizerBase,
        labels: Sequence[str],
        info: Mapping[str, Any],
        progress: bool = False,
        source: Path | None = None,
        voters: Sequence[int] | None = None,
        calibrated: bool = True,
        out_of_fold: OutOfFold | None = None,
        labeled: Scope | None = None,
    ) -> None:
        self.population = population
        self._accepted = accepted_inputs(population.model)
        self._separately = encodes_separately(population.model)
        self.voters, self.labeled = voters, labeled
        known = info.get("task")
        task = task_of(population.model) if known is None else find_task(known)
        self._begin(tokenizer, labels, info, task, progress, source, calibrated, out_of_fold)

    def _begin(
        self,
        tokenizer: PreTrainedTokenizerBase,
        labels: Sequence[str],
        info: Mapping[str, Any],
        task: Task,
        progress: bool,
        source: Path | None,
        calibrated: bool,
        out_of_fold: OutOfFold | None,
    ) -> None:
        """All that is not known from the members."""
        self.tokenizer, self.progress, self.source, self.out_of_fold = tokenizer, progress, source, out_of_fold
        self.labels, self.info, self._task = list(labels), dict(info), task
        self.temperature = temperature_of(self.info) if calibrated else None
        self.combine: Combine = self.info["vote"]["combine"]
        self.max_length: int | None = self.info["max_length"]
        self.padding: str = self.info["padding"]

    @property
    def task(self) -> str:
        """The task, one of `deni.tasks.TASKS`; inferred as transformers does where the artifact does not name it."""
        return self._task.name

    @property
    def pairs(self) -> bool:
        """Whether it was trained on pairs of texts."""
        return self._separately or self.info.get("text_pair_column") is not None

    def __call__(
        self, texts: str | Sequence[Text], batch_size: int = 32, accuracy: float | Selection | None = None
    ) -> list[dict[str, Any]]:
        """Predictions of texts, a dictionary each.

        Args:
            accuracy: answer only where this accuracy is supported, see `selection`; the other texts have
                `abstained` True, and None as their label.
        """
        if accuracy is not None and not isinstance(accuracy, Selection):
            accuracy = self.selection(accuracy)
        one = isinstance(texts, str) or (self.pairs and isinstance(texts, tuple) and isinstance(texts[0], str))
        given: list[Any] = [texts] if one else list(texts)
        if not given:
            return []
        members = torch.from_numpy(self.members(given, batch_size))  # (N, M, C)
        votes = vote(members, self.combine, self.task)
        shown = [words_of(text) for text in given] if self._task.of_words else given
        predictions = self._task.predictions(shown, members, votes, self.labels, self.temperature)
        if accuracy is None:
            return predictions
        abstained = [each["confidence"] <= accuracy.threshold for each in predictions]
        return [
            {**each, **({self._task.answer: None} if left else {}), "abstained": left}
            for each, left in zip(predictions, abstained, strict=True)
        ]

    def predict(
        self, texts: Sequence[Text], batch_size: int = 32, accuracy: float | Selection | None = None
    ) -> list[Any]:
        """The label of each text; its labels, where it or its words can have several; its value, in regression.

        Args:
            accuracy: as in a call; texts without an answer have None.
        """
        return [each[self._task.answer] for each in self(texts, batch_size, accuracy)]

    def selection(self, accuracy: float, calibration: OutOfFold | None = None) -> Selection:
        """Where to answer so that an accuracy is supported: above which confidence, and what share of texts that is.

        Args:
            accuracy: the target, between 0 and 1.
            calibration: predictions for labeled texts that the model has not learned, see
                `deni.commands.calibration.read_calibration`; None for the out-of-fold predictions of its training.

        Raises:
            InputError: a task without an accuracy, no such predictions, or too few of them: says how many would do.
        """
        if why := why_no_abstention(self._task):
            raise InputError(f"a model of {self.task} cannot abstain: {why}")
        predictions = self.out_of_fold if calibration is None else calibration
        if predictions is None:
            raise InputError(
                "the model has no out-of-fold predictions to tell where its accuracy is supported: train it with "
                "--cv 5, or give labeled texts with --calibration FILE"
            )
        return select(predictions, self._task, self.temperature, accuracy)

    def votes(self, texts: Sequence[Text], batch_size: int = 32) -> np.ndarray:
        """Outputs of the vote: `(N, C)` log probabilities; log odds of several labels; numbers for regression; of words
        `(W, C)` log probabilities, those of all texts concatenated. They are calibrated, see `temperature`.
        """
        return self.combined(self.members(texts, batch_size))

    def combined(self, members: np.ndarray, calibrated: bool = True) -> np.ndarray:
        """The vote on the outputs of `members`."""
        votes = vote(torch.from_numpy(members), self.combine, self.task)
        return self._task.temper(votes, self.temperature if calibrated else None).numpy()

    def predict_log_probabilities(
        self, texts: Sequence[Text], batch_size: int = 32, combine: Combine | None = None
    ) -> np.ndarray:
        """The vote: `(N, C)` log probabilities, calibrated, see `temperature`.

        Args:
            combine: another vote than the artifact's: `soft`, `hard` or `parent`; it is not calibrated.

        Raises:
            InputError: a model of several labels, of numbers or of words.
        """
        if not self._task.one_class:
            raise InputError(f"a model of {self.task} has no log probabilities: call it, or use members()")
        members = self.members(texts, batch_size)
        if combine in (None, self.combine):
            return self.combined(members)
        return vote(torch.from_numpy(members), combine, self.task).numpy()

    def members(self, texts: Sequence[Text], batch_size: int = 32) -> np.ndarray:
        """Per-member outputs, uncalibrated: `(N, M, C)` log probabilities; log odds of several labels; numbers for
        regression; of words `(W, M, C)` log probabilities, those of all texts concatenated.

        A text of more tokens than `max_length` is cut there. One of words continues in another row, so that each
        word has a prediction; a word without a token (control characters) has equal probabilities.

        Raises:
            ArtifactError: one of them is NaN.
        """
        result = self.outputs(texts, batch_size)
        if np.isnan(result).any():
            where = "the model" if self.source is None else str(self.source)
            raise ArtifactError(f"{where} predicts NaN: its weights or its configuration are damaged, train it again")
        return result

    @in_turn("population")
    @fast_products()
    @torch.no_grad()
    def outputs(self, texts: Sequence[Text], batch_size: int = 32) -> np.ndarray:
        """As `members`, whatever they are."""
        for at, text in enumerate(texts):
            if why := self.why_unfit(text):
                raise InputError(f"text {at} is {short(text)}: {why}")
        tokens = self._task.of_words
        given: list[Any] = [words_of(text) for text in texts] if tokens else list(texts)
        ends = np.cumsum([len(words) if tokens else 1 for words in given], dtype=int)
        starts = [0, *ends[:-1].tolist()]  # of the text's first row in the result
        order = sorted(range(len(given)), key=lambda at: sum(map(len, given[at])))
        shape = (int(ends[-1]) if len(ends) else 0, self._size, len(self.labels))
        result = torch.full(shape, -math.log(len(self.labels)), dtype=self._dtype)
        read = told(self.source, "cannot compute these texts") if self.source is not None else nullcontext()
        with (
            read,
            self._evaluating(),
            ProgressBar("predict", len(order), shown=self.progress) as bar,
        ):
            for at in range(0, len(order), batch_size):
                texts_of_batch = order[at : at + batch_size]
                batch = self._tokenized([given[row] for row in texts_of_batch])
                rows, places = [starts[text] for text in texts_of_batch], None
                if tokens:
                    rows, places = self._first_tokens(batch, rows)
                self._compute(batch, rows, places, result)
                bar.advance(len(texts_of_batch))
        return result.numpy() if self.voters is None else result[:, list(self.voters)].numpy()

    def conformal(self, level: float, labeled: OutOfFold | None = None) -> Conformal:
        """A function of texts that gives for each the set of labels, or the interval of numbers, with the truth.

        Args:
            level: how often a set should hold it, such as 0.9.
            labeled: predictions for labeled texts that the model has not learned, see
                `deni.commands.calibration.read_calibration`; None for the folds of its cross-validation.

        Raises:
            InputError: a task without sets, nothing to calibrate on, or too few texts: says how many would do.
        """
        from deni.artifact.sets import make_conformal

        return make_conformal(self, level, labeled)

    def scope(self, texts: Sequence[Text], batch_size: int = 32) -> np.ndarray:
        """How unlike the labeled texts each text is, `(N,)`: 99 where it is farther off than 99 % of them.

        It is the Mahalanobis distance of what the first member feeds into its output layer to the mean of the labeled
        texts, as a percentile of the same distances of these, each left out.

        Raises:
            InputError: an artifact without them, or a task of words.
        """
        return self.check_scope().percentiles(self.features(texts, batch_size))

    def check_scope(self) -> Scope:
        """Where the labeled texts lie; raises InputError where that is not known."""
        if self.labeled is None:
            where = "the model" if self.source is None else str(self.source)
            why = f"a task of words ({self.task}) has none" if self._task.of_words else "train it again with deni train"
            raise InputError(f"{where} does not know where its labeled texts lie, which scope needs: {why}")
        return self.labeled

    @in_turn("population")
    @fast_products()
    @torch.no_grad()
    def features(self, texts: Sequence[Text], batch_size: int = 32) -> np.ndarray:
        """What the first member feeds into its output layer: one vector a text, `(N, D)` in float32.

        Raises:
            InputError: a model of words, or one without a single output layer; a text that is none of the model's.
        """
        if self._task.of_words:
            raise InputError(f"a model of {self.task} has a vector for each token, not for each text")
        for at, text in enumerate(texts):
            if why := self.why_unfit(text):
                raise InputError(f"text {at} is {short(text)}: {why}")
        first = 0 if self.voters is None else self.voters[0]
        order = sorted(range(len(texts)), key=lambda at: sum(map(len, texts[at])))
        found: list[Tensor] = []
        with (
            self.population.alone(first) as model,
            _passing(head_of(model)),
            in_mode(self.population.module, training=False),
            ProgressBar("features", len(order), shown=self.progress) as bar,
        ):
            for at in range(0, len(order), batch_size):
                rows = order[at : at + batch_size]
                inputs = self._moved(self._tokenized([texts[row] for row in rows]))
                vectors = torch.cat([logits_of(model(**part)) for part in _parts(inputs, 1)])
                if vectors.dim() != 2 or len(vectors) != len(rows):
                    raise InputError("the model feeds no single vector a text into its output layer")
                found.append(vectors.float().cpu())
                bar.advance(len(rows))
        return torch.cat(found)[np.argsort(order)].numpy() if found else np.empty((0, 0), np.float32)

    @property
    def _size(self) -> int:
        """M, with those that do not vote."""
        return self.population.size

    @property
    def _dtype(self) -> torch.dtype:
        """Of the outputs."""
        doubled = all(value.dtype == torch.float64 for value in self.population.values.values())
        return torch.float64 if doubled else torch.float32

    def _evaluating(self) -> AbstractContextManager[None]:
        """Inside, `_compute` predicts."""
        return in_mode(self.population.module, training=False)

    def _moved(self, batch: Any) -> dict[str, Any]:
        """What the model takes of a batch, on its device."""
        moved = batch.to(next(iter(self.population.values.values())).device)
        return {name: value for name, value in moved.items() if self._accepted is None or name in self._accepted}

    def inputs_of(self, texts: Sequence[Text]) -> dict[str, Tensor]:
        """What the model is given for a batch of texts."""
        batch = self._tokenized(texts)
        batch.pop("overflow_to_sample_mapping", None)
        return self._moved(batch)

    @in_turn("tokenizer")
    def _tokenized(self, texts: Sequence[Text]) -> Any:
        """Inputs of the model, `(B, T)`; where it encodes the texts of a pair separately `(B, T, 2)`."""
        if self._separately:
            return pair_batch(self.tokenizer, texts, self.max_length, self.padding)
        return self.tokenizer(
            **fed(texts, self.task),
            truncation=True,
            max_length=self.max_length,
            padding=self.padding,
            return_tensors="pt",
            **({"return_overflowing_tokens": True} if self._task.of_words else {}),
        )

    def _compute(self, batch: Any, rows: list[int], places: list[int] | None, result: Tensor) -> None:
        """Write per-member outputs of a batch `(B, T)` into rows of the result `(N, M, C)`.

        Args:
            places: which tokens of the batch are meant, counted over all its texts; None for one row a text.
        """
        population = self.population
        inputs = self._moved(batch)
        for chunk in population.module.chunks:
            if self.voters is not None and not any(member in chunk for member in self.voters):
                continue
            population.module.focus(chunk)
            logits = []
            for part in _parts(inputs, len(chunk)):
                outputs = logits_of(population.module(**population.module.fold(part)))
                logits.append(outputs.unflatten(0, (len(chunk), -1)))  # (members in focus, B, C) or (..., T, C)
            own = self._task.outputs(torch.cat(logits, 1))
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

    def why_unfit(self, text: Any) -> str | None:
        """The reason why this is not an input of the model; None if it is one."""
        if self._task.of_words and not isinstance(text, str):
            listed = isinstance(text, list | tuple)
            return why_no_words(text) if listed else "give a list of words, or a string that is split at white space"
        if not self.pairs:
            return why_no_text(text)
        if not (isinstance(text, tuple | list) and len(text) == 2):
            return "the model was trained on pairs, give (text, text)"
        return why_no_text(text[0]) or why_no_text(text[1])


@contextmanager
def _passing(layer: nn.Module) -> Iterator[None]:
    """Inside, a layer returns what it is given."""
    hook = layer.register_forward_hook(passes_its_input)
    try:
        yield
    finally:
        hook.remove()


def words_of(text: Text) -> list[str]:
    """A list of words as it is, a string split at white space."""
    return text.split() if isinstance(text, str) else list(text)


def _parts(inputs: Mapping[str, Tensor], members: int) -> Iterator[dict[str, Tensor]]:
    """A batch in forward passes of so many texts as are computed fastest."""
    ids = inputs["input_ids"]
    texts = max(1, TOKENS // (members * ids[0].numel())) if ids.device.type == "cpu" else len(ids)
    for at in range(0, len(ids), texts):
        yield {name: value[at : at + texts] for name, value in inputs.items()}
