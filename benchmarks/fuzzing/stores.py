"""Stores and archives of studies, and study files."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from fuzzing.case import Case
from fuzzing.changes import change_bytes, change_json, dumped
from fuzzing.code import YAML_TAG
from fuzzing.whole import STUDY


def store(draw: random.Random, whole: Path, here: Path) -> Case:
    """A store or archive, changed in its values or its bytes."""
    archive = draw.random() < 0.35
    file = here / ("s.parquet" if archive else "s.db")
    shutil.copy(whole / ("study.parquet" if archive else "study.db"), file)
    if draw.random() < 0.4:
        file.write_bytes(change_bytes(draw, file.read_bytes()))
    elif archive:
        _change_archive(draw, file)
    else:
        _change_store(draw, file)
    report = ["report", file.name, "--output", "out.html", "--csv", "out.csv", "--markdown", "out.md", "--no-progress"]
    merge = ["study", "merge", "out.db", file.name]
    commands = [report, merge, ["study", "export", file.name, "--output", "out.csv"]]
    if not archive:
        commands += [["study", "status", file.name], ["study", "check", file.name, "--output", "out.db"]]
    argv = draw.choice(commands)
    return Case(argv, changes=(file.name,), writes=("out.db",) if argv[:2] == ["study", "check"] else ())


def _changed_cell(draw: random.Random, value: Any) -> Any:
    if isinstance(value, bytes):
        return change_bytes(draw, value)
    if isinstance(value, str) and value[:1] in "{[" and draw.random() < 0.7:
        return dumped(change_json(draw, json.loads(value))).decode()
    if isinstance(value, str) and draw.random() < 0.5:
        return change_bytes(draw, value.encode()).decode(errors="replace")
    return draw.choice((None, "", 0, -1, 2**62, 1e308, "x", b"\xff", "\0"))


def _change_store(draw: random.Random, file: Path) -> None:
    with sqlite3.connect(file) as base:
        tables = ("cells", "outputs")
        table = draw.choice(tables)
        names = [row[1] for row in base.execute(f"PRAGMA table_info({table})")]
        kind = draw.random()
        try:
            if kind < 0.7:
                name = draw.choice(names)
                rows = base.execute(f'SELECT rowid, "{name}" FROM {table}').fetchall()
                number, value = draw.choice(rows)
                base.execute(f'UPDATE {table} SET "{name}" = ? WHERE rowid = ?', (_changed_cell(draw, value), number))
            elif kind < 0.8:
                odd = draw.choice(('x"; DROP TABLE cells; --', "x", "key2", "status) VALUES (1", "\x1b[2J"))
                base.execute(f'ALTER TABLE {table} ADD COLUMN "{odd.replace(chr(34), chr(34) * 2)}" TEXT')
            elif kind < 0.87:
                base.execute(f'ALTER TABLE {table} DROP COLUMN "{draw.choice(names)}"')
            elif kind < 0.92:
                base.execute(
                    f"PRAGMA {draw.choice(('user_version', 'application_id'))} = {draw.choice((0, 1, 99, -1))}"
                )
            elif kind < 0.96:
                base.execute(f"DROP TABLE {table}")
            else:
                base.execute(f"CREATE TRIGGER t AFTER UPDATE ON {table} BEGIN DELETE FROM {table}; END")
        except sqlite3.Error:
            base.execute("DELETE FROM outputs")
    base.close()


def _change_archive(draw: random.Random, file: Path) -> None:
    table = pq.read_table(file)
    name = draw.choice(table.column_names)
    at = table.column_names.index(name)
    kind = draw.random()
    if kind < 0.7:
        values = table.column(name).to_pylist()
        row = draw.randrange(len(values))
        values[row] = _changed_cell(draw, values[row])
        try:
            table = table.set_column(at, name, pa.array(values, table.column(name).type))
        except (pa.ArrowException, TypeError, OverflowError, ValueError):
            table = table.set_column(at, name, pa.array([str(each) for each in values]))
    elif kind < 0.85:
        table = table.drop_columns([name])
    else:
        odd = draw.choice(('x"; DROP TABLE cells; --', "x", name.upper(), ""))
        table = table.append_column(odd, pa.array(["1"] * table.num_rows))
    pq.write_table(table, file)


def study(draw: random.Random, whole: Path, here: Path) -> Case:
    """A study file, changed in its values or its text; it is only planned."""
    file = here / "study.yaml"
    kind = draw.random()
    if kind < 0.55:
        value = change_json(draw, STUDY)
        try:
            file.write_bytes(yaml.safe_dump(value, sort_keys=False).encode("utf-8", "surrogatepass"))
        except (RecursionError, ValueError):
            file.write_bytes(b"a: " + b"[" * 5000)
    elif kind < 0.75:
        file.write_bytes(change_bytes(draw, (whole / "study.yaml").read_bytes()))
    elif kind < 0.9:
        text = (whole / "study.yaml").read_text().splitlines()
        at = draw.randrange(len(text))
        name, colon, _ = text[at].partition(":")
        odd = (YAML_TAG, "!!binary eA==", "&a [*a]", "!!set {a, b}", "2001-02-31", "0o7", "1_0", "0x10", ".nan", ".inf")
        odd += ("!!python/name:os.system", "*a", "<<: *b", "1:30", "~", "1e400", "9" * 5000, "!!int x", "!!float y")
        text[at] = f"{name}{colon} {draw.choice(odd)}"
        file.write_text("\n".join(text) + "\n")
    else:
        bomb = ["a0: &a0 [x, x]", *(f"a{at}: &a{at} [{', '.join([f'*a{at - 1}'] * 9)}]" for at in range(1, 30))]
        file.write_text("\n".join([*bomb, "datasets: *a29", "models: [model]", ""]))
    return Case(["study", "run", file.name, "--store", "out.db", "--dry-run", *draw.choice(([], ["--workers", "1"]))])
