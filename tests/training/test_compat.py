"""The private names of transformers that training touches are there in the installed version."""

import inspect

import pytest
import torch
from transformers import PretrainedConfig, Trainer, TrainingArguments, trainer_utils
from transformers.integrations import TensorBoardCallback

from deni.training import compat
from deni.training.trainer import PopulationTrainer
from tests.helpers.plain import make
from tests.helpers.tiny import TRANSFORMERS_5


@pytest.mark.parametrize("name", compat.OVERRIDDEN)
def test_what_is_overridden_is_a_hook_of_trainer(name):
    assert callable(getattr(Trainer, name))
    assert vars(PopulationTrainer)[name] is not getattr(Trainer, name)


@pytest.mark.parametrize("name", compat.CALLED)
def test_what_is_called_is_a_method_of_trainer(name):
    assert callable(getattr(Trainer, name))


def test_no_other_private_hook_is_overridden():
    private = {name for name in vars(PopulationTrainer) if name.startswith("_") and hasattr(Trainer, name)}
    dunder = {name for name in private if name.startswith("__")}
    assert private - dunder == set(compat.OVERRIDDEN)


def test_what_is_read_is_an_attribute_of_a_trainer(tmp_path):
    trainer = make(tmp_path)
    there = {name for name, why in compat.READ.items() if TRANSFORMERS_5 or not why.endswith("transformers 5")}
    assert all(getattr(trainer, name) is not None for name in there)


def test_the_other_names_are_there(tmp_path):
    assert callable(TensorBoardCallback._init_summary_writer)
    assert "self._SummaryWriter" in inspect.getsource(TensorBoardCallback)
    assert PretrainedConfig()._name_or_path == ""
    assert callable(trainer_utils.RemoveColumnsCollator)
    args = TrainingArguments(str(tmp_path), use_cpu=True, report_to=[])
    assert args.device == vars(args)["_setup_devices"] == torch.device("cpu")  # kept after it was asked for once
    assert args.n_gpu == args._n_gpu == 0
    assert set(compat.OTHERS) == {
        "TensorBoardCallback._init_summary_writer",
        "TensorBoardCallback._SummaryWriter",
        "PretrainedConfig._name_or_path",
        "TrainingArguments._setup_devices",
        "TrainingArguments._n_gpu",
        "trainer_utils.RemoveColumnsCollator",
    }
