"""How a trainer's checkpoints are written: whole or not at all, and without ending the training where the disk is full.

In the order in which it happens:

    Trainer's `_save_checkpoint`    writes all files into a folder of another name, pushes and removes nothing
    all processes                   wait for each other, and tell whether one failed
    the main process                writes the manifest (`deni.training.manifest`), gives the folder its name
    all processes                   wait, and tell
    Trainer's `_push_from_checkpoint`
    the main process                removes earlier checkpoints beyond `save_total_limit`
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from deni.errors import InputWarning
from deni.outputs.failures import describe_failure, error_number
from deni.training import manifest
from deni.training.compat import push, run_folder, writing_to

STATE = "trainer_state.json"


def is_unwritten(error: BaseException) -> bool:
    """Whether a file could not be written, whatever class the error has that says so.

    >>> is_unwritten(OSError(28, "No space left on device")), is_unwritten(ValueError("unpacked 3 of 2"))
    (True, False)
    """
    if isinstance(error, OSError) or error_number(error) is not None:
        return True
    return error.__cause__ is not None and is_unwritten(error.__cause__)


def reason_of(error: BaseException) -> str:
    """Why a file could not be written, in a few words."""
    if error.__cause__ is not None and is_unwritten(error.__cause__):
        return reason_of(error.__cause__)
    number = error_number(error)
    return describe_failure(error) if number is None else os.strerror(number)


class Checkpoints(TrainerCallback):
    """The checkpoints of a trainer.

    Args:
        trainer: whose they are.
        moved: called when a checkpoint gets its name, with the folder that it had before and the one that it has.

    Attributes:
        failed: whether the last one could not be written.
    """

    def __init__(self, trainer: Trainer, moved: Callable[[Path, Path], None]) -> None:
        self.trainer, self.moved = trainer, moved
        self.failed = False
        self._digests: dict[manifest.Identity, str] = {}
        self._resumed: Path | None = None

    # ---- reading -----------------------------------------------------------------------------------------------------

    def to_resume(self, given: bool | str | Path) -> str:
        """The checkpoint to go on from, see `deni.training.manifest.to_resume`.

        Args:
            given: a checkpoint, or a folder with checkpoints; True for the trainer's own.
        """
        args = self.trainer.args
        folder = Path(str(args.output_dir) if given is True else str(given))
        if args.should_save:
            manifest.settle(folder)
        self._wait()
        self._resumed = manifest.to_resume(folder, args.process_index, args.world_size)
        return str(self._resumed)

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """The best checkpoint so far is where it is now; where it is lost the best is that of the others."""
        resumed, self._resumed = self._resumed, None
        if resumed is None or not state.best_global_step:
            return
        name = _name(state.best_global_step)
        places = [Path(run_folder(self.trainer)) / name, resumed.parent / name]
        places += [Path(state.best_model_checkpoint)] if state.best_model_checkpoint else []
        whole = next((path for path in places if manifest.damage(path) is None), None)
        if whole is not None:
            state.best_model_checkpoint = str(whole)
        elif args.load_best_model_at_end:
            self._choose_best(resumed.parent)
            if args.should_save:
                best = state.best_model_checkpoint
                lost = next((path for path in places if path.exists()), places[0])
                instead = f"the best is now {best}" if best else "the best is chosen among later ones"
                self._warn(f"{name}, the best so far, is not whole ({manifest.damage(lost)}): {instead}")

    def best(self) -> Path | None:
        """The best checkpoint, to be loaded at the end; None, with a warning, where it is gone or was changed."""
        path = Path(str(self.trainer.state.best_model_checkpoint))
        damage = manifest.damage(path)
        if damage is None:
            return path
        if self.trainer.args.should_save:
            self._warn(f"{path}, the best checkpoint, is not whole ({damage}): the model is that of the last step")
        self.trainer.state.best_model_checkpoint = None
        return None

    def keep_best(self) -> None:
        """Remove all others with `save_total_limit=1`, as Trainer does at the end; here none is ever half removed."""
        args, best = self.trainer.args, self.trainer.state.best_model_checkpoint
        if args.should_save and args.save_total_limit == 1 and best is not None:
            folder = Path(run_folder(self.trainer))
            for each in manifest.checkpoints(folder):
                if not each.samefile(best):
                    manifest.remove(each)

    # ---- writing -----------------------------------------------------------------------------------------------------

    def save(self, save: Callable[[], None], trial: Any) -> None:
        """Write a checkpoint.

        Args:
            save: Trainer's `_save_checkpoint`.
        """
        state, args = self.trainer.state, self.trainer.args
        folder, name = run_folder(self.trainer, trial), _name(state.global_step)
        written, target = Path(folder, manifest.PARTIAL, name), Path(folder, name)
        best = state.best_model_checkpoint
        if args.local_process_index == 0:
            manifest.clear(Path(folder))
        self._wait()
        try:
            error = self._agreed(self._write(save, os.path.join(folder, manifest.PARTIAL)))
            state.best_model_checkpoint = best
            if error is None:
                here = os.path.join(folder, _name(state.best_global_step or 0))
                if state.best_global_step == state.global_step or (state.best_global_step and os.path.exists(here)):
                    state.best_model_checkpoint = here
                error = self._agreed(self._finish(written, target) if args.should_save else None)
        finally:
            if args.local_process_index == 0:
                manifest.clear(Path(folder))
        self.failed = error is not None
        if error is not None:
            self._go_on(error, Path(folder), best)
            return
        if args.push_to_hub:
            try:
                push(self.trainer, str(target))
            except Exception as failure:
                if not is_unwritten(failure):
                    raise
                self._warn(f"{target} is not pushed to the Hub ({reason_of(failure)})")
        if args.should_save:
            self._rotate(target)

    def _write(self, save: Callable[[], None], folder: str) -> BaseException | None:
        """Have Trainer write into a folder; what it could not write.

        After an error a process goes on to the points where the processes wait for each other.
        """
        errors: list[BaseException] = []

        def guarded(write: Callable[..., Any]) -> Callable[..., None]:
            @functools.wraps(write)
            def writes(*args: Any, **options: Any) -> None:
                if errors:
                    return
                try:
                    write(*args, **options)
                except Exception as error:
                    if not is_unwritten(error):
                        raise
                    errors.append(error)

            return writes

        with writing_to(self.trainer, folder, guarded):
            guarded(save)()
        return errors[0] if errors else None

    def _finish(self, written: Path, target: Path) -> BaseException | None:
        """Write the manifest and give the checkpoint its name; what could not be written."""
        state, args = self.trainer.state, self.trainer.args
        about = {
            "step": state.global_step,
            "processes": args.world_size,
            "only_model": args.save_only_model,
        }
        try:
            state.save_to_json(str(written / STATE))  # again: where the best is has changed
            manifest.write(written, about, self._digests)
            manifest.place(written, target)
        except Exception as error:
            if not is_unwritten(error):
                raise
            return error
        self.moved(written, target)
        return None

    def _go_on(self, error: BaseException, folder: Path, best: str | None) -> None:
        """After a checkpoint that could not be written: the best is the best of those that exist."""
        state, args = self.trainer.state, self.trainer.args
        state.best_model_checkpoint = best
        if state.best_global_step == state.global_step:
            self._choose_best(folder)
        if args.should_save:
            last = manifest.newest(folder)
            kept = f"the last whole one is {last}" if last else "there is no whole one yet"
            name = _name(state.global_step)
            self._warn(f"{folder / name} could not be written ({reason_of(error)}): training goes on, {kept}")

    def _choose_best(self, folder: Path) -> None:
        """Make the best evaluated one of the whole checkpoints in a folder the best."""
        state, args = self.trainer.state, self.trainer.args
        metric = f"eval_{(args.metric_for_best_model or 'loss').removeprefix('eval_')}"
        better = max if args.greater_is_better else min
        whole = {manifest.step_of(path): path for path in manifest.checkpoints(folder) if not manifest.damage(path)}
        scores = {
            int(line["step"]): line[metric]
            for line in state.log_history
            if metric in line and line.get("step") in whole
        }
        step = better(sorted(scores), key=lambda step: scores[step]) if scores else None
        state.best_global_step = step
        state.best_metric = None if step is None else scores[step]
        state.best_model_checkpoint = None if step is None else str(whole[step])

    def _rotate(self, newest: Path) -> None:
        """Remove the oldest checkpoints beyond `save_total_limit`; never the newest and the best, as Trainer does."""
        limit, best = self.trainer.args.save_total_limit, self.trainer.state.best_model_checkpoint
        if limit is None or limit <= 0:
            return
        found = sorted(
            manifest.checkpoints(newest.parent), key=lambda path: (path.stat().st_mtime, manifest.step_of(path))
        )
        kept = {newest, *([Path(best)] if best else [])} & set(found)
        others = [path for path in found if path not in kept]
        for path in others[: max(len(found) - max(limit, len(kept)), 0)]:
            manifest.remove(path)

    # ---- processes ---------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        self._agreed(None)

    def _agreed(self, error: BaseException | None) -> BaseException | None:
        """What any process could not write, in all of them; they wait for each other."""
        args = self.trainer.args
        if args.world_size <= 1:
            return error
        failed = torch.tensor([float(error is not None)], device=args.device)
        torch.distributed.all_reduce(failed, torch.distributed.ReduceOp.MAX)
        return error or (OSError("another process could not write its part") if failed.item() else None)

    def _warn(self, message: str) -> None:
        warnings.warn(message, InputWarning, stacklevel=2)


def _name(step: int) -> str:
    return f"{PREFIX_CHECKPOINT_DIR}-{step}"
