#!/usr/bin/env bash
# Two accountants of one library, asked about the same Gaussian mechanism under "replace one record": 4.73 and
# 10.00.
#
# Expected: the accountants differ in tightness (RDP a little above PLD), under each neighbouring relation.
# Happens: GaussianDpEvent(1.0) means another thing to each. PLD keeps the noise and doubles the sensitivity
#   when a record is replaced, so its epsilon more than doubles. RDP takes the multiplier as relative to
#   whatever the sensitivity of the relation is, so its answer does not change. The looser accountant then
#   reports less than half of the tighter one.
# Versions: dp-accounting 0.6.0.
# Why it matters: the relation is often chosen last, by a regulator or a form. Switching it on an RDP
#   accountant changes no figure, and switching the accountant changes it by a factor of two; both look like a
#   finished computation.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile \
  "dp-accounting==0.6.0" "numpy==2.4.6" "scipy==1.17.1"
cd "$work"
"$work/venv/bin/python" - <<'PROGRAM'
import sys
from importlib.metadata import version

from dp_accounting import GaussianDpEvent, NeighboringRelation
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant

print("dp-accounting", version("dp-accounting"))


def epsilon(kind, relation, multiplier):
    accountant = kind(neighboring_relation=relation)
    accountant.compose(GaussianDpEvent(multiplier))
    return float(accountant.get_epsilon(target_delta=1e-5))


add, replace = NeighboringRelation.ADD_OR_REMOVE_ONE, NeighboringRelation.REPLACE_ONE
table = {(k, r): epsilon(k, r, 1.0) for k in (RdpAccountant, PLDAccountant) for r in (add, replace)}
for (kind, relation), value in table.items():
    print(f"{kind.__name__:14} {relation.name:18} epsilon {value:.4f}")
halved = epsilon(RdpAccountant, replace, 0.5)
print(f"RdpAccountant told of the doubled sensitivity (multiplier 0.5): {halved:.4f}")
seen = (
    table[RdpAccountant, add] == table[RdpAccountant, replace]
    and table[PLDAccountant, replace] > 2 * table[PLDAccountant, add]
    and table[RdpAccountant, replace] < table[PLDAccountant, replace] < halved
)
sys.exit(0 if seen else "the behaviour has changed")
PROGRAM
