"""`deni augment`: from a file of labelled texts to a file of augmented ones, whole or continued."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import deni
from deni.augmentation import Augmenter, make_augmenter
from deni.cli import main
from deni.commands.augment import augment_file
from deni.data import read_augmented, read_texts
from deni.errors import InputError, InputWarning
from deni.randomness import Sources, derive
from tests.helpers.augmenters import Numbered
from tests.helpers.tiny import heed_interrupts, toy_rows, write_csv

EASY = make_augmenter("easy", operations="insert,swap,delete", synonyms="none")


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def partial(output: Path) -> Path:
    return output.with_name(output.name + ".partial.jsonl")


def listing(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def stop_after(batches: int, error: type[BaseException] = KeyboardInterrupt, **settings) -> Augmenter:
    """An augmenter that is interrupted when it has made so many batches."""
    calls = []

    class Stopping(Numbered):
        def make(self, *args):
            calls.append(args)
            if len(calls) > batches:
                raise error("no more")
            return super().make(*args)

    return Stopping(**settings)


# ---- what is written -----------------------------------------------------------------------------------------------


def test_each_text_gets_n_new_ones_with_its_label_in_the_order_of_the_file(tickets, tmp_path):
    done = augment_file(tickets, augmenter=EASY, output=tmp_path / "out.csv", n=3)
    made, given = pd.read_csv(tmp_path / "out.csv"), pd.read_csv(tickets)
    assert list(made.columns) == ["seed", "text", "label"]
    assert list(made.seed) == [text for text in given.text for _ in range(3)]
    assert list(made.label) == [label for label in given.label for _ in range(3)]
    assert all(len({*own.text, seed}) == 4 for seed, own in made.groupby("seed"))
    assert (done.texts, done.finished, done.made, done.output) == (36, 36, 108, tmp_path / "out.csv")
    assert listing(tmp_path) == {"out.csv"}
    own = read_augmented(tmp_path / "out.csv")
    assert list(own) == list(given.text)
    assert {len(texts) for texts in own.values()} == {3}


def test_what_a_text_and_its_label_draw_stays_the_same_in_every_version(tmp_path):
    rows = [("Where is my parcel?", "delivery"), ("Where is my parcel?", "refund"), ("Größe 42/43 bitte", "size")]
    augment_file(write_csv(tmp_path / "a.csv", rows), augmenter=Numbered(), output=tmp_path / "out.csv")
    drawn = [int(text.split()[-1]) for text in pd.read_csv(tmp_path / "out.csv").text]
    assert drawn == [34223026, 776361353, 401380788]
    text, label = "Where is my parcel? I ordered it on Monday.", "delivery"
    draw = np.random.default_rng(derive(Sources(0).seeds["augmentation"], text, label))
    assert EASY.make([text], [label], 4, [draw])[0] == [
        "Where is my parcel? I ordered it on Monday parcel.",
        "Where is my parcel? I ordered it on.",
        "Where is on parcel? I ordered it my Monday.",
        "Where is my it? I ordered parcel on Monday.",
    ]


@pytest.mark.parametrize("suffix", [".tsv", ".jsonl", ".parquet", ".csv.gz", ".parquet.gz"])
def test_every_format_has_the_same_texts_and_the_same_bytes_each_time(tickets, tmp_path, suffix):
    for name in ("out.csv", f"one{suffix}", f"two{suffix}"):
        augment_file(tickets, augmenter=EASY, output=tmp_path / name)
    want, other = read_texts(tmp_path / "out.csv"), read_texts(tmp_path / f"one{suffix}")
    assert list(other.frame.columns) == ["seed", "text", "label"]
    assert want.frame.to_numpy().tolist() == other.frame.to_numpy().tolist()
    assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()
    if suffix.endswith(".gz"):
        assert (tmp_path / f"one{suffix}").read_bytes()[3:8] == bytes(5)  # neither a name nor a time in the header


def test_the_new_texts_of_a_text_do_not_depend_on_the_others(tmp_path):
    rows = toy_rows()
    for name, own in (("all", rows), ("some", rows[20:3:-2])):
        augment_file(write_csv(tmp_path / f"{name}.csv", own), augmenter=EASY, output=tmp_path / f"{name}.out.csv")
    every, some = (read_augmented(tmp_path / f"{name}.out.csv") for name in ("all", "some"))
    assert some == {text: every[text] for text, _ in rows[20:3:-2]}
    augment_file(tmp_path / "all.csv", augmenter=EASY, output=tmp_path / "other.csv", seed=1)
    assert sum(every[text] == new for text, new in read_augmented(tmp_path / "other.csv").items()) < 10


def test_a_text_that_is_there_twice_is_augmented_once_and_odd_characters_survive(tmp_path):
    rows = [("twice", "a"), ("null", "b"), ('a "b",\nc\u2028 d ', "b"), ("twice", "a"), ("twice", "b"), (" =1\td", "a")]
    augment_file(write_csv(tmp_path / "in.csv", rows), augmenter=Numbered(), output=tmp_path / "out.csv", n=2)
    made = read_texts(tmp_path / "out.csv")
    pairs = list(zip(made.frame["seed"], made.labels, strict=True))
    assert pairs == [pair for pair in dict.fromkeys(rows) for _ in range(2)]


@pytest.mark.parametrize(
    ("task", "labels", "want"),
    [
        ("multi_label", ["b;a", "", "a"], ["a;b", "", "a"]),
        ("regression", ["1", "2.50", "-3e2"], ["1.0", "2.5", "-300.0"]),
    ],
)
def test_labels_of_every_task_are_kept(tmp_path, task, labels, want):
    file = write_csv(tmp_path / "in.csv", [(f"text {at}", label) for at, label in enumerate(labels)])
    augment_file(file, augmenter=Numbered(), output=tmp_path / "out.csv", task=task)
    assert list(pd.read_csv(tmp_path / "out.csv", dtype=str, keep_default_na=False).label) == want
    assert read_texts(tmp_path / "out.csv", task=task).labels == read_texts(file, task=task).labels


def test_what_is_no_new_text_is_dropped_and_what_is_missing_is_said(tmp_path):
    class Poor(Numbered):
        def make(self, texts, labels, n, generators):
            candidates = ["", " ", texts[0], f"{texts[0]} ", "new", "new ", "half \ud83d", "newer", "newest"]
            return [candidates if text == texts[0] else ["one"] for text in texts]

    file = write_csv(tmp_path / "in.csv", [("my text", "a"), ("another", "b")])
    with pytest.warns(InputWarning, match=r"1 of 4 new texts are missing, for 1 of 2 labeled ones, such as 'another'"):
        done = augment_file(file, augmenter=Poor(), output=tmp_path / "out.csv", n=2)
    assert list(pd.read_csv(tmp_path / "out.csv").text) == ["new", "newer", "one"]
    assert done.made == 3


def test_no_new_text_at_all_is_an_error_that_leaves_nothing(tmp_path):
    file = write_csv(tmp_path / "in.csv", [("?", "a"), ("!", "b")])
    with pytest.raises(InputError, match="no new text can be made of any text"):
        augment_file(file, augmenter=EASY, output=tmp_path / "out.csv")
    assert listing(tmp_path) == {"in.csv"}


# ---- interrupted ---------------------------------------------------------------------------------------------------


SCRIPT = """
import sys
sys.path[:0] = {paths}
from deni.cli import main
from deni.augmentation import AUGMENTERS
from tests.helpers.augmenters import Numbered
AUGMENTERS["numbered"] = Numbered
main()
"""


def test_a_file_that_was_interrupted_and_then_killed_is_continued_to_the_same_bytes(tickets, tmp_path):
    output, whole = tmp_path / "out.csv.gz", tmp_path / "whole.csv.gz"
    (tmp_path / "script.py").write_text(
        SCRIPT.format(paths=[str(Path(__file__).parents[2]), str(Path(deni.__file__).parents[1])])
    )
    command = [sys.executable, "script.py", "augment", tickets, "--method", "numbered", "--seconds", "0.2", "--n", "2"]
    for number, code in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        before = len(lines(partial(output))) if partial(output).exists() else 0
        process = subprocess.Popen(
            [*command, "--output", output],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            preexec_fn=heed_interrupts,
        )
        while not partial(output).exists() or partial(output).read_bytes().count(b"\n") < before + 3:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(number)
        said = process.communicate(timeout=60)[0]
        assert process.returncode == code
        if number == signal.SIGINT:
            finished = 2 * (len(lines(partial(output))) - 1)
            assert f"Interrupted. {finished} of 36 texts are finished. Give the same command to go on." in said
        assert not output.exists()
    kept = sum(len(part["made"]) for part in lines(partial(output))[1:])
    assert 6 <= kept < 36
    with partial(output).open("a") as file:
        file.write('{"at": 30, "made": [["torn')
    again = stop_after((36 - kept) // 2)  # what is kept is not made again
    augment_file(tickets, augmenter=again, output=output, n=2)
    augment_file(tickets, augmenter=Numbered(), output=whole, n=2)
    assert output.read_bytes() == whole.read_bytes()
    assert listing(tmp_path) == {"out.csv.gz", "whole.csv.gz", "script.py"}


def test_each_finished_batch_is_in_the_journal_as_a_whole_line(tickets, tmp_path):
    done = augment_file(tickets, augmenter=stop_after(3), output=tmp_path / "out.csv")
    assert (done.output, done.finished, done.made) == (None, 6, 6)
    first, *rest = lines(partial(tmp_path / "out.csv"))
    assert {"method": "numbered", "least": 0, "n": 1, "seed": 0}.items() <= first.items()
    assert "seconds" not in first
    assert [part["at"] for part in rest] == [0, 2, 4]
    assert listing(tmp_path) == {"out.csv.partial.jsonl"}


def test_an_error_in_the_middle_says_what_is_kept(tickets, tmp_path):
    with pytest.raises(InputError, match=r"no more \(6 of 36 texts are finished and kept: the same command goes on"):
        augment_file(tickets, augmenter=stop_after(3, InputError), output=tmp_path / "out.csv")
    augment_file(tickets, augmenter=stop_after(15), output=tmp_path / "out.csv")
    assert len(pd.read_csv(tmp_path / "out.csv")) == 36


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 2}, r"\(n: 1 there, 2 here\)"),
        ({"seed": 3}, r"\(seed: 0 there, 3 here\)"),
        ({"augmenter": Numbered(least=5)}, r"\(least: 0 there, 5 here\)"),
        ({"augmenter": EASY}, r"\(method: 'numbered' there, 'easy' here; "),
        ({"file": "other"}, r"\(texts: '36 with digest \w+' there, '35 with digest \w+' here\)"),
    ],
)
def test_a_journal_of_another_run_is_refused_and_kept(tickets, tmp_path, change, message):
    output = tmp_path / "out.csv"
    augment_file(tickets, augmenter=stop_after(3), output=output)
    journal = partial(output).read_bytes()
    if "file" in change:
        change = {"file": write_csv(tmp_path / "other.csv", toy_rows()[1:])}
    with pytest.raises(InputError, match=message) as raised:
        augment_file(**{"file": tickets, "augmenter": Numbered(), "output": output, "overwrite": True, **change})
    assert "give the same again to go on, choose another --output, or delete it" in str(raised.value)
    assert partial(output).read_bytes() == journal
    assert not output.exists()


def test_an_error_before_the_first_text_leaves_nothing(tickets, tmp_path):
    with pytest.raises(InputError, match=r"no more$"):
        augment_file(tickets, augmenter=stop_after(0, InputError), output=tmp_path / "out.csv")
    assert augment_file(tickets, augmenter=stop_after(0), output=tmp_path / "out.csv").finished == 0
    assert listing(tmp_path) == set()


def test_a_folder_that_cannot_be_written_is_named_before_the_first_text(tickets, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError, match=r"out.csv cannot be written: .*/file is not writable"):
        augment_file(tickets, augmenter=stop_after(0), output=tmp_path / "file" / "out.csv")


def test_an_output_that_cannot_be_written_in_the_end_loses_nothing(tickets, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", lambda handle: full() if calls.pop() else None)
    calls = [True, *[False] * 19]  # the journal's header and 18 batches of two, then the output
    with pytest.raises(InputError, match=r"No space left on device.*36 of 36 texts are finished and kept"):
        augment_file(tickets, augmenter=Numbered(), output=tmp_path / "out.csv")
    assert listing(tmp_path) == {"out.csv.partial.jsonl"}
    monkeypatch.undo()
    augment_file(tickets, augmenter=stop_after(0), output=tmp_path / "out.csv")
    assert listing(tmp_path) == {"out.csv"}


def test_a_journal_without_a_finished_text_is_nobodys(tickets, tmp_path):
    partial(tmp_path / "out.csv").write_text('{"method": "another"}\n{"at": 0, "ma')
    assert augment_file(tickets, augmenter=EASY, output=tmp_path / "out.csv").finished == 36


def test_a_journal_that_is_no_json_is_named(tickets, tmp_path):
    partial(tmp_path / "out.csv").write_text('{"method": "another"}\nnonsense\n{"at": 2}\n')
    with pytest.raises(InputError, match=r"out.csv.partial.jsonl, line 2: no JSON; delete that line"):
        augment_file(tickets, augmenter=EASY, output=tmp_path / "out.csv")


DAMAGED = {
    "nested deeply": ("[" * 90_000, "no JSON"),
    "a number": ("1", "1 where an object was expected"),
    "nothing": ("{}", "no keys where at and made were expected"),
    "no position": ('{"at": [], "made": [["a b"]]}', "at is [] where a position from 0 to 35 was expected"),
    "a position that is true": ('{"at": true, "made": [["a b"]]}', "at is True where a position from 0 to 35"),
    "a position below 0": ('{"at": -1, "made": [["a b"]]}', "at is -1 where a position from 0 to 35 was expected"),
    "an endless position": ('{"at": 1e308, "made": [["a b"]]}', "at is 1e+308 where a position from 0 to 35"),
    "no lists": ('{"at": 0, "made": "a b"}', "made is 'a b' where lists of texts were expected"),
    "no texts": ('{"at": 0, "made": [[3]]}', "3: every text must be a string that is not empty"),
    "half a surrogate": ('{"at": 0, "made": [["\\ud800"]]}', "'\\ud800': half a surrogate pair is not"),
    "too many texts": ('{"at": 0, "made": [["a b", "b a"]]}', "2 texts of one where at most 1 were expected"),
    "too many lists": ('{"at": 35, "made": [["a b"], ["b a"]]}', "made has 2 lists where 1 to 1 were expected"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_part_of_a_journal_that_is_not_as_it_was_written_is_named(tickets, tmp_path, what):
    line, message = DAMAGED[what]
    with pytest.raises(InputError):
        augment_file(tickets, augmenter=stop_after(1, InputError), output=tmp_path / "out.csv")
    run, part = partial(tmp_path / "out.csv").read_text().splitlines()
    partial(tmp_path / "out.csv").write_text(f"{run}\n{line}\n{part}\n")
    with pytest.raises(InputError) as raised:
        augment_file(tickets, augmenter=Numbered(), output=tmp_path / "out.csv")
    assert str(raised.value).startswith(f"{partial(tmp_path / 'out.csv')}, line 2: {message}")
    assert str(raised.value).endswith("; delete that line to go on, or the file to begin anew")
    partial(tmp_path / "out.csv").write_text(f"{run}\n{part}\n")
    assert augment_file(tickets, augmenter=Numbered(), output=tmp_path / "out.csv").finished == 36


# ---- refused before any work ---------------------------------------------------------------------------------------


def refused(*args) -> str:
    result = CliRunner().invoke(main, ["augment", *map(str, args)])
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    assert result.stdout == ""
    return result.stderr.splitlines()[-1]


def test_outputs_that_cannot_be_written_are_refused_before_any_work(tickets, tmp_path):
    flags = ("--operations", "swap", "--output")
    (tmp_path / "old.csv").write_text("precious")
    assert "old.csv exists: choose another file or give --overwrite" in refused(tickets, *flags, tmp_path / "old.csv")
    assert "unknown suffix '.txt'" in refused(tickets, *flags, tmp_path / "out.txt")
    assert "must be a file" in refused(tickets, *flags, "-")
    assert "is a folder" in refused(
        tickets, "--overwrite", "--operations", "swap", "--output", folder(tmp_path / "a.csv")
    )
    assert "is what is read" in refused(tickets, "--overwrite", *flags, tickets)
    assert (tmp_path / "old.csv").read_text() == "precious"
    assert listing(tmp_path) == {"old.csv", "a.csv"}


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_an_output_is_overwritten_when_that_is_wished(tickets, tmp_path):
    (tmp_path / "old.csv").write_text("old")
    augment_file(tickets, augmenter=EASY, output=tmp_path / "old.csv", overwrite=True)
    assert len(pd.read_csv(tmp_path / "old.csv")) == 36


def test_texts_and_settings_that_do_not_fit_are_refused(tickets, tmp_path):
    out = ("--output", tmp_path / "out.csv")
    assert "no such file" in refused(tmp_path / "none.csv", *out)
    assert "no column 'class'" in refused(tickets, "--label-column", "class", *out)
    assert "method easy has no setting 'beams'" in refused(tickets, "--beams", 3, *out)
    assert "alpha must be between 0 and 1" in refused(tickets, "--alpha", 2, *out)
    assert listing(tmp_path) == set()


# ---- the command line ----------------------------------------------------------------------------------------------


def test_what_is_made_feeds_denials(tickets, model_folder, tmp_path):
    out, model = tmp_path / "new.csv", tmp_path / "model"
    flags = ("--operations", "insert,swap,delete", "--n", "2")
    result = CliRunner().invoke(main, ["augment", tickets, *flags, "--output", str(out)])
    assert result.exit_code == 0, result.output
    assert f"72 new texts of 36 labeled ones: {out}" in result.output
    following = result.output.partition("Next: deni ")[2].split()
    assert following[:4] == ["train", tickets, "--strategy", "denials"]
    command = [*following[:-1], str(model), "--model", model_folder, "--members", "2", "--epochs", "2", "--no-progress"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    info = json.loads((model / "deni.json").read_text())
    assert info["strategy"]["settings"]["augmentations"] == 2
    steps = sum(int(part.split("x")[1]) for part in info["schedule"].split())
    assert steps == 2 * -(-29 * 3 // 8)  # epochs; 29 labelled texts, each with two new ones; batches of 8


def test_standard_input_is_read(tmp_path):
    command = ["augment", "-", "--operations", "swap", "--output", str(tmp_path / "out.jsonl")]
    result = CliRunner().invoke(main, command, input="text,label\nmy late parcel,a\n")
    assert result.exit_code == 0, result.output
    assert "deni train FILE" in result.output
    assert lines(tmp_path / "out.jsonl")[0]["seed"] == "my late parcel"
