"""Models and tokenizers as they come: decoders without a padding token."""

import numpy as np
import pytest
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

import deni
from deni.artifact import export
from deni.data import read_texts
from deni.finetune import fine_tune
from deni.models.loading import load_model, load_tokenizer
from deni.randomness import global_generators
from deni.recipe import Recipe
from tests.helpers.tiny import SMALL


# GPT-2 counts positions from the first place, so padding on the left would move its texts.
@pytest.fixture(params=[("gpt2", "right"), ("llama", "right"), ("llama", "left"), ("qwen3", "left")], ids="-".join)
def decoder_folder(request, tmp_path, tickets) -> str:
    """A folder with a tiny decoder and a tokenizer; neither knows a padding token."""
    words = sorted({word for text in read_texts(tickets).texts for word in text.split()})
    plain = Tokenizer(WordLevel({"<s>": 0, "<unk>": 1, "</s>": 2} | {w: at for at, w in enumerate(words, 3)}, "<unk>"))
    plain.pre_tokenizer = Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=plain, unk_token="<unk>", eos_token="</s>", model_max_length=40, padding_side=request.param[1]
    ).save_pretrained(tmp_path)
    family, sizes = SMALL[request.param[0]]
    config = getattr(transformers, f"{family}Config")(**{**sizes, "pad_token_id": None})
    with global_generators(0):
        getattr(transformers, f"{family}Model")(config).save_pretrained(tmp_path)
    return str(tmp_path)


def test_a_decoder_without_a_padding_token_takes_its_end_token(decoder_folder):
    assert load_tokenizer(decoder_folder).pad_token_id == 2
    assert load_model(decoder_folder, ["a", "b"]).config.pad_token_id == 2


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_a_decoder_is_trained_saved_and_loaded(decoder_folder, tickets, tuning, tmp_path):
    own = {"lora_r": 4, "lora_alpha": 4} if tuning == "lora" else {}
    plan = Recipe.of(None, "delayed_ensemble", tuning, {"members": 3}, own, model=decoder_folder, epochs=2)
    texts = read_texts(tickets)
    tuned = fine_tune(texts, plan, progress=False)
    tuned.save(tmp_path / "trained")
    classifier = deni.load(tmp_path / "trained")
    cut = [" ".join(text.split()[:words]) for words, text in enumerate(texts.texts[:6], start=1)]
    together = classifier.predict_log_probabilities(cut)  # padded to the longest
    alone = np.concatenate([classifier.predict_log_probabilities([text]) for text in cut])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)
    export(tmp_path / "trained", tmp_path / "single")
    single = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "single")
    assert single.config.pad_token_id == 2
