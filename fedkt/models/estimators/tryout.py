"""An estimator is tried on made rows before anything private is touched: what fails, fails there."""

from typing import Any

import numpy as np

from fedkt.errors import InputError
from fedkt.models.estimators.refit import FLOOR, Estimator, probabilities, refit
from fedkt.models.estimators.saving import Unsavable

ROWS = 10
"""Of each class: enough for what validates across several parts."""


def tried(estimator: Estimator, columns: int, classes: int) -> None:
    """Fit, ask, write and read on made rows. Raises InputError where one of it cannot be done."""
    small, what = estimator.small(), f"model {estimator.label!r}"
    stream = np.random.default_rng(0)
    x = np.abs(stream.normal(size=(ROWS * classes, columns)))
    probability = np.eye(classes)[np.arange(len(x)) % classes]
    try:
        fitted = refit(small, x, probability, np.ones(len(x)), 0)
    except Exception as error:
        raise InputError(f"{what} cannot be fitted to made rows: {_said(error)}.") from error
    try:
        found = small.predict(fitted.model, x, classes)
        fits = found.shape == (len(x), classes) and np.isfinite(found).all() and (found >= -FLOOR).all()
        said = f"returns an array of shape {list(found.shape)}" if found.ndim != 2 else "says other things"
    except Exception as error:
        raise InputError(f"{what} cannot predict made rows: {_said(error)}.") from error
    if not fits:
        raise InputError(
            f"predict_proba of {what} {said} for {len(x)} rows of {classes} classes; it must return "
            f"probabilities [{len(x)}, {classes}]."
        )
    try:
        back = type(fitted)(fitted.classes, small.read(small.write(fitted.model)))
        before, after = (probabilities(small, one, x, classes) for one in (fitted, back))
    except (Unsavable, ValueError) as error:
        raise InputError(
            f"{what} cannot be written without pickle: {_said(error)}; its fit must consist of arrays, "
            "numbers, texts and objects of scikit-learn's or of its own package."
        ) from error
    if not np.array_equal(before, after):
        raise InputError(f"{what} predicts otherwise after it was written and read; fedkt cannot resume it.")


def _said(error: Any) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": .")
