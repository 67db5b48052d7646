#!/usr/bin/env bash
# A trained scikit-learn model's coef_, written with safetensors.numpy and read back, holds other numbers.
#
# Expected: save(...) then load(...) gives the array back, or an error where the layout is not supported (the
#   torch side of the same library does raise one).
# Happens: safetensors.numpy writes the memory as it lies and the shape beside it. scikit-learn's
#   LogisticRegression keeps coef_ in Fortran order as soon as there are three classes, so its weights come
#   back with shape and dtype right and nearly every number at another place. Nothing is said.
# Versions: safetensors 0.8.0, scikit-learn 1.9.1, numpy 2.4.6.
# Why it matters: linear models are what tabular sites train, and safetensors is what models are exchanged in
#   because it needs no pickle. The receiver sees finite weights of the right shape; only its accuracy tells.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile \
  "safetensors==0.8.0" "scikit-learn==1.9.1" "numpy==2.4.6" "scipy==1.17.1"
cd "$work"
"$work/venv/bin/python" - <<'PROGRAM'
import sys

import numpy as np
import safetensors
import sklearn
from safetensors.numpy import load, save
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

print("safetensors", safetensors.__version__, "scikit-learn", sklearn.__version__, "numpy", np.__version__)
rows, labels = load_iris(return_X_y=True)
model = LogisticRegression(max_iter=500).fit(rows, labels)
before, accuracy = model.coef_, model.score(rows, labels)
after = load(save({"coef": before}))["coef"]
print("coef_ in Fortran order:", before.flags.f_contiguous and not before.flags.c_contiguous)
print("sent\n", before.round(2), "\nreceived\n", after.round(2))
model.coef_ = after
broken = model.score(rows, labels)
print(f"training accuracy: {accuracy:.3f} before, {broken:.3f} with the weights that came back")
repaired = load(save({"coef": np.ascontiguousarray(before)}))["coef"]
print("after np.ascontiguousarray equal:", np.array_equal(repaired, before))

seen = after.shape == before.shape and not np.allclose(after, before) and broken < accuracy - 0.1
sys.exit(0 if seen and np.array_equal(repaired, before) else "the behaviour has changed")
PROGRAM
