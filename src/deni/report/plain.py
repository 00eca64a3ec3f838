"""The tables of results and comparisons as Markdown, LaTeX (booktabs) and CSV."""

from __future__ import annotations

import io

import pandas as pd

from deni.report.html import number, p_value, span
from deni.report.tables import WHERE, Tables


def markdown_of(tables: Tables) -> str:
    """Results and comparisons as two tables of GitHub's Markdown."""
    parts = ["## Results", "", _markdown(_results(tables))]
    if not tables.comparisons.empty:
        parts += ["", f"## Comparisons with {_escaped(tables.baseline)}", "", _markdown(_comparisons(tables))]
    return "\n".join(parts) + "\n"


def latex_of(tables: Tables) -> str:
    """Results and comparisons as two LaTeX tables; they need the package booktabs."""
    frames = [_results(tables)] + ([] if tables.comparisons.empty else [_comparisons(tables)])
    signs = {"★": r"$\star$", "–": "--", "∞": r"$\infty$"}
    text = "\n".join(frame.to_latex(index=False, escape=True) for frame in frames)
    for sign, command in signs.items():
        text = text.replace(sign, command)
    return text


def csv_of(tables: Tables) -> str:
    """A row for each strategy and setting, all digits, with the comparison with the baseline beside it."""
    frame = tables.results.drop(columns=["pareto_mean", "pareto_sd"])
    if not tables.comparisons.empty:
        renamed = {"low": "difference_low", "high": "difference_high", "blocks": "paired_blocks"}
        frame = frame.merge(tables.comparisons.rename(columns=renamed), on=list(WHERE), how="left")
    file = io.StringIO()
    frame.to_csv(file, index=False)
    return file.getvalue()


def _results(tables: Tables) -> pd.DataFrame:
    frame = tables.results
    shown = _where(frame)
    shown["mean"] = [
        f"{number(value, 2)}{' ★' if best else ''}" for value, best in zip(frame["mean"], frame["best"], strict=True)
    ]
    shown["95 % interval"] = _spans(frame, "mean_low", "mean_high")
    shown["SD"] = [number(value, 2) for value in frame["sd"]]
    shown["SD's interval"] = _spans(frame, "sd_low", "sd_high")
    shown["seeds"] = frame["seeds"].astype(str)
    shown["failed"] = (frame["no_result"] + frame["at_chance"]).astype(str)
    shown["member-steps"] = [number(value, 0) for value in frame["member_steps"]]
    return shown


def _comparisons(tables: Tables) -> pd.DataFrame:
    frame = tables.comparisons
    shown = _where(frame)
    shown["pairs"] = frame["pairs"].astype(str)
    shown["difference"] = [number(value, 2) for value in frame["difference"]]
    shown["95 % interval"] = _spans(frame, "low", "high")
    shown["p"] = [p_value(value) for value in frame["p_mean"]]
    shown["mean: shown"] = frame["mean_shown"]
    shown["ratio of SDs"] = [number(value, 2) for value in frame["sd_ratio"]]
    shown["ratio's interval"] = _spans(frame, "sd_ratio_low", "sd_ratio_high")
    shown["spread: shown"] = frame["sd_shown"]
    return shown


def _where(frame: pd.DataFrame) -> pd.DataFrame:
    """Strategy and setting as texts; a part that is empty everywhere is left away."""
    return frame[[name for name in WHERE if name != "other" or frame[name].any()]].astype(str)


def _spans(frame: pd.DataFrame, low: str, high: str) -> list[str]:
    return [span(*ends, 2) for ends in zip(frame[low], frame[high], strict=True)]


def _markdown(frame: pd.DataFrame) -> str:
    lines = [list(frame.columns), ["---"] * len(frame.columns), *frame.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(_escaped(str(cell)) for cell in line)} |" for line in lines)


def _escaped(text: str) -> str:
    """A name that stays one cell, and brings no markup of its own."""
    for sign in "\\`*_[]<>|#":
        text = text.replace(sign, f"\\{sign}" if sign not in "<>" else {"<": "&lt;", ">": "&gt;"}[sign])
    return " ".join(text.split())
