"""A tag for each word of a text (IOB2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from deni.errors import InputError, short
from deni.tasks import examining, losses, metrics, probing, voting
from deni.tasks.base import ByWeight, Task, register, unknown_label
from deni.tasks.column import Column, listed, warn
from deni.tasks.iob2 import entities_of, misplaced, type_of, whole
from deni.tasks.remarks import Remark

if TYPE_CHECKING:
    from torch import Tensor


@register
class Token(Task):
    """A class for each word, learned at its first token: softmax, cross-entropy, F1 of entities."""

    name = "token"
    help = "a tag for each word"
    loss_type = "ForTokenClassification"
    of_words = True
    distribution = True
    metrics = ("entity_f1", "entity_precision", "entity_recall", "accuracy")
    headline = best = "entity_f1"
    prediction_types: ClassVar = {
        "words": list[str],
        "labels": list[str],
        "confidences": list[float],
        "agreements": list[float],
        "entities": list[dict[str, str | int | float]],
    }
    pipeline = "token-classification"
    model_is = "A model that labels the words of a text (token classification),"
    outputs_are = "Tags"
    examples = "words"

    # ---- the column ------------------------------------------------------------------------------------------------

    def parse(self, column: Column) -> list[tuple[str, ...]]:
        """A tag for each word, from lists or strings; warns where they are not IOB2."""
        labels: list[tuple[str, ...]] = []
        odd: list[tuple[int, str]] = []
        for at, (value, text) in enumerate(zip(column.lists() or column.values, column.texts, strict=True)):
            where, tags = column.where(at), listed(value)
            if tags is None:
                raise InputError(f"{where}: {short(value)} where a list of tags, or a string of tags, was expected")
            for place, tag in enumerate(tags, start=1):
                if not isinstance(tag, str) or not tag or tag.split() != [tag]:
                    raise InputError(
                        f"{where}: tag {place} is {short(tag)}, not a name such as B-PER or O; write names without "
                        "blanks (numbers of Hugging Face's ner_tags have theirs in the features of the dataset)"
                    )
            if len(tags) != len(text):
                raise InputError(
                    f"{where}: {len(tags)} tags for the {len(text)} words of {column.text_name!r}; give each word one "
                    "tag"
                )
            if (first := misplaced(tags)) is not None:
                odd.append((at, tags[first]))
            labels.append(tuple(tags))
        if odd:
            at, tag = odd[0]
            warn(
                f"{column.source}: the tags of {len(odd)} text(s) are not IOB2 (B-TYPE begins an entity, I-TYPE goes "
                f"on, O is outside), such as {short(tag)} at {column.row(at)}; scores of entities take them as seqeval "
                "does"
            )
        return labels

    def classes_in(self, label: Any) -> tuple[str, ...]:
        """The types of its entities."""
        return tuple(sorted({type_of(tag) for tag in label} - {"O"}))

    def class_names(self, labels: Sequence[Any], order: Sequence[str] = ()) -> list[str]:
        return whole({tag for tags in labels for tag in tags})

    def written(self, label: Any) -> str:
        return " ".join(label)

    def encode(self, labels: Sequence[Any], classes: Sequence[str], source: str) -> list[list[int]]:
        """A class number for each word."""
        numbers = {label: at for at, label in enumerate(classes)}
        for row, tags in enumerate(labels, start=1):
            for tag in tags:
                if tag not in numbers:
                    raise unknown_label(source, row, tag, classes)
        return [[numbers[tag] for tag in tags] for tags in labels]

    # ---- for `deni inspect` ------------------------------------------------------------------------------------------

    def unlearnable(self, labels: Sequence[Any], flag: str) -> Remark | None:
        if any(map(self.classes_in, labels)):
            return None
        return Remark("no_labels", "error", f"no word has a tag but O; name their column with {flag}", len(labels))

    def figures(self, labels: Sequence[Any]) -> dict[str, Any]:
        """The words of each tag, the commonest first."""
        counts = Counter(tag for tags in labels for tag in tags)
        return {"tags": dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))}

    # ---- training and predicting -------------------------------------------------------------------------------------

    def member_losses(
        self,
        logits: Tensor,
        labels: Tensor,
        members: int,
        weight: Tensor | None = None,
        soft: losses.Soft | None = None,
    ) -> Tensor:
        return losses.cross_entropy(logits, labels, members, weight, soft)

    def difference(
        self,
        first: Tensor,
        other: Tensor,
        labels: Tensor,
        members: int,
        weight: Tensor | None = None,
        soft: losses.Soft | None = None,
    ) -> Tensor:
        """The symmetric Kullback-Leibler divergence of two distributions over classes."""
        return losses.of_distributions(self.outputs(first), self.outputs(other), labels, members, weight, soft)

    def items(self, labels: Tensor, weight: Tensor | None = None, soft: losses.Soft | None = None) -> Tensor:
        counts = losses.counted(labels, weight, soft=soft)
        return counts.flatten(1).sum(1) if labels.dim() > 1 else counts

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
        return probing.on_classes(features, labels, classes, c, intercept, weight, rows)

    def outputs(self, logits: Tensor) -> Tensor:
        """Log probabilities."""
        return voting.at_least_float32(logits).log_softmax(-1)

    def vote(self, outputs: Tensor, combine: voting.Combine = "soft") -> Tensor:
        return voting.on_classes(outputs, combine)

    def choose(self, outputs: Any) -> Any:
        return outputs.argmax(-1)

    # ---- measuring ---------------------------------------------------------------------------------------------------

    def scores(self, gold: Sequence[Any], votes: np.ndarray, classes: Sequence[str] = ()) -> dict[str, float]:
        """seqeval's, over all entities of all types; accuracy is that of words."""
        chosen = np.asarray(votes).argmax(-1)
        every = metrics.of_entities(gold, chosen, classes)["micro avg"]
        return {
            "entity_f1": every["f1-score"],
            "entity_precision": every["precision"],
            "entity_recall": every["recall"],
            "accuracy": float(np.mean(np.concatenate(gold) == chosen)),
        }

    def headline_by_weight(self, gold: Sequence[Any], votes: np.ndarray, classes: Sequence[str]) -> ByWeight:
        return examining.f1_by_weight(*_entities(gold, votes.argmax(-1), classes))

    def scores_by_class(self, gold: Sequence[Any], votes: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
        """F1 of each type of entity."""
        report = metrics.of_entities(gold, votes.argmax(-1), classes)
        return {kind: report[kind]["f1-score"] for kind in sorted(report) if not kind.endswith(" avg")}

    def examine(
        self, evaluation: examining.Evaluation, classes: Sequence[str], generator: np.random.Generator
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """A word is an example; an interval is over texts, in which words belong together."""
        from deni.measures import Estimate, mutual_information, predictive_entropy

        gold, chosen = np.concatenate(evaluation.gold), evaluation.votes.argmax(-1)
        _, found = examining.of_choices(classes, gold, chosen, evaluation.votes)
        ends = np.cumsum([len(each) for each in evaluation.gold])[:-1]
        starts = [0, *ends]
        hits, sizes = _entities(evaluation.gold, chosen, classes)
        total, part = predictive_entropy(evaluation.members), mutual_information(evaluation.members)
        words = [int(start + own.argmax()) for start, own in zip(starts, np.split(total, ends), strict=True)]
        uncertain = []
        for at in examining.largest(total[words]):
            word = words[at]
            shown = evaluation.texts.texts[at][word - starts[at]]
            uncertain.append(
                examining.UncertainText(
                    (" ".join(evaluation.texts.texts[at]), f"word: {shown}"),
                    classes[gold[word]],
                    classes[chosen[word]],
                    float(total[word]),
                    float(part[word]) if evaluation.members.shape[1] > 1 else None,
                )
            )
        most = np.bincount(gold).argmax()
        return {
            **found,
            "score": Estimate(evaluation.metrics["entity_f1"], *examining.f1_interval(hits, sizes, generator)),
            "chance": {"accuracy of words": (evaluation.metrics["accuracy"], float(np.mean(gold == most)))},
            "always": classes[int(most)],
            "uncertain": uncertain,
        }, {}

    # ---- showing -----------------------------------------------------------------------------------------------------

    def predictions(
        self,
        texts: Sequence[Any],
        members: Tensor,
        votes: Tensor,
        classes: Sequence[str],
        temperature: float | None = None,
    ) -> list[dict[str, Any]]:
        result, end, calibrated = [], 0, self.temper(votes, temperature)
        for words in texts:
            at = slice(end, end := end + len(words))
            best = votes[at].max(-1).indices
            predicted = members[at].argmax(-1)  # (words, M)
            labels = [classes[label] for label in best.tolist()]
            confidences = calibrated[at].gather(-1, best[:, None])[:, 0].exp().tolist()
            found = [set(entities_of([classes[label] for label in own])) for own in predicted.T.tolist()]
            result.append(
                {
                    "words": words,
                    "labels": labels,
                    "confidences": confidences,
                    "agreements": (predicted == best[:, None]).double().mean(1).tolist(),
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

    def table(self, predictions: Any, classes: Sequence[str]) -> Any:
        """Without the words, which the file has, and the entities, which the labels name."""
        import pandas as pd

        return pd.DataFrame(predictions, columns=["labels", "confidences", "agreements"])


def _entities(gold: Sequence[Any], chosen: np.ndarray, classes: Sequence[str]) -> tuple[list[int], list[int]]:
    """Of each text how many entities are right, and how many there are in gold and prediction together."""
    from seqeval.metrics.sequence_labeling import get_entities

    names = np.array(classes, dtype=object)
    hits, sizes = [], []
    for right, predicted in zip(gold, np.split(chosen, np.cumsum([len(each) for each in gold])[:-1]), strict=True):
        one, other = (set(get_entities(names[each].tolist())) for each in (np.asarray(right), predicted))
        hits.append(len(one & other))
        sizes.append(len(one) + len(other))
    return hits, sizes
