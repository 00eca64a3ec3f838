"""What a training saves predicts what its trainer predicts: of models of many kinds, in their own types."""

import logging
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from peft import AutoPeftModelForSequenceClassification, LoraConfig, get_peft_model
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    PreTrainedTokenizerFast,
    TrainerCallback,
)

import deni
from deni.errors import ArtifactError
from deni.outputs import SavedElsewhereError
from deni.randomness import global_generators
from deni.strategies import DENI, DelayedEnsemble, NoisyInterpolation
from deni.strategies.default import Default
from deni.strategies.ema import EMA
from tests.helpers.hub_server import HubServer
from tests.helpers.trainers import CONFIG, bert, make, pad

SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "initializer_range": 0.5,
}
WORDS = [f"word{chr(97 + at // 26)}{chr(97 + at % 26)}" for at in range(60)]  # Whitespace splits no letters
FEW = {"max_steps": 3}


def new_tokenizer():
    plain = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token=WORDS[1]))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=plain, pad_token=WORDS[0], unk_token=WORDS[1])


@pytest.fixture
def tokenizer():
    return new_tokenizer()


def texts(count=6, seed=1):
    draw = np.random.default_rng(seed)
    return [" ".join(WORDS[at] for at in draw.integers(5, 60, draw.integers(3, 9))) for _ in range(count)]


def tokenized(lines, tokenizer):
    return [{**tokenizer(line), "labels": at % 3} for at, line in enumerate(lines)]


def close(found, expected, atol):
    assert found.shape == expected.shape
    return np.allclose(found, expected, rtol=0, atol=atol, equal_nan=True)


def seeded(make_model):
    with global_generators(0):
        return make_model()


def trained(tmp_path, tokenizer, model, strategy=None):
    trainer = make(
        tmp_path,
        strategy or DelayedEnsemble(members=2, variance=0.15),
        model=model,
        train=tokenized(texts(12), tokenizer),
        args=FEW,
        processing_class=tokenizer,
    )
    trainer.train()
    return trainer


def members_of(trainer, lines, tokenizer):
    """What each member's own forward pass says, one text at a time: `(N, M, C)` log probabilities."""
    with torch.no_grad():
        rows = [
            [
                member(**{key: torch.tensor([value]) for key, value in tokenizer(line).items()})["logits"][0]
                for member in trainer.members
            ]
            for line in lines
        ]
    return torch.stack([torch.stack(row) for row in rows]).float().log_softmax(-1).numpy()


def frozen_encoder():
    model = bert(**SMALL)
    model.bert.requires_grad_(False)
    return model


def own_head():
    model = bert(**SMALL)
    model.classifier = nn.Sequential(nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    return model


class Doubled(BertForSequenceClassification):
    """Another forward pass under the same names."""

    def forward(self, input_ids=None, attention_mask=None, labels=None, **inputs):
        outputs = super().forward(input_ids=input_ids, attention_mask=attention_mask, **inputs)
        outputs.logits = 2 * outputs.logits
        return outputs


class OwnLoss(BertForSequenceClassification):
    """A loss of its own; the same predictions, but nobody can know that of a forward pass."""

    def forward(self, input_ids=None, attention_mask=None, token_type_ids=None, labels=None):
        outputs = super().forward(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        if labels is not None:
            outputs["loss"] = nn.functional.multi_margin_loss(outputs.logits, labels)
        return outputs


class LongTexts(BertForSequenceClassification):
    """Predicts otherwise only where a text is longer than the few that are tried out."""

    def forward(self, input_ids=None, attention_mask=None, token_type_ids=None, labels=None):
        outputs = super().forward(input_ids, attention_mask, token_type_ids, labels=labels)
        if input_ids.shape[1] > 16:
            outputs.logits = -outputs.logits
        return outputs


class Named(BertForSequenceClassification):
    """Another name, and something to train with: nothing that predicts."""

    def __init__(self, config):
        super().__init__(config)
        self.steps = 0

    def count(self):
        self.steps += 1


def doubled():
    return Doubled(BertConfig(**{**CONFIG, **SMALL})).double()


def of_class(cls):
    return lambda: cls(BertConfig(**{**CONFIG, **SMALL})).double()


def scaled_buffer():
    """A buffer that no state dict has, with another value than a fresh model computes."""
    model = bert(**SMALL)
    model.bert.embeddings.token_type_ids.fill_(1)
    return model


def patched():
    model = bert(**SMALL)
    model.classifier.register_forward_hook(lambda module, inputs, output: output * 3)
    return model


def adapter():
    return get_peft_model(frozen_encoder(), LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"]))


@pytest.mark.parametrize("make_model", [frozen_encoder, adapter, scaled_buffer, of_class(Named)])
def test_a_model_that_its_config_describes_is_loaded_from_the_folder_alone(tmp_path, tokenizer, make_model):
    trainer = trained(tmp_path, tokenizer, seeded(make_model))
    trainer.save_model(str(tmp_path / "model"))
    classifier = deni.load(tmp_path / "model", "cpu")
    assert close(classifier.members(texts()), members_of(trainer, texts(), tokenizer), atol=1e-6)
    assert set(classifier.population.values) == set(trainer.population.values)


@pytest.mark.parametrize("make_model", [own_head, doubled, patched, of_class(OwnLoss), of_class(LongTexts)])
def test_a_model_of_ones_own_is_loaded_with_the_function_that_makes_it(tmp_path, tokenizer, make_model, caplog):
    with caplog.at_level(logging.WARNING):
        trainer = trained(tmp_path, tokenizer, seeded(make_model))
    assert sum("deni.load(folder, model_init=...)" in line for line in caplog.messages) == 1
    trainer.save_model(str(tmp_path / "model"))
    with pytest.raises(ArtifactError, match=r"deni\.load\(folder, model_init=\.\.\.\)") as caught:
        deni.load(tmp_path / "model")
    assert len(str(caught.value).splitlines()) == 1
    classifier = deni.load(tmp_path / "model", "cpu", model_init=make_model)
    assert close(classifier.members(texts()), members_of(trainer, texts(), tokenizer), atol=1e-6)


def test_another_model_than_the_saved_one_is_refused(tmp_path, tokenizer):
    trained(tmp_path, tokenizer, seeded(own_head)).save_model(str(tmp_path / "model"))
    with pytest.raises(ArtifactError, match=r"model_init makes another model than that .*classifier"):
        deni.load(tmp_path / "model", model_init=lambda: bert(**SMALL))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("with_adapter", [False, True])
def test_an_artifact_predicts_in_the_type_of_the_training(tmp_path, tokenizer, dtype, with_adapter):
    model = seeded(adapter if with_adapter else lambda: bert(**SMALL)).to(dtype)
    trainer = trained(tmp_path, tokenizer, model)
    trainer.save_model(str(tmp_path / "model"))
    classifier = deni.load(tmp_path / "model", "cpu")
    types = {name: value.dtype for name, value in classifier.population.values.items()}
    assert types == {name: value.dtype for name, value in trainer.population.values.items()}
    found, expected = classifier.members(texts()), members_of(trainer, texts(), tokenizer)
    # Batches round differently.
    assert close(found, expected, atol={torch.float64: 1e-6, torch.float32: 5e-6}.get(dtype, 6e-2))
    if dtype == torch.bfloat16:
        changed = deni.load(tmp_path / "model", "cpu", dtype=torch.float32)
        assert {value.dtype for value in changed.population.values.values()} == {torch.float32}
        assert not np.array_equal(changed.members(texts()), found)


def test_save_model_touches_no_file_of_anybody_else(tmp_path, tokenizer):
    folder = tmp_path / "out"
    mine = {
        "notes.txt": b"mine",
        "README.md": b"mine, too",
        "trainer_state.json": b"{}",
        "checkpoint-3/optimizer.pt": b"states",
        "logs/events": b"curves",
    }
    for name, content in mine.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    trained(tmp_path, tokenizer, seeded(adapter)).save_model()  # into `args.output_dir`, as with Trainer
    assert (folder / "adapter_config.json").exists()
    first = deni.load(folder, "cpu").members(texts())
    trainer = trained(tmp_path, tokenizer, seeded(lambda: bert(**SMALL)), DENI(members=3))
    trainer.save_model()
    assert {name: (folder / name).read_bytes() for name in mine} == mine
    assert not (folder / "adapter_config.json").exists()  # of the artifact that was there
    assert not list(folder.glob(".deni.*"))
    found = deni.load(folder, "cpu").members(texts())
    assert found.shape[1] != 0
    assert not np.array_equal(found, first)
    assert close(found, members_of(trainer, texts(), tokenizer), atol=1e-6)


@pytest.mark.filterwarnings("ignore:Could not find a config file:UserWarning")  # of PEFT, for a base without a name
def test_a_folder_with_files_of_another_model_is_read_as_what_was_saved_last(tmp_path, tokenizer):
    trained(tmp_path, tokenizer, seeded(adapter)).model.save_pretrained(tmp_path / "model")
    trainer = trained(tmp_path, tokenizer, seeded(lambda: bert(**SMALL)))
    trainer.save_model(str(tmp_path / "model"))
    assert (tmp_path / "model" / "adapter_config.json").exists()
    found = deni.load(tmp_path / "model", "cpu").members(texts())
    assert close(found, members_of(trainer, texts(), tokenizer), atol=1e-6)


def test_without_a_tokenizer_a_model_is_saved_and_loaded_with_one(tmp_path, tokenizer):
    rows = tokenized(texts(12), tokenizer)
    trainer = make(tmp_path, Default(), model=seeded(lambda: bert(**SMALL)), train=rows, args=FEW, data_collator=pad)
    trainer.train()
    trainer.save_model(str(tmp_path / "model"))
    with pytest.raises(ArtifactError, match=r"deni\.load\(folder, tokenizer=\.\.\.\)"):
        deni.load(tmp_path / "model")
    classifier = deni.load(tmp_path / "model", "cpu", tokenizer=tokenizer)
    assert close(classifier.members(texts()), members_of(trainer, texts(), tokenizer), atol=1e-6)


# ---- where texts are cut -------------------------------------------------------------------------------------------


def cut(lines, tokenizer, **options):
    return [{**tokenizer(line, **options), "labels": at % 3} for at, line in enumerate(lines)]


@pytest.mark.parametrize("forgotten", [False, True])
def test_longer_texts_are_cut_where_those_of_the_training_were(tmp_path, tokenizer, forgotten):
    """Also where the tokenizer does not know it any more, for texts were made into tokens by another process."""
    rows = cut(texts(16), tokenizer, truncation=True, max_length=5)
    if forgotten:
        tokenizer(texts(1)[0])
    trainer = make(
        tmp_path,
        DelayedEnsemble(members=2),
        model=seeded(lambda: bert(**SMALL)),
        train=rows,
        args=FEW,
        processing_class=tokenizer,
    )
    trainer.train()
    trainer.save_model(str(tmp_path / "model"))
    longer = [" ".join([*texts(1, seed)[0].split(), *WORDS[20:30]]) for seed in range(4)]
    expected = trainer.predict_members(cut(longer, tokenizer, truncation=True, max_length=5))
    classifier = deni.load(tmp_path / "model", "cpu")
    assert classifier.max_length == 5
    assert close(classifier.members(longer), expected, atol=1e-12)
    whole = trainer.predict_members(cut(longer, tokenizer))
    assert np.abs(whole - expected).max() > 1e-3


@pytest.mark.parametrize("max_length", [None, 7])
def test_texts_that_were_not_cut_are_not_unless_the_trainer_says_so(tmp_path, tokenizer, max_length):
    lines = [" ".join(WORDS[5 : 5 + length]) for length in (3, 4, 4, 5, 5, 6, 7, 8)]
    trainer = make(
        tmp_path,
        Default(),
        model=seeded(lambda: bert(**SMALL)),
        train=cut(lines, tokenizer),
        args=FEW,
        processing_class=tokenizer,
        max_length=max_length,
    )
    trainer.train()
    trainer.save_model(str(tmp_path / "model"))
    (longer,) = (" ".join(WORDS[10:25]),)
    expected = trainer.predict_members(
        cut([longer], tokenizer, **({"truncation": True, "max_length": 7} if max_length else {}))
    )
    assert close(deni.load(tmp_path / "model", "cpu").members([longer]), expected, atol=1e-12)


def test_a_second_training_finds_the_tokenizer_as_the_texts_left_it(tmp_path, tokenizer):
    rows = cut(["wordaf wordag", "wordah", "wordai wordaj wordak"] * 4, tokenizer, truncation=True, max_length=13)
    for folder in ("one", "two"):
        model = seeded(lambda: bert(**SMALL))
        trainer = make(tmp_path / folder, Default(), model=model, train=rows, args=FEW, processing_class=tokenizer)
        trainer.train()
        trainer.save_model()
        assert deni.load(tmp_path / folder / "out", "cpu").max_length == 13


# ---- checkpoints ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", [DENI(members=2), EMA(ema_decay=0.5)])
def test_every_checkpoint_is_a_model_that_predicts_what_its_evaluation_did(tmp_path, tokenizer, strategy):
    held_out, seen = tokenized(texts(5, seed=3), tokenizer), {}

    class Predict(TrainerCallback):
        def on_save(self, args, state, control, **_):
            seen[state.global_step] = trainer.predict_members(held_out)

    trainer = make(
        tmp_path,
        strategy,
        model=seeded(lambda: bert(**SMALL)),
        train=tokenized(texts(12), tokenizer),
        args={"max_steps": 20, "save_strategy": "steps", "save_steps": 5},
        processing_class=tokenizer,
        callbacks=[Predict],
    )
    trainer.train()
    assert sorted(seen) == [5, 10, 15, 20]
    for step, expected in seen.items():
        folder = tmp_path / "out" / f"checkpoint-{step}"
        assert torch.load(folder / "training_args.bin", weights_only=False).max_steps == 20
        assert close(deni.load(folder, "cpu").members(texts(5, seed=3)), expected, atol=1e-12)
    files = [tmp_path / "out" / f"checkpoint-{step}" / "base.safetensors" for step in seen]
    assert len({file.stat().st_ino for file in files}) == 1  # what members share is written once


def test_a_changed_buffer_is_written_anew(tmp_path, tokenizer):
    trainer = trained(tmp_path, tokenizer, seeded(lambda: bert(**SMALL)))
    trainer.save_model(str(tmp_path / "one"))
    trainer.save_model(str(tmp_path / "two"))
    (tmp_path / "two" / "base.safetensors").unlink()
    trainer.save_model(str(tmp_path / "three"))
    with trainer.population.plain() as plain:
        plain.bert.embeddings.word_embeddings.table.mul_(2)
    trainer.save_model(str(tmp_path / "four"))
    inodes = {name: (tmp_path / name / "base.safetensors").stat().st_ino for name in ("one", "three", "four")}
    assert len(set(inodes.values())) == 3
    assert close(
        deni.load(tmp_path / "four", "cpu").members(texts()), members_of(trainer, texts(), tokenizer), atol=1e-6
    )


# ---- the model of transformers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", [Default(), NoisyInterpolation(members=2), EMA(ema_decay=0.5)])
def test_a_checkpoint_of_one_member_is_a_model_of_transformers_too(tmp_path, tokenizer, strategy):
    held_out, seen, members = tokenized(texts(5, seed=3), tokenizer), {}, {}

    class Predict(TrainerCallback):
        def on_save(self, args, state, control, **_):
            seen[state.global_step] = trainer.predict_members(held_out)
            members[state.global_step] = trainer.population.size

    trainer = make(
        tmp_path,
        strategy,
        model=seeded(lambda: bert(**SMALL)),
        train=tokenized(texts(12), tokenizer),
        args={"max_steps": 20, "save_strategy": "steps", "save_steps": 5},
        processing_class=tokenizer,
        callbacks=[Predict],
    )
    trainer.train()
    trainer.save_model()
    for step, expected in seen.items():
        folder = tmp_path / "out" / f"checkpoint-{step}"
        assert (folder / "model.safetensors").exists() == (members[step] == 1)
        if members[step] > 1:
            continue
        model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float64).eval()
        rows = [model(torch.tensor([row["input_ids"]])).logits[0].log_softmax(-1) for row in held_out]
        assert close(torch.stack(rows).detach().numpy(), expected[:, 0], atol=1e-12)
        assert close(deni.load(folder, "cpu").members(texts(5, seed=3)), expected, atol=1e-12)
    saved, shown = load_file(tmp_path / "out" / "model.safetensors"), trainer.model.state_dict()
    if strategy.name != "ema":  # what is saved is the mean, what trained is shown
        assert all(torch.equal(saved[name], shown[name]) for name in saved)
        assert saved.keys() == shown.keys()


def test_an_adapter_is_saved_as_peft_saves_it_too(tmp_path, tokenizer):
    seeded(lambda: bert(**SMALL)).save_pretrained(tmp_path / "base")

    def adapted():
        base = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", dtype=torch.float64)
        config = LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"], modules_to_save=["classifier"])
        return get_peft_model(base, config)

    trainer = trained(tmp_path, tokenizer, seeded(adapted), Default())
    trainer.save_model()
    loaded = AutoPeftModelForSequenceClassification.from_pretrained(
        tmp_path / "out", num_labels=3, dtype=torch.float64
    ).eval()
    rows = [loaded(**{name: torch.tensor([value]) for name, value in tokenizer(line).items()}) for line in texts()]
    found = torch.stack([row.logits[0].log_softmax(-1) for row in rows]).detach().numpy()
    assert close(found, members_of(trainer, texts(), tokenizer)[:, 0], atol=1e-6)
    assert close(deni.load(tmp_path / "out", "cpu").members(texts())[:, 0], found, atol=1e-6)


def test_the_model_of_an_earlier_save_does_not_stay_next_to_several_members(tmp_path, tokenizer):
    trained(tmp_path, tokenizer, seeded(lambda: bert(**SMALL)), Default()).save_model()
    assert (tmp_path / "out" / "model.safetensors").exists()
    trained(tmp_path, tokenizer, seeded(lambda: bert(**SMALL))).save_model()
    assert not (tmp_path / "out" / "model.safetensors").exists()


class Normalized(BertForSequenceClassification):
    """Has running means, which members share."""

    def __init__(self, config):
        super().__init__(config)
        self.classifier = nn.Sequential(nn.BatchNorm1d(config.hidden_size), self.classifier)


@pytest.mark.parametrize("strategy", [Default(), DelayedEnsemble(members=2)])
def test_running_means_of_a_classifier_are_there_when_a_training_goes_on(tmp_path, tokenizer, strategy):
    def model():
        return Normalized(BertConfig(**{**CONFIG, **SMALL})).double()

    def train(folder, **options):
        args = {"max_steps": 20, "save_strategy": "steps", "save_steps": 19}
        rows = tokenized(texts(12), tokenizer)
        trainer = make(
            tmp_path / folder, strategy, model=seeded(model), train=rows, args=args, processing_class=tokenizer
        )
        trainer.train(**options)
        return trainer

    whole = train("whole")
    resumed = train("resumed", resume_from_checkpoint=str(tmp_path / "whole" / "out" / "checkpoint-19"))
    means = [
        dict(trainer.population.model.named_buffers())["classifier.0.running_mean"] for trainer in (whole, resumed)
    ]
    assert torch.equal(*means)
    assert means[0].abs().max() > 0


# ---- the hub -------------------------------------------------------------------------------------------------------

PUSH = """
import sys
import numpy as np
from deni.strategies import DelayedEnsemble
from tests.helpers.trainers import bert, make
from tests.training.test_saving import SMALL, new_tokenizer, seeded, texts, tokenized
from pathlib import Path
tokenizer, folder = new_tokenizer(), Path(sys.argv[1])
trainer = make(
    folder,
    DelayedEnsemble(members=2),
    model=seeded(lambda: bert(**SMALL)),
    train=tokenized(texts(12), tokenizer),
    args={
        "max_steps": 4, "save_strategy": "steps", "save_steps": 2, "push_to_hub": True, "hub_model_id": "someone/model",
        "hub_strategy": "checkpoint", "hub_token": "hf_x", "hub_always_push": True,
    },
    processing_class=tokenizer,
)
trainer.train()
trainer.push_to_hub()
np.save(folder / "expected.npy", trainer.predict_members(tokenized(texts(), tokenizer)))
"""


def test_a_push_holds_all_that_loading_needs(tmp_path):
    repositories = {}
    with HubServer(repositories) as server:
        environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
        own = {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": "1"}
        done = subprocess.run(
            [sys.executable, "-c", PUSH, str(tmp_path)],
            env={**environment, **own},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    for name, content in repositories["someone/model"].items():
        file = tmp_path / "pulled" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    expected = np.load(tmp_path / "expected.npy")
    for folder in ("", "last-checkpoint"):
        assert close(deni.load(tmp_path / "pulled" / folder, "cpu").members(texts()), expected, atol=1e-12)


def test_a_model_that_cannot_be_saved_where_it_should_is_in_the_temporary_directory(tmp_path, small_disk, monkeypatch):
    """As a script's last line has it; a checkpoint is not kept so, since the training goes on."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    disk = small_disk("1m")
    trainer = make(tmp_path, model=bert(**SMALL), args=FEW, processing_class=new_tokenizer())
    trainer.train()
    disk.fill()
    with pytest.raises(SavedElsewhereError, match=r"No space left on device.*`deni predict .* FILE`") as caught:
        trainer.save_model(str(disk.folder / "model"))
    vote = deni.load(caught.value.path).predict_log_probabilities(["worda wordb"])
    disk.close()
    trainer.save_model(str(tmp_path / "model"))
    assert np.array_equal(vote, deni.load(tmp_path / "model").predict_log_probabilities(["worda wordb"]))
