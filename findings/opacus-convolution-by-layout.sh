#!/usr/bin/env bash
# The same convolution, the same rows, the same loss: in the memory layout that torch advises for images, the
# rows' gradients that private training clips are off by more than their own size.
#
# Expected: memory_format=torch.channels_last changes where numbers lie, never what they are; and a layer that
#   the validator accepts has its row gradients computed as it computes.
# Happens: for a batch in channels-last layout, grad_sample of every convolution's weight (plain, strided,
#   padded, grouped, dilated) differs from the gradient of the row alone by about 100 % of the largest entry;
#   biases and dense layers are right. With padding_mode="circular" it is wrong in either layout (30 %), since
#   the border is padded with zeros there. Output and loss are right in all of them, and nothing warns.
# Versions: opacus 1.6.0, torch 2.13.0.
# Why it matters: norms are still clipped and noise is still added, so the claim on privacy is as before; the
#   net merely does not learn, which looks like the price of privacy. A trial against one row's own gradient,
#   before training, tells.
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
from opacus import GradSampleModule
from opacus.validators import ModuleValidator
from torch import nn

print("opacus", version("opacus"), "torch", version("torch"))
images, labels = torch.empty(5, 3, 9, 9), torch.tensor([0, 1, 2, 3, 0])


def error(layout, **settings):
    """The largest difference to the rows' own gradients, as a share of the largest of these: weight, bias."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, **settings), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 4)
    )
    x = torch.randn_like(images)
    assert not ModuleValidator.validate(net)
    alone = []
    for row in range(len(x)):
        net.zero_grad()
        nn.functional.cross_entropy(net(x[[row]]), labels[[row]]).backward()
        alone.append([p.grad.clone() for p in net.parameters()])
    net, x = net.to(memory_format=layout), x.to(memory_format=layout)
    net.zero_grad()
    hooked = GradSampleModule(net, loss_reduction="mean")
    nn.functional.cross_entropy(hooked(x), labels).backward()
    wanted = [torch.stack(rows) for rows in zip(*alone)]
    return [
        float((p.grad_sample - w).abs().max() / w.abs().max())
        for p, w in zip(net.parameters(), wanted)
    ]


kinds = {"plain": {}, "stride 2": {"stride": 2}, "padding": {"padding": 1}, "groups": {"groups": 3}}
seen = True
for name, settings in kinds.items():
    usual, last = error(torch.contiguous_format, **settings), error(torch.channels_last, **settings)
    print(f"{name:9} contiguous: weight {usual[0]:.0e} bias {usual[1]:.0e}"
          f"   channels last: weight {last[0]:.2f} bias {last[1]:.0e}")
    seen &= max(usual) < 1e-5 and last[0] > 0.5 and max(last[1:]) < 1e-5
circular = error(torch.contiguous_format, padding=1, padding_mode="circular")
print(f"circular  contiguous: weight {circular[0]:.2f} bias {circular[1]:.0e}")
sys.exit(0 if seen and circular[0] > 0.1 else "the behaviour has changed")
PROGRAM
