"""What `deni demo` does: plain fine-tuning, a frozen encoder, an ensemble, DENI and `auto` on the built-in texts."""

from __future__ import annotations

import dataclasses
import gc
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from deni.auto import decide
from deni.baselines import BASELINES, make_baseline
from deni.data import Texts, choose_balanced, read_texts
from deni.data.demo import demo_files
from deni.finetune import fine_tune
from deni.measures.comparison import Block, Difference, mean_difference
from deni.measures.scores import macro_f1
from deni.provenance import environment
from deni.randomness import Sources, derive
from deni.recipe import Recipe
from deni.strategies import has_setting
from deni.strategies.auto import Auto
from deni.tasks.voting import vote
from deni.training.loggers import Bar

# How the task was chosen is in data/demo/README.md.
LABELS = ("billing", "refund", "cancellation")
LONGEST = 80  # characters of a text: what the demo trains on is short, so that it ends soon
LABELED = 60
EPOCHS = 4
MEMBERS = 3  # of the ensemble and of DENI; the paper's ten would take three times as long
PLAIN = "default"
STRATEGIES = (PLAIN, "frozen", "ensemble", "deni", Auto.name)
TOGETHER = 0.95  # that all intervals hold


@dataclass(frozen=True)
class Row:
    """One strategy over its seeds.

    Args:
        strategy: its name.
        predictions: classes of the held-out texts, `(S, N)`; one row where no seed plays a part.
        gold: their right classes, `(N,)`.
        member_steps: of one run; 0 where nothing is trained.
        seconds: of training, all seeds together.
        against: its mean macro F1 less that of plain fine-tuning; None for plain fine-tuning, and with one seed.
    """

    strategy: str
    predictions: np.ndarray
    gold: np.ndarray
    member_steps: int = 0
    seconds: float = 0.0
    against: Difference | None = None

    @property
    def macro_f1(self) -> list[float]:
        """Of each seed, on the held-out texts, from 0 to 1."""
        return [float(each) for each in macro_f1(self.predictions, self.gold)]

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return statistics.mean(self.macro_f1)

    @property
    def sd(self) -> float:
        """Standard deviation over seeds; 0 for one seed."""
        return statistics.stdev(self.macro_f1) if len(self.macro_f1) > 1 else 0.0

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        against = self.against and {name: getattr(self.against, name) for name in ("value", "low", "high")}
        return {
            "strategy": self.strategy,
            "macro_f1": self.macro_f1,
            "member_steps": self.member_steps,
            "seconds": self.seconds,
            "mean": self.mean,
            "sd": self.sd,
            "against_default": against,
        }


def demo_texts(
    labelled: int = LABELED, labels: Sequence[str] = LABELS, longest: int = LONGEST
) -> tuple[Texts, Texts, Texts]:
    """The demo's texts: those to train on, those that are left of the training file, and those to test on.

    Args:
        labelled: how many to train on, equally many of each class.
        labels: the classes.
        longest: characters of a text.
    """
    train, test = (_short(read_texts(path), labels, longest) for path in demo_files())
    assert train.labels is not None
    chosen = choose_balanced(train.labels, labelled, Sources(0).numpy("label_choice"))
    left = sorted(set(range(len(train))) - set(map(int, chosen)))
    return train.select(chosen), train.select(left), test


def _short(texts: Texts, labels: Sequence[str], longest: int) -> Texts:
    pairs = enumerate(zip(texts.texts, texts.labels or (), strict=True))
    return texts.select(at for at, (text, label) in pairs if len(text) <= longest and label in labels)


def run_demo(
    model: str = "minilm",
    tuning: str | None = None,
    strategies: Sequence[str] = STRATEGIES,
    seeds: int = 5,
    labelled: int = LABELED,
    epochs: float | None = None,
    progress: bool = False,
) -> tuple[list[Row], dict[str, Any]]:
    """Train every strategy with every seed, the seeds of a strategy in one pack.

    Args:
        tuning: None for full fine-tuning, but for `auto`, which then chooses.
        strategies: also baselines; the first is what the others are compared with.
        labelled: texts to train on, at least one a class.
        epochs: of all strategies; None for 5.
        progress: show a bar for each strategy.

    Returns:
        a row for each strategy, and the same as JSON values with versions.
    """
    train, _, test = demo_texts(labelled)
    recipe: dict[str, Any] = {"model": model, "epochs": EPOCHS if epochs is None else epochs}
    rows: list[Row] = []
    for strategy in strategies:
        if strategy in BASELINES:
            row = _fit(strategy, train, test, Recipe(model=model))
        else:
            own = tuning if strategy == Auto.name else tuning or "full"
            members = {"members": MEMBERS} if strategy != Auto.name and has_setting(strategy, "members") else {}
            # In float32, so that the scores are those of any processor.
            plan = Recipe.of(strategy=strategy, tuning=own, strategy_settings=members, bf16=False, **recipe)
            row = _train(strategy, train, test, plan, seeds, progress)
        rows.append(row)
        gc.collect()  # a trainer refers to itself; its members would stay in memory with the next ones
    rows = _compared(rows, seeds)
    result = {
        "environment": environment(),
        "settings": {"model": model, "tuning": tuning, "seeds": seeds, "labelled": labelled, **recipe},
        "train_texts": len(train),
        "test_texts": len(test),
        "rows": [row.to_json() for row in rows],
    }
    return rows, result


def _train(strategy: str, train: Texts, test: Texts, recipe: Recipe, seeds: int, progress: bool) -> Row:
    plan = decide(recipe, train)
    with Bar(plan.strategy, f"{strategy}, {seeds} seed{'s' if seeds > 1 else ''}") as bar:
        fitted = fine_tune(train, plan, seeds=range(seeds), progress=False, callbacks=[bar] if progress else [])
    found = fitted.test(test)
    members = found.members.reshape(len(test), seeds, -1, len(fitted.labels))  # (N, S, K, C)
    outputs = [torch.from_numpy(members[:, seed]) for seed in range(seeds)]
    predictions = np.stack([vote(each, plan.strategy.combine, plan.task).argmax(-1).numpy() for each in outputs])
    return Row(strategy, predictions, np.asarray(found.gold), fitted.member_steps // seeds, fitted.seconds)


def _fit(name: str, train: Texts, test: Texts, recipe: Recipe) -> Row:
    began = time.perf_counter()
    fitted = make_baseline(name).fit(train, recipe)
    seconds = time.perf_counter() - began
    gold = np.array([fitted.labels.index(str(label)) for label in test.labels or ()])
    return Row(name, fitted.outputs(test.texts).argmax(-1)[None], gold, seconds=seconds)


def _compared(rows: Sequence[Row], seeds: int) -> list[Row]:
    """The rows with their difference to the first; all intervals together hold with a probability of `TOGETHER`."""
    if seeds < 2 or not rows:
        return list(rows)
    plain, *others = rows
    confidence = 1 - (1 - TOGETHER) / max(len(others), 1)
    return [plain, *(_against(row, plain, confidence) for row in others)]


def _against(row: Row, plain: Row, confidence: float) -> Row:
    first, second = np.broadcast_arrays(row.predictions, plain.predictions)
    generator = np.random.default_rng(derive(0, "demo", row.strategy))
    found = mean_difference(
        [Block(first, second, plain.gold)], generator=generator, resamples=2000, confidence=confidence
    )
    return dataclasses.replace(row, against=found)


def state_differences(rows: Sequence[Row]) -> Iterator[str]:
    """What the rows show and what they do not, a sentence each."""
    plain, *others = rows
    scores = sorted(plain.macro_f1)
    if len(scores) < 2:
        yield "One seed shows no difference: more seeds do."
        return
    yield f"Seeds alone move {plain.strategy} from {100 * scores[0]:.1f} to {100 * scores[-1]:.1f} on the same texts."
    differ = False
    for row in others:
        if row.against is None:
            continue
        value, low, high = (100 * float(getattr(row.against, name)) for name in ("value", "low", "high"))
        kind = "better" if low > 0 else "worse" if high < 0 else "no difference shown"
        differ = differ or kind != "no difference shown"
        yield f"{row.strategy}: {value:+.1f} ({low:+.1f} to {high:+.1f}), {kind}."
    if others:
        yield f"In brackets: intervals that hold together with {100 * TOGETHER:.0f} %, over other seeds and texts."
        if not differ:
            yield f"So nothing here is shown to differ from {plain.strategy}."
        yield f"{len(scores)} seeds cannot show which strategy varies less: that takes 20."
