"""Classes that a client never learns from a teacher (``participation.blocked``, a site's ``never_learn``).

A class that one client forgot is back after a single fusion with peers that hold it, also where rows that
the teacher gives to this class are dropped: the soft labels of the other rows carry it. So the class is taken
out of every teacher before anything is made of it: t'_j = 0 for a blocked j, else t_j divided by what is left
of the row. A row of which nothing is left is dropped: made uniform, it would teach confusion.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fedkt.client.behaviour import Arrays
from fedkt.distill.losses import SMALLEST_PROBABILITY
from fedkt.knowledge.kinds import (
    Alignment,
    ClassLogits,
    Knowledge,
    Logits,
    Nothing,
    Prototypes,
    PrototypeSets,
    Quantised,
    Votes,
)
from fedkt.knowledge.quantise import probabilities, quantise, stored

NOTHING_LEFT = 1e-6
"""A row that leaves less than this to the classes that are not blocked is dropped."""
Mask = Callable[[dict[str, Tensor], list[int], Mapping[str, Any]], dict[str, Tensor]]


def maskable(kind: type[Knowledge]) -> bool:
    """Say whether a class can be taken out of teachers of this kind; not out of weights.

    >>> from fedkt.knowledge import Weights
    >>> maskable(Logits), maskable(Weights)
    (True, False)
    """
    return kind in _MASKS


def masked(
    kind: type[Knowledge], teacher: Arrays, classes: Sequence[int], settings: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Return a teacher without some classes; it may speak of fewer rows.

    ``teacher``: tensors by name, of the given kind; ``classes``: their numbers; ``settings``: the client
    behaviour's, of which ``form``, ``temperature`` and ``bits_down`` say what values are. Raises KeyError
    where the kind is not :func:`maskable`.

    >>> teacher = {"values": torch.tensor([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0]])}
    >>> left = masked(Logits, teacher, [0], {"form": "probabilities"})
    >>> left["values"], left["rows"]  # the second row was nothing but class 0
    (tensor([[0.0000, 0.6000, 0.4000]]), tensor([0], dtype=torch.int32))
    """
    return _MASKS[kind](dict(teacher), list(classes), settings) if classes else dict(teacher)


def without(probabilities_: Tensor, classes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return probabilities [..., K] without these classes, and of which rows something was left, bool [...].

    A row of zeros, which says nothing, stays one.
    """
    others = probabilities_.clone()
    others[..., list(classes)] = 0
    left, whole = others.sum(-1, keepdim=True), probabilities_.sum(-1)
    kept = (left.squeeze(-1) > NOTHING_LEFT * whole) | (whole == 0)
    return others / torch.where(left > 0, left, 1), kept


def _logits(teacher: dict[str, Tensor], classes: list[int], settings: Mapping[str, Any]) -> dict[str, Tensor]:
    values = teacher["values"]
    if settings.get("form", "logits") != "logits":
        values, kept = without(values, classes)
        return _rows(teacher | {"values": values}, kept)
    # As low as a probability of zero is taken for elsewhere, not minus infinity, which losses cannot compare.
    temperature = settings.get("temperature", 1.0)
    _, kept = without((values / temperature).softmax(-1), classes)
    others = values.clone()
    others[..., classes] = -torch.inf
    lowest = torch.logsumexp(others / temperature, -1, keepdim=True)
    lowest = temperature * (lowest + torch.tensor(SMALLEST_PROBABILITY).log())
    return _rows(teacher | {"values": torch.where(others.isfinite(), others, lowest)}, kept)


def _rows(teacher: dict[str, Tensor], kept: Tensor) -> dict[str, Tensor]:
    """Keep some of a teacher's rows, which it then names."""
    values = teacher["values"][kept]
    rows = teacher.get("rows", torch.arange(len(kept), dtype=torch.int32, device=kept.device))
    return teacher | {"values": values, "rows": rows[kept]}


def _quantised(
    teacher: dict[str, Tensor], classes: list[int], settings: Mapping[str, Any]
) -> dict[str, Tensor]:
    # As it names its rows, it is no base for changes, which both ends would have to know alike.
    bits, symbols, number = settings["bits_down"], teacher["values"], settings["classes"]
    values, kept = without(probabilities(symbols, bits, number), classes)
    found = _rows(teacher | {"values": values}, kept)
    return found | {"values": stored(quantise(found["values"], bits), bits, number)}


def _class_logits(
    teacher: dict[str, Tensor], classes: list[int], settings: Mapping[str, Any]
) -> dict[str, Tensor]:
    values, kept = without(teacher["values"], classes)
    known = kept.clone()
    known[classes] = False
    return teacher | {"values": values * known.unsqueeze(-1), "counts": teacher["counts"] * known}


def _prototypes(
    teacher: dict[str, Tensor], classes: list[int], settings: Mapping[str, Any]
) -> dict[str, Tensor]:
    values, counts = teacher["values"].clone(), teacher["counts"].clone()
    values[..., classes, :] = 0
    counts[..., classes] = 0
    return teacher | {"values": values, "counts": counts}


def _votes(teacher: dict[str, Tensor], classes: list[int], settings: Mapping[str, Any]) -> dict[str, Tensor]:
    if "labels" not in teacher:
        return teacher
    blocked = torch.isin(teacher["labels"], teacher["labels"].new_tensor(classes))
    return teacher | {"labels": teacher["labels"].masked_fill(blocked, -1)}


def _nothing(
    teacher: dict[str, Tensor], classes: list[int], settings: Mapping[str, Any]
) -> dict[str, Tensor]:
    return teacher


_MASKS: Mapping[type[Knowledge], Mask] = {
    Logits: _logits,
    Quantised: _quantised,
    ClassLogits: _class_logits,
    Prototypes: _prototypes,
    PrototypeSets: _prototypes,
    Votes: _votes,
    Alignment: _votes,
    Nothing: _nothing,
}
