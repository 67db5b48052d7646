#!/usr/bin/env bash
# Nearest-prototype answers are right for 25 classes and wrong for 26.
#
# Expected: torch.cdist gives the distance of two rows, whatever other rows it is called with; equal rows have
#   distance 0.
# Happens: with more than 25 rows on either side it computes |a|² - 2ab + |b|² by a matrix product in float32.
#   Where rows lie far from zero compared with their differences the digits are gone: equal rows get distances
#   of 2 or 4, many distances are exactly 0, and the nearest prototype is another class. With up to 25 rows on
#   both sides it subtracts and is exact.
# Versions: torch 2.13.0 (compute_mode="use_mm_for_euclid_dist_if_necessary" is the default).
# Why it matters: prototype methods compare a batch of features with one prototype a class. A test with ten
#   classes and a small batch is exact, and the same code on 26 classes, or on 26 rows, or on raw
#   measurements, is not.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile \
  "torch==2.13.0" "numpy==2.4.6"
cd "$work"
"$work/venv/bin/python" - <<'PROGRAM'
import sys

import torch

print("torch", torch.__version__)
torch.manual_seed(0)
prototypes = 1000 + 0.3 * torch.randn(26, 64)  # pressures in hPa, say
rows = prototypes + 0.05 * torch.randn(26, 64)
right = {}
for count in (25, 26):
    for mode in ("use_mm_for_euclid_dist_if_necessary", "donot_use_mm_for_euclid_dist"):
        distances = torch.cdist(rows[:count], prototypes[:count], compute_mode=mode)
        itself = torch.cdist(prototypes[:count], prototypes[:count], compute_mode=mode).diag().max()
        right[count, mode] = float((distances.argmin(1) == torch.arange(count)).float().mean())
        print(
            f"{count} classes, {mode}: {right[count, mode]:.0%} right, "
            f"largest distance of a row to itself {itself:.3f}"
        )
usual, exact = "use_mm_for_euclid_dist_if_necessary", "donot_use_mm_for_euclid_dist"
seen = right[25, usual] == right[25, exact] == right[26, exact] == 1 and right[26, usual] < 0.6
sys.exit(0 if seen else "the behaviour has changed")
PROGRAM
