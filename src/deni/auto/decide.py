"""From a recipe that leaves things open to one that leaves nothing open."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deni.auto import table
from deni.auto.facts import Facts, collect_facts
from deni.auto.row import Row
from deni.data import Texts
from deni.inputs import candidates
from deni.recipe import Recipe
from deni.settings import open_fields
from deni.strategies import ARGUMENTS, has_setting, make_strategy
from deni.strategies.auto import Auto
from deni.tuning import make_tuning

# Rates that were chosen with the tuning of their row, and say nothing of another one.
OF_THE_TUNING = ("learning_rate", "head_lr_scale")


def choose(facts: Facts, tuning: str | None = None, rows: Sequence[Row] | None = None) -> Row:
    """The first row that fits, see `Row.fits`; of the table, unless rows are given.

    >>> from deni.auto.row import Row
    >>> rows = [Row("many", examples=(1000, 10**9)), Row("others")]
    >>> choose(Facts("single_label", examples=200), rows=rows).name
    'others'
    """
    return next(row for row in rows or table.ROWS if row.fits(facts, tuning))


def decide(
    recipe: Recipe,
    train: Texts,
    rows: Sequence[Row] | None = None,
    *,
    device: Any = None,
    progress: bool = False,
) -> Recipe:
    """The recipe with what `auto` becomes for these texts, and why in `chosen`; any other recipe is returned as it is.

    Where the model is a choice, `auto:A,B,C`, the best of them takes its place; how they compare is in `encoders`.

    Args:
        recipe: what it was given wins over the table.
        train: the labeled texts that will be trained on.
        rows: in place of the table.
        device, progress: where encoders are compared, and whether a bar shows it.

    Raises:
        SettingError: what was given does not go together with what the row says.
    """
    if models := candidates(recipe.model):
        recipe = _with_the_best_of(models, recipe, train, device, progress)
    if not isinstance(recipe.strategy, Auto):
        return recipe
    facts, given = collect_facts(train, recipe.model), recipe.given or ()
    own_tuning = recipe.tuning if "tuning" in given else None
    row = choose(facts, own_tuning.name if own_tuning else None, rows)
    tuning = own_tuning or make_tuning(row.tuning, **row.tuning_settings)
    said = {name: value for name, value in row.recipe.items() if name not in given}
    if tuning.name != row.tuning:
        said = {name: value for name, value in said.items() if name not in OF_THE_TUNING}
    kept = {name: getattr(recipe, name) for name in given}
    # What a strategy decides of the training it decides alone, so it gets what was given, or what the row says.
    shared = {name: {**said, **kept}[name] for name in ARGUMENTS if name in {**said, **kept}}
    shared = {name: value for name, value in shared.items() if has_setting(row.strategy, name)}
    strategy = make_strategy(row.strategy, **{**row.strategy_settings, **shared})
    decided = dataclasses.replace(recipe, strategy=strategy, tuning=tuning, **said, given=None)
    sources = {
        name: "given" if name in given else "auto" if name in {*said, "strategy", "tuning"} else "default"
        for name in ("strategy", *open_fields(Recipe))
    }
    sources |= {name: "auto" for name in strategy.arguments() if name not in given}
    values = {
        **{name: getattr(decided, name) for name in open_fields(Recipe)},
        "strategy": _told(strategy.name, {**row.strategy_settings, **shared}),
        "tuning": _told(tuning.name, row.tuning_settings if not own_tuning else {}),
        "learning_rate": decided.rate,
    }
    chosen = {
        "row": row.name,
        "why": row.why,
        "evidence": row.evidence,
        "facts": dataclasses.asdict(facts),
        "settings": {name: {"value": values[name], "from": source} for name, source in sources.items()},
    }
    return dataclasses.replace(decided, chosen=chosen)


def _with_the_best_of(models: Sequence[str], recipe: Recipe, train: Texts, device: Any, progress: bool) -> Recipe:
    from deni.auto.encoders import as_record, compare_encoders  # with torch, which a plan alone need not wait for

    rows = compare_encoders(train, models, recipe, device=device, progress=progress)
    return dataclasses.replace(recipe, model=rows[0].model, encoders=as_record(rows, recipe.task))


def _told(name: str, settings: Mapping[str, Any]) -> str:
    told = ", ".join(f"{key} {_written(value)}" for key, value in settings.items())
    return f"{name} ({told})" if told else name


def _written(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def member_steps(recipe: Recipe, examples: int) -> int:
    """What a training on so many labeled texts costs."""
    return recipe.strategy.schedule(math.ceil(recipe.epochs * math.ceil(examples / recipe.batch_size))).cost


# ---- in words ------------------------------------------------------------------------------------------------------


def as_sentence(chosen: Mapping[str, Any]) -> str:
    """What `auto` became and why, of `Recipe.chosen`."""
    settings = {name: each["value"] for name, each in chosen["settings"].items()}
    became = f"{settings['strategy']} with {settings['tuning']}, {settings['epochs']:g} epochs"
    return f"auto became {became} (row {chosen['row']}). {chosen['why']} Evidence: {chosen['evidence']}."


def as_lines(chosen: Mapping[str, Any]) -> Iterator[str]:
    """The same as a plan, a line a setting with where it came from."""
    settings = chosen["settings"]
    yield f"auto: {Facts(**chosen['facts'])}"
    width = max(map(len, settings))
    for name, each in settings.items():
        yield f"  {name.replace('_', ' '):{width}}  {_written(each['value'])}  [{each['from']}]"
    yield f"why: {chosen['why']}"
    yield f"evidence: {chosen['evidence']} (row {chosen['row']})"
