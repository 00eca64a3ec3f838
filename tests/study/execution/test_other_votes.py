import numpy as np
import pytest
from sklearn.metrics import f1_score

from deni.study.execution.other_votes import other_votes

GOLD = np.array([0, 1, 1])
# Three members for each text: two weak votes against a sure one in the first, then agreement, then the parent alone.
MEMBERS = np.log(
    [
        [[0.4, 0.6], [0.4, 0.6], [0.9, 0.1]],
        [[0.2, 0.8], [0.2, 0.8], [0.3, 0.7]],
        [[0.2, 0.8], [0.6, 0.4], [0.6, 0.4]],
    ]
)


def test_each_vote_is_scored_by_what_it_chooses():
    merged = np.log([[0.7, 0.3], [0.1, 0.9], [0.6, 0.4]])
    found = other_votes(MEMBERS, merged, GOLD, "single_label")

    def score(*chosen):
        return pytest.approx(f1_score(GOLD, chosen, average="macro"))

    assert found["soft_macro_f1"] == score(0, 1, 1)  # 0.567 against 0.433; 0.533 for 1 in the last
    assert found["hard_macro_f1"] == score(1, 1, 0)
    assert found["parent_macro_f1"] == score(1, 1, 1)
    assert found["merged_macro_f1"] == score(0, 1, 0)
    own = [f1_score(GOLD, chosen, average="macro") for chosen in ([1, 1, 1], [1, 1, 0], [0, 1, 0])]
    assert found["members_macro_f1"] == pytest.approx(np.mean(own))
    assert found["disagreement"] == pytest.approx(np.mean([2 / 3, 0, 2 / 3]))


def test_one_member_has_no_other_vote():
    assert other_votes(MEMBERS[:, :1], None, GOLD, "single_label") == {}


def test_of_another_task_the_merged_model_alone_is_scored():
    numbers = np.array([[[1.0], [2.0]], [[3.0], [5.0]]])
    found = other_votes(numbers, numbers.mean(1), np.array([1.5, 4.0]), "regression")
    assert found == {"merged_pearson": pytest.approx(1), "merged_rmse": 0.0}
