#!/usr/bin/env bash
# FedAdam makes a BatchNorm variance negative although every client reported a positive one.
#
# Expected: a server optimiser moves weights; statistics that are bound to be positive stay between what
#   clients sent.
# Happens: FedAdam, FedAdagrad and FedYogi take every array that comes for a parameter and move each number by
#   about their learning rate whatever its size (0.1 by default for the first two). A running variance of 0.05
#   that all clients report as 0.04 becomes -0.02 or -0.05 in the first round, a layer's batch counter a
#   fraction; BatchNorm then takes the root of a negative number. Flower's FedAdam also counts its rounds one
#   ahead in the bias correction, so its first step is 0.74 of the learning rate where Adam's is 1.
# Versions: flwr 1.41.0, numpy 2.4.6.
# Why it matters: state dictionaries hold running means and variances beside the weights and are sent whole.
#   Small variances are common (inputs in 0 to 1), so one round makes evaluation NaN while FedAvg on the same
#   replies is fine.
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
from flwr.server.strategy import FedAdagrad, FedAdam, FedAvg

print("flwr", version("flwr"))
server = [np.array([1.0, 1.0]), np.array([0.05])]  # a weight vector and a running variance
client = [np.array([0.9, 0.9]), np.array([0.04])]
ends = {}
for kind in (FedAvg, FedAdam, FedAdagrad):
    strategy = kind(initial_parameters=ndarrays_to_parameters(server))
    result = FitRes(Status(Code.OK, ""), ndarrays_to_parameters(client), num_examples=10, metrics={})
    weight, variance = parameters_to_ndarrays(strategy.aggregate_fit(1, [(None, result)] * 3, [])[0])
    ends[kind.__name__] = variance[0]
    with np.errstate(invalid="ignore"):
        scaled = 1 / np.sqrt(variance[0] + 1e-5)
    print(
        f"{kind.__name__}: weight 1.0 -> {weight[0]:.4f}, "
        f"variance 0.05 -> {variance[0]:.4f}, BatchNorm scale {scaled:.3f}"
    )
seen = abs(ends["FedAvg"] - 0.04) < 1e-9 and ends["FedAdam"] < 0 and ends["FedAdagrad"] < 0
first_step = 0.05 - ends["FedAdam"]
print(f"FedAdam's first step with eta 0.1: {first_step:.4f}")
sys.exit(0 if seen and abs(first_step - 0.0742) < 1e-3 else "the behaviour has changed")
PROGRAM
