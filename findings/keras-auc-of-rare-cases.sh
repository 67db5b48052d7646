#!/usr/bin/env bash
# A perfect ranking of rare cases has an AUC of 0.5 in Keras.
#
# Expected: AUC depends on the order of the scores only; a metric that cuts corners is off in the third digit.
# Happens: keras.metrics.AUC counts at 200 thresholds spread evenly from 0 to 1. Where cases are rare, all
#   scores of a calibrated model lie below the first one (1/199), so all rows look alike: 0.5 for the ROC
#   curve, the share of cases for the precision-recall curve. The true values are 1. Nothing is said.
# Versions: keras 3.15.1 (on JAX 0.10.2), scikit-learn 1.9.1.
# Why it matters: a disease of one in a thousand, or a model that noise or averaging over sites keeps close to
#   the base rate, is the rule in this field. Sites that measure with Keras and sites that measure with
#   scikit-learn disagree.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile \
  "keras==3.15.1" "jax==0.10.2" "jaxlib==0.10.2" "scikit-learn==1.9.1" "numpy==2.4.6" "scipy==1.17.1"
cd "$work"
"$work/venv/bin/python" - <<'PROGRAM'
import os
import sys

os.environ.update(KERAS_BACKEND="jax", JAX_PLATFORMS="cpu")
import keras
import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

print("keras", keras.__version__, "backend", keras.backend.backend())
labels = np.repeat([0.0, 1.0], [1980, 20])
scores = np.repeat([0.001, 0.004], [1980, 20]) * np.random.default_rng(0).uniform(0.8, 1.2, size=2000)
found = {}
for curve, truth in (("ROC", roc_auc_score), ("PR", average_precision_score)):
    metric = keras.metrics.AUC(curve=curve)
    metric.update_state(labels, scores)
    stretched = keras.metrics.AUC(curve=curve)
    stretched.update_state(labels, scores / scores.max())
    found[curve] = float(metric.result()), float(truth(labels, scores)), float(stretched.result())
    print(
        "%s: keras %.3f, scikit-learn %.3f, keras on the same scores stretched to 1: %.3f"
        % (curve, *found[curve])
    )
seen = abs(found["ROC"][0] - 0.5) < 0.01 and found["PR"][0] < 0.05
right = all(truth == 1 and stretched > 0.99 for _, truth, stretched in found.values())
sys.exit(0 if seen and right else "the behaviour has changed")
PROGRAM
