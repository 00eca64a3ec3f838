"""Kept features are those that would be computed, to the bit; a key changes with all that decides them."""

import copy
import logging
import os
import stat
import subprocess
import sys

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from deni.models import feature_cache, features
from deni.models.feature_cache import cached, key_of, passes_its_input, state_of
from deni.models.features import FrozenEncoder
from deni.models.pairs import encode_separately
from deni.models.pooling import Pooling, attach
from deni.randomness import global_generators
from deni.strategies import LinearProbe
from deni.training import features as of_training
from tests.helpers.plain import bert, lora, make, same
from tests.helpers.plain import rows as bert_rows
from tests.helpers.tiny import make_batch, make_tiny

TEXTS = ["where is my parcel", "refund", "a code please not the screen is locked", "late"]
ONES = [np.ones((2, 3), dtype=np.float32), np.arange(4.0)]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv("DENI_CACHE", str(tmp_path / "cache"))
    forget()
    yield tmp_path / "cache" / "features"
    forget()


def forget():
    """As in a new process."""
    feature_cache._KEPT.clear()
    features._KEYS.clear()


def never():
    raise AssertionError("computed again")


# ---- what is kept --------------------------------------------------------------------------------------------------


def test_what_is_kept_is_found_in_memory_then_on_disk(folder, caplog):
    with caplog.at_level(logging.DEBUG, "deni"):
        for compute in (lambda: ONES, never, never):
            found = cached("key", compute)
            assert [array.dtype for array in found] == [np.float32, np.float64]
            assert all(np.array_equal(one, other) for one, other in zip(found, ONES, strict=True))
            found[0][:] = 7  # whoever gets it may change it
            if compute is never:
                forget()
    assert [line.rpartition(": ")[2] for line in caplog.messages] == ["computed", "found in memory", "found in disk"]
    (file,) = folder.iterdir()
    assert (stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(folder.stat().st_mode)) == (0o600, 0o700)


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "pickle", "folder"])
def test_a_damaged_file_is_computed_again(folder, damage):
    cached("key", lambda: ONES)
    (file,) = folder.iterdir()
    data = file.read_bytes()
    if damage == "cut":
        file.write_bytes(data[: len(data) // 2])
    elif damage == "changed":  # one bit of the numbers
        at = data.index(ONES[0].tobytes())
        file.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "pickle":
        np.savez(file, np.array([{}], dtype=object))
    else:
        file.unlink()
        file.mkdir()
    forget()
    computed = []
    found = cached("key", lambda: computed.append(1) or ONES)
    assert computed == [1]
    assert np.array_equal(found[0], ONES[0])
    if damage != "folder":
        forget()
        assert np.array_equal(cached("key", never)[0], ONES[0])


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DENI_CACHE", str(tmp_path / "file"))
    assert np.array_equal(cached("key", lambda: ONES)[0], ONES[0])
    assert np.array_equal(cached("key", never)[0], ONES[0])  # in memory


@pytest.mark.parametrize("word", ["off", "OFF", "0"])
def test_switched_off_nothing_is_kept(folder, monkeypatch, word):
    monkeypatch.setenv("DENI_CACHE", word)
    computed = []
    for _ in range(2):
        cached("key", lambda: computed.append(1) or ONES)
    assert computed == [1, 1]
    assert not folder.exists()
    assert not feature_cache._KEPT


def test_what_was_not_used_for_longest_gives_way(folder, monkeypatch):
    monkeypatch.setattr(feature_cache, "IN_MEMORY", 3 * 8000 + 100)
    for at, key in enumerate("abcd"):
        cached(key, lambda at=at: [np.full(1000, float(at))])
        os.utime(folder / f"{key}.npz", (at, at))
    assert list(feature_cache._KEPT) == ["b", "c", "d"]
    size = (folder / "a.npz").stat().st_size
    forget()
    cached("b", never)  # used
    monkeypatch.setattr(feature_cache, "ON_DISK", 3 * size + 100)
    (folder / ".deni-left").write_text("of a killed process")
    os.utime(folder / ".deni-left", (0, 0))
    cached("e", lambda: [np.zeros(1000)])
    assert sorted(file.name for file in folder.iterdir()) == ["b.npz", "d.npz", "e.npz"]
    monkeypatch.setattr(feature_cache, "IN_MEMORY", 100)
    cached("f", lambda: [np.zeros(1000)])
    assert not feature_cache._KEPT


# ---- keys ----------------------------------------------------------------------------------------------------------


def reading(model):
    """The model, whose output layer passes its input."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    layer = inner.classifier
    (getattr(layer, "modules_to_save", {"default": layer})["default"]).register_forward_hook(passes_its_input)
    return model.eval()


@torch.no_grad()
def features_of(model):
    batch = make_batch()
    return model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits


def adapted(seed, base=0, **settings):
    """BERT with a LoRA of this seed, of which each run has an output layer and factors of its own."""
    model = make_tiny("bert", base)
    with global_generators(seed):
        nn.init.normal_(model.classifier.weight)
        return reading(get_peft_model(model, LoraConfig(task_type="SEQ_CLS", r=4, **settings)))


def test_seeds_of_a_lora_share_the_features_of_the_frozen_encoder():
    one, other = adapted(1), adapted(2)
    names = [
        name for name, value in one.named_parameters() if not torch.equal(value, dict(other.named_parameters())[name])
    ]
    assert {name.split(".")[-2] for name in names} >= {"default", "original_module"}  # A, both output layers
    assert state_of(one) == state_of(other) is not None
    assert torch.equal(features_of(one), features_of(other))
    assert torch.equal(features_of(one), features_of(reading(make_tiny("bert"))))  # exact: B is zero
    assert state_of(adapted(1, base=3)) != state_of(one)


@pytest.mark.parametrize("settings", [{"use_dora": True}, {"init_lora_weights": False}])
def test_a_lora_that_changes_features_counts(settings):
    one, other = adapted(1, **settings), adapted(2, **settings)
    assert state_of(one) != state_of(other)


def test_each_weight_that_decides_features_counts_and_no_other():
    model = adapted(1)
    before, expected = state_of(model), features_of(model)
    for name, value in model.named_parameters():
        kept = value.detach().clone()
        with torch.no_grad():
            value.add_(0.5 + torch.rand_like(value))
        unseen = "word_emb" in name or name.endswith("key.bias")  # attention sees no shift of all keys, but by rounding
        assert (state_of(model) == before) == torch.equal(features_of(model), expected) or unseen, name
        with torch.no_grad():
            value.copy_(kept)
    assert state_of(model) == before
    model.get_base_model().bert.embeddings.position_ids[0, 3] = 9  # a buffer
    assert state_of(model) != before


def test_settings_of_the_model_count():
    states = {state_of(reading(make_tiny("bert")))}
    changes = [
        lambda model: setattr(model.bert.encoder.layer[0].output.LayerNorm, "eps", 1e-3),
        lambda model: setattr(model.bert.encoder.layer[0].intermediate, "intermediate_act_fn", nn.ReLU()),
        lambda model: setattr(model.config, "_attn_implementation", "eager"),
        lambda model: attach(model, Pooling("mean")),
        lambda model: attach(model, Pooling("mean", normalize=True)),
        lambda model: model.classifier._forward_hooks.clear(),
        lambda model: encode_separately(model),
    ]
    for change in changes:
        model = reading(make_tiny("bert"))
        change(model)
        states.add(state_of(model))
    assert len(states) == 1 + len(changes)
    assert None not in states
    named = reading(make_tiny("bert"))
    named.config.id2label = {0: "a", 1: "b", 2: "c"}
    named.bert.embeddings.dropout.p = 0.7
    assert state_of(named.train()) in states  # names of labels and dropout decide nothing


class Own(nn.Linear):
    pass


def test_what_code_of_others_computes_is_not_known():
    def with_hook(model):
        model.bert.register_forward_hook(lambda module, given, output: None)

    def with_method(model):
        model.bert.forward = lambda *args, **options: None

    def with_class(model):
        model.bert.encoder.layer[0].output.dense = Own(48, 32)

    def with_tensors_of_a_kind(model):
        model.bert.pooler.dense.weight = type("Packed", (nn.Parameter,), {})(model.bert.pooler.dense.weight.data)

    for change in (with_hook, with_method, with_class, with_tensors_of_a_kind):
        model = reading(make_tiny("bert"))
        assert state_of(model) is not None
        change(model)
        assert state_of(model) is None
    assert key_of(None, []) is None
    assert cached(None, lambda: ONES) is ONES


def test_a_key_changes_with_inputs_batches_and_surroundings():
    batch = {name: value for name, value in make_batch().items() if name != "labels"}
    halves = [{name: value[part] for name, value in batch.items()} for part in (slice(2), slice(2, 4))]
    keys = [
        key_of("state", [batch]),
        key_of("other", [batch]),
        key_of("state", [batch], "cuda"),
        key_of("state", halves),
    ]
    keys.append(key_of("state", [{**batch, "attention_mask": batch["attention_mask"].flip(1)}]))
    with torch.autocast("cpu", torch.bfloat16):
        keys.append(key_of("state", [batch]))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        keys.append(key_of("state", [batch]))
    finally:
        torch.set_num_threads(threads)
    assert len(set(keys)) == len(keys)
    assert key_of("state", [dict(reversed(batch.items()))]) == keys[0]


def test_another_process_has_the_same_key(model_folder):
    code = (
        "import sys, torch; torch.set_num_threads(1)\n"
        "from deni.models.features import FrozenEncoder, key_of\n"
        "encoder = FrozenEncoder(sys.argv[1])\n"
        "print(key_of(encoder._state, [tokens for _, tokens in encoder._batches(['refund', 'late'])]))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, model_folder],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "5"},
    ).stdout.split()[-1]
    encoder = FrozenEncoder(model_folder)
    assert found == key_of(encoder._state, [tokens for _, tokens in encoder._batches(["refund", "late"])])


# ---- who uses it ---------------------------------------------------------------------------------------------------


def test_the_frozen_encoder_finds_what_it_computes(model_folder, monkeypatch, folder):
    monkeypatch.setenv("DENI_CACHE", "off")
    expected = FrozenEncoder(model_folder, batch_size=3)(TEXTS)
    monkeypatch.setenv("DENI_CACHE", str(folder.parent))
    assert np.array_equal(FrozenEncoder(model_folder, batch_size=3)(TEXTS), expected)
    monkeypatch.setattr(FrozenEncoder, "_compute", lambda *given: never())
    assert np.array_equal(FrozenEncoder(model_folder, batch_size=3)(TEXTS), expected)
    forget()
    assert np.array_equal(FrozenEncoder(model_folder, batch_size=3)(TEXTS), expected)
    for other in ({"pooling": "cls"}, {"normalize": True}, {"max_length": 4}, {"batch_size": 2}):
        with pytest.raises(AssertionError, match="computed again"):
            FrozenEncoder(model_folder, **{"batch_size": 3, **other})(TEXTS)
    with pytest.raises(AssertionError, match="computed again"):
        FrozenEncoder(model_folder, batch_size=3)(TEXTS[::-1])


def test_a_folder_that_has_changed_is_read_again(model_folder, tmp_path):
    import shutil

    from transformers import AutoModel

    shutil.copytree(model_folder, tmp_path / "model")
    before = FrozenEncoder(str(tmp_path / "model"))(TEXTS)
    model = AutoModel.from_pretrained(tmp_path / "model")
    nn.init.normal_(model.embeddings.word_embeddings.weight)
    model.save_pretrained(tmp_path / "model")
    after = FrozenEncoder(str(tmp_path / "model"))(TEXTS)
    assert np.abs(after - before).max() > 0.01
    assert np.array_equal(FrozenEncoder(model_folder)(TEXTS), before)


def begun(folder, **options):
    """The values of a pack whose probe has begun, and how many batches went through a model."""
    counted = []
    passed = of_training.labeled_outputs

    def counting(*args):
        for batch in passed(*args):
            counted.append(1)
            yield batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(of_training, "labeled_outputs", counting)
        args = {"per_device_eval_batch_size": 10}
        trainer = make(folder, LinearProbe(probe_c=1.0), seeds=[0, 1, 2], args=args, **options)
        trainer.create_optimizer()
        trainer.phases.begin(0)
    return trainer.population.values, len(counted)


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_runs_of_a_pack_and_other_trainings_share_features(tmp_path, monkeypatch, folder, tuning):
    def init():
        model = {"full": bert, "lora": lora}[tuning]()
        nn.init.normal_(model.classifier.weight if tuning == "full" else model.get_base_model().classifier.weight)
        return model

    monkeypatch.setenv("DENI_CACHE", "off")
    expected, batches = begun(tmp_path, model_init=init, model=None)
    assert batches == 3 * 4  # 40 texts, three runs
    monkeypatch.setenv("DENI_CACHE", str(folder.parent))
    for count in (4, 0, 0):
        values, batches = begun(tmp_path, model_init=init, model=None)
        assert batches == count
        assert same(values, expected)
        if count == 0:
            forget()  # the last time they come from the disk


def test_a_trained_model_is_not_kept(tmp_path, folder):
    trainer = make(tmp_path, LinearProbe(probe_c=1.0))
    trainer.create_optimizer()
    trainer.phases.begin(0)
    assert len(list(folder.iterdir())) == 1
    trainer.state.global_step = 5
    trainer.phases.begin(0)
    layer = trainer.population.model.classifier
    hook = layer.register_forward_hook(passes_its_input)
    with torch.no_grad():
        trainer.population.model.bert.pooler.dense.weight.add_(1)
    (first, *_) = list(trainer.phases.outputs(0))
    hook.remove()
    assert first[0].shape[-1] == layer.in_features
    assert len(list(folder.iterdir())) == 1


def test_logits_are_not_kept(tmp_path, folder):
    trainer = make(tmp_path, LinearProbe(probe_c=0.0))
    plain = copy.deepcopy(trainer.population.model).eval()
    found = torch.cat([logits for logits, _ in trainer.phases.outputs(0)])
    ids = torch.tensor([row["input_ids"] for row in bert_rows()])
    with torch.no_grad():
        torch.testing.assert_close(found, plain(input_ids=ids).logits, rtol=0, atol=1e-6)
    assert not folder.exists()
