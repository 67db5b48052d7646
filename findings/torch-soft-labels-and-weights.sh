#!/usr/bin/env bash
# A teacher that is sure gives another loss than the same labels, once classes have weights.
#
# Expected: cross_entropy of class numbers and of the same classes as one-hot probabilities are equal, with or
#   without class weights.
# Happens: the mean is over other things. With class numbers it is divided by the sum of the rows' weights,
#   with probabilities by the number of rows. With weights that balance a rare class the loss differs by the
#   mean weight, and so do the gradient and the step. Label smoothing does not bring them together.
# Versions: torch 2.13.0.
# Why it matters: distillation adds a loss on labels and one on a teacher's probabilities, and class weights
#   are what one sets for skewed sites. The balance of the two terms then moves with each site's class shares,
#   batch by batch.
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
from torch.nn.functional import cross_entropy, one_hot

print("torch", torch.__version__)
torch.manual_seed(0)
logits = torch.randn(8, 3)
labels = torch.tensor([0, 0, 0, 0, 0, 1, 1, 2])
ratios = []
for name, weight in (("no weights", None), ("weights 1, 2, 10", torch.tensor([1.0, 2.0, 10.0]))):
    for smoothing in (0.0, 0.1):
        hard = cross_entropy(logits, labels, weight=weight, label_smoothing=smoothing)
        soft = cross_entropy(logits, one_hot(labels, 3).float(), weight=weight, label_smoothing=smoothing)
        ratios.append(float(soft / hard))
        print(f"{name}, smoothing {smoothing}: labels {hard:.4f}, one-hot {soft:.4f}, ratio {ratios[-1]:.4f}")
mean = (5 * 1 + 2 * 2 + 1 * 10) / 8
print("mean weight of the rows:", mean)
seen = (
    abs(ratios[0] - 1) < 1e-5 and abs(ratios[1] - 1) < 1e-5 and all(abs(r - mean) < 1e-3 for r in ratios[2:])
)
sys.exit(0 if seen else "the behaviour has changed")
PROGRAM
