"""Back-translation with tiny random Marian and M2M100 models."""

import json

import numpy as np
import pytest
import torch
import transformers
from click.testing import CliRunner

from deni.augmentation import make_augmenter
from deni.cli import main
from deni.errors import InputError, InputWarning
from tests.helpers.tiny import toy_rows, write_csv
from tests.helpers.translators import save

TEXTS = ["where is my parcel", "the card is charged", "reset my password please"]
LABELS = ["a", "b", "c"]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("translation")
    return {f"{name}_model": save(root / name, "Marian", seed) for seed, name in enumerate(("forward", "backward"))}


@pytest.fixture(scope="module")
def multilingual(tmp_path_factory) -> str:
    return save(tmp_path_factory.mktemp("many") / "m2m", "M2M100", 2, "__en__", "__de__")


def build(models, **settings):
    return make_augmenter("back_translation", **models, **{"max_length": 12, **settings})


def draws(*seeds: int) -> list[np.random.Generator]:
    return [np.random.default_rng(seed) for seed in seeds]


def loaded(folder: str):
    return (
        transformers.AutoTokenizer.from_pretrained(folder),
        transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval(),
    )


@torch.no_grad()
def best(folder: str, text: str, beams: int, **settings) -> list[str]:
    """The best translations of one text, by plain transformers."""
    tokenizer, model = loaded(folder)
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    made = model.generate(ids, num_beams=beams, num_return_sequences=beams, max_length=12, do_sample=False, **settings)
    return [line.strip() for line in tokenizer.batch_decode(made, skip_special_tokens=True)]


def test_beam_search_there_and_back_is_that_of_transformers(models):
    beams = 3
    made = build(models, sample=False, beams=beams).make(TEXTS, LABELS, beams, draws(0, 1, 2))
    for text, own in zip(TEXTS, made, strict=True):
        pivots = [pivot for pivot in best(models["forward_model"], text, beams) if pivot]
        back = [best(models["backward_model"], pivot, beams) for pivot in pivots]
        want = dict.fromkeys(back[at][rank] for rank in range(beams) for at in range(len(pivots)))
        assert own == [each for each in want if each and each != text]
    assert any(made)


def test_sampling_gives_n_different_texts_that_depend_on_the_seed_alone(models):
    augmenter = build(models)
    made = augmenter.make(TEXTS, LABELS, 3, draws(0, 1, 2))
    assert all(len(set(own)) == len(own) >= 3 for own in made)
    assert all(text not in own for text, own in zip(TEXTS, made, strict=True))
    torch.rand(3)  # the global generator is nobody's
    assert build(models).make(TEXTS, LABELS, 3, draws(0, 1, 2)) == made
    assert augmenter.make(TEXTS, LABELS, 3, draws(5, 1, 2)) != made


def test_making_texts_leaves_the_global_generator_as_it_was(models):
    before = torch.get_rng_state()
    build(models).make(TEXTS[:1], LABELS[:1], 1, draws(0))
    assert torch.equal(before, torch.get_rng_state())


def test_a_low_temperature_and_a_narrow_choice_are_greedy(models):
    greedy = build(models, sample=False, beams=1).make(TEXTS, LABELS, 1, draws(0, 1, 2))
    assert build(models, temperature=1e-4).make(TEXTS, LABELS, 1, draws(3, 4, 5)) == greedy
    assert build(models, top_p=1e-6).make(TEXTS, LABELS, 1, draws(3, 4, 5)) == greedy


def test_prefixes_are_put_in_front(models):
    plain, own = build(models, sample=False), build(models, sample=False, forward_prefix="parcel ")
    assert own.make(["is my"], ["a"], 1, draws(0)) == plain.make(["parcel is my"], ["a"], 1, draws(0))
    assert build(models, sample=False, backward_prefix="parcel ").make(TEXTS, LABELS, 1, draws(0)) != plain.make(
        TEXTS, LABELS, 1, draws(0)
    )


def test_one_model_of_many_languages_starts_with_the_token_of_the_language(multilingual):
    both = {"forward_model": multilingual, "backward_model": multilingual}
    augmenter = build(both, language="en", pivot="de", sample=False, beams=2)
    made = augmenter.make(TEXTS[:1], LABELS[:1], 2, draws(0))
    assert augmenter._forward.model is augmenter._backward.model
    tokenizer = loaded(multilingual)[0]
    there, back = ({"forced_bos_token_id": tokenizer.convert_tokens_to_ids(f"__{code}__")} for code in ("de", "en"))
    pivots = best(multilingual, TEXTS[0], 2, **there)
    turned = [best(multilingual, pivot, 2, **back) for pivot in pivots if pivot]
    assert made[0] == [each for each in dict.fromkeys(own[rank] for rank in range(2) for own in turned) if each]
    with pytest.raises(InputError, match="has no language 'xx'"):
        build(both, language="en", pivot="xx").start(TEXTS, LABELS, 1, 0)


def test_texts_that_will_be_cut_are_warned_of_and_a_length_over_the_models_is_refused(models):
    with pytest.warns(InputWarning, match=r"1 of 2 texts are longer than 12 tokens, such as 'my my"):
        build(models).start(["my parcel", "my " * 12], ["a", "b"], 1, 0)
    with pytest.raises(InputError, match="max_length 128 is over the 40 tokens"):
        build(models, max_length=128).start(TEXTS, LABELS, 1, 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"forward_model": None}, "needs --forward-model"),
        ({"language": "en"}, "language and pivot are given together"),
        ({"beams": 0}, "beams must be at least 1"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"top_p": 1.5}, "top_p must be above 0 and at most 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(models, settings, message):
    given = {key: value for key, value in {**models, **settings}.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        make_augmenter("back_translation", **given)


def test_a_model_that_cannot_be_loaded_is_named(models, model_folder):
    for name in ("/no/such/folder", model_folder):  # BERT translates nothing
        with pytest.raises(InputError, match=f"translation model '{name}' cannot be loaded: .*hub id of a translation"):
            build({**models, "backward_model": name}).start(TEXTS, LABELS, 1, 0)


def test_the_command_writes_what_was_translated_on_whichever_device_is_named(models, tmp_path):
    file = write_csv(tmp_path / "in.csv", toy_rows(2))
    flags = [f"--{name.replace('_', '-')}={folder}" for name, folder in models.items()]
    command = ["augment", str(file), "--method", "back_translation", *flags, "--max-length", "12", "--batch-size", "4"]
    result = CliRunner().invoke(main, [*command, "--n", "2", "--output", str(tmp_path / "out.jsonl")])
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(row["seed"], row["label"]) for row in rows] == [pair for pair in toy_rows(2) for _ in range(2)]
    again = CliRunner().invoke(main, [*command, "--n", "2", "--device", "cpu", "--output", str(tmp_path / "b.jsonl")])
    assert again.exit_code == 0, again.output
    assert (tmp_path / "b.jsonl").read_bytes() == (tmp_path / "out.jsonl").read_bytes()
