"""Fixed wavelet features under one trained linear layer: a model for private training."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedkt.errors import InputError
from fedkt.models.net import Net, check_settings, takes

if TYPE_CHECKING:
    from fedkt.data.sets.dataset import InputSpec

SCALES = (1.0, 2.0)
"""Wavelengths of the two octaves, in units of the finest one."""
POOL = 4
"""Side of the squares over which the responses are averaged."""
SMALLEST = 8


@takes("image")
def scatter(input: "InputSpec", classes: int, *, orientations: int = 8) -> Net:
    """Scattering of first order (Bruna and Mallat 2013, arXiv:1203.1513) and a linear head, for images.

    The moduli of Morlet wavelets at two scales and ``orientations`` directions, and the image itself, are
    averaged over squares of 4x4 pixels; each response has mean 0 over an image, and a row's features have
    norm 1. Nothing but the head is trained, so features are public and bounded: what private training wants
    (Tramer and Boneh 2021, arXiv:2011.11660).
    """
    check_settings("scatter", input, ("image",), orientations, 0.0)
    channels, height, across = input.shape
    if min(height, across) < SMALLEST:
        raise InputError(
            f"model 'scatter' takes images of at least {SMALLEST}x{SMALLEST} pixels, "
            f"but these are {height}x{across}; set data.image.size."
        )
    features = Scattering(orientations)
    width = channels * (1 + len(SCALES) * orientations) * (height // POOL) * (across // POOL)
    head = nn.Linear(width, classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return Net(features, head, width)


class Scattering(nn.Module):
    """Averaged moduli of wavelets: [B, C, H, W] to [B, C (1 + 2 orientations) (H/4) (W/4)], norm 1."""

    def __init__(self, orientations: int) -> None:
        super().__init__()
        for i, scale in enumerate(SCALES):
            # No parameters: they are the same everywhere and not trained.
            self.register_buffer(f"real{i}", wavelets(orientations, scale).real, persistent=False)
            self.register_buffer(f"imaginary{i}", wavelets(orientations, scale).imag, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        rows, channels = x.shape[0], x.shape[1]
        grey = x.reshape(rows * channels, 1, *x.shape[2:])
        maps = [F.avg_pool2d(grey, POOL)]
        for i in range(len(SCALES)):
            real, imaginary = (
                F.conv2d(grey, self.get_buffer(f"{part}{i}"), padding="same")
                for part in ("real", "imaginary")
            )
            maps.append(F.avg_pool2d((real.square() + imaginary.square() + 1e-12).sqrt(), POOL))
        found = torch.cat(maps, 1)
        # What all rows have in common, mostly the mean response, would slow the head's training down.
        found = found - found.mean((-2, -1), keepdim=True)
        return F.normalize(found.reshape(rows, -1), dim=-1)


def wavelets(orientations: int, scale: float) -> Tensor:
    """Return complex Morlet wavelets [orientations, 1, side, side] of zero mean.

    A Gaussian of deviation 0.8·scale, half as long across its direction, times a plane wave of 3π/4 / scale
    radians per pixel, as in the usual scattering transform.
    """
    deviation, frequency, half = 0.8 * scale, 0.75 * math.pi / scale, math.ceil(2.4 * scale)
    y, x = torch.meshgrid(*[torch.arange(-half, half + 1.0)] * 2, indexing="ij")
    found = []
    for k in range(orientations):
        angle = math.pi * k / orientations
        along = x * math.cos(angle) + y * math.sin(angle)
        across = y * math.cos(angle) - x * math.sin(angle)
        envelope = torch.exp(-(along**2 + (across / 2) ** 2) / (2 * deviation**2))
        wave = torch.exp(1j * frequency * along)
        mean = (envelope * wave).sum() / envelope.sum()
        found.append(envelope * (wave - mean) / envelope.sum())
    return torch.stack(found).unsqueeze(1)
