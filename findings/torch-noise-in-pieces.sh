#!/usr/bin/env bash
# Noise drawn in pieces from one seed is other noise than the same noise drawn at once.
#
# Expected: torch.randn consumes the generator one number after another, so randn(10) is the beginning of
#   randn(100), and ten calls give what one call gives, as for torch.rand and for NumPy's generators.
# Happens: on a CPU, up to 15 numbers come from one algorithm and 16 or more from another that fills blocks of
#   16. randn(15) and randn(16) share no number; randn(17) shares its first one with a longer call. Only
#   pieces that are multiples of 16 agree with the whole. torch.rand is the same in any pieces.
# Versions: torch 2.13.0, CPU generator.
# Why it matters: methods that send a seed in place of a vector (zeroth-order updates, shared masks, noise
#   that two parties must both know) rebuild it layer by layer or chunk by chunk. With layers of 10 or 100
#   numbers nothing matches, and a test with 1024 passes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile \
  "torch==2.13.0" "numpy==2.4.6"
cd "$work"
"$work/venv/bin/python" - <<'PROGRAM'
import sys

import torch

print("torch", torch.__version__)


def drawn(draw, total, piece):
    torch.manual_seed(0)
    sizes = [min(piece, total - start) for start in range(0, total, piece)]
    return torch.cat([draw(size) for size in sizes])


whole = {draw.__name__: drawn(draw, 4096, 4096) for draw in (torch.randn, torch.rand)}
share = {}
for draw in (torch.randn, torch.rand):
    for piece in (10, 100, 1000, 1024):
        same = drawn(draw, 4096, piece) == whole[draw.__name__]
        share[draw.__name__, piece] = float(same.float().mean())
        print(
            f"{draw.__name__} in pieces of {piece}: {share[draw.__name__, piece]:.1%} of 4096 numbers as at once"
        )
common = []
for count in (15, 16, 17):
    torch.manual_seed(0)
    common.append(int((torch.randn(count) == whole["randn"][:count]).sum()))
    print(f"randn({count}) shares {common[-1]} numbers with the first {count} of randn(4096)")
seen = all(share["randn", piece] < 0.3 for piece in (10, 100, 1000)) and common == [0, 16, 1]
same = share["randn", 1024] == 1 and all(share["rand", piece] == 1 for piece in (10, 100, 1000, 1024))
sys.exit(0 if seen and same else "the behaviour has changed")
PROGRAM
