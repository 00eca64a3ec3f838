"""Files for tests of reading."""

import io
import json
from pathlib import Path

import pandas as pd
import pytest

from deni.data import read_texts
from deni.errors import InputError

ROWS = [("Where is my parcel, please?", "delivery"), ('She said "no"', "other"), ("null", "NA"), ("naïve\nline", "7")]


def written(folder: Path, name: str, content: str | bytes) -> Path:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def error_of(*args, **settings) -> str:
    with pytest.raises(InputError) as caught:
        read_texts(*args, **settings)
    message = str(caught.value)
    assert "\n" not in message
    return message


def as_bytes(suffix: str) -> bytes:
    frame = pd.DataFrame(ROWS, columns=["text", "label"])
    if suffix == ".parquet":
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False)
        return buffer.getvalue()
    if suffix in (".csv", ".tsv"):
        return frame.to_csv(index=False, sep="," if suffix == ".csv" else "\t").encode()
    return "\n".join(json.dumps({"text": text, "label": label}) for text, label in ROWS).encode()
