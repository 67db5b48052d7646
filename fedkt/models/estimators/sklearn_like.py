"""Anything with ``fit(X, y)`` and ``predict_proba(X)`` in the manner of scikit-learn."""

import inspect
import warnings
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedkt.models.estimators.refit import Bytes, Estimator, Rows
from fedkt.models.estimators.saving import read, written
from fedkt.models.estimators.threads import one_at_a_time

_SEED, _JOBS = "random_state", "n_jobs"


class SklearnLike(Estimator):
    """An estimator object, of scikit-learn or in its manner, that each fit begins from anew.

    ``prototype`` is never fitted itself; ``label``: what errors call it; ``own``: packages beside that of its
    class whose types may be read again. Weights go to ``fit(X, y, sample_weight=...)``, of a pipeline to its
    last step.
    """

    def __init__(self, prototype: Any, label: str, own: Sequence[str] = ()) -> None:
        self.label = label
        self._prototype = prototype
        package = type(prototype).__module__.partition(".")[0]
        # Of scikit-learn itself only what is named in ``saving``.
        self._own = tuple({*own, package} - {"sklearn", "fedkt", "builtins", "numpy"})
        self.votes_only = not hasattr(prototype, "predict_proba")
        self._weight = _weight_of(prototype)
        self.weighs = self._weight is not None

    def fit(self, x: Rows, y: NDArray[np.int64], weight: Rows | None, classes: int, seed: int) -> Any:
        """Fit a copy on one thread; all random states that are not set follow from the seed."""
        fresh = _copy(self._prototype)
        if hasattr(fresh, "get_params"):
            own = {
                name: value
                for name, value in fresh.get_params(deep=True).items()
                if name.rpartition("__")[2] in (_SEED, _JOBS) and value is None
            }
            fresh.set_params(**{name: seed if name.endswith(_SEED) else 1 for name in own})
        given = {} if self._weight is None or weight is None else {self._weight: weight}
        with one_at_a_time(), warnings.catch_warnings(action="ignore"):  # such as: more iterations may help
            fresh.fit(_rows(x), y, **given)
        return fresh

    def predict(self, fitted: Any, x: Rows, classes: int) -> Rows:
        """Return its probabilities, or its class as ones and zeros."""
        with one_at_a_time(), warnings.catch_warnings(action="ignore"):
            if not self.votes_only:
                return np.asarray(fitted.predict_proba(_rows(x)), np.float64)
            voted = np.asarray(fitted.predict(_rows(x)), np.int64)
        return np.eye(classes)[voted]

    def write(self, fitted: Any) -> Bytes:
        """Write by skops."""
        return written(fitted, self._own)

    def read(self, held: Bytes) -> Any:
        """Read by skops."""
        return read(held, self._own)

    @property
    def described(self) -> str:
        """The class and its settings."""
        params = self._prototype.get_params() if hasattr(self._prototype, "get_params") else ""
        return f"{type(self._prototype).__module__}.{type(self._prototype).__qualname__}:{params!r}"

    def small(self) -> "SklearnLike":
        """Return one with at most two members, where it has many."""
        if not hasattr(self._prototype, "get_params"):
            return self
        fewer = _copy(self._prototype)
        many = {k: v for k, v in fewer.get_params(deep=True).items() if k.endswith("n_estimators")}
        fewer.set_params(**{name: min(2, value) for name, value in many.items() if isinstance(value, int)})
        return SklearnLike(fewer, self.label, self._own)


def _rows(x: Rows) -> Rows:
    return np.ascontiguousarray(x, np.float64)


def _copy(prototype: Any) -> Any:
    if hasattr(prototype, "get_params"):
        from sklearn.base import clone

        return clone(prototype)
    return deepcopy(prototype)


def _weight_of(prototype: Any) -> str | None:
    """Return the argument of ``fit`` that takes weights, None where there is none."""
    steps = getattr(prototype, "steps", None)
    if steps and isinstance(steps, list):
        name, last = steps[-1]
        inner = _weight_of(last)
        return None if inner is None else f"{name}__{inner}"
    return "sample_weight" if "sample_weight" in inspect.signature(prototype.fit).parameters else None
