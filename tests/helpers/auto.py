"""A table of `auto` for tests, which then hold whatever its rows become."""

from deni.auto import Row

ROW = Row(
    "made",
    strategy="linear_probe+best_practices",
    strategy_settings={"probe_c": 0.001},
    tuning="lora",
    recipe={"epochs": 15},
    why="It is made.",
    evidence="provisional: waits for nothing",
)
