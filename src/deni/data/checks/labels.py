"""Classes and numbers: how many, how even, and whether they are what the task needs."""

from __future__ import annotations

from collections import Counter

from deni.data import keys
from deni.data.checks.finding import MOST_EXAMPLES, Finding
from deni.data.columns import LABEL_FLAG
from deni.data.texts import Texts
from deni.errors import short, shown
from deni.tasks import TASKS
from deni.tasks.remarks import many, share_of

MISSING = {"nan", "nat", "<na>"}  # how a program writes a label that is not there
FEW, UNEVEN = 10, 10  # texts of a class; times the texts of the smallest class


def class_counts(texts: Texts) -> dict[str, int]:
    """The texts of each class, or type of entity, the largest first; empty for numbers and without labels."""
    counts = Counter(label for own in texts.labels or () for label in TASKS[texts.task].classes_in(own))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def learnable(texts: Texts) -> list[Finding]:
    """Labels from which nothing can be learned: errors."""
    remark = None if texts.labels is None else TASKS[texts.task].unlearnable(texts.labels, LABEL_FLAG)
    return [] if remark is None else [Finding.of(remark, texts)]


def unknown_labels(train: Texts, held_out: Texts, part: str = "test") -> list[Finding]:
    """Classes of a held-out split that the training split lacks: an error."""
    unknown = sorted(set(class_counts(held_out)) - set(class_counts(train)))
    if not unknown:
        return []
    message = (
        f"no text of {train.source} has the label {shown(unknown)}, so it cannot be learned: "
        f"add such texts to the training split or drop them from the {part} split"
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
            f"{TASKS[texts.task].uneven}"
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
    if not counts or TASKS[texts.task].of_words:
        return []
    count = sum(counts.values())
    message = (
        f"{share_of(count, len(texts))} with the label {shown(counts)}, as programs write a missing value; "
        "fill in the label or drop the rows, unless it is a class"
    )
    return [Finding("missing_labels", "warning", texts.source, message, count)]


def fitting_task(texts: Texts) -> list[Finding]:
    """Labels that look as if they were of another task, or that some texts lack."""
    remarks = [] if texts.labels is None else TASKS[texts.task].remarks(texts.labels, LABEL_FLAG)
    return [Finding.of(remark, texts) for remark in remarks]
