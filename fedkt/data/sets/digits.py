"""The bundled data set."""

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from fedkt.data.columns.sample import stratified
from fedkt.data.sets.dataset import Dataset, Split
from fedkt.rng import numpy_stream


def digits() -> Split:
    """Handwritten digits of scikit-learn: 1797 grey images of 8x8 pixels, 10 classes.

    Source: Alpaydin and Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI, test part. The split
    is fixed, whatever the scenario's seed: 80 % training rows (1438) and 20 % test rows (359) by class.
    """
    values = _table()
    x = (values[:, None, :-1].reshape(-1, 1, 8, 8) / 16).astype(np.float32)
    whole = Dataset(x, values[:, -1].astype(np.int64), None, "image")
    test = stratified(whole.y, round(0.2 * len(whole)), numpy_stream(0, "digits"))
    train = np.setdiff1d(np.arange(len(whole)), test)
    return Split(whole.take(train), whole.take(test), 10)


def _table() -> np.ndarray:
    """Return 64 pixels from 0 to 16 and the class, per row.

    From the file that scikit-learn's ``load_digits`` reads: importing that takes longer than a round.
    """
    package = find_spec("sklearn")
    file = Path((package and package.origin) or "").parent / "datasets" / "data" / "digits.csv.gz"
    if not file.is_file():  # another version keeps it elsewhere
        from sklearn.datasets import load_digits

        source = load_digits()
        return np.column_stack([source.data, source.target])
    with gzip.open(file, "rt", encoding="ascii") as lines:
        return np.loadtxt(lines, delimiter=",")
