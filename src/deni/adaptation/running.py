"""From unlabeled texts to an adapted encoder."""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import torch

from deni.adaptation.contrastive import SimCSE
from deni.adaptation.cost import estimate_cost
from deni.adaptation.pool import LEAST, as_texts, divide, make_pool
from deni.adaptation.result import Adaptation, Cost
from deni.adaptation.starting import Name, Start, check_objective, start_from
from deni.adaptation.trainer import AdaptationTrainer, Shown, make_arguments, order_of, to_resume
from deni.adaptation.writing import card_of, write_encoder
from deni.data import Texts, local_file
from deni.data.pool import EMPTY, REPEATED, TEST, Pool
from deni.errors import InputError, InputWarning, SettingError
from deni.finetune.stopping import Patience, StopOnInterrupt
from deni.models.devices import find_device
from deni.models.loading import load_tokenizer, locate, quiet_loading, token_limit
from deni.models.tokenizing import choose_max_length, settings_kept
from deni.outputs import check_folder, check_name, check_room, write_folder
from deni.provenance import digest, digest_of_file, environment
from deni.randomness import Sources, global_generators
from deni.settings import check_numbers
from deni.training import manifest

MOST_STEPS = 2000  # where nobody says otherwise, whatever the size of the pool
PATIENCE = 3  # evaluations without a lower loss


def adapt(
    texts: Texts | Sequence[str],
    *,
    output: str | Path,
    model: str = "minilm",
    test: Texts | Sequence[str] | None = None,
    objective: Name = "auto",
    epochs: float | None = None,
    steps: int = MOST_STEPS,
    learning_rate: float | None = None,
    batch_size: int | None = None,
    max_length: int | None = None,
    patience: int = PATIENCE,
    bf16: bool = False,
    seed: int = 0,
    device: str | torch.device | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: bool = True,
    on_cost: Callable[[Cost], None] | None = None,
    inputs: Sequence[str | Path | None] = (),
    empty: int = 0,
) -> Adaptation:
    """Let an encoder go on learning from texts without labels, and write it as a folder that every command takes.

    A tenth of the texts is held out; the weights with the lowest loss on it are written, those of `model` itself where
    none is lower. Texts of `test` and repeated ones are left out.

    Args:
        texts: of the task, without labels; those of `deni.data.read_data`, or strings.
        output: folder of the encoder; must not exist, unless `overwrite`.
        model: `minilm`, a folder, or a hub id.
        test: what models of the encoder will be tested on.
        objective: `mlm`, masked language modelling; `simcse`, contrastive; `auto`: the first where the files of the
            model have a head for it, else the second.
        epochs: passes over the texts; None for 20 of `mlm`, 3 of `simcse`.
        steps: the most optimizer steps, whatever the epochs.
        learning_rate: peak; None for 1e-4 of `mlm`, 3e-5 of `simcse`.
        batch_size: texts of a step; None for 32 of `mlm`, 64 of `simcse`, where they are the negatives.
        max_length: tokens after which a text is cut; None for the 99th percentile of the texts.
        patience: it stops after so many evaluations, of ten, without a lower loss.
        bf16: compute in bfloat16.
        seed: of the order, of hidden tokens, of dropout, and of which texts are held out.
        device: where to train, see `deni.models.devices.find_device`.
        overwrite: replace a folder that deni wrote; begin anew where a training was interrupted.
        resume: continue an interrupted training of the same output.
        progress: show a progress bar.
        on_cost: called with what it will cost, before the first step.
        inputs: files that were read, which the output must not replace.
        empty: rows of the file that had no text, for the count.

    Raises:
        InputError: texts, a model or a folder that do not fit; before anything is trained.
        SettingError: a setting that does not fit.
    """
    _check(objective, epochs, steps, learning_rate, batch_size, max_length, patience)
    kept = manifest.checkpoint_folder(output)
    check_folder(output, overwrite, [*inputs, model])
    _check_checkpoints(kept, overwrite, resume)
    given = as_texts(texts, "texts")
    tested = None if test is None else as_texts(test, "test")
    pool = make_pool(given, tested, empty)
    start = start_from(model, objective)
    what, tokenizer = start.objective, start.objective.tokenizer
    length = choose_max_length(tokenizer, pool.texts, max_length, token_limit(model, tokenizer))
    with settings_kept(tokenizer):
        rows = what.rows(list(map(str, pool.texts.texts)), length)
    if len(rows) < LEAST:
        raise InputError(f"{given.source}: {len(rows)} texts have tokens that the model knows: give at least {LEAST}")
    if isinstance(what, SimCSE):
        what.check_dropout(start.model, rows[0], model)
    sources = Sources(seed)
    trained, held_out = divide(len(rows), sources.numpy("data_split"))
    size = min(batch_size or what.batch_size, len(trained))
    if size < what.least:
        raise SettingError(f"batch_size must be at least {what.least} for {what.name}, not {size}")
    settings = {
        "epochs": epochs if epochs is not None else what.epochs,
        "most_steps": steps,
        "learning_rate": learning_rate if learning_rate is not None else what.learning_rate,
        "batch_size": size,
        "max_length": length,
        "patience": patience,
        "bf16": bf16,
        "seed": seed,
    }
    counts = {
        "read": pool.read,
        **{f"left_out_{why}": pool.left_out.get(why, 0) for why in (EMPTY, TEST, REPEATED)},
        "trained_on": len(trained),
        "held_out": len(held_out),
    }
    order = order_of([len(rows[row]["input_ids"]) for row in trained], size, settings["epochs"], steps, sources)
    origin = {"model": model, "objective": what.name, **settings, "texts": _digest(pool)}
    last = to_resume(kept, origin) if resume else None
    target = find_device(device)
    weights = sum(each.nbytes for each in [*start.model.state_dict().values(), *start.kept.values()])
    check_room(output, weights, weights)
    check_room(kept, 3 * 3 * weights, 2 * weights)  # weights and Adam's moments: the best, the newest, the next

    began, stop, interrupt = time.perf_counter(), Patience(patience), StopOnInterrupt(saves=True)
    number = seed % 2**32
    with global_generators():
        trainer = AdaptationTrainer(
            start.model,
            make_arguments(kept, len(order), size, settings["learning_rate"], number, bf16, target),
            what,
            [rows[row] for row in trained],
            order,
            [rows[row] for row in held_out],
            origin,
            [stop, interrupt],
            progress,
        )
        losses = {0: trainer.held_out_loss()}
        if on_cost is not None:
            on_cost(estimate_cost(trainer, time.perf_counter() - began))
        shown = next(each for each in trainer.callback_handler.callbacks if isinstance(each, Shown))
        began = time.perf_counter()
        try:
            with interrupt.listening(), quiet_loading():
                trainer.train(resume_from_checkpoint=None if last is None else str(last))
        finally:
            shown.close()
            _remove_empty(kept)
    state = trainer.state
    losses |= {int(line["step"]): line["eval_loss"] for line in state.log_history if "eval_loss" in line}
    seconds = time.perf_counter() - began
    found = Adaptation(Path(output), what.name, losses, state.global_step, len(order), counts, seconds, settings)
    if interrupt.stopped and state.global_step < len(order):
        return dataclasses.replace(found, output=None, checkpoint=manifest.newest(kept))
    if found.improved and state.best_model_checkpoint is None:
        raise InputError(f"the checkpoint with the best weights in {kept} is gone: adapt again")
    if not all(map(math.isfinite, losses.values())):
        warnings.warn("a held-out loss was not a number: try a lower learning rate", InputWarning, stacklevel=2)
    write_adapted(found, trainer, start, model, given, tested, overwrite, inputs)
    shutil.rmtree(kept, ignore_errors=True)
    return found


def write_adapted(
    found: Adaptation,
    trainer: AdaptationTrainer,
    start: Start,
    model: str,
    texts: Texts,
    test: Texts | None,
    overwrite: bool,
    inputs: Sequence[str | Path | None],
) -> None:
    """Write the folder: the best weights, or those of the model as it was."""
    assert found.output is not None
    what = start.objective
    best = trainer.model if found.improved else start_from(model, what.name).model  # type: ignore[arg-type]
    assert best is not None
    best.to("cpu")
    tokenizer, name = load_tokenizer(model), found.output.name
    provenance = {
        "model": model,
        "model_sha256": _weights_of(model),
        "pool": {"source": texts.source, "sha256": _digest_of_source(texts)},
        "test": None if test is None else {"source": test.source, "sha256": _digest_of_source(test)},
        **found.to_json(),
        "objective": {"name": what.name, "title": what.title, "source": what.source},
        "versions": environment(trainer.args.device),
    }
    card = card_of(name, found, provenance)
    write_folder(
        found.output,
        lambda target: write_encoder(target, best, start, tokenizer, provenance, card),
        overwrite,
        [*inputs, model],
        "the encoder is",
        "deni train FILE --model {} --output OUTPUT",
        checked=True,
    )


def _check(
    objective: str,
    epochs: float | None,
    steps: int,
    learning_rate: float | None,
    batch_size: int | None,
    max_length: int | None,
    patience: int,
) -> None:
    """Raise SettingError for a setting that cannot be."""
    check_objective(objective)
    numbers = {"epochs": epochs, "steps": steps, "learning_rate": learning_rate, "batch_size": batch_size}
    numbers |= {"max_length": max_length, "patience": patience}
    check_numbers(numbers)
    for name, value in numbers.items():
        if value is not None and not value > 0:
            raise SettingError(f"{name} must be above 0, not {value}")
    if max_length is not None and max_length < 4:
        raise SettingError(f"max_length must be at least 4, not {max_length}")


def _check_checkpoints(folder: Path, overwrite: bool, resume: bool) -> None:
    """Raise InputError where there is nothing to resume, or something that would be lost."""
    check_name(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file, and checkpoints go there: choose another output")
    if folder.is_dir():
        manifest.settle(folder)
    there = manifest.checkpoints(folder)
    if resume and not there:
        raise InputError(f"{folder} has no checkpoint to resume from: omit --resume")
    if there and not resume:
        if not overwrite:
            raise InputError(f"{folder} has an interrupted training: give --resume, or --overwrite to begin anew")
        for each in there:
            manifest.remove(each)


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):  # not there, or not empty
        folder.rmdir()


def _digest(pool: Pool) -> str:
    return f"{len(pool)} with SHA-256 {digest(list(pool.texts.texts))[:12]}"


def _digest_of_source(texts: Texts) -> str | None:
    """SHA-256 of the file that texts are of; None where they are of no file."""
    file = local_file(texts.source) or Path(texts.source)
    return digest_of_file(file) if os.path.isfile(file) and texts.frame is not None else None


def _weights_of(model: str) -> str | None:
    """SHA-256 of the weights of a folder; None where they are of the hub, or in several files."""
    file = Path(locate(model)) / "model.safetensors"
    return digest_of_file(file) if os.path.isfile(file) else None
