"""Tables of four clinics as CSV files, one each, of breast cancer data that scikit-learn brings along.

    python -m fedkt.data.examples.clinics [FOLDER]

writes ``clinics/north.csv``, ``east``, ``south`` and ``west``, with 40 patients each, ``public.csv`` with 120
whose diagnosis nobody gives, and ``test.csv`` with the other 289, below FOLDER (default: ``data``).
"""

import sys
from pathlib import Path

import numpy as np

from fedkt.rng import numpy_stream

SITES = ("north", "east", "south", "west")
PATIENTS, PUBLIC = 40, 120
BLANK = 0.1


def write(folder: Path) -> Path:
    """Write the tables below a folder; return theirs.

    Wisconsin Diagnostic Breast Cancer (Street, Wolberg, Mangasarian 1993), 569 patients, 30 measurements.
    Clinics see tumours of another size (the mean radius with as much noise, in fourths) and leave a tenth of
    each of six measurements blank; how coarse the texture is, each writes as a word.
    """
    from sklearn.datasets import load_breast_cancer

    rng = numpy_stream(0, "clinics")
    held = load_breast_cancer(as_frame=True)
    table = held.data.rename(columns=lambda name: name.replace(" ", "_"))
    words = np.array(["fine", "medium", "coarse"])
    table["texture"] = words[
        np.digitize(table["mean_texture"], table["mean_texture"].quantile([1 / 3, 2 / 3]))
    ]
    table = table.drop(columns=["mean_texture"])
    table["diagnosis"] = held.target_names[held.target]
    radius = table["mean_radius"]
    size = (radius - radius.mean()) / radius.std() + rng.standard_normal(len(table))
    order = rng.permutation(len(table))
    public, rest = order[:PUBLIC], order[PUBLIC:]
    fourth = np.searchsorted(np.quantile(size.to_numpy()[rest], [0.25, 0.5, 0.75]), size.to_numpy()[rest])
    to = folder / "clinics"
    to.mkdir(parents=True, exist_ok=True)
    taken = []
    for number, site in enumerate(SITES):
        mine = table.iloc[rest[fourth == number][:PATIENTS]].copy()
        taken.append(mine.index)
        for column in rng.choice(held.data.shape[1] - 1, 6, replace=False):
            mine.iloc[rng.random(PATIENTS) < BLANK, column] = np.nan
        mine.to_csv(to / f"{site}.csv", index=False)
    table.iloc[public].drop(columns="diagnosis").to_csv(to / "public.csv", index=False)
    table.iloc[rest].drop(index=np.concatenate(taken)).to_csv(to / "test.csv", index=False)
    return to


if __name__ == "__main__":
    print(write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("data")))
