#!/usr/bin/env bash
# Rows that normalize() made "of length 1" are longer than 1.
#
# Expected: sklearn.preprocessing.normalize gives rows of Euclidean norm 1, sparse or dense, and distances of
#   sparse rows are those of the same rows made dense.
# Happens: a CSR matrix may name one column twice in a row; such entries add up in every product and in
#   toarray(). normalize and euclidean_distances take the norm of the entries as they stand, before they are
#   added up. A row with k equal entries in one place comes out with norm sqrt(k). Calling sum_duplicates()
#   first cures it. SciPy's own norm is right.
# Versions: scikit-learn 1.9.1, scipy 1.17.1, numpy 2.4.6.
# Why it matters: event lists (codes, words, items, one entry each) are put together as data, indices, indptr
#   and are exactly of this form. A row norm of 1 is what bounds a record's influence in differential privacy
#   and what makes a cosine prototype a mean of unit vectors; here one record weighs sqrt(k) times as much as
#   is accounted.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile \
  "scikit-learn==1.9.1" "scipy==1.17.1" "numpy==2.4.6"
cd "$work"
"$work/venv/bin/python" - <<'PROGRAM'
import sys

import numpy as np
import scipy
import scipy.sparse as sp
import sklearn
from scipy.sparse.linalg import norm
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.preprocessing import normalize

print("scikit-learn", sklearn.__version__, "scipy", scipy.__version__, "numpy", np.__version__)


def events():
    # Patient 0 has code 1 four times, patient 1 has code 2 once: one entry an event.
    return sp.csr_matrix((np.ones(5), [1, 1, 1, 1, 2], [0, 4, 5]), shape=(2, 4))


print("rows", events().toarray().tolist(), "| scipy's norms", norm(events(), axis=1))
lengths = np.linalg.norm(normalize(events()).toarray(), axis=1)
summed = events()
summed.sum_duplicates()
right = np.linalg.norm(normalize(summed).toarray(), axis=1)
print("norms after normalize:", lengths, "| after sum_duplicates and normalize:", right)
sparse = euclidean_distances(events())[0, 1]
dense = euclidean_distances(events().toarray())[0, 1]
print(f"distance of the two rows: {sparse:.4f} sparse, {dense:.4f} dense")
seen = np.allclose(lengths, [2, 1]) and np.allclose(right, 1) and abs(sparse - dense) > 1
sys.exit(0 if seen else "the behaviour has changed")
PROGRAM
