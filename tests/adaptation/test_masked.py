"""Masked language modelling against a loop that is written by hand."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import get_linear_schedule_with_warmup

from deni.adaptation.masked import MaskedLanguageModel
from deni.adaptation.trainer import AdaptationTrainer, make_arguments, order_of
from deni.models.loading import load_masked_model, load_tokenizer
from deni.randomness import Sources


@pytest.fixture
def objective(masked_folder):
    return MaskedLanguageModel(load_tokenizer(masked_folder))


def without_dropout(folder):
    model, missing = load_masked_model(folder)
    assert not missing
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "dropout_prob"):  # of transformers 4, in attention
            module.dropout_prob = 0.0
    return model


def test_the_loss_is_the_mean_cross_entropy_of_hidden_tokens(objective, masked_folder, texts):
    model = without_dropout(masked_folder).eval()
    batch = objective.collate(objective.rows(texts[:9], 20), seed=5)
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    hidden = batch["labels"] != -100
    expected = F.cross_entropy(logits[hidden], batch["labels"][hidden])
    assert objective.loss(model, batch).item() == pytest.approx(expected.item(), abs=1e-6)
    assert objective.weight(batch) == int(hidden.sum())


def test_training_equals_a_loop_by_hand(objective, masked_folder, texts, tmp_path):
    rows = objective.rows(texts, 20)
    order = order_of([len(row["input_ids"]) for row in rows], 16, 1, 100, Sources(3))
    args = make_arguments(tmp_path / "checkpoints", len(order), 16, 2e-3, 3, False, torch.device("cpu"))
    args.load_best_model_at_end, args.save_strategy = False, "no"
    trainer = AdaptationTrainer(without_dropout(masked_folder), args, objective, rows, order, rows[:4], {}, (), False)
    batches = list(trainer.get_train_dataloader())
    trainer.train()

    model = without_dropout(masked_folder)
    decayed = [each for name, each in model.named_parameters() if "bias" not in name and "LayerNorm" not in name]
    others = [each for name, each in model.named_parameters() if "bias" in name or "LayerNorm" in name]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0}], 2e-3
    )
    schedule = get_linear_schedule_with_warmup(optimizer, int(np.ceil(0.06 * len(order))), len(order))
    model.train()
    assert [len(batch["input_ids"]) for batch in batches] == [16] * 7
    for batch in batches:
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        loss = F.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten(), ignore_index=-100)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    trained = dict(trainer.model.named_parameters())
    start = dict(without_dropout(masked_folder).named_parameters())
    for name, value in model.named_parameters():
        torch.testing.assert_close(trained[name], value, rtol=0, atol=1e-6)
    moved = [name for name, value in trained.items() if not torch.equal(value, start[name])]
    assert len(moved) == len(start)


def test_about_15_percent_of_the_tokens_are_hidden_and_no_special_one(objective, texts):
    rows = objective.rows(texts, 20)
    plain = objective.tokenizer.pad([{"input_ids": row["input_ids"]} for row in rows], return_tensors="pt")["input_ids"]
    labels = torch.stack([objective.collate(rows, seed)["labels"] for seed in range(30)])
    hidden = labels != -100
    special = torch.isin(plain, torch.tensor([0, 2, 3]))
    assert not hidden[:, special].any()
    assert (labels == plain)[hidden].all()
    assert hidden[:, ~special].float().mean().item() == pytest.approx(0.15, abs=0.01)


def test_masks_depend_on_the_seed_alone(objective, texts):
    rows, before = objective.rows(texts[:8], 20), torch.get_rng_state()
    one, again, other = (objective.collate(rows, seed)["input_ids"] for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(before, torch.get_rng_state())


def test_a_batch_of_short_texts_has_a_hidden_token(objective):
    rows = objective.rows(["bill"], 20)
    assert all(objective.weight(objective.collate(rows, seed)) == 1 for seed in range(20))


def test_a_text_without_tokens_is_left_out(objective):
    assert [row["input_ids"] for row in objective.rows(["a", " ", "b"], 20)] == [
        objective.tokenizer(text)["input_ids"] for text in ("a", "b")
    ]
