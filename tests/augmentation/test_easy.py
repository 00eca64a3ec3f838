"""Easy data augmentation, with and without a WordNet in its real formats."""

import numpy as np
import pytest

from deni.augmentation import make_augmenter, synonyms
from deni.augmentation.easy import WORD, Easy
from deni.errors import InputError

TEXT = "Where is my parcel, please? It should have arrived last week."
GROUPS = {
    "noun": [["parcel", "package"], ["bill", "invoice"], ["money"], ["card", "credit_card"]],
    "verb": [["arrive", "get", "come"], ["charge", "bill"]],
}


def draw(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def many(augmenter: Easy, text: str = TEXT, n: int = 20, seed: int = 0) -> list[str]:
    return augmenter.make([text], ["x"], n, [draw(seed)])[0]


def words(text: str) -> list[str]:
    return WORD.split(text)[1::2]


@pytest.fixture(autouse=True)
def no_wordnet(monkeypatch):
    """Whatever is installed where the tests run: each test brings its own."""
    monkeypatch.setattr(synonyms, "LIBRARIES", {"nltk": lambda: None, "wn": lambda: None})


def dictionary(folder):
    """A WordNet dictionary of a few words, in the files that Princeton's releases have."""
    letters = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}
    licence = "  1 This WordNet 3.0 Copyright 2006 is written by a test.  \n"
    folder.mkdir(parents=True)
    for part, letter in letters.items():
        data, index = licence, {}
        for group in GROUPS.get(part, []):
            offset = f"{len(data):08d}"
            frames = " 01 + 02 00" if part == "verb" else ""
            names = " ".join(f"{name} 0" for name in group)
            data += f"{offset} 00 {letter} {len(group):02x} {names} 000{frames} | a gloss  \n"
            for name in group:
                index.setdefault(name, []).append(offset)
        lines = [f"{name} {letter} {len(at)} 0 {len(at)} 0 {' '.join(at)}  \n" for name, at in sorted(index.items())]
        (folder / f"data.{part}").write_text(data)
        (folder / f"index.{part}").write_text(licence + "".join(lines))
        (folder / f"{part}.exc").write_text("came come\n" if part == "verb" else "")
    (folder / "lexnames").write_text("00\tnoun.Tops\t1\n")
    (folder / "cntlist.rev").write_text("")
    (folder / "index.sense").write_text("")


@pytest.fixture
def nltk_wordnet(tmp_path, monkeypatch):
    nltk = pytest.importorskip("nltk")
    from nltk.corpus.reader.wordnet import WordNetCorpusReader
    from nltk.corpus.util import LazyCorpusLoader

    dictionary(tmp_path / "corpora" / "wordnet")
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    monkeypatch.setattr(nltk.corpus, "wordnet", LazyCorpusLoader("wordnet", WordNetCorpusReader, None))
    monkeypatch.setattr(synonyms, "LIBRARIES", {"nltk": synonyms._nltk, "wn": lambda: None})


LMF = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE LexicalResource SYSTEM "http://globalwordnet.github.io/schemas/WN-LMF-1.0.dtd">
<LexicalResource xmlns:dc="http://purl.org/dc/elements/1.1/">
<Lexicon id="test" label="test" language="en" email="a@b.c" license="none" version="1">
{entries}{synsets}</Lexicon>
</LexicalResource>
"""


@pytest.fixture
def wn_wordnet(tmp_path, monkeypatch):
    wn = pytest.importorskip("wn")
    monkeypatch.setattr(wn.config, "data_directory", tmp_path / "wn")
    entries, synsets = "", ""
    for letter, groups in (("n", GROUPS["noun"]), ("v", GROUPS["verb"])):
        for at, group in enumerate(groups):
            synset = f"test-{letter}{at}"
            synsets += f'<Synset id="{synset}" ili="" partOfSpeech="{letter}"><Definition>a gloss</Definition></Synset>'
            for name in group:
                own = f"test-{name}-{letter}{at}"
                lemma = f'<Lemma writtenForm="{name.replace("_", " ")}" partOfSpeech="{letter}" />'
                entries += f'<LexicalEntry id="{own}">{lemma}<Sense id="{own}-s" synset="{synset}" /></LexicalEntry>'
    (tmp_path / "test.xml").write_text(LMF.format(entries=entries, synsets=synsets))
    wn.add(tmp_path / "test.xml", progress_handler=None)
    monkeypatch.setattr(synonyms, "LIBRARIES", {"nltk": lambda: None, "wn": synonyms._wn})


# ---- what needs no synonyms ----------------------------------------------------------------------------------------


def test_a_swap_keeps_the_words_and_what_is_between_them():
    made = many(Easy(operations="swap", alpha=0.01))
    for text in made:
        assert sorted(words(text)) == sorted(words(TEXT))
        assert sum(a != b for a, b in zip(words(text), words(TEXT), strict=True)) == 2
        assert WORD.split(text)[::2] == WORD.split(TEXT)[::2]
    assert len(set(made)) == 20


def test_alpha_is_the_share_of_the_words_that_are_inserted():
    for alpha, count in ((0.01, 1), (0.2, 2), (0.5, 5)):
        for text in many(Easy(operations="insert", alpha=alpha, synonyms="none"), n=5):
            assert len(words(text)) == len(words(TEXT)) + count


def test_an_inserted_word_is_one_of_the_text_but_no_stop_word_where_there_are_no_synonyms():
    own, seen = words(TEXT), set()
    for text in many(Easy(operations="insert", synonyms="none"), n=40):
        added = words(text)
        for word in own:
            added.remove(word)
        seen.update(added)
        assert text.endswith(".")
    assert seen == {"parcel", "arrived", "week"}


def test_deletion_drops_the_share_p_of_the_words_on_average_and_never_all():
    text = " ".join(f"w{at}" for at in range(2000))
    for p in (0.1, 0.3):
        kept = len(words(many(Easy(operations="delete", p_delete=p), text, n=1)[0]))
        assert abs(kept / 2000 - (1 - p)) < 4 * (p * (1 - p) / 2000) ** 0.5
    assert set(many(Easy(operations="delete", p_delete=0.999), "one two three", n=9)) == {"one", "two", "three"}


def test_deletion_leaves_no_space_in_front_of_a_comma():
    made = set(many(Easy(operations="delete", p_delete=0.5), "my parcel, please", n=6))
    assert made == {"my parcel,", "my, please", "parcel, please", "my,", "parcel,", ", please"}


def test_no_text_is_the_old_one_or_there_twice_and_there_are_no_more_than_there_can_be():
    assert sorted(many(Easy(operations="swap"), "a b  c", n=20)) == ["a c b", "b a c", "c b a"]
    assert len(many(Easy(operations="delete"), "a b c d", n=10)) == 10  # four by one word, six by two
    assert many(Easy(operations="swap,delete"), "word") == []
    assert many(Easy(operations="insert,swap,delete"), "?!") == []
    assert many(Easy(operations="insert", synonyms="none"), "Hi!", n=1) == ["Hi Hi!"]


def test_operations_are_equally_likely():
    made = [many(Easy(operations="insert,swap,delete", p_delete=0.5), n=1, seed=seed)[0] for seed in range(600)]
    longer = [len(words(text)) - len(words(TEXT)) for text in made]
    counts = [sum(map(test, longer)) for test in ((0).__lt__, (0).__eq__, (0).__gt__)]
    assert all(abs(count - 200) < 4 * (600 * 2 / 9) ** 0.5 for count in counts)


def test_marks_belong_to_their_word_and_other_scripts_are_words():
    assert words("हिन्दी, भाषा don’t e-mail cafe\u0301") == ["हिन्दी", "भाषा", "don’t", "e-mail", "cafe\u0301"]


def test_a_text_depends_on_its_generator_alone():
    own = Easy(operations="insert,swap,delete")
    together = own.make([TEXT, "another text to augment"], ["x", "y"], 3, [draw(1), draw(2)])
    assert together[0] == own.make([TEXT], ["x"], 3, [draw(1)])[0]
    assert together[1] == own.make(["another text to augment"], ["y"], 3, [draw(2)])[0]


# ---- synonyms ------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["nltk_wordnet", "wn_wordnet"])
def wordnet(request):
    request.getfixturevalue(request.param)
    return request.param.removesuffix("_wordnet")


def test_synonyms_are_the_other_words_of_all_meanings_of_any_form(wordnet):
    found = synonyms.find_thesaurus("auto")
    assert set(found.of("parcels")) == {"package"}  # and not its own singular
    assert set(found.of("bill")) == {"invoice", "charge"}
    assert set(found.of("package")) == {"parcel"}
    assert found.of("money") == found.of("xyzzy") == []
    assert found.name == {"nltk": "nltk, WordNet 3.0", "wn": "wn, test:1"}[wordnet]


def test_an_irregular_form_has_the_synonyms_of_its_verb(nltk_wordnet):
    assert set(synonyms.find_thesaurus("nltk").of("came")) == {"arrive", "get"}


def test_synonyms_of_several_words_have_spaces(wordnet):
    assert synonyms.find_thesaurus(wordnet).of("cards") == ["credit card"]


def test_words_are_replaced_by_synonyms_in_their_case_and_stop_words_never(wordnet):
    made = many(Easy(operations="synonym"), "Parcel of the BILL, parcel! I get a get", n=20)
    # "get" and "bill" are stop words of scikit-learn's list.
    assert set(made) == {"Package of the BILL, parcel! I get a get", "Parcel of the BILL, package! I get a get"}
    assert many(Easy(operations="synonym"), "INVOICE", n=3) == ["BILL"]


def test_the_share_alpha_of_the_words_is_replaced_each_wherever_it_stands(wordnet):
    text = "parcel invoice parcel charge"
    made = many(Easy(operations="synonym", alpha=0.5), text)
    assert set(made) == {"package bill package charge", "package invoice package bill", "parcel bill parcel bill"}


def test_an_inserted_word_is_a_synonym(wordnet):
    made = many(Easy(operations="insert"), "parcel money", n=20)
    added = {(set(words(text)) - {"parcel", "money"} or {"money"}).pop() for text in made}
    assert added == {"package", "money"}


def test_what_the_synonyms_come_from_is_told(wordnet):
    assert wordnet in Easy().decided_by()["thesaurus"]
    assert Easy(operations="swap,delete").decided_by() == Easy(synonyms="none").decided_by() == {"thesaurus": None}


# ---- refused -------------------------------------------------------------------------------------------------------


def test_without_a_wordnet_the_error_says_how_to_get_it_and_what_works():
    with pytest.raises(InputError, match=r"pip install nltk.*nltk.downloader wordnet.*--operations insert,swap,delete"):
        Easy().start([TEXT], ["x"], 1, 0)
    with pytest.raises(InputError, match=r"--operations swap$"):
        Easy(operations="synonym,swap").start([TEXT], ["x"], 1, 0)
    with pytest.raises(InputError, match=r"wn or its WordNet is not installed.*wn download oewn:2024"):
        Easy(synonyms="wn").start([TEXT], ["x"], 1, 0)
    Easy(operations="insert,swap,delete").start([TEXT], ["x"], 1, 0)


def test_libraries_without_their_data_are_no_wordnet(tmp_path, monkeypatch):
    nltk, wn = pytest.importorskip("nltk"), pytest.importorskip("wn")
    from nltk.corpus.reader.wordnet import WordNetCorpusReader
    from nltk.corpus.util import LazyCorpusLoader

    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    monkeypatch.setattr(nltk.corpus, "wordnet", LazyCorpusLoader("wordnet", WordNetCorpusReader, None))
    monkeypatch.setattr(wn.config, "data_directory", tmp_path / "wn")
    assert synonyms._nltk() is None
    assert synonyms._wn() is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"operations": "swap,shuffle"}, "synonym,insert,swap,delete, each once, not 'swap,shuffle'"),
        ({"operations": "swap,swap"}, "each once"),
        ({"alpha": 0}, "alpha must be between 0 and 1, not 0"),
        ({"p_delete": 1.0}, "p_delete must be between 0 and 1"),
        ({"synonyms": "thesaurus"}, "unknown synonyms"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        make_augmenter("easy", **settings)
