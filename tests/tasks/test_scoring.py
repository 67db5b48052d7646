"""Metrics against numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from fedkt.tasks import scoring as metrics

Y = torch.tensor([0, 0, 0, 1, 1, 3])


def scores_for(predicted: list[int], classes: int) -> Tensor:
    """Scores whose largest is at the predicted class."""
    return torch.nn.functional.one_hot(torch.tensor(predicted), classes).float()


SCORES = scores_for([0, 0, 1, 1, 0, 3], 4)  # right: 2 of 3, 1 of 2, none of class 2, 1 of 1


def test_accuracy_and_its_parts() -> None:
    assert metrics.accuracy(SCORES, Y) == 4 / 6
    per_class = metrics.per_class_accuracy(SCORES, Y)
    assert per_class[[0, 1, 3]] == pytest.approx([2 / 3, 1 / 2, 1])
    assert math.isnan(per_class[2])
    # (2/3 + 1/2 + 1)/3: a class without rows is left out
    assert metrics.balanced_accuracy(per_class) == pytest.approx(13 / 18)


def test_balanced_accuracy_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import balanced_accuracy_score

    generator = torch.Generator().manual_seed(0)
    scores, y = torch.randn(200, 5, generator=generator), torch.randint(5, (200,), generator=generator)
    ours = metrics.balanced_accuracy(metrics.per_class_accuracy(scores, y))
    assert ours == pytest.approx(balanced_accuracy_score(y, scores.argmax(1)))


def test_rows_without_numbers_are_wrong() -> None:
    # Otherwise argmax would take the place of the NaN: class 0 here, which is right by chance.
    scores = torch.tensor([[math.nan, 1.0], [1.0, 0.0]])
    y = torch.tensor([0, 0])
    assert metrics.predictions(scores).tolist() == [-1, 0]
    assert metrics.accuracy(scores, y) == 0.5
    assert metrics.per_class_accuracy(scores, y)[0] == 0.5


def test_personal_weighs_classes_by_the_training_share() -> None:
    per_class = np.array([0.5, 1.0, 0.0])
    # 0.2*0.5 + 0.7*1 + 0.1*0
    assert metrics.personal(per_class, np.array([0.2, 0.7, 0.1])) == pytest.approx(0.8)
    assert metrics.personal(per_class, np.array([0.0, 1.0, 0.0])) == 1.0


def test_personal_without_test_rows_of_a_class() -> None:
    per_class = np.array([0.5, math.nan, 1.0])
    # Class 1 is left out: (0.3*0.5 + 0.2*1)/(0.3 + 0.2)
    assert metrics.personal(per_class, np.array([0.3, 0.5, 0.2])) == pytest.approx(0.7)
    assert metrics.personal(per_class, np.array([0.0, 1.0, 0.0])) is None


def test_personal_with_the_test_set_s_own_shares_is_accuracy() -> None:
    share = np.array([3, 2, 0, 1]) / 6
    assert metrics.personal(metrics.per_class_accuracy(SCORES, Y), share) == pytest.approx(4 / 6)


def test_auc() -> None:
    # Differences: -1, 1 for class 0; 0, 2 for class 1. Of four pairs three are in order: (0>-1) (2>-1) (2>1).
    scores = torch.tensor([[0.5, -0.5], [0.0, 1.0], [3.0, 3.0], [-1.0, 1.0]])
    y = torch.tensor([0, 0, 1, 1])
    assert metrics.auc(scores, y) == 0.75
    assert metrics.auc(scores.softmax(-1), y) == 0.75
    assert metrics.auc(torch.zeros(4, 2), y) == 0.5


def test_auc_is_none_where_it_is_not_defined() -> None:
    scores = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    assert metrics.auc(scores, torch.tensor([1, 1])) is None
    assert metrics.auc(torch.tensor([[math.nan, 1.0], [1.0, 0.0]]), torch.tensor([0, 1])) is None
    assert metrics.auc(torch.tensor([[0.0, math.inf], [1.0, 0.0]]), torch.tensor([0, 1])) is None


def test_evaluate() -> None:
    found = metrics.evaluate(SCORES, Y, 4, share=np.array([0.0, 0.5, 0.5, 0.0]))
    # Personal: class 2 has no rows, so class 1 alone counts.
    assert found == {
        "accuracy": 4 / 6,
        "balanced_accuracy": pytest.approx(13 / 18),
        "auc": None,
        "personal": 0.5,
        "personal_balanced": 0.5,
    }
    # Class 0, right in 2 of 3, and class 3, right in 1 of 1, once by their shares and once alike.
    found = metrics.evaluate(SCORES, Y, 4, share=np.array([0.9, 0.0, 0.0, 0.1]))
    assert found["personal"] == pytest.approx(0.9 * 2 / 3 + 0.1)
    assert found["personal_balanced"] == pytest.approx(5 / 6)
    two = metrics.evaluate(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1]), 2)
    assert two == {"accuracy": 1.0, "balanced_accuracy": 1.0, "auc": 1.0}


@pytest.mark.parametrize("classes", [2, 3])
def test_evaluate_without_rows(classes: int) -> None:
    nothing = metrics.evaluate(
        torch.zeros(0, classes), torch.zeros(0, dtype=torch.int64), classes, np.ones(classes) / classes
    )
    assert set(nothing.values()) == {None}


def test_evaluate_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match=r"\[6, 4\]; it must be \[6, 3\]"):
        metrics.evaluate(SCORES, Y, 3)
