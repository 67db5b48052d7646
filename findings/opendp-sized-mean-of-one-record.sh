#!/usr/bin/env bash
# A private mean of 100 values, asked what one record more or less costs, answers epsilon = 0.0000000000003.
#
# Expected: a chain of mean and Laplace noise, told the number of rows, maps an input distance of 1 (one record
#   added or removed, as for a count) to the epsilon that the noise was made for: 1.
# Happens: once the domain has a size, two data sets of that size never differ by one record alone. The
#   symmetric distance between neighbours is then 2 (one out, one in), and odd distances are rounded down: at 1
#   the map gives the slack for floating point and nothing else, 3e-13; at 2 it gives 1. Sums of whole numbers
#   answer exactly 0. A count of categories over a domain of the same size answers 1 at 1.
# Versions: opendp 0.16.0.
# Why it matters: scale is often found by searching for the noise at which map(1) meets a budget. For sized
#   statistics that search ends with no noise at all, and the map is right: the question was about a change
#   that cannot happen. Where the number of rows is public, ask with d_in = 2.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile "opendp==0.16.0"
cd "$work"
"$work/venv/bin/python" - <<'PROGRAM'
import sys
from importlib.metadata import version

import opendp.prelude as dp

print("opendp", version("opendp"))
dp.enable_features("contrib")


def rows(atom, size):
    return dp.vector_domain(atom, size=size), dp.symmetric_distance()


real, whole = dp.atom_domain(bounds=(0.0, 10.0)), dp.atom_domain(bounds=(0, 10))
private_mean = rows(real, 100) >> dp.t.then_mean() >> dp.m.then_laplace(scale=0.1)
total = rows(whole, 100) >> dp.t.then_sum()
named = rows(dp.atom_domain(T=str), 100) >> dp.t.then_count_by_categories(["a", "b"])
for name, chain in (("mean + Laplace(0.1)", private_mean), ("sum", total), ("categories", named)):
    print(f"{name:20}", {distance: chain.map(distance) for distance in (1, 2, 3, 4)})
seen = (
    private_mean.map(1) < 1e-9
    and abs(private_mean.map(2) - 1) < 1e-9
    and private_mean.map(3) == private_mean.map(2)
    and total.map(1) == 0
    and total.map(2) == 10
    and named.map(1) == 1
)
sys.exit(0 if seen else "the behaviour has changed")
PROGRAM
