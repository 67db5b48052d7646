"""Predictions freed of what a client finds likely anyway, and what the other clients predict.

All take ``values`` [clients, rows, classes], probabilities whose rows sum to one.
"""

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from fedkt.errors import InputError

Marginals = (
    Literal["uniform", "consensus"]
    | Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=2)]
)
"""How frequent classes are among transfer rows: equally, as clients predict on the mean, or as told."""
SMALLEST = 1e-6
"""A mean prediction is at least this."""


def base_rates(values: Tensor, smoothing: float) -> Tensor:
    """Return (1 - s) times each client's mean prediction over rows plus s/K [clients, classes], s in [0, 1].

    Without smoothing a class that a client never predicts is magnified up to a million times.
    """
    mean = values.mean(1).clamp_min(SMALLEST)
    rates: Tensor = (1 - smoothing) * mean + smoothing / values.shape[-1]
    return rates


def align(values: Tensor, smoothing: float = 0.0, marginals: Marginals = "uniform") -> Tensor:
    """Return predictions divided by the client's base rates and times those of the transfer set, to sum 1.

    Distribution alignment: Berthelot et al. 2020, "ReMixMatch", arXiv 1911.09785, section 3.1. It assumes
    that clients differ in how frequent classes are and in nothing else, and that ``marginals`` are those of
    the transfer set; where these are far from it, aligning harms.
    """
    free = values / base_rates(values, smoothing).unsqueeze(1)
    if marginals == "consensus":
        free = free * values.mean((0, 1)).clamp_min(SMALLEST)
    elif marginals != "uniform":
        free = free * torch.tensor(marginals).to(values)
    shares: Tensor = free / free.sum(-1, keepdim=True)
    return shares


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


def check_marginals(marginals: Marginals, classes: int) -> None:
    """Raise InputError where told marginals are not one number for each class."""
    if not isinstance(marginals, str) and len(marginals) != classes:
        raise InputError(
            f"strategy.marginals has {len(marginals)} numbers, but there are {classes} classes; it must have "
            "one for each, or be uniform or consensus."
        )
