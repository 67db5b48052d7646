"""A head that is the same for all clients and never trained (setting ``common_head`` of any net).

Classes have fixed directions in the space of features; logits are the cosines with them, times a scale that
is learned. After Ni et al. 2024, "Enhancing Visual Continual Learning with Language-Guided Supervision"
(LingoCL), CVPR, arXiv 2403.16124, whose directions are a language model's embeddings of the classes' names;
such ones can be given as a file, else they are random and at right angles to each other. With one head for
all, prototypes of models of the same width are comparable across architectures.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fedkt.data.sets.npz import find_file
from fedkt.errors import InputError
from fedkt.rng import numpy_stream

RANDOM = "random-orthogonal"
SCALE = 10.0
"""What the scale is learned from: at 1, where LingoCL begins, ten classes leave the surest row at 23 %."""


class FrozenHead(nn.Module):
    """Logits [B, classes] of features [B, width]: scale times cosine with each class's direction."""

    directions: Tensor

    def __init__(self, directions: Tensor) -> None:
        super().__init__()
        self.register_buffer("directions", directions)
        self.scale = nn.Parameter(torch.tensor(SCALE))

    def forward(self, z: Tensor) -> Tensor:
        found: Tensor = self.scale * nn.functional.normalize(z, dim=-1) @ self.directions.T
        return found


def directions_of(source: str, classes: int, width: int) -> Tensor:
    """Return the directions [classes, width] of length 1; the same for all clients and every seed.

    ``source``: :data:`RANDOM`, or an ``.npy`` file of an array [classes, width] found as data files are.
    Where there are more classes than features, they are as near to right angles as a random rotation makes
    them. Raises InputError where the file does not fit.

    >>> found = directions_of("random-orthogonal", 3, 8)
    >>> (found @ found.T).round(decimals=4).abs().tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    if source == RANDOM:
        drawn = numpy_stream(0, "frozen head", classes, width).standard_normal((max(classes, width),) * 2)
        found = np.linalg.qr(drawn)[0][:classes, :width]
    else:
        path = Path(source) if Path(source).is_file() else find_file(source, None)
        try:
            found = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise InputError(
                f"common_head {source!r} cannot be read ({error}); it must be an .npy file."
            ) from error
        if found.shape != (classes, width) or not np.isfinite(found).all():
            raise InputError(
                f"common_head {source!r} holds an array of shape {list(found.shape)}; it must be finite "
                "numbers of "
                f"shape [{classes}, {width}], a direction of the model's width for each class."
            )
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    return torch.from_numpy((found / np.maximum(lengths, 1e-12)).astype(np.float32))
