"""Successive halving: all are trained a little, the better half of them longer, until two are left.

Jamieson and Talwalkar 2016, "Non-stochastic best arm identification and hyperparameter optimization",
AISTATS, arXiv:1502.07943. What differs: the budget is a share of what training all of them would take, and
who is left goes on from where it was.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class Rung(NamedTuple):
    """``entrants``: how many are trained, up to ``steps`` in all."""

    entrants: int
    steps: int


def rungs(entrants: int, full: int, share: float) -> list[Rung]:
    """Return the rungs for so many entrants of ``full`` steps each, of which all take ``share`` at most.

    Steps double from rung to rung. A single entrant needs no trial.

    >>> rungs(8, full=200, share=0.15)  # 8 * 15 + 4 * 15 + 2 * 30 = 240 of 1600 steps
    [Rung(entrants=8, steps=15), Rung(entrants=4, steps=30), Rung(entrants=2, steps=60)]
    """
    sizes = [entrants] if entrants > 1 else []
    while sizes and sizes[-1] > 2:
        sizes.append(-(-sizes[-1] // 2))
    unit = sum(n * (1 if rung == 0 else 2 ** (rung - 1)) for rung, n in enumerate(sizes))
    first = max(1, int(share * entrants * full / max(unit, 1)))
    return [Rung(n, min(first * 2**rung, full)) for rung, n in enumerate(sizes)]


def spent(plan: Sequence[Rung]) -> int:
    """Return how many steps a plan takes.

    >>> spent(rungs(8, full=200, share=0.15))
    240
    """
    before = [0, *(rung.steps for rung in plan)]
    return sum(rung.entrants * (rung.steps - done) for rung, done in zip(plan, before, strict=False))


def halved(entrants: Sequence[T], plan: Sequence[Rung], trial: Callable[[T, int], float]) -> list[T]:
    """Return the entrants in order, the best first, those that went further before those that did not.

    ``trial(entrant, steps)`` trains one up to so many steps and returns its loss; of equal ones the first
    stays. A loss that is not a number is the worst.

    >>> halved("abcd", [Rung(4, 1), Rung(2, 2)], lambda name, steps: {"b": 1, "c": 2 - steps}.get(name, 3))
    ['c', 'b', 'a', 'd']
    """
    left, out = list(entrants), list[T]()
    for rung in plan:
        left, out = left[: rung.entrants], [*left[rung.entrants :], *out]
        losses = [trial(one, rung.steps) for one in left]
        order = sorted(range(len(left)), key=lambda at: (losses[at] != losses[at], losses[at]))
        left = [left[at] for at in order]
    return [*left, *out]
