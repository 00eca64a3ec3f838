"""How long a student trains."""

import math

import pytest
from transformers import Trainer, TrainingArguments

from deni.distillation.sampling import draw, fit_length
from deni.errors import SettingError
from tests.helpers.plain import bert, rows


@pytest.mark.parametrize("labeled", [1, 7, 50, 203])
@pytest.mark.parametrize("pool", [1, 60, 500, 4400])
@pytest.mark.parametrize("epochs", [0.5, 1, 3, 10])
@pytest.mark.parametrize("batch", [1, 8, 16])
def test_a_student_trains_as_long_as_its_recipe_but_at_most_twice_the_steps_of_the_labeled_texts(
    labeled, pool, epochs, batch
):
    twice = 2 * math.ceil(epochs * math.ceil(labeled / batch))
    try:
        length = fit_length(labeled, pool, epochs, batch)
    except SettingError:
        assert labeled >= twice * batch  # the labeled texts alone fill all steps
        return
    natural = math.ceil(epochs * math.ceil((labeled + pool) / batch))
    assert length.steps == math.ceil(length.epochs * math.ceil((labeled + length.pool) / batch))
    assert length.steps <= twice
    if natural <= twice:
        assert (length.steps, length.epochs, length.pool) == (natural, epochs, pool)
    elif length.pool < pool:  # not before there is one epoch left
        assert length.epochs == 1
        assert math.ceil((labeled + length.pool + 1) / batch) > twice
    else:
        assert 1 <= length.epochs < max(epochs, 1.000001)
        assert length.steps == max(twice, math.ceil((labeled + pool) / batch))


def test_without_labeled_texts_the_pool_has_their_steps():
    """The teacher's 200 labeled texts say how long, and all rows are the pool's."""
    assert fit_length(200, 5000, 10, 8, rows=0).pool == 4000
    assert fit_length(200, 100, 10, 8, rows=0).steps == 130


def test_trainer_makes_these_steps(tmp_path):
    length = fit_length(12, 28, 2, 4)
    assert (length.steps, length.pool) == (12, 28)
    args = TrainingArguments(
        str(tmp_path),
        num_train_epochs=length.epochs,
        per_device_train_batch_size=4,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        save_strategy="no",
    )
    trainer = Trainer(bert(), args, train_dataset=rows(12 + length.pool))
    trainer.train()
    assert trainer.state.global_step == length.steps


def test_texts_are_drawn_once_in_their_order_and_by_the_seed():
    one, other = draw(100, 30, seed=0), draw(100, 30, seed=1)
    assert len(set(one)) == 30
    assert (sorted(one) == one).all()
    assert (draw(100, 30, seed=0) == one).all()
    assert set(one) != set(other)


def test_no_room_is_said():
    with pytest.raises(SettingError, match="2 steps, twice those of 200 labeled texts, leave no room"):
        fit_length(200, 5000, 0.01, 8)
