"""Log-likelihoods of answers: of every kind of output layer, in parts, and trained members against plain PyTorch."""

import copy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM, TrainingArguments

from deni.engine import answers
from deni.engine.answers import ANSWERS, COUNTED, HIT, LIKELIHOOD, answer
from deni.strategies import Default, DelayedEnsemble, Ensemble
from deni.training.compat import renamed
from deni.training.trainer import PopulationTrainer
from tests.helpers.generators import (
    MODELS,
    answered_rows,
    check_against_plain_pytorch,
    collate_answers,
    make_generator,
    plain_loss,
    with_lora,
)

ENCODER_DECODER = ("t5", "bart")


def asked(model, batch):
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    return model(**inputs, **{ANSWERS: batch["labels"]}).logits


def batch_for(name, count=4, seed=1):
    return collate_answers(answered_rows(count, seed, name not in ENCODER_DECODER))


@pytest.mark.parametrize("name", MODELS)
def test_likelihoods_and_gradients_are_those_of_all_logits(name, monkeypatch):
    model, batch = make_generator(name), batch_for(name)
    trained = list(model.parameters())
    expected = plain_loss(model, batch)
    gradients = torch.autograd.grad(expected, trained, allow_unused=True)
    answer(model)
    for part in (2**25, 500):  # in one part, and in several, which are computed again
        monkeypatch.setattr(answers, "PART", part)
        found = asked(model, batch)
        loss = -found[..., LIKELIHOOD].sum() / found[..., COUNTED].sum()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
        for one, other in zip(torch.autograd.grad(loss, trained, allow_unused=True), gradients, strict=True):
            assert (one is None) == (other is None)
            assert one is None or torch.allclose(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_a_hit_is_a_label_that_is_the_likeliest_token(name):
    model, batch = make_generator(name).eval(), batch_for(name)
    labels = batch["labels"]
    more = {} if name == "llama" else {"decoder_input_ids": model.prepare_decoder_input_ids_from_labels(labels)}
    likeliest = model(**{**batch, **more, "labels": None}).logits.argmax(-1)
    if name == "llama":
        likeliest = torch.cat([torch.full((len(labels), 1), -1), likeliest[:, :-1]], 1)
    answer(model)
    wanted, batch = torch.where(labels == -100, labels, likeliest), {**batch, **more}
    assert asked(model, {**batch, "labels": wanted})[..., HIT].sum() == (labels != -100).sum()
    assert asked(model, batch)[..., HIT].equal(((likeliest == labels) & (labels != -100)).double())


def test_the_first_token_of_a_causal_model_does_not_count_and_one_without_a_label_neither():
    model, batch = make_generator("llama"), batch_for("llama")
    batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    expected = model(**batch).loss
    answer(model)
    found = asked(model, batch)
    assert found[:, 0].eq(0).all()
    assert found[..., COUNTED].sum() == batch["attention_mask"].sum() - len(found)
    assert (-found[..., LIKELIHOOD].sum() / found[..., COUNTED].sum()).item() == pytest.approx(
        expected.item(), rel=1e-6
    )
    nothing = asked(model, {**batch, "labels": torch.full_like(batch["labels"], -100)})
    assert nothing.eq(0).all()


def test_with_plain_labels_and_in_generating_the_model_is_as_it_was():
    model, batch = make_generator("llama").eval(), batch_for("llama")
    before, ids = model(**batch), batch["input_ids"][:1, :3]
    generated = model.generate(ids, max_new_tokens=4, do_sample=False)
    answer(model)
    after = model(**batch)
    assert after.loss.equal(before.loss)
    assert after.logits.equal(before.logits)
    assert model.generate(ids, max_new_tokens=4, do_sample=False).equal(generated)
    assert copy.deepcopy(model)(**batch).loss.equal(before.loss)


class Largest(TorchDispatchMode):
    """The most elements of any tensor over the vocabulary, but for weights."""

    def __init__(self, model):
        super().__init__()
        self.vocabulary, self.elements = model.config.vocab_size, 0
        self.weights = {each.untyped_storage().data_ptr() for each in model.parameters()}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for each in tree_leaves(out):
            over = isinstance(each, torch.Tensor) and each.dim() > 1 and each.shape[-1] == self.vocabulary
            if over and each.untyped_storage().data_ptr() not in self.weights:
                self.elements = max(self.elements, each.numel())
        return out


@pytest.mark.parametrize("name", ["llama", "gemma2", "t5", "bart"])
def test_no_more_logits_are_there_than_those_of_a_part(name, monkeypatch):
    model, batch = with_lora(make_generator(name), name), batch_for(name, count=8)
    most = int((batch["labels"] != -100).sum(1).max())
    answer(model)
    for part, tokens in ((2**25, most), (8 * 60 * 2, 2)):
        monkeypatch.setattr(answers, "PART", part)
        with Largest(model) as largest:
            asked(model, batch)[..., LIKELIHOOD].sum().backward()
        assert largest.elements == 8 * tokens * 60
    with Largest(model) as largest:
        plain_loss(model, batch).backward()
    assert largest.elements >= 8 * (batch["labels"].shape[1] - 1) * 60 > 8 * 2 * 60


# ---- members, trained ------------------------------------------------------------------------------------------------

RATE = 0.2


def trainer_of(folder, name, strategy=None, engine="auto", lora=False, args=None, dropout=0.0):
    settings = {
        "num_train_epochs": 1,
        "per_device_train_batch_size": 4,
        "learning_rate": RATE,
        "lr_scheduler_type": "constant",
        "optim": "sgd",
        "report_to": [],
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_strategy": "no",
        "use_cpu": True,
        "max_grad_norm": 0.0,
        **(args or {}),
    }

    def made():
        model = make_generator(name, seed=0 if lora else int(torch.randint(1000, ())), dropout=dropout > 0)
        return with_lora(model, name, seed=int(torch.randint(1000, ())), dropout=dropout) if lora else model

    return PopulationTrainer(
        args=TrainingArguments(str(folder), **settings),
        model_init=made,
        train_dataset=answered_rows(12, causal=name not in ENCODER_DECODER),
        data_collator=collate_answers,
        strategy=strategy or Default(),
        engine=engine,
        task="generation",
    )


STACKED = [(name, lora) for name in ("llama", "gpt2", "qwen2", "gemma2", "t5", "bart") for lora in (False, True)]


@pytest.mark.parametrize(("name", "lora"), STACKED)
def test_members_are_those_that_plain_pytorch_trains_one_by_one(tmp_path, name, lora):
    rows = answered_rows(12, causal=name not in ENCODER_DECODER)
    loop = not lora and name in ENCODER_DECODER  # their positions are computed without the axis of rows
    ours = trainer_of(tmp_path, name, Ensemble(members=2), "auto" if loop else "stacked", lora)
    ours.train()
    assert ours.engine_plan.engine == ("loop" if loop else "stacked")
    check_against_plain_pytorch(ours, rows, RATE, 1e-10 if name in ("gpt2", "bart") else 1e-5)


@pytest.mark.parametrize("name", ["llama", "bart"])
def test_the_sequential_engine_trains_the_same_members(tmp_path, name):
    trained = []
    for engine in ("stacked", "loop"):
        ours = trainer_of(tmp_path, name, DelayedEnsemble(members=3, variance=0.1), engine, lora=True)
        ours.train()
        trained.append(ours.population.values)
    assert not trained[0].keys() ^ trained[1].keys()
    for key, value in trained[0].items():
        assert torch.allclose(value, trained[1][key], rtol=1e-9, atol=1e-12), key
        assert not value[0].equal(value[1])


@pytest.mark.parametrize("engine", ["stacked", "loop"])
def test_a_batch_in_parts_counts_each_token_alike(tmp_path, engine):
    parts = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    ours = trainer_of(tmp_path, "llama", Ensemble(members=2), engine, lora=True, args=parts)
    ours.train()
    check_against_plain_pytorch(ours, answered_rows(12), RATE)


@pytest.mark.parametrize("lora", [False, True])
def test_tied_embeddings_stay_tied_through_fork_merge_and_file(tmp_path, lora):
    ours = trainer_of(tmp_path, "qwen2", DelayedEnsemble(members=2, variance=0.1), lora=lora)
    ours.train()
    table = "model.embed_tokens.weight"
    assert not any("lm_head" in key for key in ours.population.values)
    for model in (ours.members[1], ours.model):
        plain = model.get_base_model() if lora else model
        assert plain.lm_head.weight is plain.get_input_embeddings().weight
    if not lora:
        mean = ours.population.values[table].mean(0)
        ours.model.save_pretrained(tmp_path / "one")
        saved = AutoModelForCausalLM.from_pretrained(tmp_path / "one", dtype=torch.float64)
        assert saved.lm_head.weight is saved.model.embed_tokens.weight
        assert torch.allclose(saved.model.embed_tokens.weight, mean, rtol=1e-12)


def test_dropout_and_gradient_checkpointing_give_the_same_members_in_both_engines(tmp_path):
    trained = []
    for engine, checkpointing in (("stacked", False), ("loop", False), ("stacked", True)):
        args = renamed({"gradient_checkpointing": checkpointing})
        strategy = DelayedEnsemble(members=2, variance=0.1)
        ours = trainer_of(tmp_path, "gpt2", strategy, engine, lora=True, args=args, dropout=0.5)
        ours.train()
        trained.append(ours.population.values)
    for other in trained[1:]:
        assert all(torch.allclose(value, other[key], rtol=1e-9, atol=1e-12) for key, value in trained[0].items())
