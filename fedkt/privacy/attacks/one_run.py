"""Lower bounds of epsilon from one run: how many guesses about who was a member may be right under a claim.

Two of them. Steinke et al. ask what an (epsilon, delta) claim allows. Mahloujifar et al. ask what a whole
trade-off curve allows: what a mechanism with that curve could have let an attacker guess is less, so as many
right guesses show more. The curve is that of the claim, at the claimed noise and at others.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

LEVEL = 0.05
"""Probability with which a bound may be wrong."""

Inverse = Callable[[float], float]
"""Of a trade-off curve f: the smallest false positive rate x at which 1 - f(x), the largest true positive
rate, reaches y."""


@dataclass(frozen=True)
class Curves:
    """The curves of a mechanism at any noise, in units of what is claimed: at 1 they are the claim.

    ``epsilon`` and ``curve`` of a noise; more noise, less epsilon.
    """

    epsilon: Callable[[float], float]
    curve: Callable[[float], Inverse]

    def refuted(self, canaries: int, guesses: int, right: int) -> bool:
        """Say whether so many right guesses refute the claim with confidence 95 %."""
        return refutes(canaries, guesses, right, self.curve(1.0))


# An (epsilon, delta) claim -----------------------------------------------------------------------------


def one_run_bound(canaries: int, guesses: int, right: int, delta: float) -> float:
    """Return the largest epsilon that so many right guesses refute, with confidence 95 %; at least 0.

    Steinke, Nasr, Jagielski 2023, "Privacy Auditing with One (1) Training Run", arXiv 2305.08846, theorem
    5.2 as in its appendix D: p-value P[B >= v] + 2 m delta max_i P[v-i <= B <= v-1]/i, B ~ Bin(r, p),
    p = e^eps/(1 + e^eps). ``canaries`` m, ``guesses`` r, ``right`` v.
    """

    def excess(epsilon: float) -> float:
        p = 1 / (1 + math.exp(-epsilon))
        tail = float(stats.binom.sf(right - 1, guesses, p))
        if right < 1 or delta == 0:
            return tail - LEVEL
        i = np.arange(1, right + 1)
        within = stats.binom.cdf(right - 1, guesses, p) - stats.binom.cdf(right - i - 1, guesses, p)
        return tail + 2 * canaries * delta * float((within / i).max()) - LEVEL

    if excess(0.0) >= 0:
        return 0.0
    return float(optimize.brentq(excess, 0.0, 50.0)) if excess(50.0) > 0 else 50.0


# A claimed curve ---------------------------------------------------------------------------------------


def refutes(canaries: int, guesses: int, right: int, curve: Inverse) -> bool:
    """Say whether so many right guesses refute a curve with confidence 95 %.

    Mahloujifar, Melis, Chaudhuri 2024, "Auditing f-Differential Privacy in One Run", arXiv 2410.22235,
    algorithm 3 for two answers (member or not): were the chance of ``right`` or more 5 %, a recursion over
    fewer right guesses bounds from below how often any guess is made; more often than guesses were made is a
    contradiction. ``curve`` is that of one canary put in or left out.
    """
    hit, miss = LEVEL * right / canaries, LEVEL * (guesses - right) / canaries
    for fewer in range(right - 1, -1, -1):
        more = max(miss, curve(hit))
        if more == miss:
            break  # from here on nothing changes
        hit, miss = min(hit + fewer / (guesses - fewer) * (more - miss), 1.0), more
    return hit + miss > guesses / canaries


def curve_bound(canaries: int, guesses: int, right: int, curves: Curves) -> float:
    """Return the epsilon of the least noise whose curve so many right guesses refute, at least 0.

    Within 0.5 % of noise, and never above the true bound.
    """

    def refuted(noise: float) -> bool:
        return refutes(canaries, guesses, right, curves.curve(noise))

    if not refutes(canaries, guesses, right, lambda y: y):
        return 0.0  # not even that nothing at all can be told
    high = 1.0
    while not refuted(high):
        high *= 2
        if high > _MOST_NOISE:
            return 0.0
    low = high / 2
    while refuted(low):
        low, high = low / 2, low
        if low < _LEAST_NOISE:
            return curves.epsilon(high)
    while high / low > 1.005:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if refuted(middle) else (middle, high)
    return curves.epsilon(high)


_LEAST_NOISE, _MOST_NOISE = 2.0**-6, 2.0**8


def gaussian(delta: float, unit: float = 1.0) -> Curves:
    """Return the curves of one Gaussian release; ``unit``: sensitivities of noise that count 1."""

    def curve(noise: float) -> Inverse:
        return lambda y: float(special.ndtr(special.ndtri(y) - 1 / (noise * unit)))

    return Curves(lambda noise: gaussian_epsilon(noise * unit, delta), curve)


def gaussian_epsilon(noise: float, delta: float) -> float:
    """Return epsilon of one Gaussian release: Balle and Wang 2018, arXiv 1805.06530, theorem 8."""
    mu = 1 / noise

    def excess(epsilon: float) -> float:
        near, far = special.log_ndtr(mu / 2 - epsilon / mu), special.log_ndtr(-mu / 2 - epsilon / mu)
        return float(math.exp(near) - math.exp(epsilon + far)) - delta

    if excess(0.0) <= 0:
        return 0.0
    high = 1.0
    while excess(high) > 0:
        high *= 2
    return float(optimize.brentq(excess, 0.0, high))


@dataclass(frozen=True)
class Points:
    """A curve known by some of its (epsilon, delta), each of which is a theorem: never above the true one."""

    epsilons: Sequence[float]
    deltas: Sequence[float]

    def __call__(self, y: float) -> float:
        """Return the smallest x with d + e^ε x >= y and 1 - e^-ε (1 - d - x) >= y for all points."""
        raised, d = np.exp(np.asarray(self.epsilons)), np.asarray(self.deltas)
        return float(max(0.0, ((y - d) / raised).max(), (1 - d - raised * (1 - y)).max()))
