"""The work that all programs do: data, models, clients of a round. Importable, so that processes keep it."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedkt import models
from fedkt.data.sets.dataset import InputSpec, Split, dataset_of

CLIENTS, ROWS, A_ROUND, BATCH, RATE = 100, 100, 20, 10, 0.05
CLASSES, TEST_ROWS = 10, 100
MODELS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "cnn": ("cnn", {"width": 128}),
    "mlp": ("mlp", {"width": 64}),
    "resnet8": ("resnet8", {}),
}
"""A convolutional net of 206 922 parameters; a perceptron 784-64-10; a residual net."""
INPUT = InputSpec("image", (1, 28, 28))


def images() -> Split:
    """Return seeded 28x28 images of class means and noise: a data set function of fedkt."""
    return _clouds(CLIENTS * ROWS, 28)


def patches() -> Split:
    """Return 8x8 images, enough for 10 000 clients of 20 rows."""
    return _clouds(200_100, 8)


def many_patches() -> Split:
    """Return 8x8 images, enough for 100 000 clients of 5 rows."""
    return _clouds(500_100, 8)


def _clouds(rows: int, side: int) -> Split:
    draw = np.random.default_rng(0)
    means = draw.normal(size=(CLASSES, 1, side, side)).astype(np.float32)
    parts = []
    for count in (rows, TEST_ROWS):
        y = draw.integers(CLASSES, size=count)
        x = 0.5 + np.tanh(means[y] + draw.standard_normal((count, 1, side, side), np.float32)) / 2
        parts.append(dataset_of("benchmark", x, y))
    return Split(parts[0], parts[1], CLASSES)


@lru_cache(maxsize=1)
def shards(device: str = "cpu") -> list[tuple[Tensor, Tensor]]:
    """Return each client's rows, on a device."""
    data = images().train
    x, y = torch.from_numpy(data.x).to(device), torch.from_numpy(data.y).to(device)
    return list(zip(x.split(ROWS), y.split(ROWS), strict=True))


@lru_cache(maxsize=2)
def net(kind: str) -> models.Net:
    """Return this process's model."""
    return models.build(MODELS[kind], INPUT, CLASSES, 0)


def sample(round_: int, a_round: int = A_ROUND) -> list[int]:
    """Return the clients of a round."""
    return [int(k) for k in np.random.default_rng(round_).choice(CLIENTS, a_round, replace=False)]


def train(kind: str, weights: dict[str, Tensor], client: int, device: str = "cpu") -> dict[str, Tensor]:
    """Train one client through one epoch, as a plain loop does; weights come and go on the device."""
    model = net(kind).to(device)
    model.load_state_dict(weights)
    x, y = shards(device)[client]
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, fused=True)
    model.train()
    for rows in torch.randperm(len(x)).split(BATCH):
        _, logits = model(x[rows])
        loss = nn.functional.cross_entropy(logits, y[rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def mean(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of weights."""
    return {name: torch.stack([part[name] for part in parts]).mean(0) for name in parts[0]}


def start(kind: str) -> dict[str, Tensor]:
    """Return the first weights."""
    return {name: tensor.detach().cpu().clone() for name, tensor in net(kind).state_dict().items()}
