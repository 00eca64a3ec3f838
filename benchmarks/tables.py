"""Write the tables of this folder's README from the results; `--check` compares only.

python benchmarks/tables.py
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from gpu.table import gpu

from deni.engine.memory import Estimate
from deni.measures import mean_interval

HERE = Path(__file__).parent
TARGETS = {
    "full": "Targets: stacked at most 0.30 of the textbook loop, a DENI run at most 1.3 of one textbook run.",
    "lora": "Targets: stacked at most 0.40 of the textbook loop, a DENI run at most 2 times its memory.",
}


def where(result: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    at = f"{result['device']}, {result['threads']} threads, {versions}, commit {result['commit']}"
    return f"{at}; `{result['command']}`."


def member_step(result: dict[str, Any]) -> str:
    lines = [where(result), ""]
    for tuning in ("full", "lora"):
        lines += [f"**{tuning}**, seconds for one optimizer step of one member. {TARGETS[tuning]}", ""]
        lines += ["| what | seconds | ratio to textbook | peak memory, MiB |", "| --- | ---: | ---: | ---: |"]
        for name, row in result[tuning]["steps"].items():
            cost = f"{row['seconds_per_member_step']:.4f} | {row['ratio']:.2f} | {row['peak_mib']:.0f}"
            lines.append(f"| {name} | {cost} |")
        lines += ["", "| whole run | seconds | ratio to one textbook run | to ten | memory, ratio to textbook |"]
        lines += ["| --- | ---: | ---: | ---: | ---: |"]
        for name, row in result[tuning]["runs"].items():
            one, ten = row["ratio_to_one_textbook"], row["ratio_to_ten_textbook"]
            memory = row["memory_ratio_to_textbook"]
            lines.append(f"| {name} | {row['seconds']:.1f} | {one:.2f} | {ten:.2f} | {memory:.1f} |")
        lines.append("")
    return "\n".join(lines)


def memory(result: dict[str, Any]) -> str:
    lines = [where(result), ""]
    lines.append("| tuning | batch | members | at a time | peak, MiB | to one member | of training, MiB | estimate |")
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for row in result["rows"]:
        what = f"{row['tuning']} | {row['batch']} | {row['members']} | {row['at_a_time']} | {row['peak_mib']:.0f}"
        estimate = ""
        if "estimate" in row:
            need = Estimate(**row["estimate"]).resident().peak(row["members"], row["at_a_time"]) / 2**20
            estimate = f"{need:.0f} ({100 * (need / row['training_mib'] - 1):+.0f} %)"
        lines.append(f"| {what} | {row.get('ratio', 1):.2f} | {row['training_mib']:.0f} | {estimate} |")
    return "\n".join(lines)


def roofline(result: dict[str, Any]) -> str:
    by = "oneDNN" if result["onednn"] else "PyTorch's own library"
    said = (
        f"Float32 products by {by}; outside of deni PyTorch's reach {result['limit_outside_gflops']:.0f} GFLOP/s. The "
        f"target is a share of {result['target']:.0%} of the limit, counting real tokens."
    )
    lines = [where(result), "", said, ""]
    names = "limit, GFLOP/s | ms per member-step | padding | share of the limit | with padding | products alone"
    lines += [f"| case | {names} |", "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for row in result["rows"]:
        numbers = f"{row['limit_gflops']:.0f} | {row['ms_per_member_step']:.1f} | {row['padded']:.2f}"
        shares = " | ".join(f"{row[name]:.0%}" for name in ("share", "share_with_padding", "products_alone"))
        lines.append(f"| {case_of(row)} | {numbers} | {shares} |")
    kinds = list(result["rows"][0]["kinds"])
    lines += ["", f"| case | {' | '.join(kinds)} |", f"| --- | {' | '.join('---:' for _ in kinds)} |"]
    for row in result["rows"]:
        shares = " | ".join(f"{row['kinds'][kind]:.0%}" for kind in kinds)
        lines.append(f"| {case_of(row)} | {shares} |")
    return "\n".join(lines)


def scaling(result: dict[str, Any]) -> str:
    parts = []
    for name, curve in result["curves"].items():
        head = [name, *(f"{value:,}" for value in curve["values"]), "exponent"]
        lines = [where(curve), "", f"| {' | '.join(head)} |", "| --- |" + " ---: |" * (len(head) - 1)]
        for what, seconds in curve["seconds"].items():
            cost = " | ".join(f"{each:.2g}" if each < 10 else f"{each:.0f}" for each in seconds)
            lines.append(f"| {what} | {cost} | {curve['exponents'][what]:.2f} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def dry_run(result: dict[str, Any]) -> str:
    lines = [where(result), "", "| study | predicted, s | took, s | ratio |", "| --- | ---: | ---: | ---: |"]
    for row in result["rows"]:
        lines.append(f"| {row['study']} | {row['predicted']:.0f} | {row['seconds']:.0f} | {row['ratio']:.2f} |")
    return "\n".join(lines)


def case_of(row: dict[str, Any]) -> str:
    members = "1 member" if row["members"] == 1 else f"{row['members']} members"
    return f"{row['tuning']}, {members}, {'bf16' if row['bf16'] else 'float32'}"


def padding(result: dict[str, Any]) -> str:
    names = "tokens computed per real one, before | after | ms per member-step, before | after | ratio"
    lines = [where(result), "", f"| case | {names} |", "| --- | ---: | ---: | ---: | ---: | ---: |"]
    for row in result["rows"]:
        name = f"{row['tuning']}, {row['what']}, {'bf16' if row['bf16'] else 'float32'}"
        numbers = f"{row['padded']:.2f} | {row['computed']:.2f} | {row['ms_padded']:.1f} | {row['ms_without']:.1f}"
        lines.append(f"| {name} | {numbers} | {row['ratio']:.2f} |")
    return "\n".join(lines)


def learning_rates(result: dict[str, Any]) -> str:
    others: dict[str, set[str]] = {}
    for row in result["rows"]:
        others.setdefault(row["transformers"], set()).add(row["tuning"])
    each = "; ".join(f"{', '.join(sorted(names))} with transformers {number}" for number, names in others.items())
    lines = [f"{where(result)} By transformers: {each}.", ""]
    lines.append("| dataset | tuning | learning rate | macro F1 of each seed | mean |")
    lines.append("| --- | --- | ---: | --- | ---: |")
    for row in result["rows"]:
        each = ", ".join(f"{100 * f1:.1f}" for f1 in row["macro_f1"])
        rate = f"{row['learning_rate']:g}"
        lines.append(f"| {row['dataset']} | {row['tuning']} | {rate} | {each} | {100 * row['mean']:.1f} |")
    chosen = ", ".join(f"{tuning} {rate:g}" for tuning, rate in result["chosen"].items())
    return "\n".join([*lines, "", f"Chosen (best mean over the datasets): {chosen}."])


def loading(result: dict[str, Any]) -> str:
    lines = [where(result), "", f"{result['rows']:,} rows, {result['mib']:.0f} MiB.", "", "| what | seconds |"]
    lines += ["| --- | ---: |", *(f"| {name} | {seconds:.2f} |" for name, seconds in result["seconds"].items())]
    memory = f"The texts hold {result['held_mib']:.0f} MiB; the peak is {result['peak_mib']:.0f} MiB."
    return "\n".join([*lines, "", memory])


def startup(result: dict[str, Any]) -> str:
    lines = [where(result), "", f"Before is commit {result['before']}; the target of commands is {result['target']} s."]
    lines += ["", "| what | before, s | after, s |", "| --- | ---: | ---: |"]
    lines += [f"| `{row['what']}` | {row['before']:.2f} | {row['after']:.2f} |" for row in result["rows"]]
    one = result["predict"]
    said = f"`deni predict` of one text. Before is commit {one['before']}; the target is {one['target']:g} s."
    lines += ["", where(one), "", said]
    lines += ["", "| model | before, s | after, s | ratio |", "| --- | ---: | ---: | ---: |"]
    lines += [
        f"| {row['what']} | {row['before']:.2f} | {row['after']:.2f} | {row['after'] / row['before']:.2f} |"
        for row in one["rows"]
    ]
    return "\n".join(lines)


def serving(result: dict[str, Any]) -> str:
    loss = "lost none" if not result["lost"] else f"lost {result['lost']}"
    return "\n".join(
        [
            where(result),
            "",
            f"{result['clients']} clients, each with a text of {result['words']} words at a time, for "
            f"{result['seconds']:g} s; the load average of the machine was {result['load_average']}"
            + (f", and server and clients ran before all else (nice {result['nice']})." if result["nice"] else "."),
            "",
            "| requests a second | p50, ms | p99, ms | texts a batch | refused |",
            "| ---: | ---: | ---: | ---: | ---: |",
            f"| {result['throughput']} | {result['p50_ms']} | {result['p99_ms']} | {result['texts_a_batch']} | "
            f"{result['failed']} |",
            "",
            f"SIGTERM under this load {loss}: {result['answered_after_sigterm']} requests were answered after it, and "
            f"the server ended within {result['stop_seconds']} s.",
        ]
    )


def interval_coverage(result: dict[str, Any]) -> str:
    lines = [
        where(result),
        "",
        f"{result['seeds']} seeds and intervals of {100 * result['confidence']:g} % unless stated otherwise; "
        f"{result['times']} simulations (a quarter of them for the means).",
    ]
    names = list(next(iter(result["spread"].values())))
    lines += ["", f"| scores | {' | '.join(names)} |", "| --- |" + " ---: |" * len(names)]
    for scores, row in result["spread"].items():
        lines.append(f"| {scores} | {' | '.join(f'{100 * row[name]:.1f} %' for name in names)} |")
    lines += [
        "",
        "| predictions | seeds | confidence | mean difference | length over that from the true standard error |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for row in result["means"]:
        how = f"{row['predictions']} | {row['seeds']} | {100 * row['confidence']:g} %"
        lines.append(f"| {how} | {100 * row['coverage']:.1f} % | {row['length']:.2f} |")
    return "\n".join(lines)


def wrong_labels(result: dict[str, Any]) -> str:
    head = ["dataset", "texts", "flipped", "accuracy", "first", "listed", "precision", "recall", "listed without"]
    lines = [
        where(result),
        "",
        f"Mean and SD over {result['draws']} draws of texts and flips; without flips, of {result['without_flips']}.",
        "",
    ]
    lines += [f"| {' | '.join(head)} |", "| --- |" + " ---: |" * (len(head) - 1)]
    for row in result["rows"]:
        figures = [
            f"{row[name]['mean'] * times:.{digits}f} ± {row[name]['sd'] * times:.{digits}f}{unit}"
            for name, times, digits, unit in (
                *((name, 100, 0, " %") for name in ("accuracy", "at_flipped")),
                ("listed", 1, 0, ""),
                *((name, 100, 0, " %") for name in ("precision", "recall")),
                ("listed_without_flips", 1, 0, ""),
            )
        ]
        lines.append(f"| {row['dataset']} | {row['texts']} | {row['flipped']} | {' | '.join(figures)} |")
    return "\n".join(lines)


def few_shot(result: dict[str, Any]) -> str:
    lines = [
        where(result),
        "",
        f"Macro F1 in points on the same {result['test_texts']} test texts, mean ± SD over splits; the difference is "
        "contrastive minus the method, paired over the splits of both, with an interval of 95 %; seconds of processor "
        "time to train, and optimizer steps.",
        "",
        "| dataset | a class | method | splits | macro F1 | contrastive minus it | seconds | steps |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in result["rows"]:
        apart, what = row["contrastive_minus"], f"{row['dataset']} | {row['size']} | {row['method']} | {row['splits']}"
        minus = "" if apart is None else f"{apart[0]:+.1f} ({apart[1]:+.1f} to {apart[2]:+.1f})"
        score, cost = f"{row['mean']:.1f} ± {row['sd']:.1f}", f"{row['seconds']:.1f} | {row['steps']:.0f}"
        lines.append(f"| {what} | {score} | {minus} | {cost} |")
    return "\n".join(lines)


def suggest(result: dict[str, Any]) -> str:
    lines = [where(result)]
    for metric, name in (("accuracy", "Accuracy"), ("macro_f1", "Macro F1")):
        head = ["dataset", "texts are", *map(str, result["labels"]), "minus random"]
        how = f"mean over {result['seeds']} seeds; the difference is the mean over 100 to 300 labels, paired"
        lines += ["", f"{name} in points with so many labels, {how}, with an interval of 95 %."]
        lines += ["", f"| {' | '.join(head)} |", "| --- | --- |" + " ---: |" * (len(head) - 2)]
        for row in result["rows"]:
            for way, scores in row["ways"].items():
                points = " | ".join(f"{each:.1f}" for each in scores[metric]["mean"])
                more = scores[metric]["minus_random"]
                apart = "" if more is None else f"{more[0]:+.1f} ({more[1]:+.1f} to {more[2]:+.1f})"
                lines.append(f"| {row['dataset']} | {result['what'][way]} | {points} | {apart} |")
    return "\n".join(lines)


def adaptation(result: dict[str, Any]) -> str:
    head = ["dataset", "method", "macro F1 before", "SD", "after", "SD", "difference", "held-out loss before", "after"]
    head += ["best step", "steps", "minutes"]
    lines = [
        where(result),
        "",
        f"`frozen` (a regression on MiniLM's vectors) and `auto` on {result['labeled']} labels, {result['seeds']} "
        f"draws of these, macro F1 in points on {result['test']:,} test texts; the difference is paired over the "
        f"draws, with an interval of 95 %. The encoder is adapted to {result['pool']:,} texts.",
        "",
        f"| {' | '.join(head)} |",
        "| --- | --- |" + " ---: |" * (len(head) - 2),
    ]
    for row in result["rows"]:
        before, (more, low, high) = row["before"], row["minus_before"]
        for after, made in zip(row["after"], row["adaptations"], strict=True):
            each = [f"{statistics.mean(scores):.1f} | {statistics.stdev(scores):.1f}" for scores in (before, after)]
            loss = " | ".join(f"{value:.5f}" for value in made["held_out_loss"].values())
            cost = f"{made['best_step']} | {made['steps']} | {made['seconds'] / 60:.0f}"
            apart = f"{more:+.1f} ({low:+.1f} to {high:+.1f})"
            what = f"{row['dataset']} | {row['method']}"
            lines.append(f"| {what} | {each[0]} | {each[1]} | {apart} | {loss} | {cost} |")
    return "\n".join(lines)


def pool_source(result: dict[str, Any]) -> str:
    kinds = {"same": "same source", "half": "half of another", "other": "another source"}
    said = (
        f"{result['draws']} draws of labeled texts; pools of {result['texts']} texts, of the same dataset, half of "
        f"another one, and all of another one. Mean share (lowest to highest), and how often it is above "
        f"{result['limit']}, where `deni` warns."
    )
    lines = [where(result), "", said, ""]
    lines += [f"| labels | dataset | {' | '.join(f'{kind} | warned' for kind in kinds.values())} |"]
    lines += [f"| ---: | --- | {' | '.join(['---: | ---:'] * len(kinds))} |"]
    for row in result["rows"]:
        told = "{mean:.2f} ({lowest:.2f} to {highest:.2f}) | {warned:.0%}"
        each = (told.format(**row[kind]) for kind in kinds)
        lines.append(f"| {row['labels']} | {row['dataset']} | {' | '.join(each)} |")
    return "\n".join(lines)


def fold_coverage(result: dict[str, Any]) -> str:
    least = "; ".join(
        f"{factor}: {100 * lowest['simulation']:.1f} % and {100 * lowest['validation']:.1f} %"
        for factor, lowest in list(result["least_coverage"].items())[:9:2]
    )
    lines = [
        where(result),
        "",
        f"Intervals of 95 % from {result['folds']} folds; {result['times']} simulations a row. Factor "
        f"{result['factor']:g}: the smallest with which each row of the simulation has at least "
        f"{100 * result['least']:g} %, and so have the real texts at each number of labels, mean over datasets and "
        f"scores. The lowest of both by factor: {least}.",
    ]
    parts = (
        ("simulation", "world", "simulated"),
        ("validation", "data", f"real texts, {result['draws']} draws of labels a row"),
    )
    for part, key, head in parts:
        lines += [
            "",
            f"| {head} | labels | score | true | estimate | corrected t | with the factor | its length | bootstrap | "
            "its length |",
            "| --- | ---: | --- |" + " ---: |" * 7,
        ]
        for row in result[part]:
            shares = [f"{100 * row[name]:.1f} %" for name in ("corrected t", "widened")]
            values = [f"{100 * row[name]:.1f}" for name in ("true", "estimate")]
            boot = f"{100 * row['bootstrap']:.1f} % | {100 * row['bootstrap length']:.1f}"
            cells = [row[key], str(row["labels"]), row["score"], *values, *shares, f"{100 * row['length']:.1f}", boot]
            lines.append(f"| {' | '.join(cells)} |")
    for part, _, _ in parts:
        for labels in dict.fromkeys(row["labels"] for row in result[part]):
            rows = [row for row in result[part] if row["labels"] == labels]
            mean, boot = (100 * statistics.mean(row[name] for row in rows) for name in ("widened", "bootstrap"))
            lines += ["", f"Mean of the {part} at {labels} labels: {mean:.1f} %, the bootstrap {boot:.1f} %."]
    return "\n".join(lines)


def cross_validation_cost(result: dict[str, Any]) -> str:
    plain, crossed = result["plain"], result["crossed"]
    return "\n".join(
        [
            where(result),
            "",
            f"{result['labels']} labels of {result['data']}, `auto` ({plain['strategy']} with {plain['tuning']}, "
            f"{plain['epochs']:g} epochs), {result['folds']} folds; target: at most {result['target']} times.",
            "",
            "| command | processor seconds | times |",
            "| --- | ---: | ---: |",
            f"| `deni train` | {plain['seconds']:.0f} | 1 |",
            f"| `deni train --cv {result['folds']}` | {crossed['seconds']:.0f} | {result['ratio']:.2f} |",
        ]
    )


def by_seed(result: dict[str, Any], columns: list[str]) -> list[str]:
    """A row for each cell without its seed (the last part of its name): n, mean, SD, range, member-steps, seconds."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for cell, row in result["cells"].items():
        groups.setdefault(cell.rpartition(" ")[0], []).append(row)
    head = [*columns, "n", "macro F1", "SD", "lowest", "highest", "member-steps", "seconds"]
    lines = [f"| {' | '.join(head)} |", f"| {'--- | ' * len(columns)}{'---: | ' * 7}".rstrip()]
    for group, runs in groups.items():
        f1 = [100 * row["macro_f1"] for row in runs if "macro_f1" in row]
        if not f1:
            continue
        spread = f"{statistics.stdev(f1):.1f}" if len(f1) > 1 else ""
        cost = f"{runs[0]['member_steps']} | {statistics.mean(row['seconds'] for row in runs if 'seconds' in row):.0f}"
        what = " | ".join(group.split(" "))
        lines.append(
            f"| {what} | {len(f1)} | {statistics.mean(f1):.1f} | {spread} | {min(f1):.1f} | {max(f1):.1f} | {cost} |"
        )
    return lines


def tunings(result: dict[str, Any]) -> str:
    return "\n".join([where(result), "", *by_seed(result, ["tuning", "strategy"])])


def augmentation(result: dict[str, Any]) -> str:
    groups: dict[str, dict[str, dict[str, Any]]] = {}
    for cell, row in result["cells"].items():
        group, _, seed = cell.rpartition(" ")
        groups.setdefault(group, {})[seed] = row
    head = ["tuning", "strategy", "augmented texts", "runs", "failed", "macro F1", "95 % interval", "SD"]
    head += ["minus default", "95 % interval", "member-steps", "seconds"]
    lines = [where(result), "", f"| {' | '.join(head)} |", "| --- | --- | --- |" + " ---: |" * (len(head) - 3)]
    apart = []  # whether the interval of a difference excludes 0
    for group, runs in sorted(groups.items(), key=lambda each: (each[0].split()[0], each[1]["0"]["member_steps"])):
        done = {seed: 100 * row["macro_f1"] for seed, row in runs.items() if "macro_f1" in row}
        default = {seed: 100 * row["macro_f1"] for seed, row in groups[f"{group.split()[0]} default none"].items()}
        mean, low, high = mean_interval(list(done.values()))
        values = [len(done), len(runs) - len(done), f"{mean:.1f}", f"{low:.1f} to {high:.1f}"]
        values += [f"{statistics.stdev(done.values()):.1f}"]
        if group.split()[1] == "default":
            values += ["", ""]
        else:
            more, low, high = mean_interval([f1 - default[seed] for seed, f1 in done.items()])
            values += [f"{more:+.1f}", f"{low:+.1f} to {high:+.1f}"]
            apart.append(low > 0 or high < 0)
        some = [row for row in runs.values() if "macro_f1" in row]
        values += [some[0]["member_steps"], f"{statistics.mean(row['seconds'] for row in some):.0f}"]
        lines.append(f"| {' | '.join(map(str, [*group.split(' '), *values]))} |")
    texts = sorted({row["test_texts"] for row in result["cells"].values() if "test_texts" in row})
    says = (
        f"{' or '.join(map(str, texts))} test texts; one choice of texts (one block). Intervals are t intervals over "
    )
    found = f"Of {len(apart)} differences from default {sum(apart) or 'none'} has an interval that excludes 0."
    return "\n".join(
        [*lines, "", f"{says}the seeds, on these test texts; differences are paired over the seeds. {found}"]
    )


def report(result: dict[str, Any]) -> str:
    head = ["runs", "strategies", "settings", "test texts", "seconds", "CPU seconds", "page, MiB", "peak memory, MiB"]
    names = ("runs", "strategies", "settings", "texts", "seconds", "cpu_seconds", "mib", "peak_mib")
    values = [f"{result[name]:,}" for name in names]
    return "\n".join(
        [where(result), "", f"| {' | '.join(head)} |", "|" + " ---: |" * len(head), f"| {' | '.join(values)} |"]
    )


def kills(result: dict[str, Any]) -> str:
    killed = {**result["kills"], "all": sum(result["kills"].values())}
    lines = [where(result), "", "| killed | times |", "| --- | ---: |"]
    lines += [f"| {name} | {times} |" for name, times in killed.items()]
    rows = {
        "runs of the command": result["runs"],
        "studies that were finished": result["studies"],
        "their cells": result["cells"],
        "cells lost": result["lost"],
        "cells written twice": result["twice"],
        "stores that failed `PRAGMA integrity_check`": result["damaged"],
        "drivers that hung": result["hung"],
        "drivers that ended in a traceback": result["tracebacks"],
        "cells retried after three workers of theirs were killed": result["failed_and_retried"],
        "longest time until a driver without its head ended, seconds": result["slowest_end_without_head"],
        "largest difference of a log probability from an undisturbed study": f"{result['largest_difference']:.1g}",
        "seconds in all": result["seconds"],
    }
    lines += ["", "| what came of it | |", "| --- | ---: |", *(f"| {name} | {value} |" for name, value in rows.items())]
    return "\n".join(lines)


def cluster(result: dict[str, Any]) -> str:
    lines = [where(result), "", "| what happens | exit codes | seconds until it ended | seconds in all | outcome |"]
    lines.append("| --- | --- | ---: | ---: | --- |")
    for row in result["scenes"]:
        if "cells" in row:
            came = f"{row['cells']} of {result['cells']} cells, {row['lost']} lost, {row['twice']} written twice"
        else:
            came = f"from {row['began']}"
        came += f"; at most {row['largest_difference']:.1g} from what nobody disturbed"
        codes = ", ".join(map(str, row.get("exit_codes", [0])))
        ended = row.get("seconds_until_the_driver_ended", row.get("seconds_until_the_other_ended", ""))
        what = f"**{row['scene']}**: {row['what'].removesuffix('.')}"
        lines.append(f"| {what} | {codes} | {ended} | {row['seconds']:.0f} | {came} |")
    return "\n".join(lines)


def kills_of_commands(result: dict[str, Any]) -> str:
    head = [
        "command",
        "killed",
        "resumed or repeated",
        "was finished",
        "stuck",
        "another result",
        "half-written",
        "leftovers",
    ]
    lines = [where(result), "", f"| {' | '.join(head)} |", "| --- |" + " ---: |" * (len(head) - 1)]
    for name, row in result["commands"].items():
        command, comma, how = name.partition(",")
        kinds = ", ".join(f"{times} {kind}" for kind, times in row["killed"].items())
        went = row["went_on"]
        again = sum(went.get(key, 0) for key in ("resumed", "began again", "the same command again"))
        came = " | ".join(str(row[key]) for key in ("stuck", "different", "half_written"))
        what = f"`{command}`{comma}{how} | {row['kills']} ({kinds})"
        left = sum(row["left_behind"].values())
        lines.append(f"| {what} | {again} | {went.get('was finished', 0)} | {came} | {left} |")
    return "\n".join([*lines, "", f"{result['seconds']} seconds in all."])


def fuzz(result: dict[str, Any]) -> str:
    names = list(next(iter(result["outcomes"].values())))
    rows = {**result["outcomes"]}
    rows["all"] = {name: sum(each[name] for each in result["outcomes"].values()) for name in names}
    lines = [where(result), "", f"| input | cases | {' | '.join(names)} |", "| --- |" + " ---: |" * (len(names) + 1)]
    for kind, row in rows.items():
        lines.append(f"| {kind} | {sum(row.values()):,} | {' | '.join(f'{row[name]:,}' for name in names)} |")
    return "\n".join(lines)


def fuzz_commands(result: dict[str, Any]) -> str:
    return fuzz(result)


def forecast(result: dict[str, Any]) -> str:
    head = ["dataset", "true gain", "error of the gain", "as the last value", "gains in the interval", "width"]
    head += ["error of the score", "as the last value", "scores in the interval", "width"]
    names = ("gain", "gain_error", "naive_gain_error", "gain_coverage", "gain_width")
    names += ("score_error", "naive_score_error", "score_coverage", "score_width")
    lines = [
        where(result),
        "",
        f"Simulated with logistic regression on the frozen MiniLM: from {result['seen']} labels to {result['ahead']}, "
        f"{result['draws']} draws a dataset. Means in points of macro F1, errors absolute; intervals of "
        f"{100 * result['confidence']:g} %.",
        "",
        f"| {' | '.join(head)} |",
        "| --- |" + " ---: |" * (len(head) - 1),
    ]
    for row in result["results"]:
        values = [f"{100 * row[name]:.0f} %" if "coverage" in name else f"{row[name]:.1f}" for name in names]
        lines.append(f"| {row['dataset']} | {' | '.join(values)} |")
    return "\n".join(lines)


def study(result: dict[str, Any]) -> str:
    head = ["tuning", "strategy", "seeds", "texts", "threads", "alone, s", "packed, s", "ratio", "ratio of CPU s"]
    lines = [where(result), "", f"| {' | '.join(head)} |", "| --- | --- |" + " ---: |" * (len(head) - 2)]
    for row in result["rows"]:
        cost = " | ".join(f"{row[f'{how}_seconds']:.1f}" for how in ("alone", "packed"))
        what = " | ".join(str(row[name]) for name in ("tuning", "strategy", "seeds", "labelled", "threads"))
        lines.append(f"| {what} | {cost} | {row['ratio_of_seconds']:.2f} | {row['ratio_of_cpu_seconds']:.2f} |")
    return "\n".join(lines)


def lora_adapters(result: dict[str, Any]) -> str:
    ways = ("stacked", "one after another", "PEFT")
    head = ["tokens", "adapters", *(f"{way}, s" for way in ways), *(f"{way}, MiB" for way in ways), "stacked / PEFT"]
    lines = [where(result), "", f"| {' | '.join(head)} |", "|" + " ---: |" * len(head)]
    for row in result["rows"]:
        seconds, memory = ([row[way][what] for way in ways] for what in ("seconds", "mib"))
        cost = [*(f"{each:.3f}" for each in seconds), *(f"{each:.0f}" for each in memory)]
        lines.append(f"| {row['tokens']} | {row['adapters']} | {' | '.join(cost)} | {seconds[0] / seconds[2]:.2f} |")
    return "\n".join(lines)


def packed_step(result: dict[str, Any]) -> str:
    lines = [where(result)]
    for what, rows in (("a member-step", result["rows"]), ("a prediction", result["predictions"])):
        ways = list(rows[0]["ratio"])
        head = ["dataset", "runs", "members", *(f"{way}, ms" for way in ways), *(f"{way}, ratio" for way in ways[1:])]
        lines += ["", f"Of {what}:", "", f"| {' | '.join(head)} |", "| --- |" + " ---: |" * (len(head) - 1)]
        for row in rows:
            cost = [f"{value:.2f}" for value in (*row["milliseconds"].values(), *list(row["ratio"].values())[1:])]
            lines.append(f"| {row['dataset']} | {row['runs']} | {row['members']} | {' | '.join(cost)} |")
    return "\n".join(lines)


def new_texts(result: dict[str, Any]) -> str:
    calibration, folds, labeled = result["calibration"], result["folds"], result["labeled"]
    how = {"split": f"split, {calibration} calibration texts", "folds": f"{folds} folds"}
    head = ["dataset", "labels", "score", "calibrated by", "level", "coverage", "SD", "mean size", "least class"]
    lines = [
        where(result),
        "",
        f"Frozen MiniLM and logistic regression, mean of {result['draws']} draws of the labels:",
    ]
    lines += ["", f"| {' | '.join(head)} |", "| --- | ---: | --- | --- |" + " ---: |" * 5]
    for row in result["sets"]:
        what = f"{row['dataset']} | {row['labeled']} | {row['score']} | {how[row['how']]} | {row['level']:g}"
        lines.append(f"| {what} | {_of_sets(row)} |")
    named = [name for name in result if isinstance(result[name], dict) and "scope" in result[name]]
    lines += ["", f"MiniLM fine-tuned (LoRA, {result['epochs']:g} epochs, {labeled} labels), split, over 200 draws of "]
    lines[-1] += f"{calibration} calibration texts among 500 held-back ones:"
    lines += ["", "| dataset | accuracy | level | coverage | SD | mean size | least class |"]
    lines.append("| --- |" + " ---: |" * 6)
    for name in named:
        for row in result[name]["sets"]:
            lines.append(f"| {name} | {100 * result[name]['accuracy']:.1f} % | {row['level']:g} | {_of_sets(row)} |")
    ways = {
        "mean": "to the mean",
        "classes": "to class means",
        "neighbors": "to neighbors",
        "confidence": "1 - confidence",
    }
    shown = {"new_above_90": "new, at 90", "other_above_90": "other, at 90"}
    shown |= {"new_above_99": "new, at 99", "other_above_99": "other, at 99"}
    lines += [
        "",
        f"Scope, {labeled} labels: AUROC of other texts against new ones, and the share of each at 90 or 99 or above:",
    ]
    lines += ["", f"| labels of | other texts | features | {' | '.join((*ways.values(), *shown.values()))} |"]
    lines.append("| --- | --- | --- |" + " ---: |" * (len(ways) + len(shown)))
    for row in [*result["scope"], *(result[name]["scope"] for name in named)]:
        rates = [f"{row[way]:.3f}" if way in row else "" for way in ways] + [f"{100 * row[key]:.0f} %" for key in shown]
        lines.append(f"| {row['dataset']} | {row['other']} | {row['features']} | {' | '.join(rates)} |")
    return "\n".join(lines)


def _of_sets(row: dict[str, Any]) -> str:
    coverage, spread, least = (f"{100 * row[name]:.1f} %" for name in ("coverage", "coverage_sd", "least_class"))
    return f"{coverage} | {spread} | {row['size']:.2f} | {least}"


def calibration(result: dict[str, Any]) -> str:
    def arrow(row: dict[str, Any], name: str, scale: int, digits: int) -> str:
        before, after = (f"{scale * row[when][name]:.{digits}f}" for when in ("before", "after"))
        return f"{before} → {after}"

    lines = [f"{where(result)} The classifier is {result['classifier']}.", ""]
    lines.append("| dataset | labels | draws | accuracy, % | temperature | ECE, % | Brier score | NLL | NLL as said |")
    lines.append("| --- |" + " ---: |" * 8)
    for row in result["rows"]:
        each = f"{100 * row['accuracy']:.1f} | {row['temperature']:.2f} | {arrow(row, 'ece', 100, 1)}"
        each += f" | {arrow(row, 'brier', 1, 3)} | {arrow(row, 'nll', 1, 3)} | {row['said']['nll']:.3f}"
        lines.append(f"| {row['dataset']} | {row['texts']:,} | {row['draws']} | {each} |")
    lines += ["", "Other calibrators, where there are 1,000 labels and 50 of each class, on the held-back texts:", ""]
    lines.append("| dataset | labels | NLL: temperature | vector | isotonic | labels changed, %: vector | isotonic |")
    lines.append("| --- |" + " ---: |" * 6)
    for row in result["rows"]:
        if others := row["others"]:
            losses = " | ".join(f"{others[name]['nll']:.3f}" for name in ("vector", "isotonic"))
            changed = " | ".join(f"{100 * others[name]['changed']:.1f}" for name in ("vector", "isotonic"))
            lines.append(f"| {row['dataset']} | {row['texts']:,} | {row['after']['nll']:.3f} | {losses} | {changed} |")
    return "\n".join(lines)


def abstention(result: dict[str, Any]) -> str:
    lines = [where(result), "", f"Simulated, where the truth is known; target 0.95, {result['draws']:,} draws:", ""]
    lines.append("| errors | labels | answers at all, % | texts answered, % | accuracy below target, % (at most 5) |")
    lines.append("| --- |" + " ---: |" * 4)
    for row in result["simulated"]:
        share = " | ".join(f"{100 * row[name]:.1f}" for name in ("answers", "coverage", "below"))
        lines.append(f"| {row['world']} | {row['texts']:,} | {share} |")
    lines += ["", f"Held-back texts of real datasets; the classifier is {result['classifier']}.", ""]
    head = ["dataset", "labels", "by", "target", "draws", "supported", "below the target"]
    head += ["texts answered, %: said", "found", "accuracy, %"]
    lines += [f"| {' | '.join(head)} |", "| --- | ---: | --- |" + " ---: |" * (len(head) - 3)]
    by = {"answers": "out-of-fold predictions", "file": "as many labels more"}
    for row in result["rows"]:
        if not row["supported"]:
            continue
        counts = f"{row['target']} | {row['draws']} | {row['supported']} | {row['below']}"
        shares = [f"{100 * row[name]:.1f}" for name in ("said", "coverage", "accuracy")]
        lines.append(f"| {row['dataset']} | {row['texts']:,} | {by[row['by']]} | {counts} | {' | '.join(shares)} |")
    supported, below = (sum(row[name] for row in result["rows"]) for name in ("supported", "below"))
    drawn = sum(row["draws"] for row in result["rows"])
    many = f"Of {drawn:,} draws the target was supported in {supported:,}, and not reached in {below:,}"
    lines += ["", f"{many} ({100 * below / drawn:.1f} %; at most 5 % are promised). Rows without support are left out."]
    return "\n".join(lines)


def onnx_models(result: dict[str, Any]) -> str:
    lines = [where(result), "", "| what | architecture | tuning | form | largest difference |"]
    lines.append("| --- | --- | --- | --- | ---: |")
    for name, row in result["cases"].items():
        what = "one class" if name == row["architecture"] else name
        refused = "refused" in row
        outcome = "refused | -" if refused else f"{row['form']} | {max(row['differences'].values()):.0e}"
        lines.append(f"| {what} | {row['architecture']} | {row.get('tuning', 'lora')} | {outcome} |")
    return "\n".join(lines)


def onnx_int8(result: dict[str, Any]) -> str:
    lines = [where(result), ""]
    lines.append("| dataset | test texts | PyTorch | ONNX | int8 | labels that int8 changes | MB, ONNX | MB, int8 |")
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, row in result["datasets"].items():
        scores = " | ".join(f"{100 * row['macro_f1'][form]:.2f}" for form in ("torch", "onnx", "int8"))
        sizes = " | ".join(f"{row['bytes'][form] / 1e6:.0f}" for form in ("onnx", "int8"))
        lines.append(f"| {name} | {row['test']} | {scores} | {row['changed_labels']} | {sizes} |")
    return "\n".join(lines)


def onnx_speed(result: dict[str, Any]) -> str:
    lines = [where(result), "", f"Texts a second, the best of {result['rounds']} rounds."]
    lines += ["", "| members | batch | PyTorch | ONNX | int8 |", "| ---: | ---: | ---: | ---: | ---: |"]
    for row in result["rows"]:
        cells = [
            f"{row['torch']:.0f}",
            *(f"{row[form]:.0f} ({row[form] / row['torch']:.1f})" for form in ("onnx", "int8")),
        ]
        lines.append(f"| {row['members']} | {row['batch']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def compiled(result: dict[str, Any]) -> str:
    lines = [where(result), "", "| one model, full tuning | ms a step | to PyTorch |", "| --- | ---: | ---: |"]
    lines += [f"| {row['case']} | {row['ms']:.0f} | {row['ratio']:.2f} |" for row in result["rows"]]
    return "\n".join([*lines, "", f"Compiling takes {result['compiling_seconds']:.0f} seconds, once."])


def bfloat16(result: dict[str, Any]) -> str:
    lines = [where(result), "", "| dataset | training | float32, s | bfloat16, s | ratio |"]
    lines.append("| --- | --- | ---: | ---: | ---: |")
    for row in result["rows"]:
        seconds = f"{row['float32']:.1f} | {row['bf16']:.1f} | {row['ratio']:.2f}"
        lines.append(f"| {row['dataset'].replace('_', chr(92) + '_')} | {row['case']} | {seconds} |")
    return "\n".join(lines)


def lora_concatenated(result: dict[str, Any]) -> str:
    lines = [where(result), "", "| members | rank | precision | apart, ms | one product, ms | ratio |"]
    lines.append("| ---: | ---: | --- | ---: | ---: | ---: |")
    for row in result["rows"]:
        numbers = f"{row['ms_apart']:.2f} | {row['ms']:.2f} | {row['ratio']:.2f}"
        lines.append(f"| {row['members']} | {row['rank']} | {row['dtype']} | {numbers} |")
    return "\n".join(lines)


# Which tables are on which page; each is of the result of its own name.
PAGES = {
    HERE / "README.md": (
        roofline,
        padding,
        compiled,
        lora_concatenated,
        bfloat16,
        member_step,
        memory,
        learning_rates,
        tunings,
        augmentation,
        loading,
        interval_coverage,
        forecast,
        few_shot,
        wrong_labels,
        suggest,
        adaptation,
        new_texts,
        fold_coverage,
        pool_source,
        cross_validation_cost,
        report,
        study,
        dry_run,
        scaling,
        gpu,
        packed_step,
        lora_adapters,
        kills,
        cluster,
        kills_of_commands,
        fuzz,
        fuzz_commands,
        onnx_int8,
        onnx_speed,
        startup,
        serving,
    ),
    HERE.parent / "docs" / "onnx.md": (onnx_models, onnx_int8, onnx_speed),
    HERE.parent / "docs" / "forecast.md": (forecast,),
    HERE.parent / "docs" / "calibration.md": (calibration,),
    HERE.parent / "docs" / "strategies" / "contrastive.md": (few_shot,),
    HERE.parent / "docs" / "abstention.md": (abstention,),
}


def fill(text: str, name: str, table: str) -> str:
    """Put a table between the markers of its name."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, _, rest = text.partition(begin)
    return f"{before}{begin}\n\n{table.strip()}\n\n{end}{rest.partition(end)[2]}"


def read(name: str) -> Any:
    """A result; None for one that no machine was there for."""
    path = HERE / "results" / f"{name}.json"
    return None if name == "gpu" and not path.exists() else json.loads(path.read_text(encoding="utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    for page, tables in PAGES.items():
        text = filled = page.read_text(encoding="utf-8")
        for table in tables:
            filled = fill(filled, table.__name__, table(read(table.__name__)))
        if check and filled != text:
            sys.exit(f"{page} is not what the results say: run benchmarks/tables.py")
        page.write_text(filled, encoding="utf-8")


if __name__ == "__main__":
    main()
