"""What the default strategy costs beside a plain mean, two phases and a client's round: processor time.

    python -m benchmarks.fusion_speed

Medians of repeated measurements on one thread; a busy machine stretches wall time, hardly these.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from fedkt import models
from fedkt.client import Fit, Steps, classification, distillation
from fedkt.client.familiarity import log_ratio
from fedkt.client.joint import joined
from fedkt.client.training import fit
from fedkt.data.sets.dataset import InputSpec
from fedkt.distill.losses import kl
from fedkt.scenario import Robust
from fedkt.strategy.fusing import robust
from fedkt.strategy.fusing.weighing import by_density


def seconds(run: Callable[[], Any], repeats: int) -> float:
    """Return the median processor time of a call."""
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        taken.append(time.process_time() - start)
    return statistics.median(taken)


def fusing(clients: int = 1000, rows: int = 1000, classes: int = 10) -> tuple[float, float]:
    """Return the seconds of a plain mean and of one weighed by density."""
    draw = torch.Generator().manual_seed(0)
    values = torch.rand(clients, rows, classes, generator=draw).softmax(-1)
    ratio = torch.randn(clients, rows, generator=draw)
    plain = seconds(lambda: robust.centre(values, None, Robust()), 9)
    return plain, seconds(lambda: robust.centre(values, by_density(ratio), Robust()), 9)


def a_round(private: int) -> dict[str, float]:
    """Return the seconds of a client's parts of a round of knfu-mnist with so many private rows."""
    spec = InputSpec("image", (1, 28, 28))
    net = models.build({"name": "mlp", "width": 100}, spec, 10, 0)
    draw = torch.Generator().manual_seed(0)
    own = {"x": torch.randn(private, 1, 28, 28, generator=draw), "y": torch.arange(private) % 10}
    other = {
        "x": torch.randn(1000, 1, 28, 28, generator=draw),
        "target": torch.randn(1000, 10, generator=draw),
    }
    loss = partial(distillation, loss=kl, temperature=1.0)
    train = Fit("train", own, classification, Steps(3, 32, "adam", 0.001), private=True)
    digest = Fit("digest", other, loss, Steps(3, 64, "adam", 0.001))

    def run(phase: Fit) -> Callable[[], Any]:
        return lambda: fit(net, phase, {}, seed=0, client="0", round_=1)

    features = torch.relu(torch.randn(1000 + private, 100, generator=draw))
    return {
        "training": seconds(run(train), 5),
        "training that rehearses": seconds(run(joined(train, digest)), 5),
        "distillation": seconds(run(digest), 5),
        "familiarity": seconds(lambda: log_ratio(features[:1000], features[1000:], 0.1), 5),
    }


def main() -> None:
    """Print both tables."""
    torch.set_num_threads(1)
    plain, weighed = fusing()
    print(f"fusing 1000 clients, 1000 rows, 10 classes: mean {1e3 * plain:.1f} ms, ", end="")
    print(f"weighed by density {1e3 * weighed:.1f} ms: {weighed / plain:.2f} times")
    for private in (50, 200, 1000):
        parts = a_round(private)
        phases = parts["training"] + parts["distillation"]
        rehearsed = parts["training that rehearses"] + parts["distillation"]
        told = ", ".join(f"{name} {1e3 * value:.0f} ms" for name, value in parts.items())
        share = parts["familiarity"] / (rehearsed + parts["familiarity"])
        print(
            f"{private} private rows: {told}; {rehearsed / phases:.2f} times two phases, "
            f"familiarity {share:.0%} of a round"
        )


if __name__ == "__main__":
    main()
