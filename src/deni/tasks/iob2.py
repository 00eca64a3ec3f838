"""Tags of words: what IOB2 is, and the entities that tags name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def type_of(tag: str) -> str:
    """The type of entity that a tag names; a tag that is not IOB2, such as `NOUN`, is its own."""
    return tag[2:] if is_iob2(tag) and tag != "O" else tag


def is_iob2(tag: str) -> bool:
    """Whether a tag is `O`, `B-TYPE` or `I-TYPE`."""
    return tag == "O" or (tag[:2] in ("B-", "I-") and len(tag) > 2)


def whole(tags: Iterable[str]) -> list[str]:
    """All tags that a model needs: `O` first, then `B-` and `I-` of each type, even where only one of them occurs.

    >>> whole(["B-PER", "O", "I-LOC"])
    ['O', 'B-LOC', 'B-PER', 'I-LOC', 'I-PER']
    """
    given = set(tags)
    types = {tag[2:] for tag in given if is_iob2(tag) and tag != "O"}
    every = given | {f"{part}-{each}" for each in types for part in "BI"} | ({"O"} if types else set())
    return sorted(every, key=lambda tag: (tag != "O", tag))


def first_tokens(words: Sequence[int | None]) -> dict[int, int]:
    """Which tokens are the first of their word, and of which one.

    Args:
        words: of each token the number of its word, None for a token of none, as a fast tokenizer's `word_ids()`.

    >>> first_tokens([None, 0, 1, 1, None])
    {1: 0, 2: 1}
    """
    before = [None, *words]
    return {at: word for at, word in enumerate(words) if word is not None and word != before[at]}


def misplaced(tags: Sequence[str]) -> int | None:
    """Where the first tag is that is not IOB2, or an `I-TYPE` that continues no entity of its type; None if all fit.

    >>> misplaced(["O", "B-PER", "I-PER"]), misplaced(["O", "B-PER", "I-LOC"])
    (None, 2)
    """
    for at, tag in enumerate(tags):
        before = tags[at - 1] if at else "O"
        if not is_iob2(tag) or (tag[:2] == "I-" and before not in (tag, "B-" + tag[2:])):
            return at
    return None


def entities_of(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """Type, first and last word of each entity, as seqeval finds them; tags that are not IOB2 name none.

    >>> entities_of(["B-PER", "I-PER", "O", "I-LOC"])
    [('PER', 0, 1), ('LOC', 3, 3)]
    """
    from seqeval.metrics.sequence_labeling import get_entities

    return get_entities([tag if is_iob2(tag) else "O" for tag in tags])
