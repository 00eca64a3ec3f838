"""What the benchmarks share: versions, data, results as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

RESULTS = Path(__file__).parent / "results"


def environment() -> dict[str, Any]:
    """Versions, device and commit, to stand beside every figure."""
    from deni import provenance

    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    here = provenance.environment()
    return {
        "versions": {name: here.pop(name) for name in provenance.versions()},
        **here,
        "commit": commit.stdout.strip(),
        "command": " ".join(["python", *sys.argv]),
    }


def data(name: str) -> Path:
    """A dataset of the folder that DENI_DATA names; ends the script where it is unset."""
    folder = os.environ.get("DENI_DATA")
    if not folder:
        sys.exit("set DENI_DATA to the folder with the datasets")
    return Path(folder) / f"{name}.csv.gz"


def frozen_features(name: str, texts: int = 3500) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Vectors of MiniLM without training, `(N, 384)`, classes and their names, of texts of a dataset drawn once."""
    import numpy as np

    from deni.baselines.frozen import features_of, frozen_encoder
    from deni.data import names, read_data
    from deni.models.tokenizing import encode
    from deni.recipe import Recipe

    data(name)
    read = read_data(name)
    read = read.select(np.random.default_rng(12345).permutation(len(read))[:texts])
    recipe = Recipe.of(strategy="default", tuning="full", model="minilm", max_length=64)
    features = features_of(frozen_encoder(recipe, "cpu"), read.texts, progress=True)
    labels = names(read)
    return features, np.array(encode(read, labels)), labels


def write(name: str, result: dict[str, Any]) -> None:
    """Write a result as JSON, whole or not at all."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)
    print(f"wrote {path}")
