"""The kinds of labels: one label, several, a number, a tag for each word, a step of an order. One file each."""

from __future__ import annotations

import importlib
import pkgutil

from deni.tasks.base import DEFAULT, TASKS, Task, find_task, register
from deni.tasks.inference import task_of

# Each file registers its task: the default first, the others in the order of their names.
for _name in sorted((each.name for each in pkgutil.iter_modules(__path__)), key=lambda name: (name != DEFAULT, name)):
    importlib.import_module(f"{__name__}.{_name}")
del _name

__all__ = ["DEFAULT", "TASKS", "Task", "find_task", "register", "task_of"]
