"""Audit the auditor: exact Gaussians, and private training, sound and with a bug, over 20 seeds.

    python -m benchmarks.auditor [--seeds 20] [--only gaussian,line,digits,mlp]

``line``: fedkt's own DP-SGD on a model with one weight per canary, whose gradient is the canary itself, so
that nothing hides in a model. ``digits``, ``mlp``: the scenario private-digits, and with a perceptron, as
``fedkt audit --must-refute`` attacks them (:mod:`fedkt.engine.audits.own_model`). All at a claim of 4.
"""

import argparse
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from fedkt import scenario
from fedkt.client.behaviour import Arrays, Fit, Forward, Steps
from fedkt.engine.audits import own_model
from fedkt.engine.audits.own_model import SEED, Bug
from fedkt.engine.audits.planted import BUGS, SOUND
from fedkt.engine.checks.checked import checked_world
from fedkt.privacy.accounting import Event, calibrate
from fedkt.privacy.attacks import one_run
from fedkt.privacy.attacks.audit import Finding, judge, toss
from fedkt.privacy.attacks.one_run import gaussian_epsilon
from fedkt.privacy.dpsgd import Dpsgd, fit_privately, from_entropy

DELTA, CLAIM = 1e-5, 4.0
CANARIES = {"line": 1000, "digits": 600, "mlp": 1000}
EXACT = {1000: (0.5, 1.0, 2.0, 4.0), 2000: (0.600229,), 5000: (0.5, 1.0, 2.0, 4.0)}
"""Canaries and standard deviations of exact Gaussians; 0.600229 is epsilon 8."""
OWN = {
    "digits": ("clients.distill.epochs=1",),
    "mlp": ("clients.models=[mlp]", "clients.local={epochs: 10, batch_size: 110, optimizer: sgd, lr: 0.5}"),
}
"""Changes to private-digits, whose rounds and steps these trainings have."""


def gaussian_run(canaries: int, std: float, seed: int) -> Finding:
    """Attack a release of the members' indicator vector plus Gaussian noise; the seed repeats a run."""
    stream = np.random.default_rng(seed)
    members = stream.random(canaries) < 0.5
    return judge(members + std * stream.normal(size=canaries), members, DELTA)


class Line(nn.Module):
    """One weight per canary."""

    def __init__(self, canaries: int) -> None:
        super().__init__()
        self.head = nn.Linear(canaries, 1, bias=False)
        nn.init.zeros_(self.head.weight)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the row and the model's value."""
        return x, self.head(x)


def output(net: Forward, batch: Arrays, constants: Arrays) -> Tensor:
    """Return the model's value [B]: its gradient is the row itself."""
    return net(batch["x"])[1].squeeze(-1)


def noise_for(claim: float, delta: float) -> float:
    """Return the noise multiplier of one full-batch step that costs this epsilon."""
    return calibrate(lambda noise: [Event("gauss", "record", noise)], claim, delta, "record")


def on_a_line(bug: Bug, canaries: int, noise: float, delta: float) -> Finding:
    """Train one weight per canary with a bug, attack what is released, and judge it by the claim of one step.

    ``noise``: the multiplier that the claim is made with. A record is zeroed out where its coin says so: all
    canaries have a slot.
    """
    members = toss(canaries, np.random.default_rng())
    rows = torch.eye(canaries)[torch.from_numpy(members)] * bug.length
    steps = Steps(1, canaries, "sgd", 1.0)
    phase = Fit("train", {"x": rows}, output, steps, private=True, slots=canaries)
    generators = (lambda _: torch.Generator().manual_seed(SEED)) if bug.seed_known else from_entropy
    # A clip as long as the rows changes none of them; the noise stays that of a clip of 1.
    how = Dpsgd(noise * bug.noise / bug.length, bug.length, generators)
    total = torch.zeros(canaries)
    for number in range(bug.rounds):
        net = Line(canaries)
        fit_privately(net, phase, {}, how, seed=0, client="0", round_=number)
        total -= net.head.weight.detach().flatten() * canaries
    if bug.seed_known:
        total -= noise * torch.normal(0.0, 1.0, (1, canaries), generator=generators("noise")).flatten()
    return judge(total.double().numpy(), members, delta, one_run.gaussian(delta, noise))


def trainings(name: str) -> Callable[[Bug], Finding]:
    """Return what trains once with a bug and attacks it."""
    canaries = CANARIES[name]
    if name == "line":
        noise = noise_for(CLAIM, DELTA)
        return lambda bug: on_a_line(bug, canaries, noise, DELTA)
    world = checked_world(scenario.load("private-digits", [*OWN[name], f"privacy.target_epsilon={CLAIM:g}"]))
    return lambda bug: own_model.attacked(
        world.net(world.names[0]), own_model.training(world, canaries), bug, DELTA
    )


def calibration(seeds: int) -> None:
    """Print the bounds on exact Gaussians."""
    print("| canaries | ε | whatever the curve: median | above | under the curve: median | largest | above |")
    print("|---|---|---|---|---|---|---|")
    for canaries, deviations in EXACT.items():
        for std in deviations:
            exact = gaussian_epsilon(std, DELTA)
            found = [gaussian_run(canaries, std, seed) for seed in range(seeds)]
            any_, curve = (
                np.array([getattr(one, name) for one in found])
                for name in ("epsilon_at_least", "curve_epsilon_at_least")
            )
            print(
                f"| {canaries} | {exact:.3f} | {np.median(any_):.3f} | {(any_ > exact).sum()} | "
                f"{np.median(curve):.3f} | {curve.max():.3f} | {(curve > exact).sum()} |",
                flush=True,
            )


def main() -> None:
    """Print the calibration on exact Gaussians, then how often training is refuted, sound and with bugs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--only", default="gaussian,line,digits,mlp")
    parser.add_argument("--bugs", default=",".join(["sound", *BUGS]))
    given = parser.parse_args()
    for part in given.only.split(","):
        if part == "gaussian":
            calibration(given.seeds)
            continue
        train = trainings(part)
        for name in given.bugs.split(","):
            runs = [train({"sound": SOUND, **BUGS}[name]) for _ in range(given.seeds)]
            median = np.median([one.curve_epsilon_at_least for one in runs])
            refuted = sum(one.refuted is True for one in runs)
            print(
                f"{part}, {CANARIES[part]} canaries, {name}: claim {CLAIM:g}, median {median:.3f} of at most "
                f"{runs[0].curve_ceiling:.3f}, refuted {refuted} of {given.seeds}",
                flush=True,
            )


if __name__ == "__main__":
    main()
