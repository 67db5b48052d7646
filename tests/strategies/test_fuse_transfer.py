"""What CFD, Selective-FD and FedPCL make of contributions, against numbers worked out by hand."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from fedkt.client import Fit, Holding, Steps
from fedkt.client.density_ratio import KuLSIF, familiar
from fedkt.clients.contrastive import ContrastiveClient, contrast
from fedkt.clients.logits import LogitsClient
from fedkt.clients.quantised import QuantisedClient
from fedkt.data.sets.dataset import InputSpec
from fedkt.engine.checks.checked import checked_world
from fedkt.errors import InputError
from fedkt.knowledge import Dims, Prototypes, Quantised
from fedkt.knowledge.quantise import difference, probabilities, quantise, restore
from fedkt.models.net import projection
from fedkt.scenario import from_dict
from fedkt.strategies.cfd import CFD, CFDConfig
from fedkt.strategies.fedpcl import FedPCL, FedPCLConfig
from fedkt.strategies.selective_fd import SelectiveFD, SelectiveFDConfig, clear
from fedkt.strategy import Contributions, Setting

CLASSES, WIDTH, ROWS = 3, 2, 4
X = torch.arange(8.0).view(ROWS, 2)


def begin(kind: Any, config: Any, clients: int = 2) -> Any:
    described = from_dict(
        {
            "name": "transfer",
            "data": {"transfer": {"size": ROWS}},
            "clients": {"distill": {"epochs": 0}},
            "strategy": {"name": "cfd"},
        }
    )
    dims = {str(i): Dims(ROWS, ROWS, CLASSES, WIDTH, clients=clients) for i in range(clients)}
    federation: Any = SimpleNamespace(transfer=X, server_tensors=lambda _: (X, None))
    return kind(config, Setting(described, "run", dims, "", InputSpec("tabular", (2,)), federation))


def holding(**settings: Any) -> Holding:
    steps = Steps(1, 2, "sgd", 0.1)
    names = {
        "features.1.weight": (4, 2),
        "features.3.weight": (2, 4),
        "features.3.bias": (2,),
        "head.bias": (3,),
    }
    return Holding(
        client="0",
        seed=0,
        dims=Dims(ROWS, ROWS, CLASSES, WIDTH, names, 2),
        x=X,
        y=torch.tensor([0, 1, 1, 0]),
        transfer=X,
        public=(X + 1, torch.tensor([2, 1, 0, 2])),
        label_share=torch.tensor([0.5, 0.5, 0.0]),
        local=steps,
        distill=steps,
        settings={"loss": "kl", "temperature": 1.0, **settings},
    )


# ---- Quantisation


def test_one_bit_is_the_most_probable_class() -> None:
    p = torch.tensor([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]])
    assert quantise(p, 1).tolist() == [1, 0]  # of equal ones the first
    assert probabilities(quantise(p, 1), 1, 3).tolist() == [[0, 1, 0], [1, 0, 0]]


def test_two_bits_are_three_units() -> None:
    # Times 3: (1.8, .9, .3) is (1, 0, 0) and remainders (.8, .9, .3), so two units go to the first two.
    # (.99, .99, 1.02): (0, 0, 1), remainders (.99, .99, .02), two are left. (3, 0, 0) needs no rounding.
    p = torch.tensor([[0.6, 0.3, 0.1], [0.33, 0.33, 0.34], [1.0, 0.0, 0.0]])
    assert quantise(p, 2).tolist() == [[2, 1, 0], [1, 1, 1], [3, 0, 0]]
    assert probabilities(quantise(p, 2), 2, 3)[0].tolist() == pytest.approx([2 / 3, 1 / 3, 0])


@pytest.mark.parametrize("bits", [1, 2, 8])
def test_units_add_up_and_changes_can_be_undone(bits: int) -> None:
    torch.manual_seed(0)
    a, b = torch.rand(2, 50, 7).softmax(-1)
    one, other = quantise(a, bits), quantise(b, bits)
    assert torch.allclose(probabilities(one, bits, 7).sum(-1), torch.ones(50))
    assert (probabilities(one, bits, 7) - a).abs().max() < (1 if bits == 1 else 1 / (2**bits - 1))
    changes = difference(one, other, bits, 7)
    assert changes.min() >= 0
    assert torch.equal(restore(changes, other, bits, 7), one)
    assert torch.equal(changes == 0, one == other)


# ---- CFD


def told(names: str, values: Tensor, base: list[int]) -> Contributions:
    return Contributions(tuple(names), {"values": values.to(torch.uint8), "base": torch.tensor(base)})


def test_cfd_reads_labels_and_changes() -> None:
    strategy = begin(CFD, CFDConfig(), clients=3)
    strategy.teachers.common = {
        "values": torch.tensor([0, 1, 2, 2], dtype=torch.uint8),
        "base": torch.tensor(4),
    }
    # Whole labels; changes of round 4's (0, 1, 2, 2): plus (0, 0, 1, 2) modulo 3; those of an older teacher.
    sent = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 2], [0, 0, 0, 0]])
    read = strategy.decode(told("012", sent, [0, 4, 3]))
    assert read.clients == ("0", "1")
    assert read.values.argmax(-1).tolist() == [[0, 0, 1, 1], [0, 1, 0, 1]]
    assert read.values.sum(-1).tolist() == [[1.0] * 4] * 2


def test_cfd_sends_what_its_own_model_says() -> None:
    strategy = begin(CFD, CFDConfig())
    strategy.course.round = 7
    says = strategy.student.predict(X)
    fused = strategy.fuse(
        Contributions(("0", "1"), {"values": torch.eye(3)[torch.tensor([[0, 1, 2, 0]] * 2)]})
    )
    # No epoch of distillation here, so it is as it was at the beginning.
    assert fused.arrays["values"].tolist() == says.argmax(-1).tolist()
    assert fused.arrays["values"].dtype == torch.uint8
    assert int(fused.arrays["base"]) == 7
    assert torch.allclose(fused.beliefs, says.softmax(-1))
    agree = says.argmax(-1) == torch.tensor([0, 1, 2, 0])
    assert fused.report["agreement"] == pytest.approx(agree.float().mean().item())
    assert strategy.server_lesson(fused) is None


def test_cfd_client_sends_changes_of_the_teacher_that_it_holds() -> None:
    client = QuantisedClient(holding(bits_up=1, bits_down=1, delta=True))
    logits = torch.tensor([[2.0, 0, 0], [0, 0, 1.0], [0, 3.0, 0], [0, 0, 1.0]])

    def sent(teacher: dict[str, Tensor] | None) -> tuple[list[int], int]:
        client.train(teacher)
        knowledge = client.extract(torch.empty(4, 2), logits, {})
        assert isinstance(knowledge, Quantised)
        return knowledge.values.tolist(), int(knowledge.base)

    assert sent(None) == ([0, 2, 1, 2], 0)
    teacher = {
        "values": torch.tensor([0, 1, 1, 2], dtype=torch.uint8),
        "base": torch.tensor(3, dtype=torch.int32),
    }
    assert sent(teacher) == ([0, 1, 0, 0], 3)  # 2 - 1 in the second row
    # Teachers about some rows are no base.
    assert sent(teacher | {"rows": torch.arange(4)}) == ([0, 2, 1, 2], 0)
    phase = client.digest(teacher)
    assert phase.rows["target"].softmax(-1).argmax(-1).tolist() == [0, 1, 1, 2]


# ---- Selective-FD


def test_selective_mean_of_those_who_know_the_row() -> None:
    nothing = [0.0, 0.0]
    values = torch.tensor([[[0.8, 0.2], nothing, [0.7, 0.3]], [[0.4, 0.6], nothing, nothing]])
    contributions = Contributions(("0", "1"), {"values": values})
    fused = begin(SelectiveFD, SelectiveFDConfig()).fuse(contributions)
    assert fused.arrays["values"].flatten().tolist() == pytest.approx([0.6, 0.4, 0, 0, 0.7, 0.3])
    assert fused.report["kept"] == pytest.approx([2 / 3, 1 / 3])
    assert fused.report["taught"] == pytest.approx(2 / 3)
    # |onehot - (.6, .4)|_1 = .8 and |onehot - (.7, .3)|_1 = .6.
    fused = begin(SelectiveFD, SelectiveFDConfig(tau=0.7)).fuse(contributions)
    assert fused.arrays["values"].flatten().tolist() == pytest.approx([0, 0, 0, 0, 0.7, 0.3])
    # At tau itself a row goes: (.5, .5) has 1.
    assert clear(torch.tensor([[0.5, 0.5], [0.75, 0.25]]), 1.0).tolist() == [[0, 0], [0.75, 0.25]]


def test_kulsif_of_one_row_each() -> None:
    # Both at 0: every kernel is 1. With ridge l: alpha = -1/(l (1 + l)), so the ratio is 1/l - 1/(l (1 + l))
    # = 1/(1 + l): 0.8 for l = 1/4.
    zero = torch.zeros(1, 1, dtype=torch.float64)
    ratio = KuLSIF(zero, zero, 1.0, 0.25)
    assert ratio.alpha.tolist() == pytest.approx([-3.2])
    assert ratio(zero).tolist() == pytest.approx([0.8])
    # Far from both there is no evidence; at distance sqrt(2 ln 2) every kernel is one half.
    away = torch.tensor([[100.0], [1.17741]], dtype=torch.float64)
    assert ratio(away).tolist() == pytest.approx([0.0, 0.4], abs=1e-5)


def test_kulsif_solves_its_equation() -> None:
    """The gradient of 1/2 mean w(noise)² - mean w(own) + l/2 |w|² is zero in the kernel's span."""
    torch.manual_seed(0)
    own, noise = torch.randn(5, 2, dtype=torch.float64), torch.randn(6, 2, dtype=torch.float64)
    ratio = KuLSIF(own, noise, 0.8, 0.3)
    # w = sum_i a_i k(noise_i) + b sum_j k(own_j): stationary where w(noise_i)/n + l a_i = 0 and b = 1/(m l).
    assert torch.allclose(ratio(noise) / 6 + 0.3 * ratio.alpha, torch.zeros(6, dtype=torch.float64))
    assert ratio.weight == pytest.approx(1 / (5 * 0.3))


def test_rows_unlike_ones_own_are_left_out() -> None:
    torch.manual_seed(0)
    own = torch.randn(60, 2) * 0.1
    x = torch.tensor([[0.0, 0.0], [0.25, -0.2]])
    one_class = torch.zeros(60, dtype=torch.int64)
    known = familiar(x, own, one_class, 0, "0", width=0.1, noise=100, quantile=0.25)
    assert known.tolist() == [True, False]
    # Each class apart: a few rows far from most others are as familiar as these.
    few = torch.cat([own[:54], own[54:] + torch.tensor([5.0, 0.0])])
    y = torch.tensor([0] * 54 + [1] * 6)
    between = torch.tensor([[0.0, 0.0], [5.0, 0.0], [2.5, 0.0]])
    known = familiar(between, few, y, 0, "0", width=0.1, noise=100, quantile=0.25)
    assert known.tolist() == [True, True, False]
    selector = {"width": 5.0, "noise": 50, "quantile": 0.25}
    held = holding(form="probabilities", selector=selector)
    client = LogitsClient(replace(held, transfer=X + 1000))
    client.inputs(None)
    # No transfer row is anywhere near its own.
    sent = client.extract(torch.empty(4, 2), torch.zeros(4, 3), {}).arrays()["values"]
    assert sent.tolist() == [[0.0] * 3] * 4
    teacher = {"values": torch.tensor([[0.2, 0.3, 0.5], [0, 0, 0], [1, 0, 0], [0, 0, 0]])}
    phase = client.digest(teacher)
    assert torch.equal(phase.rows["x"], X[[0, 2]] + 1000)
    assert phase.rows["target"].softmax(-1)[0].tolist() == pytest.approx([0.2, 0.3, 0.5])


# ---- FedPCL


def test_fedpcl_fills_what_is_lacking() -> None:
    values = torch.tensor([[[1.0, 0], [2.0, 2.0], [0, 0]], [[3.0, 2.0], [0, 0], [0, 0]]])
    counts = torch.tensor([[4, 1, 0], [2, 0, 0]], dtype=torch.int32)
    fused = begin(FedPCL, FedPCLConfig(), clients=3).fuse(
        Contributions(("2", "0"), {"values": values, "counts": counts})
    )
    # By the clients' own order; client 1 was not there.
    assert fused.arrays["counts"].tolist() == [[2, 0, 0], [0, 0, 0], [4, 1, 0]]
    assert fused.arrays["values"][0].tolist() == [[3.0, 2.0], [2.0, 2.0], [0.0, 0.0]]
    assert fused.arrays["values"][1].tolist() == [[0.0, 0.0]] * 3


def test_fedpcl_contrast() -> None:
    """Two sets of prototypes, features along the first axis, temperature 1."""
    sets = torch.tensor(
        [[[1.0, 0], [0, 1.0], [0, 0]], [[1.0, 0], [-1.0, 0], [0, 0]], [[9.0, 9], [9, 9], [9, 9]]]
    )
    counts = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 0, 0]])
    batch = {"x": torch.zeros(2, 1), "y": torch.tensor([0, 1])}
    net: Any = lambda x: (torch.tensor([[2.0, 0.0], [0.0, 5.0]]), torch.zeros(2, 3))  # noqa: E731
    found = contrast(net, batch, {"values": sets, "counts": counts}, tau=1.0, hard=None)
    # Cosines of the first row: (1, 0) and (1, -1): ln(1 + e^-1) + ln(1 + e^-2) = .31326 + .12693.
    # Of the second row, class 1: (0, 1): .31326, and (0, 0): ln 2. Nobody holds class 2, the third set none.
    assert found.tolist() == pytest.approx([0.44019, 1.00641], abs=1e-4)


def test_fedpcl_client_trains_its_projection_alone() -> None:
    client = ContrastiveClient(holding(pretrain=7, tau=0.07, hard=None, negatives=0))
    before: Fit = client.prepare()
    assert before.steps.epochs == 7
    assert not before.private
    assert torch.equal(before.rows["x"], X + 1)
    assert client.train(None) is None
    teacher = {"values": torch.zeros(2, 3, 2), "counts": torch.ones(2, 3, dtype=torch.int32)}
    phase = client.train(teacher)
    assert phase is not None
    assert phase.only == {"features.3.weight", "features.3.bias"}
    sent = client.extract(torch.tensor([[1.0, 0], [0, 2], [0, 4], [3.0, 0]]), torch.zeros(4, 3), {})
    assert isinstance(sent, Prototypes)
    assert sent.values.tolist() == [[2.0, 0.0], [0.0, 3.0], [0.0, 0.0]]
    # Nearest mean prototype: client 1 holds class 0 at (4, 0), client 0 at (2, 0), so (3, 0).
    held = {"values": torch.tensor([[[2.0, 0], [0, 3], [0, 0]], [[4.0, 0], [0, 3], [0, 0]]])}
    held["counts"] = torch.tensor([[1, 1, 0], [1, 0, 0]])
    scores = client.predictors(torch.tensor([[3.0, 0.0]]), torch.zeros(1, 3), held)["prototype"]
    assert scores[0, :2].tolist() == pytest.approx([0.0, -(18**0.5)], abs=1e-3)
    assert scores[0].argmin() == 2


def test_the_projection_is_the_last_layer_of_features() -> None:
    assert projection(["features.0.weight", "features.2.body.1.bias", "head.weight"]) == {
        "features.2.body.1.bias"
    }
    assert projection(["head.weight"]) == frozenset()


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no extractor": (
        {"strategy": {"name": "fedpcl"}, "data": {"public": {"size": 50}}},
        "strategy 'fedpcl' cannot use ('mlp', {}), since its features are one layer",
    ),
    "no public set": (
        {"strategy": {"name": "fedpcl"}, "clients": {"models": ["cnn"]}},
        "strategy 'fedpcl' needs labelled public rows, but data.public is not set",
    ),
    "no bits": ({"strategy": {"name": "cfd", "bits_up": 0}}, "strategy.bits_up is 0"),
    "tau": ({"strategy": {"name": "selective_fd", "tau": 2.5}}, "strategy.tau is 2.5"),
    "clusters": (
        {"strategy": {"name": "comet", "clusters": 11}},
        "strategy.clusters is 11, but there are 10 clients",
    ),
}


@pytest.mark.parametrize("case", list(BAD))
def test_bad_settings_are_one_sentence(case: str) -> None:
    described, words = BAD[case]
    data = {"transfer": {"size": 50}, "partition": {"samples_per_client": 20}, **described.get("data", {})}
    with pytest.raises(InputError) as raised:
        checked_world(from_dict({"name": "bad", **described, "data": data}))
    assert len(raised.value.problems) == 1, raised.value.problems
    assert words in raised.value.problems[0]
