"""Adapting before voting: where it helps, where it harms, and what labels do about it
(docs/results/adapting.md).

    FEDKT_DATA=... python -m benchmarks.life.adapting [PART]... [--seeds 0 1 2] [--out DIR]

All parts are scenario ``fedka-digits`` with aligned votes and without matching: three clients with 1000 rows
of one digit domain each, 1000 unlabelled rows of the fourth; accuracy in percent on the fourth's test rows,
mean ± standard deviation over seeds.

targets  each domain left out once, `im` before voting; the votes alone are the rows of
         ``python -m benchmarks.reproduce "fedka-digits/*-votes"``
svhn     SVHN, whose most frequent class has three times the rows of the rarest: `im` that is chosen by 3
         labelled rows per class, `im` that is told the mix of the training rows, and both
rare     USPS with classes 5 to 9 ten times rarer in transfer and test rows: votes, and `im`
guard    the same with `im` that is chosen by 3 labelled rows per class. A seed counts as refused where in the
         last round more than half of the clients keep their own model
labels   the same with `im`, and beside it 30 rows that each client may have labelled
sensor   USPS negatives, as another sensor would see them: votes, `im` on features, `im` on an input layer

Runs that finished are read, not made again.
"""

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.life.runs import made
from benchmarks.tables import mean_text
from fedkt.results.result import Result

DOMAINS = {"mnist": "mnist", "usps": "usps", "mnist_m": "mnist_m", "svhn": "svhn_10k"}
VOTES = ["strategy.matching=false", "evaluate.every=8"]
IM = [*VOTES, "clients.adapt.loss=im"]
RARER = 10


def left_out(name: str) -> list[str]:
    """Return the settings of a run in which a domain is the target and the three others are clients."""
    file = f"npz:{DOMAINS[name]}.npz"
    others = ", ".join(f'{other}: "npz:{held}.npz"' for other, held in DOMAINS.items() if other != name)
    return [f"data.dataset={{{others}}}", f"data.test={file}", f"data.transfer.from={file}"]


def usps(
    out: Path, name: str, change: Callable[..., tuple[NDArray[np.uint8], NDArray[np.int64]]]
) -> list[str]:
    """Write changed USPS rows; return the settings of a run whose target they are."""
    path = out / f"usps-{name}.npz"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with np.load(Path(os.environ["FEDKT_DATA"], "usps.npz")) as held:
            parts = {part: change(held[f"x_{part}"], held[f"y_{part}"]) for part in ("train", "test")}
        arrays: dict[str, Any] = {
            f"{kind}_{part}": rows
            for part, two in parts.items()
            for kind, rows in zip("xy", two, strict=True)
        }
        np.savez(path, **arrays)
    spec = f"npz:{path.resolve()}"
    return [f"data.test={spec}", f"data.transfer.from={spec}"]


def rare(x: NDArray[np.uint8], y: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Keep each class from 5 on a tenth of its rows, the first ones."""
    kept = [its if c < 5 else its[: len(its) // RARER] for c in range(10) for its in [np.flatnonzero(y == c)]]
    rows = np.sort(np.concatenate(kept))
    return x[rows], y[rows]


def negative(x: NDArray[np.uint8], y: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Turn black into white."""
    return 255 - x, y


def labelled(target: Sequence[str], size: int) -> list[str]:
    """Return the settings of labelled rows of the target."""
    source = next(held for held in target if held.startswith("data.transfer.from")).partition("=")[2]
    return [f'data.public={{from: "{source}", size: {size}}}']


def accuracy(run: Result) -> float:
    """Return the mean accuracy of the clients' models at the end, in percent."""
    return 100 * float(run.summary["accuracy"]["global_mean"])


def row(name: str, overrides: Sequence[str], seeds: Sequence[int], out: Path) -> list[Result]:
    """Make the runs of a row and print it."""
    runs = [made("fedka-digits", overrides, seed, out / f"{name}-{seed}") for seed in seeds]
    each = [accuracy(run) for run in runs]
    print(f"| {name} | {mean_text(each, 1)} | {', '.join(f'{value:.1f}' for value in each)} |", flush=True)
    return runs


def targets(seeds: Sequence[int], out: Path) -> None:
    """Leave each domain out once."""
    for name in DOMAINS:
        row(f"{name}-im", [*left_out(name), *IM], seeds, out)


def uneven(seeds: Sequence[int], out: Path) -> None:
    """Let a few labels choose on the target whose classes are least even, and tell how even."""
    target = left_out("svhn")
    few = [*labelled(target, 200), "clients.adapt.few=3"]
    with np.load(Path(os.environ["FEDKT_DATA"], "svhn_10k.npz")) as held:
        counts = np.bincount(held["y_train"])
    mix = f"clients.adapt.prior={(counts / counts.sum()).round(6).tolist()}"
    row("svhn-im-few", [*target, *IM, *few], seeds, out)
    row("svhn-im-mix", [*target, *IM, mix], seeds, out)
    row("svhn-im-mix-few", [*target, *IM, mix, *few], seeds, out)


def rarer(seeds: Sequence[int], out: Path) -> None:
    """Make classes rare."""
    target = usps(out, "rare", rare)
    row("rare-votes", [*target, *VOTES], seeds, out)
    row("rare-im", [*target, *IM], seeds, out)


def guarded(seeds: Sequence[int], out: Path) -> None:
    """Make classes rare, and let a few labels choose."""
    target = usps(out, "rare", rare)
    chosen = [*target, *IM, *labelled(target, 600), "clients.adapt.few=3"]
    runs = row("rare-im-few", chosen, seeds, out)
    shares = [run.clients[run.clients["round"] == 8]["adapted"].mean() for run in runs]
    print(f"refused in {sum(share < 0.5 for share in shares)} of {len(shares)} seeds", flush=True)


def asked(seeds: Sequence[int], out: Path) -> None:
    """Let clients have rows labelled."""
    for name, target in (("usps", left_out("usps")), ("rare", usps(out, "rare", rare))):
        row(
            f"{name}-im-budget", [*target, *IM, *labelled(target, 600), "clients.adapt.budget=30"], seeds, out
        )


def sensor(seeds: Sequence[int], out: Path) -> None:
    """Look through another sensor."""
    target = usps(out, "negative", negative)
    row("negative-votes", [*target, *VOTES], seeds, out)
    row("negative-im", [*target, *IM], seeds, out)
    row(
        "negative-im-input", [*target, *IM, "clients.adapt.trains=input", "clients.adapt.lr=0.01"], seeds, out
    )


PARTS = {
    "targets": targets,
    "svhn": uneven,
    "rare": rarer,
    "guard": guarded,
    "labels": asked,
    "sensor": sensor,
}


def main() -> None:
    """Print the tables of the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], metavar="PART")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/adapting"))
    given = parser.parse_args()
    for name in given.parts or PARTS:
        print(f"\n| {name} | mean | by seed |\n|---|---|---|", flush=True)
        PARTS[name](given.seeds, given.out)


if __name__ == "__main__":
    main()
