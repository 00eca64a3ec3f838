import gc

import pytest

from deni.cli.quick_imports import quick_imports


@pytest.fixture(autouse=True)
def as_before():
    enabled = gc.isenabled()
    yield
    gc.unfreeze()
    (gc.enable if enabled else gc.disable)()


def test_garbage_is_collected_again_after_the_imports():
    gc.enable()
    with quick_imports():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_garbage_is_collected_again_after_an_import_that_fails():
    gc.enable()
    with pytest.raises(ImportError), quick_imports():
        import deni.nothing_of_that_name  # noqa: F401
    assert gc.isenabled()


def test_what_was_imported_is_not_looked_at_again():
    gc.enable()
    gc.unfreeze()
    kept = [[]]
    with quick_imports():
        kept.append([[] for _ in range(1000)])
    assert gc.get_freeze_count() >= 1000
    assert not any(each is kept[1] for each in gc.get_objects())


def test_a_collector_that_the_user_switched_off_stays_off():
    gc.disable()
    gc.unfreeze()
    with quick_imports():
        assert not gc.isenabled()
    assert not gc.isenabled()
    assert gc.get_freeze_count() == 0
