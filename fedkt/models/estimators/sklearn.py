"""Classifiers of scikit-learn by their names."""

import importlib
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from fedkt.errors import InputError
from fedkt.models.estimators.refit import Estimator
from fedkt.models.estimators.sklearn_like import SklearnLike
from fedkt.registry import did_you_mean, takes

if TYPE_CHECKING:
    from fedkt.data.sets.dataset import InputSpec

_MODULES = (
    *("linear_model", "ensemble", "neural_network", "tree", "naive_bayes", "neighbors", "svm"),
    *("discriminant_analysis", "gaussian_process", "calibration", "dummy"),
)
"""Where its classifiers are, the ones that load fastest and are asked for most first."""


@takes("tabular", "sparse", "image")
def sklearn(input: "InputSpec", classes: int, *, estimator: str = "", **settings: Any) -> Estimator:
    """Classifier of scikit-learn: ``estimator`` is its class, all else are its settings.

    ``{name: sklearn, estimator: RandomForestClassifier, n_estimators: 300}``. Fitted anew each time to
    private rows, and to transfer rows with the teacher's probabilities as weights. One thread; random states
    follow from the scenario's seed. Needs ``skops`` (``fedkt[trees]``), by which its state is written.
    """
    check_installed("sklearn", "skops")
    kind = _class(estimator)
    label = f"sklearn ({estimator})"
    check_settings(label, settings, kind._get_param_names())
    made = kind(**settings)
    try:
        made._validate_params()
    except ValueError as error:
        raise InputError(f"model {label!r}: {' '.join(str(error).split())}") from error
    return SklearnLike(made, label)


def check_installed(model: str, *packages: str) -> None:
    """Raise InputError where one of the packages that a model needs is missing."""
    if missing := [name for name in packages if find_spec(name) is None]:
        raise InputError(
            f"model {model!r} needs {' and '.join(missing)}, not installed here; "
            "install 'fedkt[trees]', which has all that estimators need."
        )


def check_settings(label: str, settings: Mapping[str, Any], known: list[str]) -> None:
    """Raise InputError for settings that an estimator does not have, or that fedkt sets itself."""
    fixed = {
        "n_jobs": "it runs on one thread, so that results have the same bits on every machine",
        "random_state": "it follows from the scenario's seed and the client",
        "seed": "it follows from the scenario's seed and the client",
        "warm_start": "each fit begins anew",
    }
    problems = [f"model {label!r} takes no {key}, since {fixed[key]}." for key in settings if key in fixed]
    problems += [
        f"model {label!r} has no setting {key!r}; {did_you_mean(key, [k for k in known if k not in fixed])}"
        for key in settings
        if key not in known and key not in fixed
    ]
    if problems:
        raise InputError(*problems)


def _class(name: Any) -> Any:
    if not isinstance(name, str) or not name:
        raise InputError(
            f"estimator of model 'sklearn' is {name!r}; it must be a classifier of scikit-learn, such as "
            "RandomForestClassifier or LogisticRegression."
        )
    known: dict[str, Any] = {}
    for module in _MODULES:
        part = importlib.import_module(f"sklearn.{module}")
        known |= {n: found for n, found in vars(part).items() if n[:1].isupper() and n not in known}
        if _classifies(known.get(name)):
            return known[name]
    valid = [n for n, found in known.items() if _classifies(found)]
    what = "no classifier, which the model must be" if name in known else "not there"
    raise InputError(
        f"estimator of model 'sklearn' is {name!r}, which is {what}; {did_you_mean(name, valid)}"
    )


def _classifies(found: Any) -> bool:
    from sklearn.base import BaseEstimator, ClassifierMixin

    return isinstance(found, type) and issubclass(found, ClassifierMixin) and issubclass(found, BaseEstimator)
