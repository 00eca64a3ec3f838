"""Files of texts, odd by their values or bytes, and what an unfinished augmentation left."""

from __future__ import annotations

import gzip
import io
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fuzzing.case import Case
from fuzzing.changes import change_bytes, change_json, dumped, odd_value, shortened
from fuzzing.whole import EASY, LABELS, MANY, MODEL, TEXTS, WORDS


def frame(count: int) -> list[dict[str, Any]]:
    """Rows of texts with labels."""
    return [{"text": f"{WORDS[at % 3]} {at}", "label": LABELS[at % 3]} for at in range(count)]


def odd_frame(draw: random.Random) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for row in frame(draw.choice((1, 3, 16, 60))):
        for name in ("text", "label"):
            if draw.random() < 0.08:
                row[name] = odd_value(draw, row[name])
        if draw.random() < 0.05:
            row.pop(draw.choice(("text", "label")))
        rows.append(row)
    return rows


def written(draw: random.Random, path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as the suffix says, with whatever they hold."""
    import csv

    suffix = path.name.removesuffix(".gz").rpartition(".")[2]
    if suffix in ("csv", "tsv"):
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, ["text", "label"], delimiter="\t" if suffix == "tsv" else ",", restval="")
        writer.writeheader()
        writer.writerows({key: shortened(value) for key, value in row.items()} for row in rows)
        data = buffer.getvalue().encode("utf-8", "surrogatepass")
    elif suffix == "conll":
        data = "".join(f"{shortened(row.get('text'))[:200]} {shortened(row.get('label'))}\n" for row in rows).encode(
            "utf-8", "replace"
        )
    elif suffix == "parquet":
        data = _parquet(draw, rows)
    elif suffix == "json":
        data = dumped(rows)
    else:
        data = b"".join(dumped(row) + b"\n" for row in rows)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def _parquet(draw: random.Random, rows: list[dict[str, Any]]) -> bytes:
    kinds = [
        *(pa.timestamp("us"), pa.timestamp("ns"), pa.timestamp("s", "Europe/Paris"), pa.timestamp("s", "Nowhere/Else")),
        *(pa.date32(), pa.date64(), pa.time64("ns"), pa.duration("s"), pa.decimal128(38, 10), pa.int64(), pa.uint64()),
        *(pa.float16(), pa.float64(), pa.bool_(), pa.binary(), pa.null(), pa.large_string(), pa.list_(pa.string())),
        *(pa.list_(pa.date32()), pa.struct([("a", pa.timestamp("us"))]), pa.map_(pa.string(), pa.int64())),
        pa.dictionary(pa.int32(), pa.string()),
    ]
    count = len(rows)
    columns = {
        "text": pa.array([f"text {at} {WORDS[at % 3]}" for at in range(count)]),
        "label": pa.array([LABELS[at % 3] for at in range(count)]),
    }
    for _ in range(draw.choice((1, 1, 2))):
        name = draw.choice(("text", "label", "when", "a\nb", "\x1b"))
        kind = draw.choice(kinds)
        columns[name] = _odd_array(draw, kind, count)
    if draw.random() < 0.2:  # bytes that are no UTF-8 in a column of strings
        bad = [draw.choice((b"ok", b"\xff\xfe", b"\xed\xa0\x80", None)) for _ in range(count)]
        binary = pa.array(bad, pa.binary())
        columns[draw.choice(("text", "label", "more"))] = pa.Array.from_buffers(
            pa.string(), count, binary.buffers(), binary.null_count
        )
    return _parquet_of(columns, store_schema=draw.random() < 0.7)


def _parquet_of(columns: dict[str, Any], **how: Any) -> bytes:
    sink = pa.BufferOutputStream()
    try:
        pq.write_table(pa.table(columns), sink, **how)
    except pa.ArrowException:  # such as seconds, which Parquet does not have and which overflow as milliseconds
        return _parquet_of({name: values for name, values in columns.items() if not pa.types.is_temporal(values.type)})
    return sink.getvalue().to_pybytes()


def _odd_array(draw: random.Random, kind: pa.DataType, count: int) -> pa.Array:
    whole = pa.array(
        [draw.choice((0, 1, -1, 2**40, -(2**40), 2**62, -(2**63), None)) for _ in range(count)], pa.int64()
    )
    try:
        if pa.types.is_temporal(kind):
            base = whole
            if kind.bit_width == 32:
                base = pa.array([draw.choice((0, -(2**31), 2**31 - 1, 10**7, None)) for _ in range(count)], pa.int32())
            return base.view(kind)
        if pa.types.is_list(kind) and kind.value_type == pa.date32():
            inner = pa.array([2**31 - 1] * count, pa.int32()).view(pa.date32())
            return pa.ListArray.from_arrays(pa.array(range(count + 1), pa.int32()), inner)
        if pa.types.is_struct(kind):
            return pa.StructArray.from_arrays([whole.view(pa.timestamp("us"))], ["a"])
        if pa.types.is_floating(kind):
            return pa.array(
                [draw.choice((0.0, float("nan"), float("inf"), None)) for _ in range(count)], pa.float64()
            ).cast(kind)
        if pa.types.is_decimal(kind):
            return pa.array([None] * count, kind)
        if kind == pa.bool_():
            return pa.array([draw.choice((True, False, None)) for _ in range(count)], kind)
        if kind == pa.uint64():
            return whole.view(kind)
        if kind == pa.int64():
            return whole
        if pa.types.is_binary(kind):
            return pa.array([draw.choice((b"", b"a", b"\xff", None)) for _ in range(count)], kind)
        if pa.types.is_map(kind):
            return pa.array([[("a", 1)]] * count, kind)
        if pa.types.is_list(kind):
            return pa.array([draw.choice((["a", "b"], [], None, [""], [None])) for _ in range(count)], kind)
        return pa.array([draw.choice(("a", "", " ", None, "\u202e")) for _ in range(count)], pa.string()).cast(kind)
    except (pa.ArrowException, TypeError, ValueError):
        return pa.array([None] * count, pa.string())


def data(draw: random.Random, whole: Path, here: Path) -> Case:
    """A file of texts, odd by its values or its bytes."""
    suffix = draw.choice(("csv", "csv", "tsv", "jsonl", "jsonl", "json", "parquet", "parquet", "conll"))
    file = here / f"given.{suffix}{draw.choice(('', '', '', '.gz'))}"
    written(draw, file, odd_frame(draw))
    if draw.random() < 0.4:
        file.write_bytes(change_bytes(draw, file.read_bytes()))
    stdin, name = b"y\n", file.name
    if suffix == "csv" and file.suffix == ".csv" and draw.random() < 0.1:
        stdin, name = file.read_bytes(), "-"
    task = ["--task", draw.choice(("multi_label", "regression", "token", "ordinal", "single_label"))]
    more = task if suffix == "conll" or draw.random() < 0.4 else []
    kind = draw.random()
    if kind < 0.45:
        return Case(["inspect", name, "--model", MODEL, *more], stdin)
    if kind < 0.6:
        return Case(["inspect", TEXTS, "--test", name, "--model", MODEL], stdin)
    output = draw.choice(("out.csv", "out.tsv", "out.jsonl", "out.parquet", "-"))
    shutil.copytree(whole / "artifacts" / ("token" if suffix == "conll" else "2_full"), here / "m")
    if kind < 0.85:
        return Case(["predict", "m", name, "--output", output], stdin)
    if kind < 0.95:
        return Case(["evaluate", "m", name], stdin)
    short = ["--epochs", "1", "--strategy", "default", "--no-progress", "--output", "out"]
    return Case(["train", name, "--model", MODEL, *short, *more], stdin)


def journal(draw: random.Random, whole: Path, here: Path) -> Case:
    """What an unfinished augmentation left, changed; or a changed file of augmented texts."""
    if draw.random() < 0.25:
        suffix = draw.choice(("csv", "jsonl", "parquet"))
        rows = [{"seed": row.get("text"), **row} for row in odd_frame(draw)] if suffix == "jsonl" else []
        file = here / f"a.{suffix}"
        if suffix == "csv":
            file.write_bytes(change_bytes(draw, (whole / "augmented.csv").read_bytes()))
        elif suffix == "jsonl":
            file.write_bytes(b"".join(dumped({**row, "seed": odd_value(draw, row["seed"])}) + b"\n" for row in rows))
        else:
            table = pa.table(
                {"seed": _odd_array(draw, draw.choice((pa.int64(), pa.date32(), pa.string())), 5), "text": ["a"] * 5}
            )
            file.write_bytes(_parquet_of(dict(zip(table.column_names, table.columns, strict=True))))
        short = ["--epochs", "1", "--test", "0", "--no-progress", "--output", "out"]
        return Case(["train", TEXTS, "--model", MODEL, "--strategy", "augmentation", "--augmented", file.name, *short])
    file = here / "out.csv.partial.jsonl"
    raw = (whole / "journal.jsonl").read_bytes()
    lines = raw.splitlines()
    at = draw.randrange(len(lines))
    kind = draw.random()
    if kind < 0.6:
        lines[at] = dumped(change_json(draw, json.loads(lines[at])))
    elif kind < 0.7:
        lines.insert(at, draw.choice(lines))
    elif kind < 0.8:
        draw.shuffle(lines)
    else:
        lines[at] = change_bytes(draw, lines[at])
    file.write_bytes(b"\n".join(lines) + draw.choice((b"\n", b"", b"\n{")))
    return Case(["augment", MANY, *EASY, "--output", "out.csv"])
