"""Commands whose model, texts or start-up is odd: one of what each reads is changed, the rest is whole."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from fuzzing.case import Case
from fuzzing.changes import change_bytes, change_file, change_json, dumped, odd_value
from fuzzing.tables import frame, odd_frame, written
from fuzzing.whole import ANSWERS, GENERATOR, LANGUAGE_MODEL, MANY, MODEL, POOL, PROMPTS, TEST, TEXTS

QUICK = ["--epochs", "1", "--batch-size", "8", "--no-progress"]
SUFFIXES = ("csv", "csv", "jsonl", "parquet", "csv.gz", "tsv")


def odd_texts(draw: random.Random, here: Path, suffixes: tuple[str, ...] = SUFFIXES) -> str:
    """Write a file of texts that is odd by its values or its bytes; its name."""
    file = here / f"given.{draw.choice(suffixes)}"
    rows = odd_frame(draw) if draw.random() < 0.4 else frame(60)
    if len(rows) == 60 and draw.random() < 0.6:
        at, name = draw.randrange(60), draw.choice(("text", "label"))
        rows[at][name] = odd_value(draw, rows[at].get(name))
    written(draw, file, rows)
    if draw.random() < 0.2:
        file.write_bytes(change_bytes(draw, file.read_bytes()))
    return file.name


def odd_folder(draw: random.Random, source: Path, folder: Path) -> str:
    """Copy a folder with a model, and change one or two of its files; its name."""
    shutil.copytree(source, folder)
    files = [path for path in sorted(folder.iterdir()) if path.suffix in (".json", ".safetensors")]
    for path in draw.sample(files, draw.choice((1, 1, 2))):
        change_file(draw, path)
    return folder.name


def one_odd(draw: random.Random, whole: Path, here: Path, files: int, source: str = "2_full") -> tuple[str, list[str]]:
    """An artifact and files of texts, of which one is odd: unlabeled texts, labeled ones, and others with labels."""
    odd = draw.randrange(files + 1)
    folder = whole / "artifacts" / source
    if odd == files:
        name = odd_folder(draw, folder, here / "m")
    else:
        shutil.copytree(folder, here / "m")
        name = "m"
    for each in (POOL, TEST):
        shutil.copy(whole / each, here)
    return name, [odd_texts(draw, here) if at == odd else each for at, each in enumerate((POOL, TEXTS, TEST)[:files])]


def cv(draw: random.Random, whole: Path, here: Path) -> Case:
    """A training with cross-validation."""
    how = [
        "--strategy",
        draw.choice(("default", "linear_probe", "auto")),
        "--cv",
        "2",
        *draw.choice(([], ["--keep-folds"])),
    ]
    return Case(["train", odd_texts(draw, here), "--model", MODEL, *QUICK, *how, "--output", "out"])


def unlabeled(draw: random.Random, whole: Path, here: Path) -> Case:
    """A training with texts without labels, which a test split or augmented ones may go with."""
    names = {name: name for name in (TEXTS, POOL, "augmented.csv")}
    for name in (POOL, "augmented.csv"):
        shutil.copy(whole / name, here)
    odd = draw.choice(list(names))
    names[odd] = odd_texts(draw, here)
    augmented = ["--augmented", names["augmented.csv"]] if odd == "augmented.csv" or draw.random() < 0.3 else []
    how = ["--strategy", "default", "--teachers", "2", "--test", "0", "--held-out", "1", *augmented]
    return Case(["train", names[TEXTS], "--unlabeled", names[POOL], "--model", MODEL, *QUICK, *how, "--output", "out"])


def distil(draw: random.Random, whole: Path, here: Path) -> Case:
    """A teacher, a pool, labeled texts and test texts, one of them odd."""
    teacher, (pool, labeled, test) = one_odd(draw, whole, here, 3)
    more = draw.choice(([], ["--start", "merged"], ["--dev", TEST], ["--model", MODEL]))
    given = ["--texts", pool, "--labeled", labeled, "--test", test, *more]
    return Case(["distil", teacher, *given, *QUICK, "--output", "out"])


def adapt(draw: random.Random, whole: Path, here: Path) -> Case:
    """A model that goes on learning, or its pool, is odd."""
    shutil.copy(whole / POOL, here)
    odd = draw.random() < 0.3
    model = odd_folder(draw, whole / MODEL, here / "odd") if odd else MODEL
    pool = POOL if odd else odd_texts(draw, here)
    test = ["--test", odd_texts(draw, here)] if draw.random() < 0.2 else []
    how = ["--steps", "2", "--batch-size", "4", "--no-progress", *draw.choice(([], ["--objective", "simcse"]))]
    return Case(["adapt", "--texts", pool, "--model", model, *test, *how, "--output", "out"])


def forecast(draw: random.Random, whole: Path, here: Path) -> Case:
    """What more labels would bring, of odd texts or with an odd encoder."""
    odd = draw.random() < 0.3
    model = odd_folder(draw, whole / MODEL, here / "odd") if odd else MODEL
    given = [MANY if odd else odd_texts(draw, here), "--model", model, "--seeds", "2"]
    return Case(["forecast", *given, "--no-progress", "--output", "out.html"])


def suggest(draw: random.Random, whole: Path, here: Path) -> Case:
    """What to label next, of an odd pool or by an odd model."""
    model, (pool, labeled) = one_odd(draw, whole, here, 2)
    return Case(["suggest", model, pool, "--n", "3", *draw.choice(([], ["--labeled", labeled])), "--output", "out.csv"])


def compare(draw: random.Random, whole: Path, here: Path) -> Case:
    """Two models on the same texts; one of the three is odd."""
    model, (_, texts) = one_odd(draw, whole, here, 2)
    shutil.copytree(whole / "artifacts" / draw.choice(("2_lora", "2_full")), here / "other")
    models = draw.sample([model, "other"], 2)
    return Case(["compare", *models, texts, *draw.choice(([], ["--json"], ["--output", "out.csv"]))])


def models(draw: random.Random, whole: Path, here: Path) -> Case:
    """Encoders to choose among, of which one may be odd."""
    odd = draw.random() < 0.4
    shutil.copytree(whole / MODEL, here / "second")
    other = odd_folder(draw, whole / MODEL, here / "odd") if odd else "second"
    texts = TEXTS if odd else odd_texts(draw, here)
    return Case(["models", texts, "--models", f"{MODEL},{other}", "--no-progress", "--output", "out.csv"])


def demo(draw: random.Random, whole: Path, here: Path) -> Case:
    """The demonstration with an odd model."""
    model = odd_folder(draw, whole / MODEL, here / "odd")
    return Case(["demo", "--model", model, "--seeds", "2", "--labeled", "12", "--epochs", "1", "--output", "out.html"])


def serve(draw: random.Random, whole: Path, here: Path) -> Case:
    """A server that begins with an odd model, odd texts to calibrate on, or an odd token."""
    model, (_, texts) = one_odd(draw, whole, here, 2)
    token = draw.choice((b"", b"a secret that is long enough", b"\xff\xfe", b"a\nb", b"short", bytes(5000), b"  "))
    (here / "token").write_bytes(token)
    how: list[str] = []
    if draw.random() < 0.6:
        how += ["--accuracy", "0.5", "--calibration", texts]
    if draw.random() < 0.5:
        how += ["--token-file", draw.choice(("token", "token", "missing", MODEL))]
    return Case(["serve", model, "--port", "0", *how])


def push(draw: random.Random, whole: Path, here: Path) -> Case:
    """An odd model, or odd names, to a hub that is not there."""
    source = draw.choice(("2_full", "2_lora", "multi_label"))
    if draw.random() < 0.6:
        model = odd_folder(draw, whole / "artifacts" / source, here / "m")
    else:
        model = shutil.copytree(whole / "artifacts" / source, here / "m").name
    name = draw.choice(("user/name", "user/name", "name", "a/b/c", "", "user/", "/x", "user/na me", "ü/ö", "a--b/..c"))
    return Case(["push", model, name, *draw.choice((["--dry-run"], ["--dry-run"], [], ["--private"], ["--all"]))])


def onnx(draw: random.Random, whole: Path, here: Path) -> Case:
    """An odd model that is to become a graph, or an odd graph that predicts."""
    if draw.random() < 0.5:
        model = odd_folder(draw, whole / "artifacts" / draw.choice(("2_full", "2_lora", "token")), here / "m")
        return Case(["export", model, "out", "--as", "onnx"])
    shutil.copytree(whole / "graph", here / "m")
    files = [path for path in sorted((here / "m").iterdir()) if path.is_file()]
    change_file(draw, draw.choice(files))
    return Case(["predict", "m", TEXTS, "--output", "out.csv"])


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def generation(draw: random.Random, whole: Path, here: Path) -> Case:
    """Prompts with answers, chats, or a model that writes, one of them odd."""
    if draw.random() < 0.4:
        folder = odd_folder(draw, whole / GENERATOR, here / "m")
        shutil.copy(whole / PROMPTS, here)
        return Case(["predict", folder, PROMPTS, "--max-new-tokens", "3", "--output", "out.jsonl"])
    rows = [json.loads(line) for line in (whole / ANSWERS).read_text().splitlines()]
    if draw.random() < 0.4:
        rows = [{"messages": [_turn("user", row["prompt"]), _turn("assistant", row["completion"])]} for row in rows]
    for at in draw.sample(range(len(rows)), draw.choice((1, 1, 3))):
        if draw.random() < 0.7:
            rows[at] = change_json(draw, rows[at])
        else:
            name = draw.choice(sorted(rows[at]))
            rows[at] = {**rows[at], name: odd_value(draw, rows[at][name])}
    data = b"\n".join(map(dumped, rows)) + b"\n"
    (here / "given.jsonl").write_bytes(change_bytes(draw, data) if draw.random() < 0.3 else data)
    if draw.random() < 0.4:
        shutil.copytree(whole / GENERATOR, here / "m")
        return Case(["predict", "m", "given.jsonl", "--max-new-tokens", "3", "--output", "out.jsonl"])
    shutil.copytree(whole / LANGUAGE_MODEL, here / LANGUAGE_MODEL)
    how = ["--task", "generation", "--strategy", "default", "--model", LANGUAGE_MODEL, "--test", "0"]
    return Case(["train", "given.jsonl", *how, *QUICK, "--output", "out"])


KINDS: dict[str, Callable[[random.Random, Path, Path], Case]] = {
    each.__name__: each
    for each in (
        *(cv, unlabeled, distil, adapt, forecast, suggest, compare, models),
        *(demo, serve, push, onnx, generation),
    )
}
