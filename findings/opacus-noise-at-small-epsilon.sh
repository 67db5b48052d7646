#!/usr/bin/env bash
# For small epsilon Opacus' tight accountant asks for nearly twice the noise that is needed.
#
# Expected: "prv", the default because it is tight, needs about the noise that another tight accountant needs,
#   all the more with a fine tolerance.
# Happens: the accountant returns an upper bound that lies about 0.01 above the exact epsilon, whatever
#   epsilon is; the tolerance of the search for the noise does not touch that. At epsilon 1 it is one per
#   cent, at 0.02 it is half the budget: noise 80 where 42.3 is enough (dp-accounting's PLD, same steps and
#   delta). The older "rdp", looser at epsilon 1, gives up at all of the small ones with "too low".
# Versions: opacus 1.6.0, dp-accounting 0.6.0, torch 2.13.0.
# Why it matters: a budget that is shared over rounds, sites or releases leaves each a small epsilon. Nothing
#   is unsafe, but half of the budget is thrown away.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile \
  "torch==2.13.0" "opacus==1.6.0" "dp-accounting==0.6.0" "numpy==2.4.6" "scipy==1.17.1"
cd "$work"
"$work/venv/bin/python" - <<'PROGRAM'
import sys
from importlib.metadata import version

from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent, calibrate_dp_mechanism
from dp_accounting.pld import PLDAccountant
from opacus.accountants.utils import get_noise_multiplier

print("opacus", version("opacus"), "dp-accounting", version("dp-accounting"))
rate, steps, delta = 0.01, 1000, 1e-5


def event(noise):
    return SelfComposedDpEvent(PoissonSampledDpEvent(rate, GaussianDpEvent(noise)), steps)


ratios = {}
for epsilon in (0.02, 0.05, 0.1, 1.0):
    pld = calibrate_dp_mechanism(PLDAccountant, event, epsilon, delta)
    asked = {}
    for accountant in ("prv", "rdp"):
        try:
            asked[accountant] = get_noise_multiplier(
                target_epsilon=epsilon, target_delta=delta, sample_rate=rate, steps=steps,
                accountant=accountant, epsilon_tolerance=0.0005,
            )  # fmt: skip
        except ValueError as error:
            asked[accountant] = str(error)
    ratios[epsilon] = asked["prv"] / pld
    print(
        f"epsilon {epsilon}: PLD {pld:.3f}, PRV {asked['prv']:.3f} ({ratios[epsilon]:.2f} times), "
        f"RDP {asked['rdp']}"
    )
sys.exit(
    0 if ratios[0.02] > 1.7 and ratios[0.05] > 1.15 and ratios[1.0] < 1.02 else "the behaviour has changed"
)
PROGRAM
