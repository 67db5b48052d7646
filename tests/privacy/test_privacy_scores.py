"""Attacks on what was released, by hand numbers: answers about rows, sums over rows, rows themselves."""

import numpy as np
import pytest

from fedkt.privacy.attacks.scores import (
    Answers,
    Rows,
    Sums,
    cooperative,
    decoded,
    distillation,
    likelihood,
    log_odds,
    margins,
)
from fedkt.rng import numpy_stream


def test_cooperative_lira_by_hand() -> None:
    """Peers say 1, 3 (mean 2, deviation √2) and 0, 0 (deviation at least a tenth of the mean √2/2)."""
    found = cooperative(np.array([4.0, 1.0]), np.array([[1.0, 0.0], [3.0, 0.0]]))
    assert found.tolist() == pytest.approx([2**0.5, 10 * 2**0.5])


def test_distillation_lira_finds_the_rows_whose_answers_do_not_follow_from_the_others() -> None:
    """30 rows on a line, sure of class 1 from the middle on, but for rows 3 and 20: these were memorised.

    By their labels 1 and 0 they are surer than any shadow without them; row 10, told as its neighbours are,
    is not.
    """
    looks = np.linspace(-1, 1, 30)[:, None]
    sure = np.where(looks > 0, 0.9, 0.1)
    sure[[3, 20]] = 1 - sure[[3, 20]]
    places = np.array([3, 20, 10])
    found = distillation(looks, np.hstack([1 - sure, sure]), places, np.array([1, 0, 0]))
    assert found[0] > 3 and found[1] > 3 and abs(found[2]) < 3
    # As the opposite of their labels they are less sure than the shadows.
    assert distillation(looks, np.hstack([1 - sure, sure]), places, np.array([0, 1, 0]))[0] < -3


def test_shadows_learn_logits_as_well_as_probabilities() -> None:
    """log p and log p + 5 are the same answers."""
    looks = np.arange(8.0)[:, None]
    p = np.array([[0.3, 0.7], [0.6, 0.4]] * 4)
    places, labels = np.arange(8), np.array([0, 1] * 4)
    expected = distillation(looks, p, places, labels)
    assert distillation(looks, np.log(p) + 5, places, labels) == pytest.approx(expected)
    assert log_odds(np.log(p), labels) == pytest.approx(margins(p, labels))


def test_answers_are_scored_by_the_attacked_client_beyond_its_peers() -> None:
    """Client 1 says .8 of canary 0 (log-odds 1.386), clients 0 and 2 .5 and .2 (0, -1.386): 2.079 beyond.

    Canary 1 was not asked about; the density of client 1 is 3, that of its peers 1 and 0 on average.
    """
    values = np.array([[[0.5, 0.5]], [[0.8, 0.2]], [[0.2, 0.8]]])
    density = np.array([[1.0], [3.0], [0.0]])
    answers = Answers(values, 1, np.array([0]), np.array([0]), None, density)
    found = answers.attacked(np.array([1, 1]) - [1, 0])
    assert list(found) == ["margin", "cooperative", "familiarity"]
    assert found["margin"].tolist() == pytest.approx([1.5 * np.log(4), 0])
    assert found["familiarity"].tolist() == [2.5, 0.0]


def test_sums_are_decoded_by_hand() -> None:
    """Canaries add (1, 0) and (1, 1); only the second is in (1, 1): c - 1/2 is -1/2 and 1/2 without noise.

    With noise of deviation 1: A Aᵀ + 4 = [[5, 1], [1, 6]], heard less half is (1 - 1, 2 - 3/2) = (0, 1/2):
    (-.5/29, 2.5/29).
    """
    parts = np.array([[1.0, 0.0], [1.0, 1.0]])
    heard = parts @ np.array([1.0, 1.0])
    assert decoded(parts @ parts.T, heard, 0.0) == pytest.approx([-0.5, 0.5], abs=1e-4)
    assert decoded(parts @ parts.T, heard, 1.0) == pytest.approx([-0.5 / 29, 2.5 / 29], abs=1e-4)


def test_an_attacker_of_sums_notices_that_noise_is_missing() -> None:
    """20 canaries in 40 numbers, exact sums where noise of deviation 5 is claimed: all coins are read."""
    draw = numpy_stream(0, "sums")
    parts, coins = draw.normal(size=(20, 40)), draw.random(20) < 0.5
    exact = Sums((coins @ parts)[None], parts, np.zeros(20, np.int64), np.array([5.0]))
    found = exact.attacked(np.zeros(20, np.int64))["sums"]
    assert ((found > 0) == coins).all() and np.abs(found).min() > 0.4
    noisy = Sums(exact.told + 5 * draw.normal(size=(1, 40)), parts, exact.groups, exact.noise)
    assert likelihood(parts, noisy.told[0], 5.0) > likelihood(parts, noisy.told[0], 0.5)


def test_sums_of_a_class_say_nothing_of_another() -> None:
    """Of class 0 the sum is (0,), of class 1 (2,): its canary, which adds 2, is in."""
    sums = Sums(np.array([[0.0], [2.0]]), np.array([[2.0], [2.0]]), np.array([0, 1]), np.zeros(2))
    assert sums.attacked(np.array([0, 1]))["sums"] == pytest.approx([-0.5, 0.5], abs=1e-4)


def test_rows_are_found_by_the_nearest_of_their_label() -> None:
    """(0, 0) of label 0 was sent, (3, 4) of label 1, five away from a canary at (0, 0) of label 1."""
    sent, looks = np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([[0.0, 0.0], [0.0, 0.0]])
    labels = np.array([0, 1])
    assert Rows(sent, labels, looks).attacked(labels)["nearest"].tolist() == [0.0, -5.0]
    assert Rows(sent, None, looks).attacked(labels)["nearest"].tolist() == [0.0, 0.0]
    assert Rows(sent[:1], labels[:1], looks).attacked(labels)["nearest"][1] < 0  # nobody of its label
