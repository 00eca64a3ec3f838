"""Members that become one model in the end."""

import pytest
import torch
import torch.nn.functional as F

from deni.strategies import Default, DelayedEnsemble, Soup
from tests.helpers.plain import bert, distance, lora, make, mean, predictions, rows, same, tensors, trained, values

DEV = rows(23, seed=5)
SPREAD = {"members": 4, "variance": 0.3, "scale": "uniform"}  # so that members differ


def members_of(trainer):
    return [trainer.population.member(at) for at in range(trainer.population.size)]


def loss(values):
    return float(F.nll_loss(predictions(values, DEV), tensors(DEV)[1]))


def accuracy(prediction):
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


@pytest.mark.parametrize("engine", ["loop", "stacked"])
@pytest.mark.parametrize("start", [0.5, 0.9])
def test_a_uniform_soup_is_the_mean_of_the_members_of_a_delayed_ensemble(tmp_path, engine, start):
    soup = trained(tmp_path, Soup(soup_from=start, **SPREAD), engine=engine)
    forked = trained(tmp_path, DelayedEnsemble(ensemble_from=start, **SPREAD), engine=engine)
    assert forked.population.size == 4
    assert soup.population.size == 1
    assert distance(mean(members_of(forked)), soup.population.member(0)) < 1e-12
    assert distance(members_of(forked)[0], soup.population.member(0)) > 1e-3
    assert soup.member_steps == forked.member_steps == 20 + 3 * round(20 * (1 - start))
    found = torch.tensor(soup.predict(DEV).predictions)
    assert (found - predictions(mean(members_of(forked)), DEV)).abs().max() < 1e-10


def test_with_lora_the_product_is_averaged_where_that_is_asked_for(tmp_path):
    forked = trained(tmp_path, DelayedEnsemble(members=3), model=lora())
    product = trained(tmp_path, Soup(members=3, merge_lora="product"), model=lora()).population.member(0)
    pairs = [name for name in product if "lora_A" in name]
    assert pairs
    for a in pairs:
        b = a.replace("lora_A", "lora_B")
        whole = torch.stack([each[b] @ each[a] for each in members_of(forked)]).mean(0)
        left, spread, right = torch.linalg.svd(whole, full_matrices=False)
        best = left[:, :4] @ spread[:4].diag() @ right[:4]  # of rank 4
        assert (product[b] @ product[a] - best).abs().max() < 1e-9


def greedy(members, score):
    """Wortsman et al., algorithm 1: in the order of their scores, each that does not make the mean worse."""
    ranked = sorted(members, key=score, reverse=True)
    chosen = [ranked[0]]
    for each in ranked[1:]:
        if score(mean([*chosen, each])) >= score(mean(chosen)):
            chosen.append(each)
    return chosen


@pytest.mark.parametrize("engine", ["loop", "stacked"])
@pytest.mark.parametrize(("seed", "size"), [(1, 3), (3, 2), (4, 3)])
def test_a_greedy_soup_is_the_algorithm_on_the_loss(tmp_path, engine, seed, size):
    options = {"args": {"seed": seed}, "engine": engine, "eval_dataset": DEV}
    soup = trained(tmp_path, Soup(ingredients="greedy", **SPREAD), **options)
    forked = trained(tmp_path, DelayedEnsemble(**SPREAD), **options)
    chosen = greedy(members_of(forked), lambda values: -loss(values))
    assert len(chosen) == size
    assert soup.population.size == 1
    assert distance(mean(chosen), soup.population.member(0)) < 1e-10
    assert loss(soup.population.member(0)) < min(map(loss, members_of(forked)))


@pytest.mark.parametrize(("greater", "sign"), [(True, 1), (None, 1), (False, -1)])
def test_the_metric_is_the_one_that_chooses_the_best_model(tmp_path, greater, sign):
    args = {"metric_for_best_model": "accuracy", "greater_is_better": greater}
    options = {"args": args, "eval_dataset": DEV, "compute_metrics": accuracy}
    soup = trained(tmp_path, Soup(ingredients="greedy", **SPREAD), **options)
    forked = trained(tmp_path, DelayedEnsemble(**SPREAD))

    def score(values):
        return sign * float((predictions(values, DEV).argmax(-1) == tensors(DEV)[1]).double().mean())

    assert distance(mean(greedy(members_of(forked), score)), soup.population.member(0)) < 1e-10


def test_a_greedy_soup_without_a_development_part_is_refused(tmp_path):
    with pytest.raises(ValueError, match="a greedy soup is chosen on a dev split: give --dev, or an evaluation"):
        make(tmp_path, Soup(ingredients="greedy"))


def test_a_greedy_soup_of_several_runs_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match="a greedy soup can be chosen for one run at a time: use ingredients='uniform'"
    ):
        make(tmp_path, Soup(ingredients="greedy"), model_init=lambda: bert(), seeds=[0, 1], eval_dataset=DEV)


def test_the_runs_of_a_pack_have_soups_of_their_own(tmp_path):
    strategy, options = Soup(members=3), {"model_init": lambda: bert()}
    pack = values(trained(tmp_path, strategy, seeds=[5, 6], **options))
    for run, seed in enumerate((5, 6)):
        alone = values(trained(tmp_path, strategy, seeds=[seed], **options))
        assert distance({name: value[run : run + 1] for name, value in pack.items()}, alone) < 1e-9


@pytest.mark.parametrize("ingredients", ["uniform", "greedy"])
def test_a_soup_of_one_is_default(tmp_path, ingredients):
    soup = trained(tmp_path, Soup(members=1, ingredients=ingredients), eval_dataset=DEV)
    assert same(values(soup), values(trained(tmp_path, Default())))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"soup_from": 1.5}, "soup_from is a fraction of all steps, from 0 to 1, not 1.5"),
        ({"ingredients": "salt"}, "unknown ingredients 'salt': choose from uniform, greedy"),
        ({"members": 0}, "members must be at least 1, not 0"),
    ],
)
def test_bad_settings_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        Soup(**setting)
