"""ResNet-8 with GroupNorm."""

from math import gcd
from typing import TYPE_CHECKING

from torch import Tensor, nn

from fedkt.errors import InputError
from fedkt.models.net import Net, check_settings, net
from fedkt.registry import takes

if TYPE_CHECKING:
    from fedkt.data.sets.dataset import InputSpec


@takes("image")
def resnet8(input: "InputSpec", classes: int, *, width: int = 64, dropout: float = 0.0) -> Net:
    """ResNet-8 (He et al. 2016, arXiv:1512.03385) with GroupNorm, for images.

    A 3x3 convolution, three stages of one residual block with ``width``/4, ``width``/2 and ``width``
    channels, the image halved before the second and third, then the mean over pixels. GroupNorm (Wu and
    He 2018, arXiv:1803.08494) of at most 8 groups stands in for BatchNorm, whose statistics mix rows.
    ``width`` must be a multiple of 4.
    """
    check_settings("resnet8", input, ("image",), width, dropout)
    if width % 4:
        raise InputError(f"width of model 'resnet8' is {width}; it must be a multiple of 4.")
    first, second = width // 4, width // 2
    features: list[nn.Module] = [
        conv(input.shape[0], first),
        norm(first),
        nn.ReLU(),
        Block(first, first),
        Block(first, second, stride=2),
        Block(second, width, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ]
    return net(features, width, classes, dropout)


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut: [B, before, H, W] to [B, after, H/stride, W/stride]."""

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(before, after, stride), norm(after), nn.ReLU(), conv(after, after), norm(after)
        )
        same = before == after and stride == 1
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), norm(after))
        )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(self.body(x) + self.shortcut(x))
        return out


def conv(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    """3x3 convolution; the norm after it has the bias."""
    return nn.Conv2d(before, after, 3, stride, padding=1, bias=False)


def norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with 8 groups, or fewer where the channels do not divide into 8."""
    return nn.GroupNorm(gcd(8, channels), channels)
