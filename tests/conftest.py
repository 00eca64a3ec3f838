"""Tiny random models and batches."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import functools
import random
import shutil
import signal
import string
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn

from deni.randomness import generator, global_generators

torch.set_num_threads(1)
ARCHITECTURES = ("bert", "roberta", "albert", "distilbert")
SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
}
DECODER = {**SIZES, "num_key_value_heads": 2, "pad_token_id": 1}  # num_key_value_heads: two heads share keys and values
SMALL = {
    "bert": ("Bert", SIZES),
    "roberta": ("Roberta", SIZES),
    "albert": ("Albert", {**SIZES, "embedding_size": 16, "hidden_dropout_prob": 0.1, "classifier_dropout_prob": 0.1}),
    "distilbert": (
        "DistilBert",
        {"vocab_size": 60, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 40},
    ),
    "electra": ("Electra", {**SIZES, "embedding_size": 16}),
    "mpnet": ("MPNet", SIZES),
    "deberta-v2": (
        "DebertaV2",
        {**SIZES, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8},
    ),
    "modernbert": (
        "ModernBert",
        {**SIZES, "pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2},
    ),
    "xlm-roberta": ("XLMRoberta", SIZES),
    "camembert": ("Camembert", SIZES),
    "deberta": ("Deberta", {**SIZES, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}),
    "llama": ("Llama", DECODER),
    "mistral": ("Mistral", {**DECODER, "head_dim": 8}),
    "gemma": ("Gemma", {**DECODER, "head_dim": 8}),
    "qwen2": ("Qwen2", DECODER),
    "qwen3": ("Qwen3", {**DECODER, "head_dim": 8}),
    "gpt_neox": ("GPTNeoX", {**DECODER, "bos_token_id": 2, "eos_token_id": 3}),
    "opt": ("OPT", {**SIZES, "ffn_dim": 48, "word_embed_proj_dim": 32, "pad_token_id": 1}),
    "gpt2": (
        "GPT2",
        {
            "vocab_size": 60,
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 4,
            "n_inner": 48,
            "n_positions": 40,
            "pad_token_id": 1,
            "bos_token_id": 2,
            "eos_token_id": 3,
        },
    ),
}


# The first condition first: the package cannot be imported beside another transformers.
HAS_ADAPTERS = transformers.__version__.startswith("4.57.") and find_spec("adapters") is not None
needs_adapters = pytest.mark.skipif(not HAS_ADAPTERS, reason="needs the package adapters and transformers 4.57")
SMALL_TUNINGS = {
    "lora": {"lora_r": 4, "lora_alpha": 4},
    "prompt": {"prompt_tokens": 3},
    "unipelt": {"unipelt_r": 4, "unipelt_prefix": 5, "unipelt_reduction": 8},
}


def make_tiny(
    architecture: str,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    num_labels: int = 3,
    attention: str = "sdpa",
    task: str = "Sequence",
) -> nn.Module:
    """A tiny random model for sequence or token classification, in training mode."""
    family, sizes = SMALL[architecture]
    config = getattr(transformers, f"{family}Config")(num_labels=num_labels, **sizes)
    model_class = getattr(transformers, f"{family}For{task}Classification")
    config._attn_implementation = attention if model_class._supports_sdpa else "eager"
    with global_generators(seed):
        model = model_class(config)
    return model.to(dtype).train()


def make_batch(
    rows: int = 4, tokens: int = 7, seed: int = 0, num_labels: int = 3, side: str = "right", task: str = "Sequence"
) -> dict[str, Tensor]:
    """Token ids above the special ones, a mask with padding on one side, and labels; of tokens -100 at some."""
    draw = generator(seed)
    ids = torch.randint(5, 60, (rows, tokens), generator=draw)
    lengths = torch.randint(3, tokens + 1, (rows,), generator=draw)
    lengths[0] = tokens
    mask = (torch.arange(tokens) < lengths[:, None]).long()
    if side == "left":
        mask = mask.flip(1)
    labels = torch.randint(num_labels, (rows,), generator=draw)
    if task == "Token":
        labels = torch.randint(num_labels, (rows, tokens), generator=draw)
        labels[(mask == 0) | (torch.rand(rows, tokens, generator=draw) < 0.2)] = -100
    return {"input_ids": ids * mask + (1 - mask), "attention_mask": mask, "labels": labels}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Tests run side by side: a study in this process takes one thread, not all that the machine has."""
    monkeypatch.setattr("deni.study.run._cores", lambda: 1)


@pytest.fixture
def tiny() -> Callable[..., nn.Module]:
    return make_tiny


@pytest.fixture
def batch() -> Callable[..., dict[str, Tensor]]:
    return make_batch


TOPICS = {
    "billing": "invoice money charged refund payment card price bill",
    "delivery": "parcel late courier address shipped box arrive track",
    "login": "password account code email locked screen sign reset",
}
FILLERS = ["the", "my", "is", "a", "please", "not", "where", "why"]


def heed_interrupts() -> None:
    """For `preexec_fn`: a test run that was begun in the background ignores Ctrl-C, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def toy_rows(each: int = 12, seed: int = 0) -> list[tuple[str, str]]:
    """Toy sentences with their class: four words of the class and two that say nothing."""
    rng = random.Random(seed)
    rows = []
    for _ in range(each):
        for label, words in TOPICS.items():
            chosen = [*rng.sample(words.split(), 4), *rng.sample(FILLERS, 2)]
            rows.append((" ".join(chosen), label))
    return rows


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> str:
    """A folder with a tiny random BERT and its WordPiece tokenizer."""
    folder = tmp_path_factory.mktemp("model") / "tiny-bert"
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = sorted({word for text, _ in toy_rows(30) for word in text.split()})
    pieces = [*string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase)]
    known = {token: at for at, token in enumerate(dict.fromkeys([*special, *words, *pieces]))}  # always the same ids
    tokenizer = Tokenizer(WordPiece(known, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=40, **dict(zip(names, special, strict=True))
    ).save_pretrained(folder)
    config = transformers.BertConfig(**{**SIZES, "vocab_size": 160})
    with global_generators(0):
        transformers.BertModel(config).save_pretrained(folder)
    return str(folder)


def write_csv(file: Path, rows: list[tuple[str, str]]) -> Path:
    """A CSV with the columns text and label."""
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(file, index=False)
    return file


@pytest.fixture(scope="session")
def tickets(tmp_path_factory) -> str:
    """A CSV with 36 toy sentences of 3 classes."""
    return str(write_csv(tmp_path_factory.mktemp("data") / "tickets.csv", toy_rows()))


@pytest.fixture(scope="session")
def fitted(model_folder, tickets) -> Callable[..., Any]:
    """Fine-tunes the tiny model; the same settings are trained once."""

    @functools.cache
    def train(
        strategy: str = "default", tuning: str = "full", epochs: float = 2, engine: str = "auto", **settings: Any
    ) -> Any:
        from deni.data import read_texts
        from deni.finetune import fine_tune
        from deni.recipe import recipe

        plan = recipe(
            None,
            strategy,
            tuning,
            settings,
            SMALL_TUNINGS.get(tuning),
            model=model_folder,
            epochs=epochs,
            engine=engine,
        )
        return fine_tune(read_texts(tickets), plan, progress=False)

    return train


# ---- a browser ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium():
    """A headless Chromium."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("no Chromium on this machine")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium):
    """Open a page; what it asked for and complained of is in `asked` and `said`."""
    contexts = []

    def open_page(file, width=1280, scheme="light"):
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.asked, page.said = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("dialog", lambda dialog: (page.said.append("a dialog"), dialog.dismiss()))
        page.goto(file.as_uri())
        page.wait_for_selector("body[data-drawn]")
        return page

    yield open_page
    for context in contexts:
        context.close()
