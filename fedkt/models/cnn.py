"""Small convolutional network."""

from collections.abc import Sequence
from math import gcd
from typing import TYPE_CHECKING

from torch import nn

from fedkt.errors import InputError
from fedkt.models.net import Net, check_settings, net
from fedkt.registry import takes

if TYPE_CHECKING:
    from fedkt.data.sets.dataset import InputSpec


@takes("image")
def cnn(
    input: "InputSpec",
    classes: int,
    *,
    width: int = 64,
    channels: Sequence[int] = (16, 32),
    strided: bool = False,
    norm: bool = False,
    dropout: float = 0.0,
) -> Net:
    """Convolutional network in the manner of LeNet (LeCun et al. 1998), for images of 4x4 and more.

    3x3 convolutions with so many ``channels``, each with ReLU and 2x2 max-pooling, then ``width`` units.
    ``strided``: every second place is computed in place of pooling, which takes a quarter of the work.
    ``norm``: each image is first brought to mean 0 and deviation 1 of its own (image domains differ most in
    brightness and contrast), and GroupNorm (Wu and He 2018, arXiv:1803.08494) follows each convolution.
    """
    check_settings("cnn", input, ("image",), width, dropout, channels, hidden_name="channels")
    for name, value in (("strided", strided), ("norm", norm)):
        if type(value) is not bool:
            raise InputError(f"{name} of model 'cnn' is {value!r}; it must be true or false.")
    before, *size = input.shape
    smallest = 2 ** len(channels)  # each convolution halves both sides
    if min(size) < smallest:
        raise InputError(
            f"model 'cnn' takes images of at least {smallest}x{smallest} pixels, "
            f"but these are {size[0]}x{size[1]}; set data.image.size."
        )
    features: list[nn.Module] = [nn.GroupNorm(1, before, affine=False)] if norm else []
    for after in channels:
        features += [nn.Conv2d(before, after, 3, stride=2 if strided else 1, padding=1)]
        features += [nn.GroupNorm(gcd(8, after), after), nn.ReLU()] if norm else [nn.ReLU()]
        features += [] if strided else [nn.MaxPool2d(2)]
        size = [(side + 1) // 2 if strided else side // 2 for side in size]
        before = after
    features += [nn.Flatten(), nn.Linear(before * size[0] * size[1], width), nn.ReLU()]
    return net(features, width, classes, dropout)
