"""The runs of a pack start from models of their own, also where these are frozen."""

import pytest
import torch
from torch import nn

from deni.engine.active_tokens import ActiveEmbedding
from deni.errors import SettingError
from deni.randomness import global_generators
from deni.strategies.delayed_ensemble import DelayedEnsemble
from deni.strategies.ensemble import Ensemble
from deni.training.runs import RunSeeds
from deni.tuning import Lora
from tests.helpers.plain import HELD_OUT, bert, distance, fine_tune, make, predictions, trained

SEEDS = [3, 8]


def frozen_pooler():
    """Pre-trained weights, equal for all runs, but for a pooler and head that each run draws; the pooler is frozen."""
    model, fresh = bert(), bert(None)
    model.bert.pooler.load_state_dict(fresh.bert.pooler.state_dict())
    model.classifier.load_state_dict(fresh.classifier.state_dict())
    model.bert.pooler.requires_grad_(False)
    return model


def start(init, seed, member=0):
    """What a run starts with, by hand."""
    with global_generators(RunSeeds([seed], member + 1).sources_of(member).seeds["initialisation"]):
        return init()


@pytest.mark.parametrize("engine", ["loop", "stacked"])
def test_a_frozen_layer_that_each_run_draws_is_that_of_the_run(tmp_path, engine):
    trainer = trained(tmp_path, model_init=frozen_pooler, seeds=SEEDS, engine=engine)
    predicted = trainer.predict(HELD_OUT).predictions
    assert list(trainer.population.module.held) == ["bert.pooler.dense.weight"]
    for run, seed in enumerate(SEEDS):
        model = start(frozen_pooler, seed)
        pooler = model.bert.pooler.dense.weight.clone()
        expected = fine_tune(model, seed=seed)
        assert torch.equal(expected["bert.pooler.dense.weight"], pooler)
        ours = trainer.population.member(run)
        assert max(float((ours[name] - expected[name]).abs().max()) for name in ours) < 1e-9
        assert abs(predicted[:, run] - predictions(expected, HELD_OUT).numpy()).max() < 1e-9


@pytest.mark.parametrize("strategy", [DelayedEnsemble(members=2), Ensemble(members=2)], ids=["fork", "ensemble"])
def test_members_keep_the_frozen_layers_of_their_run(tmp_path, strategy):
    pack = trained(tmp_path, strategy, model_init=frozen_pooler, seeds=SEEDS)
    every = pack.predict_members(HELD_OUT)
    for run, seed in enumerate(SEEDS):
        alone = trained(tmp_path, strategy, model_init=frozen_pooler, seeds=[seed])
        of_run = slice(2 * run, 2 * run + 2)
        assert abs(every[:, of_run] - alone.predict_members(HELD_OUT)).max() < 1e-9
        for at in range(2):
            own = start(frozen_pooler, seed, at if strategy.runs > 1 else 0).bert.pooler.dense.weight
            assert torch.equal(pack.population.member(2 * run + at)["bert.pooler.dense.weight"], own)


def test_a_change_of_dtype_reaches_the_frozen_layers_of_all_runs(tmp_path):
    population = make(tmp_path, model_init=frozen_pooler, seeds=SEEDS).population
    population.module.to(torch.float32)
    assert {value.dtype for value in population.member(1).values()} == {torch.float32}
    assert torch.equal(
        population.member(1)["bert.pooler.dense.weight"], start(frozen_pooler, 8).bert.pooler.dense.weight.float()
    )


def test_what_peft_replaced_is_not_held(tmp_path):
    """The original of each head is drawn, too, but nothing computes with it."""

    def init():
        model = bert()
        model.classifier.reset_parameters()
        return Lora(lora_r=4, lora_alpha=4).apply(model)

    population = make(tmp_path, model_init=init, seeds=SEEDS).population
    name = "base_model.model.classifier.modules_to_save.default.weight"
    assert not torch.equal(population.member(0)[name], population.member(1)[name])
    assert population.module.held == {}


def test_the_whole_table_trains_where_the_other_rows_differ_between_runs(tmp_path):
    def init():
        return bert(None)

    trainer = trained(tmp_path, model_init=init, seeds=SEEDS)
    assert not isinstance(trainer.population.model.get_input_embeddings(), ActiveEmbedding)
    for run, seed in enumerate(SEEDS):
        expected = fine_tune(start(init, seed), seed=seed)
        assert distance(trainer.population.member(run), expected) < 1e-9
    shared = make(tmp_path, model_init=lambda: bert(), seeds=SEEDS).population
    assert isinstance(shared.model.get_input_embeddings(), ActiveEmbedding)


def with_buffer():
    model = bert()
    model.register_buffer("offset", torch.rand(2))
    return model


def with_other_layers():
    model = bert()
    if torch.rand(()) < 0.5:
        model.dropout = nn.Linear(32, 32)
    return model


def with_other_freezing():
    model = bert()
    model.bert.pooler.requires_grad_(bool(torch.rand(()) < 0.5))
    return model


@pytest.mark.parametrize(
    ("init", "message"),
    [
        (with_buffer, "offset differs between runs, which share buffers"),
        (with_other_layers, "must make the same model for each run, with other values: dropout.weight is in one of"),
        (with_other_freezing, "must make the same model for each run, with other values: bert.pooler.dense.weight is"),
    ],
)
def test_what_cannot_be_held_for_each_run_is_refused(tmp_path, init, message):
    with pytest.raises(SettingError, match=message):
        make(tmp_path, model_init=init, seeds=list(range(8)))


def test_a_nan_that_all_runs_have_is_no_difference(tmp_path):
    def init():
        model = bert()
        model.register_buffer("unset", torch.full((2,), float("nan")))
        return model

    assert make(tmp_path, model_init=init, seeds=SEEDS).runs == 2
