import dataclasses

import numpy as np
import pytest

from deni.errors import InputError
from deni.study.cell import NamedSettings
from deni.study.store.archive import opened, write_archive
from deni.study.store.database import Store
from deni.study.store.merge import merge_files
from tests.helpers.cells import a_result, planned


@pytest.fixture
def store(tmp_path):
    """Two cells that are done, one that failed, one that waits."""
    with Store(tmp_path / "study.db", create=True) as made:
        cells = planned(strategy=NamedSettings("deni", {"members": 3}))
        made.add(cells, "first")
        made.claim([each.key for each in cells])
        for at, each in enumerate(cells[:2]):
            made.finish(each.key, a_result(at, 50))
        made.fail(cells[2].key, "ValueError: no")
        made.release()
        yield made


@pytest.fixture
def archive(store, tmp_path):
    path = tmp_path / "study.parquet"
    assert write_archive(store, path) == 3
    return path


def test_an_archive_has_all_of_a_cell_but_its_members(store, archive):
    with opened(archive) as again:
        assert list(again.results(None)) == [row for row in store.results(None) if row.status != "waiting"]
        for row in store.results():
            members, said = store.outputs(row.key).log_probs, again.outputs(row.key)
            mean = np.logaddexp.reduce(members, axis=1) - np.log(3)  # DENI's vote
            assert said.log_probs.shape == (50, 1, 2)
            np.testing.assert_allclose(said.log_probs[:, 0], mean, rtol=2e-3)
            assert np.array_equal(said.log_probs[:, 0].argmax(-1), mean.argmax(-1))
            assert np.array_equal(said.gold, store.outputs(row.key).gold)
            assert np.array_equal(said.text_ids, store.outputs(row.key).text_ids)


def test_the_class_on_top_stays_on_top_in_half_precision(tmp_path):
    (cell,) = planned(1, strategy=NamedSettings("deni", {"members": 3}))
    close = np.log([[[0.49999, 0.50001]] * 3, [[0.50001, 0.49999]] * 3])  # a tie in half precision
    result = dataclasses.replace(a_result(0, 2), log_probs=close)
    with Store(tmp_path / "study.db", create=True) as store:
        store.add([cell], "first")
        store.claim([cell.key])
        store.finish(cell.key, result)
        write_archive(store, tmp_path / "study.parquet")
    with opened(tmp_path / "study.parquet") as again:
        assert again.outputs(cell.key).log_probs[:, 0].argmax(-1).tolist() == [1, 0]


def test_a_study_goes_on_from_an_archive(store, archive, tmp_path):
    ((_, merged),) = merge_files(tmp_path / "new.db", [archive])
    assert (merged.new, merged.conflicts) == (3, ())
    with Store(tmp_path / "new.db") as again:
        again.add(planned(strategy=NamedSettings("deni", {"members": 3})), "first")
        assert again.status() == {"waiting": 1, "running": 0, "done": 2, "failed": 1}


def test_an_archive_agrees_with_its_store_and_disagrees_with_another(store, archive, tmp_path):
    ((_, merged),) = merge_files(store.path, [archive])
    assert (merged.new, merged.completed, merged.conflicts) == (0, 0, ())
    key = next(store.results()).key
    with Store(tmp_path / "other.db", create=True) as other:
        cells = planned(1, strategy=NamedSettings("deni", {"members": 3}))
        other.add(cells, "first")
        other.claim([key])
        other.finish(key, dataclasses.replace(a_result(0, 50), metrics={"macro_f1": 0.1}))
        ((_, merged),) = merge_files(other.path, [archive])
        assert (merged.new, merged.conflicts) == (2, (key,))


def test_archives_refuse_what_they_cannot_do(store, archive, tmp_path):
    with pytest.raises(InputError, match="exists"):
        write_archive(store, archive)
    with pytest.raises(InputError, match=r"call it cells\.parquet"):
        write_archive(store, tmp_path / "cells.csv")
    with Store(tmp_path / "empty.db", create=True) as empty, pytest.raises(InputError, match="nothing to archive"):
        write_archive(empty, tmp_path / "empty.parquet")
    (tmp_path / "broken.parquet").write_text("no")
    with pytest.raises(InputError, match="no Parquet file"), opened(tmp_path / "broken.parquet"):
        pass
    with pytest.raises(InputError, match="no such file"), opened(tmp_path / "missing.parquet"):
        pass
