"""A diagnosis: which cells it has, and what it says of them."""

import dataclasses
import io
import itertools
import json
import shutil

import numpy as np
import pytest
import transformers
from rich.console import Console

from deni.diagnose.findings import Findings, Rival, SourceShare, Spread, Trial, findings
from deni.diagnose.plan import CONFIGURED, ask, plan_diagnosis, used_sources
from deni.diagnose.report import headline, of_rivals, of_trials, print_findings
from deni.errors import InputError
from deni.measures import Difference, Estimate, Importance, PairedSpread
from deni.randomness import SOURCES, global_generators
from deni.strategies import STRATEGIES, make_strategy
from deni.study.cell import NamedSettings
from deni.study.execution.run import Run
from deni.study.store.database import Store
from tests.helpers.tiny import toy_rows, write_csv

SMALL = {"seeds": 3, "configurations": 2, "values": 3, "trial_seeds": 2}


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """120 toy sentences of 3 classes, so that the test part has 8 of each."""
    return str(write_csv(tmp_path_factory.mktemp("texts") / "texts.csv", toy_rows(40)))


def lively(model_folder, folder, **given):
    """The tiny model with weights so large that each source of randomness shows in the first steps."""
    config = transformers.BertConfig.from_pretrained(model_folder, initializer_range=0.3, **given)
    shutil.copytree(model_folder, folder)
    with global_generators(0):
        transformers.BertModel(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def model(model_folder, tmp_path_factory):
    return lively(model_folder, tmp_path_factory.mktemp("lively") / "model")


@pytest.fixture(scope="module")
def without_dropout(model_folder, tmp_path_factory):
    """The same with dropout off; that of the recipe has to be off, too."""
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return lively(model_folder, tmp_path_factory.mktemp("without") / "model", **off)


@pytest.fixture(scope="module")
def planned(texts, model):
    def plan(recipe=None, labelled=18, candidates=(), **given):
        return plan_diagnosis(
            ask(
                texts,
                dataset={},
                recipe={"epochs": 1, "max_length": 12, "learning_rate": 0.003, **(recipe or {})},
                tuning=given.pop("tuning", NamedSettings("full")),
                model=given.pop("model", model),
                labelled=labelled,
                candidates=candidates,
                **{**SMALL, **given},
            )
        )

    return plan


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "study.db", create=True) as opened:
        yield opened


def trained(diagnosis, store, **how):
    Run(diagnosis.study, diagnosis.study.jobs, threads=1, progress=False, **{"pack": 3, **how}).into(store)
    return findings(diagnosis, store)


# ---- the cells -------------------------------------------------------------------------------------------------------


def test_only_the_investigated_source_moves_within_a_configuration(planned):
    diagnosis = planned(sources=SOURCES[:5], candidates=())
    assert list(diagnosis.sources) == list(SOURCES[:5])
    for source, grid in diagnosis.sources.items():
        assert [len(row) for row in grid] == [3, 3]
        for number, row in enumerate(grid):
            for value, each in enumerate(row):
                seeds = dict(each.cell.seeds)
                assert seeds.pop(source) == value
                assert set(seeds.values()) == {CONFIGURED + number}
                assert each.cell.vary == source


def test_a_source_of_the_block_that_is_not_investigated_stays_that_of_the_block(planned):
    diagnosis = planned(sources=["dropout"], block=4)
    cells = [each.cell for row in diagnosis.sources["dropout"] for each in row]
    assert {(cell.seeds["data_split"], cell.seeds["label_choice"]) for cell in cells} == {(4, 4)}
    assert diagnosis.golden == diagnosis.seeds


def test_a_configuration_is_one_pack_and_a_label_choice_another(planned):
    diagnosis = planned()
    assert list(diagnosis.sources) == ["label_choice", "sample_order", "initialisation", "dropout"]
    for grid in [diagnosis.sources["sample_order"], diagnosis.sources["dropout"]]:
        assert [len({each.pack for each in row}) for row in grid] == [1, 1]
    choices = diagnosis.sources["label_choice"]
    assert [len({row[value].pack for row in choices}) for value in range(3)] == [1, 1, 1]
    texts = [diagnosis.study.library.parts(each.cell, make_strategy("default"))[0].texts for each in choices[0]]
    assert len({tuple(sorted(each)) for each in texts}) == 3


def test_the_golden_runs_move_all_that_is_investigated(planned):
    golden = [each.cell.seeds for each in planned(block=9).golden]
    assert [each.pop("data_split") for each in golden] == [9, 9, 9]
    assert [set(each.values()) for each in golden] == [{0}, {1}, {2}]


def test_every_cell_is_there_once_and_every_part_is_counted(planned):
    diagnosis = planned(candidates=["swa"])
    assert len({each.key for each in diagnosis.study.jobs}) == len(diagnosis.study.jobs)
    # 3 seeds, 4 sources x 2 x 3, 2 of swa; golden run 0 is seed 0, whose label choice is the block's
    assert {name: len(cells) for name, cells in diagnosis.parts.items()} == {
        "seeds": 3,
        **{f"source {name}": 6 for name in diagnosis.sources},
        "all sources at once": 2,
        "trial of swa": 2,
        "baselines": 2,
    }
    assert len(diagnosis.study.jobs) == 3 + 24 + 2 + 2 + 2
    assert len({each.pack for each in diagnosis.study.jobs}) == len(diagnosis.study.packs)


def test_a_candidate_that_does_not_fit_is_left_out_with_its_reason(planned):
    diagnosis = planned({"batch_size": 18, "epochs": 1}, candidates=["deni", "swa", "default", "augmentation"])
    assert list(diagnosis.trials) == ["swa"]  # default is what is diagnosed
    assert "train longer" in diagnosis.left_out["deni"]
    assert "augmented" in diagnosis.left_out["augmentation"]


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_draws_from_the_sources_that_are_said_to_be_used(name):
    drawn = {"noise": name not in WITHOUT_NOISE, "augmentation": name in ("augmentation", "denials")}
    used = used_sources(make_strategy(name))
    assert {source: source in used for source in drawn} == drawn
    assert set(used) - set(drawn) == {"sample_order", "initialisation", "dropout"}


WITHOUT_NOISE = (
    *("default", "all_data", "best_practices", "ensemble", "swa", "ema", "mixout", "augmentation"),
    *("reinit", "llrd", "l2_sp", "linear_probe", "diwa", "refit", "multi_dropout", "r_drop", "auto", "contrastive"),
)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seeds": 1}, "seeds must be at least 2, not 1"),
        ({"values": 0}, "values must be at least 2, not 0"),
        ({"trial_seeds": 4}, "give fewer trial seeds or more seeds"),
        ({"sources": ["label_choice"], "labelled": None}, "label_choice: all 96 texts of the training split are used"),
        ({"sources": ["noise"]}, "noise: default does not draw from it"),
        ({"sources": ["order"]}, "unknown source of randomness 'order'"),
        ({"candidates": ["denni"]}, "unknown strategy 'denni'"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(planned, given, message):
    with pytest.raises(ValueError, match=message):
        planned(**given)


# ---- what comes of them ----------------------------------------------------------------------------------------------


def test_dropout_that_is_off_contributes_exactly_nothing(planned, store, without_dropout):
    diagnosis = planned({"dropout": 0.0}, model=without_dropout, values=2, sources=["initialisation", "dropout"])
    found = trained(diagnosis, store)
    assert found.sources["dropout"].alone == (0.0, 0.0)
    assert found.sources["dropout"].importance.contributed == 0.0
    assert found.sources["dropout"].importance.score < 0
    assert found.sources["initialisation"].importance.contributed > 0.01


def test_the_order_of_texts_that_are_all_in_one_batch_contributes_nothing(planned, store, without_dropout):
    recipe = {"dropout": 0.0, "batch_size": 18, "epochs": 3}
    found = trained(planned(recipe, model=without_dropout, values=2, sources=["sample_order"]), store)
    assert found.sources["sample_order"].importance.contributed == 0.0
    assert np.ptp(found.golden) > 0


def test_noise_of_variance_0_contributes_exactly_nothing(planned, store):
    question = planned(values=2).question
    cell = dataclasses.replace(question.cell, strategy=NamedSettings("prior_noise", {"variance": 0.0}))
    found = trained(plan_diagnosis(dataclasses.replace(question, cell=cell, sources=("noise", "dropout"))), store)
    assert found.sources["noise"].importance.contributed == 0.0
    assert found.sources["dropout"].importance.contributed > 0


def test_the_findings_are_those_of_the_runs(planned, store):
    diagnosis = planned(sources=["dropout"], candidates=["swa"])
    found = trained(diagnosis, store)
    scores = {row.key: row.metrics["macro_f1"] for row in store.results()}
    own = [scores[each.key] for each in diagnosis.seeds]
    grid = np.array([[scores[each.key] for each in row] for row in diagnosis.sources["dropout"]])
    assert found.spread.scores == pytest.approx(own)
    assert found.spread.sd.value == pytest.approx(np.std(own, ddof=1))
    assert found.spread.worst == min(own)
    assert found.spread.worst_seed == int(np.argmin(own))
    assert found.golden == pytest.approx(own)
    share = found.sources["dropout"].importance
    assert share.contributed == pytest.approx(grid.std(1, ddof=1).mean())
    assert share.mitigated == pytest.approx(grid.mean(1).std(ddof=1))
    assert share.score == pytest.approx((share.contributed - share.mitigated) / np.std(own, ddof=1))
    chosen = np.stack([store.outputs(each.key).log_probs.mean(1).argmax(-1) for each in diagnosis.seeds])
    apart = [(chosen[one] != chosen[two]).mean() for one, two in itertools.combinations(range(3), 2)]
    assert found.spread.disagreement == pytest.approx(np.mean(apart))
    (trial,) = found.trials.values()
    assert trial.gain.value == pytest.approx(
        np.mean([scores[each.key] for each in diagnosis.trials["swa"]]) - np.mean(own[:2])
    )
    assert trial.plain == pytest.approx(np.mean(own[:2]))
    assert (trial.ratio, trial.steadier) == (None, False)  # two seeds have no ratio of SDs
    values = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert values["spread"]["scores"] == pytest.approx(own)
    assert values["sources"]["dropout"]["importance"]["score"] == pytest.approx(share.score)


def test_a_run_without_a_number_for_its_loss_counts_as_the_majority_class(planned, store):
    diagnosis = planned(sources=["dropout"])
    lost, inside = diagnosis.seeds[1], diagnosis.sources["dropout"][0][2]
    store.add(diagnosis.study.jobs)
    for each in (lost, inside):
        store.fail(each.key, "deni.errors.TrainingDivergedError: the loss is not finite")
    found = trained(diagnosis, store)
    majority = 1 / 6  # of three classes as frequent: F1 is 1/2 of one, 0 of two
    assert found.spread.scores[1] == pytest.approx(majority)
    assert found.spread.diverged == (1,)
    assert 1 in found.spread.failed
    assert majority <= min(found.spread.scores[0], found.spread.scores[2])
    row = store.results()
    scores = {each.key: each.metrics["macro_f1"] for each in row} | {inside.key: majority}
    grid = np.array([[scores[each.key] for each in cells] for cells in diagnosis.sources["dropout"]])
    assert found.sources["dropout"].importance.contributed == pytest.approx(grid.std(1, ddof=1).mean())


def test_a_run_that_failed_otherwise_has_to_be_retried(planned, store):
    diagnosis = planned(sources=["dropout"])
    store.add(diagnosis.study.jobs)
    for each in diagnosis.study.jobs:
        store.fail(each.key, "RuntimeError: out of memory")
    with pytest.raises(InputError, match="out of memory; `deni study retry"):
        findings(diagnosis, store)


def test_a_diagnosis_goes_on_where_it_stopped(planned, store, monkeypatch):
    diagnosis = planned(sources=["dropout"])
    begun = diagnosis.study.jobs[:3]
    first = Run(dataclasses.replace(diagnosis.study, jobs=begun), begun, threads=1, pack=3, progress=False)
    assert first.into(store) == 0
    with pytest.raises(InputError, match="not finished"):
        findings(diagnosis, store)
    left = diagnosis.left(store.path)
    assert len(left) == len(diagnosis.study.jobs) - 3
    assert not {each.key for each in begun} & {each.key for each in left}
    trained(diagnosis, store)
    assert {row.attempts for row in store.results(None)} == {1}
    assert diagnosis.left(store.path) == []


# ---- what is said of it ----------------------------------------------------------------------------------------------


def spread(*scores):
    return Spread(scores, Estimate(0.021, 0.014, 0.038), 1, (), (), 0.1, member_steps=100)


def trial(gain, low, seeds=5, ratio=None, swapped=None):
    difference = Difference(gain, low, 2 * gain - low, Estimate(gain, low, gain))
    return Trial(NamedSettings("swa"), spread(*[0.7] * seeds), 0.6, difference, ratio, swapped, confidence=0.975)


def said(sources=None, trials=None, rivals=None):
    shares = {
        name: SourceShare(Importance(alone, 0.01, 0.02, score), (alone, alone))
        for name, (alone, score) in (sources or {}).items()
    }
    return Findings("default", 60, 500, 0.1, spread(*[0.6] * 10), (0.6,) * 10, shares, trials or {}, rivals or {}, {})


@pytest.mark.parametrize(
    ("low", "high", "judged"),
    [
        (0.01, 0.05, "default is better than frozen, by +3.0 F1 (+1.0 to +5.0)"),
        (-0.05, -0.01, "frozen, which trains nothing, is better than default: +3.0 F1 (-5.0 to -1.0)"),
        (-0.01, 0.05, "default is not shown to be better than frozen, which trains nothing: +3.0 F1 (-1.0 to +5.0)"),
    ],
)
def test_a_diagnosis_says_what_baselines_score_on_the_same_texts(low, high, judged):
    gain = Difference(0.03, low, high, Estimate(0.03, low, high))
    told = of_rivals(said(rivals={"tfidf": Rival(0.5, gain), "frozen": Rival(0.6, gain)}))
    assert told.startswith("Without fine-tuning, on the same texts: tfidf 50.0, frozen 60.0 (")
    assert judged in told


def test_a_baseline_is_neither_diagnosed_nor_a_candidate(planned):
    for given in ({"candidates": ["tfidf"]}, {"strategy": "frozen"}):
        with pytest.raises(InputError, match="is a baseline, which has no seeds to vary"):
            planned(**given)


def test_the_first_sentence_says_how_much_and_from_where():
    found = said({"dropout": (0.004, -0.3), "sample_order": (0.018, 0.4)})
    assert headline(found) == (
        "Your fine-tune varies by 2.1 F1 (SD, 10 seeds); what varies it most is the order of the texts (1.8 alone)."
    )
    assert headline(said({"dropout": (0.0, -0.3)})).endswith("; no single source changes the F1.")
    labels = dataclasses.replace(said({"label_choice": (0.03, 0.4), "dropout": (0.004, -0.3)}), golden=(0.6, 0.7, 0.8))
    assert headline(labels) == (
        "Your fine-tune varies by 2.1 F1 (SD, 10 seeds), and by 10.0 when the choice of the labeled examples "
        "varies, too; what varies it most is the choice of the labeled examples (3.0 alone)."
    )
    assert headline(said()) == "Your fine-tune varies by 2.1 F1 (SD, 10 seeds)."


def test_only_what_is_shown_to_be_better_is_recommended():
    found = said(trials={"swa": trial(0.05, -0.001), "deni": trial(0.02, 0.001)})
    assert found.best == "deni"
    assert of_trials(found).startswith("Recommended: deni, +2.0 F1 (+0.1 to +3.9), for as many member-steps.")
    thrice = dataclasses.replace(trial(0.02, 0.001).spread, member_steps=3 * found.spread.member_steps)
    dear = said(trials={"ensemble": dataclasses.replace(trial(0.02, 0.001), spread=thrice)})
    assert "for 3.0 times the member-steps." in of_trials(dear)
    none = of_trials(said(trials={"swa": trial(0.05, -0.001), "deni": trial(0.02, -0.02)}))
    assert none.startswith("No candidate is shown to be better than default with 5 seeds. The best in the mean was swa")
    worse = of_trials(said(trials={"swa": trial(-0.01, -0.02)}))
    assert worse.startswith("No candidate is shown to be better than default with 5 seeds, and none has a higher mean.")


def test_forks_that_had_no_effect_are_told():
    console = Console(record=True, width=200, file=io.StringIO())
    failed = dataclasses.replace(trial(0.02, 0.001), failed_forks=3)
    print_findings(said(trials={"deni": failed, "swa": trial(0.01, -0.01)}), console)
    text = " ".join(console.export_text().split())
    assert "Failed: deni: in 3 of 5 runs a fork had no effect, its members are one model: raise --variance" in text
    assert "Failed: swa" not in text


def test_nothing_is_claimed_about_spread_with_fewer_than_20_seeds():
    ratio = PairedSpread(0.3, 0.2, 0.5, 0.001, 0.0)
    few, many = (trial(0.02, 0.001, seeds, ratio, swapped=0.001) for seeds in (19, 20))
    assert (few.steadier, many.steadier) == (False, True)
    assert "19 seeds support no claim about spread (that takes 20)" in of_trials(said(trials={"swa": few}))
    assert "Shown to vary less: swa." in of_trials(said(trials={"swa": many}))
    assert not trial(0.02, 0.001, 20, ratio, swapped=0.03).steadier  # both tests must say so
    assert not trial(0.02, 0.001, 20, ratio._replace(high=1.01), swapped=0.001).steadier
