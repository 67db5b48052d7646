#!/usr/bin/env bash
# Rows marked -1 for "no label" train the last class, and rows marked -100 train while their loss is NaN.
#
# Expected: a label outside 0 .. C-1 raises, or is skipped, or at least spoils the step so that it is seen.
# Happens: optax.softmax_cross_entropy_with_integer_labels indexes like Python: -1 is the last class, loss and
#   gradient of an ordinary row. Beyond the range (-100, the mark that PyTorch skips, or C itself) the loss is
#   NaN but the gradient is finite: it lowers all logits by their own probability, so weights stay finite and
#   are pushed by rows without a label.
# Versions: optax 0.2.8, jax 0.10.2.
# Why it matters: transfer sets mix labelled and unlabelled rows; -1 is scikit-learn's mark and -100
#   PyTorch's, and data sets go from one to the other. Training on them is silent in the first case and
#   survives NaN checks on weights in both.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile \
  "jax==0.10.2" "jaxlib==0.10.2" "optax==0.2.8" "numpy==2.4.6"
cd "$work"
"$work/venv/bin/python" - <<'PROGRAM'
import os
import sys

os.environ["JAX_PLATFORMS"] = "cpu"
import jax
import jax.numpy as jnp
import numpy as np
import optax

print("optax", optax.__version__, "jax", jax.__version__)
logits = jnp.array([[2.0, 1.0, 0.5]])


def loss(z, label):
    return optax.softmax_cross_entropy_with_integer_labels(z, jnp.array([label])).sum()


found = {}
for label in (2, -1, -100, 3):
    found[label] = float(loss(logits, label)), np.asarray(jax.grad(loss)(logits, label))[0]
    print(f"label {label:4}: loss {found[label][0]:.4f}, gradient {found[label][1].round(4)}")
probabilities = np.asarray(jax.nn.softmax(logits))[0]
print("probabilities", probabilities.round(4))
last = found[-1][0] == found[2][0] and np.array_equal(found[-1][1], found[2][1])
beyond = all(np.isnan(found[k][0]) and np.allclose(found[k][1], probabilities, atol=1e-6) for k in (-100, 3))
sys.exit(0 if last and beyond else "the behaviour has changed")
PROGRAM
