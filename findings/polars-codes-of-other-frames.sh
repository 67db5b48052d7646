#!/usr/bin/env bash
# The codes of a Polars categorical column depend on which other frames are alive in the process.
#
# Expected: `to_physical()` of a Categorical numbers the column's own values, from 0 and in the order in which
#   they appear, as codes of pandas or of an Arrow dictionary do; the same rows give the same codes anywhere.
# Happens: values are numbered in one table for all columns of the process. A column that has codes 0 and 1 in a
#   fresh process has 2 and 3 where another frame with such a column was made before, whatever that is called,
#   and 0 and 1 again once that frame has been dropped. Its pandas and Arrow forms have codes 0 and 1 each time.
#   An Enum, whose values are listed beforehand, has the same codes always.
# Versions: polars 2.1.0, pyarrow 26.0.1, pandas 3.1.1.
# Why it matters: simulated clients share a process, real sites do not. Codes that index an embedding, or that a
#   booster splits by, mean other things in the simulation than at the site, and go beyond the table's end.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile \
  "polars==2.1.0" "pyarrow==26.0.1" "pandas==3.1.1" "numpy==2.4.6"
cd "$work"
"$work/venv/bin/python" - <<'PROGRAM'
import gc
import sys
from importlib.metadata import version

import polars

print(*(f"{name} {version(name)}" for name in ("polars", "pyarrow", "pandas")), sep=", ")


def codes(kind=polars.Categorical):
    """The codes of one and the same column: Polars', pandas', Arrow's."""
    column = polars.Series("ward", ["dental", "burns", "dental"], dtype=kind)
    arrow = column.to_arrow().indices.to_pylist()
    return column.to_physical().to_list(), column.to_pandas().cat.codes.tolist(), arrow


fresh = codes()
other = polars.DataFrame({"town": ["york", "eastbourne"]}, schema={"town": polars.Categorical})
beside = codes()
wards = polars.Enum(["burns", "dental"])
listed = codes(wards)[0]
del other
gc.collect()
after = codes()
for what, found in (("in a fresh process", fresh), ("beside another frame", beside), ("after it was dropped", after)):
    print(f"{what:21} Polars {found[0]}, pandas {found[1]}, Arrow {found[2]}")
print(f"{'as an Enum':21} Polars {listed}, beside the other frame too")

same = [0, 1, 0]
seen = fresh == after == (same, same, same) and beside == ([2, 3, 2], same, same) and listed == [1, 0, 1] == codes(wards)[0]
sys.exit(0 if seen else "the behaviour has changed")
PROGRAM
