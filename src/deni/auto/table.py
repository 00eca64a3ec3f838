"""The table of `auto`: which recipe for which texts, and the study that supports it. The first row that fits decides.

To change what `auto` becomes, change a row. tests/auto/test_table.py asks that each row trains, and that what it names
as evidence is there.
"""

from __future__ import annotations

from deni.auto.row import Row

PROBE = "linear_probe"
LONGER = "linear_probe+best_practices"  # its epochs, decay and warm-up are those of `recipe`, or of best_practices

ROWS = (
    Row(
        "few_per_class",
        one_class=True,
        encoders=("sentence",),
        pairs=False,
        classes=(7, float("inf")),
        per_class=(0, 8),
        largest=(2, float("inf")),
        strategy=PROBE,
        strategy_settings={"probe_c": "cv"},
        tuning="lora",
        recipe={"epochs": 15, "pooling": "mean", "normalize_features": True, "head_lr_scale": 10.0},
        why="With few texts for each of many classes the vectors of the frozen encoder decide, so it is read as it was "
        "trained, and the output layer starts as the regression that cross-validation chooses.",
        evidence="provisional: waits for benchmarks/studies/features_normalized.yaml and a study of few labels a class",
    ),
    Row(
        "pairs",
        encoders=("sentence",),
        tunings=("lora", "full", "ia3"),
        pairs=True,
        strategy=LONGER,
        strategy_settings={"probe_c": 0.001},
        tuning="lora",
        recipe={"epochs": 15, "pairs": "bi", "head_lr_scale": 10.0},
        why="A sentence encoder was trained to compare texts that it reads one by one: on dev texts of mrpc, 5 seeds, "
        "it reached 64.4 macro F1 so, and 58.8 with both texts as one input.",
        evidence="provisional: waits for mrpc in results/recipes2.yaml",
    ),
    Row(
        "classes",
        tasks=("single_label",),
        encoders=("sentence",),
        pairs=False,
        strategy=LONGER,
        strategy_settings={"probe_c": 0.001},
        tuning="lora",
        recipe={"epochs": 15, "head_lr_scale": 10.0},
        why="By the mean of the tokens, the output layer at ten times the rate, it scored higher than plain training "
        "on dev texts of three datasets; by the pooler it held on four datasets that had no part in choosing it.",
        evidence="results/features.yaml, results/recipes2.yaml, results/confirmation.yaml (MiniLM, LoRA, 200 labeled "
        "texts)",
    ),
    Row(
        "others",
        strategy=LONGER,
        strategy_settings={"probe_c": 0.001},
        tuning="lora",
        recipe={"epochs": 15},
        why="What is best for one label a text and one small sentence encoder, until there is a study of others.",
        evidence="provisional: waits for studies of a second encoder, of pairs and of the other tasks",
    ),
)
