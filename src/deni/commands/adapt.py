"""What `deni adapt` does: a file of unlabeled texts and a model become an adapted encoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from deni.adaptation import Adaptation, adapt
from deni.adaptation.result import Cost
from deni.adaptation.running import MOST_STEPS, PATIENCE
from deni.adaptation.starting import Name
from deni.data import Texts, local_file, read_data


def adapt_file(
    texts: str | Path,
    *,
    output: str | Path,
    model: str = "minilm",
    test: str | Path | None = None,
    objective: Name = "auto",
    epochs: float | None = None,
    steps: int = MOST_STEPS,
    learning_rate: float | None = None,
    batch_size: int | None = None,
    max_length: int | None = None,
    patience: int = PATIENCE,
    bf16: bool = False,
    seed: int = 0,
    text_column: str | None = None,
    text_pair_column: str | None = None,
    split: str | None = None,
    config_name: str | None = None,
    device: str | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: bool = True,
    on_cost: Callable[[Cost], None] | None = None,
) -> Adaptation:
    """Adapt an encoder to the texts of a file, see `deni.adapt`.

    Args:
        texts: a file, `-` for standard input (CSV), or a dataset as in `deni.commands.train.train_file`; labels in it
            are not read, and rows without a text are left out.
        test: the same, with the texts that models will be tested on: they are left out.
        text_column, text_pair_column: of both; None for the dataset's own. Both sides of pairs are texts.
        split, config_name: of the pool on the hub, see `deni.data.read_data`.
    """
    columns = {"text_column": text_column, "text_pair_column": text_pair_column}

    empty: list[int] = []

    def read(data: str | Path, **options: str | None) -> Texts:
        return read_data(data, labels=False, on_blank=empty.append, **columns, **options)  # type: ignore[arg-type]

    pool = read(texts, split=split, config_name=config_name)
    left_out = sum(empty)
    return adapt(
        pool,
        output=output,
        model=model,
        test=None if test is None else read(test),
        objective=objective,
        epochs=epochs,
        steps=steps,
        learning_rate=learning_rate,
        batch_size=batch_size,
        max_length=max_length,
        patience=patience,
        bf16=bf16,
        seed=seed,
        device=device,
        overwrite=overwrite,
        resume=resume,
        progress=progress,
        on_cost=on_cost,
        empty=left_out,
        inputs=[each for data in (texts, test) if data is not None for each in (data, local_file(str(data)))],
    )
