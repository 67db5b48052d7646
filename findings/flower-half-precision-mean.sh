#!/usr/bin/env bash
# Whether a federated mean of half-precision weights is 100 or infinite depends on the strategy's name.
#
# Expected: with server learning rate 1 and no momentum FedAvgM is FedAvg, and FedAvg(inplace=False) is
#   FedAvg.
# Happens: FedAvg scales each reply by its share of the rows and adds. The other path multiplies by the number
#   of rows first and divides at the end, and an array of float16 times a Python integer stays float16, which
#   ends at 65504. So 1000 rows and a weight above 65 are enough for inf.
# Versions: flwr 1.41.0 (flwr.server.strategy), numpy 2.4.6.
# Why it matters: sending float16 halves the bytes and is what one does first; row counts of thousands are
#   ordinary. The same replies that one strategy averages correctly make another's model infinite.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile \
  "flwr==1.41.0" "numpy==2.4.6"
cd "$work"
"$work/venv/bin/python" - <<'PROGRAM'
import sys
from importlib.metadata import version

import numpy as np
from flwr.common import Code, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.server.strategy import FedAvg, FedAvgM

print("flwr", version("flwr"), "numpy", np.__version__)


def reply(value):
    weights = ndarrays_to_parameters([np.full(2, value, np.float16)])
    return None, FitRes(Status(Code.OK, ""), weights, num_examples=1000, metrics={})


start = ndarrays_to_parameters([np.zeros(2, np.float16)])
strategies = {
    "FedAvg()": FedAvg(),
    "FedAvg(inplace=False)": FedAvg(inplace=False),
    "FedAvgM(server_learning_rate=1, server_momentum=0)": FedAvgM(
        initial_parameters=start, server_learning_rate=1.0, server_momentum=0.0
    ),
}
means = {}
for name, strategy in strategies.items():
    means[name] = parameters_to_ndarrays(strategy.aggregate_fit(1, [reply(90), reply(110)], [])[0])[0]
    print(f"{name}: mean of 90 and 110, 1000 rows each, is {means[name]} ({means[name].dtype})")
right, *others = (bool((mean == 100).all()) for mean in means.values())
infinite = all(np.isinf(mean).all() for mean in list(means.values())[1:])
sys.exit(0 if right and infinite and not any(others) else "the behaviour has changed")
PROGRAM
