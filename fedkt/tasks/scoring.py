"""How well classes are predicted: pure functions of scores [N, K] and labels [N] of test rows.

A prediction is the class with the largest score (the first of equal ones); a row with a score that is not
a number counts as wrong. None stands for what is undefined, and becomes null in JSON.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]


def evaluate(scores: Tensor, y: Tensor, classes: int, share: Floats | None = None) -> dict[str, float | None]:
    """Return ``accuracy``, ``balanced_accuracy``, ``auc``; with ``share`` also two personal accuracies.

    ``scores`` [N, classes]: logits, probabilities or negative distances; ``y`` int64 [N] in [0, classes);
    ``share`` [classes]: of each class in ``personal``, see there; ``personal_balanced`` gives each class that
    has a share the same weight. ``auc`` is None unless there are two classes.
    """
    if scores.shape != (len(y), classes):
        raise ValueError(f"scores have shape {list(scores.shape)}; it must be {[len(y), classes]}")
    per_class = per_class_accuracy(scores, y)
    found: dict[str, float | None] = {
        "accuracy": accuracy(scores, y),
        "balanced_accuracy": balanced_accuracy(per_class),
        "auc": auc(scores, y) if classes == 2 else None,
    }
    if share is not None:
        found["personal"] = personal(per_class, share)
        found["personal_balanced"] = personal(per_class, (share > 0).astype(np.float64))
    return found


def predictions(scores: Tensor) -> Tensor:
    """Return the predicted class of each row, int64 [N]; -1 where a score is not a number."""
    return torch.where(scores.isnan().any(-1), -1, scores.argmax(-1))


def accuracy(scores: Tensor, y: Tensor) -> float | None:
    """Return the share of rows predicted right, in [0, 1]; None without rows."""
    if len(y) == 0:
        return None
    return int((predictions(scores) == y).sum()) / len(y)


def per_class_accuracy(scores: Tensor, y: Tensor) -> Floats:
    """Return the accuracy on the rows of each class [K], NaN for a class without rows."""
    classes = scores.shape[1]
    rows = torch.bincount(y, minlength=classes).numpy(force=True)
    right = torch.bincount(y[predictions(scores) == y], minlength=classes).numpy(force=True)
    per_class = np.full(classes, np.nan)
    np.divide(right, rows, out=per_class, where=rows > 0)
    return per_class


def confusion(scores: Tensor, y: Tensor, classes: int) -> NDArray[np.int64]:
    """Return how many rows of each class were predicted as each, int64 [classes, classes].

    A row of the matrix is a true class; rows without a prediction are in no column.
    """
    said = predictions(scores)
    known = said >= 0
    cells = (y[known] * classes + said[known]).numpy(force=True)
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def balanced_accuracy(per_class: Floats) -> float | None:
    """Return the mean of the accuracies on each class that has rows; None if none has.

    ``per_class`` [K] is what :func:`per_class_accuracy` returns. Brodersen et al. 2010, ICPR, "The Balanced
    Accuracy and Its Posterior Distribution".
    """
    present = per_class[~np.isnan(per_class)]
    return float(present.mean()) if len(present) else None


def auc(scores: Tensor, y: Tensor) -> float | None:
    """Return the area under the ROC curve of class 1 against class 0 for scores [N, 2], in [0, 1].

    None if only one class has rows or a score is not finite. Logits and their softmax give the same area,
    since rows are ranked by the difference of the two scores.
    """
    rank_by = (scores[:, 1].double() - scores[:, 0].double()).numpy(force=True)
    labels = y.numpy(force=True)
    if not np.isfinite(rank_by).all() or len(np.unique(labels)) < 2:
        return None
    from sklearn.metrics import roc_auc_score  # takes a second to import

    return float(roc_auc_score(labels, rank_by))


def personal(per_class: Floats, share: Floats) -> float | None:
    """Return the accuracy that a client with its own mix of classes gets from a common test set.

    The sum over classes of the client's training share of the class, ``share`` [K], times the accuracy on
    it, ``per_class`` [K]. Shares are scaled to add up to 1 over the classes that have test rows; None if
    the client has none of those.
    """
    present = ~np.isnan(per_class)
    weight = np.asarray(share, dtype=np.float64)[present]
    total = float(weight.sum())
    if total == 0:
        return None
    return math.fsum(weight * per_class[present]) / total
