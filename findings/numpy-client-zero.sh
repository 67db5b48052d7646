#!/usr/bin/env bash
# Client 0's own random stream is the server's.
#
# Expected: default_rng([seed, client]) is a stream of its own for each client, and none of them is
#   default_rng(seed).
# Happens: the words of a SeedSequence are padded with zeros, so [seed] and [seed, 0] and [seed, 0, 0] are one
#   and the same entropy: client 0 draws the very numbers that the server drew, and (client 0, round 0) those
#   of client 0. Only index 0 is hit, and only where it comes last; [client, seed] and spawn() keep the
#   streams apart.
# Versions: numpy 2.4.6.
# Why it matters: seeds in a federation are paths (run, round, client) and count from 0. The same noise, split
#   or batch order then serves two parties that are taken to be independent, in a simulation that otherwise
#   looks right.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile "numpy==2.4.6"
cd "$work"
"$work/venv/bin/python" - <<'PROGRAM'
import sys

import numpy as np

print("numpy", np.__version__)


def first(entropy):
    return np.random.default_rng(entropy).normal(size=3)


server = first([2024])
for client in range(3):
    mine = first([2024, client])
    print(f"[2024, {client}]", mine.round(4), "the server's" if np.array_equal(mine, server) else "own")
print("[2024]   ", server.round(4))
zero = np.array_equal(first([2024, 0]), server) and np.array_equal(first([2024, 0, 0]), server)
others = [first([2024, 1]), first([2024, 2]), first([0, 2024])]
others += [np.random.default_rng(s).normal(size=3) for s in np.random.SeedSequence(2024).spawn(2)]
apart = not any(np.array_equal(other, server) for other in others)
print("client 0 is the server:", zero, "| client 1, client 2, [0, 2024] and spawned streams are not:", apart)
sys.exit(0 if zero and apart else "the behaviour has changed")
PROGRAM
