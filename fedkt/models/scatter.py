"""Fixed wavelet features under one trained linear layer: a model for private training.

Noise grows with the number of weights, and a linear layer needs the fewer steps the rounder its inputs lie.
So features may be brought to a few whitened ones, learned from the transfer set without labels, which costs
no privacy.
"""

import math
from collections.abc import Hashable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedkt.errors import InputError
from fedkt.models.net import Net, check_settings
from fedkt.registry import takes

if TYPE_CHECKING:
    from fedkt.data.sets.dataset import InputSpec

SCALES = (1.0, 2.0)
"""Wavelengths of the two octaves, in units of the finest one."""
POOL = 4
"""Side of the squares over which the responses are averaged."""
SMALLEST = 8


@takes("image")
def scatter(
    input: "InputSpec", classes: int, *, orientations: int = 8, components: int = 0, ridge: float = 0.01
) -> Net:
    """Scattering of first order (Bruna and Mallat 2013, arXiv:1203.1513) and a linear head, for images.

    The moduli of Morlet wavelets at two scales and ``orientations`` directions, and the image itself, are
    averaged over squares of 4x4 pixels; each response has mean 0 over an image, and a row's features have
    norm 1. Nothing but the head is trained, so features are public and bounded: what private training wants
    (Tramer and Boneh 2021, arXiv:2011.11660).

    ``components`` (0: all features as they are): how many principal components of the transfer set's features
    stand in their place, each divided by its deviation there; ``ridge``: added to variances before that, as a
    share of the largest. Rows keep norm 1.
    """
    check_settings("scatter", input, ("image",), orientations, 0.0)
    problems = []
    if type(components) is not int or components < 0:
        problems.append(f"components of model 'scatter' is {components!r}; it must be an integer from 0 on.")
    if type(ridge) not in (int, float) or not ridge > 0:
        problems.append(f"ridge of model 'scatter' is {ridge!r}; it must be above 0.")
    if problems:
        raise InputError(*problems)
    channels, height, across = input.shape
    if min(height, across) < SMALLEST:
        raise InputError(
            f"model 'scatter' takes images of at least {SMALLEST}x{SMALLEST} pixels, "
            f"but these are {height}x{across}; set data.image.size."
        )
    features: nn.Module = Scattering(orientations)
    width = channels * (1 + len(SCALES) * orientations) * (height // POOL) * (across // POOL)
    if components:
        features = _whitened(input, features, width, components, ridge, (orientations, components, ridge))
        width = components
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


class Whitened(nn.Module):
    """Features that other features are brought to: [B, ...] to [B, components], norm 1.

    Its two buffers are not trained; they are kept and exported with a model.
    """

    def __init__(self, before: nn.Module, mean: Tensor, axes: Tensor) -> None:
        super().__init__()
        self.before = before
        self.register_buffer("mean", mean)
        self.register_buffer("axes", axes)

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize((self.before(x) - self.get_buffer("mean")) @ self.get_buffer("axes"), dim=-1)


def _whitened(
    input: "InputSpec", features: nn.Module, width: int, components: int, ridge: float, what: Hashable
) -> Whitened:
    if input.common is None:
        raise InputError(
            "model 'scatter' learns its components from the transfer set, and there is none; add "
            "data.transfer or leave components out."
        )
    if components > width:
        raise InputError(
            f"components of model 'scatter' is {components}; it must be at most {width}, the features it has."
        )

    @torch.no_grad()
    def learn(rows: Tensor) -> tuple[Tensor, Tensor]:
        if components >= len(rows):
            raise InputError(
                f"components of model 'scatter' is {components}; it must be less than the {len(rows)} rows "
                "of the transfer set."
            )
        return whitening(torch.cat([features(part) for part in rows.split(256)]), components, ridge)

    found = input.common.learned(("scatter", what), learn)
    mean, axes = found or (torch.zeros(width), torch.zeros(width, components))
    return Whitened(features, mean.clone(), axes.clone())


def whitening(z: Tensor, components: int, ridge: float) -> tuple[Tensor, Tensor]:
    """Return the mean [width] of rows [n, width] and axes [width, components].

    The axes are the principal ones, each divided by √(variance + ridge · largest variance); the largest
    number of each is positive. On one thread, so that all processes learn the same bits.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        exact = z.double()
        mean = exact.mean(0)
        variances, axes = torch.linalg.eigh((exact - mean).T @ (exact - mean) / len(z))
    finally:
        torch.set_num_threads(threads)
    variances, axes = variances.flip(0)[:components].clamp_min(0.0), axes.flip(1)[:, :components]
    axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
    deviations = (variances + ridge * variances[0]).clamp_min(1e-12).sqrt()
    return mean.float(), (axes / deviations).float().contiguous()


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
