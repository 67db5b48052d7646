"""What the methods that share more than knowledge compute, against numbers worked out by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedkt.client import Arrays, Holding, Steps, classification, tutored
from fedkt.client import shared_weights as weights
from fedkt.clients.features import FeaturesClient
from fedkt.clients.fedgen import FedGenClient, guided
from fedkt.clients.fedhkd import FedHKDClient, clipped, informed
from fedkt.deploy.coordinator.submission import submit
from fedkt.distill.losses import kl
from fedkt.engine.checks.checked import checked_world
from fedkt.engine.world.world import World
from fedkt.errors import InputError
from fedkt.knowledge import Dims, decode, encode
from fedkt.knowledge.contrast import CountedWeights, FeatureRows, GeneratorWeights, HyperKnowledge
from fedkt.models.feature_nets import generator, generator_input, on_features
from fedkt.scenario import from_dict
from fedkt.strategies.feddf import ensemble
from fedkt.strategies.fedet import agreeing, confidence, consensus, dissent
from fedkt.strategies.fedgen import agreed, class_share, likeness
from fedkt.strategy import Contributions, Setting, Strategy, stack

LN2, LN125 = 0.6931472, 0.2231436
"""-ln .5, and -ln .8, which is also KL((.5, .5) || (.8, .2)) = ln 1.25."""


class Says:
    """A model whose features and logits are what they are, and whose head changes nothing."""

    params: Arrays = {}  # noqa: RUF012

    def __init__(self, *probabilities: tuple[float, ...], features: Tensor | None = None) -> None:
        self.logits = torch.tensor(probabilities).log()
        self.features = self.logits if features is None else features

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.features, self.logits

    def head(self, z: Tensor) -> Tensor:
        return z


def log(*probabilities: tuple[float, ...]) -> Tensor:
    return torch.tensor(probabilities).log()


def holding(**settings: Any) -> Holding:
    """Four rows of three classes (none of class 2)."""
    steps = Steps(1, 2, "sgd", 0.1)
    return Holding(
        client="0",
        seed=0,
        dims=Dims(0, 0, 3, 2, {"head.weight": (3, 2), "head.bias": (3,)}),
        x=torch.arange(8.0).view(4, 2),
        y=torch.tensor([0, 1, 1, 0]),
        transfer=None,
        public=None,
        label_share=torch.tensor([0.5, 0.5, 0.0]),
        local=steps,
        distill=steps,
        settings=settings,
    )


def begin(name: str, **more: Any) -> tuple[World, Strategy]:
    """A strategy for three clients with digits."""
    described = from_dict(
        {
            "name": "beyond",
            "data": {"partition": {"clients": 3, "samples_per_client": 20}, "transfer": {"size": 40}},
            "clients": {"models": [{"name": "mlp", "width": 8}]} | more.pop("clients", {}),
            "strategy": {"name": name, **more},
            "allow": ["weights", "features"],
        }
    )
    world = checked_world(described)
    dims = {client: world.dims(client) for client in world.shards}
    setting = Setting(described, "run", dims, world.transfer_hash, world.federation.input, world.federation)
    return world, world.strategy(world.config, setting)


def sent(world: World, **more: Tensor) -> Contributions:
    """Each client's initial model, and what else it sends."""
    held = {
        client: weights.teacher(world.net(client), 5 + i) | {name: tensor[i] for name, tensor in more.items()}
        for i, client in enumerate(world.shards)
    }
    return stack(list(held), held, None)


# ---- FedDF


def test_feddf_teaches_the_mean_of_logits() -> None:
    assert ensemble(torch.tensor([[[2.0, 0.0]], [[0.0, 4.0]]])).tolist() == [[1.0, 2.0]]


def test_feddf_without_steps_is_fedavg() -> None:
    world, strategy = begin("feddf", steps=0)
    _, plain = begin("fedavg")
    a, b = strategy.fuse(sent(world)), plain.fuse(sent(world))
    assert a is not None
    assert b is not None
    assert list(a.arrays) == list(b.arrays)
    assert all(torch.equal(a.arrays[name], b.arrays[name]) for name in a.arrays)


def test_feddf_moves_every_architecture_s_mean_towards_the_ensemble() -> None:
    models = {"models": [{"name": "mlp", "width": 8}, "cnn"]}
    world, strategy = begin("feddf", steps=60, clients=models)
    _, plain = begin("feddf", steps=0, clients=models)
    given = sent(world)
    assert "examples" in given.arrays
    assert "tensor.features.1.weight" in given.unlike["0"]
    assert "tensor.features.1.weight" not in given.unlike["1"]
    x = world.federation.transfer_tensor()
    target = torch.stack(list(strategy.predictions(given, x).values())).mean(0)  # type: ignore[attr-defined]
    distilled, averaged = strategy.fuse(given), plain.fuse(given)
    assert distilled is not None
    assert averaged is not None
    # Clients 0 and 2 have the first architecture, 1 the second: one teacher for each.
    assert set(distilled.by_client) == {"0", "1", "2"}
    assert distilled.by_client["0"]["examples"] == 5 + 7
    assert torch.equal(
        distilled.by_client["0"]["tensor.head.weight"], distilled.by_client["2"]["tensor.head.weight"]
    )
    for client in "01":
        far, near = (_apart(world, client, f.by_client[client], x, target) for f in (averaged, distilled))
        assert near < 0.7 * far


def _apart(world: World, client: str, arrays: Arrays, x: Tensor, target: Tensor) -> float:
    net = world.net(client)
    net.load_state_dict(weights.parameters(arrays))
    with torch.no_grad():
        return kl(net(x)[1], target).mean().item()


# ---- FedGen


def test_fedgen_class_share() -> None:
    counts = torch.tensor([[3, 0, 0], [1, 5, 0]])
    assert class_share(counts).tolist() == [[0.75, 0.0, 0.0], [0.25, 1.0, 0.0]]


def test_fedgen_likeness() -> None:
    noise, made = torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.tensor([[1.0, 1.0], [0.0, 3.0]])
    # (2^2 + 0)/2 = 2 times (1 + 2)/2 = 1.5 for two of the four pairs, 0 for those with itself: exp(-6/4)
    assert likeness(noise, made).item() == pytest.approx(0.223130, abs=1e-6)
    assert likeness(torch.zeros(2, 2), made).item() == 1.0


def test_fedgen_generator_s_loss() -> None:
    swap = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        swap.weight.copy_(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    share = torch.tensor([[0.75, 0.0], [0.25, 1.0]])
    batch = {"x": torch.zeros(2, 1), "y": torch.tensor([0, 1]), "noise": torch.zeros(2, 3)}
    net = Says((0.8, 0.2), (0.5, 0.5))

    def rows(diversity: float) -> list[float]:
        found: list[float] = agreed(
            net, batch, {}, heads=[nn.Identity(), swap], share=share, diversity=diversity
        ).tolist()
        return found

    # Class 0: .75 * -ln .8 + .25 * -ln .2 = .167358 + .402359;  class 1: only the second head, -ln .5.
    assert rows(0.0) == pytest.approx([0.569717, LN2], abs=1e-6)
    # Equal noise: the likeness is 1.
    assert rows(2.0) == pytest.approx([2.569717, 2 + LN2], abs=1e-6)


def test_fedgen_guided() -> None:
    batch = {
        "x": torch.zeros(1, 1),
        "y": torch.tensor([0]),
        "made": log((0.5, 0.5)),
        "made_y": torch.tensor([1]),
        "like": log((0.5, 0.5)),
    }
    # -ln .8 + 2 * -ln .5 + 3 * KL((.5, .5) || (.8, .2))
    rows = guided(Says((0.8, 0.2)), batch, {}, alpha=2.0, beta=3.0)
    assert rows.tolist() == pytest.approx([4 * LN125 + 2 * LN2], abs=1e-5)


def fedgen_teacher(made_in: int, known: tuple[int, ...]) -> dict[str, Tensor]:
    net = generator(3, 2, noise=4, hidden=5)
    arrays = {f"generator.{name}": p.detach() for name, p in net.named_parameters()}
    return arrays | {"known": torch.tensor(known), "round": torch.tensor(made_in)}


def test_fedgen_client_uses_the_generator_from_the_second_round() -> None:
    client = FedGenClient(holding(alpha=10.0, beta=5.0, decay=0.98, noise=4, hidden=5))
    assert client.train(None).loss is classification
    assert client.train(fedgen_teacher(0, (0, 0, 0))).loss is classification
    phase = client.train(fedgen_teacher(10, (1, 0, 1)))
    # .98^10 = .817073
    assert phase.loss.keywords == pytest.approx({"alpha": 8.17073, "beta": 4.085364}, abs=1e-5)
    assert set(phase.rows) == {"x", "y", "like", "made", "made_y"}
    assert phase.rows["like"].shape == phase.rows["made"].shape == (4, 2)
    # Only classes that the generator was taught are drawn.
    assert set(phase.rows["made_y"].tolist()) <= {0, 2}
    again = client.train(fedgen_teacher(10, (1, 0, 1)))
    assert torch.equal(phase.rows["made_y"], again.rows["made_y"])
    # The weights never fall below 1e-4, as in the authors' code: 10 * .98^1000 = 1.7e-8.
    late = client.train(fedgen_teacher(1000, (1, 1, 1)))
    assert late.loss.keywords == {"alpha": 1e-4, "beta": 1e-4}


def test_fedgen_made_features_are_of_the_row_s_own_class() -> None:
    client = FedGenClient(holding(alpha=1.0, beta=1.0, decay=1.0, noise=4, hidden=5))
    teacher = fedgen_teacher(1, (1, 1, 1))
    # A generator that ignores noise and returns the class's number in both coordinates.
    for name in list(teacher):
        if name.startswith("generator."):
            teacher[name] = torch.zeros_like(teacher[name])
    teacher["generator.features.0.weight"][0, 4:] = torch.tensor([-1.0, 0.0, 1.0])
    teacher["generator.features.1.weight"] += 1.0
    teacher["generator.features.3.weight"][:, 0] = 1.0
    rows = client.train(teacher).rows
    of_class = {int(y): made[0].item() for y, made in zip(rows["y"], rows["like"], strict=True)}
    assert of_class[0] != of_class[1] or of_class == {0: 0.0, 1: 0.0}
    for y, made in zip(rows["made_y"].tolist(), rows["made"], strict=True):
        if y in of_class:
            assert made.tolist() == [of_class[y]] * 2


def test_generator_input() -> None:
    noise = torch.tensor([[0.5], [0.25]])
    assert generator_input(noise, torch.tensor([2, 0]), 3).tolist() == [[0.5, 0, 0, 1], [0.25, 1, 0, 0]]


def test_fedgen_learns_a_generator_that_the_heads_agree_with() -> None:
    world, strategy = begin("fedgen", steps=200, lr=0.01, weight_decay=0.0)
    counts = torch.zeros(3, 10, dtype=torch.int32)
    counts[:, :4] = 5
    given = sent(world, counts=counts)
    before = strategy.initial()
    after = strategy.fuse(given)
    assert before is not None
    assert after is not None
    assert after.arrays["known"].tolist() == [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]

    def loss(arrays: Arrays) -> float:
        module = generator(10, 8, 32, 256)
        module.load_state_dict(weights.parameters(arrays, GeneratorWeights.GENERATOR))
        y = torch.arange(4).repeat(25)
        made, _ = module(generator_input(torch.rand(100, 32), y, 10))
        heads = [world.net(client).head for client in world.shards]
        return float(np.mean([nn.functional.cross_entropy(h(made), y).item() for h in heads]))

    assert loss(after.arrays) < loss(before.arrays) - 0.5


# ---- FedHKD


def test_fedhkd_averages_classes_by_rows() -> None:
    world, strategy = begin("fedhkd")
    features, predictions = torch.zeros(3, 10, 8), torch.zeros(3, 10, 10)
    counts = torch.zeros(3, 10, dtype=torch.int32)
    counts[0, 0], counts[1, 0], counts[1, 1] = 3, 1, 5
    features[0, 0, 0], features[1, 0, 0], features[1, 1, 0] = 2.0, 6.0, 1.0
    predictions[0, 0, 0], predictions[1, 0, 1], predictions[1, 1, 1] = 1.0, 1.0, 1.0
    fused = strategy.fuse(sent(world, features=features, predictions=predictions, counts=counts))
    assert fused is not None
    # Class 0: (3*2 + 1*6)/4, and 3/4, 1/4 of the predictions. Class 1: its only holder's. Others: nobody's.
    assert fused.arrays["features"][:, 0].tolist() == [3.0, 1.0] + [0.0] * 8
    assert fused.arrays["predictions"][:2, :2].tolist() == [[0.75, 0.25], [0.0, 1.0]]
    assert fused.arrays["predictions"][2:].sum() == 0
    assert fused.arrays["counts"].tolist() == [2, 1] + [0] * 8
    _, plain = begin("fedavg")
    mean = plain.fuse(sent(world))
    assert mean is not None
    assert all(torch.equal(fused.arrays[name], mean.arrays[name]) for name in mean.arrays)


def test_fedhkd_clipped() -> None:
    found = clipped(torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]]), 1.0)
    assert found.flatten().tolist() == pytest.approx([0.6, 0.8, 0.3, 0.4, 0.0, 0.0])


def test_fedhkd_informed() -> None:
    constants = {
        "features": torch.cat([log((0.8, 0.2)), torch.full((1, 2), 9.0)]),
        "predictions": torch.tensor([[0.5, 0.5], [0.0, 0.0]]),
        "counts": torch.tensor([2, 0]),
    }
    net = Says((0.5, 0.5), (0.5, 0.5), features=torch.zeros(2, 2))
    batch = {"x": torch.zeros(2, 1), "y": torch.tensor([0, 1])}
    rows = informed(net, batch, constants, soft_weight=2.0, feature_weight=3.0, softness=1.0)
    # Class 0, the only known one: |(.8, .2) - (.5, .5)| = sqrt(.18) = .424264;
    # ((ln .8)^2 + (ln .2)^2)/2 = (.049793 + 2.590290)/2 = 1.320042.
    # ln 2 + 2 * .424264 + 3 * 1.320042;  class 1 is unknown, so without the last term.
    assert rows.tolist() == pytest.approx([5.501801, 1.541675], abs=1e-5)
    # At temperature .5 the head says softmax(2 ln .8, 2 ln .2) = (.64, .04)/.68 = (.941176, .058824):
    # its distance is sqrt(2 * .441176^2) = .623918.
    sharp = informed(net, batch, constants, soft_weight=1.0, feature_weight=0.0, softness=0.5)
    assert sharp.tolist() == pytest.approx([LN2 + 0.623918] * 2, abs=1e-5)


def test_fedhkd_sends_means_of_features_and_predictions() -> None:
    told: dict[str, Any] = {
        "soft_weight": 1.0,
        "feature_weight": 1.0,
        "softness": 0.5,
        "clip": 5.0,
        "noise": 0.0,
    }
    client = FedHKDClient(holding(**told))
    features = torch.tensor([[6.0, 8.0], [0.0, 1.0], [2.0, 1.0], [1.0, 0.0]])
    logits = log((0.5, 0.25, 0.25), (0.6, 0.2, 0.2), (0.6, 0.2, 0.2), (0.5, 0.25, 0.25))
    params = {"head.weight": torch.ones(3, 2), "head.bias": torch.zeros(3)}
    found = client.extract(features, logits, params).arrays()
    # Row 0 is cut from length 10 to 5: (3, 4). Class 0: rows 0 and 3; class 1: rows 1 and 2.
    assert found["features"].tolist() == [[2.0, 2.0], [1.0, 1.0], [0.0, 0.0]]
    # Squares, scaled: (.25, .0625, .0625)/.375;  (.36, .04, .04)/.44
    assert found["predictions"][0].tolist() == pytest.approx([2 / 3, 1 / 6, 1 / 6])
    assert found["predictions"][1].tolist() == pytest.approx([0.818182, 0.090909, 0.090909], abs=1e-6)
    assert found["predictions"][2].tolist() == [0.0, 0.0, 0.0]
    assert found["counts"].tolist() == [2, 2, 0]
    assert encode(found, HyperKnowledge.expected_of(client.holding.dims))
    noisy = FedHKDClient(holding(**told | {"noise": 1.0})).extract(features, logits, params).arrays()
    assert (noisy["features"][:2] != found["features"][:2]).all()
    assert noisy["features"][2].tolist() == [0.0, 0.0]  # no noise where there is no row: it would say so


# ---- FedGKT


def test_fedgkt_tutored() -> None:
    batch = {
        "x": torch.zeros(2, 1),
        "y": torch.tensor([0, 0]),
        "target": log((0.5, 0.5), (0.5, 0.5)),
        "known": torch.tensor([1.0, 0.0]),
    }
    rows = tutored(Says((0.8, 0.2), (0.8, 0.2)), batch, {}, alpha=2.0, loss=kl, temperature=1.0)
    # -ln .8 + 2 * KL((.5, .5) || (.8, .2));  -ln .8
    assert rows.tolist() == pytest.approx([3 * LN125, LN125], abs=1e-6)


@pytest.mark.parametrize(("rows", "labels"), [(6, [0, 1, 1, 0, -1, -1]), (3, [0, 1, 1]), (4, [0, 1, 1, 0])])
def test_fedgkt_client_sends_a_fixed_number_of_rows(rows: int, labels: list[int]) -> None:
    client = FeaturesClient(holding(rows=rows, alpha=1.0, loss="kl", temperature=1.0, whole=False))
    inputs = client.inputs(None)
    assert inputs is not None
    assert torch.equal(inputs, client.holding.x[:rows])
    n = len(inputs)
    found = client.extract(torch.ones(n, 2), torch.full((n, 3), 2.0), {}).arrays()
    assert found["labels"].tolist() == labels
    assert found["features"].sum() == 2 * n
    assert found["logits"].sum() == 6 * n
    expected = FeatureRows.expected(client.holding.dims, rows)
    assert decode(encode(found, expected), expected)["labels"].tolist() == labels


def test_fedgkt_client_learns_about_the_rows_that_it_shared() -> None:
    client = FeaturesClient(holding(rows=3, alpha=1.0, loss="kl", temperature=1.0, whole=False))
    assert client.train(None).rows["known"].tolist() == [0, 0, 0, 0]
    values = torch.arange(9.0).view(3, 3)
    rows = client.train({"values": values}).rows
    assert rows["known"].tolist() == [1, 1, 1, 0]
    assert torch.equal(rows["target"][:3], values)


def test_fedgkt_server_does_not_read_what_fills_up() -> None:
    labels = torch.tensor([[0, 1, -1], [2, 3, 4], [5, 6, 7]])
    features, logits = torch.rand(3, 3, 8), torch.rand(3, 3, 10)
    other = features.clone()
    other[0, 2] = 7.0
    teachers = []
    for x in (features, other):
        _, strategy = begin("fedgkt", rows=3, epochs=1)
        held = {"features": x, "logits": logits, "labels": labels.to(torch.int16)}
        fused = strategy.fuse(Contributions(("0", "1", "2"), held))
        assert fused is not None
        assert fused.personal
        teachers.append(fused.arrays["values"])
    assert torch.equal(*teachers)
    assert teachers[0].shape == (3, 3, 10)
    assert teachers[0][0, 2].tolist() == [0.0] * 10
    assert (teachers[0][1] != 0).all()


def test_fedgkt_server_learns_the_labels() -> None:
    _, strategy = begin("fedgkt", rows=4, alpha=0.0, epochs=200, lr=0.01)
    labels = torch.tensor([[0, 1, 2, 3]] * 3)
    features = torch.nn.functional.one_hot(labels, 8).float()
    held = {"features": features, "logits": torch.zeros(3, 4, 10), "labels": labels.to(torch.int16)}
    fused = strategy.fuse(Contributions(("0", "1", "2"), held))
    assert fused is not None
    assert torch.equal(fused.arrays["values"].argmax(-1), labels)


def test_fedgkt_client_predicts_with_the_server_s_net_where_it_is_sent() -> None:
    model = {"name": "mlp", "width": 5}
    _, strategy = begin("fedgkt", rows=4, whole=True, model=model)
    held = {
        "features": torch.rand(3, 4, 8),
        "logits": torch.zeros(3, 4, 10),
        "labels": torch.zeros(3, 4, dtype=torch.int16),
    }
    fused = strategy.fuse(Contributions(("0", "1", "2"), held))
    assert fused is not None
    server = strategy._server.module  # type: ignore[attr-defined]
    dims = Dims(0, 0, 10, 8)
    told = {"rows": 4, "whole": True, "model": model}
    for teacher in fused.teachers:
        encode(
            {n: t.numpy() for n, t in teacher.items()}, FeaturesClient.teacher(dims, told, with_rows=False)
        )
    client = FeaturesClient(replace(holding(**told), dims=dims))
    features = torch.rand(6, 8)
    found = client.predictors(features, torch.zeros(6, 10), fused.teachers[1])
    with torch.no_grad():
        assert torch.allclose(found["whole"], server(features)[1])
    assert on_features(model, 8, 10, 0).width == 5


def test_fedgkt_server_s_net_must_take_features() -> None:
    with pytest.raises(
        InputError, match=r"strategy.model: model 'cnn' takes image rows, but .* tabular rows"
    ):
        begin("fedgkt", model="cnn")


# ---- Fed-ET

# Two models, two rows, two classes. Variances: 1 and .25 on the first row, .25 twice on the second.
SAY = torch.tensor([[[2.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [2.0, 1.0]]])


def test_fedet_confidence_and_consensus() -> None:
    assert confidence(SAY).flatten().tolist() == pytest.approx([0.8, 0.5, 0.2, 0.5])
    # .8 (2, 0) + .2 (0, 1) = (1.6, .2);  (1.5, .5)
    assert consensus(SAY).tolist() == [0, 0]
    # By the mean alone it would be so as well; confidence turns this one: (0, 1.5)/2 against (1, 0).
    turned = torch.tensor([[[1.0, 0.0]], [[0.0, 4.0]], [[1.0, 0.0]], [[1.0, 0.0]]])
    # Variances .25, 4, .25, .25: weights 1, 16, 1, 1 of 19, so (3, 64)/19.
    assert consensus(turned).tolist() == [1]
    # Where no model prefers a class there is nothing to weigh.
    assert confidence(torch.ones(2, 1, 3)).tolist() == [[0.0], [0.0]]


def test_fedet_dissent() -> None:
    others, differ = dissent(SAY, torch.tensor([0, 0]))
    # The second model says 1 on the first row; nobody contradicts on the second.
    assert differ.tolist() == [1.0, 0.0]
    assert others.tolist() == [[0.0, 1.0], [0.0, 0.0]]
    # Both contradict 1 on the second row: equally confident, (1, 0)/2 + (2, 1)/2.
    others, differ = dissent(SAY, torch.tensor([0, 1]))
    assert differ.tolist() == [1.0, 1.0]
    assert others[1].tolist() == pytest.approx([1.5, 0.5])


def test_fedet_agreeing() -> None:
    batch = {
        "x": torch.zeros(2, 1),
        "y": torch.tensor([0, 0]),
        "others": log((0.5, 0.5), (0.5, 0.5)),
        "differ": torch.tensor([1.0, 0.0]),
    }
    # -ln .8 + .5 KL((.5, .5) || (.8, .2));  -ln .8
    rows = agreeing(Says((0.8, 0.2), (0.8, 0.2)), batch, {}, diversity=0.5)
    assert rows.tolist() == pytest.approx([1.5 * LN125, LN125], abs=1e-6)


def test_fedet_gives_the_server_s_last_layer_to_all() -> None:
    models = {"models": [{"name": "mlp", "width": 8}, {"name": "cnn", "width": 8}]}
    world, strategy = begin("fedet", steps=3, clients=models)
    given = sent(world)
    fused = strategy.fuse(given)
    assert fused is not None
    layers = [fused.by_client[client]["tensor.head.weight"] for client in "012"]
    assert torch.equal(layers[0], layers[1])
    assert torch.equal(layers[0], layers[2])
    # It started as the mean of the clients' and has been trained since.
    mean = given.arrays["tensor.head.weight"].mean(0)
    assert 0 < (layers[0] - mean).abs().max() < 0.01
    # What lies below it is the mean of each architecture: (5 a + 7 b)/12 for clients 0 and 2.
    name = "tensor.features.1.weight"
    a, b = given.of("0")[name], given.of("2")[name]
    assert torch.allclose(fused.by_client["0"][name], (5 * a + 7 * b) / 12, atol=1e-6)
    assert torch.equal(
        fused.by_client["1"]["tensor.features.0.weight"], given.of("1")["tensor.features.0.weight"]
    )


def test_fedet_server_needs_the_clients_width() -> None:
    with pytest.raises(InputError, match=r"strategy.model has feature width 9, but clients.models have 8"):
        begin("fedet", model={"name": "mlp", "width": 9})


# ---- what is declared


def test_kinds_are_what_they_declare() -> None:
    dims = Dims(0, 0, 3, 2, {"w": (2, 2)})
    one, tensors = np.array(7, np.int32), {"w": np.ones((2, 2), np.float32)}
    counts = np.array([1, 0, 6], np.int32)
    known = CountedWeights(tensors, one, counts).arrays()
    again = decode(encode(known, CountedWeights.expected_of(dims)), CountedWeights.expected_of(dims))
    assert again["counts"].tolist() == [1, 0, 6]
    assert again["tensor.w"].tolist() == [[1.0, 1.0], [1.0, 1.0]]
    shapes = {"features.0.weight": (4, 5)}
    assert sorted(GeneratorWeights.expected_of(dims, shapes)) == [
        "examples",
        "generator.features.0.weight",
        "known",
        "round",
        "tensor.w",
    ]


@pytest.mark.parametrize("name", ["feddf", "fedgen", "fedhkd", "fedet", "fedgkt"])
def test_they_are_refused_unless_allowed(name: str) -> None:
    world, _ = begin(name)
    with pytest.raises(InputError) as raised:
        checked_world(world.scenario.model_copy(update={"allow": ()}))
    what = "features" if name == "fedgkt" else "weights"
    assert f"strategy '{name}' shares {what}, which the scenario does not allow" in str(raised.value)
    assert f"write 'allow: [{what}]' to run it" in str(raised.value)


@pytest.mark.parametrize("name", ["feddf", "fedet"])
def test_the_server_needs_a_transfer_set(name: str, tmp_path: Path) -> None:
    world, _ = begin(name)
    data = world.scenario.data.model_copy(update={"transfer": None})
    with pytest.raises(InputError, match=f"strategy '{name}' needs a transfer set"):
        checked_world(world.scenario.model_copy(update={"data": data}))
    with pytest.raises(InputError, match=f"strategy '{name}' predicts the transfer set on the server"):
        submit(world.scenario, superlink="none", out=tmp_path)
    federation = replace(world.federation, transfer=None)
    setting = Setting(world.scenario, "run", {}, "", world.federation.input, federation)
    with pytest.raises(InputError, match="needs the transfer set's rows; it has none here"):
        setting.transfer_x()
