"""Stores with made-up results, written as a study writes them."""

import dataclasses

import numpy as np

from deni.analysis.claims import state_claims
from deni.provenance import canonical
from deni.strategies import ALIASES, STRATEGIES
from deni.study.cell import Cell, CellResult, Fingerprints, NamedSettings
from deni.study.execution.job import Job
from deni.study.keys import key_of, pack_key_of
from deni.study.store.database import Store
from deni.tuning import TUNINGS

VERSIONS = {"torch": "2.13.0"}


def job_of(cell):
    """As a study makes it; of a strategy or tuning that is not known here, as another version would have."""
    files = Fingerprints(canonical(cell.dataset), cell.model)
    known, own = cell, {}
    for kind, table, plain in (("strategy", {**STRATEGIES, **ALIASES}, "default"), ("tuning", TUNINGS, "full")):
        named = getattr(cell, kind)
        if any(part not in table for part in named.name.split("+")):
            known, own = (
                dataclasses.replace(known, **{kind: NamedSettings(plain)}),
                {**own, kind: dataclasses.asdict(named)},
            )
    job = Job.of(known, files, VERSIONS, steps=1000)
    decided = {**job.decides, **own}
    return dataclasses.replace(
        job, cell=cell, decides=decided, key=key_of(decided), pack=pack_key_of(decided, cell.sources)
    )


def cell_of(strategy="default", seed=0, dataset="trec", labelled=100, block=0, **more):
    strategy = strategy if isinstance(strategy, NamedSettings) else NamedSettings(strategy)
    dataset = dataset if isinstance(dataset, dict) else {"name": dataset}
    given = {"model": "minilm", "tuning": NamedSettings("lora", {"lora_r": 8}), **more}
    return Cell(dataset=dataset, strategy=strategy, labelled=labelled, seed=seed, block=block, **given)


def result_of(accuracy, seed, labels=("a", "b", "c"), texts=90, members=1, cost=10, **more):
    """Predictions of which a share is right, other texts with each seed."""
    generator = np.random.default_rng(seed)
    gold = np.arange(texts) % len(labels)
    said = np.where(generator.random((members, texts)) < accuracy, gold, (gold + 1) % len(labels))
    probabilities = np.full((texts, members, len(labels)), 0.1)
    probabilities[np.arange(texts)[:, None], np.arange(members), said.T] = 1 - 0.1 * (len(labels) - 1)
    given = {"cost": {"member_steps": cost, "seconds": 1.5}, "environment": {"python": "3.11", "threads": 2}, **more}
    return CellResult(np.log(probabilities), gold, np.arange(texts), labels, "data", {"macro_f1": 0.0}, **given)


def make(path, cells, study="made"):
    """A store of `(cell, result)`; a text in place of the result is a traceback, None a cell that waits."""
    cells = list(cells)
    with Store(path, create=True) as store:
        jobs = [job_of(cell) for cell, _ in cells]
        store.add(jobs, study)
        for job, (_, result) in zip(jobs, cells, strict=True):
            if isinstance(result, str):
                store.fail(job.key, result)
            elif result is not None:
                store.finish(job.key, result)
    return path


def runs(strategy, accuracy, seeds, cost=10, labels=("a", "b", "c"), spread=0.0, shift=0, texts=90, **more):
    """Cells of one strategy with their results; `spread` makes the seeds differ."""
    for seed in range(seeds):
        own = accuracy + spread * np.sin(3.7 * seed + shift)
        yield cell_of(strategy, seed, **more), result_of(own, 100 * shift + seed, labels, texts, cost=cost)


def said(found, kind):
    """The sentences of one kind that tables give."""
    return [each.text for each in state_claims(found) if each.kind == kind]


def on_both_parts(seeds=6, **more):
    """On test texts swa is better than default, on development texts worse."""
    for measure, best, shift in (("test", "swa", 1), ("development", "default", 3)):
        for at, strategy in enumerate(("default", "swa")):
            accuracy = 0.9 if strategy == best else 0.5
            yield from runs(strategy, accuracy, seeds, shift=shift + at, measure=measure, **more)


def of_datasets(gains=(0.05, 0.15), spreads=(0.05, 0.05), seeds=20):
    """Two datasets on which a strategy gains so much, and spreads so much."""
    for at, (gain, spread) in enumerate(zip(gains, spreads, strict=True)):
        name = f"data{at}"
        yield from runs("default", 0.6, seeds, dataset=name, spread=spread, shift=1 + at, texts=300)
        yield from runs("swa", 0.6 + gain, seeds, dataset=name, spread=spread / 4, shift=3 + at, texts=300)
