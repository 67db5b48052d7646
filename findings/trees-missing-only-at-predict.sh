#!/usr/bin/env bash
# A column that has no blanks in training is blank at another site: three tree libraries, three answers.
#
# Expected: gradient-boosted trees treat NaN alike (a learned side at each split), so a model of one library
#   could stand in for another's.
# Happens: where training saw no NaN there is nothing to learn, and each falls back on something else.
#   LightGBM reads NaN as the number 0, so the answer depends on where 0 lies on the column's scale (add a
#   constant to the column and the answer is another one). scikit-learn's histogram trees send it to the child
#   with more training rows. XGBoost sends it to the side of the larger values.
# Versions: lightgbm 4.7.0, xgboost-cpu 3.2.0, scikit-learn 1.9.1.
# Why it matters: a measurement that is always taken at the training site and never at another is the usual
#   state of medical tables. The answers on those rows are an artefact of the library (and of the unit), yet
#   they enter ensembles and transfer sets with full confidence.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile \
  "lightgbm==4.7.0" "xgboost-cpu==3.2.0" "scikit-learn==1.9.1" "numpy==2.4.6" "scipy==1.17.1"
cd "$work"
"$work/venv/bin/python" - <<'PROGRAM'
import sys

import lightgbm
import numpy as np
import sklearn
import xgboost
from sklearn.ensemble import HistGradientBoostingRegressor

print("lightgbm", lightgbm.__version__, "xgboost", xgboost.__version__, "scikit-learn", sklearn.__version__)
rng = np.random.default_rng(0)
column = rng.uniform(-1, 1, size=400)
target = np.where(column > 0.3, 10.0, 0.0)
blank = np.array([[np.nan]])
seen = []
for shift in (100.0, -100.0):
    rows = (column + shift)[:, None]
    light = lightgbm.train({"verbose": -1, "num_threads": 1}, lightgbm.Dataset(rows, target), 50)
    extreme = xgboost.train({"nthread": 1}, xgboost.DMatrix(rows, target), 50)
    hist = HistGradientBoostingRegressor(early_stopping=False).fit(rows, target)
    answers = (light.predict(blank)[0], extreme.predict(xgboost.DMatrix(blank))[0], hist.predict(blank)[0])
    zero = light.predict(np.zeros((1, 1)))[0]
    print(f"column around {shift:+.0f}, {np.mean(target == 10):.0%} of the rows are 10, the others 0")
    print("  NaN: LightGBM %.2f, XGBoost %.2f, scikit-learn %.2f" % answers, f"| LightGBM at 0: {zero:.2f}")
    seen.append([round(float(answer)) for answer in answers] + [bool(answers[0] == zero)])
sys.exit(0 if seen == [[0, 10, 0, True], [10, 10, 0, True]] else "the behaviour has changed")
PROGRAM
