"""Draw the schedule of DENI, docs/images/schedule.svg, from the schedule itself; `--check` compares only.

python website/schedule.py
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from deni.schedule import Phase, Schedule
from deni.strategies import make_strategy

FIGURE = Path(__file__).parents[1] / "docs" / "images" / "schedule.svg"
STEPS = 1250  # T of the paper
WIDTH, HEIGHT = 520, 250
LEFT, RIGHT, TOP, BOTTOM = 20, 20, 40, 170  # of the lanes
TURN = 10  # pixels in which a member leaves its parent, or comes back
STYLE = (
    "svg{font:13px system-ui,sans-serif;color-scheme:light dark}.paper{fill:#fff}.ink{fill:#1f2328}.quiet{fill:#57606a}"
    ".line{stroke:#d0d7de}.member{fill:none;stroke:#0072b2;stroke-width:2}.parent{stroke:#d55e00;stroke-width:3}"
    ".vote{fill:#0072b2}.vote.parent{fill:#d55e00}"
    "@media(prefers-color-scheme:dark){.paper{fill:#1c2128}.ink{fill:#e6edf3}.quiet{fill:#a3adb8}.line{stroke:#444c56}"
    ".member{stroke:#6cb6ff}.parent{stroke:#ff9b57}.vote{fill:#6cb6ff}.vote.parent{fill:#ff9b57}}"
)


def draw(schedule: Schedule) -> str:
    """The SVG: a line for each member of each phase, the parent's in the middle, and what happens where it begins."""
    name = f"Schedule of DENI: {schedule}"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" aria-label="{name}">',
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}" rx="8"/>',
    ]
    for phase in schedule:
        lines += _happening(phase, schedule.steps)
    for phase in schedule:
        lines += _members(phase, schedule.steps)
    ensemble = make_strategy("ensemble").schedule(schedule.steps).cost
    lines.append(
        f'<text class="ink" x="{WIDTH / 2}" y="{HEIGHT - 14}" text-anchor="middle">{schedule.cost} member-steps, '
        f"{100 * schedule.cost / ensemble:.0f} % of an ensemble of ten</text>"
    )
    return "\n".join([*lines, "</svg>", ""])


def _x(step: int, steps: int) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * step / steps


def _happening(phase: Phase, steps: int) -> Iterator[str]:
    """Words above and steps below where a phase of several members begins and ends."""
    if phase.start == 0:
        yield f'<text class="quiet" x="{_x(0, steps):.1f}" y="{BOTTOM + 20}" text-anchor="start">step 0</text>'
    if phase.members == 1:
        return
    for step, word in ((phase.start, "fork"), (phase.stop, "merge" if phase.merge else "vote")):
        x = _x(step, steps)
        yield f'<path class="line" d="M{x:.1f} {TOP - 8}V{BOTTOM + 6}"/>'
        yield f'<text class="ink" x="{x:.1f}" y="{TOP - 14}" text-anchor="middle">{word}</text>'
        yield f'<text class="quiet" x="{x:.1f}" y="{BOTTOM + 20}" text-anchor="middle">{step}</text>'
    x = (_x(phase.start, steps) + _x(phase.stop, steps)) / 2
    words = f"{phase.members} x {phase.steps}"
    yield f'<text class="quiet" x="{x:.1f}" y="{BOTTOM + 38}" text-anchor="middle">{words}</text>'


def _members(phase: Phase, steps: int) -> Iterator[str]:
    start, stop, middle = _x(phase.start, steps), _x(phase.stop, steps), (TOP + BOTTOM) / 2
    if phase.members == 1:
        yield f'<path class="member parent" d="M{start:.1f} {middle}H{stop:.1f}"/>'
        return
    apart = (BOTTOM - TOP) / phase.members
    for member in reversed(range(phase.members)):  # copies above and below in turn; the parent is drawn last
        y = middle + apart * ((member + 1) // 2) * (-1) ** member
        kind = "" if member else " parent"
        back = f"H{stop - TURN:.1f}L{stop:.1f} {middle}" if phase.merge else f"H{stop:.1f}"
        yield f'<path class="member{kind}" d="M{start:.1f} {middle}L{start + TURN:.1f} {y:.1f}{back}"/>'
        if not phase.merge:
            yield f'<circle class="vote{kind}" cx="{stop:.1f}" cy="{y:.1f}" r="4"/>'


def main() -> None:
    """Writes the figure, or compares it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    svg = draw(make_strategy("deni").schedule(STEPS))
    if parser.parse_args().check:
        if FIGURE.read_text(encoding="utf-8") != svg:
            sys.exit(f"{FIGURE} is not what the schedule says: run website/schedule.py")
        return
    FIGURE.write_text(svg, encoding="utf-8")
    print(f"wrote {FIGURE}")


if __name__ == "__main__":
    main()
