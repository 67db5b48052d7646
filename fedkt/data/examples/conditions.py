"""Several labels of a patient: which conditions are there. Wards see other patients."""

import numpy as np

from fedkt.rng import numpy_stream

ROWS, COLUMNS, CONDITIONS, FACTORS, WARDS = 1200, 20, 6, 5, 4


def conditions() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """20 measurements and 6 conditions of 1200 made patients in four wards.

    Five hidden factors, whose mean is another in each ward, shape measurements (linear, noise of deviation
    0.7) and conditions (a logistic function of two factors and their product each, about one patient in four
    has each).
    """
    rng = numpy_stream(0, "conditions")
    ward = np.arange(ROWS) % WARDS
    factors = rng.standard_normal((ROWS, FACTORS)) + 0.8 * rng.standard_normal((WARDS, FACTORS))[ward]
    x = factors @ rng.standard_normal((FACTORS, COLUMNS)) + 0.7 * rng.standard_normal((ROWS, COLUMNS))
    logits = np.empty((ROWS, CONDITIONS))
    for c in range(CONDITIONS):
        a, b = factors[:, rng.choice(FACTORS, 2, replace=False)].T
        logits[:, c] = 2.0 * (a + b + a * b) - 2.5
    labels = rng.random((ROWS, CONDITIONS)) < 1 / (1 + np.exp(-logits))
    return x.astype(np.float32), labels.astype(np.float32), np.array([f"ward_{n}" for n in "abcd"])[ward]
