"""The model card: what a person reads of an artifact first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Of each task: the tag of its pipeline, what such a model is, what its outputs are called, and what it gives.
CARDS = {
    "single_label": ("text-classification", "A text classifier", "Classes", "label, confidence, agreement, entropy"),
    "multi_label": (
        "text-classification",
        "A classifier that gives a text none, one or several labels,",
        "Labels",
        "labels, probabilities",
    ),
    "regression": (
        "text-classification",
        "A model that gives a text a number (regression),",
        "Outputs",
        "value, standard_deviation",
    ),
    "token": (
        "token-classification",
        "A model that labels the words of a text (token classification),",
        "Tags",
        "words, labels, confidences, agreements, entities",
    ),
}
# How a tuning's artifact becomes a model without `deni`; UniPELT's does not.
EXPORTS = {"prompt": ("--as single --adapter", "PEFT adapter"), "unipelt": None}


def card(name: str, info: Mapping[str, Any]) -> str:
    """The model card, in Markdown."""
    pipeline, what, outputs, keys = CARDS[info.get("task", "single_label")]
    strategy, tuning = info.get("strategy", {}), info.get("tuning", {}).get("name", "not stated")
    measured = {key: value for key, value in info.get("metrics", {}).items() if isinstance(value, int | float)}
    rows = [f"| {key} | {value if isinstance(value, int) else f'{value:.4f}'} |" for key, value in measured.items()]
    table = (
        "\n".join(["| metric | value |", "| --- | --- |", *rows]) if rows else "It was not measured when it was saved."
    )
    settings = ", ".join(f"{key} = {value}" for key, value in strategy.get("settings", {}).items())
    labels = ", ".join(f"`{label}`" for label in info["labels"])
    example = '"a text"' if info.get("text_pair_column") is None else '("a text", "another")'
    export = EXPORTS.get(tuning, ("--as single", "transformers model"))
    exported = f"\n`deni export {name} out {export[0]}` writes one ordinary {export[1]}.\n" if export else ""
    return f"""---
library_name: deni
pipeline_tag: {pipeline}
tags: [deni, {pipeline}]
---

# {name}

{what} fine-tuned with [deni](https://arxiv.org/abs/2406.12471): {info["runs"] * info["members"]} member(s)
of one model that vote.

- {outputs}: {labels}
- Base model: {info.get("recipe", {}).get("model", "not stated")}
- Tuning: {tuning}
- Strategy: {strategy.get("name", "not stated")}{f" ({settings})" if settings else ""}
- Schedule: `{info.get("schedule", "")}`, {info.get("member_steps", "?")} member-steps
- Seeds: {info.get("seeds", "not stated")}{f", {own}" if (own := info.get("source_seeds")) else ""}

{table}

```python
import deni

classifier = deni.load("{name}")
classifier([{example}])  # a dictionary for each text: {keys}
```
{exported}"""
