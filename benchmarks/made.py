"""What made rows are worth: real, shifted, made and noise rows side by side, and training alone.

    FEDKT_DATA=... python -m benchmarks.made [EXPERIMENT/ROWS]... [--strategies fedmd dwc] [--seeds 0 1 2]
    [--out DIR]

``EXPERIMENT/ROWS`` may be a pattern (``mnist/*``); without any all is run. What is finished is not run
again. The tables of docs/results/made-rows.md are printed from the runs below ``OUT``.
"""

import argparse
import fnmatch
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fedkt
from benchmarks import cifar10
from benchmarks.tables import mean_text
from fedkt.results.result import Result
from fedkt.rng import numpy_stream

METHODS = {
    "local": "{name: local}",
    "fedmd": "{name: fedmd, average: probabilities}",
    "dwc": "{name: dwc}",
    "dwc in phases": "{name: dwc}",
    "fedpcl": "{name: fedpcl}",
    "fedpcl, hard": "{name: fedpcl, hard: 0.5}",
    "fedpcl, hard, made": "{name: fedpcl, hard: 0.5, negatives: 100}",
}
USUAL = ("fedmd", "dwc", "dwc in phases")
CONTRASTS = ("fedpcl", "fedpcl, hard", "fedpcl, hard, made")
MNIST = "{mean: [0.1307], std: [0.3081]}"
FRESH = "{from: 'made:medley', size: 4000, refresh: round}; clients.distill.batch_size=256"
EXPERIMENTS: dict[str, tuple[str, tuple[str, ...], Mapping[str, str]]] = {
    "digits": (
        "quickstart",
        ("clients.models=[{name: mlp, width: 64}]", "clients.local.epochs=20"),
        {
            "real": "{from: train, size: 300}",
            "shifted": "{from: 'npz:mnist.npz', size: 300}; data.image={size: 8, channels: 1}",
            **{
                f"made:{kind}": f"{{from: 'made:{kind}', size: 300}}"
                for kind in ("shapes", "strokes", "medley")
            },
            "noise": "{from: 'benchmarks.made:noise8', size: 300}",
            "noise, pixels in [0, 1]": "{from: 'benchmarks.made:noise8', size: 300}; data.normalise=none",
            "made:shapes, pixels in [0, 1]": "{from: 'made:shapes', size: 300}; data.normalise=none",
        },
    ),
    "negatives": (
        "fedpcl-digits",
        ("data.normalise=none",),
        {"made:shapes": "{from: 'made:shapes', size: 300}"},
    ),
    "mnist": (
        "made-images",
        (),
        {
            "real": "{from: train, size: 1000}",
            "shifted": "{from: 'npz:usps.npz', size: 1000}; data.image={size: 28, channels: 1}",
            **{
                f"made:{kind}": f"{{from: 'made:{kind}', size: 1000}}"
                for kind in ("shapes", "strokes", "medley")
            },
            "made:medley, 4000 fresh": FRESH,
            "noise": "{from: 'benchmarks.made:noise28', size: 1000}",
            "noise, scaled by itself": "{from: 'benchmarks.made:noise28', size: 1000}; "
            "data.normalise=transfer",
            **{
                f"real, 250 {policy}": f"{{from: train, size: 1000, rows: 250, equal_steps: true, "
                f"policy: {policy}}}"
                for policy in ("random", "contested")
            },
        },
    ),
    "cifar10": (
        "made-images",
        (
            "data.dataset=npz:cifar10.npz",
            "data.image={size: 16, channels: 3}",
            "data.normalise={mean: [0.491, 0.482, 0.447], std: [0.247, 0.243, 0.262]}",
            "data.partition.alpha=5",
            "data.partition.samples_per_client=250",
        ),
        {
            "real": "{from: train, size: 1000}",
            "shifted": "{from: 'npz:svhn_10k.npz', size: 1000}",
            **{
                f"made:{kind}": f"{{from: 'made:{kind}', size: 1000}}"
                for kind in ("shapes", "leaves", "medley")
            },
            "made:medley, 4000 fresh": FRESH,
            "noise": "{from: 'benchmarks.made:noise16', size: 1000}",
        },
    ),
    "heart": (
        "made-table",
        (),
        {
            "real": "{from: train, size: 120}",
            "made:schema": "{from: 'made:schema', size: 120}",
            "noise": "{from: 'benchmarks.made:noise13', size: 120}",
        },
    ),
    "reviews": (
        "made-text",
        (),
        {
            "real": "{from: train, size: 400}",
            "made:words, 400": "{from: 'made:words', size: 400}",
            "made:words, 2000 fresh": "{from: 'made:words', size: 2000, refresh: round}",
            "noise": "{from: 'made:words', size: 400, generator: {fall: 0}}",
        },
    ),
}


_PLAIN = str.maketrans({" ": "", ":": "-", ",": "-", "[": "", "]": ""})
"""What a folder is not called."""


def _noise(side: int, channels: int = 1) -> tuple[Any, Any]:
    stream = numpy_stream(0, "noise", side)
    rows = stream.integers(0, 256, (2000, channels, side, side), dtype=np.uint8)
    return rows, np.arange(2000) % 10


def noise8() -> tuple[Any, Any]:
    """Uniform pixels of 8 x 8 and labels that nobody reads."""
    return _noise(8)


def noise28() -> tuple[Any, Any]:
    """Uniform pixels of 28 x 28 and labels that nobody reads."""
    return _noise(28)


def noise16() -> tuple[Any, Any]:
    """Uniform colours of 16 x 16 and labels that nobody reads."""
    return _noise(16, 3)


def noise13() -> tuple[Any, Any]:
    """Patients whose columns are all uniform from 0 to 600, and labels that nobody reads."""
    return 600 * numpy_stream(0, "noise", 13).random((500, 13), dtype=np.float32), np.arange(500) % 2


def cells(patterns: Sequence[str], methods: Sequence[str]) -> Iterator[tuple[str, str, str, list[str]]]:
    """Yield experiment, rows, method and overrides of what is to be measured."""
    for name, (_, common, variants) in EXPERIMENTS.items():
        for rows, told in {"none": next(iter(variants.values())), **variants}.items():
            if not any(fnmatch.fnmatch(f"{name}/{rows}", pattern) for pattern in patterns):
                continue
            spec, *more = told.split("; ")
            fitting = [one for one in methods if one in (CONTRASTS if name == "negatives" else USUAL)]
            for method in ["local"] if rows == "none" else fitting:
                changes = [*common, f"data.transfer={spec}", *more, f"strategy={METHODS[method]}"]
                if method == "dwc":
                    changes.append("clients.distill.together=true")
                elif method in ("fedmd", "dwc in phases"):
                    changes.append("clients.distill.together=false")
                yield name, rows, method, changes


def measured(name: str, changes: Sequence[str], seed: int, out: Path, data_dir: Path | None) -> Result:
    """Return the run of a cell and seed, which is made unless it is there."""
    if not (out / "summary.json").exists():
        overrides = ["engine={kind: inline, cohort: 10}", "evaluate.every=10", *changes, f"seed={seed}"]
        fedkt.simulate(EXPERIMENTS[name][0], overrides, out=out, resume=out.exists(), data_dir=data_dir)
    return Result.read(out)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, printing a line of the table as soon as its seeds are there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", nargs="*", default=["*"])
    parser.add_argument("--strategies", nargs="+", default=["fedmd", "dwc"], choices=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/made"))
    asked = parser.parse_args(arguments)
    folder = Path(os.environ.get("FEDKT_DATA", "data"))
    print("| experiment | rows | strategy | personal | global | AUC |\n|---|---|---|---|---|---|")
    for name, rows, method, changes in cells(asked.cells, asked.strategies):
        data_dir = cifar10.decoded(folder, asked.out / "data") if name == "cifar10" else None
        found = []
        for seed in asked.seeds:
            words = (text.translate(_PLAIN) for text in (rows, method))
            out = asked.out.joinpath(name, *words, str(seed))
            found.append(measured(name, changes, seed, out, data_dir).summary["accuracy"])
        values = [
            mean_text([100 * one[key] for one in found if one.get(key) is not None], 1) or "-"
            for key in ("personal_mean", "global_mean", "global_auc_mean")
        ]
        print(f"| {name} | {rows} | {method} | {' | '.join(values)} |", flush=True)


if __name__ == "__main__":
    main()
