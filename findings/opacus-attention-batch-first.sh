#!/usr/bin/env bash
# A transformer that Opacus has made fit for private training gives other answers, with the same weights.
#
# Expected: ModuleValidator.fix replaces MultiheadAttention by a drop-in that computes the same thing, keeping
#   the weights.
# Happens: it keeps the weights and batch_first, and with batch_first=True the heads are joined in the wrong
#   order: parts of other positions of the sequence end up in a position's answer, although the attention
#   weights that are returned are right. With batch_first=False both agree to rounding.
# Versions: opacus 1.6.0, torch 2.13.0.
# Why it matters: private fine-tuning of a pretrained transformer, a teacher say, starts with this call. The
#   model has lost what it knew before the first noisy step, which is easily put down to the noise; the
#   exported weights, loaded into the original model, then compute something that was never trained.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile \
  "torch==2.13.0" "opacus==1.6.0" "numpy==2.4.6" "scipy==1.17.1"
cd "$work"
"$work/venv/bin/python" - <<'PROGRAM'
import sys
from importlib.metadata import version

import torch
from opacus.validators import ModuleValidator

print("opacus", version("opacus"), "torch", torch.__version__)
torch.manual_seed(0)
errors = {}
for first in (False, True):
    before = torch.nn.MultiheadAttention(8, 2, batch_first=first).eval()
    after = ModuleValidator.fix(before).eval()
    same = all(torch.equal(after.state_dict()[k], v) for k, v in before.state_dict().items())
    rows = torch.randn(3, 5, 8)
    with torch.no_grad():
        answers, weights = before(rows, rows, rows)
        fixed, fixed_weights = after(rows, rows, rows)
    errors[first] = float((answers - fixed).abs().max())
    attention = float((weights - fixed_weights).abs().max())
    print(
        f"batch_first={first}: {type(after).__name__}, weights equal: {same}, largest difference of the attention "
        f"{attention:.1e}, of the answer {errors[first]:.1e} (answers up to {float(answers.abs().max()):.2f})"
    )
    if not same or attention > 1e-5:
        sys.exit("the behaviour has changed")
sys.exit(0 if errors[False] < 1e-5 and errors[True] > 0.1 else "the behaviour has changed")
PROGRAM
