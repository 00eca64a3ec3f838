"""Fresh weights for the top layers and the pooler."""

import pytest
import torch

from deni.randomness import Sources, global_generators
from deni.strategies import Default, Reinit
from tests.helpers.plain import bert, distance, lora, make, parameters, same, trained, values


def pretrained(**config):
    """A model whose every parameter is one that no initialisation draws."""
    model = bert(num_hidden_layers=4, **config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.5)
    return model


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_top_layers_and_the_pooler_are_fresh_and_the_rest_is_untouched(layers):
    model = Reinit(layers).prepare_model(pretrained(initializer_range=0.07))
    fresh = ["bert.pooler."] + [f"bert.encoder.layer.{at}." for at in range(4 - layers, 4)]
    drawn = []
    for name, value in parameters(model).items():
        if not any(name.startswith(each) for each in fresh):
            assert (value == 0.5).all(), name
        elif "LayerNorm" in name:
            assert (value == (1.0 if name.endswith("weight") else 0.0)).all(), name
        elif name.endswith("bias"):
            assert (value == 0.0).all(), name
        else:
            assert float(value.std()) == pytest.approx(0.07, rel=0.1), name
            drawn.append(value.flatten())
    assert len(drawn) == 6 * layers + 1
    assert float(torch.cat(drawn).std()) == pytest.approx(0.07, rel=0.03)
    assert float(torch.cat(drawn).mean()) == pytest.approx(0.0, abs=0.002)


def test_a_model_without_a_pooler_has_its_layers_renewed(tiny):
    for name in ("roberta", "distilbert"):
        model = tiny(name)
        before = parameters(model)
        moved = {
            key for key, value in parameters(Reinit().prepare_model(model)).items() if not (value == before[key]).all()
        }
        top = {key for key in before if ".layer.1." in key and key.endswith("weight") and before[key].dim() == 2}
        assert len(top) == 6
        assert moved == top, name


def test_the_weights_are_those_of_the_initialisation_source(tmp_path):
    trainers = {}
    for seed in (3, 3, 4):
        trainer = make(tmp_path, Reinit(), model=bert(), args={"seed": seed})
        mine = trainer.population.member(0)
        if seed in trainers:
            assert same(mine, trainers[seed])
        trainers[seed] = {name: value.clone() for name, value in mine.items()}
        with global_generators(Sources(seed).seeds["initialisation"]):
            expected = Reinit().prepare_model(bert())
        assert same(parameters(expected), mine)
    moved = {name for name in trainers[3] if not torch.equal(trainers[3][name], trainers[4][name])}
    assert moved == {name for name in moved if "layer.1." in name or "pooler" in name}
    assert "bert.pooler.dense.weight" in moved


def test_the_global_generators_stay_as_they_were(tmp_path):
    before = torch.get_rng_state()
    make(tmp_path, Reinit(), model=bert())
    assert torch.equal(before, torch.get_rng_state())


def test_a_model_that_was_loaded_is_renewed_as_one_that_was_made(model_folder):
    """transformers 5 marks what it has loaded, and does not initialise it again."""
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(model_folder, num_labels=3)
    before = parameters(model)
    after = parameters(Reinit().prepare_model(model))
    for name in before:
        fresh = name.endswith("weight") and "LayerNorm" not in name and ("layer.1." in name or "pooler" in name)
        assert torch.equal(before[name], after[name]) != fresh, name


def test_each_run_of_a_pack_has_weights_of_its_own(tmp_path):
    pack = values(trained(tmp_path, Reinit(), model_init=lambda: bert(), seeds=[5, 6]))
    for run, seed in enumerate((5, 6)):
        alone = values(trained(tmp_path, Reinit(), model_init=lambda: bert(), seeds=[seed]))
        assert distance({name: value[run : run + 1] for name, value in pack.items()}, alone) < 1e-9
    name = "bert.pooler.dense.weight"
    assert (pack[name][0] - pack[name][1]).abs().max() > 1e-2


def test_no_layers_is_default(tmp_path):
    assert same(values(trained(tmp_path, Reinit(0))), values(trained(tmp_path, Default())))


def test_with_peft_it_is_refused(tmp_path):
    with pytest.raises(ValueError, match="reinit needs layers that train, and with PEFT they are frozen"):
        make(tmp_path, Reinit(), model=lora())


def test_more_layers_than_there_are_are_refused(tiny):
    with pytest.raises(ValueError, match="the model has 1 layers: reinit at most 0 of them"):
        Reinit().prepare_model(tiny("albert"))  # its layers share their parameters
    with pytest.raises(ValueError, match="the model has 2 layers: reinit at most 1 of them"):
        Reinit(2).prepare_model(bert())
    with pytest.raises(ValueError, match="reinit_layers must be at least 0, not -1"):
        Reinit(-1)
