"""``fedkt audit --must-refute``: bugs that an audit must find, in a scenario's own private training.

An audit that does not refute the claim of a training with a bug in it could not have refuted anything.
"""

from pathlib import Path

from fedkt.engine.audits.own_model import Bug, attacked, training
from fedkt.engine.checks.checked import checked_world
from fedkt.errors import InputError
from fedkt.privacy.accounting import spent
from fedkt.registry import did_you_mean
from fedkt.scenario import Scenario

TIMES = 30
"""How many times the rounds that it accounts for, for the accountant that forgets."""

SOUND = Bug("nothing is wrong")
BUGS = {
    "noise-off": Bug("no noise is added", noise=0.0),
    "noise-tenth": Bug("a tenth of the noise is added", noise=0.1),
    "clip-off": Bug("gradients that are ten times as long as they may be are not clipped", length=10.0),
    "accountant-forgets": Bug(f"one of {TIMES} rounds is accounted", rounds=TIMES),
    "seed-known": Bug("the attacker knows the noise's seed", seed_known=True),
}


def audit_bug(
    scenario: Scenario, name: str, *, data_dir: Path | None = None, canaries: int
) -> tuple[bool, str]:
    """Plant a bug into the first client's private training; say if the audit refutes the claim, and how.

    Raises InputError for an unknown bug, canaries that are not there, and a scenario that trains without
    privacy.
    """
    bug = bug_named(name)
    world = checked_world(scenario, data_dir)
    delta = scenario.privacy.delta
    if world.mode is None or delta is None or world.mode.training_noise(1.0) is None:
        raise InputError(
            f"--must-refute plants a bug into private training, which privacy mode '{scenario.privacy.mode}' "
            "has not; audit a scenario of mode dpsgd."
        )
    given = training(world, canaries)
    found = attacked(world.net(world.names[0]), given, bug, delta)
    epsilon = spent(given.events, delta).epsilon
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
