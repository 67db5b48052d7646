#!/usr/bin/env bash
# The mean of a LoRA adapter with itself is twice the adapter.
#
# Expected: add_weighted_adapter([a, b], [0.5, 0.5], combination_type="linear") is the adapter whose update is
#   half of a's plus half of b's; so the mean of equal adapters is that adapter.
# Happens: "linear" mixes the factors, not the update: sqrt(w) times each A is summed, and likewise each B,
#   and the product of the sums has the cross terms a's B times b's A. Equal adapters give twice their update,
#   three give three times, and different ones something that is no mean of anything. combination_type="cat"
#   is the exact one.
# Versions: peft 0.21.2, transformers 5.24.0, torch 2.13.0.
# Why it matters: averaging LoRA adapters is how language models are federated. The more the clients agree,
#   the more their update is blown up, by the number of clients.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile \
  "torch==2.13.0" "peft==0.21.2" "transformers==5.24.0" "numpy==2.4.6"
cd "$work"
"$work/venv/bin/python" - <<'PROGRAM'
import sys

import peft
import torch
from peft import LoraConfig, get_peft_model

print("peft", peft.__version__, "torch", torch.__version__)
torch.manual_seed(0)
base = torch.nn.Sequential(torch.nn.Linear(8, 8, bias=False))
config = LoraConfig(r=2, lora_alpha=2, target_modules=["0"], init_lora_weights=False)
model = get_peft_model(base, config, adapter_name="one")
for name in ("two", "six"):
    model.add_adapter(name, config)
layer = model.base_model.model[0]


def update(name):
    return layer.get_delta_weight(name).detach()


def mean(names, kind):
    made = "-".join([*names, kind, str(len(layer.lora_A))])  # a name of its own: an adapter there is kept
    model.add_weighted_adapter(names, [1 / len(names)] * len(names), made, combination_type=kind)
    return update(made)


truth = (update("one") + update("two")) / 2
errors = {
    kind: float((mean(["one", "two"], kind) - truth).norm() / truth.norm()) for kind in ("linear", "cat")
}
print("mean of two adapters, relative error:", {kind: round(error, 4) for kind, error in errors.items()})
for name in ("two", "six"):  # now all three are equal
    for part in (layer.lora_A, layer.lora_B):
        part[name].load_state_dict(part["one"].state_dict())
factors = []
for names in (["one", "two"], ["one", "two", "six"]):
    factors.append(float((mean(names, "linear") * update("one")).sum() / update("one").square().sum()))
    print(f"linear mean of {len(names)} equal adapters: {factors[-1]:.4f} times the adapter")
again = float((mean(["one", "two"], "cat") - update("one")).norm() / update("one").norm())
seen = errors["linear"] > 0.3 and errors["cat"] < 1e-5 and again < 1e-5
sys.exit(
    0 if seen and abs(factors[0] - 2) < 1e-4 and abs(factors[1] - 3) < 1e-4 else "the behaviour has changed"
)
PROGRAM
