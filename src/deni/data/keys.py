"""When two texts, or two labels, are the same one: exactly, or but for case, white space and the like."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Sequence
from hashlib import sha256

# The unit separator: it joins the parts of a text, and ("a b", "c") stays another text than ("a", "b c").
JOINT = "\x1f"


class _Dropped(dict[int, int | None]):
    """Code point -> None where it is left out; filled as characters come, since there are a million."""

    def __missing__(self, code: int) -> int | None:
        character = chr(code)
        # Of the symbols ASCII ones only, as in `string.punctuation`: an emoji may be all that tells two texts apart.
        drop = unicodedata.category(character)[0] in "PZC" or character in string.punctuation
        self[code] = None if drop else code
        return self[code]


_DROPPED = _Dropped()


def exact(text: str | Sequence[str]) -> str:
    """One string for a text: itself, or its parts joined.

    >>> exact(("a", "b"))
    'a\\x1fb'
    """
    return text if isinstance(text, str) else JOINT.join(text)


def digest(text: str | Sequence[str]) -> str:
    """The SHA-256 of the exact key: which text it is, where the text itself shall not be kept.

    >>> digest("where is my parcel")[:12]
    '59abaaffaef4'
    """
    return sha256(exact(text).encode(errors="surrogatepass")).hexdigest()


def loose(text: str | Sequence[str]) -> str:
    """One string for all texts that differ by case, white space, punctuation or the width of characters only.

    A text of nothing else stays as it is, in lower case.

    >>> loose("Where is my parcel?!") == loose("where is  MY parcel")
    True
    >>> loose("???"), loose("!!!")
    ('???', '!!!')
    """
    if not isinstance(text, str):
        return JOINT.join(loose(part) for part in text)
    folded = text.casefold() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()
    return folded.translate(_DROPPED) or folded.strip()


def is_punctuation(key: str) -> bool:
    """Tell whether a loose key is that of a text without letters, digits and signs such as emoji.

    >>> is_punctuation(loose("...")), is_punctuation(loose("... no"))
    (True, False)
    """
    return not key[:1].translate(_DROPPED)  # other keys have dropped such characters


# Cyrillic and Greek letters that look like Latin ones, after case folding.
_LOOKALIKES = str.maketrans("авекмнорстухіјѕαενικοτρυχ", "abekmhopctyxijsaevikotpux")
_SEPARATORS = re.compile(r"(?<=[^\W\d])[\s_/-]+(?=[^\W\d])")


def label(name: str, lookalikes: bool = True) -> str:
    """One string for all labels that differ by case, separators, invisible or look-alike letters only.

    Args:
        lookalikes: without it, look-alike letters of other scripts differ.

    >>> label("Not  Spam") == label("not_spam")
    True
    >>> label("-1") == label("1")
    False
    """
    folded = unicodedata.normalize("NFKC", name).casefold()
    seen = "".join(each for each in folded if unicodedata.category(each) != "Cf").strip()
    seen = _SEPARATORS.sub("", seen)
    return seen.translate(_LOOKALIKES) if lookalikes else seen
