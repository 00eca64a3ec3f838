"""Training the active rows of an embedding equals training the whole table."""

import copy

import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset
from torch import nn
from transformers import AutoTokenizer, DataCollatorWithPadding, TrainingArguments, default_data_collator
from transformers.trainer_utils import RemoveColumnsCollator

from deni.engine.active_tokens import ActiveEmbedding, activate, moves_own_rows_only, token_ids
from deni.engine.layers import _looked_up
from deni.noise import Noise
from deni.population import Population
from deni.randomness import Sources, generator
from deni.schedule import Fork

ACTIVE = torch.tensor([2, 5, 7, 11])
OPTIMIZERS = {
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01),
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
}


def table(padding=None):
    plain = nn.Embedding(13, 4, padding_idx=padding, dtype=torch.float64)
    with torch.no_grad():
        plain.weight.copy_(torch.randn(13, 4, generator=generator(0), dtype=torch.float64))
    return plain


def drawn(step, of=ACTIVE):
    return of[torch.randint(len(of), (3, 6), generator=generator(step))]


def train(embedding, optimizer, ids):
    """The gradients after each step."""
    step, seen = optimizer(embedding.parameters()), []
    for at, each in enumerate(ids):
        step.zero_grad()
        target = torch.randn(*each.shape, 4, generator=generator(100 + at), dtype=torch.float64)
        F.mse_loss(embedding(each).tanh(), target).backward()
        seen.append(embedding.weight.grad.clone())
        step.step()
    return seen


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_active_rows_train_as_in_the_whole_table(optimizer):
    plain = table()
    active = ActiveEmbedding(plain, ACTIVE)
    plain = copy.deepcopy(plain)
    ids = [drawn(step) for step in range(6)]
    whole, rows = train(plain, optimizer, ids), train(active, optimizer, ids)
    for full, part in zip(whole, rows, strict=True):
        assert torch.equal(full[ACTIVE], part)
        assert full.count_nonzero() == part.count_nonzero() > 0
    assert torch.equal(active.full(active.weight.detach()), plain.weight)
    everything = torch.arange(13)
    assert torch.equal(active(everything), plain(everything))


def test_other_ids_come_from_the_frozen_table():
    plain = table()
    before = plain.weight.detach().clone()
    active = ActiveEmbedding(plain, ACTIVE)
    train(active, OPTIMIZERS["adam"], [drawn(step) for step in range(3)])
    others = torch.tensor([[0, 1, 3], [4, 6, 12]])
    assert torch.equal(active(others), before[others])
    assert not torch.equal(active(ACTIVE), before[ACTIVE])


def test_ids_that_are_not_active_get_no_gradient():
    active = ActiveEmbedding(table(), ACTIVE)
    active(torch.tensor([[0, 1, 12]])).sum().backward()
    assert torch.equal(active.weight.grad, torch.zeros(4, 4, dtype=torch.float64))


def test_the_row_of_the_padding_never_moves():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = table(padding=5)

        def get_input_embeddings(self):
            return self.embedding

    model = Model()
    plain = copy.deepcopy(model.embedding)
    assert activate(model, torch.tensor([11, 2, 7, 5, 2])) == ["embedding.weight"]
    assert model.embedding.ids.tolist() == [2, 7, 11]
    ids = [drawn(step) for step in range(4)]
    assert any((each == 5).any() for each in ids)
    train(plain, OPTIMIZERS["adam"], ids)
    train(model.embedding, OPTIMIZERS["adam"], ids)
    assert torch.equal(model.embedding.full(model.embedding.weight.detach()), plain.weight)
    assert torch.equal(model.embedding.table[5], plain.weight[5])


def test_gradients_of_stacked_tables_are_those_of_autograd_to_the_bit():
    """Over steps with other ids, in several passes, and after somebody has written into the rows of other ids."""
    draw = generator(1)
    plain = nn.Parameter(torch.randn(3, 50, 8, generator=draw))
    ours = nn.Parameter(plain.detach().clone())
    buffers = set()
    for step, passes in enumerate((1, 1, 2, 1)):
        ours.spare, ours.grad, plain.grad = ours.grad, None, None
        for _ in range(passes):
            ids = torch.randint(0, 50, (3, 4, 9), generator=draw)
            factor = torch.randn(3, 4, 9, 8, generator=draw)
            theirs = torch.stack([F.embedding(each, weight) for each, weight in zip(ids, plain, strict=True)])
            looked_up = _looked_up(ids, ours)
            assert torch.equal(looked_up, theirs)
            (looked_up * factor).sum().backward()
            (theirs * factor).sum().backward()
        assert torch.equal(ours.grad, plain.grad), step
        buffers.add(ours.grad.data_ptr())
        ours.grad.add_(1)  # as a callback may
    assert len(buffers) == 1  # the memory of the first step is all that is used


@pytest.mark.parametrize("ids", [torch.tensor([], dtype=torch.long), torch.tensor([0])], ids=["none", "padding"])
def test_without_an_active_id_the_whole_table_stays(tiny, batch, ids):
    """BERT's id 0 is its padding, which never trains."""
    model = tiny("bert")
    expected = copy.deepcopy(model).eval()(batch()["input_ids"]).logits
    assert activate(model, ids) == []
    assert torch.equal(model.eval()(batch()["input_ids"]).logits, expected)


def frozen(model):
    model.get_input_embeddings().weight.requires_grad_(False)


def tied(model):
    model.output = nn.Linear(32, 60, bias=False)
    model.output.weight = model.get_input_embeddings().weight


def renormalised(model):
    model.get_input_embeddings().max_norm = 1.0


def scaled_by_frequency(model):
    model.get_input_embeddings().scale_grad_by_freq = True


def hooked(model):
    model.get_input_embeddings().register_forward_hook(lambda module, inputs, output: 2 * output)


@pytest.mark.parametrize("change", [frozen, tied, renormalised, scaled_by_frequency, hooked])
def test_an_embedding_for_which_it_would_not_be_exact_stays_whole(tiny, change):
    model = tiny("bert")
    change(model)
    embedding = model.get_input_embeddings()
    assert activate(model, ACTIVE) == []
    assert model.get_input_embeddings() is embedding


@pytest.mark.parametrize("engine", ["loop", "stacked"])
def test_members_with_active_rows_equal_members_with_whole_tables(tiny, batch, engine):
    """In training on active ids and, afterwards, on texts with other ids."""
    data = batch(rows=6, tokens=9)
    inputs = {key: value for key, value in data.items() if key != "labels"}
    others = {**inputs, "input_ids": (inputs["input_ids"] + 17) % 60}
    members, logits = [], []
    for active in (True, False):
        model = tiny("roberta")
        if active:
            names = activate(model, inputs["input_ids"].unique())
            assert names == ["roberta.embeddings.word_embeddings.weight"]
        population = Population(model, [Sources(3)], engine)
        population.module.train()
        population.fork(3, Fork(noise=Noise(variance=0.1, scope="head")))
        views = [view for each in population.views.values() for view in each]
        optimizer = torch.optim.Adam(views, lr=1e-3, eps=1e-6)
        for _ in range(3):
            population.module.zero_grad()
            for chunk in population.module.chunks:
                population.module.focus(chunk)
                out = population.module(**population.module.fold(inputs)).logits
                (F.cross_entropy(out, data["labels"].repeat(len(chunk))) * len(chunk)).backward()
            population.module.collect()
            optimizer.step()
        members.append([population.member(member) for member in range(3)])
        population.module.eval()
        parts = []
        with torch.no_grad():
            for chunk in population.module.chunks:
                population.module.focus(chunk)
                parts.append(population.module(**population.module.fold(others)).logits)
        logits.append(torch.cat(parts))
    for ours, whole in zip(*members, strict=True):
        assert ours.keys() == whole.keys()
        assert max(float((ours[name] - whole[name]).abs().max()) for name in whole) < 1e-12
    assert float((logits[0] - logits[1]).abs().max()) < 1e-12
    assert not torch.equal(
        members[0][0]["roberta.embeddings.word_embeddings.weight"],
        members[0][1]["roberta.embeddings.word_embeddings.weight"],
    )


class Replaces(DataCollatorWithPadding):
    """As a user's: puts the mask token in the place of some ids."""


class Wraps:
    """Has a known collator, and does something to what it gives."""

    def __init__(self, collator):
        self.data_collator = collator

    def __call__(self, features):
        return self.data_collator(features)


def test_only_collators_that_are_known_exactly_leave_the_ids_as_they_are(model_folder, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    args = TrainingArguments(str(tmp_path), use_cpu=True)
    known = DataCollatorWithPadding(tokenizer)
    assert moves_own_rows_only(args, known)
    assert moves_own_rows_only(args, default_data_collator)
    assert moves_own_rows_only(args, RemoveColumnsCollator(known, ["input_ids"]))
    for other in (Replaces(tokenizer), Wraps(known), RemoveColumnsCollator(Replaces(tokenizer), ["input_ids"])):
        assert not moves_own_rows_only(args, other)


class Changes(list):
    """A list whose rows are not what they look like."""


def test_only_datasets_that_show_what_is_trained_on_have_ids():
    data = [{"input_ids": [7, 3]}, {"input_ids": [5, 3]}]
    for shown in (data, tuple(data), Dataset.from_list(data), Dataset.from_list(data).with_format("torch")):
        assert token_ids([shown]).tolist() == [3, 5, 7]
    made_anew = Dataset.from_list(data).with_transform(lambda batch: batch)
    for hidden in (Changes(data), made_anew, Dataset.from_list(data).to_iterable_dataset()):
        assert token_ids([hidden]) is None
