"""What strategies make of contributions: teachers, weighted mixtures, and the report of a round."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fedkt.strategy.fusing.robust import weighted_mean


@dataclass(frozen=True)
class Fused:
    """What a strategy made of the contributions.

    ``arrays``: tensors of the teacher by name; with ``personal`` they have a leading dimension of one
    teacher per contributing client, in the contributions' order. ``by_client``: teachers of unlike shapes,
    by client, instead. ``report``: what a person may want to see of this round (JSON values), e.g. the
    weights between clients. ``beliefs``: the probabilities [rows, classes] behind teachers that hold none
    themselves, such as votes; by them rows are chosen and the server's model is taught.

    >>> import torch
    >>> fused = Fused({"values": torch.tensor([[[1.0, 0.0]], [[0.5, 0.5]]])}, personal=True)
    >>> fused.teachers[1]
    {'values': tensor([[0.5000, 0.5000]])}
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


def aged(weights: Tensor | None, ages: Tensor | None) -> Tensor | None:
    """Return weights of clients [clients, ...] times what their ages weigh [clients]; None: all alike.

    >>> aged(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([1.0, 0.5])).tolist()
    [[1.0, 2.0], [1.5, 2.0]]
    """
    if weights is None or ages is None:
        return ages if weights is None else weights
    return weights * ages.to(weights.dtype).reshape(-1, *[1] * (weights.dim() - 1))


def mix(weights: Tensor, knowledge: Tensor, ages: Tensor | None = None) -> Tensor:
    """Return teachers [clients, rows, classes]: row n of ``weights`` [clients, clients] times all knowledge.

    ``knowledge`` [clients, rows, classes]; the teachers have its dtype. ``ages`` [clients]: what knowledge
    weighs by its age; each row of weights then adds up to what it did.

    >>> import torch
    >>> knowledge = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    >>> mix(torch.tensor([[1.0, 0.0], [0.25, 0.75]]), knowledge)[1]
    tensor([[0.2500, 0.7500]])
    """
    if ages is not None:
        by_age = weights * ages.to(weights.dtype)
        weights = by_age * (weights.sum(1, keepdim=True) / by_age.sum(1, keepdim=True))
    return (weights.to(knowledge.dtype) @ knowledge.flatten(1)).view_as(knowledge)


def others(values: Tensor, centre: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Return for each client the mean over all others [clients, ...]; of a single one its own values.

    ``centre``: what is taken of [clients - 1, ...] in place of the mean.
    """
    n = len(values)
    if n == 1:
        return values
    if centre is None:
        total = values.double()  # so that the mean of equal values is that value
        return ((total.sum(0) - total) / (n - 1)).to(values.dtype)
    return torch.stack([centre(torch.cat([values[:i], values[i + 1 :]])) for i in range(n)])


def leave_one_out(
    values: Tensor, counts: Tensor, centre: Callable[[Tensor, Tensor], Tensor] = weighted_mean
) -> tuple[Tensor, Tensor]:
    """Return each client's mean (or ``centre``) over the other clients that hold the class, and their number.

    ``values`` [clients, classes, d], ``counts`` int [clients, classes] (0: the client does not hold the
    class). Returns [clients, classes, d], zeros where nobody else holds it, and int32 [clients, classes].
    """
    held = (counts > 0).int()
    not_self = 1 - torch.eye(len(values), dtype=torch.int32)
    means = [centre(values.double(), held * mask.unsqueeze(-1)) for mask in not_self]
    return torch.stack(means).to(values.dtype), (held.sum(0) - held).int()


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
