"""The model card of an artifact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deni.tasks import DEFAULT, TASKS

# How a tuning's artifact becomes a model without `deni`; UniPELT's does not.
EXPORTS = {"prompt": ("--as single --adapter", "PEFT adapter"), "unipelt": None}


def card(name: str, info: Mapping[str, Any]) -> str:
    """The model card, in Markdown."""
    task = TASKS[info.get("task", DEFAULT)]
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
pipeline_tag: {task.pipeline}
tags: [deni, {task.pipeline}]
---

# {name}

{task.model_is} fine-tuned with [deni](https://arxiv.org/abs/2406.12471): {info["runs"] * info["members"]} member(s)
of one model that vote.

- {task.outputs_are}: {labels}
- Base model: {info.get("recipe", {}).get("model", "not stated")}
- Tuning: {tuning}
- Strategy: {strategy.get("name", "not stated")}{f" ({settings})" if settings else ""}
- Schedule: `{info.get("schedule", "")}`, {info.get("member_steps", "?")} member-steps
- Seeds: {info.get("seeds", "not stated")}{f", {own}" if (own := info.get("source_seeds")) else ""}

{table}

```python
import deni

classifier = deni.load("{name}")
classifier([{example}])  # a dictionary for each text: {", ".join(task.keys)}
```
{exported}"""
