"""What releases cost: epsilon of a history of events, and the noise for a target.

The mathematics is that of libraries: Opacus' RDP and PRV accountants and dp-accounting's privacy loss
distributions (PLD) for Gaussian noise, the last alone where randomised response is among the events. The
rule is theirs to bound, ours to choose: first RDP, which is fast and never below the truth; then, where it
can change something, PLD, and where PRV (which adds a fixed 0.01) can be smaller, the smaller of the two. One
Gaussian without sampling has a closed form. Opacus' ``gdp`` accountant is not used: it is an approximation
that can *under*-state (sigma 1, rate 0.01, 1000 steps, delta 1e-5: 1.618, exact 1.828).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from typing import Any, Literal, get_args

import numpy as np

Unit = Literal["record", "client"]
Change = Literal["zeroed out", "added or removed", "replaced by any other"]
"""What may happen to one unit without being noticed. ``zeroed out``: an empty one takes its place, which
moves nothing, and how many there are is public and fixed."""
CHANGES: tuple[Change, ...] = get_args(Change)
"""The weakest claim first: what is proven for a later one is proven for those before it."""
RELATIONS: dict[Change, str] = {
    "zeroed out": "REPLACE_SPECIAL",
    "added or removed": "ADD_OR_REMOVE_ONE",
    "replaced by any other": "REPLACE_ONE",
}
"""The names that dp-accounting's ``NeighboringRelation`` has for them."""

HOPELESS = 50.0
"""An RDP bound from here on is reported as it is: others would cost gigabytes and tell nothing."""
_MANY = 10**6
"""Steps from which on PRV is asked, too. PLD's rounding adds up with steps and PRV's 0.01 does not: at sigma
1, rate 0.001, 100 000 steps they say 1.638 and 1.647, at sigma 2 and a million 2.150 and 2.153."""
_FINE, _COARSE = 1e-4, 1e-3
"""Steps of epsilon on which privacy loss distributions are rounded, upwards: dp-accounting's own, and one
that is ten times as fast."""
_TOLERANCE = 0.005
"""Relative width at which the search for a noise multiplier ends."""


@dataclass(frozen=True)
class Event:
    """One kind of access to private data, ``count`` times.

    ``gauss``: Gaussian noise of ``noise`` times the L2 sensitivity (the noise multiplier, > 0), on a Poisson
    sample of the units at ``rate`` in (0, 1]; ``discrete``: integer noise on a grid, for which only the RDP
    bound is a theorem (Canonne, Kamath, Steinke 2020, arXiv 2004.00010, theorem 15).
    ``rr``: randomised response among ``classes`` answers, ``noise`` being its epsilon (pure, for any change).
    ``unit``: what a change of which is hidden. Hiding a whole client hides each of its records as well;
    hiding a record says nothing about the client.
    """

    kind: Literal["gauss", "rr"]
    unit: Unit
    noise: float
    rate: float = 1.0
    count: int = 1
    classes: int = 0
    discrete: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the event as JSON values."""
        return asdict(self)

    def scaled(self, scale: float) -> "Event":
        """Return the event with ``scale`` times the noise, or an answer's epsilon divided by it."""
        return replace(self, noise=self.noise / scale if self.kind == "rr" else self.noise * scale)


@dataclass(frozen=True)
class Spent:
    """An upper bound epsilon at a given delta, and who computed it."""

    epsilon: float
    accountant: str


NOTHING = Spent(0.0, "none")


def spent(events: Sequence[Event], delta: float, unit: Unit = "record") -> Spent:
    """Return an upper bound of epsilon at ``delta`` of all events together, for this unit.

    Infinite for unit ``client`` as soon as one event hides records only, and where noise is 0.
    """
    if not events:
        return NOTHING
    if unit == "client" and any(event.unit == "record" for event in events):
        return Spent(math.inf, "none: a release that hides records only does not hide a client")
    return _spent(merged(events), delta)


def would_exceed(events: Sequence[Event], delta: float, unit: Unit, budget: float) -> Spent | None:
    """Return what the events would cost if that is more than ``budget``, else None.

    RDP first: below the budget it is enough, and far above it others need not be asked.
    """
    if events and unit == "record" and all(event.kind == "gauss" for event in events):
        rdp = _rdp(merged(events), delta)
        if rdp <= budget:
            return None
        if rdp > max(HOPELESS, 3 * budget):
            return Spent(rdp, _named("RDP", "opacus"))
    found = spent(events, delta, unit)
    return found if found.epsilon > budget else None


def calibrate(events: Callable[[float], Sequence[Event]], target: float, delta: float, unit: Unit) -> float:
    """Return the smallest noise for which ``events(noise)`` together cost at most ``target``.

    The cost must fall as the noise grows. Within 0.5 % of the best, and never below it. Raises ValueError
    where even the largest noise costs more (a part of the events does not depend on it).
    """

    def fits(noise: float) -> bool:
        return _fits(events(noise), target, delta, unit)

    high = 1.0
    while not fits(high):
        high *= 2
        if high > 1e6:
            raise ValueError(f"no noise brings epsilon down to {target:g}")
    low = high / 2
    while low > 1e-3 and fits(low):
        low, high = low / 2, low
    while high / low > 1 + _TOLERANCE:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def _fits(events: Sequence[Event], target: float, delta: float, unit: Unit) -> bool:
    """Say whether a bound of the events' cost is within the target: the cheapest bound that can tell."""
    if not events:
        return True
    held = merged(events)
    if unit == "client" or any(e.kind == "rr" or e.discrete or e.noise <= 0 for e in held) or _single(held):
        return spent(events, delta, unit).epsilon <= target
    rdp = _rdp(held, delta)
    if rdp <= target or rdp > max(HOPELESS, 3 * target):
        return rdp <= target
    coarse = _pld(held, delta, _COARSE)
    return coarse <= target or (coarse <= 1.05 * target and _pld(held, delta) <= target)


def _single(events: Sequence[Event]) -> bool:
    """Say whether this is one Gaussian without sampling, whose cost has a closed form."""
    return len(events) == 1 and events[0].kind == "gauss" and events[0].rate == 1.0


def merged(events: Sequence[Event]) -> tuple[Event, ...]:
    """Return the events with equal ones added up; unsampled continuous Gaussians become one.

    T Gaussian releases with multipliers s_i are exactly one with multiplier (sum of 1/s_i²)^(-1/2), which
    saves PRV a self-composition that can take gigabytes.
    """
    counts: dict[Event, int] = {}
    inverse_square = 0.0
    for event in events:
        if event.kind == "gauss" and event.rate == 1.0 and not event.discrete and event.noise > 0:
            inverse_square += event.count / event.noise**2
        elif event.count:
            # Units are not told apart in the cost: here all of them count for the unit that was asked for.
            key = Event(
                event.kind, "record", event.noise, event.rate, 1, event.classes, discrete=event.discrete
            )
            counts[key] = counts.get(key, 0) + event.count
    found = [
        Event(e.kind, e.unit, e.noise, e.rate, count, e.classes, discrete=e.discrete)
        for e, count in counts.items()
    ]
    if inverse_square:
        found.append(Event("gauss", "record", inverse_square**-0.5))
    return tuple(found)


def trade_off(events: Sequence[Event]) -> tuple[list[float], list[float]]:
    """Return epsilons and the deltas at which they bound the events together.

    Each pair is a theorem, so what refutes one refutes the claim. The epsilons are a fixed grid; randomised
    response beside discrete noise has no composition finer than :func:`spent`, asked for some deltas.
    """
    held = merged(events)
    kinds = {"rr" if event.kind == "rr" else "discrete" if event.discrete else "gauss" for event in held}
    if kinds >= {"rr", "discrete"}:
        deltas = [10.0**-k for k in range(1, 7)]
        return [_spent(held, delta).epsilon for delta in deltas], deltas
    grid = [*np.arange(0, 4, 0.05), *np.arange(4, HOPELESS, 0.25)]
    if "discrete" in kinds:
        orders, divergences = _divergences(held)
        # Canonne, Kamath, Steinke 2020, proposition 12: the smallest over the orders a.
        a, of_order = np.asarray(orders), np.asarray(divergences)
        logs = [(a - 1) * (of_order - e) + a * np.log1p(-1 / a) - np.log(a - 1) for e in grid]
        deltas = [float(np.exp(min(0.0, log.min()))) for log in logs]
    else:
        deltas = [float(d) for d in _composed(held, _COARSE).get_delta_for_epsilon(grid)]
    return [float(epsilon) for epsilon in grid], deltas


def _divergences(events: Sequence[Event]) -> tuple[list[float], Any]:
    """Return orders and Rényi divergences of all events together, by Opacus."""
    from opacus.accountants import RDPAccountant
    from opacus.accountants.analysis.rdp import compute_rdp

    orders = list(RDPAccountant.DEFAULT_ALPHAS)
    each = [compute_rdp(q=e.rate, noise_multiplier=e.noise, steps=e.count, orders=orders) for e in events]
    return orders, np.sum(each, axis=0)


# The libraries ------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _spent(events: tuple[Event, ...], delta: float) -> Spent:
    if any(event.noise <= 0 for event in events):
        return Spent(math.inf, "none: without noise there is no bound")
    answers = tuple(event for event in events if event.kind == "rr")
    if answers and any(event.discrete for event in events):
        # No library composes the two tightly: basic composition, each part at half of delta.
        rest = tuple(event for event in events if event.kind != "rr")
        parts = _spent(answers, delta / 2), _spent(rest, delta / 2)
        return Spent(sum(p.epsilon for p in parts), " + ".join(p.accountant for p in parts))
    if answers:
        return Spent(_with_answers(events, delta), _named("PLD", "dp-accounting"))
    rdp = Spent(_rdp(events, delta), _named("RDP", "opacus"))
    if rdp.epsilon > HOPELESS or any(event.discrete for event in events):
        return rdp
    if _single(events):
        return Spent(_exact(events[0].noise, delta), _named("closed form", "dp-accounting"))
    found = [rdp, Spent(_pld(events, delta), _named("PLD", "dp-accounting"))]
    if sum(event.count for event in events) >= _MANY:
        found.append(Spent(_prv(events, delta), _named("PRV", "opacus")))
    return min(found, key=lambda one: one.epsilon)


def _named(accountant: str, package: str) -> str:
    return f"{accountant} ({package} {version(package)})"


@lru_cache(maxsize=4096)
def _rdp(events: tuple[Event, ...], delta: float) -> float:
    return _opacus("rdp", events, delta)


def _prv(events: tuple[Event, ...], delta: float) -> float:
    return _opacus("prv", events, delta)


@lru_cache(maxsize=4096)
def _pld(events: tuple[Event, ...], delta: float, step: float = _FINE) -> float:
    try:
        return float(_composed(events, step).get_epsilon_for_delta(delta))
    except (OverflowError, MemoryError, ValueError):
        return math.inf


def _exact(noise: float, delta: float) -> float:
    """Return epsilon of one Gaussian release: Balle and Wang 2018, arXiv 1805.06530, theorem 8."""
    from dp_accounting import get_epsilon_gaussian

    return float(get_epsilon_gaussian(noise, delta))


def _opacus(mechanism: str, events: tuple[Event, ...], delta: float) -> float:
    """Return Opacus' epsilon; what a call needs beyond the numbers' range counts as infinite."""
    import warnings

    from opacus.accountants import create_accountant

    if any(event.noise <= 0 for event in events):
        return math.inf
    accountant = create_accountant(mechanism)
    accountant.history = [(event.noise, event.rate, event.count) for event in events]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the best order is the largest one: still a bound
        try:
            return float(accountant.get_epsilon(delta))
        except (OverflowError, MemoryError, RuntimeError):
            return math.inf


def _with_answers(events: tuple[Event, ...], delta: float) -> float:
    """Return epsilon where randomised response is among the events: the smaller of two bounds."""
    answers = [event for event in events if event.kind == "rr"]
    found = float(_composed(events).get_epsilon_for_delta(delta))
    if len(answers) == len(events):
        found = min(found, sum(event.noise * event.count for event in answers))
    return found


def _composed(events: tuple[Event, ...], step: float = _FINE) -> Any:
    """Return the privacy loss distribution of all events together (dp-accounting; rounded upwards).

    They are composed one by one: ``PLDAccountant.compose`` of dp-accounting 0.6 ignores the count of a
    randomised response (100 answers at 0.1 would cost 0.0999 instead of 1.818).
    """
    from dp_accounting.pld import privacy_loss_distribution as pld

    whole: Any = None
    for event in events:
        if event.kind == "rr":
            # The probability of a *uniform* answer: keep = e^ε/(e^ε+K-1) is 1 - noise·(K-1)/K.
            uniform = event.classes / (math.exp(event.noise) + event.classes - 1)
            one = pld.from_randomized_response(uniform, event.classes)
        elif event.rate == 1.0:
            one = pld.from_gaussian_mechanism(event.noise, value_discretization_interval=step)
        else:
            one = pld.from_gaussian_mechanism(
                event.noise, sampling_prob=event.rate, value_discretization_interval=step
            )
        several = one.self_compose(event.count)
        whole = several if whole is None else whole.compose(several)
    return whole
