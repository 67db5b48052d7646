"""How well several labels of a row are predicted: pure functions of scores [N, L] and labels {0,1} [N, L].

A label is said to be there where its score is above 0 (a logit: where its probability is above one half).
Rows may count by weights [N]. Labels that no test row has (that all have, for the area) say nothing and are
left out of means; a score that is not a number ranks last. None stands for what is undefined.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def figures(scores: Floats, y: Floats, weights: Floats) -> dict[str, float | None]:
    """Return the mean average precision as "", ``macro_f1``, ``micro_f1`` and ``auc``."""
    ranked = [ranking(scores[:, label], y[:, label], weights) for label in range(y.shape[1])]
    macro, micro = f1(scores, y, weights)
    return {
        "": _mean([precision for precision, _ in ranked]),
        "macro_f1": macro,
        "micro_f1": micro,
        "auc": _mean([area for _, area in ranked]),
    }


def f1(scores: Floats, y: Floats, weights: Floats) -> tuple[float | None, float | None]:
    """Return macro F1 (the mean over labels of 2 TP / (2 TP + FP + FN)) and micro F1 (of all counts
    together).

    >>> scores, y = np.array([[1.0, -1.0], [1.0, 1.0]]), np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> f1(scores, y, np.ones(2))  # 2/3 and 1; TP 2, FP 1, FN 0
    (0.8333333333333333, 0.8)
    """
    said = (scores > 0).astype(np.float64)
    right = weights @ (said * y)
    both = weights @ (said + y)
    held = weights @ y > 0
    macro = _mean(list(2 * right[held] / both[held]))
    return macro, (float(2 * right.sum() / both.sum()) if held.any() else None)


def ranking(scores: Floats, y: Floats, weights: Floats) -> tuple[float | None, float | None]:
    """Return average precision and area under the ROC curve of one label's scores [N] against y {0,1} [N].

    Average precision is the sum over thresholds of (R_k - R_{k-1}) P_k, as scikit-learn has it: no
    interpolation; equal scores are one threshold.

    >>> ranking(np.array([3.0, 2.0, 1.0]), np.array([1.0, 0.0, 1.0]), np.ones(3))  # (1 + 2/3) / 2, 1/2
    (0.8333333333333333, 0.5)
    """
    if not len(scores):
        return None, None
    scores = np.where(np.isnan(scores), -np.inf, scores)
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(scores[order][1:] != scores[order][:-1], True))
    hits = np.cumsum((weights * y)[order])[ends]
    false = np.cumsum((weights * (1 - y))[order])[ends]
    if hits[-1] == 0:
        return None, None
    recall = np.append(0.0, hits / hits[-1])
    precision = hits / np.maximum(hits + false, np.finfo(np.float64).tiny)
    average = float((np.diff(recall) * precision).sum())
    if false[-1] == 0:
        return average, None
    return average, float(np.trapezoid(recall, np.append(0.0, false / false[-1])))


def _mean(values: "list[float | None] | list[float]") -> float | None:
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if there else None
