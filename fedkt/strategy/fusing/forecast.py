"""The forecast: how likely fusing raises a client's accuracy above training alone, from one exchange.

A logistic regression on the evidence of :mod:`fedkt.strategy.fusing.evidence`, with a constant for each
strategy in joint steps and in phases. It was fitted on made federations by ``python -m benchmarks.forecast
fit``, which wrote ``forecast.json`` beside this file: the standardisation, the coefficients, and their
covariance over bootstrap draws of whole groups of federations. An interval is that of the score eta = rows @
coefficients, eta ± 1.645 sd(eta), brought to a probability. It says how well the fit is known; chance in a
client's own run is in the probability itself.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fedkt.strategy.fusing.evidence import EVIDENCE

MEASURES = ("personal", "global")
QUANTILE = 1.645
"""Of the standard normal distribution, for intervals of 90 %."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Chance:
    """A probability in [0, 1], and the ends of its 90 % interval."""

    probability: float
    low: float
    high: float


def fitted_for() -> tuple[str, ...]:
    """Return the names of the strategies that the forecast was fitted for, in order."""
    return tuple(sorted({name.partition(" ")[0] for name in table()["cells"]}))


def forecast(strategy: str, evidence: Tensor) -> list[dict[str, Chance]]:
    """Return for each client the chances that its ``personal`` and its ``global`` accuracy rise.

    ``evidence`` [clients, len(EVIDENCE)] of one exchange. Raises ValueError for a strategy that is not in
    :func:`fitted_for`.
    """
    if strategy not in fitted_for():
        raise ValueError(f"the forecast was not fitted for {strategy}")
    held = table()
    rows = design(evidence.double().numpy(), [strategy] * len(evidence), held)
    by_measure = {measure: chances(rows, held[measure]) for measure in MEASURES}
    return [{measure: by_measure[measure][i] for measure in MEASURES} for i in range(len(evidence))]


def design(evidence: Floats, strategies: Sequence[str], held: Mapping[str, Any]) -> Floats:
    """Return the rows [n, 1 + evidence + cells] that coefficients belong to.

    A one, the evidence with mean 0 and deviation 1 over the rows of the fit, and a one at the row's cell.
    What lies beyond nearly all rows of the fit counts as at their edge.
    """
    together = evidence[:, EVIDENCE.index("together")] > 0
    cells = [cell_of(name, joint) for name, joint in zip(strategies, together, strict=True)]
    at = np.array(cells)[:, None] == np.array(held["cells"])[None]
    near = evidence.clip(np.array(held["low"]), np.array(held["high"]))
    z = (near - np.array(held["mean"])) / np.array(held["deviation"])
    return np.concatenate([np.ones((len(z), 1)), z, at], 1)


def cell_of(strategy: str, together: bool) -> str:
    """Return what the table calls a strategy in joint steps or in phases."""
    return f"{strategy} {'joint' if together else 'phases'}"


def chances(rows: Floats, fit: Mapping[str, Any]) -> list[Chance]:
    """Return the chances of rows [n, d] by ``coefficients`` [d] and ``covariance`` [d, d]."""
    at = np.array(fit["coefficients"])
    wide = QUANTILE * np.sqrt(np.einsum("ni,ij,nj->n", rows, np.array(fit["covariance"]), rows).clip(min=0))
    told, low, high = (probabilities(rows, at, shift) for shift in (0.0, -wide, wide))
    return [Chance(*map(float, three)) for three in zip(told, low, high, strict=True)]


def probabilities(rows: Floats, coefficients: Floats, shift: Floats | float = 0.0) -> Floats:
    """Return 1 / (1 + exp(-eta)) [n] of the scores eta = rows @ coefficients + shift."""
    found: Floats = 0.5 * (1 + np.tanh((rows @ coefficients + shift) / 2))
    return found


@cache
def table() -> dict[str, Any]:
    """Return what was fitted."""
    found: dict[str, Any] = json.loads(files(__package__).joinpath("forecast.json").read_text())
    return found
