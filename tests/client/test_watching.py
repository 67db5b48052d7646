"""The rule of the alarm of drift, by hand."""

from pathlib import Path

import pytest

from fedkt.client.lessons.watching import alarms, least_of, noted, read, totals
from fedkt.scenario import Drift

RULE = Drift(window=4, least=0.1, deviations=3.0, lasting=2)


def given(accuracy: list[float], rows: int = 10000, rule: Drift = RULE) -> list[int]:
    return [at for at, alarm in enumerate(alarms(accuracy, [rows] * len(accuracy), rule)) if alarm]


def test_the_threshold_is_the_larger_of_three() -> None:
    """By hand: 3 * sqrt(.8 * .2 / 36) = .2; 3 * .05 = .15 by the rounds; else .1."""
    assert least_of([0.8] * 4, 36, RULE) == pytest.approx(0.6)
    assert least_of([0.75, 0.85] * 2, 10**6, RULE) == pytest.approx(0.65)
    assert least_of([0.8] * 4, 10**6, RULE) == pytest.approx(0.7)


def test_the_alarm_is_given_once_in_the_second_low_round() -> None:
    assert given([0.8] * 6 + [0.5] * 6) == [7]
    assert given([0.8] * 6 + [0.5] * 6, rule=Drift(window=4, lasting=3)) == [8]
    assert given([0.8] * 6 + [0.5, 0.8, 0.5, 0.8, 0.5]) == []  # never two in a row
    assert given([0.8] * 6 + [0.71] * 6) == []  # 9 points are not enough
    assert given([0.8] * 3 + [0.5] * 9) == []  # too early: four rounds must be there before
    assert given([0.2, 0.4, 0.6, 0.8, 0.9, 0.9]) == []  # it learns


def test_low_rounds_do_not_drag_down_what_they_are_compared_with_and_looking_begins_anew() -> None:
    """With five low rounds asked for, the first of them would else be most of the mean of the last."""
    assert given([0.8] * 6 + [0.6] * 5, rule=Drift(window=4, lasting=5)) == [10]
    twice = [0.8] * 6 + [0.6] * 6 + [0.3] * 3
    assert given(twice) == [7, 13]


def test_few_rows_give_no_alarm_for_what_chance_does() -> None:
    """Of 9 rows at .8 the deviation is .133: a fall to .5 is 2.25 of them."""
    assert given([0.8] * 6 + [0.5] * 4, rows=9) == []
    assert given([0.8] * 6 + [0.3] * 4, rows=9) == [7]


def test_a_round_that_is_done_again_counts_once(tmp_path: Path) -> None:
    for number in (*range(1, 7), 5, 6):
        assert not noted(tmp_path, number, [40, 40], [50, 50], RULE)
    assert [seen["round"] for seen in read(tmp_path)] == [1, 2, 3, 4, 5, 6]
    assert totals(read(tmp_path)) == ([0.8] * 6, [100] * 6)
    assert [noted(tmp_path, number, [0, 40], [50, 50], RULE) for number in (7, 8, 9)] == [False, True, False]
