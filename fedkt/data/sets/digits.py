"""The bundled data set."""

import numpy as np

from fedkt.data.sets.dataset import Dataset, Split
from fedkt.data.sets.sample import stratified
from fedkt.rng import numpy_stream


def digits() -> Split:
    """Handwritten digits of scikit-learn: 1797 grey images of 8x8 pixels, 10 classes.

    Source: Alpaydin and Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI, test part. The split
    is fixed, whatever the scenario's seed: 80 % training rows (1438) and 20 % test rows (359) by class.
    """
    from sklearn.datasets import load_digits

    source = load_digits()
    x = (source.images[:, None] / 16).astype(np.float32)
    whole = Dataset(x, source.target.astype(np.int64), None, "image")
    test = stratified(whole.y, round(0.2 * len(whole)), numpy_stream(0, "digits"))
    train = np.setdiff1d(np.arange(len(whole)), test)
    return Split(whole.take(train), whole.take(test), 10)
