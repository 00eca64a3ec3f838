import pytest

from deni.errors import SettingError
from deni.serving import Limits


@pytest.mark.parametrize("name", ["max_body", "max_texts", "max_tokens", "max_waiting"])
@pytest.mark.parametrize("value", [0, -1, 1.5])
def test_a_limit_is_a_whole_number(name, value):
    with pytest.raises(SettingError, match=f"{name} must be a whole number of at least 1"):
        Limits(**{name: value})


def test_a_request_of_the_most_texts_could_be_taken():
    with pytest.raises(SettingError, match="max_waiting 10 is below max_texts 20"):
        Limits(max_texts=20, max_waiting=10)
