"""What `deni compare` does: which answers change from one model to another, and whether another seed does as much."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deni.artifact import Classifier, load
from deni.artifact.classifier import words_of
from deni.commands.reading import read_for_model
from deni.data import Texts, write_table
from deni.errors import InputError, shown
from deni.inputs import check_store
from deni.measures import (
    Estimate,
    paired_difference,
    share_with_interval,
    sign_test,
    signed_rank_test,
)
from deni.models.tokenizing import encode
from deni.outputs import check_output
from deni.provenance import canonical
from deni.randomness import derive
from deni.study.store.database import Store
from deni.study.store.rows import Row
from deni.study.vote import voter
from deni.tasks import TASKS, Task
from deni.tasks.metrics import called

MOVED = 0.1  # SDs of the first model's numbers: what counts as another answer in regression
BETTER, WORSE, OTHER = "better", "worse", "other"


@dataclass(frozen=True)
class SeedNoise:
    """How many answers change where only the seed does: the measure of what a change means.

    Args:
        source: `folds` (cross-validations), `study`, `runs` (independent members) or `members` (of one run).
        rate: share of the texts with another answer, mean over pairs; in regression the mean distance.
        said: of which models, in words.
        at_least: whether another seed changes more than that, since the models share a part of their training.
    """

    source: str
    rate: float
    said: str
    at_least: bool = False


@dataclass(frozen=True)
class Comparison:
    """Two models on the same texts.

    Args:
        models: their names, as given.
        task: of both, see `deni.tasks.TASKS`.
        texts: N.
        changed: how many have another answer; in regression one that moved by more than `MOVED` SDs.
        churn: the share of these with its interval; in regression the mean distance of the numbers.
        seed_noise: what another seed changes, the nearest to the question first; empty where nothing says it.
        rows: the changed texts: `line`, `text`, `model_a`, `model_b`, and with labels `label` and `change`.
        scores: metric -> of each model; empty without labels, as all that follows.
        difference: of the headline score, second minus first, with a 95 % interval over other texts.
        better, worse: texts on which the second model is nearer to the label, or farther from it.
        p_value: of `better` against `worse`, `deni.measures.sign_test`.
        rank_p_value: in regression of Wilcoxon's test.
    """

    models: tuple[str, str]
    task: str
    texts: int
    changed: int
    churn: Estimate
    seed_noise: Sequence[SeedNoise]
    rows: pd.DataFrame = field(repr=False)
    scores: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    difference: Estimate | None = None
    better: int | None = None
    worse: int | None = None
    p_value: float | None = None
    rank_p_value: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        found: dict[str, Any] = {
            "models": list(self.models),
            "task": self.task,
            "texts": self.texts,
            "changed": self.changed,
            "churn": _json(self.churn),
            "seed_noise": [vars(each) for each in self.seed_noise],
        }
        if self.difference is not None:
            found |= {
                "scores": {name: list(each) for name, each in self.scores.items()},
                "difference": {"metric": TASKS[self.task].headline, **_json(self.difference)},
                **{name: getattr(self, name) for name in ("better", "worse", "p_value")},
            }
        if self.rank_p_value is not None:
            found["rank_p_value"] = self.rank_p_value
        return {**found, "verdict": state_verdict(self), "rows": self.rows.to_dict("records")}


def compare_files(
    model_a: str | Path,
    model_b: str | Path,
    file: str | Path,
    *,
    study: str | Path | None = None,
    output: str | Path | None = None,
    overwrite: bool = False,
    text_column: str | None = None,
    text_pair_column: str | None = None,
    label_column: str | None = None,
    split: str | None = None,
    config_name: str | None = None,
    device: str | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Comparison:
    """Compare what two models answer on a file of texts, with labels or without.

    Args:
        model_a, model_b: folders, as `deni.load` takes them; of one kind of task.
        file: as in `deni.commands.evaluate.evaluate_file`, and so are the columns, `split` and `config_name`.
        study: a store of `deni study run`: how often its seeds disagree is what the change is measured by.
        output: where to write the changed texts: `.csv`, `.tsv`, `.jsonl` or `.parquet`; None for nowhere.
        device: where to compute, see `deni.models.devices.find_device`.
        seed: of the bootstrap over the texts.

    Raises:
        InputError: models of different tasks, a label that no model knows, a file that cannot be read or written.
    """
    if output is not None:
        check_output(output, overwrite, inputs=[file, model_a, model_b, study])
    if study is not None:
        check_store(study)
    first, second = load(model_a, device), load(model_b, device)
    labels = _check_alike(first, second, (str(model_a), str(model_b)))
    for each in (first, second):
        each.progress = progress
    if text_pair_column is not None and second.info.get("plain"):
        second.info["text_pair_column"] = text_pair_column
    columns = {"text_column": text_column, "label_column": label_column, "split": split, "config_name": config_name}
    texts = read_for_model(first, file, text_pair_column, **columns, labels_required=False)
    if first.pairs != second.pairs:
        one, other = (("pairs" if each.pairs else "single texts") for each in (first, second))
        raise InputError(f"{model_a} was trained on {one}, {model_b} on {other}: compare models of the same texts")
    found = compare_models(
        first, second, texts, labels=labels, study=study, names=(str(model_a), str(model_b)), seed=seed
    )
    if output is not None:
        write_table(found.rows, output, overwrite, kept="the table is")
    return found


def compare_models(
    first: Classifier,
    second: Classifier,
    texts: Texts,
    *,
    labels: Sequence[str] | None = None,
    study: str | Path | None = None,
    names: tuple[str, str] = ("A", "B"),
    seed: int = 0,
) -> Comparison:
    """Compare what two loaded models answer, see `compare_files`.

    Args:
        labels: of both models; None to find them.
        names: of the models, for messages.
    """
    task = TASKS[first.task]
    labels = _check_alike(first, second, names) if labels is None else labels
    members = [each.members(texts.texts) for each in (first, second)]
    votes = [
        _arranged(task, each.combined(own), each.labels, labels)
        for each, own in zip((first, second), members, strict=True)
    ]
    starts = _starts(task, texts)
    distance = distances(task, votes[0], votes[1], starts)  # (N,)
    changed = distance > (0 if task.chooses else MOVED * float(np.std(votes[0])))
    if task.chooses:
        churn = share_with_interval(int(changed.sum()), len(texts))
    else:
        half = 1.96 * distance.std(ddof=1) / np.sqrt(len(texts)) if len(texts) > 1 else float("nan")
        churn = Estimate(float(distance.mean()), float(distance.mean() - half), float(distance.mean() + half))
    noise = [
        *_of_folds(task, (first, second), names),
        *(_of_study(task, study) if study is not None else ()),
        *_of_members(task, (first, second), names, members, starts),
    ]
    answers = [_answers(task, texts, own, labels) for own in votes]
    table: dict[str, Any] = {"text": [_shown(task, each) for each in texts.texts]}
    if texts.frame is not None:
        table = {"line": list(texts.frame.index), **table}
    measured: dict[str, Any] = {}
    if texts.labels is not None:
        gold = encode(texts, list(labels))
        errors = [errors_of(task, gold, own, starts) for own in votes]
        measured = _measure(task, gold, votes, labels, errors, len(texts), seed)
        sign = np.sign(errors[1] - errors[0])
        table["label"] = [_written(task, each) for each in texts.labels]
        table["change"] = [WORSE if each > 0 else BETTER if each < 0 else OTHER for each in sign]
    table |= {"model_a": answers[0], "model_b": answers[1]}
    rows = pd.DataFrame(table)[changed]
    rows = rows.iloc[np.argsort(-distance[changed], kind="stable")].reset_index(drop=True)
    return Comparison(names, task.name, len(texts), len(rows), churn, noise, rows, **measured)


def state_verdict(found: Comparison) -> list[str]:
    """What it means, in sentences: what changes, better or worse, and whether another seed does as much."""
    task = TASKS[found.task]
    unit = (lambda value: f"{100 * value:.1f} %") if task.chooses else (lambda value: f"{value:.3g}")
    value, low, high = (unit(float(each)) for each in found.churn)
    if task.chooses:
        said = [f"{found.changed:,} of {found.texts:,} answers change: {value} (95 % interval {low} to {high})."]
    else:
        said = [f"The numbers differ by {value} on average (95 % interval {low} to {high})."]
    if found.difference is not None:
        said.append(_better_or_worse(found))
    if not found.seed_noise:
        return [
            *said,
            "Whether another seed would change as much is not known: neither model has members or repeated folds, and "
            "no study was given (--study).",
        ]
    nearest = found.seed_noise[0]
    alike = [each for each in found.seed_noise if each.source == nearest.source]
    most = max(alike, key=lambda each: each.rate)
    rate = f"{most.said}: {unit(most.rate)}"
    if float(found.churn.low) <= most.rate:
        said.append(f"That is within what another seed does ({rate}).")
    elif most.at_least:
        said.append(
            f"That is more than there is between {rate}. These share a part of their training, and another seed may "
            "change more: --study, or training with --cv and several seeds, would tell."
        )
    else:
        said.append(f"That is more than another seed does ({rate}).")
    return said


def _better_or_worse(found: Comparison) -> str:
    assert found.difference is not None
    assert found.p_value is not None
    task = TASKS[found.task]
    test = "McNemar's exact test" if _right_or_wrong(task) else "sign test"
    p = f"p < 0.001, {test}" if found.p_value < 0.001 else f"p = {found.p_value:.3f}, {test}"
    if found.rank_p_value is not None:
        p += f"; p = {found.rank_p_value:.3f}, Wilcoxon"
    if found.difference.low > 0:
        which = "the second model is better"
    elif found.difference.high < 0:
        which = "the second model is worse"
    else:
        which = "neither model is shown to be better"
    return f"{found.better:,} got better and {found.worse:,} worse ({p}): {which} in {called(task.headline)}."


# ---- what two models share -----------------------------------------------------------------------------------------


def _check_alike(first: Classifier, second: Classifier, names: tuple[str, str]) -> list[str]:
    """The labels of both; raises InputError where their answers cannot be compared."""
    if first.task != second.task:
        one, other = (f"{name} is a model of {each.task}" for name, each in zip(names, (first, second), strict=True))
        raise InputError(f"{one}, {other}: compare models of one task")
    task, new = TASKS[first.task], [label for label in second.labels if label not in first.labels]
    if task.ordered and first.labels != second.labels:
        raise InputError(
            f"{names[0]} and {names[1]} have other classes, or another order of them: {shown(first.labels)} against "
            f"{shown(second.labels)}; compare models of one scale"
        )
    if not task.chooses and len(first.labels) != len(second.labels):
        raise InputError(f"{names[0]} gives {len(first.labels)} numbers a text, {names[1]} {len(second.labels)}")
    if len(new) == len(second.labels) and task.chooses:
        raise InputError(
            f"{names[0]} and {names[1]} have no label in common ({shown(first.labels)} against "
            f"{shown(second.labels)}): compare models of the same labels"
        )
    return [*first.labels, *new] if task.chooses else list(first.labels)


def _arranged(task: Task, votes: np.ndarray, own: Sequence[str], labels: Sequence[str]) -> np.ndarray:
    """Outputs in the order of the labels of both models; a label that one model does not know it never chooses."""
    if not task.chooses or list(own) == list(labels):
        return votes
    found = np.full((len(votes), len(labels)), -np.inf, dtype=votes.dtype)
    found[:, [labels.index(label) for label in own]] = votes
    return found


def _starts(task: Task, texts: Texts) -> np.ndarray | None:
    """The first word of each text, where outputs are of words."""
    if not task.of_words:
        return None
    return np.cumsum([0, *(len(words_of(text)) for text in texts.texts[:-1])])


def distances(task: Task, one: np.ndarray, other: np.ndarray, starts: np.ndarray | None = None) -> np.ndarray:
    """Of each text 1 where two outputs `(N, C)` choose differently, else 0; in regression the distance of the numbers.

    Args:
        starts: the first word of each text, where outputs are of words.
    """
    if not task.chooses:
        return np.abs(one.astype(float) - other.astype(float)).mean(-1)
    differs = task.choose(one) != task.choose(other)
    differs = differs.any(-1) if differs.ndim > 1 else differs
    return (differs if starts is None else np.logical_or.reduceat(differs, starts)).astype(float)


def _right_or_wrong(task: Task) -> bool:
    """Whether an answer is right or wrong, and no nearer or farther."""
    return task.chooses and not task.ordered


def errors_of(task: Task, gold: Sequence[Any], votes: np.ndarray, starts: np.ndarray | None = None) -> np.ndarray:
    """How wrong each text's answer is, `(N,)`: 0 or 1; by classes where they have an order; by numbers in regression.

    Of several labels, and of the tags of words, all must be right.
    """
    if not task.chooses:
        return np.abs(np.asarray(gold, dtype=float).reshape(len(votes), -1) - votes.astype(float)).mean(-1)
    chosen = task.choose(votes)
    if task.of_words:
        assert starts is not None
        return np.logical_or.reduceat(chosen != np.concatenate(gold), starts).astype(float)
    if task.ordered:
        return np.abs(chosen - np.asarray(gold)).astype(float)
    wrong = chosen != (np.asarray(gold) > 0.5 if chosen.ndim > 1 else np.asarray(gold))
    return (wrong.any(-1) if wrong.ndim > 1 else wrong).astype(float)


def _measure(
    task: Task,
    gold: Sequence[Any],
    votes: Sequence[np.ndarray],
    labels: Sequence[str],
    errors: Sequence[np.ndarray],
    texts: int,
    seed: int,
) -> dict[str, Any]:
    """What labels add to a comparison."""
    scores = [task.scores(gold, own, labels) for own in votes]
    by_weight = [task.headline_by_weight(gold, own, labels) for own in votes]
    better, worse = int((errors[1] < errors[0]).sum()), int((errors[1] > errors[0]).sum())
    generator = np.random.default_rng(derive(seed, "compare"))
    return {
        "scores": {name: (float(scores[0][name]), float(scores[1][name])) for name in scores[0]},
        "difference": paired_difference(by_weight[0], by_weight[1], texts, generator=generator),
        "better": better,
        "worse": worse,
        "p_value": sign_test(better, worse),
        "rank_p_value": None if task.chooses else signed_rank_test(*errors),
    }


# ---- what another seed does ----------------------------------------------------------------------------------------


def _mean_distance(task: Task, outputs: np.ndarray, starts: np.ndarray | None) -> float:
    """Of models `(K, N, C)`, mean over pairs and texts."""
    pairs = itertools.combinations(outputs, 2)
    return float(np.mean([distances(task, one, other, starts).mean() for one, other in pairs]))


def _of_folds(task: Task, models: Sequence[Classifier], names: Sequence[str]) -> Iterator[SeedNoise]:
    """Cross-validations of a model, if there are several: what they predict for the same labeled texts."""
    from deni.artifact import read_out_of_fold

    for model, name in zip(models, names, strict=True):
        found = None if model.source is None or model.info.get("plain") else read_out_of_fold(model.source)
        if found is None or len(found.folds) < 2:
            continue
        starts = None if found.texts is None else np.flatnonzero(np.diff(found.texts, prepend=-1))
        rate = _mean_distance(task, found.outputs["vote"], starts)
        yield SeedNoise("folds", rate, f"trainings of {name} with other folds and seeds, on its own labeled texts")


def _of_members(
    task: Task,
    models: Sequence[Classifier],
    names: Sequence[str],
    members: Sequence[np.ndarray],
    starts: np.ndarray | None,
) -> Iterator[SeedNoise]:
    """Members of a model: runs of other seeds, or copies that forked from one run; the first kind before the other."""
    found = []
    for model, name, own in zip(models, names, members, strict=True):
        if own.shape[1] < 2:
            continue
        forked = bool((model.info.get("diagnostics") or {}).get("forks"))
        rate = _mean_distance(task, own.swapaxes(0, 1), starts)
        if forked:
            found.append(SeedNoise("members", rate, f"members of one run of {name}, on these texts", at_least=True))
        else:
            found.append(SeedNoise("runs", rate, f"single runs of {name}, on these texts; their vote varies less"))
    yield from sorted(found, key=lambda each: each.at_least)


def _of_study(task: Task, study: str | Path) -> list[SeedNoise]:
    """Seeds of a study on tasks of this kind: how often two of them disagree, mean over its settings."""
    with Store(study) as store:
        rows = [row for row in store.results(None) if row.status == "done" and row.task == task.name]
        groups: dict[str, list[Row]] = {}
        for row in rows:
            groups.setdefault(_without_seed(row), []).append(row)
        rates = [rate for own in groups.values() if (rate := _between_seeds(task, store, own)) is not None]
    if not rates:
        raise InputError(
            f"{study}: no two seeds of one setting predict the same texts of the task {task.name}: give another study, "
            "or omit --study"
        )
    datasets = sorted({Path(str(row.cell.dataset["name"])).name for row in rows})
    return [SeedNoise("study", float(np.mean(rates)), f"two seeds of the study on {', '.join(datasets)}")]


def _without_seed(row: Row) -> str:
    """What decides a cell but its seed."""
    return canonical([{**row.decides, "seed": None, "seeds": None}, row.cell.block])


def _between_seeds(task: Task, store: Store, rows: Sequence[Row]) -> float | None:
    """The mean distance of the votes of these cells; None where there are not two on the same texts."""
    outputs = [store.outputs(row.key) for row in rows]
    same = [each for each in outputs if np.array_equal(each.text_ids, outputs[0].text_ids)]
    if len(same) < 2 or task.of_words:
        return None
    return _mean_distance(task, np.stack([voter(rows[0].decides)(each.log_probs) for each in same]), None)


# ---- showing -------------------------------------------------------------------------------------------------------


def _answers(task: Task, texts: Texts, votes: np.ndarray, labels: Sequence[str]) -> list[Any]:
    """The answer of each text, as a column of a file has it."""
    import torch

    outputs = torch.from_numpy(votes)
    words = [words_of(text) for text in texts.texts] if task.of_words else list(texts.texts)
    found = task.predictions(words, outputs[:, None], outputs, labels)
    return [_written(task, each[task.answer]) for each in found]


def _written(task: Task, label: Any) -> Any:
    if not task.chooses:
        return label
    return " ".join(label) if task.of_words else task.written(label)


def _shown(task: Task, text: Any) -> str:
    """A text, the words of one, or both texts of a pair, as a column of a file has it."""
    return text if isinstance(text, str) else (" " if task.of_words else " | ").join(text)


def _json(value: Estimate) -> dict[str, float]:
    return {name: float(each) for name, each in value._asdict().items()}
