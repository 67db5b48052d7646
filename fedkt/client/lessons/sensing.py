"""What stands between a model and rows of another sensor: an input layer, and the statistics of BatchNorm.

The input layer is the cheap form of EventDance (Zheng, Wang 2024, CVPR, arXiv 2403.14082), which learns to
make of one sensor's rows such as a model of another's understands: here a 1x1 convolution over the channels,
which starts as the identity. What differs: no generator, no images of both kinds.

Statistics: the running mean and variance m of each BatchNorm layer become (1 - a) m + a m(batch), with a that
fades from batch to batch, as Mirza et al. 2022, "The Norm Must Go On" (DUA), CVPR, arXiv 2112.00463, and for
segmentation Liu et al. 2021, "Adapting Off-the-shelf Source Segmenter", MICCAI, arXiv 2106.12497, have it.
What differs: no transferability by channel, and the fading is this file's own.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedkt.client.training import PREDICT_BATCH

FIRST, FADING = 0.1, 0.94
"""The share of the first batch, and what it is times for each further one: of many, 81 % are the rows'."""


def lens_of(channels: int, device: torch.device) -> nn.Conv2d:
    """Return an input layer of images [B, channels, H, W] that does nothing yet.

    >>> x = torch.rand(1, 3, 2, 2)
    >>> torch.equal(lens_of(3, x.device)(x), x)
    True
    """
    lens = nn.Conv2d(channels, channels, 1, device="meta").to_empty(device=device)  # draws no random numbers
    nn.init.dirac_(lens.weight)
    if lens.bias is not None:
        nn.init.zeros_(lens.bias)
    return lens


@torch.no_grad()
def seen(lens: nn.Module, x: Tensor) -> Tensor:
    """Return what a model gets to see of rows [n, ...]."""
    return torch.cat([lens(part) for part in x.split(PREDICT_BATCH)])


def has_statistics(net: nn.Module) -> bool:
    """Say whether a model keeps statistics of the rows that it was trained on."""
    return bool(_keepers(net))


@torch.no_grad()
def move_statistics(net: nn.Module, batches: Iterable[Tensor]) -> None:
    """Move the statistics of a model's BatchNorm layers to those of batches of rows, in place.

    No weight changes, nor what else differs between training and use, such as dropout.
    """
    keepers = _keepers(net)
    before = [layer.momentum for layer in keepers]
    net.eval()
    try:
        for layer in keepers:
            layer.train()
        for step, x in enumerate(batches):
            for layer in keepers:
                layer.momentum = FIRST * FADING**step
            net(x)
    finally:
        for layer, momentum in zip(keepers, before, strict=True):
            layer.momentum = momentum
        net.eval()


def _keepers(net: nn.Module) -> list[_BatchNorm]:
    return [part for part in net.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
