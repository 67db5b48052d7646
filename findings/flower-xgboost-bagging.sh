#!/usr/bin/env bash
# Flower's federated bagging of XGBoost models keeps all trees of whoever answers first and one tree of
# everybody else.
#
# Expected: aggregate_bagging joins the trees of all replies, as its name says, and the order of replies does
#   not matter.
# Happens: of every later reply it takes as many trees as the model has *parallel* trees, which is 1 for a
#   boosted model, so a client that trained three rounds has its second and third tree dropped. base_score,
#   which XGBoost now estimates from each client's own labels, is the first one's too, although the other
#   trees were fitted to residuals from their own. Two clients with opposite class shares give 0.03 or 0.97
#   for the same row, by who came first.
# Versions: flwr 1.41.0 (FedXgbBagging uses this function), xgboost-cpu 3.2.0.
# Why it matters: this is the published way to federate boosted trees. It loads, predicts and looks like a
#   model of all.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile \
  "flwr==1.41.0" "xgboost-cpu==3.2.0" "numpy==2.4.6"
cd "$work"
"$work/venv/bin/python" - <<'PROGRAM'
import json
import sys
from importlib.metadata import version

import numpy as np
import xgboost
from flwr.serverapp.strategy.strategy_utils import aggregate_bagging

print("flwr", version("flwr"), "xgboost", xgboost.__version__)
rows = np.random.default_rng(0).normal(size=(500, 2))


def client(threshold):
    labels = (rows[:, 0] > threshold).astype(float)
    settings = {"objective": "binary:logistic", "max_depth": 2, "nthread": 1}
    return xgboost.train(settings, xgboost.DMatrix(rows, labels), num_boost_round=3)


def join(*clients):
    model = b""
    for each in clients:
        model = aggregate_bagging(model, bytes(each.save_raw("json")))
    booster = xgboost.Booster()
    booster.load_model(bytearray(model))
    return booster, json.loads(model)["learner"]["learner_model_param"]["base_score"]


few, many = client(1.5), client(-1.5)  # about 5 % and 95 % positives
row = xgboost.DMatrix(np.zeros((1, 2)))
answers, trees = [], []
for name, order in (("few, many", (few, many)), ("many, few", (many, few))):
    booster, base = join(*order)
    trees.append(len(booster.get_dump()))
    answers.append(float(booster.predict(row)[0]))
    print(f"replies {name}: {trees[-1]} trees of 3 + 3, base_score {base}, answer {answers[-1]:.3f}")
seen = trees == [4, 4] and answers[0] < 0.1 and answers[1] > 0.9
sys.exit(0 if seen else "the behaviour has changed")
PROGRAM
