"""Fixtures: tiny models, batches, files, a fine-tuning, a browser."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["ACCELERATE_MIXED_PRECISION"] = "no"  # whatever this processor multiplies
os.environ["OMP_NUM_THREADS"] = "1"  # before NumPy and torch are imported: tests run side by side, each on a core
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each process that a test starts compiles all that it imports

import functools
import gc
import shutil
import string
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn

from deni.randomness import global_generators
from tests.helpers.disks import Disk
from tests.helpers.made import make, runs
from tests.helpers.registered import forgotten_afterwards
from tests.helpers.tiny import SIZES, SMALL_TUNINGS, make_batch, make_tiny, toy_rows, write_csv

torch.set_num_threads(1)
sys.dont_write_bytecode = False
collect_ignore = ["artifact/format_1/write.py"]  # it runs with the code of an earlier version


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Tests run side by side: a study in this process takes one thread, not all that the machine has."""
    monkeypatch.setattr("deni.study.execution.run._cores", lambda: 1)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """Features of models are not those that whoever runs the tests keeps."""
    os.environ["DENI_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True, scope="module")
def quick_collection():
    """accelerate collects garbage whenever a training begins: 0.3 s if it looks at all that has been imported."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def small_disk(tmp_path) -> Any:
    """Mounts a disk of a size such as `64k`; skipped where that needs rights that the tests have not."""
    disks = []

    def mount(size: str) -> Disk:
        disks.append(Disk(tmp_path / f"disk{len(disks)}", size))
        if disks[-1].problem:
            pytest.skip(f"no file system can be mounted here: {disks[-1].problem}")
        return disks[-1]

    yield mount
    for disk in disks:
        disk.close()


@pytest.fixture
def tiny() -> Callable[..., nn.Module]:
    return make_tiny


@pytest.fixture
def batch() -> Callable[..., dict[str, Tensor]]:
    return make_batch


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
        from deni.recipe import Recipe

        plan = Recipe.of(
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


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a plug-in: a module with an entry point, as pip would leave them."""
    monkeypatch.syspath_prepend(tmp_path)

    def plugin(name, module, source, group="deni.strategies"):
        (tmp_path / f"{module}.py").write_text(source)
        metadata = tmp_path / f"{module}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}\n")

    with forgotten_afterwards():
        yield plugin
    for module in [
        name
        for name, each in sys.modules.items()
        if getattr(each, "__file__", None) and str(tmp_path) in str(each.__file__)
    ]:
        del sys.modules[module]


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


@pytest.fixture
def tables(tmp_path):
    """Tables of a store of these cells."""

    from deni.analysis.runs import read_runs
    from deni.analysis.tables import build_tables
    from deni.study.store.database import Store

    def read(cells, **how):
        with Store(make(tmp_path / "study.db", cells)) as store:
            return build_tables(read_runs(store), **how)

    return read


@pytest.fixture
def db(tmp_path):
    """A store of two strategies, one with a name of signs."""
    return make(tmp_path / "study.db", [*runs("default", 0.5, 5), *runs("s_w&a|<b>", 0.9, 5, shift=1)])
