"""Augmented texts next to the labeled ones."""

import os
from pathlib import Path

import pandas as pd
import pytest
from datasets import Dataset
from transformers import DataCollatorWithPadding

from deni.errors import InputError
from deni.randomness import Sources
from deni.strategies import Augmentation, Denials, make_strategy
from tests.helpers.augmenters import LABELS, TEXTS
from tests.helpers.plain import bert, distance, make, same, values


@pytest.mark.parametrize("n", [1, 2, 4])
def test_each_text_gets_n_of_its_own_with_its_label_and_the_tokenizers_tokens(build, labelled, tokenizer, augmented, n):
    rows = build(Augmentation(n, augmented)).train_dataset
    assert len(rows) == 4 * (1 + n)
    assert rows.select(range(4)).to_dict() == labelled.to_dict()  # the labelled ones are as they were
    for text, label in zip(TEXTS, LABELS, strict=True):
        own = [row for row in rows.select(range(4, len(rows))) if row["text"].startswith(text)]
        assert len({row["text"] for row in own}) == n
        assert {row["text"] for row in own} <= {f"{text} {word}" for word in ("box", "money", "code", "email")}
        assert {row["labels"] for row in own} == {label}
    longest = max(map(len, labelled["input_ids"]))
    for row in rows.select(range(4, len(rows))):
        tokens = tokenizer(row["text"], truncation=True, max_length=longest)
        assert {key: row[key] for key in tokens} == dict(tokens)
        assert len(row["input_ids"]) <= longest


def test_the_choice_is_that_of_the_augmentation_source(build, augmented):
    chosen = {}
    for seed in (3, 4):
        draw = Sources(seed).numpy("augmentation")
        expected = [
            f"{text} {('box', 'money', 'code', 'email')[at]}" for text in TEXTS for at in draw.permutation(4)[:2]
        ]
        for _ in range(2):
            chosen[seed] = build(Augmentation(2, augmented), seed=seed).train_dataset["text"][4:]
            assert list(chosen[seed]) == expected
    assert list(chosen[3]) != list(chosen[4])


def test_training_on_them_is_default_training_on_the_longer_set(build, augmented):
    mine = build(Augmentation(2, augmented, epochs=3))
    rows = mine.train_dataset
    mine.train()
    assert mine.state.global_step == 3 * 12 // 2
    plain = build(None, train=rows, args={"num_train_epochs": 3})
    plain.train()
    assert same(values(mine), values(plain))


def test_each_seed_of_a_pack_has_a_choice_of_its_own(build, labelled, augmented, tokenizer, tmp_path):
    pack = make(
        tmp_path,
        Augmentation(1, augmented, epochs=2),
        model_init=lambda: bert(vocab_size=160),
        train=labelled,
        seeds=[3, 4],
        args={"per_device_train_batch_size": 2},
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
        active_vocabulary=False,
    )
    pack.train()
    for run, seed in enumerate((3, 4)):
        alone = build(Augmentation(1, augmented, epochs=2), seed=seed, active_vocabulary=False)
        alone.train()
        own = {name: value[run : run + 1] for name, value in values(pack).items()}
        assert distance(own, values(alone)) < 1e-9


def test_none_is_default(build):
    mine, plain = build(Augmentation(0, epochs=None)), build(None)
    mine.train()
    plain.train()
    assert same(values(mine), values(plain))


def test_the_epochs_are_those_of_the_paper(build, augmented):
    assert build(Augmentation(1, augmented)).args.num_train_epochs == 12
    assert build(Denials(augmented=augmented)).args.num_train_epochs == 10
    assert build(Augmentation(1, augmented, epochs=None)).args.num_train_epochs == 2


def test_too_few_are_refused_with_the_text_and_the_counts(build, augmented):
    message = (
        "augmented.csv has fewer than 5 augmented texts for 4 of 4 labeled ones, such as 'where is my parcel' with 4"
    )
    with pytest.raises(InputError, match=message):
        build(Augmentation(5, augmented))


def test_a_text_without_any_is_refused(build, augmented, labelled):
    other = labelled.select([0, 1]).map(lambda row, at: {"text": "new here"} if at else row, with_indices=True)
    with pytest.raises(
        InputError, match="fewer than 1 augmented texts for 1 of 2 labeled ones, such as 'new here' with 0"
    ):
        build(Augmentation(1, augmented), train=other)


def test_a_file_without_the_column_seed_is_refused(build, tmp_path):
    file = tmp_path / "texts.csv"
    pd.DataFrame({"text": ["a b"], "label": ["x"]}).to_csv(file, index=False)
    with pytest.raises(InputError, match=r"texts.csv: no column 'seed', it has 'text', 'label'; it names the labeled"):
        build(Augmentation(1, str(file)))


def test_what_is_missing_is_named(build, augmented, tmp_path, labelled):
    with pytest.raises(InputError, match="augmented texts are needed: --augmented FILE with the columns seed and"):
        build(Augmentation(1))
    with pytest.raises(ValueError, match="needs the tokenizer: give the trainer `processing_class`"):
        make(tmp_path, Augmentation(1, augmented), train=labelled)
    with pytest.raises(ValueError, match="needs a training set of `datasets` with its texts in the column 'text'"):
        build(Augmentation(1, augmented), train=labelled.remove_columns("text"))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"augmentations": -1}, "augmentations must be at least 0, not -1"),
        ({"epochs": 0}, "epochs must be above 0, not 0"),
    ],
)
def test_bad_settings_are_refused(setting, message):
    for name in ("augmentation", "denials"):
        with pytest.raises(ValueError, match=message):
            make_strategy(name, **setting)


@pytest.mark.skipif("DENI_DATA" not in os.environ, reason="DENI_DATA names no folder with the research datasets")
def test_real_paraphrases_are_found_for_every_labelled_text(build, tokenizer):
    folder = Path(os.environ["DENI_DATA"], "augmented")
    seeds, para = pd.read_csv(folder / "atis_seeds.csv.gz"), pd.read_csv(folder / "atis_para.csv.gz")
    texts, labels = list(seeds["text"]), list(seeds["label"])
    codes = {label: at for at, label in enumerate(sorted(set(labels)))}
    tokens = tokenizer(texts)
    train = Dataset.from_dict({"text": texts, "input_ids": tokens["input_ids"], "labels": [codes[e] for e in labels]})
    file = str(folder / "atis_para.csv.gz")
    model = bert(vocab_size=160, num_labels=len(codes))
    counts = para.groupby("seed")["text"].nunique()
    n = int(counts.min())
    rows = build(Augmentation(n, file), train=train, model=model).train_dataset
    assert len(rows) == 250 * (1 + n)
    known = {(row.text, row.seed): codes[row.label] for row in para.itertuples()}
    for at, (text, label) in enumerate(zip(rows["text"][250:], rows["labels"][250:], strict=True)):
        assert known[text, texts[at // n]] == label == codes[labels[at // n]]
    assert [len(set(rows["text"][250 + n * at : 250 + n * (at + 1)])) for at in range(250)] == [n] * 250
    few = int((counts == n).sum())
    with pytest.raises(InputError, match=f"fewer than {n + 1} augmented texts for {few} of 250 labeled ones"):
        build(Augmentation(n + 1, file), train=train, model=model)
