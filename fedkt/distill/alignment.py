"""Predictions freed of what a model finds likely anyway.

All take ``values`` [..., rows, classes], probabilities whose rows sum to one.
"""

from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from fedkt.errors import InputError

Told = Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=2)]
Marginals = Literal["uniform", "consensus"] | Told
"""How frequent classes are among transfer rows: equally, as clients predict on the mean, or as told."""
SMALLEST = 1e-6
"""A mean prediction is at least this."""


class Alignment(BaseModel):
    """How a client frees its predictions of its own base rates before it sends them.

    >>> Alignment(smoothing=0.2).marginals
    'uniform'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    smoothing: float = Field(0.1, ge=0, le=1)
    """Of its mean prediction with the uniform one."""
    marginals: Literal["uniform"] | Told = "uniform"
    """Class frequencies of the transfer set: equal, or as told; no client knows a consensus."""


def base_rates(values: Tensor, smoothing: float) -> Tensor:
    """Return (1 - s) times the mean prediction over rows plus s/K [..., classes], s in [0, 1].

    Without smoothing a class that is never predicted is magnified up to a million times.
    """
    mean = values.mean(-2).clamp_min(SMALLEST)
    rates: Tensor = (1 - smoothing) * mean + smoothing / values.shape[-1]
    return rates


def align(values: Tensor, smoothing: float = 0.0, marginals: Marginals = "uniform") -> Tensor:
    """Return predictions divided by their base rates and times those of the transfer set, to sum 1.

    Distribution alignment: Berthelot et al. 2020, "ReMixMatch", arXiv 1911.09785, section 3.1. It assumes
    that clients differ in how frequent classes are and in nothing else, and that ``marginals`` are those of
    the transfer set; where these are far from it, aligning harms. ``consensus`` takes the mean over clients,
    the first dimension, too.
    """
    free = values / base_rates(values, smoothing).unsqueeze(-2)
    if marginals == "consensus":
        free = free * values.mean((0, 1)).clamp_min(SMALLEST)
    elif marginals != "uniform":
        free = free * torch.tensor(marginals).to(values)
    shares: Tensor = free / free.sum(-1, keepdim=True)
    return shares


def check_marginals(marginals: Marginals, classes: int, where: str = "strategy.marginals") -> None:
    """Raise InputError where told marginals are not one number for each class."""
    if not isinstance(marginals, str) and len(marginals) != classes:
        raise InputError(
            f"{where} has {len(marginals)} numbers, but there are {classes} classes; it must have "
            "one for each, or be uniform or consensus."
        )
