"""Does the share of a pool that is far from the labeled texts tell pools of the same source from others?

python benchmarks/pool_source.py     # about two minutes; needs DENI_DATA
"""

from __future__ import annotations

import argparse

import numpy as np
from common import environment, frozen_features, write
from tqdm import tqdm

from deni.artifact.scope import Scope
from deni.distillation.source import FAR, LEAST, MOST, far_from

DATASETS = ("trec", "sst2", "ag_news", "db_pedia", "snips", "cola")
LABELS = (LEAST, 100, MOST)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=50, help="of the labeled texts and of the pool")
    draws = parser.parse_args().draws
    generator = np.random.default_rng(0)
    features = {name: frozen_features(name, 2000)[0] for name in DATASETS}

    def drawn(name: str, count: int) -> np.ndarray:
        return generator.permutation(features[name])[:count]

    rows = []
    for labels in LABELS:
        for name in tqdm(DATASETS, f"{labels} labels"):
            same, half, other = [], [], []
            for _ in range(draws):
                texts = drawn(name, labels + MOST)
                scope, own = Scope.of(texts[:labels]), texts[labels:]
                same.append(far_from(scope, own))
                for each in (other for other in DATASETS if other != name):
                    pool = drawn(each, MOST)
                    half.append(far_from(scope, np.concatenate([own[: MOST // 2], pool[: MOST // 2]])))
                    other.append(far_from(scope, pool))
            found = {
                kind: {
                    "lowest": min(shares),
                    "mean": float(np.mean(shares)),
                    "highest": max(shares),
                    "warned": float(np.mean(np.array(shares) > FAR)),
                }
                for kind, shares in (("same", same), ("half", half), ("other", other))
            }
            rows.append({"dataset": name, "labels": labels, **found})
    write("pool_source", {**environment(), "draws": draws, "limit": FAR, "texts": MOST, "rows": rows})


if __name__ == "__main__":
    main()
