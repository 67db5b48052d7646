"""Nets of other libraries: their shapes, with layers called as torchvision and timm call them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fedkt
from fedkt.client import Fit, Steps, classification
from fedkt.client.learning.learner import learner_of
from fedkt.client.state import DiskStore
from fedkt.data.sets.dataset import InputSpec
from fedkt.errors import InputError
from fedkt.models import Net, build, wrap
from fedkt.models.wrapped import Trunk, grouped
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


class Answer:
    """As transformers returns: an object with ``logits``."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits


class TwoInputs(nn.Module):
    """Pixels and a table, called by name; returns an object with logits."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
        self.age = nn.Linear(2, 4)
        self.classifier = nn.Linear(8, classes)

    def forward(self, pixels: Tensor, about: Tensor) -> Answer:
        seen = self.bn(self.conv(pixels)).relu().mean((2, 3))
        return Answer(self.classifier(torch.cat([seen, self.age(about)], 1)))


def two_inputs(input: Any, classes: int) -> nn.Module:
    return TwoInputs(classes)


def pictures_and_numbers() -> Any:
    stream = np.random.default_rng(0)
    y = stream.integers(0, 2, 200)
    pixels = stream.normal(size=(200, 16)) + y[:, None]
    return {"pixels": pixels, "about": stream.normal(size=(200, 2)) - y[:, None]}, y


def test_a_scenario_splits_freezes_and_renorms_a_net_as_it_comes() -> None:
    named: Any = two_inputs
    table = InputSpec("tabular", (18,))
    inputs = {"pixels": [1, 4, 4], "about": [2]}
    model = build(
        {"name": named, "head": "classifier", "inputs": inputs, "norm": "group", "trainable": "head"},
        table, 3, 0,
    )  # fmt: skip
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {"head.weight", "head.bias"}
    assert not any(isinstance(part, nn.BatchNorm2d) for part in model.modules()) and not model.mixes_rows
    rows = torch.randn(5, 18, generator=torch.Generator().manual_seed(0))
    parts = rows[:, :16].reshape(5, 1, 4, 4), rows[:, 16:]
    body: Any = model.features.body
    assert torch.equal(model(rows)[0], body(*parts).logits)
    for settings, words in (
        ({"head": "classifier", "inputs": {"pixels": [1, 4, 4]}}, "take 16 numbers of a row"),
        ({"head": "classifier", "norm": "refuse", "inputs": inputs}, r"BatchNorm \(bn\)"),
        ({"head": "fc"}, "has no part 'fc'"),
        ({"trainable": "head"}, "head must name the layer"),
        ({"head": "classifier", "trainable": "some"}, "must be all or head"),
        ({"heads": "classifier"}, "no setting 'heads'"),
    ):
        with pytest.raises(InputError, match=words):
            build({"name": named, **settings}, table, 3, 0)


def test_group_norm_keeps_scale_and_shift_and_divides_the_channels() -> None:
    net = nn.Sequential(nn.BatchNorm2d(48), nn.Sequential(nn.BatchNorm2d(6, affine=False)))
    nn.init.constant_(net[0].weight, 3.0)  # type: ignore[arg-type]
    made: Any = grouped(net)
    first, second = made[0], made[1][0]
    assert (first.num_groups, second.num_groups) == (16, 2)
    assert first.weight[0] == 3 and second.weight is None


def test_features_of_frozen_parts_are_computed_once_a_row_and_the_same_in_any_company() -> None:
    asked = []

    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh())

        def forward(self, x: Tensor) -> Tensor:
            asked.append(len(x))
            out: Tensor = self.inner(x)
            return out

    torch.manual_seed(0)
    net = Net(Trunk(Counting(), [""]), nn.Linear(32, 3), 32)
    rows = torch.randn(100, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    learner = learner_of(net)
    alone = learner.predict(rows[70:75])[0]
    assert asked == [64]
    whole = learner.predict(rows)[0]
    assert asked == [64] * 3 and torch.equal(whole[70:75], alone)
    steps = Steps(2, 16, "sgd", 0.1)
    phase = Fit("train", {"x": rows, "y": torch.arange(100) % 3}, classification, steps)
    before = {name: p.clone() for name, p in net.state_dict().items()}
    learner.fit(phase, {}, seed=0, client="0", round_=1)
    changed = {name for name, p in net.state_dict().items() if not torch.equal(p, before[name])}
    assert asked == [64] * 3 and changed == {"head.weight", "head.bias"}


def test_a_net_with_two_inputs_runs_on_columns_of_vectors() -> None:
    model = {
        "name": f"{__name__}:two_inputs",
        "head": "classifier",
        "inputs": {"pixels": [1, 4, 4], "about": [2]},
        "norm": "group",
    }
    ran = fedkt.simulate(
        {
            "name": "two",
            "data": {
                "dataset": f"{__name__}:pictures_and_numbers",
                "partition": {"kind": "iid", "clients": 2},
                "transfer": {"from": "train", "size": 20},
            },
            "clients": {"models": [model, "tabular"], "local": {"lr": 0.02}},
            "rounds": 2,
            "engine": {"kind": "inline"},
        }
    )
    assert ran.summary["accuracy"]["global_mean"] > 0.7
