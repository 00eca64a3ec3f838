"""The numbers of a study's tables, against those of its predictions."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from deni.analysis.runs import read_runs
from deni.analysis.tables import build_tables
from deni.measures import macro_f1
from deni.report import write_report
from deni.study.cell import CellResult, NamedSettings
from deni.study.store.database import Store
from tests.helpers.made import cell_of, make, on_both_parts, result_of, runs, said


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
    hard, soft = (cell_of(NamedSettings("ensemble", {"members": 3, "combine": how})) for how in ("hard", "soft"))
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


def test_runs_on_development_texts_are_never_compared_with_those_on_test_texts(tables):
    found = tables(on_both_parts())
    assert [each.label for each in found.runs.settings] == ["trec, test split", "trec, dev split"]
    assert found.results["other"].tolist() == ["test split"] * 2 + ["dev split"] * 2
    assert found.comparisons[["pairs", "mean_shown"]].to_numpy().tolist() == [[6, "higher"], [6, "lower"]]
    shown = said(found, "shown")
    assert any(each.startswith("On test texts: swa scored higher than default on trec, test split") for each in shown)
    assert any(each.startswith("On dev texts: swa scored lower than default on trec") for each in shown)
    assert not any("both settings" in each for each in shown)
    assert sum(each.startswith("Dev texts come from the training split") for each in said(found, "limit")) == 1


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
    names = [NamedSettings(name, {"members": 3, "combine": combine}) for name in ("ensemble", "newest")]
    cells = [(cell_of(name, seed), result_of(0.6, seed, members=3)) for name in names for seed in range(4)]
    one, other = tables(cells).results["mean"]
    assert one == other


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
