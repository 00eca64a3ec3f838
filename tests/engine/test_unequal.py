"""Runs whose layers differ: each computes what it computes alone, and padding stays zero."""

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import TrainingArguments

from deni.engine.dropout import MemberDropout, Rates, Streams
from deni.engine.unequal import Layers, Scales, Unequal
from deni.errors import SettingError
from deni.randomness import Sources, global_generators
from deni.strategies import DENI, Default, DelayedEnsemble
from deni.training.runs import RunSettings
from deni.training.trainer import PopulationTrainer
from tests.helpers.generating import DECODER, language_model
from tests.helpers.plain import RATE, bert, make, rows, tensors

RANKS, ALPHAS, DROPOUTS, RATES, SEEDS = (4, 2, 8), (8, 4, 4), (0.2, 0.0, 0.4), (1.0, 3.0, 0.5), (5, 5, 6)


def adapted(run, base=bert):
    """The model of a run, drawn from the global generators but for what is frozen."""
    model = base()
    task = "SEQ_CLS" if hasattr(model, "classifier") else "CAUSAL_LM"
    config = LoraConfig(
        task_type=task, r=RANKS[run], lora_alpha=ALPHAS[run], lora_dropout=DROPOUTS[run], use_rslora=run == 2
    )
    model = get_peft_model(model, config)
    generator = torch.Generator().manual_seed(run)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # where B is zero, A and its dropout change nothing in the first steps
            parameter.data.normal_(std=0.3, generator=generator)
    return model.double()


def settings_of(base, runs=range(3)):
    return [RunSettings(RATES[run], lambda run=run: adapted(run, base), None) for run in runs]


def made_by(run):
    return lambda: adapted(run)


def own_part(name, value, shape):
    return value[tuple(map(slice, shape))]


@pytest.mark.parametrize("strategy", [Default(), DENI(members=3, variance=0.3, floor=0.02)], ids=["default", "deni"])
@pytest.mark.parametrize("engine", ["loop", "stacked"])
@pytest.mark.parametrize("first", [0, 1])  # of the smallest rank, without dropout; or not
def test_runs_of_several_ranks_rates_and_dropouts_equal_each_alone(tmp_path, engine, strategy, first):
    order = [first, *(run for run in range(3) if run != first)]
    together = make(
        tmp_path,
        strategy,
        model_init=made_by(first),
        seeds=[SEEDS[run] for run in order],
        run_settings=settings_of(bert, order),
        engine=engine,
    )
    together.train()
    assert together.population.engine_name == engine
    predicted = together.predict_members(rows(12, seed=9))
    size = together.population.members
    for at, run in enumerate(order):
        alone = make(
            tmp_path,
            strategy,
            model_init=made_by(run),
            seeds=[SEEDS[run]],
            args={"learning_rate": RATE * RATES[run]},
        )
        alone.train()
        part = slice(at * size, (at + 1) * size)
        assert abs(predicted[:, part] - alone.predict_members(rows(12, seed=9))).max() < 1e-9
        for name, values in alone.population.values.items():
            mine = together.population.values[name][part]
            assert float((own_part(name, mine, values.shape) - values).abs().max()) < 1e-9, name
            assert float(mine.abs().sum()) == pytest.approx(float(own_part(name, mine, values.shape).abs().sum()))
            assert torch.count_nonzero(mine) == torch.count_nonzero(own_part(name, mine, values.shape))
        inputs, expected = tensors(rows(12, seed=9))[0], alone.members[0]
        with torch.no_grad():
            logits = expected(inputs).logits
            assert float((together.members[at * size](inputs).logits - logits).abs().max()) < 1e-9
        assert {name: each.shape for name, each in together.members[at * size].named_parameters()} == {
            name: each.shape for name, each in expected.named_parameters()
        }
        together.members[at * size].save_pretrained(tmp_path / "adapter")
        loaded = PeftModel.from_pretrained(made_by(run)().unload(), tmp_path / "adapter").eval()
        loaded.load_state_dict(
            {name: each for name, each in expected.state_dict().items() if "lora" not in name}, False
        )
        with torch.no_grad():
            assert float((loaded(inputs).logits - logits).abs().max()) < 1e-5  # PEFT loads in float32


def plain_training(model, data, rate, dropout, seed, order, batch=4):
    """A language model trained by PyTorch's own Adam, with the masks of the run's stream."""
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0)
    stream, steps = Sources(seed)["dropout"], 2 * len(data) // batch
    for step in range(steps):
        chosen = torch.tensor([data[row] for row in order[step * batch : (step + 1) * batch]])
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        with MemberDropout(Streams([stream])):
            model(input_ids=chosen, labels=chosen).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def test_language_models_equal_plain_pytorch(tmp_path):  # but for the norms of Llama, which compute in float32
    base = lambda: language_model("llama")  # noqa: E731
    draw = torch.Generator().manual_seed(0)
    data = torch.randint(3, DECODER["vocab_size"], [12, 7], generator=draw).tolist()
    train = [{"input_ids": ids, "labels": ids} for ids in data]
    args = TrainingArguments(
        str(tmp_path),
        num_train_epochs=2,
        per_device_train_batch_size=4,
        learning_rate=RATE,
        max_grad_norm=0.0,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
    )
    together = PopulationTrainer(
        args=args,
        model_init=lambda: adapted(0, base),
        seeds=list(SEEDS),
        run_settings=settings_of(base),
        train_dataset=train,
        task="generation",
        engine="stacked",
    )
    seen = []
    take = together.get_train_dataloader
    together.get_train_dataloader = lambda: Watched(take(), seen)
    together.train()
    for run, seed in enumerate(SEEDS):
        orders = [data.index(ids.tolist()) for batch in seen[-6:] for ids in batch.unflatten(0, (3, -1))[run]]
        with global_generators(Sources(seed).seeds["initialisation"]):
            model = adapted(run, base)
        plain = plain_training(model, data, RATE * RATES[run], DROPOUTS[run], seed, orders)
        got = dict(together.members[run].named_parameters())
        for name, value in plain.named_parameters():
            if value.requires_grad:
                assert float((own_part(name, got[name], value.shape) - value).detach().abs().max()) < 1e-7, (run, name)


class Watched:
    """A loader that keeps the token ids of each batch in `seen`."""

    def __init__(self, loader, seen):
        self.loader, self.seen = loader, seen

    def __len__(self):
        return len(self.loader)

    def __getattr__(self, name):
        return getattr(self.loader, name)

    def __iter__(self):
        for batch in self.loader:
            self.seen.append(batch["input_ids"].clone())
            yield batch


def test_noise_of_forks_may_differ(tmp_path):
    def noisy(variance):
        return DelayedEnsemble(members=2, ensemble_from=0.5, variance=variance, scope="trainable")

    settings = [RunSettings(1.0, None, noisy(variance)) for variance in (0.0, 0.5)]
    options = {"model_init": lambda: bert(None)}
    together = make(tmp_path, noisy(0.0), seeds=[3, 3], run_settings=settings, **options)
    together.train()
    assert together.population.runs == 2
    for at, variance in enumerate((0.0, 0.5)):
        alone = make(tmp_path, noisy(variance), seeds=[3], **options)
        alone.train()
        for name, values in alone.population.values.items():
            assert float((together.population.values[name][2 * at : 2 * at + 2] - values).abs().max()) < 1e-9


def test_a_run_without_dropout_draws_nothing():
    streams = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    before = streams[1].get_state()
    with MemberDropout(Streams(streams)):
        dropped = F.dropout(torch.ones(2 * 50, 40), Rates([0.25, 0.0], 0.25))
    first, other = dropped.unflatten(0, (2, -1))
    assert torch.equal(streams[1].get_state(), before)
    assert torch.equal(other, torch.ones(50, 40))
    with MemberDropout(Streams([torch.Generator().manual_seed(1)])):
        assert torch.equal(first, F.dropout(torch.ones(50, 40), 0.25))
    assert 0.2 < float((first == 0).float().mean()) < 0.3


def test_a_scaling_of_each_member_is_not_rounded_before():
    rows = torch.ones(4, 3, dtype=torch.bfloat16)
    scaled = rows * Scales([1.0, 1 / 3])
    assert torch.equal(scaled[2:], (rows[2:].float() / 3).bfloat16())
    assert torch.equal(scaled[:2], rows[:2])


def test_other_layers_must_be_equal():
    models = [nn.Sequential(nn.LayerNorm(4, eps=eps)) for eps in (1e-5, 1e-6)]
    with pytest.raises(SettingError, match=r"0.eps differs between runs, which share it"):
        Unequal.among([Layers.of(model) for model in models])


def test_models_of_several_ranks_are_not_one_artifact(tmp_path):
    trainer = make(tmp_path, model_init=lambda: adapted(0), seeds=[1, 2, 3], run_settings=settings_of(bert))
    trainer.train()
    with pytest.raises(SettingError, match=r"not one artifact: save each of trainer.members"):
        trainer.save_model(str(tmp_path / "model"))


def test_there_is_a_setting_for_each_seed(tmp_path):
    with pytest.raises(SettingError, match="run_settings are 2 for 3 seeds"):
        make(tmp_path, model_init=lambda: adapted(0), seeds=[1, 2, 3], run_settings=settings_of(bert, range(2)))
