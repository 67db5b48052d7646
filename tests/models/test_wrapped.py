"""Nets of other libraries: their shapes, with layers called as torchvision and timm call them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fedkt
from fedkt.client.state import DiskStore
from fedkt.data.sets.dataset import InputSpec
from fedkt.errors import InputError
from fedkt.models import build, wrap
from fedkt.results.export import export

IMAGES = InputSpec("image", (1, 8, 8))


class ResNetLike(nn.Module):
    """conv1, bn1, layer1, avgpool, flatten, fc: as torchvision's ResNet runs."""

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.layer1 = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1, stride=2), nn.BatchNorm2d(6), nn.ReLU())
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(6, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer1(self.bn1(self.conv1(x)).relu())
        out: Tensor = self.fc(torch.flatten(self.avgpool(x), 1))
        return out


class MobileLike(nn.Module):
    """features, then a classifier of dropout and a linear layer, as torchvision's MobileNet."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 5, 3, stride=4), nn.ReLU(), nn.Flatten())
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(20, 10))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.features(x))
        return out


def whole(input: Any, classes: int) -> nn.Module:
    return wrap(ResNetLike(classes), head="fc")


def fixed(input: Any, classes: int) -> nn.Module:
    return wrap(ResNetLike(), head="fc", classes=classes, freeze=True)


def partly(input: Any, classes: int) -> nn.Module:
    return wrap(ResNetLike(), head="fc", classes=classes, freeze=["conv1", "bn1"])


def test_the_parts_give_what_the_net_gave() -> None:
    rows = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for net, head, width in ((ResNetLike(10), "fc", 6), (MobileLike(), "classifier.1", 20)):
        net.eval()
        before = net(rows)
        model = wrap(net, head=head).eval()
        features, logits = model(rows)
        assert features.shape == (3, width) and torch.equal(logits, before)
    assert wrap(MobileLike(), head="classifier").width == 20
    named: Any = whole
    assert build(named, IMAGES, 10, 0).mixes_rows
    named = fixed
    assert not build(named, IMAGES, 10, 0).mixes_rows


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"head": "fc1"}, "ResNetLike has no part 'fc1', which head names; did you mean 'fc'?"),
        (
            {"head": "fc", "freeze": ["layer2"]},
            "ResNetLike has no part 'layer2', which freeze names; did ",
        ),
        ({"head": "layer1", "classes": 3}, "'layer1' of ResNetLike has no linear layer"),
    ],
)
def test_what_is_not_there_is_told(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        wrap(ResNetLike(), **given)
    assert str(caught.value).startswith(words)
    with pytest.raises(InputError, match="'classifier' of MobileLike is a Sequential, which classes cannot"):
        wrap(MobileLike(), head="classifier", classes=3)


def trained(model: Any, out: Path) -> dict[str, Tensor]:
    """A client's tensors after a short run, whose model can be taken out."""
    y = np.arange(60) % 3
    x = np.random.default_rng(0).random((60, 1, 8, 8)).astype("float32")
    settings = [
        "rounds=2",
        "engine.kind=inline",
        "clients.local={epochs: 1, batch_size: 8, weight_decay: 0.1}",
    ]
    scenario = {"name": "wrapped", "clients": {"distill": {"together": False}}, "data": {
        "transfer": {"from": "train", "size": 12}}}  # fmt: skip
    run = fedkt.simulate(
        scenario, settings, data=(x, y), sites=["a", "b"] * 30, strategy="fedmd", models=model, out=out
    )
    assert run.summary["replies"]["accepted"] == 4
    store = DiskStore(out / "checkpoint" / "clients")
    state = store.load("a", below=99)
    assert state is not None
    held = {k.removeprefix("model/"): t for k, t in state.tensors.items() if k.startswith("model/")}
    export(out, "a", out / "model")
    assert fedkt.load_model(out / "model")(x[:2])[1].shape == (2, 3)
    return held


@pytest.mark.parametrize(
    ("model", "still", "moves"),
    [
        (fixed, "features.", "head."),
        (partly, ("features.body.conv1.", "features.body.bn1."), ("features.body.layer1.", "head.")),
    ],
    ids=["all features", "the first layers"],
)
def test_what_is_frozen_stays_in_every_bit(model: Any, still: Any, moves: Any, tmp_path: Path) -> None:
    from fedkt.rng import seed_of

    after = trained(model, tmp_path / "run")
    before = build(model, IMAGES, 3, seed_of(0, "model", "a")).state_dict()
    same = {name: torch.equal(before[name], after[name]) for name in before}
    assert all(same[name] for name in same if name.startswith(still))
    assert not any(same[name] for name in same if name.startswith(moves) and name.endswith("weight"))
