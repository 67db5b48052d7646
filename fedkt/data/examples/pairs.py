"""Several labels of an image: which digits are on it."""

import numpy as np

from fedkt.data.sets.digits import digits
from fedkt.rng import numpy_stream

ROWS = 2000


def digit_pairs() -> tuple[np.ndarray, np.ndarray]:
    """Two handwritten digits side by side, 8x16 pixels; ten labels, which of the digits are there.

    2000 pairs drawn of the training rows of ``digits``, without replacement until all were drawn; one in ten
    has one digit twice.
    """
    source = digits().train
    rng = numpy_stream(0, "digit pairs")
    drawn = np.concatenate([rng.permutation(len(source)) for _ in range(2 * ROWS // len(source) + 1)])
    left, right = drawn[: 2 * ROWS].reshape(2, ROWS)
    images = np.concatenate([source.x[left], source.x[right]], axis=3)
    labels = np.zeros((ROWS, 10), np.float32)
    labels[np.arange(ROWS), source.y[left]] = labels[np.arange(ROWS), source.y[right]] = 1
    return images.transpose(0, 2, 3, 1), labels
