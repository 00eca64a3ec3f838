"""`trainer.model` after a training, compared with models that plain transformers loads or that are averaged by hand."""

import copy

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForSequenceClassification,
    BertForSequenceClassification,
    PreTrainedTokenizerFast,
    Trainer,
    pipeline,
)

from deni.errors import SettingError
from deni.strategies import DelayedEnsemble
from deni.strategies.default import Default
from deni.strategies.ensemble import Ensemble
from tests.helpers.trainers import make, pad, padded, seeded

FEW = {"num_train_epochs": 1, "max_steps": 6}


def small():
    return seeded(num_hidden_layers=1, hidden_size=16, intermediate_size=16)


def adapted():
    config = LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "value"])
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return get_peft_model(small(), config)


def trained(tmp_path, strategy, **options):
    options.setdefault("model", None if "model_init" in options else small())
    trainer = make(tmp_path, strategy, train=padded(16), args=FEW, data_collator=pad, **options)
    trainer.train()
    return trainer


def batch(rows=5):
    return pad(padded(rows, seed=9))


def outputs(model, **inputs):
    with torch.no_grad():
        return model(**inputs)


def mean_of(members):
    """The mean of plain models, parameter by parameter."""
    result = copy.deepcopy(members[0])
    others = [dict(member.named_parameters()) for member in members]
    with torch.no_grad():
        for name, parameter in result.named_parameters():
            parameter.copy_(torch.stack([other[name] for other in others]).mean(0))
    return result


@pytest.mark.parametrize("make_model", [small, adapted])
@pytest.mark.parametrize("by", ["model", "model_init"])
def test_after_a_fork_the_model_is_the_mean_of_the_members(tmp_path, make_model, by):
    model = make_model()
    given = {"model": model} if by == "model" else {"model_init": make_model}
    trainer = trained(tmp_path, DelayedEnsemble(members=3), **given)
    before = trainer.predict_members(padded(5, seed=9))
    assert len(trainer.members) == 3
    assert type(trainer.model) is type(model)
    if by == "model":
        assert trainer.model is model  # as with Trainer
    assert trainer.model.state_dict().keys() == make_model().state_dict().keys()
    found, expected = outputs(trainer.model, **batch()), outputs(mean_of(list(trainer.members)), **batch())
    assert found.logits.shape == (5, 3)
    torch.testing.assert_close(found.logits, expected.logits)
    torch.testing.assert_close(found.loss, expected.loss)
    for at, member in enumerate(trainer.members):
        alone = outputs(member, **batch()).logits.log_softmax(-1)
        torch.testing.assert_close(alone, torch.from_numpy(before[:, at]))
    assert np.ptp(before, axis=1).max() > 1e-3
    assert np.array_equal(trainer.predict_members(padded(5, seed=9)), before)


def test_one_member_is_the_model_that_was_given(tmp_path):
    model = small()
    trainer = trained(tmp_path, Default(), model=model)
    assert trainer.model is model
    assert type(model.bert.embeddings.word_embeddings) is torch.nn.Embedding
    evaluates = Trainer(model, trainer.args, data_collator=pad)
    expected = evaluates.predict(padded(5, seed=9)).predictions
    votes = trainer.predict(padded(5, seed=9)).predictions
    assert np.allclose(votes, torch.from_numpy(expected).log_softmax(-1), atol=1e-12)


@pytest.mark.parametrize("strategy", [Default(), DelayedEnsemble(members=2)])
def test_save_pretrained_writes_what_transformers_loads(tmp_path, strategy):
    trainer = trained(tmp_path, strategy)
    trainer.model.save_pretrained(tmp_path / "plain")
    loaded, report = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "plain", dtype=torch.float64, output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    expected = mean_of(list(trainer.members))
    torch.testing.assert_close(outputs(loaded, **batch()).logits, outputs(expected, **batch()).logits)


@pytest.mark.filterwarnings("ignore:Could not find a config file:UserWarning")  # of PEFT, for a base without a name
def test_an_adapter_is_saved_and_merged_while_the_members_go_on_voting(tmp_path):
    trainer = trained(tmp_path, DelayedEnsemble(members=2), model=adapted())
    votes = trainer.predict(padded(5, seed=9)).predictions
    trainer.model.save_pretrained(tmp_path / "adapter")
    read = PeftModel.from_pretrained(small(), str(tmp_path / "adapter")).eval()
    expected = outputs(mean_of(list(trainer.members)), **batch()).logits
    torch.testing.assert_close(outputs(read, **batch()).logits, expected)
    merged = trainer.model.merge_and_unload()
    assert type(merged) is BertForSequenceClassification
    torch.testing.assert_close(outputs(merged, **batch()).logits, expected)
    assert np.array_equal(trainer.predict(padded(5, seed=9)).predictions, votes)


@pytest.mark.parametrize(("strategy", "seeds"), [(Ensemble(members=2), None), (Default(), [0, 1])])
def test_independent_runs_vote_and_refuse_to_be_one_model(tmp_path, strategy, seeds):
    trainer = trained(tmp_path, strategy, model_init=small, seeds=seeds)
    each = torch.stack([outputs(member, **batch()).logits.softmax(-1) for member in trainer.members])
    found = trainer.model(**batch())
    torch.testing.assert_close(found.logits.exp(), each.mean(0))
    assert found.loss.isfinite()
    for name in ("save_pretrained", "push_to_hub", "merge_and_unload", "state_dict"):
        with pytest.raises(SettingError, match=r"trainer\.members"):
            getattr(trainer.model, name)(str(tmp_path / "no"))
    assert len(trainer.members[:]) == 2
    assert type(trainer.members[-1]) is BertForSequenceClassification


@pytest.mark.parametrize("strategy", [DelayedEnsemble(members=2), Ensemble(members=2)])
def test_a_pipeline_takes_the_model(tmp_path, strategy):
    words = {f"w{at}": at for at in range(60)}
    plain = Tokenizer(models.WordLevel(words, unk_token="w1"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="w0", unk_token="w1")
    trainer = trained(tmp_path, strategy, model_init=small, processing_class=tokenizer)
    classify = pipeline("text-classification", model=trainer.model, tokenizer=tokenizer, device="cpu", top_k=None)
    (found,) = classify(["w5 w9 w7"])
    ids = torch.tensor([[5, 9, 7]])
    if strategy.runs > 1:
        expected = torch.stack([outputs(each, input_ids=ids).logits.softmax(-1) for each in trainer.members]).mean(0)
    else:
        expected = outputs(mean_of(list(trainer.members)), input_ids=ids).logits.softmax(-1)
    scores = {each["label"]: each["score"] for each in found}
    assert [scores[f"LABEL_{at}"] for at in range(3)] == pytest.approx(expected[0].tolist(), abs=1e-6)


def test_a_second_training_goes_on_from_the_first(tmp_path):
    model = small()
    trainer = trained(tmp_path, Default(), model=model)
    first = {name: value.clone() for name, value in model.state_dict().items()}
    trainer.train()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, first[name])}
    assert "classifier.weight" in moved
    assert trainer.model is model
    expected = trainer.predict_members(padded(5, seed=9))[:, 0]
    torch.testing.assert_close(outputs(model, **batch()).logits.log_softmax(-1), torch.from_numpy(expected))
