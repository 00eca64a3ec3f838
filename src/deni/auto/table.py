"""The table of `auto`: which recipe for which texts, and the study that supports it. The first row that fits decides.

To change what `auto` becomes, change a row. tests/auto/test_table.py asks that each row trains, and that what it names
as evidence is there.
"""

from __future__ import annotations

from deni.auto.row import Row

LONGER = "linear_probe+best_practices"  # its epochs, decay and warm-up are those of `recipe`, or of best_practices

ROWS = (
    Row(
        "pairs",
        encoders=("sentence",),
        tunings=("lora", "full", "ia3"),
        pairs=True,
        strategy=LONGER,
        strategy_settings={"probe_c": 0.001},
        tuning="lora",
        recipe={"epochs": 15, "pairs": "bi", "head_lr_scale": 10.0},
        why="A sentence encoder was trained to compare texts that it reads one by one. So it scored higher on dev "
        "pairs of mrpc than with both texts as one input; the frozen encoder is as good there.",
        evidence="results/pairs.yaml (MiniLM, LoRA, 200 labeled pairs of mrpc)",
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
        "on dev texts of three datasets, and not lower than the frozen encoder with three labeled texts a class; by "
        "the pooler it held on four datasets that had no part in choosing it.",
        evidence="results/features.yaml, results/recipes2.yaml, results/few_snips.yaml, results/few_db_pedia.yaml, "
        "results/confirmation.yaml (MiniLM, LoRA)",
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
