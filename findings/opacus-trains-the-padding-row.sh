#!/usr/bin/env bash
# The padding row of an embedding stays zero in ordinary training and is trained in private training.
#
# Expected: nn.Embedding(padding_idx=0) keeps row 0 as it is; its gradient is zero, with Opacus' per-record
#   gradients too.
# Happens: Opacus computes the gradient of an embedding itself and does not look at padding_idx: row 0 gets
#   the sum over all padding positions, often the largest row of all. It takes its share of each record's
#   clipping norm, so the real words get less, and after one step padding is a word with a vector of its own.
# Versions: opacus 1.6.0, torch 2.13.0.
# Why it matters: texts and event lists are padded, so nearly every record is hit, and the shorter the text
#   the more. The guarantee holds all the same; what is lost is accuracy, and the model's answer depends on
#   how far a text was padded.
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
from opacus import GradSampleModule
from torch.nn.functional import cross_entropy

print("opacus", version("opacus"), "torch", torch.__version__)


class Text(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.words = torch.nn.Embedding(5, 4, padding_idx=0)
        self.head = torch.nn.Linear(4, 2)

    def forward(self, tokens):
        return self.head(self.words(tokens).mean(1))


torch.manual_seed(0)
tokens, labels = torch.tensor([[1, 2, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0]]), torch.tensor([0, 1])
plain = Text()
cross_entropy(plain(tokens), labels).backward()
ordinary = plain.words.weight.grad.norm(dim=1)
private = GradSampleModule(plain)
private.zero_grad()
cross_entropy(private(tokens), labels).backward()
by_record = plain.words.weight.grad_sample.norm(dim=2)
print("gradient norms of rows 0 (padding) to 4, ordinary:", ordinary.round(decimals=3).tolist())
for record, norms in enumerate(by_record.round(decimals=3).tolist()):
    print(f"Opacus, record {record}:", norms)
seen = ordinary[0] == 0 and bool((by_record[:, 0] > by_record[:, 1:].max(1).values).all())
sys.exit(0 if seen else "the behaviour has changed")
PROGRAM
