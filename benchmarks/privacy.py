"""What privacy costs in time: one client, trained with and without DP-SGD.

    python -m benchmarks.privacy [--repeats 15]

The benchmark's CNN (206 922 parameters) over 1024 rows of 28x28 pixels in batches of 32 and 64, SGD, one
thread. Trainings with and without privacy take turns, since the speed of a shared machine drifts; times are
processor times.
"""

import argparse
import statistics
import time
from functools import partial
from typing import Any

import torch

from benchmarks.engine import work
from fedkt.client import Fit, Steps, classification
from fedkt.client.training import fit, lay_out, one_thread
from fedkt.engine.world.memory import keep_freed
from fedkt.privacy.dpsgd import Dpsgd, fit_privately

ROWS = 1024
HOW = Dpsgd(multiplier=1.0, max_grad_norm=1.0)


def phase(batch: int) -> Fit:
    """Return one epoch over the rows."""
    data = work.images().train
    rows = {"x": torch.from_numpy(data.x[:ROWS]), "y": torch.from_numpy(data.y[:ROWS])}
    return Fit("train", rows, classification, Steps(1, batch, "sgd", work.RATE), private=True)


def main() -> None:
    """Print a table of medians, their ranges and their ratio."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.privacy", description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    keep_freed()  # this and the layout are as in the engines
    print("| batch | a step without, ms | range | with privacy, ms | range | ratio | range of ratios |")
    print("|---|---|---|---|---|---|---|")
    for batch in (32, 64):
        net, what = work.net("cnn"), phase(batch)
        names: dict[str, Any] = {"seed": 0, "client": "0", "round_": 0}
        lay_out(net)
        ways = (partial(fit, net, what, {}, **names), partial(fit_privately, net, what, {}, HOW, **names))
        taken: tuple[list[float], list[float]] = ([], [])
        with one_thread():
            for turn in range(repeats + 1):
                for way, seconds in zip(ways, taken, strict=True):
                    begun = time.process_time()
                    way()
                    if turn:  # the first warms up
                        seconds.append((time.process_time() - begun) * 1e3 * batch / ROWS)
        ratios = [private / plain for plain, private in zip(*taken, strict=True)]
        cells = " | ".join(f"{statistics.median(ms):.2f} | {min(ms):.2f} to {max(ms):.2f}" for ms in taken)
        ratio = f"{statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f}"
        print(f"| {batch} | {cells} | {ratio} |", flush=True)


if __name__ == "__main__":
    main()
