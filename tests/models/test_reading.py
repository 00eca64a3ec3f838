"""Whatever a library raises while it reads a model is one line that names the file."""

import errno
import json
import shutil

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from deni.errors import ArtifactError, InputError
from deni.models.loading import load_config, load_model, load_tokenizer
from deni.models.reading import check_sizes, read_json, read_tokenizer, reason, told


class PanicException(BaseException):
    """As Rust code panics."""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyError("vocab"), "KeyError: 'vocab'"),
        (ValueError("no such thing.\nmore"), "no such thing"),
        (AttributeError("has no attribute"), "AttributeError: has no attribute"),
        (RecursionError(), "RecursionError"),
        (Exception("invalid type"), "Exception: invalid type"),
        (PanicException("index out of bounds"), "PanicException: index out of bounds"),
    ],
)
def test_any_error_of_others_is_one_line_with_the_file(error, message):
    with pytest.raises(ArtifactError) as raised, told("model/tokenizer.json"):
        raise error
    assert str(raised.value) == f"model/tokenizer.json cannot be read ({message}): copy or train the model again"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory"),
        torch.cuda.OutOfMemoryError("out of memory"),
        InputError("said already"),
        KeyboardInterrupt(),
    ],
)
def test_what_says_nothing_about_the_files_stays_as_it_is(error):
    with pytest.raises(type(error)) as raised, told("model"):
        raise error
    assert raised.value is error


def test_the_reason_is_the_first_line_that_says_something():
    assert reason(ValueError("Validation error for field 'vocab_size':\n    TypeError: expected int")) == (
        "Validation error for field 'vocab_size': TypeError: expected int"
    )
    assert reason(ValueError("x" * 999)) == "x" * 197 + "..."


def test_sizes_that_models_have_are_taken():
    real = {"max_position_embeddings": 10_485_760, "vocab_size": 262_208, "rope_theta": 5e8, "num_hidden_layers": 126}
    check_sizes({**real, "pad_token_id": -1, "layers": [1, 2], "nested": {"hidden_size": 2**20}}, "config.json")
    with pytest.raises(ArtifactError, match=r"^config.json: nested.hidden_size is -2, where at most"):
        check_sizes({"nested": {"hidden_size": -2}}, "config.json")


def test_json_that_is_missing_is_named(tmp_path):
    with pytest.raises(ArtifactError, match=r"config\.json is missing"):
        read_json(tmp_path / "config.json")


@pytest.fixture
def folder(model_folder, tmp_path):
    return shutil.copytree(model_folder, tmp_path / "model")


def change(file, **values):
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


READ = {"config": load_config, "tokenizer": load_tokenizer, "model": lambda name: load_model(name, ["a", "b"])}


@pytest.mark.parametrize(
    ("file", "content", "read"),
    [
        ("config.json", b"[]", "config"),
        ("config.json", b"\xff", "model"),
        ("tokenizer.json", b"{}", "tokenizer"),
        ("tokenizer.json", b"[" * 100_000, "tokenizer"),
        ("tokenizer_config.json", b'{"model_max_length": 1', "tokenizer"),
        ("model.safetensors", b"", "model"),
        ("model.safetensors", b"\xff" * 90, "model"),
    ],
)
def test_a_base_model_that_cannot_be_read_names_model_and_file(folder, file, content, read):
    (folder / file).write_bytes(content)
    with pytest.raises(InputError) as raised:
        READ[read](str(folder))
    message = str(raised.value)
    assert message.startswith(f"model '{folder}' cannot be loaded: {folder / file} ")
    assert len(message.splitlines()) == 1


def test_a_limit_of_tokens_that_is_no_number_is_refused(folder):
    change(folder / "tokenizer_config.json", model_max_length=-3)
    with pytest.raises(
        ArtifactError, match=f"^{folder / 'tokenizer.json'}: model_max_length is -3, not a number above 0"
    ):
        read_tokenizer(folder)


def test_a_tokenizer_that_cannot_pad_is_named(tmp_path):
    plain = Tokenizer(WordLevel({"<unk>": 0, "a": 1}, "<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="<unk>").save_pretrained(tmp_path)
    with pytest.raises(ArtifactError, match="names neither a pad_token nor an eos_token: add one of them"):
        read_tokenizer(tmp_path)
