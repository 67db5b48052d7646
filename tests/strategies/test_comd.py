"""A model of the server's own and the clients as rivals: who is surer of a row teaches it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import fedkt
from fedkt.scenario import from_dict
from fedkt.strategies.comd import CoMD, CoMDConfig
from fedkt.strategy import Contributions

SERVER = torch.tensor([[0.6, 0.4], [0.9, 0.1], [0.5, 0.5]])
OWN = torch.tensor([[[0.7, 0.3], [0.8, 0.2], [0.5, 0.5]], [[0.55, 0.45], [0.2, 0.8], [0.3, 0.7]]])


def rivals(server: Tensor, **settings: Any) -> CoMD:
    method: CoMD = CoMD.__new__(CoMD)
    method.config = CoMDConfig(**{"confidence": "raw", **settings})
    method._answers = lambda: server
    return method


def test_the_surer_one_teaches_by_hand() -> None:
    """Server .6 .9 .5; client 0 .7 .8 .5 takes row 1; client 1 .55 .8 .7 takes rows 0 and 1.

    The mean of the clients, (.625 .375)(.5 .5)(.4 .6), is surer than the server on rows 0 and 2.
    """
    fused = rivals(SERVER).fuse(Contributions(("0", "1"), {"values": OWN}))
    first, second = fused.teachers[0]["values"], fused.teachers[1]["values"]
    assert torch.equal(first, torch.stack([OWN[0, 0], SERVER[1], OWN[0, 2]]))
    assert torch.equal(second, torch.stack([SERVER[0], SERVER[1], OWN[1, 2]]))
    assert fused.beliefs is not None
    assert torch.allclose(fused.beliefs, torch.tensor([[0.625, 0.375], [0.0, 0.0], [0.4, 0.6]]))
    assert fused.report["taken"] == pytest.approx([1 / 3, 2 / 3])
    assert fused.report["learned"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    "settings", [{}, {"confidence": "aligned"}, {"confidence": "aligned", "marginals": "consensus"}]
)
def test_laws(settings: dict[str, Any]) -> None:
    values = torch.rand(4, 6, 3, generator=torch.Generator().manual_seed(0)).softmax(-1)
    uniform = torch.full((6, 3), 1 / 3)
    names = tuple("0123")
    # A server that knows nothing teaches nobody and learns all; a tie keeps one's own.
    fused = rivals(uniform, **settings).fuse(Contributions(names, {"values": values}))
    assert torch.equal(torch.stack([t["values"] for t in fused.teachers]), values)
    assert torch.allclose(fused.beliefs, values.mean(0))
    same = values[:1].expand(4, -1, -1)
    tied = rivals(same[0], **settings).fuse(Contributions(names, {"values": same}))
    assert torch.equal(torch.stack([t["values"] for t in tied.teachers]), same)
    # Permuting clients permutes their teachers.
    server, order = values[0].flip(0), torch.tensor([2, 0, 3, 1])
    plain = rivals(server, **settings).fuse(Contributions(names, {"values": values}))
    turned = rivals(server, **settings).fuse(Contributions(names, {"values": values[order]}))
    stacked = torch.stack([t["values"] for t in plain.teachers])[order]
    assert torch.allclose(torch.stack([t["values"] for t in turned.teachers]), stacked, atol=1e-6)


def test_a_run_has_a_server_s_model_of_its_own(tmp_path: Path) -> None:
    described = from_dict(
        {
            "name": "rivals",
            "data": {
                "partition": {"clients": 3, "samples_per_client": 30},
                "transfer": {"size": 40, "rows": 20, "policy": "gap"},
            },
            "clients": {"models": [{"name": "mlp", "width": 8, "hidden": [8]}], "local": {"epochs": 1}},
            "strategy": {"name": "comd", "model": {"name": "mlp", "width": 16}},
            "rounds": 2,
            "engine": {"kind": "inline"},
        }
    )
    told = fedkt.simulate(described, out=tmp_path / "run")
    assert told.summary["accuracy"]["server"] > 0
