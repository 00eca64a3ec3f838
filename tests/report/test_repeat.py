"""The study that the page gives to repeat it."""

import re

import pytest

from deni.report.repeat import plan_repeat
from deni.study.plan import read_study
from deni.study.store.database import Store


@pytest.mark.parametrize("measure", ["test", "development"])
@pytest.mark.parametrize("broken", [False, True], ids=["a full grid", "a grid with a hole"])
def test_the_study_of_the_page_gives_the_same_cells(tmp_path, model_folder, tickets, broken, measure):
    file = tmp_path / "first.yaml"
    file.write_text(
        f"name: again\ndatasets: [{{path: {tickets}, task: single_label}}]\nmodels: [{model_folder}]\n"
        "tunings: [full, {name: lora, lora_r: 4}]\nstrategies: [default, {name: deni, members: 3, label: three}]\n"
        "labelled: [12, 18]\nseeds: 2\nblocks: 2\nrecipe: {epochs: 4, batch_size: 4}\nvary: [dropout, sample_order]\n"
        f"measure: {measure}\n"
    )
    study = read_study(file)
    kept = study.jobs[:-5] if broken else study.jobs
    with Store(tmp_path / "study.db", create=True) as store:
        store.add(kept, study.name)
        rows = list(store.results(None))
    repeat = plan_repeat(rows, "study.db")
    assert (len(repeat.documents) > 1) == broken
    assert all(("measure: development" in text) == (measure == "development") for text in repeat.documents.values())
    assert all("label: three" in text for text in repeat.documents.values() if "name: deni" in text)
    keys = []
    for name, text in repeat.documents.items():
        (tmp_path / name).write_text(text)
        keys += [each.key for each in read_study(tmp_path / name).jobs]
        assert f"deni study run {name} --store study.db" in repeat.commands
    assert sorted(keys) == sorted(each.key for each in kept)
    assert any(re.match(r"python -m pip install .*torch==", line) for line in repeat.commands)
