#!/usr/bin/env bash
# Clients with different 64-bit seeds draw the same numbers.
#
# Expected: manual_seed takes 64 bits, initial_seed() returns all 64, so client * 2**32 + round is a seed of
#   its own for each client.
# Happens: the CPU generator is fed the low 32 bits only. All clients get the stream of the round number,
#   while initial_seed() still shows the different seeds. NumPy uses all bits.
# Versions: torch 2.13.0, CPU generator; numpy 2.4.6.
# Why it matters: packing (run, client, round) into one integer, or taking 64 bits of a hash with the varying
#   part on top, is how simulations make seeds. Initial weights, batch orders and noise of all clients are
#   then the same, and a federation looks more agreed, and a mean of noise larger, than it is.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile \
  "torch==2.13.0" "numpy==2.4.6"
cd "$work"
"$work/venv/bin/python" - <<'PROGRAM'
import sys

import numpy as np
import torch

print("torch", torch.__version__, "numpy", np.__version__)
streams, shown, others = [], [], []
for client in range(3):
    seed = client * 2**32 + 7
    generator = torch.Generator().manual_seed(seed)
    shown.append(generator.initial_seed())
    streams.append(torch.randn(3, generator=generator).tolist())
    others.append(np.random.default_rng(seed).normal(size=3).tolist())
    print(
        f"client {client}: seed {shown[-1]}, torch {np.round(streams[-1], 4)}, numpy {np.round(others[-1], 4)}"
    )
noise = torch.stack([torch.randn(10000, generator=torch.Generator().manual_seed(c << 32)) for c in range(16)])
print(f"mean of 16 clients' unit noise: deviation {noise.mean(0).std():.3f} (independent: 0.25)")
seen = streams[0] == streams[1] == streams[2] and len(set(shown)) == 3 and noise.mean(0).std() > 0.9
sys.exit(0 if seen and others[0] != others[1] != others[2] else "the behaviour has changed")
PROGRAM
