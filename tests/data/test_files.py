import os
from pathlib import Path

import pandas as pd
import pytest

from deni.data import read_texts
from tests.helpers.written_files import written


def test_select_keeps_texts_labels_and_rows_together(tmp_path):
    read = read_texts(written(tmp_path, "a.csv", "text,label,id\nhi,a,1\nho,b,2\nhu,c,3\n")).select([2, 0])
    assert (read.texts, read.labels) == (["hu", "hi"], ["c", "a"])
    assert read.frame["id"].tolist() == ["3", "1"]
    assert read.frame.index.tolist() == [4, 2]


@pytest.mark.skipif("DENI_DATA" not in os.environ, reason="DENI_DATA names no folder with the research datasets")
def test_trec_has_its_5870_questions_in_six_classes():
    trec = read_texts(Path(os.environ["DENI_DATA"], "trec.csv.gz"))
    assert len(trec) == 5870
    assert pd.Series(trec.labels).value_counts().to_dict() == {
        "entity": 1339,
        "description": 1285,
        "human": 1280,
        "numeric": 969,
        "location": 904,
        "abbreviation": 93,
    }
