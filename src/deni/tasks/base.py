"""What a task is: everything that depends on the kind of labels, from parsing a column to wording a report.

A task is a file: a subclass of `Task` with `@register`. No code outside of this package asks a task for its name.

    the column    parse -> labels -> class_names, encode
    training      member_losses
    predicting    outputs -> vote -> choose
    measuring     scores, scores_by_class, examine
    showing       predictions, table, and the words of the model card and the report
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from deni.errors import InputError, SettingError, did_you_mean, short
from deni.tasks.losses import counted_rows

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from torch import Tensor

    from deni.tasks.column import Column
    from deni.tasks.examining import Evaluation
    from deni.tasks.losses import Soft
    from deni.tasks.remarks import Remark
    from deni.tasks.voting import Combine

DEFAULT = "single_label"
Pipeline = Literal["text-classification", "token-classification", "text-generation"]
ByWeight = Callable[[Any], Any]  # arrays: how often each text counts, (R, N) -> scores (R,)


class Task:
    """The kind of labels that texts have, and all that follows from it.

    Shapes: N texts (of words: all words of all texts), M members, C outputs of the model. Outputs are log
    probabilities of classes, log odds of labels, or numbers.

    Attributes:
        name: as `--task` has it.
        help: what a text has, in a few words.
        problem_type: what transformers calls it in `config.problem_type`, which decides the loss of a plain model.
        loss_type: what transformers calls the loss of the class of models, where the class alone tells the task.
        of_words: whether a text is a list of words, each with a label.
        generates: whether a label is a text that a language model generates, token by token.
        distribution: whether the C outputs are one distribution over classes; gold is then a class number.
        chooses: whether a prediction is right or wrong; numbers are near or far.
        ordered: whether the classes have an order, which the user may give.
        own_loss: whether its loss is another than that of a model with its `problem_type`.
        class_weights: whether its loss can be weighted by class.
        metrics: names of all metrics, in the order in which they are shown.
        headline: the metric that the report of a training leads with.
        compared: the metric by which studies compare strategies; "" where studies do not take the task.
        best: the metric by which the best epoch is chosen.
        best_is_highest: whether more of it is better.
        least: the lowest value that the headline can have; the highest is 1.
        in_points: whether the headline is shown in points (times 100).
        chance: `compared` of a model that always gives the same answer, where that is the same for all texts.
        uneven: what to do about classes of very different size.
        answer: the key of a prediction with what was chosen.
        prediction_types: the keys of a prediction, and the type of each.
        columns: what the columns of texts and labels are called, unless they are named.
        rates: the learning rates of full fine-tuning and of adapters; None for those of the tuning.
        plain: values of open fields of `deni.recipe.Recipe` that are others than its plain ones.
        pipeline: the tag of a model's pipeline on the hub.
        model_is: what a model of it is, for the model card.
        outputs_are: what the C outputs are called there.
        examples: what is labeled, in the report.
        unsure: caption of the list of texts about which the members know little.
        unsure_because: why these are worth reading.
        unsure_unit: what the list is sorted by.
    """

    name: ClassVar[str]
    help: ClassVar[str]
    problem_type: ClassVar[str | None] = None
    loss_type: ClassVar[str | None] = None
    of_words: ClassVar[bool] = False
    generates: ClassVar[bool] = False
    distribution: ClassVar[bool] = False
    chooses: ClassVar[bool] = True
    ordered: ClassVar[bool] = False
    own_loss: ClassVar[bool] = False
    class_weights: ClassVar[bool] = False

    metrics: ClassVar[tuple[str, ...]]
    headline: ClassVar[str]
    compared: ClassVar[str] = ""
    best: ClassVar[str]
    best_is_highest: ClassVar[bool] = True
    least: ClassVar[float] = 0.0
    in_points: ClassVar[bool] = True
    chance: ClassVar[float] = float("nan")

    uneven: ClassVar[str] = "look at F1 of each"
    answer: ClassVar[str] = "labels"
    prediction_types: ClassVar[Mapping[str, Any]] = {}
    columns: ClassVar[tuple[str, str]] = ("text", "label")
    rates: ClassVar[tuple[float, float] | None] = None
    plain: ClassVar[Mapping[str, Any]] = {}
    pipeline: ClassVar[Pipeline] = "text-classification"
    model_is: ClassVar[str]
    outputs_are: ClassVar[str]
    examples: ClassVar[str] = "texts"
    unsure: ClassVar[str] = "Test texts with the highest predictive entropy, in nats"
    unsure_because: ClassVar[str] = "their labels may be wrong, or their classes may overlap"
    unsure_unit: ClassVar[str] = "entropy"

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of a prediction."""
        return tuple(self.prediction_types)

    @property
    def takes_soft(self) -> bool:
        """Whether its loss takes soft targets and weights of rows; that of a task of the user's may not."""
        loss = (self.member_losses, self.difference, self.items)
        return all("soft" in inspect.signature(each).parameters for each in loss)

    @property
    def by_token(self) -> bool:
        """Whether the outputs of a model have an axis of tokens."""
        return self.of_words or self.generates

    @property
    def one_class(self) -> bool:
        """Whether each text has exactly one class."""
        return self.distribution and not self.of_words

    @property
    def several(self) -> bool:
        """Whether a text may stand for several classes."""
        return self.chooses and not self.one_class

    @property
    def compares_classes(self) -> bool:
        """Whether studies compare macro F1 of one class a text, which `deni.measures` has from predictions alone."""
        return self.one_class and self.compared == "macro_f1"

    # ---- the column ------------------------------------------------------------------------------------------------

    def parse(self, column: Column) -> list[Any] | None:
        """The labels of a column, checked; None where an empty one leaves none to read.

        Raises:
            InputError: one line that names the file, the row and the column, and what to do.
        """
        raise NotImplementedError

    def order_of(self, column: Column) -> tuple[str, ...]:
        """The classes of a column in their order; empty for a task whose classes have none.

        Raises:
            InputError: an order that is given for classes that have none.
        """
        if column.order:
            ordered = ", ".join(name for name, task in TASKS.items() if task.ordered)
            raise InputError(f"an order of the labels is for --task {ordered}, not {self.name}: omit --label-order")
        return ()

    def classes_in(self, label: Any) -> tuple[str, ...]:
        """The classes that a text with this label stands for."""
        return ()

    def class_names(self, labels: Sequence[Any], order: Sequence[str] = ()) -> list[str]:
        """Names of the C outputs, in order.

        Args:
            labels: as `parse` gives them.
            order: as `order_of` gives it.
        """
        raise NotImplementedError

    def written(self, label: Any) -> str:
        """A label as a column of a file has it."""
        return str(label)

    def encode(self, labels: Sequence[Any], classes: Sequence[str], source: str) -> list[Any]:
        """Labels as the numbers that the loss and the metrics take.

        Args:
            classes: names of the C outputs.
            source: the file, for messages.

        Raises:
            InputError: a label that is none of the classes.
        """
        raise NotImplementedError

    # ---- for `deni inspect` ------------------------------------------------------------------------------------------

    def unlearnable(self, labels: Sequence[Any], flag: str) -> Remark | None:
        """Why nothing can be learned from these labels; None if something can.

        Args:
            flag: what names the column.
        """
        return None

    def remarks(self, labels: Sequence[Any], flag: str) -> list[Remark]:
        """Labels that look as if they were of another task, or are not there."""
        return []

    def figures(self, labels: Sequence[Any]) -> dict[str, Any]:
        """Fields of `deni.commands.inspect.Part` that only this task has."""
        return {}

    # ---- training ----------------------------------------------------------------------------------------------------

    def member_losses(
        self,
        logits: Tensor,
        labels: Tensor,
        members: int,
        weight: Tensor | None = None,
        soft: Soft | None = None,
    ) -> Tensor:
        """The mean loss of each member, `(M,)`.

        Args:
            logits: folded, `(M*B, C)`, or `(M*B, T, C)` of words.
            labels: folded, as `encode` gives them; of words `(M*B, T)`, -100 where there is none.
            members: M.
            weight: of each class, `(C,)`, for tasks with `class_weights`.
            soft: targets in place of the labels, and how much each row counts; None: the labels, and all alike. One-hot
                targets and equal weights give what the labels give.
        """
        raise NotImplementedError

    def difference(
        self,
        first: Tensor,
        other: Tensor,
        labels: Tensor,
        members: int,
        weight: Tensor | None = None,
        soft: Soft | None = None,
    ) -> Tensor:
        """How far apart two predictions for the same rows are, the mean of each member `(M,)`.

        Rows, words and classes count as in the loss.

        Args:
            first, other: logits, see `member_losses`; so are the other arguments.
        """
        raise NotImplementedError

    def contrast(
        self,
        features: Tensor,
        labels: Tensor,
        members: int,
        temperature: float,
        weight: Tensor | None = None,
        soft: Soft | None = None,
    ) -> Tensor:
        """The supervised contrastive loss of each member, `(M,)`, see `deni.tasks.losses.supervised_contrast`.

        Args:
            features: folded, `(M*B, D)`.
            temperature: above 0.
            labels, members, weight, soft: as of `member_losses`.

        Raises:
            SettingError: a task without one class a text.
        """
        raise SettingError(f"a contrastive loss needs one class a text, which the task {self.name} does not have")

    def items(self, labels: Tensor, weight: Tensor | None = None, soft: Soft | None = None) -> Tensor:
        """How much each row `(B,)` counts in the mean loss; arguments as of `member_losses`."""
        return counted_rows(labels, soft)

    def fit_output_layer(
        self,
        features: np.ndarray,
        labels: np.ndarray,
        classes: int,
        c: float,
        intercept: bool,
        weight: np.ndarray | None = None,
        rows: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """A regularized regression in place of an output layer: weight `(C, D)` and bias `(C,)`.

        Args:
            features: standardized, `(N, D)`.
            labels: as `encode` gives them, `(N,)` or `(N, C)`.
            c: inverse strength of the L2 penalty, above 0.
            intercept: whether there is a bias; without one it is 0.
            weight: of each class, `(C,)`, for tasks with `class_weights`; their size plays no part.
            rows: how much each row counts, `(N,)`, above 0; None: all alike. Their size plays no part.
        """
        raise NotImplementedError

    # ---- predicting --------------------------------------------------------------------------------------------------

    def outputs(self, logits: Tensor) -> Tensor:
        """Outputs of logits `(..., C)`, in float32 or better: log probabilities, log odds, or numbers."""
        raise NotImplementedError

    def vote(self, outputs: Tensor, combine: Combine = "soft") -> Tensor:
        """Members `(B, M, C)`, or `(B, M, T, C)`, as one `(B, C)`, or `(B, T, C)`; see `deni.tasks.voting.vote`."""
        raise NotImplementedError

    def as_logits(self, votes: Tensor) -> Tensor:
        """A vote as finite as the loss needs it."""
        return votes

    def temper(self, votes: Tensor, temperature: float | None) -> Tensor:
        """A vote with calibrated probabilities: divided by a temperature and, of classes, normalized.

        In float64, in which no two float32 numbers become equal: what is chosen stays. Without a temperature, and of
        numbers, the vote itself.

        Args:
            votes: `(..., C)`, as `vote` gives them.
        """
        if temperature is None or not self.chooses:
            return votes
        scaled = votes.double() / temperature
        return scaled.log_softmax(-1) if self.distribution else scaled

    def choose(self, outputs: Any) -> Any:
        """Classes `(...)`, or whether each label is there `(..., C)`, of an array or tensor; None for numbers."""
        raise NotImplementedError

    # ---- measuring ---------------------------------------------------------------------------------------------------

    def scores(self, gold: Sequence[Any], votes: np.ndarray, classes: Sequence[str] = ()) -> dict[str, float]:
        """All `metrics`.

        Args:
            gold: as `encode` gives them.
            votes: `(N, C)`; of words those of all texts, concatenated.
            classes: names of the C outputs.
        """
        raise NotImplementedError

    def headline_by_weight(self, gold: Sequence[Any], votes: np.ndarray, classes: Sequence[str]) -> ByWeight:
        """The headline of these predictions as a function of how often each text counts, for a bootstrap over texts.

        Arguments as those of `scores`.
        """
        raise NotImplementedError

    def scores_by_class(self, gold: Sequence[Any], votes: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
        """F1 of each class; empty for numbers. Arguments as those of `scores`."""
        return {}

    def disagreement(self, members: np.ndarray) -> float:
        """Share of the examples on which two of the members `(N, M, C)` choose differently, mean over pairs."""
        from deni.measures import pairwise_disagreement

        return pairwise_disagreement(self._flat(members.swapaxes(0, 1)))

    def differs(self, member: np.ndarray, votes: np.ndarray) -> float | None:
        """Share of the examples on which one member `(N, C)` chooses other than the vote; None for numbers."""
        return float((self._flat(member[None]) != self._flat(votes[None])).mean())

    def _flat(self, outputs: np.ndarray) -> np.ndarray:
        return self.choose(outputs).reshape(len(outputs), -1).astype(int)

    def examine(
        self, evaluation: Evaluation, classes: Sequence[str], generator: np.random.Generator
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Fields of `deni.analysis.performance.Performance`, and why some are missing: part -> sentence."""
        raise NotImplementedError

    # ---- showing -----------------------------------------------------------------------------------------------------

    def predictions(
        self,
        texts: Sequence[Any],
        members: Tensor,
        votes: Tensor,
        classes: Sequence[str],
        temperature: float | None = None,
    ) -> list[dict[str, Any]]:
        """The prediction of each text as a dictionary: `keys`.

        Args:
            texts: the texts; words are lists.
            members: `(N, M, C)`.
            votes: `(N, C)`.
            classes: names of the C outputs.
            temperature: of the vote, see `temper`.
        """
        raise NotImplementedError

    def table(self, predictions: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> pd.DataFrame:
        """Predictions as the columns that `deni predict` writes."""
        import pandas as pd

        return pd.DataFrame(predictions, columns=list(self.keys))


TASKS: dict[str, Task] = {}
_T = TypeVar("_T", bound=type[Task])


def register(cls: _T) -> _T:
    """Put a task into `TASKS`."""
    TASKS[cls.name] = cls()
    return cls


def find_task(name: Any) -> Task:
    """The task of this name; raises SettingError for a name that does not exist."""
    if not isinstance(name, str) or name not in TASKS:
        raise SettingError(f"unknown task {short(name)}: {did_you_mean(str(name), TASKS)}")
    return TASKS[name]


def unknown_label(source: str, row: int, label: str, classes: Sequence[str]) -> InputError:
    """The error for a label that is none of the classes; `row` counts the texts from 1."""
    known = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
    return InputError(f"{source}: text {row} has label {label!r}, which training never saw (it saw {known})")
