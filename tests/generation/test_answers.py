"""The majority over whole answers."""

from collections import Counter

import pytest

from deni.generation.answers import majority, normalized, share_of


def test_the_answer_of_most_members_wins():
    answers = ["18", "26", "18", "17", "26", "18"]
    won = majority(answers, [-5.0, -1.0, -4.0, -0.5, -1.0, -3.0])
    assert (answers[won.chosen], won.share) == ("18", Counter(answers)["18"] / 6)
    assert won.chosen == 5  # its most probable text


def test_a_tie_goes_to_the_most_probable_answer_and_then_to_the_first():
    assert majority(["a", "b"], [-2.0, -1.0]).chosen == 1
    assert majority(["b", "a", "a", "b"], [-1.0, -1.0, -3.0, -2.0]).chosen == 0


def test_answers_are_compared_without_case_width_and_white_space():
    assert normalized(" Ｐaris \n FRANCE") == "paris france"
    answers = ["Paris", "paris ", "Rome"]
    assert majority(answers, [-1.0, -2.0, -0.1]) == (0, 2 / 3)
    assert share_of("PARIS", answers) == 2 / 3


def test_another_normalization_decides_what_is_equal():
    answers = ["so it is 4", "hence 4", "5"]
    assert majority(answers, [-3.0, -2.0, -1.0]).share == pytest.approx(1 / 3)
    won = majority(answers, [-3.0, -2.0, -1.0], lambda answer: answer.split()[-1])
    assert (answers[won.chosen], won.share) == ("hence 4", pytest.approx(2 / 3))
