"""Deal work to processes so that none has much more than the others."""

from collections.abc import Sequence
from heapq import heappop, heappush


def balanced(loads: Sequence[float], parts: int) -> list[list[int]]:
    """Deal items to parts, the heaviest first, each to the part with the least load so far."""
    heap = [(0.0, part) for part in range(parts)]
    dealt: list[list[int]] = [[] for _ in range(parts)]
    for item in sorted(range(len(loads)), key=lambda i: (-loads[i], i)):
        load, part = heappop(heap)
        dealt[part].append(item)
        heappush(heap, (load + loads[item], part))
    return dealt
