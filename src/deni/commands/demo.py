"""What `deni demo` does: plain fine-tuning, what `auto` chooses and DENI on the built-in texts, a few seeds each."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from deni.auto import decide
from deni.data import choose_balanced, read_texts
from deni.data.demo import demo_files
from deni.finetune import fine_tune
from deni.provenance import environment
from deni.randomness import Sources
from deni.recipe import Recipe
from deni.strategies.auto import Auto
from deni.training.loggers import Bar

EPOCHS = 7


@dataclass
class Row:
    """One strategy over its seeds.

    Args:
        strategy: its name.
        macro_f1: of each seed, on the held-out texts, from 0 to 1.
        member_steps: of one run.
        seconds: of training, all seeds together.
    """

    strategy: str
    macro_f1: list[float] = field(default_factory=list)
    member_steps: int = 0
    seconds: float = 0.0

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return statistics.mean(self.macro_f1)

    @property
    def sd(self) -> float:
        """Standard deviation over seeds; 0 for one seed."""
        return statistics.stdev(self.macro_f1) if len(self.macro_f1) > 1 else 0.0


def run_demo(
    model: str = "minilm",
    tuning: str | None = None,
    strategies: Sequence[str] = ("default", "auto", "deni"),
    seeds: int = 3,
    labelled: int = 90,
    epochs: float | None = None,
    progress: bool = False,
) -> tuple[list[Row], dict[str, Any]]:
    """Train every strategy with every seed.

    Args:
        tuning, epochs: None for full fine-tuning and 7 epochs, but for `auto`, which then chooses both.
        labelled: texts to train on, at least one a class.
        progress: show a bar for each run.

    Returns:
        a row for each strategy, and the same as JSON values with versions.
    """
    train, test = (read_texts(path) for path in demo_files())
    assert train.labels is not None
    train = train.select(choose_balanced(train.labels, labelled, Sources(0).numpy("label_choice")))
    rows = []
    for strategy in strategies:
        row = Row(strategy)
        rows.append(row)
        given: dict[str, Any] = {"tuning": tuning, "epochs": epochs}
        if strategy != Auto.name:
            given = {"tuning": tuning or "full", "epochs": EPOCHS if epochs is None else epochs}
        for seed in range(seeds):
            plan = decide(Recipe.of(strategy=strategy, model=model, seed=seed, **given), train)
            with Bar(plan.strategy, f"{strategy}, seed {seed + 1} of {seeds}") as bar:
                fitted = fine_tune(train, plan, progress=False, callbacks=[bar] if progress else [])
            row.macro_f1.append(fitted.evaluate(test)["macro_f1"])
            row.member_steps, row.seconds = fitted.member_steps, row.seconds + fitted.seconds
            del fitted
            gc.collect()  # a trainer refers to itself; ten members would stay in memory with the next ten
    result = {
        "environment": environment(),
        "settings": {"model": model, "tuning": tuning, "seeds": seeds, "labelled": labelled, "epochs": epochs},
        "train_texts": len(train),
        "test_texts": len(test),
        "rows": [{**vars(row), "mean": row.mean, "sd": row.sd} for row in rows],
    }
    return rows, result
