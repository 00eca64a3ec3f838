"""Tiny random translation models."""

import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing

from deni.randomness import global_generators
from tests.helpers.tiny import toy_rows

SIZES = {
    "d_model": 32,
    **{f"{side}_{key}": size for side in ("encoder", "decoder") for key, size in (("layers", 1), ("ffn_dim", 32))},
    **{f"{side}_attention_heads": 2 for side in ("encoder", "decoder")},
    "max_position_embeddings": 40,
    "init_std": 1.0,  # random, but decided: with less all tokens are equally likely
}


def tokenizer_with(*languages: str) -> transformers.PreTrainedTokenizerFast:
    special = ["<pad>", "</s>", "<unk>", *languages]
    known = {word: at for at, word in enumerate(dict.fromkeys([*special, *["is", "my", "parcel"]]))}
    for text, _ in toy_rows(30):
        for word in text.split():
            known.setdefault(word, len(known))
    tokenizer = Tokenizer(WordLevel(known, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=list(languages),
    )


def save(folder, family: str, seed: int, *languages: str) -> str:
    tokenizer = tokenizer_with(*languages)
    own = {"vocab_size": len(tokenizer), "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
    config = getattr(transformers, f"{family}Config")(**SIZES, **own, bos_token_id=1, forced_eos_token_id=1)
    with global_generators(seed):
        model = getattr(transformers, {"Marian": "MarianMTModel", "M2M100": "M2M100ForConditionalGeneration"}[family])(
            config
        )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
