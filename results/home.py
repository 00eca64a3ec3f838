"""Draw the dot plot of the documentation's first page from the archive of confirmation; `--check` compares only.

python results/home.py
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).parent
FIGURE = HERE.parent / "docs" / "images" / "twenty-seeds.svg"
DATASET = "db_pedia"
# strategy -> what it is called
ROWS = {
    "default": "plain fine-tuning",
    "ensemble": "an ensemble of ten",
    "linear_probe+best_practices": "linear_probe+best_practices",
}
WIDTH, ROW, LEFT, RIGHT, TOP = 500, 74, 22, 22, 14
STYLE = (
    "svg{font:15px system-ui,sans-serif;color-scheme:light dark}.paper{fill:#fff}.ink{fill:#1f2328}.quiet{fill:#57606a}"
    ".line{stroke:#d0d7de}.mean{stroke:#1f2328}.plain{fill:#d55e00}.other{fill:#0072b2}"
    "@media(prefers-color-scheme:dark){.paper{fill:#1c2128}.ink{fill:#e6edf3}.quiet{fill:#a3adb8}.line{stroke:#444c56}"
    ".mean{stroke:#e6edf3}.plain{fill:#ff9b57}.other{fill:#6cb6ff}}"
)


def read_scores(archive: Path) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Macro F1 in points of each seed, and member-steps of a run, by strategy."""
    frame = pd.read_parquet(archive, columns=["spec", "metrics", "cost", "status"])
    scores: dict[str, dict[int, float]] = {name: {} for name in ROWS}
    steps: dict[str, float] = {}
    for row in frame[frame["status"] == "done"].itertuples(index=False):
        cell = json.loads(row.spec)
        name = cell["strategy"]["name"]
        if cell["dataset"]["name"] == DATASET and name in ROWS:
            scores[name][cell["seed"]] = 100 * json.loads(row.metrics)["macro_f1"]
            steps[name] = float(json.loads(row.cost)["member_steps"])
    return {name: np.array([each[seed] for seed in sorted(each)]) for name, each in scores.items()}, steps


def draw(scores: Mapping[str, np.ndarray], steps: Mapping[str, float]) -> str:
    """The SVG: a row for each strategy, a dot for each seed, a line at the mean."""
    low = 5 * np.floor(min(each.min() for each in scores.values()) / 5)
    height = TOP + ROW * len(scores) + 42

    def x(points: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (points - low) / (100 - low)

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-label="Macro F1 of twenty seeds for each strategy">',
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{height}" rx="8"/>',
    ]
    bottom = height - 40
    for tick in np.arange(low, 101, 5):
        lines.append(f'<path class="line" d="M{x(tick):.1f} {TOP}V{bottom}"/>')
        lines.append(f'<text class="quiet" x="{x(tick):.1f}" y="{bottom + 17}" text-anchor="middle">{tick:.0f}</text>')
    lines.append(f'<text class="quiet" x="{WIDTH / 2}" y="{height - 6}" text-anchor="middle">macro F1</text>')
    for at, (name, points) in enumerate(scores.items()):
        lines += _row(TOP + ROW * at, name, points, [x(each) for each in points], x(points.mean()), steps)
    return "\n".join([*lines, "</svg>", ""])


def _row(
    top: float, name: str, points: np.ndarray, places: Sequence[float], mean: float, steps: Mapping[str, float]
) -> Iterator[str]:
    cost = steps[name] / steps["default"]
    told = f"{points.mean():.1f} ± {points.std(ddof=1):.1f}, cost {cost:g}x"
    yield f'<text class="ink" x="{LEFT}" y="{top + 18}">{ROWS[name]}</text>'
    yield f'<text class="quiet" x="{WIDTH - RIGHT}" y="{top + 18}" text-anchor="end">{told}</text>'
    kind = "plain" if name == "default" else "other"
    for seed, place in enumerate(places):
        away = 14 * ((seed * 0.618034) % 1) - 7  # apart, and always alike
        yield f'<circle class="{kind}" cx="{place:.1f}" cy="{top + 44 + away:.1f}" r="5" opacity="0.75"/>'
    yield f'<path class="mean" stroke-width="3" d="M{mean:.1f} {top + 31}v26"/>'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    svg = draw(*read_scores(HERE / "confirmation.parquet"))
    if parser.parse_args().check and FIGURE.read_text(encoding="utf-8") != svg:
        sys.exit(f"{FIGURE} is not what confirmation.parquet says: run results/home.py")
    FIGURE.write_text(svg, encoding="utf-8")
    print(f"wrote {FIGURE}")


if __name__ == "__main__":
    main()
