"""English synonyms from WordNet, through `nltk` or `wn`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from deni.errors import InputError

HOW = {
    "nltk": "`pip install nltk`, then `python -m nltk.downloader wordnet`",
    "wn": "`pip install wn`, then `python -m wn download oewn:2024`",
}


@dataclass(frozen=True)
class Thesaurus:
    """Where synonyms come from.

    Args:
        name: of the library and of its WordNet.
        of: the synonyms of a word in any form; another form of the same word is none.
    """

    name: str
    of: Callable[[str], list[str]]


def find_thesaurus(library: str) -> Thesaurus | None:
    """The WordNet of `nltk` or of `wn`; `auto` is the first that is installed, if any, and `none` none.

    Raises:
        InputError: the library that is named, or its data, is not installed.
    """
    wanted = {"auto": ["nltk", "wn"], "none": []}.get(library, [library])
    found = next(filter(None, (LIBRARIES[each]() for each in wanted)), None)
    if found is None and library in HOW:
        raise InputError(f"{library} or its WordNet is not installed: {HOW[library]}")
    return found


def _nltk() -> Thesaurus | None:
    try:
        from nltk.corpus import wordnet

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The multilingual functions are not available")
            version = wordnet.get_version()
    except (ImportError, LookupError):
        return None

    def of(word: str) -> list[str]:
        forms = {wordnet.morphy(word.lower(), pos) for pos in "nvar"}
        return _others([name for each in wordnet.synsets(word) for name in each.lemma_names()], word, forms)

    return Thesaurus(f"nltk, WordNet {version}", of)


def _wn() -> Thesaurus | None:
    try:
        import wn
        from wn.morphy import Morphy
    except ImportError:
        return None
    installed = [lexicon for lexicon in wn.lexicons() if lexicon.language == "en"]
    if not installed:
        return None
    names = " ".join(sorted(lexicon.specifier() for lexicon in installed))
    forms_of = Morphy()
    net = wn.Wordnet(names, lemmatizer=forms_of)

    def of(word: str) -> list[str]:
        forms = {form for own in forms_of(word.lower()).values() for form in own}
        return _others([name for each in net.synsets(word) for name in each.lemmas()], word, forms)

    return Thesaurus(f"wn, {names}", of)


def _others(names: list[str], word: str, forms: Iterable[str | None]) -> list[str]:
    """Each name once, in order, without the word in its forms."""
    own = {word.lower(), *forms}
    spaced = dict.fromkeys(name.replace("_", " ") for name in names)
    return [name for name in spaced if name.lower() not in own]


LIBRARIES: dict[str, Callable[[], Thesaurus | None]] = {"nltk": _nltk, "wn": _wn}
