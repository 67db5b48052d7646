"""Every strategy over tables of sites that lack columns, with nets as people bring them.

CSV files with a word, blanks and a list of columns for each site; a net that is frozen but for its head, one
with two inputs, BatchNorm and an object with logits. A strategy runs, the same bits each time, or is refused.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fedkt
from fedkt import registry
from fedkt.errors import InputError
from fedkt.files import read_tensors
from tests import parties

NAMES = registry.names("strategies")
QUICK = ("dwc", "fd_ratio", "fedmd", "fedproto", "knfu")
ONE_NET = ("fedavg", "fedprox", "feddf", "fedet", "fedgen", "fedgkt", "fedhkd", "fedka", "fedka_weights")
"""Those that share weights or features of one architecture."""
ASKS = ("feddf", "fedet", "fedka_weights")
"""Those that need transfer rows although their class does not say so."""
REFUSED = {"kshot": "labels of 0 transfer rows are known"}
"""What this does not suit, and the reason."""


class Two(nn.Module):
    """Numbers and words apart; logits in an object."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.numbers = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU())
        self.words = nn.Linear(3, 8)
        self.classifier = nn.Linear(16, classes)

    def forward(self, numbers: Tensor, words: Tensor) -> SimpleNamespace:
        z = torch.cat([self.numbers(numbers), self.words(words)], 1)
        return SimpleNamespace(logits=self.classifier(z))


def two(input: Any, classes: int) -> nn.Module:
    return Two(classes)


FROZEN = {"name": "mlp", "width": 16, "hidden": [16], "trainable": "head"}
BROUGHT = {
    "name": f"{__name__}:two",
    "head": "classifier",
    "norm": "group",
    "inputs": {"numbers": [4], "words": [3]},
}


def described(name: str) -> dict[str, Any]:
    asked = parties.described("columns", strategy=name, rounds=1, allow=["weights", "features"])
    asked["clients"] = {"models": [BROUGHT] if name in ONE_NET else [FROZEN, BROUGHT]}
    asked["clients"]["local"] = {"epochs": 1}
    asked["data"]["public"] = {"from": "csv:common.csv", "size": 8}
    asked["data"]["drop"] = ["class", "l0", "l1", "l2", "t0", "t1"]
    kind = registry.find("strategies", name)
    if not kind.needs_transfer and name not in ASKS:
        del asked["data"]["transfer"]
    if not kind.needs_public:
        del asked["data"]["public"]
    return asked


def states(run: Path) -> dict[str, bytes]:
    files = sorted((run / "checkpoint/clients").rglob("*.safetensors"))
    return {
        f"{file.parent.name}/{name}": part.numpy().tobytes()
        for file in files
        for name, part in read_tensors(file)[0].items()
    }


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_tables_of_sites_that_lack_columns_and_nets_as_they_come(name: str, tmp_path: Path) -> None:
    parties.write(tmp_path)
    if name in REFUSED:
        with pytest.raises(InputError, match=REFUSED[name]):
            fedkt.simulate(described(name), out=tmp_path / "run", data_dir=tmp_path)
        return
    one, two_ = (fedkt.simulate(described(name), out=tmp_path / str(n), data_dir=tmp_path) for n in range(2))
    assert one.summary["replies"]["accepted"] == 3
    assert states(one.path) == states(two_.path) != {}
