"""Distillation losses, one value per row: pure functions, one citation each, for ``torch.func``."""

from fedkt.distill.losses import Loss, ce, dkd, kl, mae, mse, mse_prob
from fedkt.distill.prototype import nd, prototype_mse, supervised_contrastive

__all__ = [
    "Loss",
    "ce",
    "dkd",
    "kl",
    "mae",
    "mse",
    "mse_prob",
    "nd",
    "prototype_mse",
    "supervised_contrastive",
]
