"""The model card of an artifact."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from deni.artifact.export_flags import export_of
from deni.tasks import DEFAULT, TASKS
from deni.terminal import visible


def card(name: str, info: Mapping[str, Any]) -> str:
    """The model card, in Markdown."""
    task = TASKS[info.get("task", DEFAULT)]
    strategy, tuning = info.get("strategy", {}), info.get("tuning", {}).get("name", "not stated")
    measured = {key: value for key, value in info.get("metrics", {}).items() if isinstance(value, int | float)}
    rows = [f"| {key} | {value if isinstance(value, int) else f'{value:.4f}'} |" for key, value in measured.items()]
    table = (
        "\n".join(["| metric | value |", "| --- | --- |", *rows]) if rows else "It was not measured when it was saved."
    )
    if "score" in (estimated := info.get("cross_validation", {})):
        table += f"\n\n{_estimate(estimated)}"
    settings = ", ".join(f"{key} = {value}" for key, value in strategy.get("settings", {}).items())
    labels = ", ".join(in_code(label) for label in info["labels"])
    example = '"a text"' if info.get("text_pair_column") is None else '("a text", "another")'
    use = f"classifier = deni.load({_quoted(name)})\nclassifier([{example}])  # a dictionary for each text: "
    use += ", ".join(task.keys)
    if task.generates:
        use = f'model = deni.load({_quoted(name)})\nmodel(["a prompt"])  # an answer for each prompt'
    pooling = info.get("pooling")
    pooled = f"\n- Pooling: {pooling['kind']}{', normalized' if pooling['normalize'] else ''}" if pooling else ""
    if info.get("pairs") == "bi":
        pooled += "\n- Pairs: both texts are encoded separately"
    encoders = info.get("encoders", {}).get("compared", [])
    among = ", ".join(escaped(each.get("model", "")) for each in encoders if isinstance(each, dict))
    best_of = f", the best of {among} by a cross-validated regression on their frozen vectors" if among else ""
    by_auto = ""
    if chosen := info.get("auto"):
        why, evidence = (escaped(chosen.get(key, "")) for key in ("why", "evidence"))
        by_auto = f"\n- Chosen by `auto`: {why} Evidence: {evidence}."
    sure = "".join(f"\n- {line}" for line in _sure(info))
    export = export_of(tuning, pooling is not None, info.get("pairs", "cross"))
    command = in_code(f"deni export {shlex.quote(name)} out {export.flags}") if export else ""
    exported = f"\n{command} writes one {export.written}.\n" if export else ""
    return f"""---
library_name: deni
pipeline_tag: {task.pipeline}
tags: [deni, {task.pipeline}]
---

# {escaped(name)}

{task.model_is} fine-tuned with [deni](https://arxiv.org/abs/2406.12471): {info["runs"] * info["members"]} member(s)
of one model that vote.

{f"- {task.outputs_are}: {labels}" if labels else "- Outputs: text"}
- Base model: {escaped(info.get("recipe", {}).get("model", "not stated"))}{best_of}
- Tuning: {escaped(tuning)}{pooled}
- Strategy: {escaped(strategy.get("name", "not stated"))}{f" ({escaped(settings)})" if settings else ""}{by_auto}{sure}
- Schedule: {in_code(info.get("schedule", ""))}, {info.get("member_steps", "?")} member-steps
- Seeds: {info.get("seeds", "not stated")}{f", {own}" if (own := info.get("source_seeds")) else ""}

{table}

```python
import deni

{use}
```
{exported}"""


def _sure(info: Mapping[str, Any]) -> Iterator[str]:
    """What is known of its probabilities, a sentence each."""
    calibration, targets = info.get("calibration", {}), info.get("abstention", {}).get("targets", {})
    if vote := calibration.get("vote"):
        change = ", ".join(
            f"{name} {vote['before'][key]:.3f} to {vote['after'][key]:.3f}"
            for key, name in (("ece", "calibration error"), ("brier", "Brier score"), ("nll", "log loss"))
            if key in vote.get("before", {}) and key in vote.get("after", {})
        )
        measured = f", which changes {change} (cross-fitted)" if change else ""
        yield f"Probabilities: divided by a temperature of {vote['temperature']:.2f}{measured}"
    for target, found in targets.items():
        if "coverage" in found:
            yield f"Accuracy {target}: supported for the surest {100 * found['coverage']:.0f} % of texts"


def _estimate(found: Mapping[str, Any]) -> str:
    """What the folds of a cross-validation say of the model's score."""
    score, low, high = (f"{found[name]:.4f}" for name in ("score", "low", "high"))
    confidence, share = (f"{100 * found[name]:.0f} %" for name in ("confidence", "trained_on"))
    return (
        f"Cross-validation in {found['folds']} folds: {escaped(found['metric'])} {score}, {confidence} interval {low} "
        f"to {high}; estimated by training on {share} of the labels; assumes that new texts come in the labels' mix of "
        "classes."
    )


def escaped(text: Any) -> str:
    """Text for a line of Markdown, without markup, links or HTML.

    >>> print(escaped("a_b [x](y) <img>"))
    a_b \\[x\\](y) \\<img\\>
    """
    return re.sub(r"([\\`*\[\]<>|~&]|(?<!\w)_|_(?!\w))", r"\\\1", _line(text))


def in_code(text: Any) -> str:
    """Text as a span of code, with a fence that does not occur in it.

    >>> in_code("a`b")
    '``a`b``'
    """
    line = _line(text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    space = " " if line.startswith("`") or line.endswith("`") or not line else ""
    return f"{fence}{space}{line}{space}{fence}"


def _line(text: Any) -> str:
    return visible(" ".join(str(text).split("\n")))


def _quoted(text: str) -> str:
    return json.dumps(visible(text), ensure_ascii=False)
