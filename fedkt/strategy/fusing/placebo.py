"""Fusion with placebo peers: what of a gain comes from knowledge, and what from being taught at all.

Distillation smooths: a teacher may help although nothing in it is known of the row. As in a trial of medicine
the control gets what looks the same: each client's teacher is fused of what the client sent itself and of its
peers' answers *to other rows*. Means, entropies and frequencies of classes stay as they were; what a peer
knows of a row is gone. That noise may serve as well as a source was seen in domain adaptation (arXiv
2502.13573, of which the abstract was at hand).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from fedkt.knowledge.contributions import Contributions
from fedkt.rng import numpy_stream
from fedkt.strategy.fusing.fusion import Fused

BY_ROW = ("values", "density")
"""The arrays of a contribution that speak of transfer rows, [clients, rows, ...]."""


def with_placebo(
    fuse: Callable[[Contributions], Fused | None], known: Contributions, seed: int, round_: int
) -> Fused | None:
    """Return one teacher per client, fused of its own contribution and its peers' in another order of rows.

    The order is each peer's own and the same for all whom it teaches; ``fuse`` is called once per client.
    None where it fuses nothing.
    """
    moved = {
        name: shuffled(known.arrays[name], known.clients, seed, round_)
        for name in BY_ROW
        if name in known.arrays
    }
    made: list[Fused] = []
    for n in range(len(known.clients)):
        arrays = dict(known.arrays)
        for name, peers in moved.items():
            arrays[name] = peers.clone()
            arrays[name][n] = known.arrays[name][n]
        fused = fuse(Contributions(known.clients, arrays, known.rows, known.unlike))
        if fused is None:
            return None
        made.append(fused)
    own = [fused.teachers[n if len(fused.teachers) > 1 else 0] for n, fused in enumerate(made)]
    return Fused({name: torch.stack([teacher[name] for teacher in own]) for name in own[0]}, personal=True)


def shuffled(arrays: Tensor, clients: tuple[str, ...], seed: int, round_: int) -> Tensor:
    """Return [clients, rows, ...] with each client's rows in an order of its own."""
    orders = [
        numpy_stream(seed, "placebo", client, round_).permutation(arrays.shape[1]) for client in clients
    ]
    return torch.stack([rows[torch.from_numpy(order)] for rows, order in zip(arrays, orders, strict=True)])
