"""Each check finds what it is for, and only that."""

import os
import re
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from deni.data import Texts, check_trainable, read_texts
from deni.data.checks import LABEL_CHECKS, TEXT_CHECKS, check_held_out
from deni.data.checks.characters import TROUBLE
from deni.data.checks.labels import class_counts
from deni.data.checks.lengths import cut_texts, fitting_length, short_texts, unknown_tokens
from deni.errors import InputError, InputWarning
from deni.tasks import TASKS
from deni.tasks.single_label import baseline
from tests.helpers.tiny import toy_rows

real = pytest.mark.skipif("DENI_DATA" not in os.environ, reason="DENI_DATA names no folder with the research datasets")


def made(texts, labels=None, task="single_label", source="train.csv") -> Texts:
    texts = list(texts)
    frame = pd.DataFrame({"text": texts}, index=pd.RangeIndex(2, len(texts) + 2, name="line"))
    return Texts(texts, None if labels is None else list(labels), source, frame, task)


def sound(count=40) -> tuple[list[str], list[str]]:
    """Texts and labels of which no check says anything."""
    return [f"message number {at}" for at in range(count)], ["ab"[at % 2] for at in range(count)]


def found(texts: Texts) -> dict:
    """What all checks say: kind -> finding."""
    checks = (*LABEL_CHECKS.values(), *TEXT_CHECKS.values())
    said = {finding.kind: finding for check in checks for finding in check(texts)}
    assert all("\n" not in str(finding) and finding.source == texts.source for finding in said.values())
    return said


def with_texts(*more: str) -> Texts:
    """Sound texts, and more of class a at the end, from line 42 on."""
    texts, labels = sound()
    return made([*texts, *more], [*labels, *("a" for _ in more)])


def test_sound_texts_give_no_finding():
    assert found(made(*sound())) == {}
    assert found(made(sound()[0])) == {}, "without labels"


# ---- characters ----------------------------------------------------------------------------------------------------

DAMAGED = {
    "replacement_characters": (["na\ufffdve"], ["naïve"]),
    "mojibake": (
        [
            text.encode().decode("cp1252", errors="replace")
            for text in ("café", "I don’t", "£5", "“so”", "5 €", "naïve –")
        ]
        + [text.encode().decode("latin-1") for text in ("Straße", "привет", "Γειά", "日本語", "😀", "żółw ść")],
        [
            "café",
            "Straße “Spaß“",
            "“passé…”",
            "MENÜ“",
            "« CAFÉ»",
            "PÅ”",
            "São Tomé",
            "Привет, мир",
            "日本語",
            "😀 ½ £5",
        ],
    ),
    "html_entities": (
        ["Tom &amp; Eva", "it #39;s", "quot;no quot;", "&#39;", "&#x27;", "a&nbsp;b"],
        ["Tom & Eva", "ticket #39", "a quot b", "R&D; so", "amp: 5"],
    ),
    "html_tags": (
        ["one<br />two", "<p>hi", "</SPAN>", '<a href="x">'],
        ["a < b > c", "<me@shop.org>", "<3", "<bread>"],
    ),
    "control_characters": (["bell\x07", "nul\x00", "\x1b[31m", "\x91quoted\x92"], ["tab\tand\nline\r\n", "\x85"]),
    "byte_order_marks": (["\ufeffhello"], ["hello"]),
    "invisible_characters": (
        ["zero\u200bwidth", "soft\u00adhyphen", "\u202eturned"],
        ["a\u200db 👩\u200d🔬", "می\u200cخواهم"],
    ),
    "long_runs": (["see " + "x" * 100], ["see " + "x" * 99, "字" * 200]),
}


@pytest.mark.parametrize("kind", TROUBLE)
def test_damaged_characters_are_found_and_whole_ones_are_not(kind):
    damaged, whole = DAMAGED[kind]
    for text in damaged:
        finding = found(with_texts(text)).get(kind)
        assert finding is not None, ascii(text)
        assert finding.count == 1
        assert finding.examples[0][0] == "line 42"
    for text in whole:
        assert kind not in found(with_texts(text)), ascii(text)


def test_damage_warns_from_three_texts_and_one_in_a_hundred_on():
    texts, _ = sound(400)
    for count, severity in ((2, "note"), (3, "note"), (4, "warning")):
        damaged = [f"{text}\ufffd" if at < count else text for at, text in enumerate(texts)]
        finding = found(made(damaged))["replacement_characters"]
        assert (finding.count, finding.severity) == (count, severity)
    assert found(with_texts("a\ufffd", "b\ufffd"))["replacement_characters"].severity == "note"
    assert found(with_texts("a\ufffd", "b\ufffd", "c\ufffd"))["replacement_characters"].severity == "warning"


def test_an_example_shows_the_damage_and_where_it_is():
    (example,) = found(with_texts("long " * 30 + "caf\ufffd" + " and so on" * 30))["replacement_characters"].examples
    assert example[0] == "line 42"
    assert "caf\ufffd and so on" in example[1]


def test_placeholders_are_found():
    finding = found(with_texts("N/A", "...", "null", "?!", "(none)"))["placeholders"]
    assert (finding.count, finding.severity) == (5, "warning")
    assert finding.examples[0] == ("line 42", "'N/A'")
    assert "placeholders" not in found(with_texts("no", "👍", "42", "nothing to add", "c++"))


# ---- copies --------------------------------------------------------------------------------------------------------


def test_copies_are_counted_with_the_commonest_and_its_lines():
    said = found(with_texts("ok", "thanks", "ok", "thanks", "ok", "Message number 7."))
    assert said["duplicates"].count == 3
    assert "most often 'ok' (3 times)" in said["duplicates"].message
    assert said["duplicates"].examples == (
        ("line 42, line 44, line 46", "'ok'"),
        ("line 43, line 45", "'thanks'"),
    )
    assert said["near_duplicates"].count == 1
    assert said["near_duplicates"].examples == (("line 9, line 47", "'message number 7'"),)
    assert "contradictions" not in said


def test_copies_warn_where_they_are_many():
    assert found(with_texts(*["ok"] * 10))["duplicates"].severity == "note"
    assert found(with_texts(*["ok"] * 11))["duplicates"].severity == "warning"
    many = made([*(f"text {at}" for at in range(400)), *["ok"] * 11])
    assert found(many)["duplicates"].severity == "note"


def test_what_tells_texts_apart_is_kept():
    different = ["good 😀", "good 😡", "की", "का", "1", "2", "???", "!!!", "straße", "strasze"]
    assert not {"duplicates", "near_duplicates"} & set(found(made(different)))
    alike = ["Ｆｕｌｌ width", "full-width!", "STRASSE", "straße", "a\u200bb", "AB"]
    assert found(made(alike))["near_duplicates"].count == 3


def test_contradictions_are_told_from_those_that_differ_by_punctuation():
    texts, labels = sound()
    said = found(made([*texts, "yes", "yes", "No!", "no", "Yes."], [*labels, "a", "b", "a", "b", "a"]))
    assert (said["contradictions"].count, said["near_contradictions"].count) == (1, 1)
    assert said["contradictions"].examples == (("line 42, line 43", "'yes': 'a', 'b'"),)
    assert said["near_contradictions"].examples == (("line 44, line 45", "'No!': 'a', 'b'"),)
    assert {"contradictions", "near_contradictions"}.isdisjoint(found(with_texts("yes", "yes", "No!", "no")))


def test_contradictions_of_several_labels_and_of_numbers():
    said = found(made(["x", "x", "y", "y"], [("a", "b"), ("a",), ("c",), ("c",)], "multi_label"))
    assert said["contradictions"].count == 1
    said = found(made(["x", "x", "y", "y"], [1.0, 2.0, 3.0, 3.0], "regression"))
    assert (said["contradictions"].count, said["duplicates"].count) == (1, 2)


def test_leaks_name_both_lines_and_those_that_are_nearly_the_same():
    train = made(["one text", "two texts", "three texts", "four"], "abab")
    test = made(["new", "two texts", "Three-texts!", "two texts"], "aaaa", source="test.csv")
    exact, near = check_held_out(train, test)
    assert (exact.kind, exact.severity, exact.count) == ("leaks", "warning", 2)
    assert exact.examples[0] == ("line 3 = line 3 of training", "'two texts'")
    assert (near.kind, near.count) == ("near_leaks", 1)
    assert near.examples == (("line 4 = line 4 of training", "'Three-texts!'"),)
    assert str(near).startswith("test.csv: 1 other of 4 test texts are in the training split if case, white space")
    assert check_held_out(train, made(["new", "newer"], "ab")) == []


def test_pairs_are_keyed_by_both_sides():
    pairs = [("a b", "c"), ("a", "b c"), ("x", "y"), ("y", "x")]
    assert not {"duplicates", "near_duplicates", "equal_sides", "control_characters"} & set(found(made(pairs)))
    said = found(made([*pairs, ("same", "same"), ("X!", "y"), ("x", "y"), ("ok", "n/a"), ("ca\ufffd", "b")]))
    assert said["equal_sides"].examples == (("line 6", "('same', 'same')"),)
    assert (said["near_duplicates"].count, said["duplicates"].count) == (1, 1)
    assert said["placeholders"].examples[0][0] == "line 9"
    assert said["replacement_characters"].examples[0][0] == "line 10"


def test_words_are_compared_as_sentences_and_their_tags_where_they_are_equal():
    words = [("My", "parcel"), ("My", "parcel"), ("my", "parcel", "!"), (".", "My", "own", ".")]
    tags = [("O", "B-X"), ("O", "O"), ("O", "I-X", "O"), ("O", "O", "B-Y", "O")]
    texts = made(words, tags, "token")
    said = found(texts)
    assert (said["duplicates"].count, said["near_duplicates"].count) == (1, 1)
    assert said["contradictions"].count == 1
    assert "'My parcel' with ('O', 'B-X'), ('O', 'O')" in said["contradictions"].message
    assert said["single_text_classes"].message.startswith("only one text has the label 'Y'")
    assert class_counts(texts) == {"X": 2, "Y": 1}
    assert {kind for kind in said if said[kind].severity == "warning"} == {"contradictions", "single_text_classes"}


def test_sentences_of_words_give_no_false_alarm():
    words = [("It", "rained", "in", f"town{at}", ".") for at in range(20)]
    words += [(".", "so", f"they{at}", "say", ".") for at in range(20)]  # no pair of "." and "."
    words += [("The", "turkey", "ate", "."), ("The", "Turkey", "ate")]  # an animal and a country: no contradiction
    tags = [("O", "O", "O", "B-LOC", "O")] * 20 + [("O",) * 5] * 20 + [("O",) * 4, ("O", "B-LOC", "O")]
    assert set(found(made(words, tags, "token"))) == {"near_duplicates"}
    few = [("a", f"b{at}") for at in range(12)]
    fewer = found(made(few, [("O", "B-A")] * 11 + [("B-B", "O")], "token"))
    assert fewer["uneven_classes"].message.endswith("look at F1 of each")
    assert found(made(few, [("O", "O")] * 12, "token"))["no_labels"].message.startswith("no word has a tag but O")


# ---- labels --------------------------------------------------------------------------------------------------------


def test_labels_that_look_alike_are_found_and_others_are_not():
    texts, _ = sound()
    labels = ["Spam"] * 20 + ["spam"] * 10 + ["not spam"] * 5 + ["not_Spam"] * 5
    finding = found(made(texts, labels))["alike_labels"]
    assert (finding.severity, finding.count) == ("warning", 2)
    assert "'Spam' (20 texts) and 'spam' (10 texts)" in finding.message
    cyrillic = found(made(texts, ["spam", "s\u0440am"] * 20))["alike_labels"]
    assert r"'s\u0440am'" in cyrillic.message, "escaped, or nobody sees the difference"
    for pair in (("1", "-1"), ("c", "c++"), ("c", "c#"), ("positive", "very positive"), ("1-2", "12"), ("a", "b")):
        assert "alike_labels" not in found(made(texts, pair * 20)), pair
    assert found(made(texts, [("Red",), ("red", "x")] * 20, "multi_label"))["alike_labels"].count == 1


def test_a_missing_value_that_became_a_label_is_found():
    texts, _ = sound()
    finding = found(made(texts, ["a"] * 20 + ["b"] * 16 + ["nan"] * 3 + ["NaN"]))["missing_labels"]
    assert (finding.severity, finding.count) == ("warning", 4)
    assert finding.message.startswith("4 texts (10.0%) with the label 'nan', 'NaN', as programs write a missing value")
    assert "missing_labels" not in found(made(texts, ["none", "null", "NA", "banana"] * 10))


def test_small_and_uneven_classes():
    texts, _ = sound(200)
    said = found(made(texts, ["a"] * 90 + ["b"] * 100 + ["c"] * 9 + ["d"]))
    assert (said["single_text_classes"].severity, said["single_text_classes"].count) == ("warning", 1)
    assert "'d'" in said["single_text_classes"].message
    assert (said["small_classes"].severity, said["small_classes"].count) == ("note", 1)
    assert "'c' (9)" in said["small_classes"].message
    assert "'b' has 100 times the texts of 'd' (100 and 1)" in said["uneven_classes"].message
    even = found(made(texts, ["a"] * 180 + ["b"] * 20))
    assert not {"single_text_classes", "small_classes", "uneven_classes"} & set(even)


def test_class_counts_and_baselines_are_those_of_scikit_learn():
    from sklearn.metrics import accuracy_score, f1_score

    gold = ["b"] * 7 + ["a"] * 2 + ["c"] * 2
    counts = class_counts(made(gold, gold))
    assert list(counts.items()) == [("b", 7), ("a", 2), ("c", 2)]
    scores = baseline(counts)
    assert scores["accuracy"] == pytest.approx(accuracy_score(gold, ["b"] * 11))
    assert scores["macro_f1"] == pytest.approx(f1_score(gold, ["b"] * 11, average="macro", zero_division=0))


def test_nothing_to_learn_is_an_error():
    texts, _ = sound()
    assert found(made(texts, ["a"] * 40))["one_class"].severity == "error"
    assert found(made(texts, [2.0] * 40, "regression"))["one_number"].severity == "error"
    assert found(made(texts, [()] * 40, "multi_label"))["no_labels"].severity == "error"
    assert found(made(texts, [("a",)] * 40, "multi_label")) == {}


def test_labels_of_another_task_are_recognised():
    texts, _ = sound(100)
    for labels, kind in (
        ([str(at / 7) for at in range(100)], "numbers"),
        ([str(at % 25) for at in range(100)], "numbers"),
        ([("a", "b", "a;b", "b; a")[at % 4] for at in range(100)], "several_labels"),
        ([f"name {at % 51}" for at in range(100)], "many_classes"),
    ):
        said = found(made(texts, labels))
        assert [each.severity for each in said.values() if each.kind == kind] == ["warning"], kind
    fractions, whole = ([str(at % 21 / part) for at in range(200)] for part in (4, 1))
    assert "numbers" in found(made(sound(200)[0], fractions))
    assert "numbers" not in found(made(sound(200)[0], whole)), "classes with numbers for names"
    for labels in ([str(at % 20) for at in range(100)], [("a;", "b")[at % 2] for at in range(100)]):
        assert not {"numbers", "several_labels", "many_classes"} & set(found(made(texts, labels)))
    assert found(made(texts, [float(at % 5) for at in range(100)], "regression"))["few_numbers"].count == 5
    assert found(made(texts, [float(at % 6) for at in range(100)], "regression")) == {}


def test_texts_without_any_of_several_labels():
    texts, _ = sound(20)
    several = made(texts, [(), ("a",), ("a", "b"), ("b",)] * 5, "multi_label")
    assert found(several)["without_label"].count == 5
    assert TASKS["multi_label"].figures(several.labels) == {"labels_per_text": {0: 5, 1: 10, 2: 5}}
    assert class_counts(several) == {"a": 10, "b": 10}
    assert "without_label" not in found(made(texts, [("a",), ("b",)] * 10, "multi_label"))


def test_numbers_are_summarised():
    numbers = TASKS["regression"].figures([1.0, 2.0, 3.0, 4.0, 10.0])["numbers"]
    assert numbers == {
        "mean": 4.0,
        "sd": pytest.approx(np.sqrt(10)),
        **{"min": 1.0, "25%": 2.0, "50%": 3.0, "75%": 4.0, "max": 10.0, "different": 5},
    }


# ---- tokens --------------------------------------------------------------------------------------------------------


def test_texts_that_are_cut_warn_above_two_in_a_hundred():
    texts, _ = sound(100)
    lengths = np.array([10] * 97 + [30, 50, 40])
    assert fitting_length(lengths, 512) == 41
    assert fitting_length(lengths, 20) == 20
    assert fitting_length(np.array([3, 3]), 512) == 8
    (finding,) = cut_texts(made(texts), lengths, 20)
    assert (finding.severity, finding.count) == ("warning", 3)
    assert [where for where, _ in finding.examples] == [
        "line 100 (50 tokens)",
        "line 101 (40 tokens)",
        "line 99 (30 tokens)",
    ]
    assert cut_texts(made(texts), lengths, 30) == []
    few = np.array([10] * 20 + [30])
    assert cut_texts(made(texts[:21]), few, fitting_length(few, 512)) == [], "the longest of few"


def test_texts_of_one_or_two_tokens():
    texts, _ = sound(50)
    (finding,) = short_texts(made(texts), np.array([5] * 48 + [4, 3]), special=2)
    assert (finding.severity, finding.count, finding.examples[0][0]) == ("note", 2, "line 50")
    assert short_texts(made(texts), np.array([5] * 48 + [4, 3]), special=2)[0].message.startswith("4.0% of the texts")
    assert short_texts(made(texts), np.array([5] * 50), special=2) == []
    assert short_texts(made(texts), np.array([3] * 50), special=2)[0].severity == "warning"


def test_unknown_tokens():
    texts, _ = sound(50)
    lengths = np.full(50, 10)
    assert unknown_tokens(made(texts), lengths, [0] * 50) == []
    (few,) = unknown_tokens(made(texts), lengths, [0] * 48 + [1, 2])
    assert (few.severity, few.count, few.examples[0][0]) == ("note", 2, "line 51")
    assert "(0.6% of all tokens)" in few.message
    assert unknown_tokens(made(texts), lengths, [1] * 50)[0].severity == "warning"


# ---- before training -----------------------------------------------------------------------------------------------


def test_training_warns_of_warnings_once_and_keeps_notes_to_itself():
    texts, labels = sound(200)
    damaged = [f"{text}\ufffd" for text in texts[:10]]
    train = made([*texts, *damaged, texts[0], "naïve &amp;"], [*labels, *labels[:10], "a", "a"])
    assert {each.severity for each in found(train).values()} == {"note", "warning"}
    test, dev = (made([texts[at], "new"], "ab", source=f"{at}.csv") for at in (1, 2))
    with pytest.warns(InputWarning) as caught:
        check_trainable(train, test, dev)
    messages = [str(each.message) for each in caught]
    assert [message.partition(" ")[0] for message in messages] == ["train.csv:", "1.csv:", "2.csv:"]
    assert "hold U+FFFD" in messages[0]
    assert "1 of 2 test texts" in messages[1]
    assert "1 of 2 dev texts" in messages[2]


def test_an_error_is_raised_before_anything_is_warned_of():
    texts, _ = sound()
    train = made([f"{text}\ufffd" for text in texts], ["a"] * 40)
    assert found(train)["replacement_characters"].severity == "warning"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match="all 40 texts have the label 'a'"):
            check_trainable(train)


def test_the_checks_of_many_texts_are_fast():
    """20,000 texts of 20 words; a check that compares all with all, or reads letter by letter, is far above this."""
    rows = [(f"{text} {text} {text} {at}", label) for at, (text, label) in enumerate(toy_rows(6667)[:20_000])]
    texts = made(*zip(*rows, strict=True))
    began = time.process_time()
    check_trainable(texts, made(["new"], ["login"]))
    assert time.process_time() - began < 3


def test_the_documentation_names_every_kind_of_finding():
    root = Path(__file__).parents[2]
    code = "".join(file.read_text() for file in (root / "src/deni/data/checks").glob("*.py"))
    code += (root / "src/deni/commands/inspect.py").read_text()
    code += "".join(file.read_text() for file in (root / "src/deni/tasks").glob("*.py"))
    first = re.findall(r"^\| (`.*?) \|", (root / "docs/inspect.md").read_text(), flags=re.M)
    documented = {kind for cell in first for kind in re.findall(r"`(\w+)`", cell)}
    assert set(re.findall(r'(?:Finding|Remark)\(\s*"(\w+)"', code)) | set(TROUBLE) <= documented
    assert [kind for kind in documented if f'"{kind}"' not in code] == []


# ---- real data -----------------------------------------------------------------------------------------------------


def research(name: str, **settings) -> Texts:
    return read_texts(Path(os.environ["DENI_DATA"], f"{name}.csv.gz"), **settings)


@real
@pytest.mark.parametrize(
    ("train", "test", "shared"),
    [("ag_news", "augmented/ag_news_seeds", 50), ("augmented/atis_seeds", "augmented/atis_test", 4)],
)
def test_known_overlaps_of_datasets_are_found(train, test, shared):
    kinds = {each.kind: each.count for each in check_held_out(research(train), research(test))}
    assert sum(kinds.get(kind, 0) for kind in ("leaks", "near_leaks")) == shared


@real
def test_what_the_source_left_in_ag_news_is_found_and_nothing_else_is_damaged():
    news = research("ag_news")
    said = found(news)
    assert set(said) == {"near_contradictions", "near_duplicates", "html_entities", "long_runs"}
    left = [any(each in text for each in ("#39;", "quot;", "&lt;", "&gt;", "&amp;")) for text in news.texts]
    assert said["html_entities"].count >= sum(left) > 5000
    assert said["html_entities"].severity == "warning"


@real
def test_the_classes_of_atis_are_uneven_and_clean():
    said = found(research("augmented/atis_test"))
    assert set(said) == {"uneven_classes"}
    assert "'flight' has 24 times the texts of 'abbreviation' (613 and 26)" in said["uneven_classes"].message
