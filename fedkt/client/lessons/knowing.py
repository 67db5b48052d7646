"""What a site takes of a teacher where sites have labels of their own (``data.labels: per-site``).

It is taught the classes that it knows, each row's probabilities divided by what these have of it. A row that
is more likely of classes that it does not know says nothing that it could learn, and is dropped.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from fedkt.client.behaviour import Arrays
from fedkt.client.lessons.blocking import without

CLOSED = "closed"
"""The buffer of a model that shuts the outputs of classes: 0 where one is open."""
SHUT = -1e4
"""What is added to the logit of a class that is shut: its probability is exactly 0 in single precision."""
HALF = 0.5
"""A row must leave so much to the classes that are known."""
SPOKEN = 0.05
"""A teacher knows a class that it gives so much on some row."""


class Taken(NamedTuple):
    """A lesson without what a site does not know; ``closed`` [classes]: its outputs afterwards; ``rows`` and
    ``mass``: how many rows were dropped, and the mean probability over rows of what it does not know."""

    teacher: dict[str, Tensor]
    closed: Tensor
    rows: int
    mass: float


def taken(teacher: Arrays, closed: Tensor, learn_others: bool) -> Taken:
    """Return what a site takes of a teacher's probabilities, ``values`` [rows, classes].

    ``learn_others``: outputs are opened for the classes that the teacher knows, so that they are learned too.

    >>> teacher = {"values": torch.tensor([[0.6, 0.2, 0.2], [0.1, 0.1, 0.8]])}
    >>> found = taken(teacher, torch.tensor([0.0, 0.0, SHUT]), learn_others=False)
    >>> found.teacher["values"], found.teacher["rows"], found.rows  # the second row is class 2's
    (tensor([[0.7500, 0.2500, 0.0000]]), tensor([0], dtype=torch.int32), 1)
    >>> taken(teacher, torch.tensor([0.0, 0.0, SHUT]), learn_others=True).closed
    tensor([0., 0., 0.])
    """
    values = teacher["values"]
    if learn_others:
        closed = torch.where(values.amax(0) >= SPOKEN, torch.zeros_like(closed), closed)
    unknown = torch.nonzero(closed != 0).flatten().tolist()
    if not unknown:
        return Taken(dict(teacher), closed, 0, 0.0)
    mass = values[:, unknown].sum(-1)
    kept = mass <= HALF
    left, _ = without(values[kept], unknown)
    rows = teacher.get("rows", torch.arange(len(kept), dtype=torch.int32, device=kept.device))
    told = {**teacher, "values": left, "rows": rows[kept]}
    return Taken(told, closed, int((~kept).sum()), float(mass.mean()))
