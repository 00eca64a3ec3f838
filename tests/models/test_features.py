"""The frozen encoder of models of other shapes than BERT's."""

import pytest
import torch
from transformers import AutoTokenizer, BartModel, T5EncoderModel

from deni.models.features import FrozenEncoder
from tests.helpers.generators import save_generator


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_of_an_encoder_with_a_decoder_the_encoder_is_taken(tmp_path, name):
    folder = save_generator(tmp_path, name)
    inputs = AutoTokenizer.from_pretrained(folder)("where is my parcel", return_tensors="pt")
    inputs = {key: inputs[key] for key in ("input_ids", "attention_mask")}
    own = T5EncoderModel.from_pretrained(folder) if name == "t5" else BartModel.from_pretrained(folder).encoder
    with torch.no_grad():
        expected = own.eval()(**inputs).last_hidden_state[0].mean(0)
    (found,) = FrozenEncoder(folder)(["where is my parcel"])
    assert found == pytest.approx(expected.double().numpy(), abs=1e-6)
