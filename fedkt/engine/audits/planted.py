"""Bugs that an audit must find: planted into private training whose claim is known, attacked like any other.

The training is fedkt's own DP-SGD on a model with one weight per canary: the gradient of canary i is the i-th
unit vector, so a full-batch step releases who was there plus noise, and nothing hides in a model. An audit
that does not refute the claim of such a training with a bug in it could not have refuted anything.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fedkt.client.behaviour import Arrays, Fit, Forward, Steps
from fedkt.engine.world.checked import checked_world
from fedkt.engine.world.private import epsilons
from fedkt.errors import InputError
from fedkt.privacy.accounting import Event, calibrate, spent
from fedkt.privacy.attacks import one_run
from fedkt.privacy.attacks.audit import FEWEST, Finding, judge, toss
from fedkt.privacy.dpsgd import Dpsgd, fit_privately, from_entropy
from fedkt.registry import did_you_mean
from fedkt.scenario import Scenario

ROUNDS = 30
"""Of the accountant that forgets all but one."""
_SEED = 7


@dataclass(frozen=True)
class Bug:
    """What is wrong: ``noise``: times what it should be; ``length``: of rows, which should be clipped to 1;
    ``rounds``: of which one is accounted; ``seed_known``: the attacker takes the noise off again."""

    what: str
    noise: float = 1.0
    length: float = 1.0
    rounds: int = 1
    seed_known: bool = False


SOUND = Bug("nothing is wrong")
BUGS = {
    "noise-off": Bug("no noise is added", noise=0.0),
    "noise-tenth": Bug("a tenth of the noise is added", noise=0.1),
    "clip-off": Bug("rows ten times as long as the clip are not clipped", length=10.0),
    "accountant-forgets": Bug(f"one of {ROUNDS} rounds is accounted", rounds=ROUNDS),
    "seed-known": Bug("the attacker knows the noise's seed", seed_known=True),
}


class Line(nn.Module):
    """One weight per canary."""

    def __init__(self, canaries: int) -> None:
        super().__init__()
        self.head = nn.Linear(canaries, 1, bias=False)
        nn.init.zeros_(self.head.weight)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, self.head(x)


def output(net: Forward, batch: Arrays, constants: Arrays) -> Tensor:
    """Return the model's value [B]: its gradient is the row itself."""
    return net(batch["x"])[1].squeeze(-1)


def noise_for(claim: float, delta: float) -> float:
    """Return the noise multiplier of one full-batch step that costs this epsilon."""
    return calibrate(lambda noise: [Event("gauss", "record", noise)], claim, delta, "record")


def planted(bug: Bug, canaries: int, noise: float, delta: float) -> Finding:
    """Train privately with a bug, attack what is released, and judge the attack by the claim of one step.

    ``noise``: the multiplier that the claim is made with. A record is zeroed out where its coin says so: all
    canaries have a slot.
    """
    members = toss(canaries, np.random.default_rng())
    rows = torch.eye(canaries)[torch.from_numpy(members)] * bug.length
    steps = Steps(1, canaries, "sgd", 1.0)
    phase = Fit("train", {"x": rows}, output, steps, private=True, slots=canaries)
    generators = (lambda _: torch.Generator().manual_seed(_SEED)) if bug.seed_known else from_entropy
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


def audit_bug(
    scenario: Scenario, name: str, *, data_dir: Path | None = None, canaries: int
) -> tuple[bool, str]:
    """Plant a bug into training that claims what a scenario plans; say if the audit refutes it, and how.

    Raises InputError for an unknown bug, too few canaries, and a scenario that claims nothing of records.
    """
    bug = bug_named(name)
    if canaries < FEWEST:
        raise InputError(f"--canaries is {canaries}; it must be at least {FEWEST}.")
    world = checked_world(scenario, data_dir)
    delta = scenario.privacy.delta
    if world.mode is None or delta is None or world.mode.training_noise(1.0) is None:
        raise InputError(
            f"--must-refute plants a bug into private training, which privacy mode '{scenario.privacy.mode}' "
            "has not; audit a scenario of mode dpsgd."
        )
    return must_refute(bug, max(values[-1] for values in epsilons(world).values()), delta, canaries)


def must_refute(bug: Bug, claim: float, delta: float, canaries: int) -> tuple[bool, str]:
    """Plant a bug into training that claims this epsilon; say if the audit refutes the claim, and how."""
    noise = noise_for(claim, delta)
    found = planted(bug, canaries, noise, delta)
    epsilon = spent([Event("gauss", "record", noise)], delta).epsilon
    shown = (
        f"of {canaries} canaries {found.curve_guesses} were guessed, {found.curve_right} of them right: "
        f"epsilon is at least {found.curve_epsilon_at_least:.3g} (it could have shown "
        f"{found.curve_ceiling:.3g})"
    )
    if found.refuted:
        return True, f"REFUTED: {bug.what}, and {shown}, more than the {epsilon:.3g} that is claimed."
    return False, f"NOT REFUTED: {bug.what}, but {shown}, where {epsilon:.3g} is claimed."


def bug_named(name: str) -> Bug:
    """Return a bug. Raises InputError for an unknown one."""
    if name not in BUGS:
        raise InputError(f"--must-refute: unknown bug '{name}'; {did_you_mean(name, list(BUGS))}")
    return BUGS[name]
