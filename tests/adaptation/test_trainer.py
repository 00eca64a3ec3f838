"""The order of texts, the loss on those held out, and what of Trainer is overridden."""

import pytest
import torch
from torch.nn import functional as F
from transformers import Trainer

from deni.adaptation.masked import MaskedLanguageModel
from deni.adaptation.starting import start_from
from deni.adaptation.trainer import AdaptationTrainer, make_arguments, order_of
from deni.randomness import Sources, global_generators


def test_each_epoch_has_each_text_at_most_once_in_a_new_order():
    order = order_of([9] * 50, 8, 3, 1000, Sources(0))
    assert [[number for number, _ in batch] for batch in order] == [[number] * 8 for number in range(18)]
    epochs = [[row for batch in order[start : start + 6] for _, row in batch] for start in (0, 6, 12)]
    assert all(len(set(rows)) == 48 and set(rows) <= set(range(50)) for rows in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert order == order_of([9] * 50, 8, 3, 1000, Sources(0)) != order_of([9] * 50, 8, 3, 1000, Sources(1))


def test_texts_of_a_batch_are_of_like_length():
    lengths = [3 + number * 7919 % 60 for number in range(640)]
    batches = [[lengths[row] for _, row in batch] for batch in order_of(lengths, 32, 1, 1000, Sources(0))]
    assert sum(max(batch) - min(batch) for batch in batches) / len(batches) < 16  # in any order it is about 57
    assert sorted(length for batch in batches for length in batch) == sorted(lengths)
    longest = [max(batch) for batch in batches]
    assert longest != sorted(longest)  # the batches themselves are in any order


def test_there_are_no_more_steps_than_asked_for_and_at_least_one():
    assert order_of([9] * 50, 8, 3, 10, Sources(0)) == order_of([9] * 50, 8, 3, 1000, Sources(0))[:10]
    assert len(order_of([9] * 50, 8, 0.01, 10, Sources(0))) == 1


def test_the_held_out_loss_is_the_same_each_time_and_draws_from_no_generator(sentence_folder, texts, tmp_path):
    start = start_from(sentence_folder)
    rows = start.objective.rows(texts, 20)
    args = make_arguments(tmp_path / "checkpoints", 4, 8, 1e-3, 0, False, torch.device("cpu"))
    order = order_of([9] * 100, 8, 1, 4, Sources(0))
    trainer = AdaptationTrainer(start.model, args, start.objective, rows[:100], order, rows[100:], {}, (), False)
    start.model.eval()
    before = torch.get_rng_state()
    first, second = trainer.held_out_loss(), trainer.held_out_loss()
    assert first == second
    assert torch.equal(before, torch.get_rng_state())
    assert not start.model.training


def test_the_held_out_loss_is_the_mean_over_all_hidden_tokens(masked_folder, texts, tmp_path):
    start = start_from(masked_folder)
    assert isinstance(start.objective, MaskedLanguageModel)
    rows = start.objective.rows(texts, 20)
    args = make_arguments(tmp_path / "checkpoints", 4, 8, 1e-3, 0, False, torch.device("cpu"))
    order = order_of([9] * 100, 8, 1, 4, Sources(0))
    trainer = AdaptationTrainer(start.model, args, start.objective, rows[:100], order, rows[100:], {}, (), False)
    assert sum(len(batch["labels"]) for batch in trainer.held_out) == 20
    losses = []
    with torch.no_grad():
        for batch in trainer.held_out:
            logits = start.model.eval()(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
            hidden = batch["labels"] != -100
            chances = logits[hidden].log_softmax(-1)
            losses += (-chances[torch.arange(len(chances)), batch["labels"][hidden]]).tolist()
    torch.testing.assert_close(trainer.held_out_loss(), sum(losses) / len(losses), rtol=0, atol=1e-6)


def test_in_bfloat16_the_held_out_loss_is_that_of_a_step_before_and_while_it_trains(sentence_folder, texts, tmp_path):
    start = start_from(sentence_folder)
    rows = start.objective.rows(texts, 20)
    args = make_arguments(tmp_path / "checkpoints", 2, 50, 1e-12, 0, True, torch.device("cpu"))
    order = [[(step, row) for row in range(50)] for step in range(2)]
    trainer = AdaptationTrainer(start.model, args, start.objective, rows[:50], order, rows[:50], {}, (), False)
    trainer.held_out = [next(iter(trainer.get_train_dataloader()))]
    before = trainer.held_out_loss()
    with torch.no_grad(), global_generators(trainer._seed), torch.autocast("cpu", torch.bfloat16):
        vectors = start.objective.vectors(start.model.train(), trainer.held_out[0])
    one, other = F.normalize(vectors.float(), dim=1).chunk(2)
    expected = F.cross_entropy(one @ other.T / 0.05, torch.arange(50)).item()
    assert before == pytest.approx(expected, abs=1e-4)  # vectors in bfloat16, the loss in float32
    trainer.train()
    assert [line["eval_loss"] for line in trainer.state.log_history if "eval_loss" in line] == [before, before]


def test_what_is_overridden_is_a_hook_of_trainer():
    private = {name for name in vars(AdaptationTrainer) if name.startswith("_") and not name.startswith("__")}
    assert private
    assert all(callable(getattr(Trainer, name)) for name in private)
