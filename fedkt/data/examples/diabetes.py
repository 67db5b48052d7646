"""A number of a patient: how far a disease went on in a year."""

import numpy as np


def diabetes() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """442 patients with diabetes, 10 measurements each, and how far the disease went on in a year (25 to
    346).

    Efron, Hastie, Johnstone, Tibshirani 2004, "Least Angle Regression", Annals of Statistics 32; the copy
    that comes with scikit-learn, with measurements as they are (age in years, BMI, mean blood pressure, six
    of blood serum).
    """
    from sklearn.datasets import load_diabetes  # takes a second to import

    found = load_diabetes(scaled=False)
    columns = {name: found.data[:, i].astype(np.float32) for i, name in enumerate(found.feature_names)}
    return columns, found.target
