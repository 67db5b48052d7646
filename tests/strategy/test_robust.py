"""Centres and filters that a hostile minority cannot move, by hand and against Flower's own."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, RecordDict
from flwr.serverapp.strategy.fedtrimmedavg import trim_mean
from flwr.serverapp.strategy.multikrum import select_multikrum
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedkt.engine.checks.checked import checked_world
from fedkt.errors import InputError
from fedkt.scenario import Robust, from_dict
from fedkt.strategy.fusing import robust

FIVE = torch.tensor([[[1.0, 10.0]], [[2.0, 20.0]], [[3.0, 30.0]], [[4.0, 40.0]], [[500.0, -9.0]]])
few = settings(max_examples=40, deadline=None)


def drawn(least: int = 1) -> Any:
    size = st.tuples(st.integers(least, 9), st.integers(1, 3), st.integers(1, 4))
    return size.flatmap(lambda s: arrays(np.float64, s, elements=st.floats(-100, 100), unique=True))


# ---- centres


def test_the_median_by_hand() -> None:
    assert robust.median(FIVE).tolist() == [[3.0, 20.0]]
    # Of four: the mean of the two in the middle.
    assert robust.median(FIVE[:4]).tolist() == [[2.5, 25.0]]
    # Weights 1 1 1 1 4, half of 8 is 4: first column (1 2 3 4 | 500), the middle lies between 4 and 500;
    # second column (-9 | 10 20 30 40) between -9 and 10.
    weights = torch.tensor([1.0, 1, 1, 1, 4])
    assert robust.median(FIVE, weights).tolist() == [[252.0, 0.5]]
    # Whoever has no weight is not there.
    assert robust.median(FIVE, torch.tensor([1, 0, 1, 0, 1])).tolist() == [[3.0, 10.0]]


def test_the_trimmed_mean_by_hand() -> None:
    # A fifth of five is one at each end: (2 + 3 + 4)/3, (10 + 20 + 30)/3.
    assert robust.trimmed_mean(FIVE, None, 0.2)[0].tolist() == pytest.approx([3.0, 20.0])
    # A share that is no whole number of clients is rounded up: 1.25 to 2, which leaves the middle one.
    assert robust.trimmed_mean(FIVE, None, 0.25)[0].tolist() == pytest.approx([3.0, 20.0])
    assert robust.trimmed_mean(FIVE, None, 0.0)[0].tolist() == pytest.approx([102.0, 18.2])
    # Two thirds of the weight in the middle of three: it occupies [1/6, 5/6]; cut are 1/3 at each end.
    weights = torch.tensor([1.0, 4.0, 1.0])
    assert robust.trimmed_mean(FIVE[:3], weights, 0.3)[0].tolist() == pytest.approx([2.0, 20.0])


def test_the_geometric_median_by_hand() -> None:
    # Of the corners of a triangle with angles below 120 degrees it is the Fermat point: for the equilateral
    # one its centre, wherever else its mean goes when a fourth client is far off.
    corners = torch.tensor([[[0.0, 0.0]], [[2.0, 0.0]], [[1.0, math.sqrt(3)]]])
    centre = pytest.approx([1.0, 1 / math.sqrt(3)], abs=1e-4)
    assert robust.geometric_median(corners)[0].tolist() == centre
    # With the corner of 90 degrees at 0 and sides 1: (3 - sqrt 3)/6 in both coordinates.
    right = torch.tensor([[[0.0, 0.0]], [[1.0, 0.0]], [[0.0, 1.0]]])
    assert robust.geometric_median(right)[0].tolist() == pytest.approx([0.21132, 0.21132], abs=1e-4)
    # On a line it is the median, here with weights 1 1 3.
    line = torch.tensor([[[0.0]], [[1.0]], [[7.0]]])
    assert robust.geometric_median(line)[0].tolist() == pytest.approx([1.0], abs=1e-4)
    assert robust.geometric_median(line, torch.tensor([1, 1, 3]))[0].tolist() == pytest.approx(
        [7.0], abs=1e-4
    )


def test_weights_may_differ_from_point_to_point() -> None:
    """Class 0 is held by all, class 1 by the first two, class 2 by nobody."""
    values = torch.tensor([[[1.0], [5.0], [9.0]], [[2.0], [7.0], [9.0]], [[90.0], [99.0], [9.0]]])
    held = torch.tensor([[True, True, False], [True, True, False], [True, False, False]])
    assert robust.median(values, held).tolist() == [[2.0], [6.0], [0.0]]
    assert robust.trimmed_mean(values, held, 0.3).tolist() == [[2.0], [6.0], [0.0]]
    assert robust.weighted_mean(values, held).tolist() == [[31.0], [6.0], [0.0]]
    assert robust.geometric_median(values, held).flatten().tolist() == pytest.approx([2, 6, 0], abs=1e-4)


def test_rows_of_probabilities_are_divided_by_their_sum() -> None:
    # Medians of the columns: .2, .3, .3; together .8.
    values = torch.tensor([[[0.7, 0.2, 0.1]], [[0.2, 0.3, 0.5]], [[0.1, 0.6, 0.3]]])
    found = robust.centre(values, None, Robust(centre="median"), simplex=True)
    assert found[0].tolist() == pytest.approx([0.25, 0.375, 0.375])
    assert robust.centre(values, None, Robust(centre="median"))[0].tolist() == pytest.approx([0.2, 0.3, 0.3])


@few
@given(drawn())
def test_the_median_is_that_of_numpy_and_flower(values: Any) -> None:
    """Flower's FedMedian takes NumPy's median."""
    found = robust.median(torch.from_numpy(values))
    assert np.allclose(found, np.median(values, axis=0))
    assert np.allclose(robust.median(torch.from_numpy(values), torch.full((len(values),), 3.0)), found)


@few
@given(drawn(), st.integers(0, 4))
def test_the_trimmed_mean_is_that_of_flower(values: Any, cut: int) -> None:
    n = len(values)
    if 2 * cut >= n:
        return
    share = cut / n
    found = robust.trimmed_mean(torch.from_numpy(values), None, share)
    assert np.allclose(found, trim_mean(values, share + 1e-12))
    assert np.allclose(robust.trimmed_mean(torch.from_numpy(values), torch.ones(n), share), found)


@few
@given(drawn(5), st.integers(0, 1), st.integers(1, 4))
def test_krum_is_that_of_flower(values: Any, hostile: int, keep: int) -> None:
    contents = [RecordDict({"arrays": ArrayRecord({"w": Array(v)})}) for v in values]
    chosen = select_multikrum(contents, hostile, keep)
    theirs = sorted(next(i for i, c in enumerate(contents) if c is one) for one in chosen)
    ours = robust.krum(torch.from_numpy(values), None, hostile, keep)
    if ours != theirs:  # their distances are differences of large squares: scores may be equal but for that
        scores = sorted(score(values, hostile))
        assert scores[keep] - scores[keep - 1] < 1e-6 * (1 + scores[keep])


def score(values: Any, hostile: int) -> list[float]:
    flat = values.reshape(len(values), -1)
    square = ((flat[:, None] - flat[None]) ** 2).sum(-1)
    return [float(np.sort(row)[1 : max(1, len(flat) - hostile - 2) + 1].sum()) for row in square]


@pytest.mark.parametrize("centre", ["median", "trimmed-mean", "geometric-median"])
@few
@given(honest=arrays(np.float64, (6, 2, 3), elements=st.floats(-1, 1)), far=st.floats(-1e6, 1e6))
def test_two_of_eight_do_not_move_it_out_of_the_honest_range(centre: str, honest: Any, far: float) -> None:
    values = torch.from_numpy(np.concatenate([honest, np.full((2, 2, 3), far)]))
    found = robust.centre(values, None, Robust.model_validate({"centre": centre}))
    # The geometric median is bounded by 2 (n - f)/(n - 2 f) = 3 times the largest honest distance from 0.
    bound = 3 * math.sqrt(3) if centre == "geometric-median" else 1
    assert found.abs().max() <= bound + 1e-6


# ---- filters


def test_krum_by_hand() -> None:
    # Squared distances on the line 0 1 3 6 50, with f = 1: the 5 - 1 - 2 = 2 nearest.
    # 0: 1 + 9 = 10; 1: 1 + 4 = 5; 3: 4 + 9 = 13 (to 1 and 0; or 6: 9); 6: 9 + 25 = 34; 50: 44^2 + 47^2.
    values = torch.tensor([0.0, 1, 3, 6, 50]).view(5, 1, 1)
    assert robust.krum(values, None, 1, 1) == [1]
    assert robust.krum(values, None, 1, 2) == [0, 1]
    assert robust.krum(values, None, 1, 4) == [0, 1, 2, 3]


def test_krum_compares_what_both_hold() -> None:
    """The third client agrees on the only class that it holds; zeros elsewhere do not count against it."""
    values = torch.tensor(
        [[[1.0], [100.0]], [[1.0], [101.0]], [[1.0], [0.0]], [[9.0], [0.0]], [[5.0], [50.0]]]
    )
    held = torch.tensor([[True, True], [True, True], [True, False], [True, False], [True, True]])
    assert robust.krum(values, held, 1, 3) == [0, 1, 2]


def test_similarity_by_hand() -> None:
    # The median of the three is (1, 0); cosines 1, 1/sqrt 2, -1.
    values = torch.tensor([[[2.0, 0.0]], [[1.0, 1.0]], [[-1.0, 0.0]]])
    assert robust.similarity(values, None).tolist() == pytest.approx([1.0, 0.70711, -1.0], abs=1e-5)
    # As probabilities: less 1/2 they are (.4, -.4), (.1, -.1), (-.4, .4); median (.1, -.1).
    chances = torch.tensor([[[0.9, 0.1]], [[0.6, 0.4]], [[0.1, 0.9]]])
    assert robust.similarity(chances, None, simplex=True).tolist() == pytest.approx(
        [1.0, 1.0, -1.0], abs=1e-5
    )
    assert robust.kept(chances, None, Robust(filter="cosine"), simplex=True) == [0, 1]


def test_agreement_by_hand() -> None:
    values = torch.tensor([[[2.0, 1.0], [0.0, 3.0]], [[2.0, 1.0], [4.0, 3.0]], [[0.0, 1.0], [4.0, 3.0]]])
    assert robust.agreement(values, torch.tensor([0, 1])).tolist() == [1.0, 0.5, 0.0]
    # The median client agrees on 0.5; half of that is 0.25.
    assert robust.agreeing(values, torch.tensor([0, 1]), 0.5) == [0, 1]
    assert robust.agreeing(values, torch.tensor([0, 1]), 1.0) == [0, 1]
    assert robust.agreeing(values[:, :0], torch.tensor([], dtype=torch.int64), 1.0) == [0, 1, 2]
    assert robust.at_least(torch.tensor([-0.5, -0.1]), 0.0) == [1]


def test_a_hostile_minority_by_hand() -> None:
    assert [robust.most_hostile(n, 0.25) for n in (1, 2, 3, 4, 5, 8, 9)] == [0, 0, 1, 1, 2, 2, 3]
    assert robust.most_hostile(8, 0.0) == 0
    assert robust.most_hostile(5, 0.49) == 2


def test_probe_rows_are_found_among_those_asked_for() -> None:
    probe = robust.Probe(torch.tensor([2, 5, 7]), torch.tensor([0, 1, 2]))
    places, labels = probe.among(torch.tensor([1, 2, 7, 9], dtype=torch.int32))
    assert (places.tolist(), labels.tolist()) == ([1, 2], [0, 2])
    assert probe.among(None)[0].tolist() == [2, 5, 7]
    labels_of = np.array([3, -1, 4, 5, -1])
    some = robust.Probe.drawn(labels_of, 2, seed=0)
    assert len(some.rows) == 2
    assert some.labels.tolist() == labels_of[some.rows].tolist()
    assert (some.labels >= 0).all()


# ---- what a scenario may ask for


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        (
            {"strategy": {"name": "fedtgp"}, "robust": {"centre": "median"}},
            "robust.centre is 'median', but strategy 'fedtgp' takes no mean of its clients' knowledge; it "
            "must be 'mean'.",
        ),
        (
            {"strategy": {"name": "local"}, "robust": {"filter": "krum"}},
            "robust.filter is 'krum', but clients of strategy 'local' send no values that could be compared; "
            "it must be 'none'.",
        ),
        (
            {"strategy": {"name": "fedproto"}, "robust": {"filter": "probe"}},
            "robust.filter is 'probe', but strategy 'fedproto' exchanges nothing about the transfer set; it "
            "must be another one.",
        ),
        (
            {"robust": {"filter": "probe", "probe_rows": 21}},
            "robust.probe_rows is 21, but labels of 20 transfer rows are known; it must be "
            "at most their number.",
        ),
        (
            {"attacks": [{"kind": "collude", "target": 10}]},
            "attacks.0.target is 10, but there are 10 classes; it must be at most 9.",
        ),
        (
            {"attacks": [{"kind": "echo", "clients": ["1"]}, {"kind": "peak", "clients": ["1"]}]},
            "attacks.1.clients names '1', which is no client that is free to be hostile; there are 0, 2.",
        ),
        (
            {"attacks": [{"kind": "echo", "clients": 4}]},
            "attacks.0.clients is 4, but 3 clients are left; it must be at most their number.",
        ),
        (
            {"strategy": {"name": "fedavg"}, "allow": ["weights"], "attacks": [{"kind": "peak"}]},
            "attacks.0.kind is 'peak', but clients of strategy 'fedavg' send no values to lie about; it must "
            "be 'label-flip' or 'echo'.",
        ),
    ],
)
def test_one_problem_one_sentence(part: dict[str, Any], sentence: str) -> None:
    data = {"partition": {"clients": 3, "kind": "iid", "samples_per_client": 20}, "transfer": {"size": 20}}
    described = {"name": "a", "data": data, **part}
    with pytest.raises(InputError) as raised:
        checked_world(from_dict(described))
    assert raised.value.problems == (sentence,)
