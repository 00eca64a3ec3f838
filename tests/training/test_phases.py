"""Forks and merges against what transformers' Trainer shows of one model."""

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import PretrainedConfig, PreTrainedModel, TrainerCallback, TrainingArguments

from deni.errors import SettingError
from deni.strategies import DENI, LLRD, Default, DelayedEnsemble, NoisyInterpolation
from deni.training.trainer import PopulationTrainer
from tests.helpers import plain
from tests.helpers.references import InOrder, Reference
from tests.helpers.trainers import make, rows, seeded


class LineConfig(PretrainedConfig):
    model_type = "line"


class Line(PreTrainedModel):
    """A slope and an intercept without dimensions."""

    config_class = LineConfig

    def __init__(self, config=None):
        super().__init__(config or LineConfig(num_labels=1, problem_type="regression"))
        self.slope, self.intercept = nn.Parameter(torch.tensor(0.0)), nn.Parameter(torch.tensor(1.0))
        self.post_init()

    def _init_weights(self, module):
        pass

    def forward(self, x, labels=None):
        logits = x * self.slope + self.intercept
        loss = None if labels is None else nn.functional.mse_loss(logits.squeeze(-1), labels)
        return {"logits": logits} if loss is None else {"loss": loss, "logits": logits}


def points(count=16):
    draw = torch.Generator().manual_seed(0)
    xs = torch.randn(count, 1, generator=draw)
    return [{"x": x, "labels": (2 * x + 3)[0]} for x in xs]


def arguments(tmp_path, **settings):
    settings = {"per_device_train_batch_size": 4, "num_train_epochs": 5, "learning_rate": 0.1, **settings}
    fixed = {"report_to": [], "disable_tqdm": True, "save_strategy": "no", "use_cpu": True}
    return TrainingArguments(str(tmp_path / "plain"), **fixed, **settings)


def test_parameters_without_dimensions_fork_merge_and_train_as_with_trainer(tmp_path, monkeypatch):
    monkeypatch.setattr(PopulationTrainer, "_get_train_sampler", InOrder._get_train_sampler)
    plain = Reference(Line(), arguments(tmp_path), train_dataset=points())
    plain.train()
    wanted = {name: value.item() for name, value in plain.model.named_parameters()}
    assert wanted["slope"] > 0.5  # it learned something
    ours = PopulationTrainer(Line(), arguments(tmp_path), train_dataset=points(), strategy=DENI(members=3, variance=0))
    ours.train()
    for name, value in ours.population.values.items():
        assert value.tolist() == pytest.approx([wanted[name]] * 3, rel=1e-6)
    noisy = DENI(members=3, variance=0.5, scale="uniform")  # auto: without a linear layer all that train
    ours = PopulationTrainer(Line(), arguments(tmp_path), train_dataset=points(), strategy=noisy)
    ours.train()
    assert len(set(ours.population.values["slope"].tolist())) == 3


def test_noise_on_a_head_that_is_not_there_is_refused_before_the_first_step(tmp_path):
    strategy = DelayedEnsemble(members=3, scope="head")
    trainer = PopulationTrainer(Line(), arguments(tmp_path), train_dataset=points(), strategy=strategy)
    with pytest.raises(SettingError, match="Line has no linear layer that could be its head"):
        trainer.train()
    assert trainer.state.global_step == 0


class Watch(TrainerCallback):
    """What a callback sees at the end of each step: groups, rates, names."""

    def __init__(self):
        self.seen = []

    def on_step_end(self, args, state, control, model=None, optimizer=None, **_):
        groups = [(len(group["params"]), group["weight_decay"], group["lr"]) for group in optimizer.param_groups]
        self.seen.append((groups, [name for name, _ in model.named_parameters()]))


@pytest.mark.parametrize("rate", ["schedule", "constant", "restart"])
def test_callbacks_see_the_groups_rates_and_names_of_one_model(tmp_path, rate):
    theirs, ours = Watch(), Watch()
    settings = {"num_train_epochs": 2, "weight_decay": 0.1, "warmup_steps": 3}
    trainer = make(tmp_path, DelayedEnsemble(members=2, fork_rate=rate), args=settings, callbacks=[ours])
    plain = Reference(seeded(), trainer.args, train_dataset=rows(), callbacks=[theirs])
    plain.train()
    trainer.train()
    assert len(ours.seen) == len(theirs.seen) == 20
    for step, ((groups, names), (wanted, plain_names)) in enumerate(zip(ours.seen, theirs.seen, strict=True)):
        members = 2 if step >= 18 else 1
        assert groups == [(count * members, decay, rate) for count, decay, rate in wanted]
        assert names == plain_names
    assert len(trainer.optimizer.param_groups) == 2


def test_a_scheduler_has_one_function_for_each_group_and_copies_their_own_rate(tmp_path):
    model, rates = seeded(), []
    weights, biases = (
        [p for name, p in model.named_parameters() if ("bias" in name) is wanted] for wanted in (False, True)
    )
    optimizer = torch.optim.AdamW([{"params": weights}, {"params": biases, "lr": 2e-3}], lr=1e-3)
    scheduler = LambdaLR(optimizer, [lambda step: 0.5, lambda step: 1 / (1 + step)])

    class Stepping(TrainerCallback):
        def on_train_begin(self, *_, **__):
            optimizer.register_step_pre_hook(lambda o, *_: rates.append([group["lr"] for group in o.param_groups]))

    strategy = DelayedEnsemble(members=2, fork_rate="constant")
    trainer = make(tmp_path, strategy, model=model, optimizers=(optimizer, scheduler), callbacks=[Stepping()])
    trainer.train()
    assert rates[:36] == [pytest.approx([5e-4, 2e-3 / (1 + step)]) for step in range(36)]
    assert rates[36:] == [pytest.approx([5e-4, 2e-3 / (1 + step), 1e-3, 2e-3]) for step in range(36, 40)]


@pytest.mark.parametrize("rate", ["constant", "restart"])
def test_copies_start_from_the_base_rate_whatever_a_scheduler_by_results_did(tmp_path, rate):
    rates = []

    class Stepping(TrainerCallback):
        def on_train_begin(self, *_, optimizer=None, **__):
            inner = getattr(optimizer, "optimizer", optimizer)
            inner.register_step_pre_hook(lambda o, *_: rates.append([g["lr"] for g in o.param_groups if g["params"]]))

    settings = {
        "num_train_epochs": 2,
        "lr_scheduler_type": "reduce_lr_on_plateau",
        "lr_scheduler_kwargs": {"patience": 0, "factor": 0.5, "threshold": 0.9},
        "eval_strategy": "steps",
        "eval_steps": 4,
        "metric_for_best_model": "loss",
    }
    strategy = DelayedEnsemble(members=2, fork_rate=rate)
    make(tmp_path, strategy, args=settings, eval_dataset=rows(8, 3), callbacks=[Stepping()]).train()
    assert rates[18][0] == pytest.approx(1e-3 * 0.5**3)  # evaluated after 4, 8, 12 and 16 steps, reduced thrice
    assert [each[-1] for each in rates[18:]] == pytest.approx([1e-3, 1e-3 if rate == "constant" else 5e-4])


def test_a_state_that_cannot_be_averaged_is_refused_before_the_first_step(tmp_path):
    class Plain(torch.optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {"lr": 0.1})

        def step(self, closure=None):
            raise AssertionError("it steps")

    model = seeded()
    strategy = NoisyInterpolation(members=2, merge_optimizer="mean")
    trainer = make(tmp_path, strategy, model=model, optimizers=(Plain(model.parameters()), None))
    with pytest.raises(SettingError, match="not Plain: use merge_optimizer='parent'"):
        trainer.train()


# ---- the rate of the output layer ----------------------------------------------------------------------------------


def scaled(folder, scale, strategy=None, **options):
    trainer = plain.make(folder, strategy or Default(), **options)
    trainer.phases.head_lr_scale = scale
    trainer.train()
    return trainer


@pytest.mark.parametrize("tuned", [plain.bert, plain.lora])
def test_the_output_layer_has_a_multiple_of_the_rate_as_in_a_plain_loop(tmp_path, tuned):
    mine = scaled(tmp_path, 10.0, model=tuned()).population.member(0)
    model = tuned()
    named = [(name, each) for name, each in model.named_parameters() if each.requires_grad]
    head = [each for name, each in named if "classifier" in name]
    rest = [each for name, each in named if "classifier" not in name]
    assert len(head) == 2
    groups = [{"params": rest, "lr": plain.RATE}, {"params": head, "lr": 10 * plain.RATE}]
    expected = {name: value for name, value in plain.fine_tune(model, groups=groups).items() if name in mine}
    assert plain.distance(expected, mine) < 1e-10
    assert plain.distance(expected, plain.trained(tmp_path, model=tuned()).population.member(0)) > 1e-3


def test_strategies_scale_the_rate_of_the_output_layer_too(tmp_path):
    watch = plain.Watch()
    scaled(tmp_path, 5.0, LLRD(layer_decay=0.5), callbacks=[watch])
    rates = {name: rate / plain.RATE for name, rate in watch.rates[0].items()}
    assert rates["classifier.weight"] == pytest.approx(5.0)
    assert rates["bert.embeddings.word_embeddings.weight"] == pytest.approx(0.25)


def test_members_of_a_fork_keep_it(tmp_path):
    watch = plain.Watch()
    trainer = scaled(tmp_path, 3.0, DelayedEnsemble(members=2, ensemble_from=0.5), callbacks=[watch])
    assert trainer.population.members == 2
    for step in (0, 12, 19):
        rates = watch.rates[step]
        assert rates["classifier.bias"] == pytest.approx(3 * rates["bert.pooler.dense.bias"], rel=1e-12), step
