"""The engine is chosen on the first batch, when all hooks are there; nothing is read for it."""

import pytest
import torch
import transformers
from datasets import Dataset, Features, IterableDataset, Sequence, Value
from peft import PrefixTuningConfig, PromptEncoderConfig, get_peft_model
from torch.utils.data import IterableDataset as Stream
from transformers import TrainerCallback

from deni.engine.active_tokens import ActiveEmbedding
from deni.errors import SettingError
from deni.randomness import global_generators
from deni.strategies.delayed_ensemble import DelayedEnsemble
from tests.helpers.plain import bert, distance, lora, make, rows, trained, values
from tests.helpers.tiny import make_tiny

FORKS = DelayedEnsemble(members=2, ensemble_from=0.5)
MANY = {"max_steps": 10}


def doubled(model):
    return model.get_input_embeddings().register_forward_hook(lambda module, inputs, output: 2 * output)


class AddsHook(TrainerCallback):
    """As Trainer adds NEFTune's hook: when training begins."""

    def on_train_begin(self, args, state, control, model=None, **_):
        doubled(model)


def test_hooks_that_come_when_training_begins_are_there_for_the_choice(tmp_path):
    late = trained(tmp_path, FORKS, callbacks=[AddsHook()])
    model = bert()
    doubled(model)
    early = trained(tmp_path, FORKS, model=model, engine="loop")
    assert late.engine_plan.engine == "loop"
    assert "has forward hooks" in late.engine_plan.reason
    assert distance(values(late), values(early)) == 0


def test_members_train_with_neftune(tmp_path):
    """With so little noise that they must be what they are without it."""
    settings = {"neftune_noise_alpha": 1e-12}
    noisy = trained(tmp_path, FORKS, args=settings)
    assert "has forward hooks" in noisy.engine_plan.reason
    assert 0 < distance(values(noisy), values(trained(tmp_path, FORKS, engine="loop"))) < 1e-6


def with_lstm():
    with global_generators(0):
        config = PromptEncoderConfig(
            task_type="SEQ_CLS", num_virtual_tokens=3, encoder_reparameterization_type="LSTM", encoder_dropout=0.1
        )
        return get_peft_model(bert(), config).double()


# transformers 4.57 puts NEFTune on the model before the one that `model_init` makes, and fails when it takes it off.
in_5 = pytest.mark.skipif(transformers.__version__ < "5", reason="Trainer's NEFTune fails with model_init")


@pytest.mark.parametrize(
    ("init", "settings"),
    [pytest.param(lambda: bert(), {"neftune_noise_alpha": 0.1}, marks=in_5), (with_lstm, {})],
    ids=["neftune", "lstm"],
)
def test_several_runs_that_would_draw_from_one_generator_are_refused(tmp_path, init, settings):
    trainer = make(tmp_path, model_init=init, seeds=[0, 1], args=settings)
    with pytest.raises(SettingError, match="draws from the global generators"):
        trainer.train()
    assert trainer.state.global_step == 0


class OnePass(Stream):
    """Rows that are gone when they were read."""

    def __init__(self, data):
        self.rows, self.read = iter(data), []

    def __iter__(self):
        for row in self.rows:
            self.read.append(row)
            yield row


def test_a_stream_of_one_pass_loses_nothing_to_the_choice(tmp_path):
    data = rows(40)
    stream = OnePass(data)
    ours = trained(tmp_path, FORKS, train=stream, args=MANY)
    assert stream.read == data
    assert ours.engine_plan.engine == "stacked"
    again = trained(tmp_path, FORKS, train=Dataset.from_list(data).to_iterable_dataset(), args=MANY)
    assert distance(values(ours), values(again)) < 1e-9


def test_a_stream_with_known_features_is_not_read_before_the_first_step(tmp_path):
    read = []

    def generate():
        for row in rows(40):
            read.append(row)
            yield row

    features = Features({"input_ids": Sequence(Value("int64")), "labels": Value("int64")})
    stream = IterableDataset.from_generator(generate, features=features)
    trainer = make(tmp_path, FORKS, train=stream, args=MANY)
    assert read == []
    trainer.train()
    assert isinstance(trainer.train_dataset, IterableDataset)
    assert len(read) == 40


def test_a_dataset_with_a_transform_trains_all_rows_of_the_embedding(tmp_path):
    """The transform gives other ids each time it is asked."""
    asked = []

    def shifted(batch):
        asked.append(1)
        ids = [[59 if len(asked) > 4 else each for each in row] for row in batch["input_ids"]]
        return {**batch, "input_ids": ids}

    data = [{**row, "input_ids": [min(each, 50) for each in row["input_ids"]]} for row in rows(40)]
    trainer = make(tmp_path, FORKS, train=Dataset.from_list(data).with_transform(shifted))
    assert trainer.active_ids is None
    table = trainer.population.model.get_input_embeddings().weight[59].clone()
    trainer.train()
    assert not torch.equal(trainer.population.member(0)["bert.embeddings.word_embeddings.weight"][59], table)


def test_noise_of_scope_auto_reaches_all_rows_of_an_embedding_that_trains_with_an_adapter(tmp_path):
    model = lora()
    model.get_input_embeddings().weight.requires_grad_(True)
    trainer = trained(tmp_path, FORKS, model=model, args={"learning_rate": 0.0})
    assert not isinstance(trainer.population.model.get_input_embeddings(), ActiveEmbedding)
    name = next(name for name in trainer.population.slots if "word_embeddings" in name)
    members = [trainer.population.member(at)[name] for at in range(2)]
    assert int((members[0] != members[1]).any(1).sum()) == len(members[0])


@pytest.mark.parametrize(("architecture", "virtual"), [("bert", 0), ("gpt2", 0), ("llama", 3), ("llama", 0)])
def test_runs_that_would_depend_on_the_padding_of_others_are_refused(tmp_path, architecture, virtual):
    """Positions are counted from the left, or from virtual tokens in front; rotary ones alone depend on distances."""

    def model():
        made = make_tiny(architecture)
        if not virtual:
            return made
        return get_peft_model(made, PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=virtual)).double()

    data = [{**row, "attention_mask": [1] * len(row["input_ids"])} for row in rows()]
    trainer = make(tmp_path, model_init=model, seeds=[0, 1], train=data, args={"max_steps": 2})
    trainer.loading.padding_side = "left"
    if (architecture, virtual) == ("llama", 0):
        trainer.train()
        return
    with pytest.raises(SettingError, match="depends on how far they are padded on the left"):
        trainer.train()
    assert trainer.state.global_step == 0
    alone = make(tmp_path, model=model(), train=data, args={"max_steps": 2})
    alone.loading.padding_side = "left"
    alone.train()
