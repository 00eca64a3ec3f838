"""A seed for one source of randomness varies that source alone, from the command line to the checkpoint."""

import numpy as np
import pytest
import torch

from deni import DeniClassifier
from deni.data import choose_balanced, choose_stratified, read_texts, stratified_split
from deni.errors import ArtifactError, InputError
from deni.finetune import fine_tune
from deni.randomness import SOURCES, Sources, derive
from deni.recipe import Recipe
from deni.training.batches import SampleOrder
from tests.helpers.tiny import TOPICS

# source -> seed of the source, first draws of torch and of NumPy, all for seed 0
GOLDEN = {
    "data_split": (8364232204312813416, [148, 926, 886, 869], [994, 576, 633, 175]),
    "label_choice": (3925863062932468566, [457, 686, 442, 991], [18, 719, 282, 808]),
    "sample_order": (7552730910824681566, [428, 35, 252, 752], [937, 843, 334, 210]),
    "initialisation": (946112732302433931, [88, 270, 848, 346], [94, 367, 206, 610]),
    "dropout": (1050246065566998765, [956, 624, 190, 755], [240, 57, 651, 572]),
    "noise": (5498306947117497306, [415, 580, 548, 290], [456, 524, 957, 220]),
    "augmentation": (7847434749498595234, [335, 788, 88, 882], [619, 477, 206, 313]),
}
LABELS = list("aaaaaaaaaabbbbbbbbcccc")


@pytest.mark.parametrize("name", SOURCES)
def test_what_a_seed_draws_stays_the_same_in_every_version(name):
    sources = Sources(0)
    drawn = torch.randint(1000, (4,), generator=sources[name]).tolist()
    assert (sources.seeds[name], drawn, sources.numpy(name).integers(0, 1000, 4).tolist()) == GOLDEN[name]


@pytest.mark.parametrize(
    ("block", "part", "chosen"),
    [(0, [2, 9, 12, 21], [0, 1, 10, 14, 15, 18, 19]), (1, [8, 9, 15, 19], [0, 4, 7, 10, 11, 18, 20])],
)
def test_the_split_and_the_choice_of_a_block_stay_the_same_in_every_version(block, part, chosen):
    sources = Sources(block)
    rest, tested = stratified_split(LABELS, 0.2, sources.numpy("data_split"))
    picked = choose_balanced([LABELS[at] for at in rest], 7, sources.numpy("label_choice"))
    assert (tested.tolist(), rest[picked].tolist()) == (part, chosen)


def test_fewer_test_texts_and_the_sample_order_stay_the_same_in_every_version():
    generator = np.random.default_rng(derive(Sources(0).seeds["data_split"], "test_size"))
    assert choose_stratified(LABELS, 5, generator).tolist() == [1, 5, 11, 12, 20]
    assert list(SampleOrder(6, [Sources(0)])) == [3, 1, 2, 5, 0, 4]


# ---- training ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def train(model_folder, tickets):
    def call(strategy="deni", seeds=None, source_seeds=None, seed=0, **options):
        given = {"source_seeds": source_seeds or {}, "seed": seed, "model": model_folder, "epochs": 2}
        settings = {"members": 2} if strategy in ("deni", "ensemble") else {}
        plan = Recipe.of(None, strategy, "full", settings, **given)
        return fine_tune(read_texts(tickets), plan, seeds=seeds, progress=False, **options)

    return call


def values(fitted, run=slice(None)):
    return torch.cat([value[run].flatten() for value in fitted.trainer.population.values.values()])


@pytest.fixture(scope="module")
def plain(train):
    return values(train())


@pytest.mark.parametrize("name", ["sample_order", "initialisation", "dropout", "noise"])
def test_each_source_changes_the_model_and_the_same_seed_does_not(train, plain, name):
    assert not torch.equal(values(train(source_seeds={name: 1})), plain)
    assert torch.equal(values(train(source_seeds={name: 0})), plain)


def test_all_sources_of_a_seed_are_that_seed(train, plain):
    assert torch.equal(values(train(seed=5, source_seeds=dict.fromkeys(SOURCES, 0))), plain)


def test_the_runs_of_a_pack_share_the_source_that_is_given(train):
    fixed = {"dropout": 3, "initialisation": 4}
    pack = train("default", seeds=[0, 1], source_seeds=fixed)
    seeds = [source.seeds for source in pack.trainer.population.sources]
    assert seeds == [Sources(seed, seeds=fixed).seeds for seed in (0, 1)]
    for run in (0, 1):
        alone = train("default", seed=run, source_seeds=fixed)
        torch.testing.assert_close(values(pack, slice(run, run + 1)), values(alone), rtol=1e-4, atol=1e-5)


def test_the_members_of_an_ensemble_differ_in_a_source_that_is_given(train):
    given = train("ensemble", source_seeds={"dropout": 3}).trainer.population.sources
    first, second = Sources(0, seeds={"dropout": 3}), derive(0, "ensemble", 1)
    assert given[0].seeds == first.seeds
    assert given[1].seeds == Sources(second, seeds={"dropout": derive(3, "ensemble", 1)}).seeds
    plain = train("ensemble").trainer.population.sources
    assert [source.seeds for source in plain] == [Sources(seed).seeds for seed in (0, second)]


def test_the_seeds_are_told_and_other_ones_are_not_resumed(train, tmp_path):
    options = {"checkpoints": tmp_path / "checkpoints", "save_steps": 5}
    info = train(source_seeds={"noise": 3}, **options).info()
    assert (info["seeds"], info["source_seeds"], info["recipe"]["source_seeds"]) == ([0], {"noise": 3}, {"noise": 3})
    with pytest.raises(ArtifactError, match=r"source_seeds {'noise': 3}, not {'noise': 4}\)"):
        train(source_seeds={"noise": 4}, resume=True, **options)
    with pytest.raises(ArtifactError, match=r"seeds \[0\], not \[1\]"):
        train(source_seeds={"noise": 3}, seed=1, resume=True, **options)


def test_the_estimator_takes_them_and_refuses_what_has_no_effect(model_folder):
    texts, labels = list(TOPICS.values()) * 4, list(TOPICS) * 4
    settings = {"model": model_folder, "strategy": "default", "epochs": 1}
    fitted = DeniClassifier(**settings, source_seeds={"dropout": 3}).fit(texts, labels).fitted_
    assert fitted.trainer.population.sources[0].seeds == Sources(0, seeds={"dropout": 3}).seeds
    with pytest.raises(InputError, match="data_split, but fit trains on all of X"):
        DeniClassifier(**settings, source_seeds={"data_split": 3}).fit(texts, labels)


@pytest.mark.parametrize(
    ("seeds", "message"), [({"luck": 1}, "unknown source of randomness 'luck'"), ({"noise": 1.5}, "must be an integer")]
)
def test_what_is_no_source_or_no_seed_is_refused(seeds, message):
    with pytest.raises(ValueError, match=message):
        Recipe.of(source_seeds=seeds)
