#!/usr/bin/env bash
# Making a trained net fit for private training throws away what its normalisation layers had learned.
#
# Expected: ModuleValidator.fix puts GroupNorm where BatchNorm stood, and the new layers take over the learned
#   scale and shift of each channel, as they hold one of each per channel too.
# Happens: scale is 1 and shift 0 in every new layer; all other weights are kept. Nothing warns. On a net whose
#   normalisation had learned scales between 0.5 and 2, most answers of the fixed net are others, and copying
#   scale and shift by hand brings a good part of them back. The number of groups follows the width by the
#   greatest common divisor with 32: 17 channels become one group, 48 become 16, 32 become 32, which is a norm
#   over single channels.
# Versions: opacus 1.6.0, torch 2.13.0.
# Why it matters: private fine-tuning starts from public weights since that is what makes it affordable. The
#   layers that were replaced are the ones whose few numbers carry most under a small budget.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile \
  "opacus==1.6.0" "torch==2.13.0" "numpy==2.4.6" "scipy==1.17.1"
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PROGRAM'
import sys
from importlib.metadata import version

import torch
from opacus.validators import ModuleValidator
from torch import nn

print("opacus", version("opacus"), "torch", version("torch"))
torch.manual_seed(0)


class Net(nn.Sequential):
    def __init__(self, width):
        super().__init__(
            nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.ReLU(),
            nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * width, 10),
        )


def agreement(a, b, x):
    return float((a(x).argmax(1) == b(x).argmax(1)).float().mean())


seen = True
for width, groups in ((17, 1), (32, 32), (48, 16)):
    net = Net(width)
    x = torch.randn(500, 1, 12, 12)
    with torch.no_grad():
        net[1].weight.uniform_(0.5, 2)
        net[1].bias.normal_()
        net.train()
        for _ in range(50):
            net(x)
    net.eval()
    fixed = ModuleValidator.fix(net).eval()
    by_hand = ModuleValidator.fix(net).eval()
    by_hand[1].load_state_dict({k: net[1].state_dict()[k] for k in ("weight", "bias")})
    lost, kept = agreement(net, fixed, x), agreement(net, by_hand, x)
    print(f"width {width}: {fixed[1].num_groups} groups, scale {fixed[1].weight.unique().tolist()}, shift "
          f"{fixed[1].bias.unique().tolist()}; same answers {lost:.2f}, with scale and shift {kept:.2f}")
    seen &= (
        fixed[1].num_groups == groups
        and bool((fixed[1].weight == 1).all() and (fixed[1].bias == 0).all())
        and torch.equal(fixed[0].weight, net[0].weight)
        and lost < kept
    )
sys.exit(0 if seen else "the behaviour has changed")
PROGRAM
