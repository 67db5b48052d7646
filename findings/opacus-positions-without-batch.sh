#!/usr/bin/env bash
# GPT-2 passes the check that a model is fit for private training, and then has one row of gradient for the
# positions of all texts.
#
# Expected: ModuleValidator.validate names what Opacus cannot take row gradients of, or grad_sample has a row for
#   each text of the batch.
# Happens: the validator finds nothing. transformers looks positions up once for the whole batch, so grad_sample of
#   wpe.weight is [1, positions, width]: the sum over all texts, while every other parameter has [texts, ...] and the
#   right values. The first step of DPOptimizer, and ghost clipping, then end with torch's "stack expects each
#   tensor to be equal size", which names no layer. Positions that are passed with the batch
#   (position_ids=arange.expand(texts, -1)) give each text its own row.
# Versions: opacus 1.6.0, transformers 5.24.0, torch 2.13.0.
# Why it matters: most causal language models of this family are fine-tuned privately through these two packages;
#   frozen positions, or adapters alone, hide it, and what mends it is one argument of the forward pass.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile \
  "opacus==1.6.0" "transformers==5.24.0" "torch==2.13.0" "numpy==2.4.6" "scipy==1.17.1"
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PROGRAM'
import sys
from importlib.metadata import version

import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from opacus.validators import ModuleValidator
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel

print(*(f"{name} {version(name)}" for name in ("opacus", "transformers", "torch")))
torch.manual_seed(0)
config = GPT2Config(
    vocab_size=20, n_embd=8, n_layer=1, n_head=2, n_positions=16, bos_token_id=0, eos_token_id=0,
    resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, tie_word_embeddings=False,
)
net = GPT2LMHeadModel(config).train()
texts = torch.randint(1, 20, (3, 6))


def losses(module, rows, **more):
    logits = module(input_ids=rows, **more).logits[:, :-1]
    costs = F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="none")
    return costs.view(len(rows), -1).mean(1)


names, tensors = zip(*net.named_parameters())
each = [torch.autograd.grad(losses(net, row[None]).sum(), tensors) for row in texts]
own = {name: torch.stack(rows) for name, rows in zip(names, zip(*each))}
found = ModuleValidator.validate(net)
print("what the validator finds:", found)


def row_gradients(**more):
    module = GradSampleModule(net, loss_reduction="sum", strict=False)
    losses(module, texts, **more).sum().backward()
    got = {name: p.grad_sample for name, p in module._module.named_parameters()}
    wrong = [n for n, g in got.items() if g.shape != own[n].shape or not torch.allclose(g, own[n], atol=1e-5)]
    return module, got, wrong


module, got, wrong = row_gradients()
shape = tuple(got["transformer.wpe.weight"].shape)
whole = torch.allclose(got["transformer.wpe.weight"][0], own["transformer.wpe.weight"].sum(0), atol=1e-5)
print("wrong:", wrong, shape, "for 3 texts; it is the sum over them:", whole)
optimizer = DPOptimizer(
    torch.optim.SGD(module.parameters(), lr=1.0),
    noise_multiplier=1.0, max_grad_norm=1.0, expected_batch_size=3, loss_reduction="sum",
)
try:
    optimizer.step()
    said = "nothing"
except RuntimeError as error:
    said = str(error)
print("a step says:", said)
module.remove_hooks()
for p in net.parameters():
    p.grad_sample = p.summed_grad = p.grad = None
_, _, with_batch = row_gradients(position_ids=torch.arange(6).expand(3, -1))
print("wrong where positions come with the batch:", with_batch)
as_told = not found and wrong == ["transformer.wpe.weight"] and shape == (1, 16, 8) and whole
as_told = as_told and "equal size" in said and not with_batch
sys.exit(0 if as_told else "the behaviour has changed")
PROGRAM
