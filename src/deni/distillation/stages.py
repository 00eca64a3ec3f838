"""Where a training in stages keeps what is finished, and checkpoints of what is not.

In the folder of the checkpoints, each stage has its own:

    teacher/checkpoint-STEP     while it trains
    teacher/model/              the artifact, when it is trained
    folds/checkpoint-STEP       while they train (folds/1/ and so on where they train one after another)
    folds/out_of_fold...        what they predict, when they are trained
    student/checkpoint-STEP

`finished.json`, written last, says that a stage is finished, and what it was made from.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from deni.errors import ArtifactError, InputError, InputWarning
from deni.outputs import SavedElsewhereError, write_bytes
from deni.training import manifest
from deni.training.checkpoint import another_run
from deni.written import written_text

TEACHER, FOLDS, STUDENT = "teacher", "folds", "student"
FINISHED = "finished.json"


class Stages:
    """The stages of one training.

    Without `save_steps` a finished stage is kept only when a later one is interrupted, as other checkpoints are.

    Args:
        folder: of the checkpoints; None keeps nothing.
        save_steps: optimizer steps between checkpoints of each stage.
        resume: whether to go on from what is there; else it is removed.

    Raises:
        InputError: nothing to resume.
    """

    def __init__(self, folder: str | Path | None, save_steps: int | None = None, resume: bool = False) -> None:
        self.folder = None if folder is None else Path(folder)
        self.save_steps, self.resume = save_steps, resume
        self._unkept: list[Callable[[], None]] = []
        if resume and self.folder is None:
            raise InputError("nothing to resume: there is no checkpoint folder")
        if self.folder is None:
            return
        there = [stage for stage in (TEACHER, FOLDS, STUDENT) if _is_begun(self.folder / stage)]
        if resume and not there:
            raise InputError(f"{self.folder} has no checkpoint to resume from: omit --resume")
        if not resume:
            for stage in there:
                (self.folder / stage / FINISHED).unlink(missing_ok=True)
                _drop_checkpoints(self.folder / stage)

    def __enter__(self) -> Stages:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is KeyboardInterrupt:
            self.interrupt()

    def training(self, stage: str) -> dict[str, Any]:
        """The arguments `checkpoints`, `save_steps` and `resume` of `deni.finetune.fine_tune` for a stage."""
        if self.folder is None:
            return {}
        folder = self.folder / stage
        return {
            "checkpoints": folder,
            "save_steps": self.save_steps,
            "resume": self.resume and bool(_checkpoints(folder)),
        }

    def finished(self, stage: str, origin: Mapping[str, Any]) -> dict[str, Any] | None:
        """What `finish` was given as `more`, with the folder of the stage as `folder`; None where it is not finished.

        Raises:
            ArtifactError: it was made from something else.
        """
        if self.folder is None or not self.resume:
            return None
        folder = self.folder / stage
        try:
            found = json.loads(written_text(folder / FINISHED))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{folder / FINISHED} is not readable ({error}): omit --resume") from error
        ours = json.loads(json.dumps(dict(origin)))
        if not isinstance(found, dict) or found.get("origin") != ours:
            raise another_run(folder, found.get("origin") if isinstance(found, dict) else None, ours)
        return {**found, "folder": folder}

    def finish(self, stage: str, origin: Mapping[str, Any], write: Callable[[Path], object], **more: Any) -> None:
        """Keep what a stage has made, and drop its checkpoints.

        Args:
            origin: what it was made from.
            write: writes it into the folder of the stage.
            more: JSON values to get back from `finished`.
        """
        if self.folder is None:
            return
        folder = self.folder / stage

        def keep() -> None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                write(folder)
                content = json.dumps({"origin": dict(origin), **more}, indent=1)
                write_bytes(folder / FINISHED, content.encode(), overwrite=True)
            except (OSError, InputError) as error:
                if isinstance(error, SavedElsewhereError):
                    shutil.rmtree(error.path, ignore_errors=True)
                message = f"{folder} could not be written ({error}): training goes on, and --resume will repeat it"
                warnings.warn(message, InputWarning, stacklevel=3)
                return
            _drop_checkpoints(folder)

        if self.save_steps is None:
            self._unkept.append(keep)
        else:
            keep()

    def interrupt(self) -> None:
        """Keep what is finished, for the training ends here."""
        while self._unkept:
            self._unkept.pop(0)()


def _checkpoints(stage: Path) -> list[Path]:
    """All of a stage; trainings one after another have a folder each."""
    return [*stage.glob("checkpoint-*"), *stage.glob("*/checkpoint-*")]


def _drop_checkpoints(stage: Path) -> None:
    for each in _checkpoints(stage):
        manifest.remove(each)


def _is_begun(stage: Path) -> bool:
    manifest.settle(stage)
    return (stage / FINISHED).is_file() or bool(_checkpoints(stage))
