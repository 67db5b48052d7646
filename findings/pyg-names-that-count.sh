#!/usr/bin/env bash
# A graph that remembers its hospital as site_index moves to another hospital when it is put into a batch.
#
# Expected: an attribute of one's own on a graph is carried through batching as it is.
# Happens: PyTorch Geometric goes by the *name*: whatever has "index" in its name counts nodes and is raised
#   by the number of nodes before it in the batch, whatever has "batch" in it by the largest value so far plus
#   one. So site_index 1, 1, 2 becomes 1, 4, 9 in a batch, and other numbers in another batch; site stays 1,
#   1, 2.
# Versions: torch-geometric 2.8.1, torch 2.13.0.
# Why it matters: client_index, class_index, patient_index are what one calls such a number in a federation
#   over graphs (molecules, brain networks). A single graph shows the right one, and labels stored so are
#   other classes in each batch.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check --no-compile \
  "torch==2.13.0" "torch-geometric==2.8.1" "numpy==2.4.6"
cd "$work"
"$work/venv/bin/python" - <<'PROGRAM'
import sys

import torch
import torch_geometric
from torch_geometric.data import Batch, Data

print("torch-geometric", torch_geometric.__version__, "torch", torch.__version__)


def graph(nodes, site):
    edges = torch.tensor([[0], [1]])
    number = torch.tensor([site])
    return Data(
        x=torch.zeros(nodes, 1), edge_index=edges, site=number, site_index=number, batch_of_year=number
    )


graphs = [graph(3, 1), graph(4, 1), graph(5, 2)]
single = Batch.from_data_list(graphs[2:]).site_index.tolist()
batch = Batch.from_data_list(graphs)
print("sites 1, 1, 2 as site:", batch.site.tolist(), "| as site_index:", batch.site_index.tolist())
print("as batch_of_year:", batch.batch_of_year.tolist(), "| site_index of the third graph alone:", single)
seen = batch.site_index.tolist() == [1, 4, 9] and batch.batch_of_year.tolist() == [1, 3, 6]
sys.exit(0 if seen and batch.site.tolist() == [1, 1, 2] and single == [2] else "the behaviour has changed")
PROGRAM
