#!/usr/bin/env bash
# One logit of 500, sent as an 8-bit float: 448, NaN or an error of the reader's, by who converts it.
#
# Expected: the formats are specified, so a cast to float8_e4m3fn and to float8_e5m2 gives the same byte
#   everywhere.
# Happens: for e4m3fn (largest number 448) PyTorch stops at the largest number, ml_dtypes (which NumPy and JAX
#   use) gives NaN, and ONNX stops. PyTorch turns even infinity into 448, so a diverged model looks finite.
#   For e5m2 (largest 57344) PyTorch and ml_dtypes go to infinity and ONNX stops: PyTorch saturates in one
#   format and not in the other.
# Versions: torch 2.13.0, ml_dtypes 0.6.0, onnx 1.23.2, onnxruntime 1.31.1.
# Why it matters: logits and features in 8 bits are the cheapest knowledge to send. Parties on different
#   stacks quantise the same numbers to different bytes, and a check for NaN or infinity finds a diverged
#   party on one stack only.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile \
  "torch==2.13.0" "ml_dtypes==0.6.0" "onnx==1.23.2" "onnxruntime==1.31.1" "numpy==2.4.6"
cd "$work"
"$work/venv/bin/python" - <<'PROGRAM'
import sys

import ml_dtypes
import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper

print("torch", torch.__version__, "ml_dtypes", ml_dtypes.__version__, "onnxruntime", onnxruntime.__version__)


def by_onnx(values, kind):
    nodes = [
        helper.make_node("Cast", ["x"], ["y"], to=getattr(TensorProto, kind)),
        helper.make_node("Cast", ["y"], ["z"], to=TensorProto.FLOAT),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in "xz"]
    graph = helper.make_graph(nodes, "cast", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": values})[0].tolist()


found = {}
for kind, values in (("float8_e4m3fn", [440.0, 500.0, np.inf]), ("float8_e5m2", [50000.0, 1e5, np.inf])):
    values = np.array(values, np.float32)
    found[kind] = {
        "torch": torch.tensor(values).to(getattr(torch, kind)).float().tolist(),
        "ml_dtypes": values.astype(getattr(ml_dtypes, kind)).astype(np.float32).tolist(),
        "onnx": by_onnx(values, "FLOAT8" + kind.removeprefix("float8_").upper()),
    }
    for name, result in found[kind].items():
        print(f"{kind} of {values.tolist()} by {name}: {result}")
inf, nan = np.inf, np.nan
expected = {
    "float8_e4m3fn": {"torch": [448, 448, 448], "ml_dtypes": [448, nan, nan], "onnx": [448, 448, 448]},
    "float8_e5m2": {
        "torch": [49152, inf, inf],
        "ml_dtypes": [49152, inf, inf],
        "onnx": [49152, 57344, 57344],
    },
}
seen = all(np.array_equal(found[k][n], expected[k][n], equal_nan=True) for k in found for n in found[k])
sys.exit(0 if seen else "the behaviour has changed")
PROGRAM
