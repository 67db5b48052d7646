"""Small convolutional network."""

from typing import TYPE_CHECKING

from torch import nn

from fedkt.errors import InputError
from fedkt.models.net import Net, check_settings, net

if TYPE_CHECKING:
    from fedkt.data.dataset import InputSpec

SMALLEST = 4  # two poolings halve each side twice


def cnn(input: "InputSpec", classes: int, *, width: int = 64, dropout: float = 0.0) -> Net:
    """Convolutional network in the manner of LeNet (LeCun et al. 1998), for images of 4x4 and more.

    Two 3x3 convolutions with 16 and 32 channels, each with ReLU and 2x2 max-pooling, then ``width`` units.
    """
    check_settings("cnn", input, ("image",), width, dropout)
    channels, height, across = input.shape
    if min(height, across) < SMALLEST:
        raise InputError(
            f"model 'cnn' takes images of at least {SMALLEST}x{SMALLEST} pixels, "
            f"but these are {height}x{across}; set data.image.size."
        )
    features: list[nn.Module] = [
        nn.Conv2d(channels, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * (height // 4) * (across // 4), width),
        nn.ReLU(),
    ]
    return net(features, width, classes, dropout)
