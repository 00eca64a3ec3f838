import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from deni.errors import InputError, InputWarning
from deni.randomness import SOURCES
from deni.study.plan import read_study
from deni.study.spec.grid import KEYS
from deni.study.store.table import called
from tests.helpers.tiny import HAS_ADAPTERS, toy_rows, write_csv

HEAD = """\
datasets: [tickets.csv]
models: [MODEL]
strategies: [default, {name: deni, members: 3}, prior_noise+ensemble]
labelled: [12, 15]
seeds: 3
recipe: {batch_size: 4, epochs: 4}
"""


@pytest.fixture
def study(tmp_path, model_folder):
    """Reads a study of this text, in a folder with tickets.csv."""
    write_csv(tmp_path / "tickets.csv", toy_rows())

    def read(text: str):
        (tmp_path / "study.yaml").write_text(text.replace("MODEL", model_folder))
        return read_study(tmp_path / "study.yaml")

    read.folder = tmp_path
    return read


def cells(study):
    return [each.cell for each in study.jobs]


def test_a_grid_has_every_combination_once_and_seeds_innermost(study):
    read = study(HEAD)
    found = [(each.strategy.name, each.labelled, each.seed) for each in cells(read)]
    names = ("default", "deni", "prior_noise+ensemble")
    assert found == [(name, n, seed) for name in names for n in (12, 15) for seed in range(3)]
    assert len({each.key for each in read.jobs}) == 18
    assert [len(pack) for pack in read.packs] == [3] * 6
    assert len({each.pack for each in read.jobs}) == 6


def test_a_study_is_read_the_same_again(study):
    assert study(HEAD).jobs == study(HEAD).jobs


def test_what_is_left_away_has_a_default(study):
    (cell,) = cells(study("datasets: tickets.csv\nmodels: MODEL\nstrategies: default\nseeds: 1"))
    assert (cell.labelled, cell.block, cell.test_size, cell.tuning.name, cell.vary) == (
        None,
        0,
        None,
        "full",
        "optimisation",
    )
    assert (cell.sources, cell.factor, cell.recipe) == ({}, {}, {})


def test_steps_and_cost_follow_from_texts_batch_and_epochs(study):
    jobs = {(each.cell.strategy.name, each.cell.labelled): each for each in study(HEAD).jobs}
    assert [jobs[name, 12].steps for name in ("default", "deni")] == [12, 12]  # 4 epochs of ceil(12/4)
    assert jobs["default", 15].steps == 16  # 4 epochs of ceil(15/4)
    assert jobs["default", 15].member_steps == 16
    assert jobs["prior_noise+ensemble", 15].member_steps == 160
    assert jobs["deni", 12].member_steps == jobs["deni", 12].recipe.strategy.schedule(12).cost > 12


def test_the_steps_are_those_that_the_trainer_takes(study):
    from deni.finetune import fine_tune

    read = study(HEAD + "test_size: 3\n")
    job = next(each for each in read.jobs if each.cell.strategy.name == "deni" and each.cell.labelled == 15)
    train, test = job.texts(read.library)
    assert (len(train), len(test)) == (15, 3)
    fitted = fine_tune(train, job.recipe, progress=False)
    assert (fitted.schedule.steps, fitted.member_steps) == (job.steps, job.member_steps)
    assert fitted.schedule == job.schedule


def test_the_texts_of_a_cell_are_those_of_deni_train(study, tmp_path):
    from deni.commands.train import train_file

    read = study(HEAD.replace("seeds: 3", "seeds: [5]\nblocks: [2]"))
    job = read.jobs[0]
    train, test = job.texts(read.library)
    done = train_file(
        study.folder / "tickets.csv",
        recipe=job.recipe,
        output=tmp_path / "model",
        labelled=12,
        block=2,
        progress=False,
    )
    assert done.metrics["test_texts"] == len(test)
    assert done.result.trainer.train_dataset["text"][:] == list(train.texts)


# ---- seeds ---------------------------------------------------------------------------------------------------------

SEEDS = "datasets: tickets.csv\nmodels: MODEL\nstrategies: default\nlabelled: 12\n"


def test_seeds_and_blocks_are_numbers_or_lists(study):
    found = [(each.block, each.seed) for each in cells(study(SEEDS + "seeds: [4, 9]\nblocks: 2"))]
    assert found == [(0, 4), (0, 9), (1, 4), (1, 9)]


def test_a_block_fixes_texts_and_seeds_vary_the_rest(study):
    for cell in cells(study(SEEDS + "seeds: [4, 9]\nblocks: [7]")):
        assert cell.seeds == {name: 7 if name in ("data_split", "label_choice") else cell.seed for name in SOURCES}


def test_what_a_study_does_not_vary_is_fixed_by_the_block(study):
    read = study(SEEDS + "seeds: [4, 9]\nblocks: [7]\nvary: [dropout, noise]")
    for cell in cells(read):
        assert cell.seeds == {name: cell.seed if name in ("dropout", "noise") else 7 for name in SOURCES}
        assert cell.vary == "dropout,noise"
    assert len(read.packs) == 1


def test_varying_all_is_marked_and_draws_other_texts_for_each_seed(study):
    read = study(SEEDS + "seeds: 2\nblocks: 2\nvary: all")
    assert {cell.vary for cell in cells(read)} == {"all"}
    assert len({cell.seeds["data_split"] for cell in cells(read)}) == 4
    assert len(read.packs) == 4
    tests = [job.texts(read.library)[1].texts for job in read.jobs]
    assert len({tuple(each) for each in tests}) == 4


def test_all_cells_of_a_block_predict_the_same_texts(study):
    read = study(HEAD + "blocks: 2\ntest_size: 4\n")
    tests = {}
    for job in read.jobs:
        tests.setdefault(job.cell.block, set()).add(tuple(job.texts(read.library)[1].frame.index))
    assert [len(each) for each in tests.values()] == [1, 1]
    assert tests[0] != tests[1]


# ---- what is measured on ---------------------------------------------------------------------------------------------


def rows(texts):
    return set(texts.frame.index)


def test_a_development_part_is_cut_from_what_the_test_part_leaves(study):
    text = HEAD.replace("[default", "[default, all_data") + "blocks: 2\n"
    on_test, developed = study(text), study(text + "measure: development\n")
    assert not {each.key for each in on_test.jobs} & {each.key for each in developed.jobs}
    assert not {each.pack for each in on_test.jobs} & {each.pack for each in developed.jobs}
    count = len(toy_rows())
    for there, here in zip(on_test.jobs, developed.jobs, strict=True):
        train, dev = here.texts(developed.library)
        _, test = there.texts(on_test.library)
        assert (len(test), len(dev)) == (round(count / 5), round((count - len(test)) / 5))
        assert len({*rows(train), *rows(dev), *rows(test)}) == len(train) + len(dev) + len(test)
        assert len(train) == (here.cell.labelled or count - len(test) - len(dev))
        assert {*dev.labels} == {*test.labels}
    parts = {tuple(sorted(rows(job.texts(developed.library)[1]))) for job in developed.jobs}
    assert len(parts) == 2  # one a block


def test_a_development_part_is_that_of_deni_train(study):
    from deni.data.partition import divide
    from deni.randomness import Sources

    read = study(SEEDS + "seeds: [5]\nblocks: [2]\nmeasure: development")
    (job,) = read.jobs
    train, dev = job.texts(read.library)
    same, _, part = divide(read.library.texts(job.cell), Sources(2), dev="0.2", labelled=12)
    assert (train.texts, dev.texts) == (same.texts, part.texts)


@pytest.mark.parametrize(("measure", "part"), [("test", "test"), ("development", "dev")])
def test_a_test_size_above_what_there_is_means_all(study, measure, part):
    text = f"datasets: tickets.csv\nmodels: MODEL\nstrategies: default\nseeds: 1\nmeasure: {measure}\n"
    whole = study(text)
    with pytest.warns(InputWarning, match=f"500 {part} texts asked for, but there are [67]: all of them are used"):
        most = study(text + "test_size: 500")
    assert most.jobs[0].texts(most.library)[1].texts == whole.jobs[0].texts(whole.library)[1].texts
    assert most.jobs[0].key != whole.jobs[0].key  # as ever: keys do not depend on the texts there are


def test_the_test_size_limits_the_development_texts_and_leaves_the_rest_as_it_is(study):
    text = SEEDS + "seeds: 1\nmeasure: development\n"
    whole, few = (study(text + more) for more in ("", "test_size: 4"))
    parts = [each.jobs[0].texts(each.library) for each in (whole, few)]
    (train, dev), (same, some) = parts
    assert train.texts == same.texts
    assert len(some) == 4
    assert rows(some) < rows(dev)


# ---- factors, strategies that take other data ----------------------------------------------------------------------


def test_a_factor_is_an_axis_and_a_label(study):
    read = study(SEEDS.replace("labelled: 12\n", "seeds: 1\nfactor: {labelled: [12, 15], epochs: [2, 3]}"))
    found = [(cell.labelled, cell.recipe, cell.factor) for cell in cells(read)]
    assert found == [
        (n, {"epochs": epochs}, {"labelled": n, "epochs": epochs}) for n in (12, 15) for epochs in (2.0, 3.0)
    ]


def test_a_factor_reaches_only_those_who_have_the_setting(study):
    text = HEAD.replace(", members: 3", "").replace("seeds: 3", "seeds: 1\ntunings: [full, lora]")
    read = study(text + "factor: {members: [2, 3], lora_r: [4, 8]}")
    found = [(c.tuning.name, c.strategy.name, c.factor) for c in cells(read) if c.labelled == 12]
    both = [{"members": m, "lora_r": r} for m in (2, 3) for r in (4, 8)]
    assert [f for t, s, f in found if (t, s) == ("full", "default")] == [{}]
    assert [f for t, s, f in found if (t, s) == ("full", "deni")] == [{"members": 2}, {"members": 3}]
    assert sorted(map(str, (f for t, s, f in found if (t, s) == ("lora", "deni")))) == sorted(map(str, both))
    deni = next(c for c in cells(read) if c.factor == {"members": 3, "lora_r": 8} and c.strategy.name == "deni")
    assert (deni.resolve().strategy.members, deni.resolve().tuning.lora_r) == (3, 8)  # type: ignore[attr-defined]


def test_all_data_runs_once_on_all_texts_beside_a_choice_of_labelled(study):
    read = study(SEEDS.replace("12", "[12, 15]").replace("default", "[default, all_data]") + "seeds: 1")
    assert [(cell.strategy.name, cell.labelled) for cell in cells(read)] == [
        ("default", 12),
        ("default", 15),
        ("all_data", None),
    ]


@pytest.fixture
def augmented(study):
    rows = [(text, f"{text} again {n}") for text, _ in toy_rows() for n in range(2)]
    pd.DataFrame(rows, columns=["seed", "text"]).to_csv(study.folder / "augmented.csv", index=False)
    text = "datasets: {path: tickets.csv, augmented: augmented.csv}\nmodels: MODEL\nlabelled: 12\nseeds: 1\n"
    return lambda strategies: study(f"{text}recipe: {{batch_size: 4, epochs: 5}}\nstrategies: {strategies}")


def test_augmented_texts_come_with_the_dataset(augmented):
    default, plain, denials = augmented("[default, {name: augmentation, augmentations: 2}, denials]").jobs
    assert default.recipe.strategy.settings() == {}
    assert plain.recipe.strategy.augmented.endswith("augmented.csv")  # type: ignore[attr-defined]
    assert (default.steps, plain.steps, denials.steps) == (
        15,
        45,
        30,
    )  # the recipe's epochs win over the strategies' own defaults
    assert default.decides["fingerprints"]["augmented"] == ""
    assert plain.decides["fingerprints"]["augmented"] != ""


def test_too_few_augmented_texts_are_refused_before_anything_runs(augmented):
    with pytest.raises(InputError, match=r"study.yaml, line 1: .*fewer than 3 augmented texts for 12 of 12"):
        augmented("[{name: augmentation, augmentations: 3}]")


def test_the_protocol_means_a_thousand_labelled_texts(study):
    write_csv(study.folder / "large.csv", [(f"{text} {n}", label) for n in range(40) for text, label in toy_rows()])
    text = (
        "datasets: large.csv\nmodels: MODEL\nstrategies: default\nseeds: 1\nprotocol: paper\nrecipe: {max_length: 8}\n"
    )
    (job,) = study(text).jobs
    assert (job.cell.labelled, job.steps) == (1000, 1250)
    (job,) = study(text + "labelled: all").jobs
    assert (job.cell.labelled, job.steps) == (None, 1440)


def test_a_learning_rate_without_a_point_is_a_number(study):
    assert cells(study(SEEDS + "seeds: 1\nrecipe: {learning_rate: 1e-4}"))[0].resolve().rate == 1e-4


def test_other_texts_in_the_file_are_other_cells(study):
    (before,) = study(SEEDS + "seeds: 1").jobs
    file = study.folder / "tickets.csv"
    file.write_text(file.read_text() + "one more parcel,delivery\n")
    (after,) = study(SEEDS + "seeds: 1").jobs
    assert before.key != after.key


@pytest.mark.skipif("DENI_DATA" not in os.environ, reason="DENI_DATA names no folder with the datasets")
def test_the_example_is_a_study_of_four_strategies_on_two_datasets():
    read = read_study(Path(__file__).parents[3] / "examples" / "first_study.yaml")
    assert (len(read.jobs), len(read.packs)) == (320, 16)
    costs = {each.cell.strategy.name: each.member_steps for each in read.jobs if each.cell.labelled == 500}
    assert costs == {"default": 630, "ensemble": 6300, "deni": 1386, "prior_noise+deni": 2331}


def test_the_documentation_shows_the_example_and_every_key():
    root = Path(__file__).parents[3]
    page = (root / "docs" / "studies.md").read_text()
    example = re.sub(r"^(#.*\n)+", "", (root / "examples" / "first_study.yaml").read_text())
    assert f"```yaml\n{example}```" in page
    keys = page.partition("## The file")[2].partition("## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", keys, flags=re.M) == list(KEYS)


# ---- what is refused -----------------------------------------------------------------------------------------------

REFUSED = {
    "strategies:\n  - default\n  - {name: deni, membrs: 3}": "line 9: strategies[1].membrs: no such setting of deni",
    "strategies:\n  - denni": "line 8: strategies[0]: unknown strategy 'denni'; did you mean deni?",
    "strategies: [default+denni]": "line 7: strategies[0]: unknown strategy 'denni'; did you mean deni?",
    "strategies: [{members: 3}]": "line 7: strategies[0]: no name: write {name: default, ...}",
    "strategies: [{name: deni, members: three}]": "strategies[0].members: expected a whole number, not 'three'",
    "strategies: [{name: deni, members: 2.5}]": "strategies[0].members: expected a whole number, not 2.5",
    "strategies: [{name: deni, members: true}]": "strategies[0].members: expected a whole number, not True",
    "strategies: [{name: deni, scale: big}]": "strategies[0].scale: expected one of scaled, uniform, not 'big'",
    "strategies: [{name: deni, members: 3, variance: -1}]": "strategies[0].variance: the noise variance must be",
    "strategies: [{name: swa+prior_noise, prior_noise: {varianc: 1}}]": "[0].prior_noise.varianc: no such",
    "strategies: [swa+deni]": "strategies[0]: swa and deni cannot be combined",
    "strategies: [default, default]": "strategies[1]: the same as strategies[0] in line 7",
    "strategies: [deni, {name: deni, members: 10}]": "strategies[1]: means the same cells as strategies[0] in line 7",
    "strategies: [augmentation]": "line 1: datasets: augmentation needs augmented texts",
    "strategies: []": "line 7: strategies: an empty list",
    "strategies: [deni]\nrecipe: {epochs: 1}": "strategies[0]: phase",
    "strategies: [default]\ntunings: [lorra]": "line 8: tunings[0]: unknown tuning 'lorra'; did you mean lora?",
    "strategies: [default]\ntunings: [{name: lora, lora_r: 0}]": "tunings[0].lora_r: lora_r must be at least 1, not",
    "strategies: [default]\ntunings: [{name: lora, r: 8}]": "tunings[0].r: no such setting of lora",
    "strategies: [default]\nlabelled: 10000": "line 8: labelled: given twice, first in line 4",
    "strategies: [default]\nstrategys: [deni]": "line 8: strategys: no such key; did you mean strategies?",
    "strategies: [default]\nrecipe:\n  epocs: 3": "line 9: recipe.epocs: no such setting of the recipe; did",
    "strategies: [default]\nrecipe: {epochs: ten}": "recipe.epochs: expected a number, not 'ten'",
    "strategies: [default]\nrecipe: {epochs: 0}": "recipe.epochs: epochs must be above 0, not 0",
    "strategies: [default]\nrecipe: {max_length: 900}": "recipe.max_length: max_length 900 is over the limit of 40",
    "strategies: [default]\nrecipe: [3]": "recipe: expected `name: value` pairs, not a list",
    "strategies: [default]\nvary: everything": "vary: unknown source of randomness 'everything'",
    "strategies: [default]\nvary: [dropuot]": "vary[0]: unknown source of randomness 'dropuot'; did you mean dropout?",
    "strategies: [default]\nblocks: [1, 1]": "blocks[1]: the same as blocks[0]",
    "strategies: [default]\nblocks: [-1]": "blocks[0]: must be at least 0, not -1",
    "strategies: [default]\ntest_size: some": "test_size: expected a whole number, not 'some'",
    "strategies: [default]\nmeasure: dev": "line 8: measure: unknown measure 'dev'; choose from test, development",
    "strategies: [default]\nmeasure: [test, development]": "line 8: measure: expected one value, not a list",
    "strategies: [default]\nfactor: {measure: [test, development]}": "line 8: factor.measure: no such setting to vary",
    "strategies: [default]\nmeasure: development\nvary: all": "line 9: vary: with data_split the test texts of",
    "strategies: [default]\npreset: papr": "preset: unknown preset 'papr'; did you mean paper?",
    "strategies: [default]\nprotocol: other": "protocol: unknown protocol 'other'; choose from paper",
    "strategies: [default]\nfactor: {labelled: [6, 9]}": "factor.labelled: given in line 4, too",
    "strategies: [default]\nfactor: {epochs: 3}": "factor.epochs: expected a list of two or more values",
    "strategies: [default]\nfactor: {members: [3, 4]}": "factor.members: no such setting to vary",
    "strategies: [{name: deni, members: 3}]\nfactor: {members: [3, 4]}": "factor.members: strategies[0] in line 7",
    "strategies: [default": "line 8: no YAML",
    "recipe: {epochs: 3\nstrategies: default": "line 8: no YAML: expected ',' or '}', but got ':' (while parsing a flow"
    " mapping in line 7)",
    "strategies: [default]\n? [a]\n: 3": "line 8: a name must be one word, not a list",
    "strategies: [default]\nblocks: 100000000": "line 8: blocks: 100000000 is how many there are, at most 10000",
    "strategies: [deni]\nfactor: {variance: [0.1, -3]}": "line 8: factor.variance[1]: the noise variance",
    "strategies: [deni]\nfactor: {learning_rate: [0.1, -3]}": "line 8: factor.learning_rate[1]: learning_rate must be",
    "strategies: [deni]\nfactor: {engine: [loop, stacked]}": "line 8: factor.engine[1]: means the same cells as",
    "strategies: [default]\n\ttest_size: 3": "line 8: no YAML",
    f"strategies: [default]\nrecipe: {{epochs: {'9' * 400}}}": "line 8: recipe.epochs: 999999999999999999999999999",
    f"strategies: [{{name: deni, variance: {2**63}}}]": "[0].variance: 9223372036854775808 is too large a number",
    'strategies: [{name: deni, label: "half \\ud83d"}]': "[0].label: 'half \\ud83d': half a surrogate pair is not a",
    'strategies: [{name: deni, "\\ud83d": 1}]': "'\\ud83d': half a surrogate pair is not a character",
    "": "line 1: no strategies: a study needs datasets, strategies, seeds",
}


@pytest.mark.parametrize(("text", "said"), REFUSED.items())
def test_a_wrong_study_is_refused_with_its_line(study, text, said):
    head = f"datasets: tickets.csv\nmodels: MODEL\nname: x\nlabelled: 12\nseeds: 2\n\n{text}\n"
    with pytest.raises(InputError) as error:
        study(head)
    assert said in str(error.value)
    assert str(error.value).startswith(f"{study.folder}/study.yaml, line ")
    assert "\n" not in str(error.value)


DATASETS = {
    "tickts.csv": "no such file",
    "trecc": "no such file, and no dataset of that name; did you mean trec?",
    "{path: tickets.csv, name: trec}": "give one of name (trec), path (a file) or hub (user/dataset)",
    "{path: missing.csv}": "datasets.path: no such file",
    "{name: trecc}": "datasets.name: unknown name 'trecc'; did you mean trec?",
    "{path: tickets.csv, text_colum: body}": "datasets.text_colum: no such setting of a dataset; did you",
    "{path: tickets.csv, text_column: body}": "datasets.text_column: ",
    "{path: tickets.csv, split: train}": "datasets.split: is for datasets of the Hub",
    "{path: tickets.csv, augmented: missing.csv}": "datasets.augmented: no such file",
    "{path: tickets.csv, task: reggression}": "datasets.task: expected one of single_label",
    "[tickets.csv, ./tickets.csv]": "datasets[1]: ",
    "{hub: nothing}": "datasets.hub: 'nothing' is not an id of the Hub",
}


@pytest.mark.parametrize(("text", "said"), DATASETS.items())
def test_a_wrong_dataset_is_refused_with_its_line(study, text, said):
    with pytest.raises(InputError) as error:
        study(f"strategies: default\nmodels: MODEL\nlabelled: 12\nseeds: 2\ndatasets: {text}\n")
    assert said in str(error.value)
    assert str(error.value).startswith(f"{study.folder}/study.yaml, line 5: datasets")


ODD = (
    "",
    "[]",
    "{}",
    "[[]]",
    "[null]",
    "{a: 1}",
    "[{a: [1]}]",
    "-1",
    "1.5",
    "true",
    ".nan",
    "2026-01-01",
    "'+'",
    "!!x 1",
    "? [1]\n",
    "9" * 400,
    "-1" + "0" * 19,
    '"half \\ud83d"',
)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("value", ODD)
def test_an_odd_value_is_refused_in_one_line_or_makes_sense(study, key, value):
    plain = {"datasets": "tickets.csv", "models": "MODEL", "strategies": "default", "seeds": "1", "labelled": "12"}
    text = "".join(f"{name}: {each}\n" for name, each in {**plain, key: value}.items())
    try:
        read = study(text)
    except InputError as error:
        assert re.match(rf"{study.folder}/study.yaml, line \d+: ", str(error)), error
        assert "\n" not in str(error)
    else:
        assert (key, value) in (("recipe", "{}"), ("factor", "{}"), ("name", "'+'")), [each.cell for each in read.jobs]


def test_too_many_labelled_texts_are_refused(study):
    with pytest.raises(InputError, match=r"line 4: labelled\[1\]: 99 labeled examples asked for, but there are"):
        study(SEEDS.replace("12", "[12, 99]") + "seeds: 1")


@pytest.mark.skipif(HAS_ADAPTERS, reason="the package adapters is there")
def test_a_tuning_whose_package_is_missing_is_refused(study):
    with pytest.raises(InputError, match=r"line 5: tunings\[1\]: .*adapters"):
        study(SEEDS + "tunings: [full, unipelt]\nseeds: 1")


def test_a_model_that_is_not_there_is_refused(study):
    with pytest.raises(InputError, match=r"line 2: models\[1\]: model 'missing/model' cannot be loaded"):
        study(SEEDS.replace("MODEL", "[MODEL, missing/model]") + "seeds: 1")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\xff\xfe\xff", "not UTF-8 text"),
        (b"- 1\n", "expected `name: value` pairs, not a list"),
        (b"a: &a [*a]", "no such key"),
        (b"just words", "expected `name: value` pairs, not 'just words'"),
    ],
)
def test_what_is_no_study_is_refused(tmp_path, content, said):
    file = tmp_path / "study.yaml"
    file.write_bytes(content)
    with pytest.raises(InputError, match=said):
        read_study(file)


def test_a_study_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_study(tmp_path / "missing.yaml")


def test_a_wrong_column_of_a_dataset_by_name_is_pointed_at(study, monkeypatch):
    monkeypatch.setenv("DENI_DATA", str(study.folder))
    write_csv(study.folder / "trec.csv.gz", toy_rows())
    with pytest.raises(InputError, match=r"datasets\.text_column: "):
        study("strategies: default\nmodels: MODEL\nseeds: 2\ndatasets: {name: trec, text_column: body}\n")


LABELED = "strategies: [default, {name: deni, members: 3, label: three members}]\nfactor: {variance: [0.1, 0.2]}\n"


def test_a_label_is_what_a_strategy_is_called_and_no_part_of_its_keys(study):
    plain = "datasets: tickets.csv\nmodels: MODEL\nseeds: 1\nrecipe: {batch_size: 4, epochs: 4}\n"
    labeled = study(plain + LABELED)
    assert [called(cell) for cell in cells(labeled)] == [
        "default",
        "three members (variance=0.1)",
        "three members (variance=0.2)",
    ]
    unlabeled = study(plain + LABELED.replace(", label: three members", ""))
    assert [called(cell) for cell in cells(unlabeled)][1] == "deni (members=3, variance=0.1)"
    assert [job.key for job in labeled.jobs] == [job.key for job in unlabeled.jobs]
    assert [job.pack for job in labeled.jobs] == [job.pack for job in unlabeled.jobs]


@pytest.mark.parametrize(
    ("strategies", "said"),
    [
        (
            "[{name: deni, label: same}, {name: swa, label: same}]",
            "line 3: strategies[1]: called 'same', as strategies[0]",
        ),
        ("[default, {name: deni, label: default}]", "line 3: strategies[1]: called 'default', as strategies[0]"),
        ("[{name: deni, label: default}, default]", "line 3: strategies[1]: called 'default', as strategies[0]"),
        (f"[{{name: deni, label: {31 * 'x'}}}]", "strategies[0].label: expected a text of 1 to 30 characters"),
        ("[{name: deni, label: ' '}]", "strategies[0].label: expected a text of 1 to 30 characters"),
        ("[{name: deni, label: [a]}]", "strategies[0].label: expected one value, not a list"),
        ("[{name: deni, lable: a}]", "strategies[0].lable: no such setting of deni; did you mean label?"),
    ],
)
def test_a_label_that_does_not_tell_strategies_apart_is_refused(study, strategies, said):
    with pytest.raises(InputError, match=re.escape(said)):
        study(f"datasets: tickets.csv\nmodels: MODEL\nstrategies: {strategies}\nseeds: 1\n")


def test_a_fresh_process_reads_a_file_that_names_distilled(tmp_path):
    """The command reads the file before anything that trains is imported."""
    text = "datasets: [trec]\nmodels: [minilm]\nseeds: 1\nstrategies: [{name: distilled, pool_size: 8}]\n"
    (tmp_path / "study.yaml").write_text(text)
    read = "import sys; from deni.study.spec.grid import read_grid; print(read_grid(sys.argv[1]).axes)"
    done = subprocess.run([sys.executable, "-c", read, tmp_path / "study.yaml"], capture_output=True, text=True)
    assert "distilled" in done.stdout, done.stderr
