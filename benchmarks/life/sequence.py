"""Tasks in sequence: what clients keep, by strategy and order of tasks (docs/results/sequence.md).

    FEDKT_DATA=... python -m benchmarks.life.sequence [VARIANT]... [--seeds 0 1 2] [--validation] [--out DIR]

Prints a table of scenario ``tasks-mnist``: mean ± standard deviation over seeds of the means over clients.
With ``--validation`` the last 10 000 training rows are kept out of training, and the first 5 000 of them take
the test rows' place: settings are chosen there. Runs that finished are read, not made again.
"""

import argparse
import json
import os
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.life.runs import made
from benchmarks.tables import mean_text

MEAN = "strategy={name: fedmd, average: probabilities}"
SAME, RANDOM = "data.tasks.order=same", "data.tasks.order=random"
APART = "clients.distill.together=false"
SHOWN = ("acc", "forgetting", "bwt", "just_learnt", "fwt")
TRAINED, LOOKED_AT = 50_000, 5_000


def own(share: float) -> str:
    """Return the setting of the share of a client's own answers."""
    return f"clients.distill.snapshot={share}"


VARIANTS: dict[str, list[str]] = {
    "shifted-local": ["strategy={name: local}"],
    "shifted-mean": [MEAN],
    "shifted-held": [],
    "random-mean": [RANDOM, MEAN],
    "random-held": [RANDOM],
    **{f"random-held-own-{share}": [RANDOM, own(share)] for share in (0.5, 0.9)},
    "random-mean-own-0.9": [RANDOM, MEAN, own(0.9)],
    "shifted-held-own-0.9": [own(0.9)],
    "same-mean": [SAME, MEAN],
    "same-held": [SAME],
    **{f"same-mean-own-{share}": [SAME, MEAN, own(share)] for share in (0.5, 0.7, 0.8, 0.9, 0.95)},
    "shifted-mean-apart": [MEAN, APART],
    "shifted-held-apart": [APART],
    **{f"shifted-mean-apart-own-{share}": [MEAN, APART, own(share)] for share in (0.2, 0.35, 0.5)},
    **{f"shifted-held-apart-own-{share}": [APART, own(share)] for share in (0.2, 0.35, 0.5)},
    "same-mean-apart": [SAME, MEAN, APART],
    **{f"same-mean-apart-own-{share}": [SAME, MEAN, APART, own(share)] for share in (0.5, 0.9)},
}


def validation(folder: Path) -> str:
    """Write MNIST with training rows in place of its test rows; return its data set spec."""
    path = folder / "mnist-validation.npz"
    if not path.is_file():
        with np.load(Path(os.environ["FEDKT_DATA"], "mnist.npz")) as held:
            x, y = held["x_train"], held["y_train"]
        rows = slice(TRAINED, TRAINED + LOOKED_AT)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, x_train=x[:TRAINED], y_train=y[:TRAINED], x_test=x[rows], y_test=y[rows])
    return f"npz:{path.resolve()}"


def figures(overrides: Sequence[str], seed: int, out: Path) -> dict[str, float]:
    """Return the figures of one run in percent, as means over clients."""
    made("tasks-mnist", overrides, seed, out)
    clients = json.loads((out / "tasks.json").read_text(encoding="utf-8"))["clients"].values()
    return {name: 100 * statistics.fmean(c["figures"][name] for c in clients) for name in SHOWN}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("variants", nargs="*", choices=[[], *VARIANTS], metavar="VARIANT")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--validation", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/sequence"))
    given = parser.parse_args()
    out: Path = given.out / ("validation" if given.validation else "test")
    rows = [f"data.dataset={validation(given.out)}"] if given.validation else []
    print(f"| variant | {' | '.join(SHOWN)} |\n{'|---' * (len(SHOWN) + 1)}|", flush=True)
    for name in given.variants or VARIANTS:
        each = [figures([*rows, *VARIANTS[name]], s, out / f"{name}-{s}") for s in given.seeds]
        cells = " | ".join(mean_text([one[figure] for one in each], 1) for figure in SHOWN)
        print(f"| {name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
