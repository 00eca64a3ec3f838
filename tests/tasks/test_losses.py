"""Losses of soft targets and of rows that count differently: a row that counts three times is three rows."""

import pytest
import torch
from torch.nn.functional import kl_div, one_hot

from deni.errors import SettingError
from deni.randomness import generator
from deni.tasks import TASKS, find_task
from deni.tasks.losses import Soft

COUNTS = torch.tensor([3, 0, 1, 2, 1, 2])  # of two members with three rows each
WEIGHTS = torch.tensor([0.2, 1.0, 5.0], dtype=torch.float64)


def drawn(task):
    """Logits of two passes, labels and soft targets of six rows, folded."""
    draw = generator(0)
    shape = (6, 4, 3) if task == "token" else (6, 3)
    first, other, targets = (torch.randn(shape, generator=draw, dtype=torch.float64) for _ in range(3))
    if task == "regression":
        return first, other, targets.round(), targets
    if task == "multi_label":
        return first, other, (targets > 0).double(), targets.sigmoid()
    targets = targets.softmax(-1)
    labels = targets.argmax(-1)
    if task == "token":
        labels[torch.rand(labels.shape, generator=draw) < 0.3] = -100
    return first, other, labels, targets


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.takes_soft])
def test_a_row_that_counts_three_times_is_three_rows(name, soft):
    task = find_task(name)
    first, other, labels, targets = drawn(name)
    class_weights = [None, WEIGHTS] if task.class_weights else [None]
    for weight in class_weights:
        given = Soft(targets if soft else None, COUNTS.double())
        losses = task.member_losses(first, labels, 2, weight, given)
        apart = task.difference(first, other, labels, 2, weight, given)
        items = task.items(labels, weight, given)
        for member in range(2):
            at = torch.arange(3 * member, 3 * member + 3).repeat_interleave(COUNTS[3 * member : 3 * member + 3])
            rows = Soft(targets[at]) if soft else None
            alone = task.member_losses(first[at], labels[at], 1, weight, rows)
            assert losses[member] == pytest.approx(float(alone[0]), rel=1e-12)
            alone = task.difference(first[at], other[at], labels[at], 1, weight, rows)
            assert apart[member] == pytest.approx(float(alone[0]), rel=1e-12)
            total = float(task.items(labels[at], weight, rows).sum())
            assert float(items[3 * member : 3 * member + 3].sum()) == pytest.approx(total, rel=1e-6)


def test_the_loss_is_the_divergence_from_the_targets_up_to_a_constant():
    first, other, labels, targets = drawn("single_label")
    task = find_task("single_label")
    losses = [task.member_losses(logits, labels, 1, None, Soft(targets))[0] for logits in (first, other)]
    divergences = [kl_div(logits.log_softmax(-1), targets, reduction="batchmean") for logits in (first, other)]
    assert float(losses[0] - losses[1]) == pytest.approx(float(divergences[0] - divergences[1]), rel=1e-12)


def test_the_target_of_a_text_counts_whatever_its_label_is():
    first, _, labels, targets = drawn("single_label")
    task = find_task("single_label")
    expected = task.member_losses(first, labels, 2, WEIGHTS, Soft(targets))
    assert torch.equal(task.member_losses(first, torch.full_like(labels, -100), 2, WEIGHTS, Soft(targets)), expected)


def test_what_words_without_a_label_have_plays_no_part():
    first, _, labels, targets = drawn("token")
    task = find_task("token")
    expected = task.member_losses(first, labels, 2, None, Soft(targets))
    targets[labels == -100] = float("nan")
    logits = first.clone().requires_grad_()
    losses = task.member_losses(logits, labels, 2, None, Soft(targets))
    assert torch.equal(losses, expected)
    assert torch.autograd.grad(losses.sum(), logits)[0].isfinite().all()


def test_rows_that_do_not_count_have_loss_0():
    first, _, labels, targets = drawn("single_label")
    for name in ("single_label", "ordinal"):
        assert find_task(name).member_losses(first, labels, 2, None, Soft(targets, torch.zeros(6))).tolist() == [0, 0]


def test_targets_of_bfloat16_logits_are_not_rounded():
    first, _, labels, _ = drawn("single_label")
    logits, targets = first.bfloat16(), one_hot(labels, 3) * 0.7 + 0.1
    found = find_task("single_label").member_losses(logits, labels, 1, None, Soft(targets.double()))
    expected = -(targets * logits.double().log_softmax(-1)).sum(-1).mean()
    assert float(found[0]) == pytest.approx(float(expected), rel=1e-6)


def test_targets_that_do_not_fit_the_outputs_are_refused():
    first, _, labels, targets = drawn("single_label")
    with pytest.raises(SettingError, match=r"soft_labels \(6, 2\) do not fit logits \(6, 3\)"):
        find_task("single_label").member_losses(first, labels, 2, None, Soft(targets[:, :2]))
