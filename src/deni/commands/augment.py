"""What `deni augment` does: a file of labeled examples becomes a file of augmented texts."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deni.augmentation import Augmenter
from deni.augmentation.journal import Journal, journal_of
from deni.augmentation.making import as_frame, finished_parts, make_texts, warn_of_missing
from deni.data import Texts, local_file, read_data, sides, write_table
from deni.errors import InputError, SettingError
from deni.outputs import check_file, check_output
from deni.randomness import Sources
from deni.tasks import DEFAULT, TASKS, find_task


@dataclass(frozen=True)
class AugmentationRun:
    """A finished or interrupted `deni augment`.

    Args:
        output: the file; None where it was interrupted.
        texts: number of distinct labeled examples.
        finished: how many of them have their new texts.
        made: how many new texts there are.
        journal: where the new texts of an unfinished file are.
    """

    output: Path | None
    texts: int
    finished: int
    made: int
    journal: Path


def augment_file(
    file: str | Path,
    *,
    augmenter: Augmenter,
    output: str | Path,
    n: int = 1,
    text_column: str | None = None,
    label_column: str | None = None,
    split: str | None = None,
    config_name: str | None = None,
    task: str = DEFAULT,
    label_order: Sequence[str] = (),
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = False,
) -> AugmentationRun:
    """Make n new texts of each labeled example and write them with the columns `seed`, `text` and `label`.

    What is made is kept next to the output until that is complete. After an interrupt or a kill the same call
    goes on, and what it writes is what it would have written in one piece.

    Args:
        file: as in `deni.commands.train.train_file`, and so are the columns, `split` and `config_name`.
        output: `.csv`, `.tsv`, `.jsonl` or `.parquet`, also with `.gz`.
        n: new texts per labeled example; duplicates get them once.
        task: what the labels are (`deni.tasks.TASKS`), but none of words: a new text has one label, not
            a tag a word.
        label_order: as in `deni.data.read_data`.
        seed: what the texts are drawn from, each independently of the others.

    Raises:
        InputError: a file, column, text or setting that does not fit, before anything is made; an unfinished output
            of another run.

    Warns:
        InputWarning: fewer than n new texts of a labeled example.
    """
    if n < 1:
        raise SettingError(f"n must be at least 1, not {n}")
    if find_task(task).of_words:
        raise InputError(f"--task {task}: a new text would have no tag for each word; words cannot be augmented")
    if find_task(task).generates:
        raise InputError(f"--task {task}: the answer to another prompt may be another; prompts cannot be augmented")
    _check_file(file, output, overwrite)
    columns = {"text_column": text_column, "label_column": label_column, "split": split, "config_name": config_name}
    texts = read_data(file, **columns, pairs=False, task=task, label_order=label_order)  # type: ignore[arg-type]
    pairs = list(dict.fromkeys(zip(sides(texts.texts)[0], _labels(texts), strict=True)))
    source = Sources(seed).seeds["augmentation"]
    run = {
        "method": augmenter.name,
        **{key: value for key, value in dataclasses.asdict(augmenter).items() if key not in augmenter.incidental},
        **augmenter.decided_by(),
        "n": n,
        "seed": seed,
        "texts": f"{len(pairs)} with digest {_digest(pairs)}",
    }
    journal = Journal(output, run)
    made = finished_parts(journal, len(pairs), n)
    try:
        make_texts(augmenter, pairs, n, source, journal, made, progress)
        frame = as_frame(pairs, made)
        if frame.empty:
            made.clear()
            raise InputError(f"{texts.source}: no new text can be made of any text; choose another --method")
        write_table(frame, output, overwrite)  # the journal keeps it where that fails
    except KeyboardInterrupt:
        made = finished_parts(Journal(output, run), len(pairs), n)  # also what it came in the middle of
        if not made:
            journal.remove()
        return AugmentationRun(None, len(pairs), len(made), sum(map(len, made.values())), journal.path)
    except InputError as error:
        if not made:
            journal.remove()
            raise
        kept = f"{len(made)} of {len(pairs)} texts are finished and kept: the same command goes on from there"
        raise InputError(f"{error} ({kept})") from error
    journal.remove()
    warn_of_missing([text for text, _ in pairs], made, n, output)
    return AugmentationRun(Path(output), len(pairs), len(made), len(frame), journal.path)


def _check_file(file: str | Path, output: str | Path, overwrite: bool) -> None:
    if str(output) == "-":
        raise InputError("--output must be a file: what is made is kept next to it until it is complete")
    inputs = [local_file(str(file)) or file]
    check_output(output, overwrite, inputs=inputs)
    check_file(journal_of(output), overwrite=True, inputs=inputs)


def _labels(texts: Texts) -> list[str]:
    assert texts.labels is not None
    return [TASKS[texts.task].written(label) for label in texts.labels]


def _digest(pairs: Sequence[tuple[str, str]]) -> str:
    return hashlib.blake2b(json.dumps(pairs).encode(), digest_size=8).hexdigest()
