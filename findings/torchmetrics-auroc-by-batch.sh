#!/usr/bin/env bash
# The AUC of the same logits is 1.00 in one batch of eight and 0.38 in two batches of four.
#
# Expected: a metric that is updated in batches ends with what one update with all rows gives; AUC needs no
#   probabilities.
# Happens: each update looks by itself whether its scores are probabilities. A batch with a score outside 0..1
#   is put through the sigmoid, a batch whose logits happen to lie in 0..1 is kept, and then both are ranked
#   together: a logit of 0.95 ranks above one of 2.5, whose sigmoid is 0.92.
# Versions: torchmetrics 1.9.0, torch 2.13.0.
# Why it matters: clients with few rows, last batches of one row and models that distillation or noise has
#   made unsure have logits near zero. Their AUC is then wrong by an amount that depends on the batch size,
#   and smaller clients get worse.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile \
  "torch==2.13.0" "torchmetrics==1.9.0" "numpy==2.4.6"
cd "$work"
"$work/venv/bin/python" - <<'PROGRAM'
import sys

import torch
import torchmetrics
from torchmetrics.classification import BinaryAUROC

print("torchmetrics", torchmetrics.__version__, "torch", torch.__version__)
logits = torch.tensor([1.5, 2.0, 2.5, 3.0, 0.84, 0.90, 0.95, 0.99])
labels = torch.tensor([1, 1, 1, 1, 0, 0, 0, 0])
found = {}
for size in (8, 4, 2, 1):
    metric = BinaryAUROC()
    for start in range(0, 8, size):
        metric.update(logits[start : start + size], labels[start : start + size])
    found[size] = float(metric.compute())
    print(f"batches of {size}: AUC {found[size]:.4f}")
kept = BinaryAUROC()
for logit, label in zip(logits, labels, strict=True):
    kept.update(logit.sigmoid()[None], label[None])
print(f"batches of 1, sigmoid taken before: AUC {float(kept.compute()):.4f}")
sys.exit(
    0 if found[8] == 1 and found[1] < 0.5 and float(kept.compute()) == 1 else "the behaviour has changed"
)
PROGRAM
