#!/usr/bin/env bash
# A record number beyond 32 bits raises in JAX, unless it comes from a file: then it becomes another record's.
#
# Expected: jnp.asarray refuses what it cannot hold, as it does for a Python integer, or warns, as it does for
#   an explicit dtype.
# Happens: an int64 array of NumPy (what every reader of Parquet, CSV or HDF5 gives) is cut to its low 32 bits
#   without a word: 4294967301 becomes 5, 2147483648 becomes negative.
# Versions: jax 0.10.2 with its default settings (64 bits off).
# Why it matters: record numbers, hashes of names and time stamps in milliseconds are beyond 32 bits, and
#   joining parties on them then matches people who have nothing to do with each other.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile \
  "jax==0.10.2" "jaxlib==0.10.2" "numpy==2.4.6"
cd "$work"
"$work/venv/bin/python" - <<'PROGRAM'
import os
import sys
import warnings

os.environ["JAX_PLATFORMS"] = "cpu"
import jax
import jax.numpy as jnp
import numpy as np

print("jax", jax.__version__, "numpy", np.__version__)
try:
    jnp.asarray(2**32 + 5)
    refused = False
except OverflowError as error:
    refused = True
    print("Python's 2**32 + 5:", error)
numbers = np.array([5, 2**32 + 5, 2**31])
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    cut = np.asarray(jnp.asarray(numbers))
print("NumPy's", numbers.tolist(), "become", cut.tolist(), cut.dtype, "| warnings:", len(said))
seen = refused and cut.tolist() == [5, 5, -(2**31)] and not said
sys.exit(0 if seen else "the behaviour has changed")
PROGRAM
