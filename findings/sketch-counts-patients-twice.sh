#!/usr/bin/env bash
# Two hospitals count their common patients with a mergeable sketch, and the union has twice as many.
#
# Expected: the union of two distinct-count sketches over the same 1000 record numbers is about 1000.
# Happens: DataSketches hashes 17 and 17.0 to different values, and a NumPy float64 counts as a float, whereas
#   a NumPy float32 of the same value counts as a whole number. A column that holds one blank is float64 in
#   pandas, so the numbers of that hospital are all other patients.
# Versions: datasketches 5.2.0, pandas 3.1.1, numpy 2.4.6.
# Why it matters: sketches are how sites find out how many people they share, or how many there are, without
#   showing them. Each site's own count is right, the overlap is zero, and nobody can look at the values to
#   see why.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile \
  "datasketches==5.2.0" "pandas==3.1.1" "numpy==2.4.6"
cd "$work"
"$work/venv/bin/python" - <<'PROGRAM'
import sys
from importlib.metadata import version

import numpy as np
import pandas as pd
from datasketches import theta_intersection, theta_union, update_theta_sketch

print("datasketches", version("datasketches"), "pandas", pd.__version__)
numbers = list(range(1, 1001))
hospitals = {
    "a": pd.Series(numbers),
    "b": pd.Series([*numbers, None]).dropna(),  # one record without a number
}
sketches = {}
for name, column in hospitals.items():
    sketches[name] = update_theta_sketch()
    for number in column:
        sketches[name].update(number)
    print(
        f"hospital {name}: {column.dtype}, first {column.iloc[0]!r}, count {sketches[name].get_estimate():.0f}"
    )
union, common = theta_union(), theta_intersection()
for sketch in sketches.values():
    union.update(sketch)
    common.update(sketch)
both, shared = union.get_result().get_estimate(), common.get_result().get_estimate()
print(f"union {both:.0f}, intersection {shared:.0f} (truth: 1000 and 1000)")
single = update_theta_sketch()
for value in (17, np.int64(17), np.float32(17)):
    single.update(value)
alike = single.get_estimate()
single.update(np.float64(17))
print(
    f"17, int64 17 and float32 17 are {alike:.0f} value; with float64 17 they are {single.get_estimate():.0f}"
)
seen = both > 1990 and shared == 0 and alike == 1 and single.get_estimate() == 2
sys.exit(0 if seen else "the behaviour has changed")
PROGRAM
