"""Deal work to processes so that none has much more than the others."""

from collections.abc import Mapping, Sequence
from heapq import heappop, heappush

LEAST_GAIN = 0.02
"""Part of the heaviest load that a move must save."""


def balanced(loads: Sequence[float], parts: int) -> list[list[int]]:
    """Deal items to parts, the heaviest first, each to the part with the least load so far."""
    heap = [(0.0, part) for part in range(parts)]
    dealt: list[list[int]] = [[] for _ in range(parts)]
    for item in sorted(range(len(loads)), key=lambda i: (-loads[i], i)):
        load, part = heappop(heap)
        dealt[part].append(item)
        heappush(heap, (load + loads[item], part))
    return dealt


def evened(held: Sequence[Mapping[int, float]]) -> list[tuple[int, int, int]]:
    """Return few moves (item, from, to) after which no part has much more than another.

    ``held``: each part's items with their loads.
    """
    loads = [dict(items) for items in held]
    moves: list[tuple[int, int, int]] = []
    while True:
        sums = [sum(items.values()) for items in loads]
        high, low = sums.index(max(sums)), sums.index(min(sums))
        half = (sums[high] - sums[low]) / 2
        item = min(loads[high], key=lambda i: (abs(loads[high][i] - half), i), default=None)
        if item is None:
            return moves
        load = loads[high][item]
        if sums[high] - max(sums[high] - load, sums[low] + load) <= LEAST_GAIN * sums[high]:
            return moves
        loads[low][item] = loads[high].pop(item)
        moves.append((item, high, low))
