"""What `deni inspect` does: what is in a file of texts, before anybody trains on it."""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deni.artifact import load, read_info, read_out_of_fold
from deni.data import Texts, read_data
from deni.data.checks import LABEL_CHECKS, TEXT_CHECKS, Finding, check_held_out
from deni.data.checks.finding import MOST_EXAMPLES, SEVERITIES
from deni.data.checks.labels import class_counts
from deni.data.checks.lengths import PERCENTILES, cut_texts, fitting_length, short_texts, unknown_tokens
from deni.errors import InputError, InputWarning, shown
from deni.labeling.checking import ListedLabel, by_encoder, by_out_of_fold, listed
from deni.models.loading import load_tokenizer, token_limit
from deni.models.tokenizing import token_ids
from deni.outputs import INFO, check_file, write_bytes
from deni.progress import ProgressBar
from deni.tasks import DEFAULT, TASKS
from deni.tasks.remarks import many, severity_of, share_of

MOST_COUNTED = 20_000  # texts whose tokens are counted; evenly spaced where there are more
AT_ONCE = 1000
Advance = Callable[[str], None]


@dataclass(frozen=True)
class Lengths:
    """Texts in tokens of a model, special tokens included.

    Args:
        model: whose tokenizer it is.
        counted: how many texts were tokenized.
        percentiles: tokens at each of `PERCENTILES`.
        limit: tokens that the model reads at most.
        over_limit: the share of longer texts.
        max_length: tokens after which `deni train` would cut.
        cut: how many of the counted texts that cuts.
    """

    model: str
    counted: int
    percentiles: dict[int, int]
    limit: int
    over_limit: float
    max_length: int
    cut: int


@dataclass(frozen=True)
class Part:
    """The figures of one file.

    Args:
        source: the file.
        texts: how many.
        pairs: whether each is a pair.
        labelled: whether they have labels.
        classes: texts of each class, or type of entity, the largest first; empty for numbers and without labels.
        tags: words of each tag, the commonest first; empty but for words.
        labels_per_text: how many texts have how many labels, where there may be several.
        numbers: mean, quartiles and so on, in regression.
        baseline: what always choosing the largest class scores; empty but for one label a text.
        lengths: in tokens; None where the model cannot be loaded.
    """

    source: str
    texts: int
    pairs: bool
    labelled: bool
    classes: dict[str, int]
    tags: dict[str, int] = field(default_factory=dict)
    labels_per_text: dict[int, int] = field(default_factory=dict)
    numbers: dict[str, Any] = field(default_factory=dict)
    baseline: dict[str, float] = field(default_factory=dict)
    lengths: Lengths | None = None


@dataclass(frozen=True)
class Report:
    """What is in a file, and in its test file.

    Args:
        task: what the labels were read as.
        findings: errors, then warnings, then notes; within each the most important first.
        parts: the file, and the test file if there is one.
        wrong_labels: labels that are likely wrong, the likeliest first; None where they were not checked.
    """

    task: str
    findings: tuple[Finding, ...]
    parts: tuple[Part, ...]
    wrong_labels: tuple[ListedLabel, ...] | None = None

    @property
    def error(self) -> Finding | None:
        """What stops training, if something does."""
        return next((each for each in self.findings if each.severity == "error"), None)

    def summary(self) -> str:
        """One or two plain sentences."""
        errors, likely, notes = (sum(each.severity == kind for each in self.findings) for kind in SEVERITIES)
        begin = "Nothing that stops training" if self.parts[0].labelled else "No labels, so nothing to train on yet"
        if errors:
            begin = f"Nothing can be trained on this: {many(errors, 'thing')} to change first"
        counts = [many(likely, "thing") + " to look at"] if likely else []
        counts += [many(notes, "note")] if notes else []
        return f"{begin}. {' and '.join(counts)}." if counts else f"{begin}."

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {"summary": self.summary(), **json.loads(json.dumps(asdict(self)))}

    def save(self, file: str | Path, overwrite: bool = False) -> None:
        """Write it as JSON.

        Raises:
            InputError: a file that exists without `overwrite`, or cannot be written.
        """
        check_file(file, overwrite)
        said = json.dumps(self.as_dict(), indent=1, ensure_ascii=False)
        write_bytes(Path(file), f"{said}\n".encode(errors="backslashreplace"), overwrite, kept="the report is")


def inspect_file(
    file: str | Path,
    *,
    test: str | Path | None = None,
    test_text_column: str | None = None,
    test_text_pair_column: str | None = None,
    test_label_column: str | None = None,
    model: str | None = None,
    wrong_labels: bool = False,
    task: str | None = None,
    label_order: Sequence[str] = (),
    text_column: str | None = None,
    text_pair_column: str | None = None,
    label_column: str | None = None,
    split: str | None = None,
    config_name: str | None = None,
    device: str | None = None,
    progress: bool = False,
) -> Report:
    """Read a file or dataset, and its test file, and run all checks.

    Args:
        file: as in `deni.commands.train.train_file`, and so are the columns, `split` and
            `config_name`; with labels or without.
        test: a file or dataset on which a model will be measured.
        test_text_column, test_text_pair_column, test_label_column: of that file; None for the same as those of `file`,
            or `text` and `label` where it has no column of that name.
        model: whose tokens are counted; None for `minilm`, without tokens where it cannot be loaded. The labels are
            checked, too, by an artifact that was trained with cross-validation: texts that it was trained on by its
            out-of-fold predictions, others by what it predicts.
        wrong_labels: whether any other model checks the labels: a cross-validated regression on its vectors.
        task, label_order: what the labels are, see `deni.data.read_data`; None for what the artifact was trained on,
            else for one label a text.
        label_column: None for the column `label`, if there is one.
        device: where labels are checked, see `deni.models.devices.find_device`.
        progress: show a bar on standard error.

    Raises:
        InputError: a file that cannot be read, a column or a model that is not there.
    """
    info = artifact_info(model)
    if info is not None:
        task = _task_of(info, task, str(model))
        text_pair_column = text_pair_column or info.get("text_pair_column")
        label_order = label_order or (info["labels"] if TASKS[task].ordered else ())
    task = task or DEFAULT
    columns: dict[str, Any] = {"text_column": text_column, "text_pair_column": text_pair_column, "task": task}
    columns["label_order"] = label_order
    with ProgressBar("inspect", unit="parts", shown=progress) as bar:

        def advance(doing: str) -> None:
            bar.update(bar.done, doing)

        advance("reading")
        train, findings = _read(file, label_column, {**columns, "split": split, "config_name": config_name})
        sides = [train]
        if test is not None:
            own_columns = (test_text_column, test_text_pair_column, test_label_column)
            held_out, own = _read_test(test, label_column, columns, own_columns)
            sides.append(held_out)
            advance("leaks")
            findings += [*own, *check_held_out(train, held_out)]
        for name, check in LABEL_CHECKS.items():
            advance(name)
            findings += check(train)
        for name, check in TEXT_CHECKS.items():
            advance(name)
            findings += [finding for texts in sides for finding in check(texts)]
        parts = []
        for texts in sides:
            lengths, own = _lengths(texts, model, advance)
            findings += own
            parts.append(_part(texts, lengths))
    wrong = None
    if train.labels is not None and not any(each.severity == "error" for each in findings):
        wrong, own = _wrong_labels(train, model, info, wrong_labels, device, progress)
        findings += own
    findings = list(dict.fromkeys(findings))  # a model that cannot be loaded, once
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Report(task, tuple(findings), tuple(parts), wrong)


def artifact_info(model: str | Path | None) -> dict[str, Any] | None:
    """The content of `deni.json` of an artifact; None for a model that is none."""
    return read_info(model) if model is not None and (Path(model) / INFO).is_file() else None


def _task_of(info: dict[str, Any], task: str | None, model: str) -> str:
    """What a text has by an artifact; raises InputError where another task is asked for."""
    if task not in (None, info["task"]):
        raise InputError(f"{model} was trained for --task {info['task']}, not {task}: omit --task")
    return info["task"]


def _wrong_labels(
    texts: Texts, model: str | None, info: dict[str, Any] | None, asked: bool, device: str | None, progress: bool
) -> tuple[tuple[ListedLabel, ...] | None, list[Finding]]:
    """Labels that are likely wrong, and what is to be said of them; None where no model checks them.

    Args:
        info: of an artifact.
        asked: whether labels are to be checked by any model.
    """
    kept = None if info is None else read_out_of_fold(str(model))
    if info is not None and kept is None:
        why = (
            f"{model} was trained without --cv, so it has seen the labels that it would have to check: train it with "
            "--cv 5, or give --wrong-labels with an encoder, such as --model minilm"
        )
        if asked:
            raise InputError(why)
        return None, [Finding("no_out_of_fold", "note", texts.source, f"labels were not checked: {why}", len(texts))]
    if kept is not None:
        classifier = load(str(model), device)
        classifier.progress = progress
        found, by = (
            by_out_of_fold(kept, texts, classifier.votes, classifier.temperature),
            f"out-of-fold predictions of {model}",
        )
    elif asked:
        encoder = model or "minilm"
        found = by_encoder(encoder, texts, device, progress)
        by = f"a cross-validated regression on {encoder}"
    else:
        return None, []
    wrong = tuple(listed(texts, found))
    if not wrong:
        return wrong, []
    count = len({each.row for each in wrong})
    message = f"{share_of(count, len(texts))} likely with a wrong label, by {by}; read them and correct the labels"
    examples = tuple((each.row, f"{each.given}, suggested {each.suggested}") for each in wrong[:MOST_EXAMPLES])
    severity = severity_of(count, len(texts), share=0.05, least=5)
    return wrong, [Finding("wrong_labels", severity, texts.source, message, count, examples)]


def _read(file: str | Path, label_column: str | None, columns: dict[str, Any]) -> tuple[Texts, list[Finding]]:
    """The texts, and what is to be said of labels that are missing."""
    name = label_column or "label"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)  # of empty labels: said below
        texts = read_data(file, label_column=label_column, labels_required=False, **columns)
    if texts.labels is not None:
        return texts, []
    if name not in texts.frame.columns:
        has = f"no column {name!r} among {shown(texts.frame.columns)}"
        if label_column is not None:
            raise InputError(f"{texts.source}: {has}; name the right one with --label-column")
        return texts, [Finding("unlabelled", "note", texts.source, f"{has}; name it with --label-column", len(texts))]
    values = texts.frame[name]
    empty = np.flatnonzero(values.isna() | (values.astype(str).str.strip() == ""))
    if len(empty) == len(texts):
        message = f"column {name!r} is empty: no text has a label"
        return texts, [Finding("unlabelled", "note", texts.source, message, len(texts))]
    message = (
        f"{many(len(empty))} of {len(texts):,} without a label, the first at {texts.row(empty[0])}; fill it in or drop "
        "the rows (classes are shown when each text has one)"
    )
    return texts, [Finding("empty_labels", "error", texts.source, message, len(empty))]


def _read_test(
    file: str | Path, label_column: str | None, columns: dict[str, Any], own: tuple[str | None, str | None, str | None]
) -> tuple[Texts, list[Finding]]:
    """The test file, with its own columns, those of the file to train on, or the usual ones.

    Args:
        own: of texts, second texts and labels, where they are named for the test file.
    """
    given = (columns["text_column"], columns["text_pair_column"], label_column)
    choices = [[named] if named else dict.fromkeys((same, None)) for named, same in zip(own, given, strict=True)]
    first = None
    for text, pair, label in itertools.product(*choices):
        try:
            return _read(file, label, {**columns, "text_column": text, "text_pair_column": pair})
        except InputError as error:
            if "no column" not in str(error):
                raise
            first = first or error
    flags = "those of the test file are --test-text-column, --test-text-pair-column and --test-label-column"
    raise InputError(f"{first}; {flags}")


def _lengths(texts: Texts, model: str | None, advance: Advance) -> tuple[Lengths | None, list[Finding]]:
    """Count tokens, of a sample where there are very many texts."""
    try:
        tokenizer = load_tokenizer(model or "minilm", texts.task)
        limit = token_limit(model or "minilm", tokenizer)
    except InputError as error:
        if model is not None:
            raise
        message = f"tokens were not counted: {error}"
        return None, [Finding("no_tokens", "note", texts.source, message, len(texts))]
    if len(texts) > MOST_COUNTED:
        texts = texts.select(np.linspace(0, len(texts) - 1, MOST_COUNTED).astype(int))
    ids: list[list[int]] = []
    for start in range(0, len(texts), AT_ONCE):
        advance("tokens")
        ids += token_ids(tokenizer, texts.select(range(start, min(start + AT_ONCE, len(texts)))))
    lengths = np.array([len(own) for own in ids])
    chosen = fitting_length(lengths, limit)
    found = Lengths(
        model=model or "minilm",
        counted=len(texts),
        percentiles={percent: int(np.ceil(np.percentile(lengths, percent))) for percent in PERCENTILES},
        limit=limit,
        over_limit=float((lengths > limit).mean()),
        max_length=chosen,
        cut=int((lengths > chosen).sum()),
    )
    special = tokenizer.num_special_tokens_to_add(pair=texts.pairs)
    unknown = [own.count(tokenizer.unk_token_id) for own in ids]
    return found, [
        *cut_texts(texts, lengths, chosen),
        *unknown_tokens(texts, lengths, unknown),
        *short_texts(texts, lengths, special),
    ]


def _part(texts: Texts, lengths: Lengths | None) -> Part:
    labels = texts.labels or []
    return Part(
        source=texts.source,
        texts=len(texts),
        pairs=texts.pairs,
        labelled=texts.labels is not None,
        classes=class_counts(texts),
        lengths=lengths,
        **(TASKS[texts.task].figures(labels) if labels else {}),
    )
