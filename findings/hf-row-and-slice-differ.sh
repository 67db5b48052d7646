#!/usr/bin/env bash
# One number of a data set is a float64 when its row is asked for and a float32 when its column is.
#
# Expected: with_format("numpy") changes the container; data[i]["time"] is data["time"][i], in the dtype of
#   the features.
# Happens: a row keeps float64, whereas columns and slices come as float32, so time stamps and record numbers
#   that differ become equal. uint8 becomes int64 (eight times the memory for images). A float or int column
#   with one None comes as an array of objects, so that code that selects numeric columns by dtype loses it,
#   while its rows are float64 and int64.
# Versions: datasets 4.8.5, numpy 2.4.6, pyarrow 26.0.1.
# Why it matters: joining parties by time or record number, telling training rows from test rows and computing
#   a site's means all go through whole columns; trying it on data[0] shows nothing.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile \
  "datasets==4.8.5" "numpy==2.4.6" "pyarrow==26.0.1" "pandas==3.1.1"
cd "$work"
"$work/venv/bin/python" - <<'PROGRAM'
import sys

import datasets
import numpy as np
from datasets import Dataset, Features, Sequence, Value

print("datasets", datasets.__version__, "numpy", np.__version__)
features = Features(
    {
        "time": Value("float64"),
        "pixels": Sequence(Value("uint8")),
        "dose": Value("float64"),
        "stage": Value("int64"),
    }
)
data = Dataset.from_dict(
    {
        "time": [1700000001.25, 1700000002.5],
        "pixels": [[1, 2], [3, 4]],
        "dose": [1.5, None],
        "stage": [1, None],
    },
    features=features,
).with_format("numpy")
columns, row = data[:], data[0]
for name in features:
    print(
        f"{name}: declared {features[name]}, row {np.asarray(row[name]).dtype}, column {columns[name].dtype}"
    )
first, second = columns["time"]
print("times by row:", data[0]["time"], data[1]["time"], "| by column equal:", bool(first == second))
seen = (
    np.asarray(row["time"]).dtype == np.float64
    and columns["time"].dtype == np.float32
    and first == second
    and columns["pixels"].dtype == np.int64
    and columns["dose"].dtype == columns["stage"].dtype == object
    and np.asarray(row["stage"]).dtype == np.int64
)
sys.exit(0 if seen else "the behaviour has changed")
PROGRAM
