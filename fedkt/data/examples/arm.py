"""Two numbers of a row: where the hand of a jointed arm is."""

import numpy as np

from fedkt.rng import numpy_stream

ROWS, JOINTS, NOISE = 2000, 4, 0.05


def arm() -> tuple[np.ndarray, np.ndarray]:
    """The place (x, y) of the hand of a planar arm with four joints, of its four angles and four lengths.

    Angles uniform in ± 1.2 radians, each against the part before; lengths uniform in [0.3, 0.7]; both
    coordinates with noise of deviation 0.05. 2000 rows of 8 columns, 2 targets.
    """
    rng = numpy_stream(0, "arm")
    angles = rng.uniform(-1.2, 1.2, (ROWS, JOINTS))
    lengths = rng.uniform(0.3, 0.7, (ROWS, JOINTS))
    heading = angles.cumsum(1)
    place = np.stack([(lengths * np.cos(heading)).sum(1), (lengths * np.sin(heading)).sum(1)], 1)
    rows = np.concatenate([angles, lengths], 1)
    return rows.astype(np.float32), place + NOISE * rng.standard_normal(place.shape)
