"""Contributions of one round side by side: decoded, sorted by client, stacked to tensors."""

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

    >>> known = Contributions(("b", "2"), {"values": torch.tensor([[[0.0, 1.0]], [[0.5, 0.5]]])})
    >>> known.of("2")
    {'values': tensor([[0.5000, 0.5000]])}
    >>> known.by_name().clients
    ('2', 'b')
    """

    clients: tuple[str, ...]
    arrays: Mapping[str, Tensor]
    rows: Tensor | None = None
    unlike: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)

    def of(self, client: str) -> dict[str, Tensor]:
        """Return all arrays of one client, by name. Raises ValueError where it did not contribute."""
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


def stack(
    clients: Sequence[str],
    arrays: Mapping[str, Mapping[str, NDArray[Any] | Tensor]],
    rows: NDArray[np.int32] | Tensor | None,
) -> Contributions:
    """Stack decoded arrays of these clients, in this order, to tensors [clients, ...].

    What not all of them have in one shape is left as it is: see ``Contributions.unlike``. ``rows`` int32
    [rows]: the transfer rows that they speak about, None for all.

    >>> counts = {"0": {"counts": torch.tensor([3, 1])}, "1": {"counts": torch.tensor([0, 4])}}
    >>> stack(["0", "1"], counts, rows=None).arrays["counts"].tolist()
    [[3, 1], [0, 4]]
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
