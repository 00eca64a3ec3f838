"""What ends a training before its last step: Ctrl-C, and an evaluation that no longer improves."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import EarlyStoppingCallback, TrainerCallback


class Patience(EarlyStoppingCallback):
    """Early stopping; where it stops there is no checkpoint, from which a resumed training would train on."""

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **options: Any) -> None:
        super().on_evaluate(args, state, control, metrics, **options)
        if self.early_stopping_patience_counter >= self.early_stopping_patience:
            control.should_save = False  # the best one is earlier, and is there


class StopOnInterrupt(TrainerCallback):
    """Ctrl-C ends training after the step that is under way, with a checkpoint; a second one ends it at once."""

    def __init__(self, saves: bool) -> None:
        self.saves, self.stopped = saves, False

    @contextmanager
    def listening(self) -> Iterator[None]:
        try:
            before = signal.signal(signal.SIGINT, self._stop)
        except ValueError:  # not the main thread, which gets no signals
            yield
            return
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _stop(self, *_: Any) -> None:
        if self.stopped or not self.saves:
            raise KeyboardInterrupt
        self.stopped = True

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.stopped:
            control.should_training_stop = control.should_save = True
