"""The losses that clients train with, against numbers worked out by hand."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedkt.client import Arrays, Holding, Steps, class_means, classification, transfer_rows
from fedkt.clients.class_logits import ClassLogitsClient, regularised
from fedkt.clients.logits import LogitsClient
from fedkt.clients.prototypes import PrototypesClient, pulled
from fedkt.clients.weights import WeightsClient, proximal
from fedkt.distill.prototype import nd, nearest, prototype_mse, supervised_contrastive
from fedkt.knowledge import Dims

LN2 = 0.693147


class Net:
    """A model whose features and logits are what they are, and whose head changes nothing."""

    def __init__(self, features: Tensor, logits: Tensor, params: Arrays | None = None) -> None:
        self.features, self.logits = features, logits
        self.params: Arrays = params or {}

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.features, self.logits

    def head(self, z: Tensor) -> Tensor:
        return z


def by_probability(*rows: tuple[float, ...], features: Tensor | None = None) -> Net:
    """A model that predicts these probabilities."""
    logits = torch.tensor(rows).log()
    return Net(torch.zeros(len(rows), 2) if features is None else features, logits)


def batch(*y: int) -> Arrays:
    return {"x": torch.zeros(len(y), 1), "y": torch.tensor(y)}


def holding(**settings: Any) -> Holding:
    """Four rows of three classes (none of class 2), six transfer rows."""
    steps = Steps(1, 2, "sgd", 0.1)
    x = torch.arange(8.0).view(4, 2)
    return Holding(
        client="0",
        seed=0,
        dims=Dims(6, 6, 3, 2),
        x=x,
        y=torch.tensor([0, 1, 1, 0]),
        transfer=torch.arange(12.0).view(6, 2),
        public=None,
        label_share=torch.tensor([0.5, 0.5, 0.0]),
        local=steps,
        distill=steps,
        settings=settings,
    )


def test_classification() -> None:
    # -ln .8;  -ln .2
    rows = classification(by_probability((0.8, 0.2), (0.8, 0.2)), batch(0, 1), {})
    assert rows.tolist() == pytest.approx([0.223144, 1.609438], abs=1e-6)


def test_class_means() -> None:
    rows = torch.tensor([[1.0, 2.0], [3.0, 5.0], [5.0, 6.0], [-1.0, 1.0]])
    means, counts = class_means(rows, torch.tensor([0, 2, 0, 0]), 4)
    # Class 0: (1 + 5 - 1)/3, (2 + 6 + 1)/3. Class 2: its only row. Classes 1 and 3: zeros.
    assert counts.tolist() == [3, 0, 1, 0]
    assert means[0].tolist() == pytest.approx([1.666667, 3.0], abs=1e-6)
    assert means[1:].tolist() == [[0.0, 0.0], [3.0, 5.0], [0.0, 0.0]]
    assert means.dtype == torch.float32


def test_class_means_of_no_rows() -> None:
    means, counts = class_means(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), 3)
    assert means.tolist() == [[0.0, 0.0]] * 3
    assert counts.tolist() == [0, 0, 0]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(0, 2**31))
def test_class_means_agree_with_a_mask(labels: list[int], seed: int) -> None:
    y = torch.tensor(labels)
    rows = torch.randn(len(y), 3, generator=torch.Generator().manual_seed(seed)).softmax(-1)
    means, counts = class_means(rows, y, 5)
    for k in range(5):
        mine = rows[y == k]
        assert counts[k] == len(mine)
        assert torch.allclose(means[k], mine.mean(0) if len(mine) else torch.zeros(3), atol=1e-6)


def test_fd_regularised() -> None:
    net = by_probability((0.8, 0.2), (0.8, 0.2), (0.8, 0.2))
    table = {"values": torch.tensor([[0.6, 0.4], [0.9, 0.1]]), "counts": torch.tensor([2, 0])}
    rows = regularised(net, batch(0, 1, 0), table, gamma=2.0)
    # Class 0: -ln .8 = .223144, and to the others: -(.6 ln .8 + .4 ln .2) = .133886 + .643775 = .777661.
    # .223144 + 2 * .777661.  Class 1 is not known to others: -ln .2 alone.
    assert rows.tolist() == pytest.approx([1.778467, 1.609438, 1.778467], abs=1e-5)
    assert regularised(net, batch(0, 1, 0), table, gamma=0.0).tolist() == pytest.approx(
        [0.223144, 1.609438, 0.223144], abs=1e-6
    )


def test_fd_before_the_first_teacher_is_classification() -> None:
    phase = ClassLogitsClient(holding(gamma=1.0)).train(None)
    assert phase.private
    net = by_probability((0.8, 0.1, 0.1))
    assert torch.equal(phase.loss(net, batch(1), phase.constants), classification(net, batch(1), {}))


def test_fd_sends_mean_probabilities() -> None:
    client = ClassLogitsClient(holding(gamma=1.0))
    logits = torch.tensor([[0.5, 0.25, 0.25], [0.2, 0.6, 0.2], [0.4, 0.4, 0.2], [0.7, 0.05, 0.25]]).log()
    sent = client.extract(torch.zeros(4, 2), logits, {}).arrays()
    # Rows 0 and 3 are of class 0, rows 1 and 2 of class 1, none of class 2.
    assert sent["values"].tolist() == [
        pytest.approx([0.6, 0.15, 0.25]),
        pytest.approx([0.3, 0.5, 0.2]),
        [0.0, 0.0, 0.0],
    ]
    assert sent["counts"].tolist() == [2, 2, 0]
    assert sent["counts"].dtype == "int32"


def test_fedproto_pulled() -> None:
    features = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    net = by_probability((0.5, 0.5), (0.5, 0.5), features=features)
    constants = {"values": torch.tensor([[0.0, 2.0], [9.0, 9.0]]), "counts": torch.tensor([3, 0])}
    # ln 2 + 3 * ((1 - 0)^2 + (2 - 2)^2)/2 = .693147 + 1.5;  class 1 is unknown: ln 2
    assert pulled(net, batch(0, 1), constants, weight=3.0, loss=prototype_mse).tolist() == pytest.approx(
        [LN2 + 1.5, LN2], abs=1e-6
    )


def test_fedproto_before_the_first_teacher_is_classification() -> None:
    phase = PrototypesClient(holding(weight=1.0, loss="nd")).train(None)
    assert phase.private
    net = by_probability((0.8, 0.1, 0.1), features=torch.ones(1, 2))
    assert torch.equal(phase.loss(net, batch(1), phase.constants), classification(net, batch(1), {}))


def test_fedproto_nearest() -> None:
    prototypes = torch.tensor([[3.0, 4.0], [0.0, 1.0], [0.0, 0.0]])
    known = torch.tensor([True, True, False])
    scores = nearest(torch.tensor([[0.0, 0.0], [3.0, 3.0]]), prototypes, known)
    # Distances to (3, 4) and (0, 1): 5 and 1;  1 and sqrt(9 + 4). The unknown class is last, however near.
    lowest = torch.finfo(torch.float32).min
    assert scores[0].tolist() == pytest.approx([-5.0, -1.0, lowest])
    assert scores[1].tolist() == pytest.approx([-1.0, -3.605551, lowest])
    assert scores.argmax(-1).tolist() == [1, 0]
    teacher = {"values": prototypes, "counts": known.int()}
    more = PrototypesClient(holding(weight=1.0)).predictors(torch.zeros(1, 2), torch.zeros(1, 3), teacher)
    assert more["prototype"].tolist() == scores[:1].tolist()


def test_fedprox_proximal() -> None:
    params = {"w": torch.tensor([[1.0, 2.0]]), "b": torch.tensor([0.0])}
    server = {"w": torch.tensor([[0.0, 0.0]]), "b": torch.tensor([3.0])}
    net = Net(torch.zeros(2, 2), torch.tensor([[0.5, 0.5], [0.8, 0.2]]).log(), params)
    # |w - w_server|^2 = 1 + 4 + 9 = 14, so each row has .1/2 * 14 = .7 more than ln 2 and -ln .2.
    assert proximal(net, batch(0, 1), server, mu=0.1).tolist() == pytest.approx(
        [1.393147, 2.309438], abs=1e-6
    )
    assert proximal(net, batch(0, 1), {}, mu=0.1).tolist() == pytest.approx([LN2, 1.609438], abs=1e-6)
    # Its gradient is mu (w - w_server).
    params["b"].requires_grad_()
    (gradient,) = torch.autograd.grad(proximal(net, batch(0, 1), server, mu=0.1).mean(), params["b"])
    assert gradient.tolist() == pytest.approx([-0.3])


def test_fedavg_takes_the_weights_over_and_has_no_anchor() -> None:
    teacher = {"tensor.w": torch.ones(2), "examples": torch.tensor(7)}
    client = WeightsClient(holding(trains=True, proximal=0.0))
    assert list(client.adopt(teacher)) == ["w"]
    phase = client.train(teacher)
    assert phase is not None
    assert not phase.constants
    anchored = WeightsClient(holding(trains=True, proximal=0.1)).train(teacher)
    assert anchored is not None
    assert list(anchored.constants) == ["w"]
    assert WeightsClient(holding(trains=False, proximal=0.0)).train(teacher) is None


def logits_client(form: str, **more: Any) -> LogitsClient:
    return LogitsClient(holding(form=form, loss="kl", **{"temperature": 1.0, **more}))


def test_logits_client_sends_what_it_is_told_to() -> None:
    logits = torch.tensor([[0.0, 2.0, 0.0]])
    raw = logits_client("logits").extract(torch.zeros(1, 2), logits, {}).arrays()
    assert {name: array.tolist() for name, array in raw.items()} == {"values": [[0.0, 2.0, 0.0]]}
    # At T = 2: exp(0), exp(1), exp(0) = 1, 2.718282, 1, together 4.718282
    soft = logits_client("probabilities", temperature=2.0, label_share=True)
    soft.inputs(torch.tensor([0]))
    sent = soft.extract(torch.zeros(1, 2), logits, {}).arrays()
    assert sent["values"][0].tolist() == pytest.approx([0.211942, 0.576117, 0.211942], abs=1e-6)
    assert sent["label_share"].tolist() == [0.5, 0.5, 0.0]


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_logits_client_digests_probabilities(temperature: float) -> None:
    client = logits_client("probabilities", temperature=temperature)
    teacher = {"values": torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.2, 0.6]]), "rows": torch.tensor([1, 4])}
    phase = client.digest(teacher)
    assert not phase.private
    # Rows 1 and 4 of the transfer set.
    assert phase.rows["x"].tolist() == [[2.0, 3.0], [8.0, 9.0]]
    # A student that predicts the same at this temperature has nothing to learn.
    net = Net(torch.zeros(2, 2), temperature * teacher["values"].log())
    assert phase.loss(net, phase.rows, {}).tolist() == pytest.approx([0.0, 0.0], abs=1e-6)
    # KL((.8, .1, .1) || (1/3, 1/3, 1/3)) = ln 3 - .639032 = .459580, times T^2
    uniform = Net(torch.zeros(2, 2), torch.zeros(2, 3))
    assert phase.loss(uniform, phase.rows, {})[0].item() == pytest.approx(temperature**2 * 0.459580, abs=1e-5)


def test_transfer_rows() -> None:
    held = holding()
    assert transfer_rows(held, None) is held.transfer
    assert transfer_rows(held, torch.tensor([5, 0], dtype=torch.int32)).tolist() == [[10.0, 11.0], [0.0, 1.0]]
    with pytest.raises(ValueError, match="transfer set"):
        transfer_rows(SimpleNamespace(transfer=None), None)  # type: ignore[arg-type]


def test_losses_have_one_value_per_row() -> None:
    """A privacy mode clips rows, so no loss may mix them."""
    table = {"values": torch.full((2, 2), 0.5), "counts": torch.ones(2)}
    losses: list[Any] = [
        (classification, {}),
        (partial(regularised, gamma=1.0), table),
        (partial(pulled, weight=1.0, loss=nd), table),
        (partial(pulled, weight=1.0, loss=supervised_contrastive), table),
        (partial(proximal, mu=0.1), {}),
    ]
    for loss, constants in losses:
        both = loss(by_probability((0.8, 0.2), (0.3, 0.7)), batch(0, 1), constants)
        alone = loss(by_probability((0.3, 0.7)), batch(1), constants)
        assert both.shape == (2,)
        assert torch.allclose(both[1:], alone)
