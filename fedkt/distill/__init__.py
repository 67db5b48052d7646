"""Distillation losses, one value per row: pure functions, one citation each, for ``torch.func``.

All are found by name (entry points ``fedkt.losses``). Those of :mod:`fedkt.distill.losses` compare scores,
those of :mod:`fedkt.distill.relations` how scores relate within a row or a batch, that of
:mod:`fedkt.distill.swing` what is left of a target that looks private, those of
:mod:`fedkt.distill.prototype` features with prototypes; :func:`about` tells the last apart.

May import from ``knowledge`` downwards. Begin with :mod:`fedkt.distill.losses`.
"""

import inspect
from collections.abc import Callable
from typing import Any, Literal

from fedkt.distill.losses import Loss, ce, dkd, kl, mae, mse, mse_prob
from fedkt.distill.prototype import PrototypeLoss, nd, prototype_mse, supervised_contrastive
from fedkt.distill.relations import (
    class_relation,
    dist,
    is_coupled,
    logit_std,
    looks_back,
    pkt,
    reads,
    rkd,
    row_graph,
    skd_direction,
    spkd,
)
from fedkt.distill.swing import swing

__all__ = [
    "Loss",
    "PrototypeLoss",
    "about",
    "ce",
    "class_relation",
    "dist",
    "dkd",
    "is_coupled",
    "kl",
    "logit_std",
    "looks_back",
    "mae",
    "mse",
    "mse_prob",
    "nd",
    "pkt",
    "prototype_mse",
    "reads",
    "rkd",
    "row_graph",
    "skd_direction",
    "spkd",
    "supervised_contrastive",
    "swing",
]


def about(loss: Callable[..., Any]) -> Literal["scores", "features"]:
    """Return what a loss compares: those of features have a parameter ``prototypes``."""
    return "features" if "prototypes" in inspect.signature(loss).parameters else "scores"
