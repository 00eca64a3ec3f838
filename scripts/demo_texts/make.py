"""How the demo texts are made from phrases: `python -m scripts.demo_texts.make` writes both files again."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from random import Random

from deni.data.demo import demo_files
from scripts.demo_texts.phrases import (
    ASIDES,
    COMPLAINTS,
    GREETINGS,
    MESSAGES,
    NAMES,
    SLOTS,
    THANKS,
    TURNS,
    UNCLEAR,
)

Row = tuple[str, str]

ROWS = {  # label: texts to train on, texts to test on
    "billing": (112, 74),
    "refund": (108, 70),
    "delivery": (116, 78),
    "account": (104, 68),
    "technical": (110, 74),
    "cancellation": (98, 66),
}
TEST_ONLY, SHARED = 0.15, 0.65  # of each label's messages; the rest are for training only
ASIDE, FRAGMENT_ASIDE, TYPOS, UNCLEAR_ROWS = 0.28, 0.1, 0.14, 0.025  # probabilities
MANNERS = {"plain": 40, "terse": 22, "polite": 22, "angry": 16}  # weights
NAMED = {value.split(" ")[0] for name in ("courier", "month", "day", "plan") for value in SLOTS[name]} | {
    "Apple",
    "Face",
}
MISSPELT = {
    "address": "adress",
    "delivered": "deliverd",
    "doesn't": "doesnt",
    "don't": "dont",
    "I'm": "Im",
    "invoice": "invioce",
    "password": "pasword",
    "received": "recieved",
    "subscription": "subscribtion",
    "their": "there",
    "your": "you're",
}


def make(seed: int = 2406) -> tuple[list[Row], list[Row]]:
    """Make the texts to train on and those to test on, as (text, label); no text occurs twice."""
    random = Random(seed)
    train: list[Row] = []
    test: list[Row] = []
    used: set[str] = set()
    for label, (train_rows, test_rows) in ROWS.items():
        messages = random.sample(MESSAGES[label], len(MESSAGES[label]))
        test_only, shared = round(TEST_ONLY * len(messages)), round(SHARED * len(messages))
        train += _texts(label, messages[test_only:], train_rows, used, random)
        test += _texts(label, messages[: test_only + shared], test_rows, used, random)
    return random.sample(train, len(train)), random.sample(test, len(test))


def write(folder: Path) -> None:
    """Write `support_train.csv` and `support_test.csv`."""
    for name, rows in zip(("support_train.csv", "support_test.csv"), make(), strict=True):
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([("text", "label"), *rows])


def _texts(label: str, messages: list[str], rows: int, used: set[str], random: Random) -> list[Row]:
    """Make `rows` new texts; the messages take turns."""
    texts: list[Row] = []
    turn = 0
    while len(texts) < rows:
        if random.random() < UNCLEAR_ROWS:
            message = random.choice([text for text, labels in UNCLEAR if label in labels])
        else:
            message = messages[turn % len(messages)]
            turn += 1
        text = _dressed(message, label, random)
        if text.casefold() not in used:
            used.add(text.casefold())
            texts.append((text, label))
    return texts


def _dressed(message: str, label: str, random: Random) -> str:
    """Fill the slots and write the message the way one customer would."""
    fragment = message[0].islower() or (message.startswith("{") and message[-1] not in ".?!")
    slots = {name: random.choice(values) for name, values in SLOTS.items()}
    slots["order"] = f"{random.choice(('#', ''))}{random.randint(20000, 99999)}"
    text = message.format_map(slots)
    if not fragment:
        text = _capitalised(text)
    if random.random() < (FRAGMENT_ASIDE if fragment else ASIDE):
        text = _with_aside(text, label, slots, random)
    manner = random.choices(list(MANNERS), weights=list(MANNERS.values()))[0]
    if manner == "terse":
        text = _terse(text, random)
    elif manner == "polite":
        text = _polite(text, random)
    elif manner == "angry":
        text = _angry(text, random)
    return _with_typos(text, random) if random.random() < TYPOS else text


def _with_aside(text: str, label: str, slots: dict[str, str], random: Random) -> str:
    """Put a sentence about another label's matter before or behind the message."""
    about = random.choice([other for other in ASIDES if other != label])
    # Other values than the message's, or the two would contradict each other.
    others = {name: random.choice([v for v in values if v != slots[name]]) for name, values in SLOTS.items()}
    aside = _capitalised(random.choice(ASIDES[about]).format(other=others["item"], **others))
    if random.random() < 0.35:
        return f"{_closed(text)} {aside}"
    turn = random.choice(TURNS)
    return f"{aside} {turn} {_continued(text)}" if turn else f"{aside} {text}"


def _terse(text: str, random: Random) -> str:
    """Write in lower case without the last full stop, as on a phone."""
    text = text.lower().removesuffix(".").replace("please", random.choice(("please", "pls", "plz")))
    return text.replace("'", "") if random.random() < 0.5 else text


def _polite(text: str, random: Random) -> str:
    """Add a greeting, thanks or both."""
    greeting, thanks = random.choice(((True, True), (True, False), (False, True)))
    if thanks:
        text = f"{_closed(text)} {random.choice(THANKS).format(name=random.choice(NAMES))}"
    if greeting:
        text = f"{random.choice(GREETINGS)} {random.choice((text, _continued(text)))}"
    return text


def _angry(text: str, random: Random) -> str:
    """Complain before or behind the message, with capitals and exclamation marks."""
    if random.random() < 0.4:
        text = re.sub(r"\b(not|never|still|nothing|why|no|nobody)\b", lambda match: match[0].upper(), text, count=1)
    if text.endswith(".") and random.random() < 0.6:
        text = text[:-1] + random.choice(("!", "!!", "!!!"))
    complaint = random.choice(COMPLAINTS)
    return f"{complaint} {text}" if random.random() < 0.6 else f"{_closed(text)} {complaint}"


def _with_typos(text: str, random: Random) -> str:
    """Misspell one or two words."""
    words = text.split(" ")
    for _ in range(random.randint(1, 2)):
        at = random.randrange(len(words))
        word = words[at]
        if word in MISSPELT:
            words[at] = MISSPELT[word]
        elif len(word) > 4 and word.isalpha():
            i = random.randint(1, len(word) - 3)
            swapped = word[:i] + word[i + 1] + word[i] + word[i + 2 :]
            dropped = word[:i] + word[i + 1 :]
            words[at] = random.choice((swapped, dropped))
    return " ".join(words)


def _closed(text: str) -> str:
    """End with a punctuation mark."""
    return text if text[-1] in ".?!" else f"{text}."


def _capitalised(text: str) -> str:
    return text[0].upper() + text[1:]


def _continued(text: str) -> str:
    """Begin with a small letter, unless the first word is a name or "I"."""
    first = text.split(" ")[0]
    name = first in NAMED or first.partition("'")[0] == "I" or first[1:] != first[1:].lower()
    return text if name else text[0].lower() + text[1:]


if __name__ == "__main__":
    write(demo_files()[0].parent)
