import pytest

from deni.auto.facts import architecture_of, collect_facts, encoder_kind


@pytest.mark.parametrize(
    ("task", "classes", "per_class", "largest"),
    [
        ("single_label", 3, 4, 4),
        ("ordinal", 3, 4, 4),
        ("multi_label", 4, 4.5, 6),
        ("regression", 0, 0, 0),
    ],
)
def test_classes_and_their_texts_are_counted(texts_of, model_folder, task, classes, per_class, largest):
    facts = collect_facts(texts_of(task), model_folder)
    assert (facts.task, facts.examples) == (task, 12)
    assert (facts.classes, facts.per_class, facts.largest) == (classes, per_class, largest)
    assert not facts.pairs


def test_of_words_entities_are_counted(texts_of, model_folder):
    texts = texts_of("token")
    facts = collect_facts(texts, model_folder)
    assert facts.classes == 1
    assert facts.largest == sum(any(len(word) > 5 for word in words) for words in texts.texts)


def test_pairs_are_pairs(texts_of, model_folder):
    assert collect_facts(texts_of(pairs=True), model_folder).pairs
    assert str(collect_facts(texts_of(pairs=True), model_folder)).startswith(
        "12 labeled pairs, single_label, 3 classes"
    )


def test_a_sentence_encoder_is_one_whose_files_say_so(model_folder, sentence_encoder):
    assert encoder_kind(model_folder) == "plain"
    assert encoder_kind(sentence_encoder) == "sentence"
    assert encoder_kind("nobody/has-this") == "plain"


def test_the_architecture_is_the_one_that_the_files_name(model_folder, tmp_path):
    assert architecture_of(model_folder) == "bert"
    (tmp_path / "config.json").write_text("[]")
    assert architecture_of(str(tmp_path)) == architecture_of("nobody/has-this") == ""
