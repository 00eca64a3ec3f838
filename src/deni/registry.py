"""Classes by name: those of a package, those of plug-ins, those of the user."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from deni.errors import InputError, SettingError

T = TypeVar("T")


class Registry(Mapping[str, type[T]]):
    """Name -> class. A class joins when it is defined, see `add`; its file is imported when its name is asked for.

    A built-in class is in the file of its name in a package. A plug-in declares an entry point of its class's name in
    the group of the registry and is loaded when it is asked for. Iteration gives the built-in classes, then those that
    were defined elsewhere, without loading a plug-in.

    Args:
        kind: what it holds, for messages: `strategy`.
        package: where the built-in classes are, also the name of the group of entry points.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind, self.package = kind, package
        self._classes: dict[str, type[T]] = {}
        self._rows: dict[str, int] = {}

    def add(self, name: str, cls: type[T], row: int | None = None) -> None:
        """Take a class; one that is defined again in the same module, as in a notebook, replaces the earlier one.

        Args:
            row: its place in listings; those without come after those with one, by name.

        Raises:
            SettingError: another class has the name.
        """
        there = self._classes.get(name)
        elsewhere = there is not None and (there.__module__, there.__qualname__) != (cls.__module__, cls.__qualname__)
        if elsewhere or (name in self._files and cls.__module__ != f"{self.package}.{name}"):
            where = there.__module__ if there is not None else f"{self.package}.{name}"
            raise SettingError(f"there is a {self.kind} {name} already, in {where}: choose another name")
        self._classes[name] = cls
        if row is not None:
            self._rows[name] = row

    def remove(self, name: str) -> None:
        """Forget a class that was defined outside the package."""
        del self._classes[name]

    def plugins(self) -> dict[str, EntryPoint]:
        """The entry points by name, of plug-ins that are installed; none is loaded."""
        return {each.name: each for each in entry_points(group=self.package) if each.name not in self._files}

    def names(self) -> list[str]:
        """All names that may be asked for, plug-ins included."""
        return [*self, *sorted(set(self.plugins()) - set(self._classes))]

    @cached_property
    def _files(self) -> list[str]:
        """The modules of the package; some hold no class with a name. Those with an underscore are never loaded."""
        names = [module.name for module in pkgutil.iter_modules(import_module(self.package).__path__)]
        return [name for name in names if not name.startswith("_")]

    def __getitem__(self, name: str) -> type[T]:
        if name not in self._classes and name in self._files:
            import_module(f"{self.package}.{name}")
        elif name not in self._classes and name in self.plugins():
            self._load(self.plugins()[name])
        return self._classes[name]

    def _load(self, plugin: EntryPoint) -> None:
        source = plugin.dist.name if plugin.dist is not None else plugin.value
        try:
            plugin.load()
        except Exception as error:  # whatever somebody else's module raises
            raise InputError(
                f"{self.kind} {plugin.name} of the package {source} cannot be loaded: "
                f"{type(error).__name__}: {str(error) or 'no message'}".replace("\n", " ")
            ) from error
        if plugin.name not in self._classes:
            raise InputError(f"the package {source} has the entry point {plugin.name}, but no {self.kind} of that name")

    def __contains__(self, name: object) -> bool:
        try:
            self[name]  # type: ignore[index]
        except KeyError:
            return False
        return True

    def built_in(self) -> dict[str, type[T]]:
        """The classes of the package, in the order of listings."""
        for name in self._files:
            import_module(f"{self.package}.{name}")
        names = [name for name in self._files if name in self._classes]
        names.sort(key=lambda name: (self._rows.get(name, len(self._files)), name))
        return {name: self._classes[name] for name in names}

    def __iter__(self) -> Iterator[str]:
        builtin = self.built_in()
        return iter([*builtin, *(name for name in self._classes if name not in builtin)])

    def __len__(self) -> int:
        return len(list(iter(self)))


def class_of(package: str, name: str) -> type:
    """The class of a package in the file of its name: `NoisyInterpolation` in noisy_interpolation.py.

    Raises:
        AttributeError: there is none, as the `__getattr__` of a module raises it.
    """
    files = [module.name for module in pkgutil.iter_modules(import_module(package).__path__)]
    for file in files:
        if file.replace("_", "") == name.lower() and name != file:
            found = getattr(import_module(f"{package}.{file}"), name, None)
            if found is not None:
                return found
    raise AttributeError(f"module {package!r} has no attribute {name!r}")
