"""The newest teachers of a run: which round made each, and which of them a client is known to have."""

from collections.abc import Mapping
from typing import Any

import torch
from flwr.app import ArrayRecord
from numpy.typing import NDArray
from torch import Tensor

from fedkt.knowledge.codec import Expected, encode
from fedkt.strategy.fusing import robust

Arrays = dict[str, Tensor]
COMMON = ""
"""Stands for all clients among those that have a teacher."""


class Teachers:
    """One teacher common to all clients, or one for each."""

    def __init__(self) -> None:
        self.common: Arrays | None = None
        self.personal: dict[str, Arrays] = {}
        self._made: dict[str, int] = {}
        self._delivered: dict[str, int] = {}
        self._encoded: tuple[Arrays | None, Expected, ArrayRecord] | None = None
        self._newcomer: tuple[Arrays | None] | None = None
        """What a newcomer gets, once it was asked for; many clients may be new to a round."""

    def renew(self, round_: int, common: Arrays | None, personal: Mapping[str, Arrays]) -> None:
        """Take over what a round made: personal teachers, or where there are none the common one."""
        self._newcomer = None
        self.personal |= personal
        self._made |= dict.fromkeys(personal, round_)
        if not personal:
            self.common = common
            self._made[COMMON] = round_

    def of(self, client: str) -> Arrays | None:
        """Return the newest teacher for a client, None where there is none."""
        return self.personal.get(client, self.common) or self.newcomer()

    def newcomer(self) -> Arrays | None:
        """Return what a client starts from that has no teacher of its own: the mean of the newest ones.

        Where a class is known to some of them only, of theirs. None where they are of unlike shapes, or
        codes, which have no mean.
        """
        if self._newcomer is None:
            self._newcomer = (self._mean_of_newest(),)
        return self._newcomer[0]

    def _mean_of_newest(self) -> Arrays | None:
        newest = max(self._made.values(), default=-1)
        held = [teacher for client, teacher in self.personal.items() if self._made[client] == newest]
        shapes = {tuple((name, tensor.shape) for name, tensor in sorted(t.items())) for t in held}
        if len(shapes) != 1 or "codes" in held[0]:
            return None
        stacked = {name: torch.stack([teacher[name] for teacher in held]) for name in held[0]}
        known = stacked["counts"] > 0 if "counts" in stacked else None
        return {
            name: robust.weighted_mean(tensor, known) if tensor.is_floating_point() else tensor.amax(0)
            for name, tensor in stacked.items()
        }

    def made_in(self, round_: int) -> bool:
        """Say whether a round made a teacher."""
        return round_ in self._made.values()

    def round_of(self, client: str) -> int:
        """Return the round that made a client's teacher, -1 where it has none.

        A newcomer has none of its own; what it gets instead is as new as the newest of the others.
        """
        if client in self._made or COMMON in self._made:
            return self._made.get(client, self._made.get(COMMON, -1))
        return -1 if self.newcomer() is None else max(self._made.values())

    def lacks(self, client: str) -> bool:
        """Say whether there is a newer teacher for a client than the one that it is known to have."""
        return self.round_of(client) > self._delivered.get(client, -1)

    def delivered(self, client: str, round_: int) -> None:
        """Note that a client has the teacher of a round."""
        self._delivered[client] = round_

    def encode_common(self, arrays: Mapping[str, NDArray[Any]], expected: Expected) -> ArrayRecord:
        """Encode the common teacher, which many clients get in the same form, once."""
        if self._encoded is None or self._encoded[0] is not self.common or self._encoded[1] != expected:
            self._encoded = self.common, expected, encode(arrays, expected)
        return self._encoded[2]

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """Return everything that a resumed run needs: tensors by name and a JSON note."""
        tensors = {f"common/{name}": tensor for name, tensor in (self.common or {}).items()}
        for client, arrays in self.personal.items():
            tensors |= {f"personal/{client}/{name}": tensor for name, tensor in arrays.items()}
        return tensors, {"made": self._made, "delivered": self._delivered}

    def load(self, common: Arrays, personal: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
        """Restore what :meth:`state` returned; ``personal`` by ``<client>/<name>``."""
        self.common, self.personal, self._newcomer = common or None, {}, None
        for key, tensor in personal.items():
            client, name = key.split("/", 1)
            self.personal.setdefault(client, {})[name] = tensor
        self._made, self._delivered = dict(note["made"]), dict(note["delivered"])
