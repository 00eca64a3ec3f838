"""Ways of making augmented texts: one file each."""

from __future__ import annotations

from typing import Any

from deni.augmentation.back_translation import BackTranslation
from deni.augmentation.base import Augmenter
from deni.augmentation.easy import Easy
from deni.augmentation.llm import LLM
from deni.settings import as_it_is, make

_CLASSES: tuple[type[Augmenter], ...] = (Easy, BackTranslation, LLM)
AUGMENTERS: dict[str, type[Augmenter]] = {cls.name: cls for cls in _CLASSES}

__all__ = ["AUGMENTERS", "Augmenter", "make_augmenter"]


def make_augmenter(name: str | Augmenter, **settings: Any) -> Augmenter:
    """The augmenter of that name; None among its settings means not given.

    Raises:
        SettingError: a name or setting that does not exist, or a value that does not fit.
    """
    if isinstance(name, Augmenter):
        return as_it_is("method", name, settings)
    return make("method", AUGMENTERS, name, settings)
