"""A claim as an audit tests it: the whole trade-off curve of what was paid, at its noise and at others."""

import math
from collections.abc import Sequence
from functools import cache

from fedkt.privacy.accounting import Event, Unit, spent, trade_off
from fedkt.privacy.attacks.one_run import Curves, Inverse, Points, gaussian


def curves_of(events: Sequence[Event], delta: float, unit: Unit) -> Curves:
    """Return the curves of events with so many times their noise.

    Gaussian noise without sampling is one release of the noise 1/√(Σ 1/σ²), whose curve is exact.
    """
    if all(event.kind == "gauss" and event.rate == 1 and not event.discrete for event in events):
        return gaussian(delta, 1 / math.sqrt(sum(event.count / event.noise**2 for event in events)))

    def epsilon(noise: float) -> float:
        return spent([event.scaled(noise) for event in events], delta, unit).epsilon

    @cache
    def curve(noise: float) -> Inverse:
        return Points(*trade_off([event.scaled(noise) for event in events]))

    return Curves(epsilon, curve)
