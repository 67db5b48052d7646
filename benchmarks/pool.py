"""What row policies ask for in a pool that is three quarters foreign, and what that is worth.

    FEDKT_DATA=... python -m benchmarks.pool [--policies random entropy] [--alphas 0.5 5] [--seeds 0 1 2]
    [--quick] [--clean] [--validation] [--out runs/pool]

The pool is 250 rows each of MNIST (held out of the private rows), Fashion-MNIST, uniform noise and dead
leaves, of which a round asks about 250. ``--quick`` is 60 each of the bundled digits, shapes, noise and
leaves, a small model and six rounds; ``--clean`` is a pool of the private kind alone; ``--validation`` takes
training rows that nobody holds in place of the test rows, which is what policies are chosen by. Every run is
appended to OUT/runs.jsonl and is not run again. A table of docs/results/row-policies.md is printed: accuracy
on each client's own and on all clients' test rows after the last round, and the share of the rows asked for
in that round that are of the private rows' kind; mean and sample standard deviation over seeds. A policy may
be JSON, such as '{"utility": "telling", "explore": 0.1}'; ``default`` is what is asked where none is named.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

import fedkt
from benchmarks.tables import mean_text
from fedkt import data, registry, scenario
from fedkt.data.content.same_rows import row_hashes
from fedkt.data.made.draws import Draws
from fedkt.data.made.public import Public
from fedkt.rng import numpy_stream
from fedkt.strategy.choosing.chooser import RowChoice

POLICIES = ("default", "random", "entropy", "margin", "disagreement", "contested", "telling", "census")
Images = NDArray[np.uint8]
Run = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """How much is measured: ``each`` kind's rows in the pool, which is also how many a round asks for;
    ``private`` and ``foreign``: the data sets that rows are taken from."""

    scenario: str
    private: str
    foreign: str
    each: int
    changes: tuple[str, ...] = ()


FULL = Size("knfu-mnist", "npz:mnist.npz", "npz:fashion_mnist.npz", 250)
QUICK = Size(
    "quickstart",
    "digits",
    "made:shapes",
    60,
    (
        "data.partition={kind: dirichlet, clients: 4, samples_per_client: 60}",
        "clients.models=[{name: mlp, width: 32}]",
        "rounds=6",
    ),
)


def write_data(
    size: Size, source: Path, out: Path, *, clean: bool = False, validation: bool = False
) -> NDArray[np.uint64]:
    """Write ``private.npz`` and ``pool.npz`` below ``out``, which holds the four kinds one after another, or
    with ``clean`` as many rows of the private kind alone; return the hashes of the rows of that kind.

    ``validation``: as many of the training rows as there are test rows, at most a quarter, take their place.
    """
    split = data.load_dataset(size.private, source)
    order = numpy_stream(0, "pool").permutation(len(split.train))
    held = order[: size.each * (4 if clean else 1)]
    x, shape, test = _bytes(split.train.x), split.train.shape, split.test
    assert test is not None
    tested: dict[str, Any] = {"x_test": _bytes(test.x), "y_test": test.y}
    if validation:
        aside = order[-min(len(test), len(order) // 4) :]
        tested = {"x_test": x[aside], "y_test": split.train.y[aside]}
        held_out = np.concatenate([held, aside])
    else:
        held_out = held
    kept = np.delete(np.arange(len(split.train)), held_out)
    if size.foreign.startswith("made:"):
        foreign = _made(size.foreign, shape, size.each)
    else:
        foreign = _bytes(data.load_dataset(size.foreign, source).train.x[: size.each])
    kinds = [x[held]]
    if not clean:
        noise = numpy_stream(0, "noise").integers(0, 256, (size.each, *shape), dtype=np.uint8)
        kinds += [foreign, noise, _made("made:leaves", shape, size.each)]
    out.mkdir(parents=True, exist_ok=True)
    np.savez(out / "private.npz", x_train=x[kept], y_train=split.train.y[kept], **tested)
    np.savez(out / "pool.npz", x_train=np.concatenate(kinds), y_train=np.arange(4 * size.each) % 10)
    return row_hashes(x[held])


def _bytes(x: NDArray[Any]) -> Images:
    return x if x.dtype == np.uint8 else np.rint(255 * x).astype(np.uint8)


def _made(name: str, shape: tuple[int, ...], count: int) -> Images:
    make = registry.find("generators", name.removeprefix("made:"))
    rows: Images = make(Public("image", shape), count, Draws(0, "pool", name))
    return rows


@contextmanager
def heard() -> Iterator[dict[int, NDArray[np.int32] | None]]:
    """Give the rows that were asked for, by round."""
    found: dict[int, NDArray[np.int32] | None] = {}
    choose = RowChoice.choose

    def told(self: RowChoice, server_round: int) -> NDArray[np.int32] | None:
        found[server_round] = choose(self, server_round)
        return found[server_round]

    with patch.object(RowChoice, "choose", told):
        yield found


def measure(size: Size, policy: str, alpha: float, seed: int, folder: Path, right: NDArray[np.uint64]) -> Run:
    """Return both accuracies and the share of rows of the right kind in the last round, in percent."""
    spec: dict[str, Any] = {"from": "npz:pool.npz", "size": 4 * size.each, "rows": size.each}
    if policy != "default":
        spec["policy"] = json.loads(policy) if policy.startswith("{") else policy
    changes = [
        *size.changes,
        "data.dataset=npz:private.npz",
        f"data.transfer={json.dumps(spec)}",
        f"data.partition.alpha={alpha:g}",
        "strategy={name: fedmd, average: probabilities}",
        "clients.distill.together=false",
        "engine={kind: inline, cohort: 10}",
        f"seed={seed}",
    ]
    rounds = scenario.load(size.scenario, changes).rounds
    described = scenario.load(size.scenario, [*changes, f"evaluate.every={rounds}"])
    with tempfile.TemporaryDirectory() as out, heard() as asked:
        done = fedkt.simulate(described, out=Path(out) / "run", data_dir=folder)
        reached = done.summary["accuracy"]
    pool = data.build(described, folder).transfer
    assert pool is not None
    rows = asked[rounds]
    known = np.isin(row_hashes(pool.x[slice(None) if rows is None else rows]), right)
    about = {"policy": policy, "alpha": alpha, "seed": seed}
    return {
        **about,
        "personal": 100 * reached["personal_mean"],
        "global": 100 * reached["global_mean"],
        "right": 100 * float(known.mean()),
    }


def table(runs: Sequence[Run]) -> list[str]:
    """Return a line for each policy: accuracies and share of the right kind, for each alpha."""
    alphas = sorted({run["alpha"] for run in runs})
    heads = [f"alpha {alpha:g}: {what}" for alpha in alphas for what in ("personal", "global", "right kind")]
    lines = [f"| policy | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for policy in dict.fromkeys(run["policy"] for run in runs):
        its = [run for run in runs if run["policy"] == policy]
        cells = [
            mean_text([run[key] for run in its if run["alpha"] == alpha], 1) or "–"
            for alpha in alphas
            for key in ("personal", "global", "right")
        ]
        lines.append(f"| {policy} | {' | '.join(cells)} |")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--policies", nargs="+", default=list(POLICIES))
    parser.add_argument("--alphas", nargs="+", type=float, default=[0.5, 5.0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    for flag in ("quick", "clean", "validation"):
        parser.add_argument(f"--{flag}", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/pool"))
    given = parser.parse_args(arguments)
    out = given.out
    for flag in ("quick", "clean", "validation"):
        out = out / flag if getattr(given, flag) else out
    size = QUICK if given.quick else FULL
    source = Path(os.environ.get("FEDKT_DATA", "data"))
    right = write_data(size, source, out, clean=given.clean, validation=given.validation)
    log = out / "runs.jsonl"
    runs = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    known = {(run["policy"], run["alpha"], run["seed"]) for run in runs}
    cells = [(p, a, s) for s in given.seeds for p in given.policies for a in given.alphas]
    for cell in cells:
        if cell not in known:
            runs.append(measure(size, *cell, out, right))
            with log.open("a") as lines:
                lines.write(json.dumps(runs[-1]) + "\n")
    print("\n".join(table([run for run in runs if (run["policy"], run["alpha"], run["seed"]) in set(cells)])))


if __name__ == "__main__":
    main()
