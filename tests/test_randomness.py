"""Each source of randomness has a generator of its own."""

import random

import numpy as np
import pytest
import torch

from deni.randomness import SOURCES, OwnGlobals, Sources, derive, global_generators


def first(source):
    return torch.randint(1000, (4,), generator=source).tolist()


def test_seeds_are_the_same_on_every_machine():
    assert derive(0, "noise") == 5498306947117497306
    assert derive(7, "dropout") == 2442411625668719862
    assert derive(1, "sample_order", 3) == 4027702807642535306


def test_first_draws_are_the_same_on_every_machine():
    assert first(Sources(0)["noise"]) == [415, 580, 548, 290]
    assert first(Sources(0)["dropout"]) == [956, 624, 190, 755]
    assert Sources(0).numpy("data_split").integers(0, 1000, 4).tolist() == [994, 576, 633, 175]


def test_drawing_from_one_source_leaves_the_others_alone():
    used, fresh = Sources(3), Sources(3)
    torch.randn(1000, generator=used["noise"])
    for name in set(SOURCES) - {"noise"}:
        assert first(used[name]) == first(fresh[name])


def test_one_source_can_vary_while_the_others_stay():
    plain, varied = Sources(3), Sources(3, seeds={"noise": 4})
    assert [name for name in SOURCES if plain.seeds[name] != varied.seeds[name]] == ["noise"]
    assert varied.seeds["noise"] == Sources(4).seeds["noise"]


def test_derived_generators_depend_on_their_place_alone():
    sources = Sources(3)
    before = first(sources.derived("sample_order", 1))
    first(sources["sample_order"])
    assert first(sources.derived("sample_order", 1)) == before != first(sources.derived("sample_order", 2))


def test_saved_generators_continue():
    sources = Sources(3)
    first(sources["noise"])
    states, expected = sources.state_dict(), first(sources["noise"])
    resumed = Sources(3)
    resumed.load_state_dict(states)
    assert first(resumed["noise"]) == expected


def test_an_unknown_source_is_refused():
    with pytest.raises(ValueError, match="'luck'"):
        Sources(0, seeds={"luck": 1})


@pytest.mark.parametrize("fails", [False, True])
def test_global_generators_are_left_as_they_were(fails):
    def draw():
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    expected = draw()
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
    inside = []
    try:
        with global_generators(5):
            inside.append(draw())
            if fails:
                raise KeyError
    except KeyError:
        pass
    with global_generators(5):
        inside.append(draw())
    assert inside[0] == inside[1]
    assert draw() == expected


def test_own_globals_go_on_where_they_were_and_leave_the_callers_alone():
    def drawn():
        return random.random(), np.random.random(), torch.rand(1).item()

    own = OwnGlobals()
    with global_generators(1):
        expected = [drawn(), drawn()]
    with global_generators(2):
        undisturbed = [drawn(), drawn()]
    with global_generators(2):
        with own.used():
            random.seed(1), np.random.seed(1), torch.manual_seed(1)
        first = drawn()
        with own.used():
            got = [drawn()]
            with own.used():  # an evaluation during training
                got.append(drawn())
        assert [first, drawn()] == undisturbed
    assert got == expected
