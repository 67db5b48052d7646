#!/usr/bin/env bash
# The format that replaces pickle for scikit-learn does not trust scikit-learn's own trees.
#
# Expected: skops reads back what scikit-learn itself ships without being asked; trusting by hand is for
#   types of third parties.
# Happens: linear models, naive Bayes and scaled ones are read back; a decision tree, a forest, extra trees and both
#   kinds of gradient boosting are refused, since the compiled class that holds their nodes is on no list. Each
#   receiver has to trust that class by name, and it is not the same for all of them.
# Versions: skops 0.16.0, scikit-learn 1.9.1.
# Why it matters: trees are what parties with tables bring. A coordinator that accepts "only what skops
#   trusts" accepts none of them; one that trusts whatever the file asks for has undone what skops is for.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile \
  "skops==0.16.0" "scikit-learn==1.9.1" "numpy==2.4.6" "scipy==1.17.1"
cd "$work"
OMP_NUM_THREADS=1 "$work/venv/bin/python" -W ignore - <<'PROGRAM'
import sys
from importlib.metadata import version

import numpy as np
import skops.io
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

print(*(f"{name} {version(name)}" for name in ("skops", "scikit-learn")), sep=", ")
rng = np.random.default_rng(0)
x = rng.normal(size=(80, 4))
y = (x[:, 0] > 0).astype(int)
nodes = {"sklearn.tree._tree.Tree"}
binned = {"sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"}
models = {
    "logistic regression, scaled": (make_pipeline(StandardScaler(), LogisticRegression()), set()),
    "naive Bayes": (GaussianNB(), set()),
    "decision tree": (DecisionTreeClassifier(), nodes),
    "random forest": (RandomForestClassifier(3), nodes),
    "extra trees": (ExtraTreesClassifier(3), nodes),
    "gradient boosting": (GradientBoostingClassifier(n_estimators=3), nodes),
    "histogram boosting": (HistGradientBoostingClassifier(max_iter=3), binned),
}
seen = True
for name, (model, expected) in models.items():
    written = skops.io.dumps(model.fit(x, y))
    foreign = set(skops.io.get_untrusted_types(data=written))
    try:
        skops.io.loads(written)
        how = "read back"
    except Exception as no:
        how = type(no).__name__
    print(f"{name:28} {how:32} {', '.join(sorted(foreign)) or 'nothing'} to be trusted by hand")
    seen &= foreign >= expected if expected else not foreign
    seen &= (how == "read back") == (not expected)
sys.exit(0 if seen else "the behaviour has changed")
PROGRAM
