#!/usr/bin/env bash
# One LibSVM file dealt out to two sites: at one of them every column stands one place to the left.
#
# Expected: load_svmlight_file gives the columns of a shard as those of the whole file, all the more with
#   n_features.
# Happens: whether the columns count from 0 or from 1 is guessed for each file by itself: a file in which no
#   row has a value in column 0 is taken to count from 1. A shard (or a whole matrix whose first column is
#   zero) that scikit-learn itself wrote comes back shifted, with the shape that was asked for; the last
#   column is zero.
# Versions: scikit-learn 1.9.1 (zero_based="auto" is the default; dump_svmlight_file counts from 0).
# Why it matters: sparse rows (words, codes, clicks) travel in this format and are split by site or domain,
#   and a site that never saw the first word is the normal case. Feature k here is feature k + 1 there, and
#   shapes agree.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile \
  "scikit-learn==1.9.1" "numpy==2.4.6" "scipy==1.17.1"
cd "$work"
"$work/venv/bin/python" - <<'PROGRAM'
import sys

import numpy as np
import sklearn
from sklearn.datasets import dump_svmlight_file, load_svmlight_file

print("scikit-learn", sklearn.__version__)
rows = np.array([[1.0, 0, 2], [0, 3, 0], [0, 4, 0], [0, 5, 6]])
shards = {"site-a": rows[:2], "site-b": rows[2:]}
read = {}
for site, part in shards.items():
    dump_svmlight_file(part, [0, 1], site)
    read[site] = load_svmlight_file(site, n_features=3)[0].toarray()
    print(site, "wrote", part.tolist(), "reads", read[site].tolist())
told = load_svmlight_file("site-b", n_features=3, zero_based=True)[0].toarray()
print("site-b with zero_based=True reads", told.tolist())
seen = np.array_equal(read["site-a"], rows[:2]) and read["site-b"].tolist() == [[4, 0, 0], [5, 6, 0]]
sys.exit(0 if seen and np.array_equal(told, rows[2:]) else "the behaviour has changed")
PROGRAM
