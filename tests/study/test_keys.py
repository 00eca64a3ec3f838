import dataclasses
import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deni.deprecation import Renamed
from deni.provenance import canonical, digest
from deni.randomness import SOURCES
from deni.recipe import Recipe
from deni.settings import neutral_values, setting
from deni.strategies import STRATEGIES
from deni.strategies.default import Default
from deni.strategies.deni import DENI
from deni.study import keys
from deni.study.cell import Cell, Fingerprints, NamedSettings
from deni.study.execution.job import Job
from deni.study.keys import combine_of, key_of, pack_key_of, settled
from deni.study.vote import voter
from deni.tasks.voting import vote
from deni.tuning import TUNINGS
from deni.tuning.lora import Lora

FILES = Fingerprints("data", "model")
VERSIONS = {"torch": "2", "transformers": "5", "peft": "0.17"}
PLAIN = Cell(
    {"name": "tickets.csv"}, "some/model", NamedSettings("full"), NamedSettings("default"), 100, seed=0, block=0
)
FIVE = dataclasses.replace(PLAIN, strategy=NamedSettings("deni", {"members": 5}))


def job_of(cell: Cell, files: Fingerprints = FILES, **versions: str) -> Job:
    return Job.of(cell, files, {**VERSIONS, **versions}, steps=1000)


def key(cell: Cell, files: Fingerprints = FILES, **versions: str) -> str:
    return job_of(cell, files, **versions).key


def decided(cell: Cell) -> dict:
    return dict(job_of(cell).decides)


def test_the_key_of_a_plain_cell_is_the_same_for_ever():
    # Fails when a default of recipe, tuning or strategy changes, or a setting is added without its neutral value
    # (`deni.settings.setting`): then a study that does not give it trains its cells again. Where that is meant, write
    # the new key here and a line in the changelog.
    assert key(PLAIN) == "8e134006f87898302c1a47778162dbf1a9b9921095ea5d869051423892c118bc"
    assert key(FIVE) == "460ec2ee0bec9a22a456ea2f75c846049498865b76d7796d45d0ddb5f6fdaac3"


def test_the_key_is_the_sha_256_of_what_decides():
    job = job_of(PLAIN)
    assert job.decides == json.loads(canonical(job.decides))
    assert job.key == key_of(job.decides) == digest(job.decides)
    assert job.pack == pack_key_of(job.decides, PLAIN.sources)


def test_what_decides_is_settled_once_and_for_all():
    for cell in (
        PLAIN,
        FIVE,
        dataclasses.replace(PLAIN, strategy=NamedSettings("linear_probe+deni"), measure="development"),
    ):
        assert settled(decided(cell)) == decided(cell)


# ---- versions, and settings that came later --------------------------------------------------------------------------


def test_another_version_of_deni_is_the_same_cell_and_another_number_of_results_is_not(monkeypatch):
    assert key(PLAIN, deni="9") == key(PLAIN)
    before = key(PLAIN)
    monkeypatch.setattr(keys, "RESULTS", keys.RESULTS + 1)
    assert key(PLAIN) != before


def old(cell: Cell, deni: str = "0.1.0") -> dict:
    """What decided a cell before there was a number of results, as version 0.1.0 wrote it."""
    found = decided(cell)
    del found["results"]
    found["versions"]["deni"] = deni
    how = {"engine": "auto", "members_at_a_time": None, "eval_batch_size": 64, "gradient_checkpointing": False}
    found["recipe"] |= how
    return found


def test_what_an_earlier_version_wrote_has_the_keys_of_today():
    versions = {"deni": "0", "torch": "2", "transformers": "5", "peft": "0.17"}  # its key of this cell was:
    assert (
        key_of({**old(PLAIN), "versions": versions})
        == "6bc0f6b8236e995feba190fead3d63cfec35bf5b13682addbd766ffd27346213"
    )
    for cell in (PLAIN, FIVE, dataclasses.replace(PLAIN, measure="development", sources={"dropout": 3})):
        for deni in ("0.1.0", "0.2.0"):
            assert key_of(settled(old(cell, deni))) == key(cell)
            assert pack_key_of(settled(old(cell, deni)), cell.sources) == job_of(cell).pack


def test_a_setting_that_came_later_leaves_the_keys_alone_at_its_neutral_value():
    written = dataclasses.replace(
        PLAIN, strategy=NamedSettings("deni", {"members": 5, "antithetic": False, "member_order": "shared"})
    )
    assert key(written) == key(FIVE)
    for changed in ({"antithetic": True}, {"member_order": "own"}):
        assert key(dataclasses.replace(PLAIN, strategy=NamedSettings("deni", {"members": 5, **changed}))) != key(FIVE)
    assert "measure" not in decided(PLAIN)
    developed = dataclasses.replace(PLAIN, measure="development")
    assert decided(developed) == {**decided(PLAIN), "measure": "development"}


@dataclasses.dataclass(frozen=True)
class LaterDENI(DENI):
    """DENI with a setting more, whose default is not what was before."""

    warmth: float = setting(2.0, neutral=0.0)


@dataclasses.dataclass(frozen=True)
class LaterLora(Lora):
    """LoRA with a setting more."""

    lora_x: int = setting(0, neutral=0)


@dataclasses.dataclass(frozen=True)
class LaterRecipe(Recipe):
    """A recipe with a setting more."""

    patience: int = setting(0, neutral=0)


def test_strategies_tunings_and_recipes_may_get_settings_later(monkeypatch):
    alone = dataclasses.replace(FIVE, tuning=NamedSettings("lora"))
    composed = dataclasses.replace(alone, strategy=NamedSettings("linear_probe+deni", {"members": 5}))
    before = [key(alone), key(composed)]
    monkeypatch.setitem(STRATEGIES._classes, "deni", LaterDENI)
    monkeypatch.setitem(TUNINGS._classes, "lora", LaterLora)
    monkeypatch.setattr("deni.recipe.Recipe", LaterRecipe)
    assert key(alone) != before[0]  # the default of today
    neutral = {"members": 5, "warmth": 0.0}
    cells = [
        dataclasses.replace(each, strategy=NamedSettings(each.strategy.name, neutral)) for each in (alone, composed)
    ]
    assert [key(each) for each in cells] == before
    assert neutral_values(LaterDENI) == {"antithetic": False, "member_order": "shared", "warmth": 0.0}
    assert key(dataclasses.replace(cells[0], recipe={"patience": 3})) != before[0]


def test_a_setting_that_was_renamed_keeps_the_keys(monkeypatch):
    found = old(FIVE)
    settings = found["strategy"]["settings"]
    settings["replicas"] = settings.pop("members")
    monkeypatch.setattr(DENI, "renamed", {"replicas": Renamed("members", "1.0")})
    assert settled(found) == decided(FIVE)


def test_a_strategy_that_is_not_known_keeps_its_key():
    found = old(FIVE)
    found["strategy"] = {"name": "somebodys_own", "settings": {"members": 5, "antithetic": False}}
    assert settled(found)["strategy"] == found["strategy"]


# ---- votes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "given", "preset", "combine"),
    [
        ("default", {}, None, "soft"),
        ("deni", {}, None, "soft"),
        ("deni", {}, "released", "parent"),
        ("ensemble", {}, "paper", "hard"),
        ("linear_probe+ensemble", {"combine": "hard"}, None, "hard"),
        ("noisy_interpolation+ensemble", {"noisy_interpolation": {"combine": "parent"}}, None, "soft"),
        ("ensemble+noisy_interpolation", {"ensemble": {"combine": "hard"}}, None, "hard"),
        ("linear_probe+noisy_interpolation", {"combine": "hard"}, None, "hard"),
    ],
)
def test_the_vote_follows_from_what_decides_as_from_the_strategy(
    model_folder, strategy, given, preset, combine, monkeypatch
):
    cell = dataclasses.replace(PLAIN, strategy=NamedSettings(strategy, given), preset=preset, model=model_folder)
    found = decided(cell)
    members = torch.randn(7, 3, 4, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    own = vote(members, cell.resolve().strategy.combine).numpy()
    monkeypatch.setattr("deni.strategies.STRATEGIES", {})
    assert combine_of(found) == combine
    assert (voter(found)(members.numpy()) == own).all()


def test_a_vote_that_is_no_setting_is_kept_with_the_cell(monkeypatch):
    before = decided(PLAIN)
    monkeypatch.setattr(Default, "combine", "hard")
    found = decided(PLAIN)
    monkeypatch.undo()
    assert (combine_of(before), combine_of(found), combine_of(settled(found))) == ("soft", "hard", "hard")


# ---- what is another cell --------------------------------------------------------------------------------------------


SHARE_A_PACK = {
    "tuning": [NamedSettings("lora"), NamedSettings("lora", {"lora_r": 8})],
    "recipe": [{"epochs": 3}, {"learning_rate": 1e-3, "epochs": 3}],
}


def cells(model: str) -> dict[str, st.SearchStrategy]:
    """Values of each field that decide the result, none of them twice in another spelling."""
    named = [
        NamedSettings("default"),
        NamedSettings("deni"),
        NamedSettings("deni", {"members": 5}),
        NamedSettings("prior_noise+deni"),
    ]
    tunings = [NamedSettings("full"), NamedSettings("lora"), NamedSettings("lora", {"lora_r": 8}), NamedSettings("ia3")]
    recipes = [{}, {"epochs": 3}, {"batch_size": 4}, {"learning_rate": 1e-3, "epochs": 3}]
    return {
        "model": st.sampled_from([model, f"{model}/"]),
        "tuning": st.sampled_from(tunings),
        "strategy": st.sampled_from(named),
        "labelled": st.none() | st.integers(1, 10**6),
        "seed": st.integers(0, 2**40),
        "block": st.integers(0, 2**40),
        "sources": st.dictionaries(st.sampled_from(SOURCES), st.integers(2**41, 2**42), max_size=3),
        "test_size": st.none() | st.integers(1, 10**6),
        "protocol": st.sampled_from([None, "paper"]),
        "preset": st.sampled_from([None, "paper", "released"]),
        "measure": st.sampled_from(["test", "development"]),
        "recipe": st.sampled_from(recipes),
    }


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_changing_any_one_field_changes_the_key(model_folder, data):
    values = cells(model_folder)
    cell = Cell({"name": "tickets.csv"}, **{name: data.draw(each, name) for name, each in values.items()})
    field = data.draw(st.sampled_from(sorted(values)), "field")
    other = data.draw(values[field].filter(lambda value: value != getattr(cell, field)), "other")
    changed = dataclasses.replace(cell, **{field: other})
    assert key(changed) != key(cell)
    assert Cell.from_json(json.loads(json.dumps(cell.to_json()))) == cell
    values = [getattr(each, field) for each in (cell, changed)]
    together = job_of(changed).pack == job_of(cell).pack
    assert together == (field == "seed" or all(value in SHARE_A_PACK.get(field, ()) for value in values))


FORK = {"variance": 0.5, "scale": "uniform", "floor": 0.1, "antithetic": True}


@pytest.mark.parametrize("changed", [{name: value} for name, value in FORK.items()])
def test_the_noise_of_forks_shares_a_pack(changed):
    plain = dataclasses.replace(PLAIN, tuning=NamedSettings("lora"))
    for name, own in (("deni", changed), ("prior_noise+deni", {"deni": changed})):
        one, other = (dataclasses.replace(plain, strategy=NamedSettings(name, each)) for each in ({}, own))
        assert job_of(one).pack == job_of(other).pack
        assert job_of(one).key != job_of(other).key


@pytest.mark.parametrize(
    ("strategy", "settings"),
    [
        ("deni", {"members": 5}),
        ("deni", {"scope": "trainable"}),
        ("deni", {"fork_optimizer": "fresh"}),
        ("weight_noise", {"variance": 0.5}),
        ("prior_noise+deni", {"prior_noise": {"variance": 0.5}}),
    ],
)
def test_other_settings_of_strategies_make_another_pack(strategy, settings):
    plain = dataclasses.replace(PLAIN, tuning=NamedSettings("lora"), strategy=NamedSettings(strategy))
    assert job_of(plain).pack != job_of(dataclasses.replace(plain, strategy=NamedSettings(strategy, settings))).pack


@pytest.mark.parametrize(("recipe", "strategy"), [({"optim": "adafactor"}, "default"), ({}, "mixout")])
def test_ranks_share_a_pack_only_where_padding_changes_nothing(recipe, strategy):
    plain = dataclasses.replace(PLAIN, recipe=recipe, strategy=NamedSettings(strategy))
    packs = [
        job_of(dataclasses.replace(plain, tuning=NamedSettings("lora", own))).pack
        for own in ({}, {"lora_alpha": 8}, {"lora_r": 8})
    ]
    assert packs[0] == packs[1] != packs[2]


def test_every_field_that_is_no_label_is_tried():
    labels = {"vary", "factor", "label"}
    assert set(cells("x")) | labels | {"dataset"} == {field.name for field in dataclasses.fields(Cell)}


@pytest.mark.parametrize("label", [{"vary": "all"}, {"factor": {"labelled": 100}}, {"label": "mine"}])
def test_a_label_does_not_change_the_key(label):
    assert key(dataclasses.replace(PLAIN, **label)) == key(PLAIN)


@pytest.mark.parametrize(
    "how", [{"engine": "loop"}, {"members_at_a_time": 2}, {"eval_batch_size": 8}, {"gradient_checkpointing": True}]
)
def test_how_it_is_computed_does_not_change_the_key(how):
    assert key(dataclasses.replace(PLAIN, recipe=how)) == key(PLAIN)


def test_bfloat16_changes_the_key():
    assert key(dataclasses.replace(PLAIN, recipe={"bf16": True})) != key(PLAIN)


@pytest.mark.parametrize("name", ["data", "model", "augmented"])
def test_other_content_of_a_file_is_another_cell(name):
    assert key(PLAIN, dataclasses.replace(FILES, **{name: "other"})) != key(PLAIN)


@pytest.mark.parametrize("name", VERSIONS)
def test_another_version_is_another_cell(name):
    assert key(PLAIN, **{name: "9"}) != key(PLAIN)


def test_a_file_at_another_place_is_the_same_cell():
    moved = dataclasses.replace(PLAIN, dataset={"name": "elsewhere/tickets.csv"})
    assert key(moved) == key(PLAIN)
    for strategy in ("augmentation", "augmentation+deni"):
        here, there = (
            dataclasses.replace(PLAIN, dataset={"name": "x.csv", "augmented": file}, strategy=NamedSettings(strategy))
            for file in ("a.csv", "b.csv")
        )
        assert here.resolve().strategy.parts[0].augmented == "a.csv"
        assert key(here) == key(there)


def test_a_default_that_is_written_out_is_the_same_cell():
    written = dataclasses.replace(
        PLAIN,
        strategy=NamedSettings("deni", {"members": 10}),
        tuning=NamedSettings("lora", {"lora_r": 64}),
        recipe={"epochs": 10},
    )
    assert key(written) == key(dataclasses.replace(PLAIN, strategy=NamedSettings("deni"), tuning=NamedSettings("lora")))


def test_a_whole_number_is_the_same_with_a_point():
    one, other = (
        dataclasses.replace(PLAIN, strategy=NamedSettings("deni", {"variance": two}), recipe={"epochs": two})
        for two in (2, 2.0)
    )
    assert key(one) == key(other)


def test_a_changed_default_is_another_cell(monkeypatch):
    deni = dataclasses.replace(PLAIN, strategy=NamedSettings("deni"))
    before = key(deni)
    monkeypatch.setattr(DENI, "settings", lambda self: {**dataclasses.asdict(self), "members": 11})
    assert key(deni) != before


def test_a_seed_given_to_a_source_counts_as_the_seed_itself():
    same = dataclasses.replace(PLAIN, sources={"dropout": PLAIN.seed, "data_split": PLAIN.block})
    assert key(same) == key(PLAIN)
