#!/usr/bin/env bash
# A LightGBM model that goes on from site to site takes each site's categories for those of the first.
#
# Expected: data frames say what their categories are called, and LightGBM keeps the names with a model (what it
#   predicts of another frame is by name, whatever the order there). So a model trained at one hospital and
#   trained further at the next (`init_model`) knows its wards by name there too; XGBoost, which also keeps
#   names, refuses to go on where they differ.
# Happens: going on, LightGBM codes the next frame by that frame's own categories, alone and in its own order,
#   and lets the earlier trees read these codes as their own. Nothing is said. A model that was right about every
#   row of both sites is after one more tree wrong about every row of the site that it was trained at last, and
#   about three quarters of the first's, whose other categories it now takes for missing values.
# Versions: lightgbm 4.7.0, xgboost-cpu 3.2.0, pandas 3.1.1.
# Why it matters: passing one booster on from party to party is the usual federated form of boosted trees, and
#   what parties differ in is which categories they have. Codes must be agreed on beforehand.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile \
  "lightgbm==4.7.0" "xgboost-cpu==3.2.0" "pandas==3.1.1" "numpy==2.4.6" "scipy==1.17.1"
cd "$work"
OMP_NUM_THREADS=1 "$work/venv/bin/python" -W ignore - <<'PROGRAM'
import sys
from importlib.metadata import version

import lightgbm
import numpy as np
import pandas as pd
import xgboost

print(*(f"{name} {version(name)}" for name in ("lightgbm", "xgboost-cpu", "pandas")), sep=", ")
rng = np.random.default_rng(0)
SICK = {"burns": 0, "cardiac": 1, "dental": 0, "eye": 1}


def site(wards, rows=400):
    """Rows of a site with these wards, in its own order; whether a row is sick follows from its ward."""
    drawn = rng.choice(wards, rows)
    frame = pd.DataFrame({"ward": pd.Categorical(drawn, categories=wards), "noise": rng.normal(size=rows)})
    return frame, np.array([SICK[ward] for ward in drawn])


first, first_y = site(["burns", "cardiac", "dental", "eye"])
then, then_y = site(["cardiac", "dental"])
settings = {"objective": "binary", "verbose": -1, "num_threads": 1, "seed": 0}


def right(model, frame, y):
    return float(((model.predict(frame) > 0.5) == y).mean())


alone = lightgbm.train(settings, lightgbm.Dataset(first, first_y), 20)
before = right(alone, first, first_y), right(alone, then, then_y)
onward = lightgbm.train(settings, lightgbm.Dataset(then, then_y), 1, init_model=alone)
after = right(onward, first, first_y), right(onward, then, then_y)
print(f"LightGBM, trained at the first site:     right about its rows {before[0]:.2f}, the next site's {before[1]:.2f}")
print(f"LightGBM, one more tree at the next one: right about the first's rows {after[0]:.2f}, its own {after[1]:.2f}")

named = xgboost.DMatrix(first, first_y, enable_categorical=True)
booster = xgboost.train({"objective": "binary:logistic", "nthread": 1}, named, 20)
try:
    xgboost.train({"nthread": 1}, xgboost.DMatrix(then, then_y, enable_categorical=True), 1, xgb_model=booster)
    refused = False
except xgboost.core.XGBoostError:
    refused = True
print("XGBoost refuses to go on:", refused)

seen = before == (1.0, 1.0) and after[0] < 0.75 and after[1] < 0.25 and refused
sys.exit(0 if seen else "the behaviour has changed")
PROGRAM
