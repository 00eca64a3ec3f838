import pytest
import torch

from deni import DeniClassifier
from deni.data import read_texts
from deni.errors import InputError
from deni.finetune import fine_tune
from deni.models.devices import available_devices, find_device
from deni.recipe import Recipe


def test_the_cpu_is_always_there_and_is_chosen_where_it_is_alone():
    assert available_devices()[0] == "cpu"
    assert find_device("cpu") == torch.device("cpu")
    assert str(find_device("auto")) == str(find_device()) == (available_devices() * 2)[1]


@pytest.mark.parametrize("name", ["cuda:99", "mps:7", "gpu", "cpu:x", ""])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(name):
    with pytest.raises(InputError, match=f"^there is no device {name} here: choose auto or cpu"):
        find_device(name)


def test_training_is_on_the_device_that_is_named(tickets, model_folder):
    plan = Recipe.of(None, "default", model=model_folder, epochs=1)
    done = fine_tune(read_texts(tickets), plan, progress=False, device="cpu")
    assert done.trainer.args.device == torch.device("cpu")
    assert {value.device.type for value in done.trainer.population.values.values()} == {"cpu"}
    with pytest.raises(InputError, match="there is no device cuda:99 here"):
        fine_tune(read_texts(tickets), plan, progress=False, device="cuda:99")


def test_the_estimator_takes_a_device(model_folder):
    estimator = DeniClassifier(model_folder, "default", epochs=1, device="cuda:99")
    with pytest.raises(InputError, match="there is no device cuda:99 here"):
        estimator.fit(["a parcel", "an invoice"], ["x", "y"])
    assert estimator.set_params(device="cpu").fit(["a parcel", "an invoice"], ["x", "y"]).predict(["a"]).shape == (1,)
