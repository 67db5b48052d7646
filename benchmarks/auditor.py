"""Audit the auditor: exact Gaussians and real private training, sound and with a bug, over 20 seeds.

    python -m benchmarks.auditor [--seeds 20]

Private training here is fedkt's own DP-SGD on a model with one weight per canary: the gradient of canary i is
the i-th unit vector, so one full-batch step releases who was there plus noise, and nothing hides in a model.
"""

import argparse
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from fedkt.client import Arrays, Fit, Forward, Steps
from fedkt.privacy.accounting import Event, spent
from fedkt.privacy.attacks.audit import Finding, judge
from fedkt.privacy.dpsgd import Dpsgd, fit_privately, from_entropy

DELTA, SIGMA, CANARIES = 1e-5, 4.0, 1000
CLAIM = spent([Event("gauss", "record", SIGMA)], DELTA).epsilon
ROUNDS = 30
"""Of the accountant that forgets: what it claims is one round's epsilon."""


class Line(nn.Module):
    """One weight per canary."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(CANARIES, 1, bias=False)
        nn.init.zeros_(self.head.weight)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, self.head(x)


def output(net: Forward, batch: Arrays, constants: Arrays) -> Tensor:
    """Return the model's value [B]: its gradient is the row itself."""
    return net(batch["x"])[1].squeeze(-1)


def gaussian_run(canaries: int, std: float, seed: int) -> Finding:
    """Attack a release of the members' indicator vector plus Gaussian noise; the seed repeats a run."""
    stream = np.random.default_rng(seed)
    members = stream.random(canaries) < 0.5
    return judge(members + std * stream.normal(size=canaries), members, DELTA)


def canary_run(
    prepare: Callable[[], None] = lambda: None,
    *,
    sigma: float = SIGMA,
    clip: float = 1.0,
    rounds: int = 1,
    seed_known: bool = False,
) -> Finding:
    """Train privately for some rounds of one step, attack what is released, and judge the attack.

    The claim is CLAIM whatever is passed: other values than the defaults are bugs.
    """
    prepare()
    members = np.random.default_rng().random(CANARIES) < 0.5
    rows = torch.eye(CANARIES)[torch.from_numpy(members)] * clip
    phase = Fit("train", {"x": rows}, output, Steps(1, len(rows), "sgd", 1.0), private=True)
    generators = (lambda _: torch.Generator().manual_seed(7)) if seed_known else from_entropy
    how = Dpsgd(sigma / clip, clip, generators)
    total = torch.zeros(CANARIES)
    for number in range(rounds):
        net = Line()
        fit_privately(net, phase, {}, how, seed=0, client="0", round_=number)
        total -= net.head.weight.detach().flatten() * len(rows)
    if seed_known:
        total -= sigma * torch.normal(0.0, 1.0, (1, CANARIES), generator=generators("noise")).flatten()
    return judge(total.double().numpy(), members, DELTA)


MUTATIONS: dict[str, Callable[[], Finding]] = {
    "noise off": lambda: canary_run(sigma=0.0),
    "noise a tenth": lambda: canary_run(sigma=SIGMA / 10),
    "clip off": lambda: canary_run(clip=10.0),  # rows ten times as long, and noise for norm 1
    "accountant forgets": lambda: canary_run(rounds=ROUNDS),
    "seed known": lambda: canary_run(seed_known=True),
}


def main() -> None:
    """Print the calibration on exact Gaussians, then how often training is refuted, sound and with bugs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    seeds = parser.parse_args().seeds
    for canaries in (1000, 5000):
        for std in (0.5, 1.0, 2.0, 4.0):
            exact = spent([Event("gauss", "record", std)], DELTA).epsilon
            bounds = [gaussian_run(canaries, std, seed).epsilon_at_least for seed in range(seeds)]
            over = sum(bound > exact for bound in bounds)
            print(
                f"m {canaries} std {std}: epsilon {exact:.3f}, median {np.median(bounds):.3f}, above {over}"
            )
    sound = [canary_run().epsilon_at_least for _ in range(seeds)]
    over = sum(bound > CLAIM for bound in sound)
    print(f"sound training: claim {CLAIM:.3f}, median {np.median(sound):.3f}, above {over} of {seeds}")
    for name, run in MUTATIONS.items():
        bounds = [run().epsilon_at_least for _ in range(seeds)]
        over = sum(bound > CLAIM for bound in bounds)
        print(f"{name}: median {np.median(bounds):.3f}, flagged {over} of {seeds}")


if __name__ == "__main__":
    main()
