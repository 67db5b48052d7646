#!/usr/bin/env bash
# Rows of weight zero change what boosted trees and forests answer, up to turning 4 % into 99 %.
#
# Expected: sample_weight=0 is the same as leaving the row out, and weight 2 the same as the row twice; so a
#   soft label may be given as one row per class, weighted by the class's probability.
# Happens: it depends on the estimator. LogisticRegression, ExtraTrees and XGBoost (hist) keep both promises.
#   HistGradientBoosting and LightGBM break both: bins are cut from all rows, and the least number of rows in a
#   leaf counts rows whatever they weigh. A random forest breaks both too: its bootstrap draws rows of weight
#   zero, so each tree sees fewer real ones.
#   XGBoost's "exact" keeps the second and breaks the first: split points may fall between rows that weigh
#   nothing.
# Versions: scikit-learn 1.9.1, lightgbm 4.7.0, xgboost-cpu 3.2.0.
# Why it matters: weights are how importance sampling, soft labels, unlearning by down-weighting and padding of
#   federated batches reach an estimator without gradients. A row that was "masked" by weight still shapes the
#   model, by its features alone.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile \
  "scikit-learn==1.9.1" "lightgbm==4.7.0" "xgboost-cpu==3.2.0" "numpy==2.4.6" "scipy==1.17.1"
cd "$work"
OMP_NUM_THREADS=1 "$work/venv/bin/python" -W ignore - <<'PROGRAM'
import sys
from importlib.metadata import version

import numpy as np
from lightgbm import LGBMClassifier
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from xgboost import XGBClassifier

print(*(f"{name} {version(name)}" for name in ("scikit-learn", "lightgbm", "xgboost-cpu")), sep=", ")
rng = np.random.default_rng(0)
x = rng.normal(size=(400, 6))
y = (x[:, 0] + x[:, 1] ** 2 + 0.3 * rng.normal(size=400) > 1).astype(int)
ghosts = 3 * rng.normal(size=(400, 6))
asked = rng.normal(size=(1000, 6))
mixed, labels = np.r_[x, ghosts], np.r_[y, rng.integers(0, 2, 400)]
weights = np.r_[np.ones(400), np.zeros(400)]

# Whether (rows of weight zero, a row twice) are what one expects.
kinds = {
    "LogisticRegression": (lambda: LogisticRegression(), True, True),
    "ExtraTrees": (lambda: ExtraTreesClassifier(50, random_state=0), True, True),
    "XGBoost hist": (lambda: XGBClassifier(n_jobs=1), True, True),
    "XGBoost exact": (lambda: XGBClassifier(n_jobs=1, tree_method="exact"), False, True),
    "HistGradientBoosting": (lambda: HistGradientBoostingClassifier(random_state=0), False, False),
    "LightGBM": (lambda: LGBMClassifier(n_jobs=1, verbose=-1, random_state=0), False, False),
    "RandomForest": (lambda: RandomForestClassifier(50, random_state=0), False, False),
}
seen = True
for name, (make, zero_holds, twice_holds) in kinds.items():
    plain = make().fit(x, y).predict_proba(asked)
    zero = make().fit(mixed, labels, sample_weight=weights).predict_proba(asked)
    twice = make().fit(np.r_[x, x], np.r_[y, y]).predict_proba(asked)
    double = make().fit(x, y, sample_weight=np.full(400, 2.0)).predict_proba(asked)
    moved, apart = abs(plain - zero).max(), abs(twice - double).max()
    print(f"{name:21} rows of weight 0 move an answer by up to {moved:.3f}; weight 2 and twice differ by {apart:.3f}")
    seen &= (moved < 0.01) == zero_holds and (apart < 0.01) == twice_holds
sys.exit(0 if seen else "the behaviour has changed")
PROGRAM
