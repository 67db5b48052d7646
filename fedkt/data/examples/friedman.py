"""Numbers from a known function, at sites that each see a part of it."""

import numpy as np

from fedkt.rng import numpy_stream

ROWS, COLUMNS, SITES, NOISE = 1500, 10, 5, 1.0


def friedman() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A function of 5 of 10 columns with noise; five sites that each see a fifth of the range of the fourth.

    y = 10 sin(π x1 x2) + 20 (x3 - 1/2)² + 10 x4 + 5 x5 + e, columns uniform in [0, 1], e normal of deviation
    1: Friedman 1991, "Multivariate Adaptive Regression Splines", Annals of Statistics 19, example 4.2 (as
    scikit-learn's ``make_friedman1``). 1500 rows, dealt by x4, of which each site then knows little.
    """
    rng = numpy_stream(0, "friedman")
    x = rng.random((ROWS, COLUMNS))
    y = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
    y = y + NOISE * rng.standard_normal(ROWS)
    site = np.minimum((x[:, 3] * SITES).astype(np.int64), SITES - 1)
    return x.astype(np.float32), y, np.array([f"site_{n}" for n in "abcde"])[site]
