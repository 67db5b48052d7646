"""Boosted trees of XGBoost."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedkt.models.estimators.refit import Bytes, Estimator, Rows
from fedkt.models.estimators.sklearn import check_installed, check_settings
from fedkt.registry import takes

if TYPE_CHECKING:
    from fedkt.data.sets.dataset import InputSpec

_FIXED = {"objective", "device", "verbosity", "missing", "enable_categorical", "callbacks", "eval_metric"}
"""Settings of its classifier that a scenario cannot choose."""


class Boosted(Estimator):
    """XGBoost's classifier with settings of its own; a fit is a ``Booster``."""

    label = "xgboost"

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings

    def fit(self, x: Rows, y: NDArray[np.int64], weight: Rows | None, classes: int, seed: int) -> Any:
        """Fit on one thread."""
        from xgboost import XGBClassifier

        made = XGBClassifier(**self._settings, n_jobs=1, random_state=seed, verbosity=0)
        return made.fit(np.asarray(x, np.float32), y, sample_weight=weight).get_booster()

    def predict(self, fitted: Any, x: Rows, classes: int) -> Rows:
        """Return probabilities; of two classes XGBoost says the second one's."""
        found = np.asarray(fitted.inplace_predict(np.ascontiguousarray(x, np.float32)), np.float64)
        return found if found.ndim == 2 else np.stack([1 - found, found], 1)

    def write(self, fitted: Any) -> Bytes:
        """Write as its own JSON."""
        return {
            "model": np.frombuffer(bytes(fitted.save_raw("json")), np.uint8),
            "trees": np.zeros(0, np.uint8),
        }

    def read(self, held: Bytes) -> Any:
        """Read its own JSON."""
        from xgboost import Booster
        from xgboost.core import XGBoostError

        fitted = Booster({"nthread": 1})
        try:
            fitted.load_model(bytearray(held["model"].tobytes()))
        except XGBoostError as error:
            reason = str(error).partition("\n")[0]
            raise ValueError(f"XGBoost cannot read it: {' '.join(reason.split())}") from error
        return fitted

    @property
    def described(self) -> str:
        """Its settings."""
        return f"xgboost:{sorted(self._settings.items())!r}"

    def small(self) -> "Boosted":
        """Return one with two trees a class."""
        return Boosted({**self._settings, "n_estimators": 2})


@takes("tabular", "sparse", "image")
def xgboost(input: "InputSpec", classes: int, **settings: Any) -> Estimator:
    """Boosted trees of XGBoost; settings are those of its ``XGBClassifier``.

    ``{name: xgboost, n_estimators: 200, max_depth: 4}``. Fitted anew each time, on one thread; its state is
    its own JSON. Needs ``xgboost`` (``fedkt[trees]``).
    """
    check_installed("xgboost", "xgboost")
    from xgboost import XGBClassifier

    check_settings("xgboost", settings, [key for key in XGBClassifier().get_params() if key not in _FIXED])
    return Boosted(settings)
