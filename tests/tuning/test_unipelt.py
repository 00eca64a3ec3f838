"""UniPELT: gated LoRA, prefix and bottleneck, in every engine and through every way of saving."""

import copy
import math
import shutil
import sys

import numpy as np
import pytest
import torch
import transformers
from transformers import TrainerCallback

from deni import artifact
from deni.data import read_texts
from deni.engine.probe import why_not_stacked
from deni.errors import ArtifactError, InputError
from deni.finetune import fine_tune
from deni.noise import Noise
from deni.population import Population
from deni.randomness import Sources, global_generators
from deni.recipe import Recipe
from deni.schedule import Fork
from deni.tuning import TUNINGS, make_tuning
from deni.tuning.lora import mean_of_products
from tests.helpers.tiny import SMALL_TUNINGS, needs_adapters, toy_rows, write_csv

ARCHITECTURES = ("bert", "roberta", "albert", "distilbert")
SETTINGS = SMALL_TUNINGS["unipelt"]
DISTINCT = Fork(noise=Noise(variance=0.2, scope="trainable", floor=0.05))
TEXTS = ["invoice money charged", "parcel late courier the box", "password reset", "why"]


@pytest.fixture
def tuned(tiny):
    def make(architecture="bert", **settings):
        with global_generators(5):
            model = make_tuning("unipelt", **{**SETTINGS, **settings}).apply(tiny(architecture))
        return model.train()

    return make


def inputs_of(batch):
    return {key: value for key, value in batch.items() if key != "labels"}


def trainable(model):
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


# ---- settings, and what is missing -----------------------------------------------------------------------------------


def test_the_defaults_are_the_papers():
    tuning = make_tuning("unipelt")
    assert tuning.settings() == {"unipelt_r": 64, "unipelt_prefix": 25, "unipelt_reduction": 16}
    assert tuning.paper_learning_rate == 1e-4
    assert TUNINGS["unipelt"] is type(tuning)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_below_one_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, not 0"):
        make_tuning("unipelt", **{name: 0})


@pytest.mark.parametrize("missing", ["transformers", "adapters"])
def test_what_is_missing_is_said_in_one_line_with_the_extra(tiny, monkeypatch, missing):
    monkeypatch.setattr(transformers, "__version__", "5.2.0" if missing == "transformers" else "4.57.6")
    monkeypatch.setitem(sys.modules, "adapters", None)
    with pytest.raises(ValueError) as caught:
        make_tuning("unipelt").apply(tiny("bert"))
    assert isinstance(caught.value, InputError)
    assert len(str(caught.value).splitlines()) == 1
    assert 'pip install "deni[unipelt]"' in str(caught.value)
    assert "transformers 4.57" in str(caught.value)


@needs_adapters
@pytest.mark.parametrize("architecture", ["mpnet", "modernbert"])
def test_an_architecture_that_adapters_does_not_know_is_named(tiny, architecture):
    with pytest.raises(InputError, match=f"no UniPELT for '{architecture}'"):
        make_tuning("unipelt").apply(tiny(architecture))


# ---- what trains -----------------------------------------------------------------------------------------------------


@needs_adapters
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_adapter_and_what_is_behind_the_base_train(tuned, architecture):
    model = tuned(architecture)
    own = [name for name in trainable(model) if ".unipelt." not in name]
    behind = {
        "roberta": ["classifier.dense", "classifier.out_proj"],
        "distilbert": ["pre_classifier", "classifier"],
    }.get(architecture, ["classifier"])
    assert own == [f"{name}.{key}" for name in behind for key in ("weight", "bias")]
    assert {p.dtype for p in model.parameters()} == {torch.float64}


@needs_adapters
def test_each_layer_has_the_three_parts_each_with_a_gate(tuned):
    shapes = {name: tuple(p.shape) for name, p in trainable(tuned("bert", unipelt_reduction=16)).items()}
    for layer in range(2):
        place = f"bert.encoder.layer.{layer}."
        for key in ("query", "value"):
            assert shapes[f"{place}attention.self.{key}.loras.unipelt.lora_A"] == (4, 32)
            assert shapes[f"{place}attention.self.{key}.loras.unipelt.gate.bias"] == (1,)
        assert shapes[f"{place}attention.self.prefix_tuning.prefix_gates.unipelt.weight"] == (1, 32)
        assert shapes[f"{place}output.adapters.unipelt.adapter_down.0.weight"] == (2, 32)
        assert shapes[f"{place}output.adapters.unipelt.gate.weight"] == (1, 32)
    assert [shape for name, shape in shapes.items() if name.endswith("wte.weight")] == [(5, 32)]


@needs_adapters
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_part_gets_a_gradient_and_the_base_gets_none(tuned, batch, architecture):
    model = tuned(architecture)
    with torch.no_grad():
        for name, p in trainable(model).items():
            if name.endswith("lora_B"):  # fresh, it is zero and hides lora_A
                p.add_(0.1)
    model(**inputs_of(batch())).logits.square().sum().backward()
    for name, p in model.named_parameters():
        assert (p.grad is not None and bool(p.grad.any())) == p.requires_grad, name


@needs_adapters
def test_noise_on_gates_of_one_element_is_never_nan(tuned):
    population = Population(tuned(), [Sources(0)], "loop")
    before = population.member(0)
    assert any(value.numel() == 1 for value in before.values())
    population.fork(4, Fork(noise=Noise(variance=0.15, scope="trainable")))
    for value in population.values.values():
        assert torch.isfinite(value).all()
    population.merge()
    assert all(math.isfinite(float(value.sum())) for value in population.member(0).values())
    assert set(population.scope("auto")) == set(before)  # the paper's scope beside an adapter
    assert population.scope("head") == ["classifier.weight", "classifier.bias"]


@needs_adapters
def test_products_of_factors_are_averaged_as_products(tuned):
    population = Population(tuned(), [Sources(0)], "loop")
    population.fork(3, DISTINCT)
    name = "bert.encoder.layer.0.attention.self.query.loras.unipelt.lora_A"
    partner = name.replace("lora_A", "lora_B")
    a, b = population.values[name], population.values[partner]
    mean = mean_of_products(population.values)
    # The best approximation of rank 4 is nearer to the mean of the products than the product of the means.
    want = (b @ a).mean(0)
    assert float((mean[partner] @ mean[name] - want).norm()) < float((b.mean(0) @ a.mean(0) - want).norm())


# ---- members ---------------------------------------------------------------------------------------------------------


def together(model, batch, engine, members, **options):
    """Logits and gradients of distinct members, `(M, ...)`."""
    population = Population(copy.deepcopy(model), [Sources(7)], engine, **options)
    population.module.train()
    population.fork(members, DISTINCT)
    logits = []
    for chunk in population.module.chunks:
        population.module.focus(chunk)
        out = population.module(**population.module.fold(inputs_of(batch))).logits
        weights = torch.arange(1, len(out) // len(chunk) + 1, dtype=out.dtype).repeat(len(chunk))
        (out.log_softmax(-1)[:, 0] * weights).sum().backward()
        logits.append(out.detach().unflatten(0, (len(chunk), -1)))
    population.module.collect()
    return torch.cat(logits), {
        name: torch.stack([view.grad for view in each]) for name, each in population.views.items()
    }


@needs_adapters
@pytest.mark.parametrize("rows", [2, 3, 4, 6])  # also sizes that the members divide
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_distinct_members_side_by_side_equal_members_one_after_another(tuned, batch, architecture, rows):
    model, given = tuned(architecture), batch(rows=rows, tokens=6)
    loop, gradients = together(model, given, "loop", 3)
    stack, stacked = together(model, given, "stacked", 3)
    assert float((loop - stack).abs().max()) < 1e-10
    for name in gradients:
        assert float((gradients[name] - stacked[name]).abs().max()) < 1e-10, name
    assert float((loop[1] - loop[2]).abs().min()) > 1e-6  # the members are not one


@needs_adapters
@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_each_member_equals_a_model_of_its_own(tuned, batch, architecture):
    model, given = tuned(architecture), inputs_of(batch(rows=6, tokens=6))
    population = Population(copy.deepcopy(model), [Sources(7)], "stacked")
    population.fork(3, DISTINCT)
    population.module.eval()
    with torch.no_grad():
        folded = population.module(**population.module.fold(given)).logits.unflatten(0, (3, -1))
        for member in range(3):
            alone = copy.deepcopy(model).eval()
            for name, value in population.member(member).items():
                alone.get_parameter(name).copy_(value)
            assert float((alone(**given).logits - folded[member]).abs().max()) < 1e-12


@needs_adapters
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_probe_lets_it_stack(tuned, batch, architecture):
    assert why_not_stacked(tuned(architecture), inputs_of(batch())) == ""


@needs_adapters
def test_members_that_a_twin_mixes_are_found_by_the_probe(tuned, batch, monkeypatch):
    from deni.engine.stacked_lora import StackedLora

    right = StackedLora.forward

    def mixed(self, hidden, inputs):
        out, gate = right(self, hidden, inputs)
        return out.roll(self.fold.batch, 0), gate

    monkeypatch.setattr(StackedLora, "forward", mixed)
    assert "differ from the loop's" in why_not_stacked(tuned(), inputs_of(batch()))


@needs_adapters
def test_merging_equal_members_changes_nothing(tuned):
    population = Population(tuned(), [Sources(0)], "stacked")
    before = population.member(0)
    population.fork(3, Fork(noise=Noise(variance=0.0)))
    population.merge()
    for name, value in population.member(0).items():
        assert torch.equal(value, before[name])


# ---- training, artifact ----------------------------------------------------------------------------------------------

KINDS = {
    "default": {},
    "loop": {"strategy": "deni", "members": 3, "epochs": 5, "engine": "loop"},
    "stacked": {"strategy": "deni", "members": 3, "epochs": 5},
}


@needs_adapters
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_loaded_predicts_what_was_trained_to_the_bit(fitted, tmp_path, kind):
    done = fitted(tuning="unipelt", **KINDS[kind])
    folder = done.save(tmp_path / "model")
    loaded = artifact.load(folder, "cpu")
    assert loaded.population.engine_name == done.trainer.population.engine_name
    assert loaded.population.size == done.trainer.population.size
    for member in range(loaded.population.size):
        one, other = done.trainer.population.member(member), loaded.population.member(member)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert np.array_equal(done.classifier().members(TEXTS), loaded.members(TEXTS))
    assert done.classifier()(TEXTS) == loaded(TEXTS)
    assert {path.suffix for path in folder.rglob("*")} <= {".json", ".safetensors", ".md", ".txt", ".jinja"}
    assert artifact.read_info(folder)["tuning"] == {"name": "unipelt", "settings": SETTINGS}


@needs_adapters
def test_the_engines_train_the_same_members(fitted):
    loop, stacked = (fitted(tuning="unipelt", **KINDS[kind]).trainer.population for kind in ("loop", "stacked"))
    assert (loop.engine_name, stacked.engine_name) == ("loop", "stacked")
    for name in loop.values:
        assert float((loop.values[name] - stacked.values[name]).abs().max()) < 1e-3, name


@needs_adapters
def test_a_prediction_does_not_depend_on_the_other_texts(fitted, tmp_path):
    classify = artifact.load(fitted(tuning="unipelt").save(tmp_path / "model"), "cpu")
    classify.population.perturb(Noise(variance=4.0, scope="trainable", floor=0.3))  # so that the gates matter
    together, alone = classify.members(TEXTS), np.stack([classify.members([text])[0] for text in TEXTS])
    assert np.allclose(together, alone, atol=1e-5)
    classify.padding = "longest"
    assert not np.allclose(together, [classify.members([text])[0] for text in TEXTS], atol=1e-3)


@pytest.fixture
def mixed(tmp_path):
    """A CSV with texts of one to six words."""
    rows = [(" ".join(text.split()[: 1 + at % 6]), label) for at, (text, label) in enumerate(toy_rows())]
    return str(write_csv(tmp_path / "mixed.csv", rows))


def train(model_folder, tickets, strategy="default", strategy_settings=None, engine="auto", epochs=2, **options):
    own = {"model": model_folder, "epochs": epochs, "engine": engine, "learning_rate": 1e-3, "batch_size": 3}
    plan = Recipe.of(None, strategy, "unipelt", strategy_settings, SETTINGS, **own)
    return fine_tune(read_texts(tickets), plan, progress=False, **options)


@needs_adapters
def test_runs_side_by_side_are_the_runs_alone(model_folder, mixed):
    pack, alone = (train(model_folder, mixed, seeds=seeds).trainer.population for seeds in ([3, 4], [4]))
    assert (pack.runs, pack.engine_name) == (2, "stacked")
    for name, value in alone.member(0).items():
        assert float((pack.member(1)[name] - value).abs().max()) < 1e-4, name


class Keep(TrainerCallback):
    """A copy of the first checkpoint."""

    def __init__(self, folder):
        self.folder = folder

    def on_save(self, args, state, control, **_):
        if not self.folder.exists():
            name = f"checkpoint-{state.global_step}"
            shutil.copytree(f"{args.output_dir}/{name}", self.folder / name)


@needs_adapters
@pytest.mark.parametrize("engine", ["loop", "auto"])
def test_a_run_that_is_resumed_ends_as_one_that_was_not_stopped(model_folder, tickets, tmp_path, engine):
    own = {"strategy": "deni", "strategy_settings": {"members": 3}, "engine": engine}
    saving = {"checkpoints": tmp_path / "whole", "save_steps": 8, "callbacks": [Keep(tmp_path / "kept")]}
    done = train(model_folder, tickets, **own, **saving)
    assert done.schedule.at(8).members == 3  # inside an interpolation
    resumed = train(model_folder, tickets, **own, checkpoints=tmp_path / "kept", resume=True)
    for name, value in done.trainer.population.values.items():
        assert torch.equal(resumed.trainer.population.values[name], value), name


@needs_adapters
def test_recomputing_activations_is_refused(tuned):
    with pytest.raises(ValueError, match="switch gradient_checkpointing off"):
        Population(tuned(), [Sources(0)]).module.gradient_checkpointing_enable()


@needs_adapters
def test_a_damaged_description_of_the_adapter_is_said_in_one_line(fitted, tmp_path):
    folder = fitted(tuning="unipelt").save(tmp_path / "model")
    (folder / "adapters.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"adapters\.json is damaged"):
        artifact.load(folder, "cpu")


@needs_adapters
@pytest.mark.parametrize("settings", [{}, {"how": "members"}, {"adapter": True}])
def test_it_is_no_ordinary_model_and_the_error_says_so(fitted, tmp_path, settings):
    folder = fitted(tuning="unipelt").save(tmp_path / "model")
    with pytest.raises(InputError, match=r"deni\.load") as caught:
        artifact.export(folder, tmp_path / "out", **settings)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "out").exists()
