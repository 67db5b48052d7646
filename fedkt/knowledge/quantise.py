"""Probabilities in few bits: whole units that still add up to one, and differences between them.

Sattler et al. 2020, "Communication-Efficient Federated Distillation", arXiv 2012.00632 (CFD): constrained
quantisation, under which one bit leaves the most probable class alone, and delta coding.

A row of probabilities becomes 2^bits - 1 units, dealt to the classes by the largest remainder (of equal
ones the lower class first). What is exchanged are *symbols*: with one bit the class of each row [rows], else
the units of each class [rows, classes].
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def quantise(probabilities: Tensor, bits: int) -> Tensor:
    """Return the symbols of probabilities [rows, classes]: int64 [rows] for one bit, else [rows, classes]."""
    if bits == 1:
        return probabilities.argmax(-1)
    total = 2**bits - 1
    exact = probabilities.double() * total
    units = exact.floor()
    left = total - units.sum(-1, keepdim=True)
    # The place of each class by its remainder, largest first: the first `left` ones get one unit more.
    order = (units - exact).argsort(dim=-1, stable=True)
    dealt: Tensor = (units + (order.argsort(-1) < left)).long()
    return dealt


def probabilities(symbols: Tensor, bits: int, classes: int) -> Tensor:
    """Return the probabilities float32 [rows, classes] that symbols stand for."""
    if bits == 1:
        return F.one_hot(symbols.long(), classes).float()
    shares: Tensor = symbols.float() / (2**bits - 1)
    return shares


def difference(symbols: Tensor, base: Tensor, bits: int, classes: int) -> Tensor:
    """Return symbols minus those of the base, modulo their number: 0 where nothing changed."""
    changes: Tensor = (symbols - base) % modulus(bits, classes)
    return changes


def restore(changes: Tensor, base: Tensor, bits: int, classes: int) -> Tensor:
    """Return the symbols of which :func:`difference` made ``changes``."""
    symbols: Tensor = (changes + base) % modulus(bits, classes)
    return symbols


def modulus(bits: int, classes: int) -> int:
    """Return the number of different symbols."""
    return classes if bits == 1 else 2**bits


def in_bits(symbols: Tensor, bits: int, other: int, classes: int) -> Tensor:
    """Return symbols of ``bits`` bits as those of ``other`` bits."""
    return symbols.long() if bits == other else quantise(probabilities(symbols, bits, classes), other)


def stored(symbols: Tensor, bits: int, classes: int) -> Tensor:
    """Return symbols in the type in which they are sent: uint8, or uint16 above 256 classes."""
    return symbols.to(torch.uint16 if bits == 1 and classes > 256 else torch.uint8)
