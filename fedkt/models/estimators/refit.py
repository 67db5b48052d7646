"""What an estimator is here, and how it is fitted to rows with probabilities in place of labels.

The weighted log loss of an estimator that is fitted to each row once per class, with the class's probability
as the weight, is exactly the cross entropy to these probabilities: sum_i w_i sum_c q_ic log p_c(x_i). So a
teacher's soft predictions are learned by anything that takes weights (Hinton, Vinyals, Dean 2015, "Distilling
the Knowledge in a Neural Network", arXiv 1503.02531, section 2, at temperature 1; between models of any kind:
Bucila, Caruana, Niculescu-Mizil 2006, "Model Compression", KDD). What takes no weights gets as many rows as
the weights add up to, drawn by a seed.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedkt.rng import numpy_stream

Rows = NDArray[Any]
Bytes = dict[str, NDArray[np.uint8]]
FLOOR = 1e-6
"""The least probability that is said: trees say 0, of which a logarithm would rule a class out for ever."""


class Estimator(ABC):
    """A kind of estimator with its settings, not fitted itself: it fits, predicts, writes and reads others.

    ``label``: what errors call it; ``weighs``: whether fitting takes a weight per row; ``votes_only``:
    whether it says a class and no probabilities.
    """

    label: str
    weighs: bool = True
    votes_only: bool = False

    @abstractmethod
    def fit(self, x: Rows, y: NDArray[np.int64], weight: Rows | None, classes: int, seed: int) -> Any:
        """Return what was fitted to rows ``x`` [n, d] with labels ``y`` [n], each of the ``classes`` there.

        ``weight`` [n], above 0; None where it takes none. ``classes`` is at least 2; the same ``seed``, from
        0 to 2**31 - 1, gives the same bits.
        """

    @abstractmethod
    def predict(self, fitted: Any, x: Rows, classes: int) -> Rows:
        """Return probabilities [n, classes] of rows ``x`` [n, d]; with ``votes_only`` zeros and ones.

        ``classes``: how many it was fitted to."""

    @abstractmethod
    def write(self, fitted: Any) -> Bytes:
        """Return what was fitted as bytes by name; the same fit gives the same bytes."""

    @abstractmethod
    def read(self, held: Bytes) -> Any:
        """Return what :meth:`write` wrote. Raises ValueError where that cannot be."""

    @property
    @abstractmethod
    def described(self) -> str:
        """All that a fit depends on beside rows and seed."""

    def small(self) -> "Estimator":
        """Return one of the kind that is fitted faster, for a trial of whether it can be at all."""
        return self


@dataclass(frozen=True)
class Fitted:
    """What came of a fit: the classes that were there, and the model that tells them apart.

    ``classes`` int64 [k], ascending; ``model`` is None where there was a single one.
    """

    classes: NDArray[np.int64]
    model: Any


def refit(estimator: Estimator, x: Rows, probability: Rows, weight: Rows, seed: int) -> Fitted:
    """Fit an estimator to rows ``x`` [n, d] with probabilities [n, classes] and weights [n], from 0 on.

    ``seed``: from 0 to 2**31 - 1.

    Raises ValueError where no row counts.
    """
    counts = probability * weight[:, None]
    if not counts.sum() > 0:
        raise ValueError("no row counts for anything")
    rows, labels = np.nonzero(counts)
    weights: Rows | None = counts[rows, labels]
    if not estimator.weighs:
        drawn = spread(counts[rows, labels], numpy_stream(seed, "labels drawn"))
        rows, labels, weights = rows[drawn], labels[drawn], None
    present, y = np.unique(labels, return_inverse=True)
    if len(present) == 1:
        return Fitted(present, None)
    model = estimator.fit(x[rows], y.astype(np.int64), weights, len(present), seed)
    return Fitted(present, model)


def spread(weights: Rows, stream: np.random.Generator) -> NDArray[np.int64]:
    """Draw as many places as the weights [m] add up to, at least one: each as often as its weight says.

    Systematic sampling: a place with weight w is drawn floor(w) or ceil(w) times, w times on average.
    """
    total = float(weights.sum())
    many = max(1, round(total))
    at = (np.arange(many) + stream.random()) * (total / many)
    places: NDArray[np.int64] = np.searchsorted(np.cumsum(weights), at, side="right")
    return places.clip(max=len(weights) - 1)


def probabilities(estimator: Estimator, fitted: Fitted | None, x: Rows, classes: int) -> Rows:
    """Return probabilities [n, classes], none below ``FLOOR``, of rows ``x`` [n, d]; uniform before a fit."""
    if fitted is None:
        return np.full((len(x), classes), 1 / classes)
    found = np.zeros((len(x), classes))
    if fitted.model is None:
        found[:, fitted.classes] = 1.0
    elif len(x):
        found[:, fitted.classes] = estimator.predict(fitted.model, x, len(fitted.classes))
    found = found.clip(FLOOR, None)
    shares: Rows = found / found.sum(1, keepdims=True)
    return shares
