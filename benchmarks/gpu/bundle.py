"""What a machine with a GPU and without a network needs beside this tree, in one folder of at most 30 MiB.

    python benchmarks/gpu/bundle.py benchmarks/gpu/bundle    # `make gpu-bundle`

- `wheels`: the packages that images with PyTorch and transformers lack, for Python 3.12 on x86-64.
- `minilm.xz`: MiniLM with the tokens that the datasets have. Weights are bfloat16, word embeddings are 8 bits with
  one scale a row, which is what fits: all of it in 16 bits would be over the limit.
- `tokenizer`: its tokenizer and config, ids to match.
- `data`: the datasets, as DENI_DATA has them.
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, load_file, save, save_file
from torch import Tensor

LIMIT = 30 * 2**20
WHEELS = ("datasets", "dill", "multiprocess")
BUILT = ("seqeval",)  # there is no wheel of it to download
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
DATASETS = ("trec", "sst2", "cola", "snips", "mrpc", "db_pedia", "ag_news")
TABLE = "embeddings.word_embeddings.weight"
KEPT = ("config.json", "tokenizer_config.json")  # files of the model that stay as they are, but for the vocabulary


# ---- tensors in few bytes ------------------------------------------------------------------------------------------


def squeeze(weights: dict[str, Tensor], rows: list[int]) -> bytes:
    """Weights in few bytes; of the word embeddings these rows, in 8 bits.

    The two bytes of a bfloat16 lie apart: the upper ones, sign and exponent, are much alike and can be compressed;
    they come first in the names, so that they lie beside each other.
    """
    packed: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if name == TABLE:
            table = weight[rows].float()
            scale = table.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
            packed[f"scale|{name}"] = scale
            packed[f"eighth|{name}"] = (table / scale).round().to(torch.int8)
        elif weight.is_floating_point():
            both = weight.to(torch.bfloat16).contiguous().flatten().view(torch.uint8).view(-1, 2)
            packed[f"low|{name}"], packed[f"high|{name}"] = both[:, 0].contiguous(), both[:, 1].contiguous()
            packed[f"shape|{name}"] = torch.tensor(weight.shape)
    return lzma.compress(save(packed), preset=1)


def expand(squeezed: bytes) -> dict[str, Tensor]:
    """The float32 weights of `squeeze`."""
    packed = load(lzma.decompress(squeezed))
    weights = {}
    for name in dict.fromkeys(key.partition("|")[2] for key in packed):
        if f"eighth|{name}" in packed:
            weights[name] = packed[f"eighth|{name}"].float() * packed[f"scale|{name}"]
        else:
            both = torch.stack([packed[f"low|{name}"], packed[f"high|{name}"]], 1)
            shape = packed[f"shape|{name}"].tolist()
            weights[name] = both.flatten().view(torch.bfloat16).view(shape).float()
    return weights


# ---- building ------------------------------------------------------------------------------------------------------


def tokens_of(tokenizer: Any, data: Path) -> dict[str, list[list[int]]]:
    """The token ids of all texts of each dataset; pairs both as pairs and as one text."""
    from deni.data import fed, read_data

    os.environ["DENI_DATA"] = str(data)
    ids = {}
    for name in DATASETS:
        for pairs in (True, False):
            texts = read_data(name, pairs=pairs)
            given = fed(texts.texts, texts.task)
            ids[f"{name}{' as pairs' * pairs}"] = tokenizer(**given, truncation=False, verbose=False)["input_ids"]
    return ids


def prune(description: dict[str, Any], used: set[int]) -> tuple[dict[str, Any], list[int]]:
    """A `tokenizer.json` with these tokens and the special ones only, and which ids they had, in their new order."""
    old = {each["content"]: each["id"] for each in description["added_tokens"]}
    rows = sorted(used | set(old.values()))
    new = {row: at for at, row in enumerate(rows)}
    pruned = json.loads(json.dumps(description))
    vocabulary = description["model"]["vocab"]
    pruned["model"]["vocab"] = {token: new[row] for token, row in vocabulary.items() if row in new}
    for each in pruned["added_tokens"]:
        each["id"] = new[each["id"]]
    for each in pruned["post_processor"]["special_tokens"].values():
        each["ids"] = [new[row] for row in each["ids"]]
    pruned["truncation"] = pruned["padding"] = None
    return pruned, rows


def build_model(source: Path, data: Path, out: Path) -> dict[str, Any]:
    """Write `minilm.xz` and `tokenizer`; returns what is said of them.

    Raises:
        SystemExit: a text that the smaller vocabulary divides into other tokens.
    """
    from transformers import AutoTokenizer

    whole = AutoTokenizer.from_pretrained(source)
    before = tokens_of(whole, data)
    used = {token for rows in before.values() for row in rows for token in row}
    description = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    pruned, rows = prune(description, used)
    folder = out / "tokenizer"
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(pruned, ensure_ascii=False), encoding="utf-8")
    for name in KEPT:
        content = json.loads((source / name).read_text(encoding="utf-8"))
        if name == "config.json":
            content["vocab_size"] = len(rows)
        (folder / name).write_text(json.dumps(content, indent=1), encoding="utf-8")
    for name, after in tokens_of(AutoTokenizer.from_pretrained(folder), data).items():
        if any([rows[token] for token in own] != was for own, was in zip(after, before[name], strict=True)):
            sys.exit(f"{name}: the smaller vocabulary divides a text into other tokens")
    weights = load_file(source / "model.safetensors")
    (out / "minilm.xz").write_bytes(squeezed := squeeze(weights, rows))
    off = {
        name: float((value - was).norm() / was.norm())
        for name, value in expand(squeezed).items()
        if (was := (weights[name][rows] if name == TABLE else weights[name]).float()).norm() > 0
    }
    return {
        "tokens": len(rows),
        "of": len(weights[TABLE]),
        "embeddings_off": off.pop(TABLE),
        "others_off": max(off.values()),
    }


def download(out: Path) -> None:
    """Put the wheels there, of the versions that are installed here."""
    from importlib.metadata import version

    pip = [sys.executable, "-m", "pip"]
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    how = ["--no-deps", "--only-binary=:all:", "--python-version", "3.12", "--implementation", "cp", *platforms]
    subprocess.run([*pip, "download", "-q", *how, "-d", out, *(f"{n}=={version(n)}" for n in WHEELS)], check=True)
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", out, *(f"{n}=={version(n)}" for n in BUILT)], check=True)


def build(out: Path, data: Path, source: Path) -> dict[str, Any]:
    """Build the bundle anew and say how large its parts are, in bytes."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    download(out / "wheels")
    (out / "data").mkdir()
    for name in DATASETS:
        shutil.copy(data / f"{name}.csv.gz", out / "data")
    said = build_model(source, data, out)
    return {"model": said, "bytes": {each.name: size_of(each) for each in sorted(out.iterdir())}}


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    return sum(each.stat().st_size for each in ([path] if path.is_file() else path.rglob("*")) if each.is_file())


# ---- using ---------------------------------------------------------------------------------------------------------


def unpack(bundle: Path, folder: Path) -> Path:
    """Write the model of a bundle where transformers can load it; returns its folder."""
    target = folder / "minilm"
    if not target.exists():
        shutil.copytree(bundle / "tokenizer", target)
        save_file(expand((bundle / "minilm.xz").read_bytes()), target / "model.safetensors", {"format": "pt"})
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, default=os.environ.get("DENI_DATA"), help="[default: DENI_DATA]")
    args = parser.parse_args()
    if args.data is None:
        sys.exit("set DENI_DATA to the folder with the datasets")
    from deni.models.loading import locate

    said = build(args.out, Path(args.data), Path(locate("minilm")))
    whole = sum(said["bytes"].values())
    for name, size in said["bytes"].items():
        print(f"{name:12} {size / 2**20:6.2f} MiB")
    print(f"{'in all':12} {whole / 2**20:6.2f} MiB; model: {said['model']}")
    if whole > LIMIT:
        sys.exit(f"the bundle has {whole / 2**20:.1f} MiB, more than {LIMIT / 2**20:.0f}")


if __name__ == "__main__":
    main()
