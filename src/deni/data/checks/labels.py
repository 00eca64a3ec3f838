"""Classes and numbers: how many, how even, and whether they are what the task needs."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from deni.data import keys
from deni.data.checks.finding import MOST_EXAMPLES, Finding, many, severity_of, share_of
from deni.data.columns import LABEL_FLAG
from deni.data.labels import classes_of
from deni.data.texts import Texts
from deni.errors import short, shown

MISSING = {"nan", "nat", "<na>"}  # how a program writes a label that is not there
FEW, UNEVEN = 10, 10  # texts of a class; times the texts of the smallest class
MANY_NUMBERS, FEW_NUMBERS = 20, 5  # different numbers that no classes have, and that no regression has


def class_counts(texts: Texts) -> dict[str, int]:
    """The texts of each class, or type of entity, the largest first; empty for numbers and without labels."""
    counts = Counter(label for own in texts.labels or () for label in classes_of(own, texts.task))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def tag_counts(texts: Texts) -> dict[str, int]:
    """The words of each tag, the commonest first; empty but for words."""
    if texts.labels is None or texts.task != "token":
        return {}
    counts = Counter(tag for tags in texts.labels for tag in tags)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def baseline(counts: dict[str, int]) -> dict[str, float]:
    """What always choosing the largest class scores.

    >>> baseline({"a": 3, "b": 1})
    {'accuracy': 0.75, 'macro_f1': 0.42857142857142855}
    """
    share = max(counts.values()) / sum(counts.values())
    return {"accuracy": share, "macro_f1": 2 * share / (1 + share) / len(counts)}


def learnable(texts: Texts) -> list[Finding]:
    """Labels from which nothing can be learnt: errors."""
    if texts.labels is None:
        return []
    if texts.task == "regression":
        if len(set(texts.labels)) > 1:
            return []
        message = f"all texts have the number {texts.labels[0]}: there is nothing to learn"
        return [Finding("one_number", "error", texts.source, message, len(texts))]
    counts = class_counts(texts)
    if texts.task != "single_label":
        if counts:
            return []
        what = "word has a tag but O" if texts.task == "token" else "text has a label"
        message = f"no {what}; name their column with {LABEL_FLAG}"
        return [Finding("no_labels", "error", texts.source, message, len(texts))]
    if len(counts) > 1:
        return []
    message = (
        f"all {len(texts)} texts have the label {shown(counts)}; "
        f"training needs at least two classes: add texts of another class or name another {LABEL_FLAG}"
    )
    return [Finding("one_class", "error", texts.source, message, len(texts))]


def unknown_labels(train: Texts, held_out: Texts, part: str = "test") -> list[Finding]:
    """Classes of a held-out part that the training part lacks: an error."""
    unknown = sorted(set(class_counts(held_out)) - set(class_counts(train)))
    if not unknown:
        return []
    message = (
        f"no text of {train.source} has the label {shown(unknown)}, so it cannot be learnt: "
        f"add such texts to the training part or drop them from the {part} part"
    )
    return [Finding("unknown_labels", "error", held_out.source, message, len(unknown))]


def small_classes(texts: Texts) -> list[Finding]:
    """Classes of one text, and of few; classes much larger than others."""
    counts, found = class_counts(texts), []
    single = sorted(label for label, count in counts.items() if count == 1)
    few = [label for label, count in counts.items() if 1 < count < FEW]
    if single:
        message = f"only one text has the label {shown(single)}; add more or drop the class"
        found.append(Finding("single_text_classes", "warning", texts.source, message, len(single)))
    if few:
        listed = ", ".join(f"{short(label)} ({counts[label]})" for label in few[:MOST_EXAMPLES])
        more = f" and {len(few) - MOST_EXAMPLES} more" if len(few) > MOST_EXAMPLES else ""
        message = (
            f"{many(len(few), 'class')} of fewer than {FEW} texts: {listed}{more}; few texts teach and test little"
        )
        found.append(Finding("small_classes", "note", texts.source, message, len(few)))
    if counts and max(counts.values()) >= UNEVEN * min(counts.values()):
        (largest, most), *_, (smallest, least) = counts.items()
        message = (
            f"{short(largest)} has {most / least:,.0f} times the texts of {short(smallest)} ({most:,} and {least:,}); "
            f"{'look at macro F1, and try --class-weights' if texts.task == 'single_label' else 'look at F1 of each'}"
        )
        found.append(Finding("uneven_classes", "note", texts.source, message, most))
    return found


def alike_labels(texts: Texts) -> list[Finding]:
    """Labels that differ by case, separators or look-alike letters only."""
    counts = class_counts(texts)
    groups: dict[str, list[str]] = {}
    for label in counts:
        groups.setdefault(keys.label(label), []).append(label)
    alike = [group for group in groups.values() if len(group) > 1]
    if not alike:
        return []
    listed = []
    for group in alike:
        lookalikes = len({keys.label(each, lookalikes=False) for each in group}) > 1
        written = [ascii(each) if lookalikes else repr(each) for each in group]
        listed.append(" and ".join(f"{each} ({many(counts[own])})" for each, own in zip(written, group, strict=True)))
    message = (
        f"labels {listed[0]} differ by case, separators or look-alike letters only"
        f"{f', and {len(alike) - 1} more such' if len(alike) > 1 else ''}; make them one"
    )
    shown_groups = tuple((f"{len(group)} labels", each) for group, each in zip(alike, listed, strict=True))
    return [Finding("alike_labels", "warning", texts.source, message, len(alike), shown_groups[:MOST_EXAMPLES])]


def missing_labels(texts: Texts) -> list[Finding]:
    """Labels that are a missing value, written as text."""
    counts = {label: count for label, count in class_counts(texts).items() if label.casefold() in MISSING}
    if not counts or texts.task == "token":
        return []
    count = sum(counts.values())
    message = (
        f"{share_of(count, len(texts))} with the label {shown(counts)}, as programs write a missing value; "
        "fill in the label or drop the rows, unless it is a class"
    )
    return [Finding("missing_labels", "warning", texts.source, message, count)]


def fitting_task(texts: Texts) -> list[Finding]:
    """Labels that look as if they were of another task, or no labels."""
    if texts.labels is None or texts.task not in ("single_label", "regression") or len(texts) < MANY_NUMBERS:
        return []
    different = set(texts.labels)
    count = len(different)
    if texts.task == "regression":
        if count > FEW_NUMBERS:
            return []
        message = f"only {count} different numbers; --task single_label would learn them as classes"
        return [Finding("few_numbers", "note", texts.source, message, count)]
    parts = {part.strip() for label in different for part in label.split(";")}
    if count > MANY_NUMBERS and _are_numbers(different, len(texts)):
        kind, message = "numbers", f"the labels are {count} different numbers; --task regression reads them so"
    elif any(";" in label for label in different) and len(parts) < count:
        kind = "several_labels"
        message = (
            f"some labels hold a semicolon, and their parts are {len(parts)} labels; --task multi_label splits them"
        )
    elif count > len(texts) / 2:
        kind = "many_classes"
        message = (
            f"{count:,} different labels for {many(len(texts))}; look whether it is the right column ({LABEL_FLAG})"
        )
    else:
        return []
    return [Finding(kind, "warning", texts.source, message, count)]


def bare_texts(texts: Texts) -> list[Finding]:
    """Texts without any of several labels."""
    if texts.labels is None or texts.task != "multi_label" or not class_counts(texts):
        return []
    bare = sum(not own for own in texts.labels)
    if not bare:
        return []
    message = f"{share_of(bare, len(texts))} without a label; right only where no label fits"
    return [Finding("without_label", severity_of(bare, len(texts), 0.5, 10), texts.source, message, bare)]


def number_summary(texts: Texts) -> dict[str, Any]:
    """Mean, standard deviation, quartiles and how many different numbers; empty but for regression."""
    if texts.labels is None or texts.task != "regression":
        return {}
    numbers = np.asarray(texts.labels, dtype=np.float64)
    quartiles = np.quantile(numbers, [0, 0.25, 0.5, 0.75, 1]).tolist()
    return {
        "mean": float(numbers.mean()),
        "sd": float(numbers.std()),
        **dict(zip(("min", "25%", "50%", "75%", "max"), quartiles, strict=True)),
        "different": len(np.unique(numbers)),
    }


def labels_per_text(texts: Texts) -> dict[int, int]:
    """How many texts have how many labels; empty but where a text may have several."""
    if texts.labels is None or texts.task != "multi_label":
        return {}
    return dict(sorted(Counter(map(len, texts.labels)).items()))


def _are_numbers(labels: set[str], texts: int) -> bool:
    """Tell numbers from classes that have numbers: a fraction, or fewer than five texts for each."""
    try:
        numbers = [float(label) for label in labels]
    except ValueError:
        return False
    return any(number % 1 for number in numbers) or texts < 5 * len(numbers)
