import dataclasses
import os
import re
import sys

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy import stats

from deni.analysis.claims import NOT_EQUAL, state_claims
from deni.analysis.ranks import compute_rankings
from deni.analysis.runs import read_runs
from deni.analysis.tables import build_tables
from deni.cli import main
from deni.measures import critical_difference, detectable_sd_ratio, macro_f1
from deni.report import write_report
from deni.report.figures import build_figures
from deni.report.repeat import plan_repeat
from deni.report.text_tables import build_overview
from deni.study.cell import CellResult, Named
from deni.study.plan import read_study
from deni.study.store.database import Store
from tests.helpers.made import cell_of, make, result_of, runs


@pytest.fixture
def tables(tmp_path):
    """Tables of a store of these cells."""

    def read(cells, **how):
        with Store(make(tmp_path / "study.db", cells)) as store:
            return build_tables(read_runs(store), **how)

    return read


def said(found, kind):
    return [each.text for each in state_claims(found) if each.kind == kind]


# ---- numbers ---------------------------------------------------------------------------------------------------------


def test_means_and_sds_are_those_of_the_predictions(tables):
    cells = list(runs("default", 0.7, 6, spread=0.1))
    (row,) = tables(cells).results.to_dict("records")
    outputs = [result for _, result in cells]
    scores = 100 * macro_f1(np.stack([each.log_probs[:, 0].argmax(-1) for each in outputs]), outputs[0].gold)
    assert row["mean"] == pytest.approx(scores.mean())
    assert row["sd"] == pytest.approx(scores.std(ddof=1))
    assert row["worst"] == pytest.approx(scores.min())
    assert row["mean_low"] < row["mean"] < row["mean_high"]
    assert row["sd_low"] < row["sd"] < row["sd_high"]
    assert (row["seeds"], row["blocks"], row["texts"], row["member_steps"]) == (6, 1, 90, 10)


def test_members_vote_as_their_strategy_says(tables):
    votes = np.log([[[0.6, 0.4], [0.6, 0.4], [0.1, 0.9]], [[0.1, 0.9]] * 3])  # two for the first class, by a little
    result = CellResult(votes, [0, 1], [0, 1], ("a", "b"), "", {"macro_f1": 0.0})
    hard, soft = (cell_of(Named("ensemble", {"members": 3, "combine": how})) for how in ("hard", "soft"))
    found = tables([(hard, result), (soft, result)]).results.set_index("strategy")["mean"]
    assert found["ensemble (combine=hard, members=3)"] == pytest.approx(100)
    assert found["ensemble (combine=soft, members=3)"] == pytest.approx(100 / 3)


def test_the_best_is_marked_only_where_its_lead_is_shown(tables):
    clear = tables([*runs("default", 0.5, 8), *runs("swa", 0.9, 8, shift=1)])
    assert clear.results.set_index("strategy")["best"].to_dict() == {"default": False, "swa": True}


def test_the_best_is_above_each_other_strategy_not_only_the_second(tables):
    """The third is a little below the second, but with so wide a spread that it may be the best."""
    cells = [*runs("default", 0.9, 6), *runs("swa", 0.8, 6, shift=1), *runs("ema", 0.78, 6, spread=0.5, shift=2)]
    found = tables(cells)
    means = found.results.set_index("strategy")["mean"]
    assert means["default"] > means["swa"] > means["ema"]
    assert found.comparisons.set_index("strategy")["mean_shown"].to_dict() == {"swa": "lower", "ema": "not shown"}
    assert not found.results["best"].any()
    assert [(each.second.strategy, each.of_mean) for each in found.leads] == [("ema", "not shown")]
    assert any(text.startswith("Which strategy has the highest mean") for text in said(found, "not shown"))


def test_the_best_of_three_names_the_one_that_is_hardest_to_tell_from_it(tables):
    cells = [*runs("default", 0.9, 6), *runs("swa", 0.4, 6, shift=1), *runs("ema", 0.3, 6, shift=2)]
    (text,) = (each for each in said(tables(cells), "shown") if "highest mean" in each)
    assert text.startswith(
        "default has the highest mean on trec, above each other strategy; the least clear difference"
    )


def test_p_values_are_adjusted_over_all_comparisons_of_the_table(tables, tmp_path):
    """One small difference is shown alone, and no more among twelve datasets without any."""
    small = [*runs("default", 0.75, 8, texts=120), *runs("swa", 0.85, 8, shift=1, texts=120)]
    alone = tables(small)
    assert alone.comparisons["p_mean"].iloc[0] < 0.05
    others = [
        run
        for at in range(12)
        for shift, strategy in enumerate(("default", "swa"))
        for run in runs(strategy, 0.75, 5, shift=2 * at + shift + 5, dataset=f"set{at}", texts=60)
    ]
    with Store(make(tmp_path / "more.db", [*small, *others])) as store:
        found = build_tables(read_runs(store)).comparisons.set_index("dataset")["p_mean"]
    assert found["trec"] == pytest.approx(13 * alone.comparisons["p_mean"].iloc[0], rel=0.2)


def test_two_that_are_equal_have_no_best_and_no_claim(tables):
    alike = tables([*runs("default", 0.7, 20), *runs("swa", 0.7, 20)])
    assert not alike.results["best"].any()
    assert not [text for text in said(alike, "shown") if "higher" in text or "lower" in text or "varied" in text]


def test_differences_are_paired_over_the_seeds_that_both_have(tables):
    cells = [*runs("default", 0.6, 7), *list(runs("swa", 0.8, 9, shift=1))[2:]]
    (row,) = tables(cells).comparisons.to_dict("records")
    assert row["pairs"] == 5  # 2 to 6
    scores = [macro_f1(each.log_probs[:, 0].argmax(-1)[None], each.gold)[0] for _, each in cells]
    assert row["difference"] == pytest.approx(100 * (np.mean(scores[7:12]) - np.mean(scores[2:7])))


def test_blocks_count_equally_and_their_means_are_no_spread(tables):
    cells = [*runs("default", 0.9, 4), *runs("default", 0.3, 8, block=1)]
    (row,) = tables(cells).results.to_dict("records")
    each = [macro_f1(one.log_probs[:, 0].argmax(-1)[None], one.gold)[0] for _, one in cells]
    assert row["mean"] == pytest.approx(100 * (np.mean(each[:4]) + np.mean(each[4:])) / 2)
    assert row["sd"] < 10  # the blocks are 60 points apart


def test_settings_that_differ_in_the_recipe_stay_apart_and_say_so(tables):
    cells = [*runs("default", 0.7, 2, recipe={"epochs": 2}), *runs("default", 0.7, 2, recipe={"epochs": 5})]
    found = tables(cells)
    assert found.results["other"].tolist() == ["epochs=2", "epochs=5"]
    assert [each.label for each in found.runs.settings] == ["trec, epochs=2", "trec, epochs=5"]


def on_both_parts(seeds=6, **more):
    """On test texts swa is better than default, on development texts worse."""
    for measure, best, shift in (("test", "swa", 1), ("development", "default", 3)):
        for at, strategy in enumerate(("default", "swa")):
            accuracy = 0.9 if strategy == best else 0.5
            yield from runs(strategy, accuracy, seeds, shift=shift + at, measure=measure, **more)


def test_runs_on_development_texts_are_never_compared_with_those_on_test_texts(tables):
    found = tables(on_both_parts())
    assert [each.label for each in found.runs.settings] == ["trec, measure=test", "trec, measure=development"]
    assert found.results["other"].tolist() == ["measure=test"] * 2 + ["measure=development"] * 2
    assert found.comparisons[["pairs", "mean_shown"]].to_numpy().tolist() == [[6, "higher"], [6, "lower"]]
    shown = said(found, "shown")
    assert any(each.startswith("On test texts: swa scored higher than default on trec, measure=test") for each in shown)
    assert any(each.startswith("On development texts: swa scored lower than default on trec") for each in shown)
    assert not any("both settings" in each for each in shown)
    assert sum(each.startswith("Development texts (measure=development)") for each in said(found, "limit")) == 1


def test_a_study_on_development_texts_says_so_wherever_it_would_say_test_texts(tables, tmp_path):
    cells = [each for each in on_both_parts() if each[0].measure == "development"]
    found = tables(cells)
    (setting,) = found.runs.settings
    assert (setting.label, setting.other) == ("trec, measure=development", "measure=development")
    assert all(text.startswith("On development texts: ") for text in said(found, "shown") + said(found, "not shown"))
    write_report(tmp_path / "study.db", tmp_path / "page.html", markdown=tmp_path / "t.md", csv=tmp_path / "t.csv")
    page = (tmp_path / "page.html").read_text()
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.S)
    assert all("no results on test texts" in line for line in markup.splitlines() if "test texts" in line)
    assert "the same seeds, blocks and development texts" in markup
    assert ">development texts</button>" in markup
    assert "The share of development texts on which two seeds" in page
    assert "measure: development" in markup  # to repeat it
    assert "measure=development" in (tmp_path / "t.md").read_text().splitlines()[0]
    assert set(pd.read_csv(tmp_path / "t.csv")["other"]) == {"measure=development"}


def test_ranks_over_datasets_are_of_one_part(tables, tmp_path):
    small = tables(on_both_parts(2))
    cells = [each for at in range(15) for each in on_both_parts(2, dataset=f"set{at}", texts=60)]
    for part in ("test", "development"):
        cells += [each for at in range(15) for each in runs("ema", 0.2, 2, dataset=f"set{at}", texts=60, measure=part)]
    with Store(make(tmp_path / "large.db", cells)) as store:
        rankings = list(compute_rankings(read_runs(store)))
    assert [(each.measure, each.datasets) for each in rankings] == [("test", 15), ("development", 15)]
    best = [min(zip(each.found.ranks, each.strategies, strict=True))[1] for each in rankings]
    assert best == ["swa", "default"]
    shown = said(dataclasses.replace(small, rankings=rankings), "shown")
    for part, strategy in (("test", "swa"), ("development", "default")):
        assert any(text.startswith(f"On {part} texts: {strategy} has a better mean rank over") for text in shown)
        assert not any(text.startswith(f"On {part} texts: ema") for text in shown)


def test_a_page_of_test_texts_alone_does_not_speak_of_parts(tables):
    found = tables(each for each in on_both_parts() if each[0].measure == "test")
    assert [each.label for each in found.runs.settings] == ["trec"]
    assert not any("measure" in text or "evelopment" in text for text in said(found, "shown") + said(found, "limit"))


def test_runs_on_different_texts_are_compared_by_their_scores(tables):
    def moved(strategy, accuracy, shift):
        for cell, result in runs(strategy, accuracy, 6, shift=shift, vary="all"):
            values = {"text_ids": result.text_ids + 1000 * cell.seed, "labels": result.labels, "fingerprint": ""}
            yield cell, CellResult(result.log_probs, result.gold, metrics={"macro_f1": 0.0}, **values)

    found = tables([*moved("default", 0.5, 0), *moved("swa", 0.9, 1)])
    assert found.comparisons["mean_shown"].tolist() == ["higher"]
    assert found.instability["disagreement"].isna().all()
    assert any("speak of other seeds only" in text for text in said(found, "limit"))


@pytest.mark.parametrize(("task", "metric"), [("multi_label", "macro_f1"), ("regression", "pearson")])
def test_other_tasks_have_scores_without_predictions(tables, task, metric):
    def cells(strategy, mean):
        for seed in range(6):
            cell = cell_of(strategy, seed, dataset={"name": "stars.csv", "task": task})
            gold = np.zeros((4, 2)) if task == "multi_label" else np.arange(4.0)
            labels = ("a", "b") if task == "multi_label" else ("value",)
            outputs = np.zeros((4, 1, len(labels)))
            yield cell, CellResult(outputs, gold, range(4), labels, "", {metric: mean + seed / 1000})

    found = tables([*cells("default", 0.5), *cells("swa", 0.6)])
    assert found.results["mean"].tolist() == pytest.approx([50.25, 60.25])
    assert found.comparisons["mean_shown"].tolist() == ["higher"]
    assert found.reliability.empty


def test_members_of_forks_are_averaged_over_runs(tables):
    def forked(seed, start, end):
        fork = {"step": 4, "stop": 5, "members": 3, "how": "vote"}
        fork |= {"start": {"disagreement": start, "distance": 0.1}, "end": {"disagreement": end, "distance": 0.2}}
        return cell_of("deni", seed), result_of(0.8, seed, diagnostics={"forks": [fork]})

    (row,) = tables([forked(0, 0.1, 0.3), forked(1, 0.3, 0.5)]).diversity.to_dict("records")
    assert (row["fork"], row["step"], row["stop"], row["runs"]) == (1, 4, 5, 2)
    assert row["disagreement_at_fork"] == pytest.approx(20)
    assert row["disagreement_at_end"] == pytest.approx(40)
    assert row["distance_at_end"] == pytest.approx(20)


# ---- sentences -------------------------------------------------------------------------------------------------------


def test_a_higher_mean_is_claimed_with_its_interval_and_the_baseline_can_be_chosen(tables, tmp_path):
    cells = [*runs("default", 0.5, 8), *runs("swa", 0.9, 8, shift=1)]
    shown = said(tables(cells), "shown")
    assert any(
        re.match(r"swa scored higher than default on trec: a difference of \d+\.\d points \(95 %", x) for x in shown
    )
    (tmp_path / "study.db").unlink()
    assert any(
        text.startswith("default scored lower than swa") for text in said(tables(cells, baseline="swa"), "shown")
    )


def test_ten_seeds_support_no_claim_about_spread_and_twenty_do(tables, tmp_path):
    def cells(seeds):
        return [*runs("default", 0.6, seeds, spread=0.3), *runs("swa", 0.9, seeds, shift=1, texts=90)]

    ten = tables(cells(10))
    assert ten.comparisons["sd_ratio"].iloc[0] < 0.5
    assert ten.comparisons["sd_shown"].tolist() == ["too few seeds"]
    assert not any("varied" in text for text in said(ten, "shown"))
    assert any(text.startswith("10 seeds support no claim about spread") for text in said(ten, "limit"))
    (tmp_path / "study.db").unlink()
    twenty = tables(cells(20))
    assert any(text.startswith("swa varied less than default") for text in said(twenty, "shown"))
    assert any(text.startswith("20 seeds detect an SD ratio of 1.94") for text in said(twenty, "limit"))


def test_two_seeds_claim_nothing(tables):
    found = tables([*runs("default", 0.3, 2), *runs("swa", 0.99, 2, shift=1)])
    assert found.comparisons["mean_shown"].tolist() == ["too few seeds"]
    assert said(found, "shown") == []


def test_failed_runs_are_counted_listed_and_stay_in_the_mean(tables):
    constant = result_of(0.0, 9)
    constant = CellResult(
        np.log(np.tile([0.8, 0.1, 0.1], (90, 1, 1))), constant.gold, range(90), constant.labels, "", {"macro_f1": 0.0}
    )
    cells = [*runs("default", 0.8, 3), (cell_of(seed=3), constant), (cell_of(seed=4), "Trace\nMemoryError: no room")]
    found = tables([*cells, (cell_of(seed=5), None)])
    (row,) = found.results.to_dict("records")
    assert (row["seeds"], row["at_chance"], row["no_result"]) == (4, 1, 1)
    assert row["worst"] == pytest.approx(100 / 6)
    assert found.failures[["seed", "what"]].to_numpy().tolist() == [[4, "no result"], [3, "at chance"]]
    assert found.failures["reason"].iloc[0] == "MemoryError: no room"
    limits = " ".join(said(found, "limit"))
    assert "1 run gave no result" in limits
    assert "1 run is no better than the majority class" in limits
    assert "not finished: 1 run wait" in limits


@pytest.mark.parametrize("combine", ["soft", "hard"])
def test_a_strategy_that_is_not_known_votes_as_its_settings_say(tables, combine):
    names = [Named(name, {"members": 3, "combine": combine}) for name in ("ensemble", "newest")]
    cells = [(cell_of(name, seed), result_of(0.6, seed, members=3)) for name in names for seed in range(4)]
    one, other = tables(cells).results["mean"]
    assert one == other


def test_several_settings_are_told_with_the_ends_of_all_their_intervals(tables):
    cells = [
        run
        for at, labelled in enumerate((50, 100))
        for shift, strategy in enumerate(("default", "swa"))
        for run in runs(strategy, 0.5 + 0.4 * shift, 6, shift=4 * at + shift, labelled=labelled)
    ]
    found = tables(cells)
    (text,) = (each for each in said(found, "shown") if each.startswith("swa scored higher"))
    low, high = map(float, re.search(r"within (\S+) to (\S+)\)", text).groups())
    assert low == pytest.approx(found.comparisons["low"].min(), abs=0.051)
    assert high == pytest.approx(found.comparisons["high"].max(), abs=0.051)


def test_what_seeds_detect_follows_the_number_of_comparisons(tables):
    cells = [*runs("default", 0.7, 20, spread=0.1), *runs("swa", 0.7, 20, shift=1, spread=0.1), *runs("ema", 0.7, 20)]
    text = next(each for each in said(tables(cells), "limit") if "detect" in each)
    ratio = detectable_sd_ratio(20, alpha=0.025)
    assert text.startswith(f"20 seeds detect an SD ratio of {ratio:.2f} (")
    assert "over 2 comparisons" in text
    assert "ruled out" not in text


def test_an_interval_without_zero_that_is_no_claim_is_explained(tables):
    plain = [*runs("default", 0.72, 8, texts=300), *runs("swa", 0.82, 8, shift=1, texts=300)]
    found = tables(plain)
    (each,) = found.against_baseline
    assert each.of_mean == "higher"
    weaker = dataclasses.replace(each, p_mean=0.2, p_margin=0.2)
    changed = dataclasses.replace(found, against_baseline=[weaker])
    (text,) = (one for one in said(changed, "not shown") if "scores higher or lower" in one)
    assert text.endswith(" (1 interval excludes equality alone).")
    none = dataclasses.replace(found, against_baseline=[dataclasses.replace(weaker, low=-0.01)])
    assert not any("alone" in one for one in said(none, "not shown"))


def test_strategies_with_other_seeds_are_named(tables, tmp_path):
    same = [*runs("default", 0.6, 4), *runs("swa", 0.7, 4, shift=1)]
    assert not any("same seeds" in text for text in said(tables(same), "limit"))
    (tmp_path / "study.db").unlink()
    found = tables([*same, *list(runs("ema", 0.8, 4, shift=2))[1:]])
    assert any(text.startswith("The strategies do not have the same seeds on trec:") for text in said(found, "limit"))
    write_report(tmp_path / "study.db", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count("3 of 4 runs") == 1


def test_gain_and_drop_are_for_each_cost_of_the_baseline_in_extra_member_steps(tables):
    cells = [
        *runs("default", 0.6, 4, cost=100, spread=0.2),
        *runs("swa", 0.7, 4, shift=1, cost=100),
        *runs("ema", 0.9, 4, shift=2, cost=350),
    ]
    frame = tables(cells).results.set_index("strategy")
    gain = (frame["mean"]["ema"] - frame["mean"]["default"]) / 2.5
    drop = (frame["sd"]["default"] - frame["sd"]["ema"]) / 2.5
    assert frame["gain_per_baseline"].to_numpy() == pytest.approx([np.nan, np.nan, gain], nan_ok=True)
    assert frame["drop_per_baseline"].to_numpy() == pytest.approx([np.nan, np.nan, drop], nan_ok=True)
    assert gain > 0 < drop


def many(datasets, accuracies=(0.5, 0.7, 0.9), seeds=2):
    return [
        run
        for at in range(datasets)
        for shift, (strategy, accuracy) in enumerate(zip(("default", "swa", "ema"), accuracies, strict=True))
        for run in runs(strategy, accuracy, seeds, shift=3 * at + shift, dataset=f"set{at}", texts=60)
    ]


def test_mean_ranks_come_with_fifteen_datasets_and_not_before(tables, tmp_path):
    few = tables(many(14))
    assert few.mean_ranks.empty
    assert "mean-ranks" not in [each.name for each in build_figures(few)]
    assert any("14 datasets cannot carry a ranking" in text for text in said(few, "limit"))
    (tmp_path / "study.db").unlink()
    found = tables(many(15))
    assert "mean-ranks" in [each.name for each in build_figures(found)]
    means = found.results.pivot(index="dataset", columns="strategy", values="mean")[["default", "swa", "ema"]]
    want = critical_difference(means.to_numpy())
    rows = found.mean_ranks
    assert rows["strategy"].tolist() == ["default", "swa", "ema"]
    assert rows["mean_rank"].to_numpy() == pytest.approx(want.ranks)
    assert (rows["high"] - rows["low"]).to_numpy() == pytest.approx([want.difference] * 3)
    assert (rows["datasets"] == 15).all()
    (text,) = (each for each in said(found, "shown") if each.startswith("ema has a better mean rank"))
    assert "over 15 datasets (1.0) than" in text
    assert "did not run." in " ".join(said(found, "limit"))


def test_ranks_that_do_not_differ_are_not_shown(tables):
    found = tables(many(15, (0.7, 0.7, 0.7)))
    assert not any("mean rank" in text for text in said(found, "shown"))
    assert any("Friedman's test has p =" in text for text in said(found, "not shown"))


# ---- repeating -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", ["test", "development"])
@pytest.mark.parametrize("broken", [False, True], ids=["a full grid", "a grid with a hole"])
def test_the_study_of_the_page_gives_the_same_cells(tmp_path, model_folder, tickets, broken, measure):
    file = tmp_path / "first.yaml"
    file.write_text(
        f"name: again\ndatasets: [{{path: {tickets}, task: single_label}}]\nmodels: [{model_folder}]\n"
        "tunings: [full, {name: lora, lora_r: 4}]\nstrategies: [default, {name: deni, members: 3}]\n"
        "labelled: [12, 18]\nseeds: 2\nblocks: 2\nrecipe: {epochs: 4, batch_size: 4}\nvary: [dropout, sample_order]\n"
        f"measure: {measure}\n"
    )
    study = read_study(file)
    kept = study.jobs[:-5] if broken else study.jobs
    with Store(tmp_path / "study.db", create=True) as store:
        store.add(kept, study.name)
        rows = list(store.results(None))
    repeat = plan_repeat(rows, "study.db")
    assert (len(repeat.documents) > 1) == broken
    assert all(("measure: development" in text) == (measure == "development") for text in repeat.documents.values())
    keys = []
    for name, text in repeat.documents.items():
        (tmp_path / name).write_text(text)
        keys += [each.key for each in read_study(tmp_path / name).jobs]
        assert f"deni study run {name} --store study.db" in repeat.commands
    assert sorted(keys) == sorted(each.key for each in kept)
    assert any(re.match(r"python -m pip install .*torch==", line) for line in repeat.commands)


# ---- files -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def db(tmp_path):
    return make(tmp_path / "study.db", [*runs("default", 0.5, 5), *runs("s_w&a|<b>", 0.9, 5, shift=1)])


def test_markdown_latex_and_csv_have_the_same_numbers(db, tmp_path):
    places = {kind: tmp_path / f"table.{kind}" for kind in ("markdown", "latex", "csv")}
    found = write_report(db, **places)
    frame = pd.read_csv(places["csv"])
    assert frame["mean"].tolist() == pytest.approx(found.results["mean"].tolist())
    assert frame["difference"].iloc[1] == pytest.approx(found.comparisons["difference"].iloc[0])
    means = [f"{value:.2f}" for value in frame["mean"]]
    markdown = [re.split(r"(?<!\\)\|", line) for line in places["markdown"].read_text().splitlines()]
    assert markdown[0] == [r"All settings: model minilm, tuning lora (lora\_r=8), labelled 100."]
    results = markdown.index(["## Results"]) + 4
    alignment = dict(zip(*(map(str.strip, line) for line in markdown[results - 2 : results]), strict=True))
    assert (alignment["strategy"], alignment["mean"], alignment["95 % interval"]) == ("---", "---:", "---:")
    assert {len(line) for line in markdown[results - 2 : results + 2]} == {len(markdown[results])}
    assert [line[3].strip().removesuffix(" ★") for line in markdown[results : results + 2]] == means
    assert markdown[results + 1][1].strip() == r"s\_w&a\|&lt;b&gt;"
    latex = places["latex"].read_text()
    assert latex.count(r"\toprule") == 3
    assert all(mean in latex for mean in means)
    assert r"s\_w\&a|<b>" in latex
    assert rf"{means[1]} $\star$" in latex


def test_the_overview_has_a_row_for_each_strategy_and_a_column_for_each_dataset(tables):
    cells = [
        cell
        for dataset, strategies in {"trec": ("default", "deni", "half"), "cola": ("deni", "default")}.items()
        for strategy in strategies
        for cell in runs(strategy, 0.8, 6, spread=0.1, shift=len(strategy) + len(dataset), dataset=dataset)
    ]
    by_default = tables(cells)
    by_deni = build_tables(by_default.runs, "deni")
    found = build_overview(by_default, by_deni)
    assert list(found["strategy"]) == ["default", "deni", "half"]
    frame = pd.concat([by_default.results, by_default.overall]).set_index(["strategy", "dataset"])
    for name in ("default", "deni"):
        for dataset in ("trec", "cola", "all 2"):
            row = frame.loc[name, dataset]
            assert found.set_index("strategy").loc[name, dataset] == f"{row['mean']:.1f} ± {row['sd']:.1f}"
    half = found.set_index("strategy").loc["half"]
    assert half[["cola", "all 2", "minus default", "minus deni"]].tolist() == ["–"] * 4
    (row,) = by_default.overall_comparisons.to_dict("records")
    (ratio,) = by_deni.overall_comparisons["sd_ratio"]
    assert found["minus default"].tolist() == [
        "–",
        f"{row['difference']:.2f} ({row['low']:.2f} to {row['high']:.2f})",
        "–",
    ]
    assert found["SD / SD of deni"][0].startswith(f"{ratio:.2f} (")
    assert found["failed"].tolist() == ["0 of 12", "0 of 12", "0 of 6"]


def test_the_overview_counts_runs_at_chance_and_without_a_result(tables):
    cells = [
        *runs("default", 0.9, 5),
        (cell_of("default", 5), result_of(0.0, 5)),
        (cell_of("default", 6), "Trace\nBoom"),
    ]
    assert build_overview(tables(cells))["failed"].tolist() == ["2 of 7"]


def test_the_overview_of_one_dataset_compares_on_it(tables):
    found = tables([*runs("default", 0.5, 5, spread=0.1), *runs("deni", 0.9, 5, spread=0.1, shift=1)])
    (difference,) = found.comparisons["difference"]
    assert build_overview(found)["minus default"][1].startswith(f"{difference:.2f} (")


def test_what_is_not_shown_stands_below_a_word_on_equality(tmp_path):
    for name, right in (("alike", 0.7), ("apart", 0.99)):
        store, page = tmp_path / f"{name}.db", tmp_path / f"{name}.html"
        write_report(make(store, [*runs("default", 0.7, 6), *runs("swa", right, 6, shift=1)]), page)
        head, _, rest = page.read_text().partition("<h3>Not shown</h3>")
        assert "<h3>Shown</h3>" in head
        assert (NOT_EQUAL in rest) == (name == "alike")


def test_the_page_has_no_address_of_anything_outside(db, tmp_path):
    write_report(db, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.S)
    assert not re.findall(r"(?:src|href|action)\s*=\s*(?![\"']?(?:#|data:,))[^\s>]+|url\(|@import", markup)
    assert "default-src 'none'" in page.replace("&#39;", "'")


def test_the_command_writes_what_it_says(db, tmp_path):
    arguments = ["report", str(db), "--output", str(tmp_path / "r.html"), "--csv", str(tmp_path / "r.csv")]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert [line for line in done.stdout.splitlines() if line] == [
        f"wrote {tmp_path / 'r.html'}",
        f"wrote {tmp_path / 'r.csv'}",
    ]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["r.csv", "r.html", "study.db"]


def refused(*arguments):
    done = CliRunner().invoke(main, ["report", *map(str, arguments), "--no-progress"])
    assert done.exit_code == 2, done.output
    (line,) = done.stderr.splitlines()
    return line


def test_mistakes_are_one_line(db, tmp_path):
    page = tmp_path / "r.html"
    assert "no such store" in refused(tmp_path / "none.db", "--output", page)
    assert "give --output" in refused(db)
    assert "there is no folder" in refused(db, "--output", tmp_path / "none" / "r.html")
    assert "is a folder" in refused(db, "--output", tmp_path)
    assert "the same" in refused(db, "--output", page, "--csv", page)
    assert "choose one of default" in refused(db, "--output", page, "--baseline", "best")
    page.write_text("mine")
    assert "exists: choose another file or give --overwrite" in refused(db, "--output", page)
    assert page.read_text() == "mine"
    waiting = make(tmp_path / "waiting.db", [(cell_of(), None), (cell_of(seed=1), "Error: it broke")])
    assert "no run is done (1 wait, 1 failed)" in refused(waiting, "--output", tmp_path / "other.html")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_that_is_not_writable_is_named(db, tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    assert "is not writable" in refused(db, "--output", folder / "r.html")


def test_a_folder_that_cannot_be_written_is_named_for_everybody(db, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert f"the folder {tmp_path} is not writable" in refused(db, "--output", tmp_path / "r.html")


def test_a_missing_package_is_said_at_once_and_tables_do_without_it(db, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    assert 'vl_convert: pip install "deni[report]"' in refused(db, "--output", tmp_path / "r.html")
    write_report(db, csv=tmp_path / "r.csv")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["r.csv", "study.db"]


def test_a_report_leaves_the_store_as_it_was(db, tmp_path):
    with Store(db) as store:
        before = [(row.key, row.status) for row in store.results(None)]
    write_report(db, csv=tmp_path / "r.csv")
    with Store(db) as store:
        assert [(row.key, row.status) for row in store.results(None)] == before


# ---- over all datasets, and votes ------------------------------------------------------------------------------------


def of_datasets(gains=(0.05, 0.15), spreads=(0.05, 0.05), seeds=20):
    """Two datasets on which a strategy gains so much, and spreads so much."""
    for at, (gain, spread) in enumerate(zip(gains, spreads, strict=True)):
        name = f"data{at}"
        yield from runs("default", 0.6, seeds, dataset=name, spread=spread, shift=1 + at, texts=300)
        yield from runs("swa", 0.6 + gain, seeds, dataset=name, spread=spread / 4, shift=3 + at, texts=300)


def test_overall_is_the_mean_over_the_datasets_and_the_spread_within_them(tables):
    found = tables(list(of_datasets()))
    each = found.results.pivot(index="strategy", columns="dataset", values=["mean", "sd"])
    overall = found.overall.set_index("strategy")
    assert set(overall["dataset"]) == {"all 2"}
    for strategy in ("default", "swa"):
        assert overall.loc[strategy, "mean"] == pytest.approx(each.loc[strategy, "mean"].mean())
        assert overall.loc[strategy, "sd"] == pytest.approx(np.sqrt((each.loc[strategy, "sd"] ** 2).mean()))
    (against,) = found.overall_comparisons.to_dict("records")
    assert against["difference"] == pytest.approx(found.comparisons["difference"].mean(), abs=1e-9)
    assert (against["pairs"], against["blocks"], against["mean_shown"]) == (40, 2, "higher")
    assert against["sd_shown"] == "more stable"
    together = [text for text in said(found, "shown") if " on all 2 datasets together: " in text]
    assert [text.partition(" on ")[0] for text in together] == [
        "swa scored higher than default",
        "swa varied less than default",
    ]


def test_no_dataset_alone_decides_the_overall_spread(tables):
    cells = list(runs("default", 0.5, 20, dataset="wide", spread=0.2, shift=1, texts=300))
    cells += runs("swa", 0.5, 20, dataset="wide", spread=0.2, shift=2, texts=300)
    cells += runs("default", 0.8, 20, dataset="narrow", spread=0.02, shift=3, texts=3000)
    cells += runs("swa", 0.8, 20, dataset="narrow", spread=0.002, shift=4, texts=3000)
    found = tables(cells)
    (against,) = found.overall_comparisons.to_dict("records")
    both = found.comparisons.set_index("dataset")["sd_ratio"]
    assert both["narrow"] < against["sd_ratio"] < both["wide"]
    assert against["sd_ratio"] < 0.95 * both["wide"]  # without units of their own the wide one would hide the other


def test_only_strategies_of_all_datasets_are_overall_and_other_settings_stay_apart(tables, tmp_path):
    cells = [*of_datasets(), *runs("ema", 0.7, 20, dataset="data0"), *runs("ema", 0.7, 20, labelled=7)]
    overall = tables(cells).overall
    assert list(overall["strategy"]) == ["default", "swa"]
    assert set(overall["labelled"]) == {100}
    (tmp_path / "study.db").unlink()
    assert tables(list(runs("default", 0.7, 3))).overall.empty


def test_votes_are_compared_run_by_run(tables):
    def voting(seed, **metrics):
        cell, result = cell_of("deni", seed), result_of(0.7, seed, members=3)
        return cell, dataclasses.replace(result, metrics={"macro_f1": 0.0, **metrics})

    cells = [
        voting(seed, soft_macro_f1=0.7, hard_macro_f1=0.7 + away, parent_macro_f1=0.6, members_macro_f1=0.65, **more)
        for seed, away in enumerate((-0.01, 0.0, 0.02))
        for more in [{"disagreement": 0.04, "merged_macro_f1": 0.7 + 2 * away}]
    ]
    (row,) = tables([*cells, *runs("default", 0.7, 3)]).votes.to_dict("records")
    assert (row["strategy"], row["runs"], row["soft"], row["disagreement"]) == ("deni", 3, pytest.approx(70), 4.0)
    away = np.array([-1.0, 0.0, 2.0])
    low, high = stats.t.interval(0.95, 2, away.mean(), away.std(ddof=1) / np.sqrt(3))
    assert row["hard_minus_soft"] == pytest.approx(away.mean())
    assert (row["hard_minus_soft_low"], row["hard_minus_soft_high"]) == pytest.approx((low, high))
    assert row["merged_minus_soft"] == pytest.approx(2 * away.mean())
    assert (row["parent_minus_soft"], row["members_minus_soft"]) == pytest.approx((-10, -5))


def test_forked_members_can_be_measured_as_one_model(tmp_path):
    def forked(seed):
        vote, merged = result_of(0.5, seed, members=3), result_of(0.9, seed + 100).log_probs[:, 0]
        score = float(macro_f1(merged.argmax(-1)[None], vote.gold)[0])
        return dataclasses.replace(vote, merged=merged, metrics={"macro_f1": 0.0, "merged_macro_f1": score})

    cells = [*runs("default", 0.7, 6), *((cell_of("deni", seed), forked(seed)) for seed in range(6))]
    make(tmp_path / "study.db", [*cells, (cell_of("deni", 6), "ValueError: no")])
    as_votes, as_one = (
        write_report(tmp_path / "study.db", tmp_path / name, as_one_model=one)
        for name, one in (("votes.html", False), ("one.html", True))
    )
    assert as_votes.runs.strategies == ["default", "deni"]
    assert as_one.runs.strategies == ["default", "deni, as one model"]
    means = [dict(zip(each.results["strategy"], each.results["mean"], strict=True)) for each in (as_votes, as_one)]
    scores = [result.metrics["merged_macro_f1"] for cell, result in cells if cell.strategy.name == "deni"]
    assert means[1]["deni, as one model"] == pytest.approx(100 * np.mean(scores))
    assert means[0]["default"] == means[1]["default"]
    assert means[0]["deni"] < 60 < 80 < means[1]["deni, as one model"]
    assert as_one.failures["strategy"].tolist() == ["deni, as one model"]


def test_forked_members_of_other_tasks_can_be_measured_as_one_model(tmp_path):
    own = {"metrics": {"pearson": 0.5, "merged_pearson": 0.25}, "merged": np.zeros((4, 1))}
    result = CellResult(np.zeros((4, 2, 1)), np.arange(4.0), np.arange(4), ("value",), "", **own)
    numbers = {"name": "stars", "task": "regression"}
    path = make(tmp_path / "study.db", [(cell_of("deni", seed, dataset=numbers), result) for seed in range(5)])
    with Store(path) as store:
        means = [build_tables(read_runs(store, as_one_model=one)).results["mean"][0] for one in (False, True)]
    assert means == pytest.approx([50, 25])


def test_how_cells_were_computed_makes_no_setting(tables):
    first = list(runs("default", 0.7, 5, spread=0.1, recipe={"epochs": 2, "members_at_a_time": 25}))
    second = list(runs("deni", 0.7, 5, spread=0.1, recipe={"epochs": 2, "members_at_a_time": 5, "engine": "loop"}))
    assert len(tables([*first, *second]).runs.settings) == 1


def test_the_page_and_the_plain_tables_have_votes_and_all_datasets(tmp_path):
    cells = list(of_datasets(seeds=5))
    cells[-1] = (cells[-1][0], dataclasses.replace(cells[-1][1], metrics={"soft_macro_f1": 0.5, "macro_f1": 0.5}))
    make(tmp_path / "study.db", cells)
    write_report(tmp_path / "study.db", tmp_path / "page.html", markdown=tmp_path / "tables.md")
    page, text = ((tmp_path / name).read_text() for name in ("page.html", "tables.md"))
    for table in ("table-overall", "table-overall-comparisons", "table-votes"):
        assert f'id="{table}"' in page
    for title in ("## Over all datasets", "## Over all datasets, compared with default", "## Votes"):
        assert f"{title}\n" in text


def test_figures_are_drawn_with_the_names_that_the_page_has_beside_them(tmp_path):
    make(tmp_path / "study.db", of_datasets(seeds=5))
    done = CliRunner().invoke(main, ["report", str(tmp_path / "study.db"), "--figures", str(tmp_path / "drawn")])
    assert done.exit_code == 0, done.output
    drawn = {path.name: path.read_text() for path in (tmp_path / "drawn").iterdir()}
    assert {"cost-mean-data0.svg", "cost-mean-data1.svg", "seeds-data0.svg", "ranks.svg"} <= set(drawn)
    for name in ("cost-mean-data0.svg", "seeds-data1.svg"):
        words = re.findall(r">([^<>]+)</text>", drawn[name])
        assert {"default", "swa"} <= set(words)
        assert "var(" not in drawn[name]
    again = CliRunner().invoke(main, ["report", str(tmp_path / "study.db"), "--figures", str(tmp_path / "again")])
    assert again.exit_code == 0
    assert {path.name: path.read_text() for path in (tmp_path / "again").iterdir()} == drawn
    line = refused(tmp_path / "study.db", "--figures", tmp_path / "drawn")
    assert "exists" in line
    assert "name a folder" in refused(tmp_path / "study.db", "--figures", tmp_path / "study.db")
