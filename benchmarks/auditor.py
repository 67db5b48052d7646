"""Audit the auditor: exact Gaussians and real private training, sound and with a bug, over 20 seeds.

    python -m benchmarks.auditor [--seeds 20]

Private training here is that of :mod:`fedkt.engine.audits.planted`, at a claim of 4.
"""

import argparse

import numpy as np

from fedkt.engine.audits.planted import BUGS, SOUND, noise_for, planted
from fedkt.privacy.attacks.audit import Finding, judge
from fedkt.privacy.attacks.one_run import gaussian_epsilon

DELTA, CLAIM, CANARIES = 1e-5, 4.0, 1000
EXACT = {1000: (0.5, 1.0, 2.0, 4.0), 2000: (0.600229,), 5000: (0.5, 1.0, 2.0, 4.0)}
"""Canaries and standard deviations of exact Gaussians; 0.600229 is epsilon 8."""


def gaussian_run(canaries: int, std: float, seed: int) -> Finding:
    """Attack a release of the members' indicator vector plus Gaussian noise; the seed repeats a run."""
    stream = np.random.default_rng(seed)
    members = stream.random(canaries) < 0.5
    return judge(members + std * stream.normal(size=canaries), members, DELTA)


def main() -> None:
    """Print the calibration on exact Gaussians, then how often training is refuted, sound and with bugs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    seeds = parser.parse_args().seeds
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
    noise = noise_for(CLAIM, DELTA)
    for name, bug in {"sound": SOUND, **BUGS}.items():
        runs = [planted(bug, CANARIES, noise, DELTA) for _ in range(seeds)]
        median = np.median([one.curve_epsilon_at_least for one in runs])
        refuted = sum(one.refuted is True for one in runs)
        print(f"{name}: claim {CLAIM:g}, median {median:.3f}, refuted {refuted} of {seeds}", flush=True)


if __name__ == "__main__":
    main()
