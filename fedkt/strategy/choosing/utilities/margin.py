"""How near the second likeliest class is."""

from torch import Tensor


def margin(probabilities: Tensor) -> Tensor:
    """Return one minus the distance of the two largest of each row of probabilities [..., rows, classes]."""
    top = probabilities.topk(2, dim=-1).values
    found: Tensor = 1.0 - (top[..., 0] - top[..., 1])
    return found
