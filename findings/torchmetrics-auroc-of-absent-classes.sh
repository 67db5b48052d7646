#!/usr/bin/env bash
# A perfect model has a mean AUC of 0.3 at a client that has three of ten classes.
#
# Expected: a class without rows has no AUC; a macro mean leaves it out, as torchmetrics' own accuracy, F1 and
#   average precision do (all 1.0 here), or the result is NaN, or an error, as in scikit-learn.
# Happens: MulticlassAUROC(average="macro") takes 0 for every class without positive rows and divides by all
#   classes. There is a warning that the curve is meaningless, once, and the figure is returned.
# Versions: torchmetrics 1.9.0, torch 2.13.0.
# Why it matters: clients without some classes are what this field is about. The mean over clients then
#   measures how many classes they have: more skew, lower AUC, whatever the method.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile \
  "torch==2.13.0" "torchmetrics==1.9.0" "numpy==2.4.6"
cd "$work"
"$work/venv/bin/python" - <<'PROGRAM'
import sys
import warnings

import torch
import torchmetrics
from torch.nn.functional import one_hot
from torchmetrics import classification

print("torchmetrics", torchmetrics.__version__, "torch", torch.__version__)
found = {}
for present in (10, 5, 3):
    labels = torch.arange(30) % present
    answers = 0.9 * one_hot(labels, 10) + 0.01
    for name in ("AUROC", "AveragePrecision", "Accuracy", "F1Score"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            metric = getattr(classification, f"Multiclass{name}")(10, average="macro")
            found[present, name] = round(float(metric(answers, labels)), 4)
    print(
        f"{present} of 10 classes present, all answers right:",
        {n: v for (p, n), v in found.items() if p == present},
    )
auroc = [found[present, "AUROC"] for present in (10, 5, 3)]
rest = {value for (_, name), value in found.items() if name != "AUROC"}
sys.exit(0 if auroc == [1.0, 0.5, 0.3] and rest == {1.0} else "the behaviour has changed")
PROGRAM
