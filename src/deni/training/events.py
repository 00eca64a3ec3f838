"""How the phases hear of Trainer's events without being in the user's list of callbacks."""

from __future__ import annotations

import copy
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import CallbackHandler

from deni.training.checkpoint_writing import Checkpoints


class Events(CallbackHandler):
    """Trainer's handler; it calls the phases too, after the callbacks that it had at first and before later ones.

    The user's list stays the user's: its length, its order and what is popped from it are as in `Trainer`, and nobody
    can remove what makes members fork.

    Args:
        handler: Trainer's own, which this one replaces.
        phases: the callback that is called, and is not in `callbacks`.
        checkpoints: called with it; `on_save` is called only where a checkpoint was written.
    """

    def __init__(self, handler: CallbackHandler, phases: TrainerCallback, checkpoints: Checkpoints) -> None:
        vars(self).update(vars(handler))
        self.phases, self.checkpoints = phases, checkpoints
        self._first = list(handler.callbacks)

    def call_event(self, event: str, *args: Any, **options: Any) -> Any:
        if event == "on_save" and self.checkpoints.failed:
            return args[2]  # control
        first = [each for each in self.callbacks if any(each is known for known in self._first)]
        rest = [each for each in self.callbacks if not any(each is known for known in self._first)]
        handler = copy.copy(self)  # a callback that removes itself does so in the user's list
        handler.callbacks = [*first, self.phases, self.checkpoints, *rest]
        return CallbackHandler.call_event(handler, event, *args, **options)
