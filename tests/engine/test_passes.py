"""Rows of like length in passes of their own: what one pass gives, with dropout on."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import TrainingArguments

from deni.engine import passes
from deni.engine.dropout import Part, Streams
from deni.engine.fold import FoldError
from deni.population import Population
from deni.randomness import Sources, generator
from deni.training.trainer import PopulationTrainer

SEEDS, ROWS, TOKENS = (3, 4, 5), 6, (7, 11, 5)


def mask_of(lengths):
    return torch.tensor([[1] * length + [0] * (max(lengths) - length) for length in lengths])


@pytest.fixture
def pack(batch):
    """The rows of three runs, `(R*B, T)`: each has a row of every length up to its own longest."""
    own = [batch(rows=ROWS, tokens=max(TOKENS), seed=run) for run in range(len(SEEDS))]
    joined = {key: torch.cat([each[key] for each in own]) for key in own[0]}
    lengths = [max(1, longest - row) for longest in TOKENS for row in (2, 0, 4, 1, 0, 3)]
    real = torch.arange(max(TOKENS)) < torch.tensor(lengths).unsqueeze(1)
    joined["attention_mask"] = real.long()
    joined["input_ids"] = torch.where(real, joined["input_ids"], 1)
    return joined


def population_of(make, at_a_time=None):
    models = [make(seed=seed) for seed in SEEDS]
    starts = [{n: p.detach() for n, p in model.named_parameters() if p.requires_grad} for model in models[1:]]
    population = Population(models[0], [Sources(seed) for seed in SEEDS], "stacked", starts, at_a_time)
    population.module.train()
    return population


def backward(population, data):
    """Logits and gradients of two steps: the streams go on from one to the next."""
    found = []
    for _ in range(2):
        population.module.zero_grad()
        for chunk in population.module.chunks:
            population.module.focus(chunk)
            rows = population.module.fold(data, groups=population.runs)
            labels = rows.pop("labels")
            out = population.module(lengths=list(TOKENS), **rows)["logits"]
            F.cross_entropy(out, labels).backward()
            found.append(out.detach())
        population.module.collect()
        found += [view.grad.clone() for views in population.views.values() for view in views]
    return found


@pytest.fixture
def always(monkeypatch):
    """Passes wherever lengths differ; notes how many there were."""
    counts, choose = [], passes.divide

    def divide(mask, members, price=None):
        divided = choose(mask, members, price=0)
        counts.append(len(divided.parts))
        return divided

    monkeypatch.setattr(passes, "divide", divide)
    return counts


@pytest.mark.parametrize("at_a_time", [None, 2])
@pytest.mark.parametrize("architecture", ["bert", "roberta", "albert", "distilbert", "electra", "modernbert"])
def test_passes_give_what_one_pass_gives(tiny, pack, always, architecture, at_a_time):
    make = partial(tiny, architecture)
    whole = backward(population_of(make, at_a_time), pack)
    population = population_of(make, at_a_time)
    population.module.compute = passes.by_length
    divided = backward(population, pack)
    assert min(always) > 2
    assert max(float((one - other).abs().max()) for one, other in zip(whole, divided, strict=True)) < 1e-12


def test_a_hook_sees_all_rows_at_once(tiny, pack, always):
    population = population_of(partial(tiny, "bert"))
    population.module.compute = passes.by_length
    backward(population, pack)  # the first step measures what dropout sees
    always.clear()
    seen = []
    handle = population.model.bert.encoder.register_forward_hook(lambda *_: seen.append(1))
    backward(population, pack)
    handle.remove()
    assert seen == [1, 1]
    assert not always


# ---- how many passes -------------------------------------------------------------------------------------------------


def parts_of(lengths, members=1, price=0.0):
    return [
        (part.stop - part.start, longest) for part, longest in passes.divide(mask_of(lengths), members, price).parts
    ]


def test_without_a_price_rows_of_one_length_share_a_pass():
    assert parts_of([3, 9, 3, 5, 9]) == [(2, 3), (1, 5), (2, 9)]


def test_a_pass_must_be_worth_its_price():
    assert parts_of([3, 9, 4, 4, 9], price=9.0) == [(3, 4), (2, 9)]  # 12 + 18 + 2 * 9 < 45 + 9 < 3 + 8 + 18 + 3 * 9
    assert parts_of([3, 9, 4, 4, 9], price=16.0) == [(5, 9)]


def test_each_pass_is_as_long_as_the_longest_of_its_members():
    assert parts_of([2, 6, 4, 1], members=2) == [(1, 2), (1, 6)]


def test_a_text_without_tokens_is_computed():
    assert passes.divide(torch.zeros(2, 4, dtype=torch.long), 1, 0.0).parts == [(slice(0, 2), 1)]


# ---- where it is exact -----------------------------------------------------------------------------------------------


class Sees(nn.Module):
    """A classifier that may add a token, see the padding, or look at other rows."""

    def __init__(self, fault):
        super().__init__()
        self.fault, self.embedding, self.score = fault, nn.Embedding(60, 8), nn.Linear(8, 3)
        self.double()

    def forward(self, input_ids, attention_mask):
        h = F.dropout(self.embedding(input_ids), 0.2, self.training)
        if self.fault == "token":
            h = F.dropout(torch.cat([h[:, :1], h], 1), 0.2, self.training)[:, 1:]
        if self.fault == "padding":
            return {"logits": self.score(h.mean(1))}
        h = (h * attention_mask.unsqueeze(-1)).sum(1)
        return {"logits": self.score(h - h.mean(0) if self.fault == "rows" else h)}


@pytest.mark.parametrize(("fault", "exact"), [("", True), ("token", True), ("padding", False), ("rows", False)])
def test_a_model_that_sees_more_than_its_row_is_not_divided(pack, fault, exact):
    inputs = {key: value for key, value in pack.items() if key in ("input_ids", "attention_mask")}
    assert passes.divides(Sees(fault).train(), inputs, len(SEEDS), lambda rows: None) is exact


def test_other_masks_in_another_pass_are_refused():
    part = Part(torch.tensor([[0]]), 2, 3, [torch.zeros(1, 2, 3, 4, dtype=torch.int16)])
    streams = Streams([generator(0)], passes.Padding([3], 3), part)
    with pytest.raises(FoldError, match="in one pass"):
        streams.keep(torch.Size([1, 5, 4]), 0.1)


# ---- a whole run -----------------------------------------------------------------------------------------------------


def pad(rows):
    longest = max(len(row["input_ids"]) for row in rows)
    batch = {"labels": torch.tensor([row["labels"] for row in rows])}
    for name, fill in (("input_ids", 1), ("attention_mask", 0)):
        batch[name] = torch.tensor([[*row[name], *[fill] * (longest - len(row[name]))] for row in rows])
    return batch


def test_a_pack_that_is_trained_in_passes_is_its_runs_alone(tiny, always, tmp_path):
    def model_init():
        model = tiny(
            "modernbert"
        )  # all runs share what is frozen; it has padding in its encoder, for that knows the places
        nn.init.normal_(model.classifier.weight, std=0.02)
        model.model.requires_grad_(False)
        model.model.layers[1].attn.Wqkv.requires_grad_(True)
        return model

    def trained(seeds):
        rows = [
            {"input_ids": [5 + at] * (1 + at % 7), "attention_mask": [1] * (1 + at % 7), "labels": at % 3}
            for at in range(20)
        ]
        args = TrainingArguments(
            tmp_path, per_device_train_batch_size=8, num_train_epochs=2, use_cpu=True, report_to=[], save_strategy="no"
        )
        trainer = PopulationTrainer(
            args=args, model_init=model_init, train_dataset=rows, data_collator=pad, seeds=seeds
        )
        trainer.train()
        return trainer.population.values

    pack = trained([5, 6])
    assert len(always) == 1 + 6  # the probe, and six steps
    assert max(always[1:]) > 2
    for run, seed in enumerate([5, 6]):
        for name, value in trained([seed]).items():
            assert float((pack[name][run] - value[0]).abs().max()) < 1e-9
    assert float((pack["classifier.weight"][0] - pack["classifier.weight"][1]).abs().max()) > 1e-3
