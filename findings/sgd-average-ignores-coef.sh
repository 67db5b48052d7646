#!/usr/bin/env bash
# A client that averages its steps forgets the global model that it was given.
#
# Expected: partial_fit goes on from coef_ and intercept_ as they are, so that a round of federated averaging
#   is "set coef_, partial_fit, read coef_".
# Happens: with average=True coef_ is only what is shown; training goes on from a hidden copy. The weights
#   that were set are overwritten by the next partial_fit as if they had never come. With average=False they
#   count.
# Versions: scikit-learn 1.9.1 (SGDClassifier; SGDRegressor keeps the same hidden copy).
# Why it matters: every client trains on alone for ever while weights go to and fro each round, and since
#   averaged steps are steady and local accuracy is good, nothing looks broken.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile \
  "scikit-learn==1.9.1" "numpy==2.4.6" "scipy==1.17.1"
cd "$work"
"$work/venv/bin/python" - <<'PROGRAM'
import sys

import numpy as np
import sklearn
from sklearn.linear_model import SGDClassifier, SGDRegressor

print("scikit-learn", sklearn.__version__)
rng = np.random.default_rng(0)
rows = rng.normal(size=(50, 2))
labels = (rows[:, 0] > 0).astype(int)
received = np.array([100.0, -100.0])
ends = {}
for kind in (SGDClassifier, SGDRegressor):
    for average in (False, True):
        client = kind(average=average, learning_rate="constant", eta0=1e-4, random_state=0)
        first = {"classes": [0, 1]} if kind is SGDClassifier else {}
        client.partial_fit(rows, labels, **first)
        client.coef_ = received.reshape(client.coef_.shape).copy()
        client.partial_fit(rows, labels)
        ends[kind.__name__, average] = client.coef_.ravel()
        print(
            f"{kind.__name__}(average={average}): received {received}, after one more pass {client.coef_.ravel()}"
        )
kept = all(np.abs(end - received).max() < 20 for (_, average), end in ends.items() if not average)
lost = all(np.abs(end).max() < 1 for (_, average), end in ends.items() if average)
sys.exit(0 if kept and lost else "the behaviour has changed")
PROGRAM
