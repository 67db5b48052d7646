"""How well true links are told from others: pure functions of scores [N] and whether rows are true [N].

Rows of a question stand together: a true link, then what it is ranked against. Rows may count by weights
[N]; a question counts as its link does. A score that is not a number ranks last. None stands for what is
undefined.
"""

import numpy as np
from numpy.typing import NDArray

from fedkt.tasks.label_scoring import ranking

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
HITS = (1, 10)


def figures(scores: Floats, true: Flags, typed: Flags, weights: Floats) -> dict[str, float | None]:
    """Return the area under the ROC curve as "", ``auc_typed`` against corruptions of the right type,
    ``mrr`` and ``hits_1 hits_10``."""
    near = true | typed
    ranks, asked = filtered_ranks(scores, true), weights[true]
    whole = float(asked.sum())
    return {
        "": area(scores, true, weights),
        "auc_typed": area(scores[near], true[near], weights[near]),
        "mrr": float(asked @ (1 / ranks)) / whole if whole else None,
        **{f"hits_{k}": float(asked @ (ranks <= k)) / whole if whole else None for k in HITS},
    }


def area(scores: Floats, true: Flags, weights: Floats) -> float | None:
    """Return the area under the ROC curve: how often a true link is above another, of equal scores half.

    >>> area(np.array([3.0, 2.0, 1.0, 0.0]), np.array([True, False, True, False]), np.ones(4))  # 3 of 4 pairs
    0.75
    """
    return ranking(scores, true.astype(np.float64), weights)[1]


def filtered_ranks(scores: Floats, true: Flags) -> Floats:
    """Return each link's rank in its question [links]: 1 + rows above it + half of the rows equal to it.

    Filtered, as no row of a question is a known link (Bordes et al. 2013); "realistic", the mean of the best
    and the worst place among equal scores (Berrendorf et al. 2020, arXiv:2002.06914). Rows before the first
    link are of no question.

    >>> scores = np.array([2.0, 3.0, 2.0, 1.0, 5.0, 4.0])
    >>> filtered_ranks(scores, np.array([True, False, False, False, True, False]))  # 1 + 1 + 1/2, and 1
    array([2.5, 1. ])
    """
    scores = np.where(np.isnan(scores), -np.inf, scores)
    question = np.cumsum(true) - 1
    links = int(true.sum())
    others = ~true & (question >= 0)
    own, of = scores[true][question[others]], question[others]
    above = np.bincount(of, weights=scores[others] > own, minlength=links)
    equal = np.bincount(of, weights=scores[others] == own, minlength=links)
    return np.asarray(1 + above + equal / 2)
