"""Distillation losses: pure functions, one citation each, which run under ``torch.func``."""

from fedkt.distill.losses import Loss, ce, dkd, kl, mae, mse, mse_prob, per_row
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
    "per_row",
    "prototype_mse",
    "supervised_contrastive",
]
