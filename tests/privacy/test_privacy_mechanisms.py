"""Sensitivities that neighbours reach and never exceed; noise of the declared size; clips that hold."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from fedkt.privacy import mechanisms as m

Rows = NDArray[np.float64]


def class_sums(x: Rows, y: NDArray[np.int64], classes: int = 3) -> Rows:
    sums = np.zeros((classes, x.shape[1]))
    np.add.at(sums, y, x)
    return sums


def counts(y: NDArray[np.int64], classes: int = 3) -> Rows:
    return np.bincount(y, minlength=classes).astype(float)


def clamped(x: Rows, y: NDArray[np.int64], least: int) -> Rows:
    return class_sums(x, y) / np.maximum(counts(y), least)[:, None]


def distance(release: Callable[[Rows, NDArray[np.int64]], Rows], one: tuple, other: tuple) -> float:
    return float(np.linalg.norm(release(*one) - release(*other)))


RELEASES: dict[str, tuple[Callable[[Rows, NDArray[np.int64]], Rows], float, float]] = {
    # what is released, its bound for a record added or removed, and replaced; C = 1
    "sums": (class_sums, 1.0, 2.0),
    "counts": (lambda x, y: counts(y), 1.0, math.sqrt(2)),
    "stacked": (lambda x, y: np.hstack([class_sums(x, y), counts(y)[:, None]]), math.sqrt(2), 2.0),
    "clamped 1": (lambda x, y: clamped(x, y, 1), 1.0, 2.0),
    "clamped 2": (lambda x, y: clamped(x, y, 2), 2 / 3, 1.0),
    "clamped 10": (lambda x, y: clamped(x, y, 10), 2 / 11, 2 * math.sqrt(2) / 11),
}


def test_sensitivities_are_those_of_the_table() -> None:
    """C = 1; the values were also found by a randomised search for the worst neighbours."""
    assert (m.of_sums(1, "add/remove"), m.of_sums(1, "replace")) == (1, 2)
    assert m.of_counts("add/remove") == 1
    assert m.of_counts("replace") == pytest.approx(1.414214)
    assert m.of_sums_and_counts(1, 1, "add/remove") == pytest.approx(1.414214)
    assert m.of_sums_and_counts(1, 1, "replace") == pytest.approx(2)
    for least, adding, replacing in [(1, 1, 2), (10, 0.181818, 0.257130), (50, 0.039216, 0.055459)]:
        assert m.of_clamped_mean(1, least, "add/remove") == pytest.approx(adding, abs=1e-6)
        assert m.of_clamped_mean(1, least, "replace") == pytest.approx(replacing, abs=1e-6)
    assert m.of_rows(1, 100) == 20
    assert m.of_client_mean(10, 100, "add/remove") == pytest.approx(0.1)
    assert m.of_client_mean(10, 100, "replace") == pytest.approx(0.2)
    assert m.of_vote_counts("add/remove") == 1
    assert m.of_vote_counts("replace") == pytest.approx(1.414214)


@pytest.mark.parametrize("name", RELEASES)
@given(data=st.data())
def test_no_neighbour_exceeds_a_sensitivity(name: str, data: st.DataObject) -> None:
    release, adding, replacing = RELEASES[name]
    n = data.draw(st.integers(1, 25))
    stream = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    # Rows on and in the unit ball; aligned ones are the worst for means.
    x = m.clip_rows(stream.normal(size=(n, 3)) * data.draw(st.sampled_from([0.1, 1, 100])), 1.0)
    if data.draw(st.booleans()):
        x = np.repeat(x[:1], n, 0)
    y = stream.integers(0, data.draw(st.integers(1, 3)), n)
    changed_x, changed_y = x.copy(), y.copy()
    changed_x[0] = data.draw(st.sampled_from([-1.0, 0.0, 1.0])) * x[0]
    changed_y[0] = data.draw(st.integers(0, 2))
    assert distance(release, (x, y), (x[1:], y[1:])) <= adding + 1e-9
    assert distance(release, (x, y), (changed_x, changed_y)) <= replacing + 1e-9


@pytest.mark.parametrize("name", RELEASES)
def test_the_worst_neighbours_reach_every_sensitivity(name: str) -> None:
    """Searched over: n equal rows, of one class; one more, opposite or equal, of it or of another class."""
    release, adding, replacing = RELEASES[name]
    e = np.array([[1.0, 0.0, 0.0]])
    added, replaced = 0.0, 0.0
    for n in range(0, 12):
        for sign in (1.0, -1.0):
            same = np.repeat(e, n, 0), np.zeros(n, np.int64)
            more = np.vstack([same[0], sign * e]), np.append(same[1], 0)
            added = max(added, distance(release, same, more))
            # Classes 0 and 1 with n rows each, in the direction that the changed row opposes.
            base_x, base_y = np.repeat(e, 2 * n, 0), np.repeat([0, 1], n)
            for other_sign, other in [(1.0, 0), (-1.0, 0), (1.0, 1), (-1.0, 1)]:
                one = np.vstack([base_x, sign * e]), np.append(base_y, 0)
                two = np.vstack([base_x, other_sign * e]), np.append(base_y, other)
                replaced = max(replaced, distance(release, one, two))
    assert 0.99 * adding <= added <= adding + 1e-9
    assert 0.99 * replacing <= replaced <= replacing + 1e-9


def test_a_clients_rows_reach_their_sensitivity() -> None:
    """All rows opposite; and for distributions the corners of the simplex, √2 apart."""
    rows = np.tile([1.0, 0.0], (9, 1))
    assert np.linalg.norm(rows - -rows) == pytest.approx(m.of_rows(1.0, 9))
    assert np.linalg.norm(rows - rows[:, ::-1]) == pytest.approx(math.sqrt(2 * 9))


@given(st.lists(st.lists(st.floats(width=64), min_size=3, max_size=3), min_size=1, max_size=4))
def test_clipping_holds_for_every_number(values: list[list[float]]) -> None:
    """NaN, infinity and the largest floats included."""
    clipped = m.clip_rows(values, 1.0)
    assert np.isfinite(clipped).all()
    assert (np.linalg.norm(clipped, axis=1) <= 1.0 + 1e-12).all()
    on_grid = m.to_grid(clipped, m.GRID) * m.GRID
    assert (np.abs(on_grid) <= np.abs(clipped)).all()


def test_clipping_leaves_short_rows_alone() -> None:
    assert m.clip_rows([[0.3, 0.4], [3.0, 4.0], [0.0, 0.0]], 1.0).tolist() == [
        [0.3, 0.4],
        [pytest.approx(0.6), pytest.approx(0.8)],
        [0.0, 0.0],
    ]


def test_the_nearest_distribution() -> None:
    """(1, 1, 1) and (.5, .5, .5) are nearest to the uniform one; (2, 0, 0) to a corner; by hand (.8, .6, 0):
    excess (.8+.6-1)/2 = .2, so (.6, .4, 0)."""
    found = m.onto_simplex(np.array([[1.0, 1, 1], [0.5, 0.5, 0.5], [2, 0, 0], [0.8, 0.6, 0.0]]))
    assert found.flatten().tolist() == pytest.approx([1 / 3] * 6 + [1, 0, 0, 0.6, 0.4, 0])


@pytest.mark.parametrize("scale", [1.0, 10.0, 1000.0])
def test_discrete_noise_has_the_declared_size(scale: float) -> None:
    noise = m.discrete_gaussian(np.zeros(4000, np.int64), scale, 1.0)
    low, high = stats.chi2.interval(1 - 1e-6, len(noise))
    assert low < (noise / scale).__pow__(2).sum() < high
    assert abs(noise.mean()) < 5 * scale / math.sqrt(len(noise))


def test_two_releases_of_the_same_differ() -> None:
    first, second = (m.discrete_gaussian(np.zeros(50, np.int64), 100.0, 1.0) for _ in range(2))
    assert (first != second).any()


def test_noisy_rows_have_noise_for_the_whole_matrix() -> None:
    """400 rows, C = 1: sensitivity 2·√400 = 40, so a coordinate's deviation is σ·40."""
    noisy = m.noisy_rows(np.zeros((400, 5)), 1.0, 0.5)
    low, high = stats.chi2.interval(1 - 1e-6, noisy.size)
    assert low < float(np.square(noisy / 20).sum()) < high


def test_noisy_class_sums_are_right_without_much_noise() -> None:
    """Rows of norm 5 are cut to norm 1; an absent class has noise only."""
    x = np.array([[3.0, 4.0], [0.0, 0.5], [0.0, 0.5]])
    sums, found = m.noisy_class_sums(x, np.array([0, 2, 2]), 4, 1.0, 1e-4)
    assert sums.flatten().tolist() == pytest.approx([0.6, 0.8, 0, 0, 0, 1, 0, 0], abs=2e-3)
    assert np.allclose(found, [1, 0, 2, 0], atol=2e-3)
    noisy, noisy_counts = m.noisy_class_sums(np.zeros((1, 500)), np.array([0]), 2, 2.0, 3.0)
    # Stacked sensitivity √2·C = 2.83, times 3; the counts' noise is that over C.
    low, high = stats.chi2.interval(1 - 1e-6, noisy.size)
    assert low < float(np.square(noisy / (3 * math.sqrt(2) * 2)).sum()) < high
    assert np.abs(noisy_counts - [1, 0]).max() < 6 * 3 * math.sqrt(2)


def test_a_noisy_mean_divides_by_the_public_number() -> None:
    """Three of four clients came: their sum over 4. Each has norm √8 > 2 and is cut to 2."""
    payloads = np.ones((3, 2, 4))
    mean = m.noisy_client_mean(payloads, 2.0, 4, 1e-4)
    assert np.allclose(mean, 3 * 2 / math.sqrt(8) / 4, atol=1e-3)


@pytest.mark.parametrize(
    ("classes", "epsilon", "keep"),
    [(10, 0.5, 0.154828), (10, 1, 0.231969), (10, 3, 0.690568), (2, 1, 0.731059), (100, 3, 0.168665)],
)
def test_how_often_an_answer_is_kept(classes: int, epsilon: float, keep: float) -> None:
    assert m.keeps(classes, epsilon) == pytest.approx(keep, abs=1e-6)


def test_an_answer_costs_what_the_library_says() -> None:
    """OpenDP's own map of its mechanism: 0.690566 among 10 answers is 2.99999, just below 3."""
    import opendp.prelude as dp

    dp.enable_features("contrib")
    assert dp.m.make_randomized_response(list(range(10)), 0.690566).map(1) == pytest.approx(2.99999, abs=1e-5)


def test_randomised_answers_keep_and_spread() -> None:
    """3000 answers at ε = 3, K = 10: kept in 69.06 %; the other nine classes alike."""
    answers = m.randomised_response(np.full(3000, 4), 10, 3.0)
    kept = (answers == 4).mean()
    assert abs(kept - 0.690568) < 5 * math.sqrt(0.69 * 0.31 / 3000)
    others = np.bincount(answers, minlength=10)[[0, 1, 2, 3, 5, 6, 7, 8, 9]]
    assert stats.chisquare(others).pvalue > 1e-6


def test_answers_are_unbiased_on_average() -> None:
    """Over all answers, weighted with their probabilities, the estimate is the vote itself."""
    keep = m.keeps(3, 1.0)
    odds = np.array([keep, (1 - keep) / 2, (1 - keep) / 2])
    assert np.allclose(odds @ m.unbiased(np.eye(3), 3, 1.0), [1, 0, 0])


def test_noisy_winners_and_confident_rows() -> None:
    votes = np.array([[900, 100, 0], [0, 200, 800], [340, 330, 330]])
    assert m.noisy_winner(votes, 1.0)[:2].tolist() == [0, 2]
    assert m.confident_rows(votes, 600, 1.0).tolist() == [0, 1]
