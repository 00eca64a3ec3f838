"""Members trained through TRL's SFTTrainer: as the real one trains one model, and stacked as in the loop."""

import importlib.util
import warnings

import pytest
import torch
from datasets import Dataset

import deni
from deni import SettingError
from deni.strategies import Default, DelayedEnsemble
from tests.helpers.generating import by_hand
from tests.helpers.generators import byte_tokenizer, make_generator, with_lora

pytestmark = pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="needs the package trl")

SUMS = [{"prompt": f"{a} + {b} =", "completion": f" {a + b}"} for a in range(4) for b in range(4)]
CHATS = [
    {"messages": [{"role": "user", "content": each["prompt"]}, {"role": "assistant", "content": each["completion"]}]}
    for each in SUMS
]


def model():
    made = make_generator("llama", vocabulary=len(byte_tokenizer()))
    return with_lora(made, "llama")


def trainer_of(cls, folder, rows=SUMS, args=None, **options):
    from trl import SFTConfig

    settings = {
        "num_train_epochs": 1,
        "per_device_train_batch_size": 4,
        "learning_rate": 0.2,
        "lr_scheduler_type": "constant",
        "optim": "sgd",
        "train_sampling_strategy": "sequential",
        "report_to": [],
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_strategy": "no",
        "use_cpu": True,
        "bf16": False,
        "max_grad_norm": 0.0,
        **(args or {}),
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)  # old names of settings, by TRL
        arguments = SFTConfig(str(folder), **settings)
        trainer = cls(
            options.pop("model", None) or model(),
            arguments,
            train_dataset=Dataset.from_list(rows),
            eval_dataset=Dataset.from_list(rows[:5]),
            processing_class=byte_tokenizer(),
            **options,
        )
        trainer.train()
    return trainer


@pytest.mark.parametrize(
    ("rows", "args"),
    [(SUMS, {}), (SUMS, {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}), (CHATS, {})],
    ids=["prompts", "in parts", "chats"],
)
def test_one_member_is_trained_as_by_trl(tmp_path, rows, args):
    from trl import SFTTrainer

    from deni.training.sft import PopulationSFTTrainer

    theirs = trainer_of(SFTTrainer, tmp_path, rows, args)
    ours = trainer_of(PopulationSFTTrainer, tmp_path, rows, args, strategy=Default())
    start = dict(model().named_parameters())
    trained = {name: value.detach() for name, value in theirs.model.named_parameters() if value.requires_grad}
    way = max((value - start[name]).abs().max().item() for name, value in trained.items())
    assert way > 1e-3
    for name, value in trained.items():
        assert (ours.population.member(0)[name] - value).abs().max().item() < 1e-5 * way
    assert ours.evaluate()["eval_loss"] == pytest.approx(theirs.evaluate()["eval_loss"], rel=1e-6)


def test_members_are_stacked_as_by_the_population_trainer(tmp_path):
    from deni.training.sft import PopulationSFTTrainer

    trained = []
    for engine in ("stacked", "loop"):
        strategy = DelayedEnsemble(members=3, variance=0.1)
        ours = trainer_of(PopulationSFTTrainer, tmp_path, strategy=strategy, engine=engine)
        assert ours.engine_plan.engine == engine
        trained.append(ours.population.values)
    for name, value in trained[0].items():
        assert torch.allclose(value, trained[1][name], rtol=1e-6, atol=1e-9), name
        assert not value[0].equal(value[1])
    assert ours.model.get_base_model()(torch.tensor([[5, 6]])).logits.shape[-1] == len(byte_tokenizer())


def test_what_it_saves_generates_after_loading(tmp_path):
    from deni.training.sft import PopulationSFTTrainer

    ours = trainer_of(PopulationSFTTrainer, tmp_path, strategy=DelayedEnsemble(members=2, variance=0.1))
    ours.save_model()
    loaded = deni.load(tmp_path)
    assert loaded.max_length == len("0 + 0 = 0") + 1  # the longest row, with its end
    prompts = [SUMS[0]["prompt"], "what is " + SUMS[1]["prompt"]]
    members = [each.merge_and_unload().eval() for each in ours.members]
    tokenizer = byte_tokenizer()
    for answer, text in zip(loaded.generate(prompts, max_new_tokens=5), prompts, strict=True):
        start = tokenizer(text)["input_ids"][-loaded.max_length :]
        assert answer.tokens == by_hand(members, start, 5, end=tokenizer.eos_token_id)


@pytest.mark.parametrize(
    ("args", "options", "expected"),
    [
        ({"packing": True}, {}, "packing puts several texts into one row"),
        ({"padding_free": True}, {}, "padding_free puts several texts into one row"),
        ({"loss_type": "dft"}, {}, "loss_type cannot be dft"),
        ({}, {"peft_config": "any"}, "peft_config cannot be used: give the model with it"),
        ({}, {"model": "Qwen/Qwen2.5-0.5B"}, "model is a name: load it"),
    ],
)
def test_what_members_cannot_have_is_refused(tmp_path, args, options, expected):
    from deni.training.sft import PopulationSFTTrainer

    with pytest.raises(SettingError, match=expected):
        trainer_of(PopulationSFTTrainer, tmp_path, args=args, **options)
