"""What strategies fuse and what they make of it: stacked contributions in, teachers out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def client_order(name: str) -> tuple[int, int, str]:
    """Sort key of clients: numbered ones by number, then named ones by name."""
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)


@dataclass(frozen=True)
class Contributions:
    """Accepted contributions of one round, stacked.

    ``clients``: names in order; ``arrays``: tensors [clients, ...] by name; ``rows``: the transfer rows
    that they speak about (None: all); ``unlike``: by client, the arrays that not every client has in one
    shape, as where architectures differ.
    """

    clients: tuple[str, ...]
    arrays: Mapping[str, Tensor]
    rows: Tensor | None = None
    unlike: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)

    def of(self, client: str) -> dict[str, Tensor]:
        """Return all arrays of one client."""
        i = self.clients.index(client)
        return {name: tensor[i] for name, tensor in self.arrays.items()} | dict(self.unlike.get(client, {}))

    def by_name(self) -> "Contributions":
        """Return the same in the order of the clients' names.

        What depends on an order, such as batches or sums, is then the same however clients are listed.
        """
        return self.among(sorted(self.clients, key=client_order))

    def among(self, clients: Sequence[str]) -> "Contributions":
        """Return the contributions of these clients alone, in this order."""
        return stack(clients, {client: self.of(client) for client in clients}, self.rows)

    @property
    def values(self) -> Tensor:
        """The array ``values`` that most kinds have."""
        return self.arrays["values"]


@dataclass(frozen=True)
class Fused:
    """What a strategy made of the contributions.

    ``arrays``: tensors of the teacher by name; with ``personal`` they have a leading dimension of one
    teacher per contributing client, in the contributions' order. ``by_client``: teachers of unlike shapes,
    by client, instead. ``report``: what a person may want to see of this round (JSON values), e.g. the
    weights between clients. ``beliefs``: the probabilities [rows, classes] behind teachers that hold none
    themselves, such as votes; by them rows are chosen and the server's model is taught.
    """

    arrays: Mapping[str, Tensor] = field(default_factory=dict)
    personal: bool = False
    by_client: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)
    beliefs: Tensor | None = None

    @property
    def teachers(self) -> list[Mapping[str, Tensor]]:
        """The arrays of each client's teacher, or of the common one alone."""
        if self.personal:
            count = len(next(iter(self.arrays.values())))
            return [{name: tensor[i] for name, tensor in self.arrays.items()} for i in range(count)]
        return list(self.by_client.values()) or [self.arrays]


def stack(
    clients: Sequence[str],
    arrays: Mapping[str, Mapping[str, NDArray[Any] | Tensor]],
    rows: NDArray[np.int32] | Tensor | None,
) -> Contributions:
    """Stack decoded arrays of these clients, in this order, to tensors [clients, ...].

    What not all of them have in one shape is left as it is.
    """
    held = [{name: _tensor(array) for name, array in arrays[client].items()} for client in clients]
    first = held[0] if held else {}
    alike = [n for n in first if all(n in own and own[n].shape == first[n].shape for own in held)]
    rest = [{name: tensor for name, tensor in own.items() if name not in alike} for own in held]
    return Contributions(
        tuple(clients),
        {name: torch.stack([own[name] for own in held]) for name in alike},
        None if rows is None else _tensor(rows),
        dict(zip(clients, rest, strict=True)) if any(rest) else {},
    )


def _tensor(array: NDArray[Any] | Tensor) -> Tensor:
    # Copied, since what was decoded is read-only.
    return array if isinstance(array, Tensor) else torch.from_numpy(np.array(array))


def mix(weights: Tensor, knowledge: Tensor) -> Tensor:
    """Return teachers [clients, rows, classes]: row n of ``weights`` [clients, clients] times all knowledge.

    ``knowledge`` [clients, rows, classes]; the teachers have its dtype.
    """
    return (weights.to(knowledge.dtype) @ knowledge.flatten(1)).view_as(knowledge)


MOST_WEIGHED = 50
"""With more clients the weights between them are summarised: a matrix a round is what fills the disk then."""


def weights_report(clients: Sequence[str], weights: Tensor) -> dict[str, Any]:
    """Return what a round's line says of the weights [clients, clients] that teachers are mixed by.

    ``clients``, and ``weights`` row by row; with more than :data:`MOST_WEIGHED` clients in place of these
    ``own_weight``, what a client's own knowledge counts in its teacher, mean over clients.
    """
    if len(clients) > MOST_WEIGHED:
        return {"clients": list(clients), "own_weight": weights.diagonal().mean().item()}
    return {"clients": list(clients), "weights": weights.tolist()}
