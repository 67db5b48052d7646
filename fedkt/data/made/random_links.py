"""Candidate links out of public names alone, so that no list of them tells what is true."""

import numpy as np

from fedkt.data.made.draws import Draws, Numbers
from fedkt.data.made.public import Public, generator
from fedkt.errors import InputError


@generator("tokens")
def links(public: Public, n: int, draws: Draws) -> Numbers:
    """Any head, relation and tail, all alike; few are true, as few triples of a graph are."""
    if public.ranges is None or len(public.ranges) != 3:
        raise InputError(
            "data.transfer.from is 'made:links', but data.dataset holds no links; it must be triples:FILE."
        )
    ends = [(int(known.low), int(known.high) + 1) for known in public.ranges]
    return np.stack([draws.between(low, high, n) for low, high in ends], 1)
