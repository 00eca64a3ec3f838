"""Two tasks whose answers are exact: dates, and times of the day, in one written form."""

from __future__ import annotations

import calendar
import random
from collections.abc import Callable

from deni.data import Texts

LABELED, DEV, TEST = 200, 100, 200


def date(draw: random.Random) -> tuple[str, str]:
    """`Mar 7 1994 -> 1994-03-07`, from one of four forms."""
    day, month, year = draw.randint(1, 28), draw.randint(1, 12), draw.randint(1950, 2029)
    name, short = calendar.month_name[month], calendar.month_abbr[month]
    forms = (f"{name} {day}, {year}", f"{day} {name} {year}", f"{day} {short} {year}", f"{short} {day} {year}")
    return f"{draw.choice(forms)} -> ", f"{year}-{month:02}-{day:02}"


def time(draw: random.Random) -> tuple[str, str]:
    """`twenty past 3 pm -> 15:20`, from one of four forms."""
    hour, minute = draw.randrange(24), draw.randrange(60)
    half, twelve = "am" if hour < 12 else "pm", hour % 12 or 12
    forms = (
        f"{twelve}:{minute:02} {half}",
        f"{twelve}.{minute:02}{half}",
        f"{minute} minutes past {twelve} {half}",
        f"{hour}h {minute}m",
    )
    return f"{draw.choice(forms)} -> ", f"{hour:02}:{minute:02}"


TASKS: dict[str, Callable[[random.Random], tuple[str, str]]] = {"dates": date, "times": time}


def splits(task: str) -> tuple[Texts, Texts, Texts]:
    """Training, dev and test examples, no prompt twice; the same for all seeds."""
    draw, rows = random.Random(0), dict[str, str]()
    while len(rows) < LABELED + DEV + TEST:
        prompt, answer = TASKS[task](draw)
        rows.setdefault(prompt, answer)
    prompts, answers = list(rows), list(rows.values())

    def part(start: int, stop: int) -> Texts:
        return Texts(prompts[start:stop], answers[start:stop], task, None, "generation")

    ends = (0, LABELED, LABELED + DEV, LABELED + DEV + TEST)
    return part(*ends[:2]), part(*ends[1:3]), part(*ends[2:])
