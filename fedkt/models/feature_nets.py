"""Nets that make features or take them: what the servers of FedGen and FedGKT train."""

from typing import Any

import torch
from torch import Tensor, nn

from fedkt.models.build import build
from fedkt.models.net import Net


def generator(classes: int, width: int, noise: int, hidden: int) -> Net:
    """Return a module from (noise, one-hot class) [B, noise + classes] to features [B, width], twice.

    One hidden layer of ``hidden`` units. It is a Net whose head changes nothing, so that it is trained as
    any other. The normalisation is by row, where the authors' code has one by batch.
    """
    layers = [nn.Linear(noise + classes, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Linear(hidden, width)]
    return Net(nn.Sequential(*layers), nn.Identity(), width)


def generator_input(noise: Tensor, y: Tensor, classes: int) -> Tensor:
    """Return what the generator takes [B, noise + classes] for noise [B, noise] and classes ``y`` [B]."""
    return torch.cat([noise, nn.functional.one_hot(y, classes).to(noise.dtype)], -1)


def on_features(spec: Any, width: int, classes: int, seed: int) -> Net:
    """Build a model of the zoo on features [B, width], which are to it the rows of a table.

    Raises InputError where the model takes none.
    """
    from fedkt.data.sets.dataset import InputSpec

    return build(spec, InputSpec("tabular", (width,)), classes, seed)
