"""What `run.py` measured, as Markdown.

python benchmarks/gpu/table.py benchmarks/results/gpu.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

Cases = dict[str, dict[str, Any]]


def gpu(result: dict[str, Any] | None) -> str:
    """All tables; without a result that there is none."""
    if result is None:
        return "This has not run yet: there is no result."
    cases: Cases = result["cases"]
    good = {name: value for name, value in cases.items() if "error" not in value and "skipped" not in value}
    parts = [
        "\n\n".join(where(call) for call in result["calls"]),
        targets(good),
        correctness(good),
        steps(good),
        references(good),
        adapters(good),
        graphs(cases),
        runs(good),
        packs(good),
        claims(good),
        failures(cases),
    ]
    return "\n\n".join(part for part in parts if part)


def where(call: dict[str, Any]) -> str:
    """What one call ran on."""
    versions = ", ".join(f"{name} {number}" for name, number in call["versions"].items())
    also = [f"driver {call['driver']}"] if call.get("driver") else []
    also += [f"commit {call['commit']}"] if call.get("commit") else []
    tiny = " (a dry run: tiny models, no measurement)" if call.get("dry_run") else ""
    return f"{call['device']}, {', '.join([versions, *also])}{tiny}."


def table(head: list[str], rows: list[list[str]], words: int = 1) -> str:
    """A table whose first columns are words and whose others are numbers; nothing without rows."""
    if not rows:
        return ""
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * words + " ---: |" * (len(head) - words)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def adapters(cases: Cases) -> str:
    """Several LoRA adapters on a language model, stacked and switched in PEFT."""
    rows = []
    for name, stacked in cases.items():
        kind, _, rest = name.partition("/")
        if kind != "adapters" or "/stacked/" not in rest:
            continue
        shape, _, count = rest.split("/")
        switched = cases.get(f"adapters/{shape}/PEFT/{count}", {})
        times = (stacked["seconds"], switched.get("seconds"))
        memory = [f"{mib:,.0f}" if mib else "" for mib in (stacked["peak_mib"], switched.get("peak_mib"))]
        share = ratio(*times)
        rows.append([shape, count, *map(milliseconds, times), f"{share:.2f}" if share else "", *memory])
    head = ["language model", "adapters", "stacked, ms", "PEFT, ms", "ratio", "stacked, MiB", "PEFT, MiB"]
    return table(head, rows)


def milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{1000 * seconds:.1f}"


def ratio(a: float | None, b: float | None) -> float | None:
    return a / b if a is not None and b else None


def two(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.2f}"


# ---- targets -------------------------------------------------------------------------------------------------------


def targets(cases: Cases) -> str:
    """What was aimed at, and what was reached."""

    def seconds(name: str, key: str = "seconds") -> float | None:
        return cases.get(name, {}).get(key)

    def members(where: str) -> float | None:
        return ratio(seconds(f"{where}/10"), seconds(f"{where}/1"))

    graph = cases.get("graphs/bert-base/full", {})
    graphed = [graph.get(count, {}).get("seconds") for count in ("1", "10")]
    run = "runs/bert-base/full"
    steps = "steps/bert-base/full"
    textbook, single, deni = (seconds(f"{run}/{name}") for name in ("textbook", "default", "deni"))
    rows = [
        ["ten stacked members / one, BERT-base, full, bfloat16", "1.5", two(members(f"{steps}/bf16/stacked"))],
        ["the same in float32", "1.5", two(members(f"{steps}/float32/stacked"))],
        ["the same in the trainer, bfloat16", "1.5", two(members(f"{steps}/bf16/PopulationTrainer"))],
        ["the same as CUDA graphs, bfloat16", "1.5", two(ratio(graphed[1], graphed[0]))],
        [
            "a DENI run / a plain run with deni, BERT-base",
            "1.2",
            two(ratio(deni, single)),
        ],
        ["a DENI run / a textbook run, BERT-base", "", two(ratio(deni, textbook))],
        ["the same, summed over steps as CUDA graphs", "0.4", two(ratio(deni_by_graphs(cases), textbook))],
        ["20 seeds in one pack / sequentially, full", "0.1", two(seconds("packs/full/default", "ratio"))],
        ["the same with LoRA", "0.1", two(seconds("packs/lora/default", "ratio"))],
        ["20 seeds of DENI, full", "0.1", two(seconds("packs/full/deni", "ratio"))],
    ]
    return table(["ratio of seconds", "target", "reached"], rows)


def deni_by_graphs(cases: Cases) -> float | None:
    """Seconds of a DENI run whose steps are CUDA graphs, each phase captured anew: a sum, not a run."""
    graph, run = cases.get("graphs/bert-base/full", {}), cases.get("runs/bert-base/full/deni", {})
    if "steps" not in run or any("seconds" not in graph.get(count, {}) for count in ("1", "10")):
        return None
    from deni import DENI

    own = {1: graph["1"], DENI().members: graph["10"]}
    return sum(
        own[phase.members]["making"] + phase.steps * own[phase.members]["seconds"]
        for phase in DENI().schedule(run["steps"])
    )


# ---- what was measured ---------------------------------------------------------------------------------------------


def correctness(cases: Cases) -> str:
    rows = []
    for name, value in {**cases, "correct/CUDA graphs": cases.get("graphs/check", {})}.items():
        if name.startswith("correct/") and value:
            off = value.get("off", value.get("same", 0))
            rows.append([name.removeprefix("correct/"), f"{off:.1e}", "yes" if value["equal"] else "NO"])
    return table(["compared with the loop, or with each member alone", "largest difference", "within tolerance"], rows)


def steps(cases: Cases) -> str:
    """A row for each number of members."""
    rows = []
    for name, value in cases.items():
        part, *what = name.split("/")
        if part != "steps" or len(what) != 5 or what[3] not in ("stacked", "loop"):
            continue
        model, tuning, how, engine, members = what
        one = cases.get(f"steps/{model}/{tuning}/{how}/stacked/1", {}).get("seconds")
        each = ratio(value["seconds"], one)
        split = value.get("split", {})
        rows.append(
            [
                *(model, tuning, how, engine, members),
                *(milliseconds(value.get(key)) for key in ("seconds", "streamed", "per_member")),
                "" if each is None else f"{each:.2f}",
                milliseconds(split.get("optimizer")),
                f"{value['tflops']:.1f}",
                "" if value["peak_mib"] is None else f"{value['peak_mib']:,.0f}",
            ]
        )
    head = ["model", "tuning", "precision", "engine", "members", "ms", "ms, without sync", "ms per member"]
    return table([*head, "ratio to 1 member", "optimizer, ms", "TFLOP/s", "peak, MiB"], rows, 4)


def references(cases: Cases) -> str:
    rows = []
    for name, value in cases.items():
        part, *what = name.split("/")
        if part != "steps" or len(what) < 4 or what[3] in ("stacked", "loop"):
            continue
        textbook = cases.get("/".join([part, *what[:2], "float32", "textbook"]), {}).get("seconds")
        per_member = value.get("per_member", value["seconds"])
        against = ratio(per_member, textbook)
        memory = "" if value["peak_mib"] is None else f"{value['peak_mib']:,.0f}"
        kind = " ".join(what[3:])
        rows.append([*what[:3], kind, milliseconds(value["seconds"]), milliseconds(per_member), two(against), memory])
    head = ["model", "tuning", "precision", "what", "ms per step", "ms per member", "ratio to textbook", "peak, MiB"]
    return table(head, rows, 4)


def graphs(cases: Cases) -> str:
    rows, notes = [], []
    for name, value in cases.items():
        what = name.partition("/")[2]
        if name.startswith("graphs/") and "error" not in value and "skipped" not in value:
            for members in (count for count in ("1", "10") if count in value):
                own = value[members]
                after = own.get("seconds")
                cost = [milliseconds(own["eager"]), milliseconds(after), two(ratio(after, own["eager"]))]
                rows.append([f"{what}, CUDA graph", members, *cost, two(own.get("making"))])
                notes += [f"{what}, {members} members, as a graph: `{_line(own['error'])}`"] if "error" in own else []
        if name.startswith("compiled/") and "compiled" in value:
            eager, after = value["eager"]["seconds"], value["compiled"]["seconds"]
            cost = [milliseconds(eager), milliseconds(after), two(value["ratio"]), two(value["making"])]
            rows.append([f"{what}, torch.compile", "10", *cost])
            if value["graph_breaks"]:
                notes.append(f"{what}, compiled: {sum(value['graph_breaks'].values())} graph breaks")
    head = [
        "what, full step of stacked members in bfloat16",
        "members",
        "ms, eager",
        "ms, captured",
        "ratio",
        "seconds to capture",
    ]
    return "\n\n".join([table(head, rows), *notes]) if rows else ""


def runs(cases: Cases) -> str:
    rows = []
    for name, value in cases.items():
        part, *what = name.split("/")
        if part != "runs" or what[2] == "warm":
            continue
        where = f"runs/{what[0]}/{what[1]}"
        textbook, single = (cases.get(f"{where}/{other}", {}).get("seconds") for other in ("textbook", "default"))
        memory = "" if value["peak_mib"] is None else f"{value['peak_mib']:,.0f}"
        against = [two(ratio(value["seconds"], textbook)), two(ratio(value["seconds"], single))]
        rows.append(
            [*what, f"{value['steps']}", f"{value['member_steps']}", f"{value['seconds']:.1f}", *against, memory]
        )
    head = ["model", "tuning", "whole run", "steps", "member-steps", "seconds", "ratio to textbook", "to default"]
    return table([*head, "peak, MiB"], rows, 3)


def packs(cases: Cases) -> str:
    rows = []
    for name, value in cases.items():
        if not name.startswith("packs/"):
            continue
        many = len(value["alone_each"])
        how = f"{value['alone']:.1f}" + (
            f" (mean of {many} runs, times {value['seeds']})" if value["extrapolated"] else ""
        )
        rows.append([*name.split("/")[1:], str(value["seeds"]), f"{value['packed']:.1f}", how, two(value["ratio"])])
    head = ["tuning", "strategy", "seeds", "seconds, packed", "seconds, sequential", "ratio"]
    return table(head, rows, 2)


def claims(cases: Cases) -> str:
    rows = []
    for name, value in cases.items():
        if not name.startswith("claims/"):
            continue
        scores = [f"{100 * value[key]:.1f}" for key in ("mean", "sd", "lowest")]
        cost = [str(value["member_steps"]), f"{value['seconds']:.1f}"]
        rows.append([*name.split("/")[1:], str(len(value["macro_f1"])), *scores, *cost])
    head = ["dataset", "strategy", "n", "macro F1", "SD", "lowest", "member-steps of all", "seconds of all"]
    return table(head, rows, 2)


def failures(cases: Cases) -> str:
    """What was tried and did not work."""
    lines = [f"- {name}: `{_line(value['error'])}`" for name, value in cases.items() if "error" in value]
    return "\n".join(["Not measured:", "", *lines]) if lines else ""


def _line(text: str) -> str:
    return " ".join(text.replace("`", "'").split())[:300]


if __name__ == "__main__":
    print(gpu(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
