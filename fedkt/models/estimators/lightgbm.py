"""Boosted trees of LightGBM."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedkt.models.estimators.refit import Bytes, Estimator, Rows
from fedkt.models.estimators.sklearn import check_installed, check_settings
from fedkt.registry import takes

if TYPE_CHECKING:
    from fedkt.data.sets.dataset import InputSpec

_QUIET: dict[str, Any] = {"deterministic": True, "force_row_wise": True, "verbosity": -1}
"""Without the first two, bits depend on what a trial of its own finds faster."""


class LightBoosted(Estimator):
    """LightGBM's classifier with settings of its own; a fit is a ``Booster``."""

    label = "lightgbm"

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings

    def fit(self, x: Rows, y: NDArray[np.int64], weight: Rows | None, classes: int, seed: int) -> Any:
        """Fit on one thread."""
        from lightgbm import LGBMClassifier

        made = LGBMClassifier(**self._settings, n_jobs=1, random_state=seed, **_QUIET)
        return made.fit(np.asarray(x, np.float64), y, sample_weight=weight).booster_

    def predict(self, fitted: Any, x: Rows, classes: int) -> Rows:
        """Return probabilities; of two classes LightGBM says the second one's."""
        found = np.asarray(fitted.predict(np.asarray(x, np.float64), num_threads=1))
        return found if found.ndim == 2 else np.stack([1 - found, found], 1)

    def write(self, fitted: Any) -> Bytes:
        """Write as its own text; it has JSON too, which it does not read."""
        text = fitted.model_to_string(num_iteration=-1)
        return {"model": np.frombuffer(text.encode(), np.uint8), "trees": np.zeros(0, np.uint8)}

    def read(self, held: Bytes) -> Any:
        """Read its own text."""
        from lightgbm import Booster
        from lightgbm.basic import LightGBMError

        try:
            return Booster(model_str=held["model"].tobytes().decode())
        except (LightGBMError, UnicodeDecodeError) as error:
            raise ValueError(f"LightGBM cannot read it: {' '.join(str(error).split())}") from error

    @property
    def described(self) -> str:
        """Its settings."""
        return f"lightgbm:{sorted(self._settings.items())!r}"

    def small(self) -> "LightBoosted":
        """Return one with two trees a class."""
        return LightBoosted({**self._settings, "n_estimators": 2})


@takes("tabular", "sparse", "image")
def lightgbm(input: "InputSpec", classes: int, **settings: Any) -> Estimator:
    """Boosted trees of LightGBM; settings are those of its ``LGBMClassifier``.

    ``{name: lightgbm, n_estimators: 200, num_leaves: 15}``. Fitted anew each time, on one thread; its state
    is its own text. Needs ``lightgbm`` (``fedkt[trees]``).
    """
    check_installed("lightgbm", "lightgbm")
    from lightgbm import LGBMClassifier

    check_settings("lightgbm", settings, [k for k in LGBMClassifier().get_params() if k != "objective"])
    return LightBoosted(settings)
