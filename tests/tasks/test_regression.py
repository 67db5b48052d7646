"""Numbers of a row: by hand, and against scikit-learn."""

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from fedkt.errors import InputError
from fedkt.knowledge import Dims, Numbers, Rejected, encode
from fedkt.strategies.knfu import effectiveness
from fedkt.tasks import Regression

TASK = Regression()


def test_training_and_teaching_by_hand() -> None:
    z, y = torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 1.0]])
    assert TASK.row_loss(z, y).item() == 2.5  # (1 + 4) / 2
    assert TASK.said(z, "probabilities", 3.0) is z
    assert TASK.heard(z, "probabilities", 3.0) is z
    assert TASK.closed(z) is z
    assert [TASK.default_loss(name) for name in ("kl", "ce", "mse_prob", "mae")] == [
        "mse",
        "mse",
        "mse",
        "mae",
    ]


def test_divergence_is_that_of_gaussians_of_predictions() -> None:
    # N(0, 1) and N(1, 4): KL = (ln 4 + (1 + 1)/4 - 1)/2 = (1.386294 - .5)/2; back (-ln 4 + (4 + 1)/1 - 1)/2.
    values = torch.tensor([[[1.0], [-1.0]], [[3.0], [-1.0]]])
    described = TASK.described(values)
    assert described.tolist() == [[0.0, 1.0], [1.0, 4.0]]
    d = TASK.divergence(described)
    assert d.flatten().tolist() == pytest.approx([0, 0.443147, 1.306853, 0], abs=1e-6)
    weights = effectiveness(described, 1.0, task=TASK)
    assert weights[0].tolist() == pytest.approx(
        [1 / (1 + math.exp(-0.443147)), 1 / (1 + math.exp(0.443147))], abs=1e-6
    )


def test_whoever_says_a_constant_is_not_infinitely_far() -> None:
    values = torch.tensor([[[1.0], [1.0]], [[3.0], [-1.0]]])
    assert TASK.divergence(TASK.described(values)).isfinite().all()
    same = torch.ones(3, 5, 2)
    assert torch.allclose(TASK.divergence(TASK.described(same)), torch.zeros(3, 3, dtype=torch.float64))


def test_figures_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    y, s = rng.standard_normal((50, 2)), rng.standard_normal((50, 2))
    share, groups = np.array([0.1, 0.2, 0.3, 0.2, 0.2]), rng.integers(0, 5, 50)
    w = (share / np.bincount(groups, minlength=5))[groups]
    found = TASK.measure(torch.tensor(s), torch.tensor(y), 2, share, groups)
    assert found[""] == pytest.approx(sk.r2_score(y, s))
    assert found["rmse"] == pytest.approx(sk.root_mean_squared_error(y, s))
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(y, s))
    assert found["personal"] == pytest.approx(sk.r2_score(y, s, sample_weight=w))
    assert found["personal_rmse"] == pytest.approx(sk.root_mean_squared_error(y, s, sample_weight=w))
    assert TASK.leading(torch.ones(2, 1), torch.ones(2, 1)) is None  # nothing varies
    assert TASK.measure(torch.ones(0, 1), torch.ones(0, 1), 1, None, None)[""] is None


def test_ranges_are_brought_to_one_and_errors_told_in_units() -> None:
    task = Regression(((0.0, 10.0), (100.0, 300.0)))
    y, _ = task.read("here", [[0, 200], [10, 250]], None)
    assert y.tolist() == [[-1.0, 0.0], [1.0, 0.5]]
    assert task.said(torch.tensor([[3.0, -3.0]]), "logits", 1.0).tolist() == [[1.0, -1.0]]
    found = task.measure(torch.tensor(y) + 0.1, torch.tensor(y), 2, None, None)
    assert found["mae"] == pytest.approx((0.5 + 10) / 2, abs=1e-5)
    assert task.in_units(torch.tensor([[-1.0, 0.5]])).tolist() == [[0.0, 250.0]]


def test_fifths_are_of_all_rows() -> None:
    of = np.arange(10, dtype=np.float32)[:, None]
    assert TASK.strata(of, of).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert TASK.strata(np.array([[-5.0], [100.0]]), of).tolist() == [0, 4]
    assert len(TASK.groups(1)) == 5


def test_predictions_are_finite_numbers() -> None:
    dims = Dims(rows=2, transfer=4, classes=1, width=2, answers=Numbers)
    expected = dims.predictions.expected(dims, probabilities=True)
    encode({"values": np.array([[-3.0], [250.0]], np.float32)}, expected)
    for bad, reason in (([[np.nan], [0]], "finite"), ([[1e5], [0]], "range")):
        with pytest.raises(Rejected) as raised:
            encode({"values": np.array(bad, np.float32)}, expected)
        assert raised.value.reason == reason


@pytest.mark.parametrize(
    ("task", "y", "words"),
    [
        (TASK, [1.0, math.nan], "y lacks 1 value (first: row 1, column 0)"),
        (TASK, [1.0, math.inf], "targets must be finite"),
        (TASK, [1.0, 3e5], "data.targets must give each target's range, such as [[0, 300000]]"),
        (TASK, ["a", "b"], "it must hold numbers"),
        (Regression(((0, 1),)), [[0.5, 0.5]], "y has 2 targets per row but data.targets has 1; each"),
        (Regression(((0, 1),)), [0.5, 2.0], "target 0 holds 2, but data.targets says"),
    ],
)
def test_bad_targets_are_told(task: Regression, y: object, words: str) -> None:
    with pytest.raises(InputError) as raised:
        task.read("here", y, None)
    assert words in str(raised.value)


def test_a_column_that_is_the_target_is_found_in_any_unit() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 3))
    y = (3 * x[:, 1:2] - 7).astype(np.float32).astype(np.float64)
    assert TASK.copies(y, np.column_stack([x[:, 0], y[:, 0] / 2, x[:, 2]])) == [1]
    assert TASK.copies(y, x[:, [0, 2]]) == []
    assert "target 0 is one number" in TASK.lacking(np.ones((3, 1)), 1, None)[0]
