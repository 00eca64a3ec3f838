"""Unwanted characters and uninformative texts."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from deni.data import keys
from deni.data.checks.finding import MOST_EXAMPLES, Finding, examples_of
from deni.data.texts import Texts
from deni.errors import short
from deni.tasks.remarks import severity_of, share_of

# The bytes 0x80 to 0xbf as Windows-1252 or Latin-1 shows them: what follows the first byte of a character in UTF-8.
_FOLLOW = "[\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]"
_HIGH = "[\u0080-\u009f€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]"
_NAMED = "quot|amp|lt|gt|nbsp|apos"
_TAGS = "a|b|br|code|div|em|font|h[1-6]|hr|i|img|li|ol|p|pre|span|strong|table|td|th|tr|u|ul"


@dataclass(frozen=True)
class Trouble:
    """Characters that a regular expression finds, of what RE2 and Python both read.

    Attributes:
        what: that the texts do, in the plural.
        advice: what to do.
        share: of the texts from which it is a warning.
    """

    pattern: str
    what: str
    advice: str
    share: float = 0.01


TROUBLE = {
    "replacement_characters": Trouble(
        "\ufffd", "hold U+FFFD, where a character was lost", "export them again as UTF-8"
    ),
    # Western letters and signs (é, £), dashes and quotes, a byte order mark or U+FFFD, emoji; two letters in a row of
    # Central Europe, Greek, Cyrillic, Hebrew or Arabic; two of China, Japan or Korea. Not: damage by another encoding
    # than Windows-1252 or Latin-1, single letters other than of Western Europe.
    "mojibake": Trouble(
        f"[ÃÂ]{_FOLLOW}|â{_HIGH}{_FOLLOW}|ï»¿|ï¿½|ð[Ÿ\u009f]{_FOLLOW}|(?:[Ä-ß]{_FOLLOW}){{2}}|(?:[ã-é]{_FOLLOW}{{2}}){{2}}",
        "hold UTF-8 that was read as Windows-1252 (Ã© for é, â€™ for ’)",
        "read the source as UTF-8, or repair them with the package ftfy",
    ),
    "html_entities": Trouble(
        rf"&(?:#\d{{2,6}}|#[xX][0-9a-fA-F]{{2,5}}|[a-zA-Z]{{2,8}}\d?);|#\d{{2,4}};|\b(?:{_NAMED});",
        "hold HTML entities (&amp;) or what is left of them (#39; quot;)",
        "unescape them",
    ),
    "html_tags": Trouble(rf"(?i)</?(?:{_TAGS})(?:\s[^<>]*)?/?>", "hold HTML tags (<br />)", "keep their text only"),
    "control_characters": Trouble(
        # Not the unit separator 0x1f, which joins pairs.
        "[\u0000-\u0008\u000b\u000c\u000e-\u001e\u007f-\u0084\u0086-\u009f]",
        "hold control characters",
        "take them out",
    ),
    "byte_order_marks": Trouble("\ufeff", "hold a byte order mark (U+FEFF), as joined files do", "take it out"),
    # Not the joiners U+200C and U+200D, which emoji and several scripts need.
    "invisible_characters": Trouble(
        "[\u00ad\u180e\u200b\u2060\u202a-\u202e\u2066-\u2069]",
        "hold invisible characters (zero-width spaces, soft hyphens, marks of direction)",
        "take them out",
    ),
    # ASCII only: several scripts write no white space.
    "long_runs": Trouble(
        "[!-~]{100}", "hold 100 characters or more without white space (links, encoded data)", "cut them out", 0.1
    ),
}
PLACEHOLDERS = {"na", "nan", "null", "none", "nil", "tbd", "todo", "undefined", "removed", "deleted", "empty", "xxx"}


def trouble(texts: Texts) -> list[Finding]:
    """What `TROUBLE` finds."""
    keyed = pa.array(texts.exact_keys, pa.large_string())
    found = []
    for kind, each in TROUBLE.items():
        at = pc.indices_nonzero(pc.match_substring_regex(keyed, each.pattern)).to_pylist()
        if at:
            what = re.sub("^hold", "holds", each.what) if len(at) == 1 else each.what
            found.append(
                Finding(
                    kind,
                    severity_of(len(at), len(texts), each.share, least=3),
                    texts.source,
                    f"{share_of(len(at), len(texts))} {what}; {each.advice}",
                    len(at),
                    tuple((texts.row(i), _around(texts.exact_keys[i], each.pattern)) for i in at[:MOST_EXAMPLES]),
                )
            )
    return found


def empty_talk(texts: Texts) -> list[Finding]:
    """Texts that are placeholders, or nothing but punctuation."""
    at = [i for i, key in enumerate(texts.loose_keys) if any(map(_says_nothing, key.split(keys.JOINT)))]
    if not at:
        return []
    message = f"{share_of(len(at), len(texts))} of punctuation only, or a word like N/A; drop uninformative texts"
    severity = severity_of(len(at), len(texts), share=0.01, least=3)
    return [Finding("placeholders", severity, texts.source, message, len(at), examples_of(texts, at))]


def _says_nothing(key: str) -> bool:
    return key in PLACEHOLDERS or keys.is_punctuation(key)


def _around(text: str, pattern: str, width: int = 24) -> str:
    """The first match with a few characters on either side."""
    match = re.search(pattern, text)
    if match is None:  # Python and RE2 read the pattern differently
        return short(text)
    start, end = max(0, match.start() - width), min(len(text), match.end() + width)
    around = text[start:end].replace(keys.JOINT, " ")
    return short(f"{'...' if start else ''}{around}{'...' if end < len(text) else ''}", 70)
