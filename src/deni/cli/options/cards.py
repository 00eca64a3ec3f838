"""What the commands about strategies and tunings print: the head of a card, settings, a list."""

from __future__ import annotations

import re

import click

from deni.terminal import say

_SOURCES = re.compile(r" \([^()]*\b\d{4}\b[^()]*\)(?=\.$)")  # such as (Lee et al. 2020)


def about(cls: type) -> tuple[str, str]:
    """The first sentence of a class's docstring, and when to take it, if it says so."""
    return (cls.__doc__ or "").strip().partition("\n")[0], vars(cls).get("when", "")


def take_it(when: str) -> str:
    """When to take something, as a sentence of its own; empty where nobody says."""
    return f"Take it {when[:1].lower()}{when[1:]}" if when else ""


def in_a_line(cls: type) -> str:
    """What a class does, without its sources, and when to take it."""
    what, when = about(cls)
    return f"{_SOURCES.sub('', what)} {take_it(when)}".strip()


def write_about(name: str, what: str, when: str) -> None:
    """Print the head of a card."""
    formatter = click.get_current_context().make_formatter()
    formatter.write_text(f"{name}: {what}")
    if when:
        formatter.write_text(take_it(when))
    say(formatter.getvalue().rstrip("\n"))


def write_settings(title: str, rows: list[tuple[str, str]]) -> None:
    """Print settings as help has them."""
    formatter = click.get_current_context().make_formatter()
    with formatter.section(title):
        formatter.write_dl(rows or [("none", "")])
    say(formatter.getvalue().rstrip("\n"))


def write_rows(rows: list[tuple[str, str]]) -> None:
    """Print two columns, the second one wrapped."""
    formatter = click.get_current_context().make_formatter()
    formatter.write_dl(rows, col_max=34)
    say(formatter.getvalue().rstrip("\n"))
