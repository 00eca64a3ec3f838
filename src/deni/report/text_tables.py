"""The tables of results, comparisons and votes as Markdown, LaTeX (booktabs) and CSV."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pandas as pd

from deni.analysis.runs import WHERE
from deni.analysis.tables import Tables
from deni.analysis.votes import OTHERS
from deni.report.numbers import differences_from_soft, number, p_value, span, with_interval

_NUMBERS = r"–|[-+]?\d.*"  # with what follows: an interval, an SD, of how many


def to_markdown(tables: Tables) -> str:
    """The tables of GitHub's Markdown, each under a heading; what is the same in all settings is said above them."""
    said = ", ".join(f"{name} {value}" for name, value in shared_by(tables).items() if value)
    parts = [f"All settings: {_escaped(said)}.\n"] if said else []
    parts += [f"## {_escaped(title)}\n\n{table}\n" for title, table in markdown_sections(tables).items()]
    return "\n".join(parts)


def markdown_sections(tables: Tables) -> dict[str, str]:
    """Title and Markdown of each table that has rows, without the columns that `shared_by` has."""
    same = shared_by(tables)
    return {title: markdown_table(frame.drop(columns=same, errors="ignore")) for title, frame in text_frames(tables)}


def shared_by(tables: Tables) -> dict[str, str]:
    """What is the same in all settings, but for the dataset: model, tuning, labeled, other."""
    settings = tables.results[list(WHERE[2:])].astype(str)
    return {str(name): settings[name].iloc[0] for name in settings if settings[name].nunique() == 1}


def to_latex(tables: Tables) -> str:
    """The same tables in LaTeX; they need the package booktabs."""
    signs = {"★": r"$\star$", "–": "--", "∞": r"$\infty$"}
    text = "\n".join(frame.to_latex(index=False, escape=True) for _, frame in text_frames(tables))
    for sign, command in signs.items():
        text = text.replace(sign, command)
    return text


def to_csv(tables: Tables) -> str:
    """A row for each strategy and setting, all digits, with the comparison with the baseline."""
    frame = tables.results.drop(columns=["pareto_mean", "pareto_sd"])
    if not tables.comparisons.empty:
        renamed = {"low": "difference_low", "high": "difference_high", "blocks": "paired_blocks"}
        frame = frame.merge(tables.comparisons.rename(columns=renamed), on=list(WHERE), how="left")
    file = io.StringIO()
    frame.to_csv(file, index=False)
    return file.getvalue()


def text_frames(tables: Tables) -> Iterator[tuple[str, pd.DataFrame]]:
    """Title and texts of each table that has rows."""
    yield "Overview", build_overview(tables)
    found = {
        "Results": (tables.results, _results),
        f"Comparisons with {tables.baseline}": (tables.comparisons, _comparisons),
        "Over all datasets": (tables.overall, _results),
        f"Over all datasets, compared with {tables.baseline}": (tables.overall_comparisons, _comparisons),
        "Votes": (tables.votes, _votes),
    }
    for title, (frame, texts) in found.items():
        if not frame.empty:
            yield title, texts(frame)


def build_overview(tables: Tables, *others: Tables) -> pd.DataFrame:
    """Strategies x datasets, mean ± SD, and how they compare on all datasets together, or on the only one, as texts.

    A run has failed that is at chance or has no result.

    Args:
        others: of the same runs, with other baselines.
    """
    rest = [name for name in WHERE if name != "dataset"]
    frame = pd.concat([tables.results, tables.overall]) if len(tables.overall) else tables.results
    cells = [f"{number(mean, 1)} ± {number(sd, 1)}" for mean, sd in zip(frame["mean"], frame["sd"], strict=True)]
    rows = pd.MultiIndex.from_frame(frame[rest].drop_duplicates())
    shown = frame.assign(cell=cells).pivot(index=rest, columns="dataset", values="cell")
    shown = shown.reindex(index=rows, columns=list(dict.fromkeys(frame["dataset"])))
    groups = tables.results.groupby(rest)
    shown["member-steps"] = [number(value, 0) for value in groups["member_steps"].mean().reindex(rows)]
    counts = groups[["seeds", "no_result", "at_chance"]].sum().reindex(rows).itertuples(index=False)
    shown["failed"] = [f"{none + chance} of {runs + none}" for runs, none, chance in counts]
    of_one = tables.results["dataset"].nunique() == 1
    for each in (tables, *others):
        compared = (each.comparisons if of_one else each.overall_comparisons).set_index(rest)
        for title, names in {
            f"minus {each.baseline}": ("difference", "low", "high"),
            f"SD / SD of {each.baseline}": ("sd_ratio", "sd_ratio_low", "sd_ratio_high"),
        }.items():
            texts = [with_interval(*row) for row in compared[list(names)].itertuples(index=False)]
            shown[title] = pd.Series(texts, index=compared.index, dtype=object)
    shown = shown.fillna("–").reset_index().astype(str)
    return shown.drop(columns=[] if tables.results["other"].any() else "other")


def _results(frame: pd.DataFrame) -> pd.DataFrame:
    shown = _where(frame)
    shown["mean"] = [
        f"{number(value, 2)}{' ★' if best else ''}" for value, best in zip(frame["mean"], frame["best"], strict=True)
    ]
    shown["95 % interval"] = _spans(frame, "mean_low", "mean_high")
    shown["SD"] = [number(value, 2) for value in frame["sd"]]
    shown["SD's interval"] = _spans(frame, "sd_low", "sd_high")
    shown["runs"] = frame["seeds"].astype(str)
    shown["blocks"] = frame["blocks"].astype(str)
    shown["texts"] = frame["texts"].astype(str)
    shown["failed"] = (frame["no_result"] + frame["at_chance"]).astype(str)
    shown["member-steps"] = [number(value, 0) for value in frame["member_steps"]]
    return shown


def _comparisons(frame: pd.DataFrame) -> pd.DataFrame:
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


def _votes(frame: pd.DataFrame) -> pd.DataFrame:
    shown = _where(frame)
    shown["runs"] = frame["runs"].astype(str)
    shown["soft vote"] = [number(value, 2) for value in frame["soft"]]
    for name in OTHERS:
        shown[f"{name} - soft"] = differences_from_soft(frame, name)
    shown["disagreement, %"] = [number(value, 2) for value in frame["disagreement"]]
    return shown


def _where(frame: pd.DataFrame) -> pd.DataFrame:
    """Strategy and setting as texts; a part that is empty everywhere is omitted."""
    return frame[[name for name in WHERE if name != "other" or frame[name].any()]].astype(str)


def _spans(frame: pd.DataFrame, low: str, high: str) -> list[str]:
    return [span(*ends, 2) for ends in zip(frame[low], frame[high], strict=True)]


def markdown_table(frame: pd.DataFrame) -> str:
    """A frame of texts, escaped; columns of numbers are flush right, and an interval stays on one line."""
    shown = frame.astype(str).map(_escaped)
    aligned = ["---:" if shown[name].str.fullmatch(_NUMBERS).all() else "---" for name in shown]
    shown = shown.replace(r"(?<=\d) (±|to|of) (?=-?\d)", "\u00a0\\1\u00a0", regex=True)
    lines = [map(_escaped, shown.columns), aligned, *shown.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escaped(text: str) -> str:
    """A name that stays one cell, and brings no markup of its own."""
    for sign in "\\`*_[]<>|#":
        text = text.replace(sign, f"\\{sign}" if sign not in "<>" else {"<": "&lt;", ">": "&gt;"}[sign])
    return " ".join(text.split())
