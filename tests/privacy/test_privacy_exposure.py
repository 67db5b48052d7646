"""Exposure of planted secrets by hand."""

import math

import numpy as np
import pytest

from fedkt.privacy.attacks.exposure import MOST_CANDIDATES, Space, by_chance, exposure


def test_exposure_by_rank() -> None:
    """Eight candidates: the likeliest shows all 3 bits, the second 2, the last none."""
    surprises = np.array([5.0, 1.0, 2.0, 3.0, 4.0, 6.0, 7.0, 8.0])
    found = [exposure(surprises, place) for place in (1, 2, 4, 7)]
    assert found == pytest.approx([3.0, 2.0, 1.0, 0.0])
    assert exposure(surprises, 0) == pytest.approx(3 - math.log2(5))
    assert exposure(10 * surprises + 3, 0) == exposure(surprises, 0)  # any unit, since ranks are all


def test_ties_count_against_the_attacker() -> None:
    """A model that tells nothing apart shows nothing; two likeliest ones show a bit less than one would."""
    assert exposure(np.zeros(16), 3) == 0
    assert exposure([1.0, 1.0, 2.0, 3.0], 0) == 1.0


def test_guessing_shows_about_a_bit_and_a_half() -> None:
    """(2 + 1 + 2 - log2 3 + 0)/4 of four; log2 e in the limit."""
    assert by_chance(4) == pytest.approx((2 + 1 + (2 - math.log2(3))) / 4)
    assert by_chance(10_000) == pytest.approx(math.log2(math.e), abs=1e-3)
    ranks = [exposure(np.arange(1.0, 33.0), place) for place in range(32)]
    assert np.mean(ranks) == pytest.approx(by_chance(32))


def test_a_space_of_secrets() -> None:
    """A number is its digits in the alphabet's base, the first one counting most."""
    space = Space(b"pin ", b"0123456789", 3, b"!")
    assert len(space) == 1000 and space.secret(42) == b"042"
    held = space.sentences()
    assert len(set(held)) == 1000
    assert [held[k] for k in (0, 42, 999)] == [space.sentence(k) for k in (0, 42, 999)]
    assert held[999] == b"pin 999!"


@pytest.mark.parametrize(("alphabet", "length"), [(b"0", 3), (b"aa", 1), (b"01", 0)])
def test_a_space_needs_secrets(alphabet: bytes, length: int) -> None:
    with pytest.raises(ValueError, match="two or more symbols"):
        Space(b"", alphabet, length)


def test_what_cannot_be_ranked() -> None:
    with pytest.raises(ValueError, match="no likelihood"):
        exposure([1.0, math.nan], 0)
    with pytest.raises(ValueError, match="no place"):
        exposure([1.0, 2.0], 2)
    with pytest.raises(ValueError, match=str(MOST_CANDIDATES)):
        Space(b"", b"0123456789", 5)
