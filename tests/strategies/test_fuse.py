"""What each strategy makes of contributions, against numbers worked out by hand and laws that must hold."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

import fedkt
from fedkt.distill.embedding import relative
from fedkt.engine.checks.checked import checked_world
from fedkt.errors import InputError
from fedkt.scenario import from_dict
from fedkt.strategies.dsfl import DSFL, DSFLConfig, era
from fedkt.strategies.fd import FD, FDConfig
from fedkt.strategies.fedmd import FedMD, FedMDConfig
from fedkt.strategies.fedproto import FedProto, FedProtoConfig
from fedkt.strategies.knfu import KnFu, KnFuConfig, effectiveness
from fedkt.strategies.local import Local
from fedkt.strategy import Contributions, Fused, StrategyConfig, client_order, mix, stack
from fedkt.strategy.averaging import WeightAveraging, weighted_mean
from fedkt.strategy.choosing.utilities.doubt import entropy
from fedkt.strategy.choosing.utilities.margin import margin
from fedkt.strategy.fusing.fusion import MOST_WEIGHED, leave_one_out, weights_report


def fuse(kind: Any, config: Any, **held: Tensor) -> Fused:
    """Fuse contributions of clients 0, 1, ... by a strategy that knows nothing but its settings."""
    strategy = kind.__new__(kind)
    strategy.config = config
    clients = tuple(str(i) for i in range(len(next(iter(held.values())))))
    fused: Fused = strategy.fuse(Contributions(clients, held))
    return fused


def distributions(clients: int, classes: int, *, least: float = 1e-3) -> st.SearchStrategy[Tensor]:
    """Rows [clients, classes] of positive numbers that add up to one."""
    weights = arrays(np.float64, (clients, classes), elements=st.floats(least, 1.0))
    return weights.map(lambda w: torch.from_numpy(w / w.sum(-1, keepdims=True)))


some_distributions = st.tuples(st.integers(1, 5), st.integers(2, 6)).flatmap(lambda n: distributions(*n))
betas = st.floats(0, 1e4)
few = settings(max_examples=30, deadline=None)


def apart(nats: float) -> Tensor:
    """Two EPDs of two classes, the first uniform, with KL(first || second) = ``nats``.

    KL((1/2, 1/2) || (1/2 + s, 1/2 - s)) = -1/2 ln(1 - 4 s^2), so s = 1/2 sqrt(1 - exp(-2 nats)).
    """
    s = 0.5 * math.sqrt(1 - math.exp(-2 * nats))
    return torch.tensor([[0.5, 0.5], [0.5 + s, 0.5 - s]], dtype=torch.float64)


# ---- FedMD


def test_fedmd_is_the_mean() -> None:
    logits = torch.tensor([[[1.0, 2.0], [3.0, -4.0]], [[5.0, 0.0], [-1.0, 1.0]]])
    # (1 + 5)/2, (2 + 0)/2;  (3 - 1)/2, (-4 + 1)/2
    expected = [[3.0, 1.0], [1.0, -1.5]]
    fused = fuse(FedMD, FedMDConfig(), values=logits)
    assert fused.arrays["values"].tolist() == expected
    assert not fused.personal


# ---- DS-FL


def test_dsfl_sharpens_the_mean() -> None:
    # The mean of both is (.5, .3, .2); divided by T = .1: (5, 3, 2).
    # exp: 148.4132, 20.0855, 7.3891, together 175.8878; so .84379, .11420, .04201.
    values = torch.tensor([[[0.6, 0.2, 0.2]], [[0.4, 0.4, 0.2]]])
    expected = pytest.approx([0.84379, 0.11420, 0.04201], abs=1e-5)
    assert era(values.mean(0), 0.1)[0].tolist() == expected
    assert fuse(DSFL, DSFLConfig(), values=values).arrays["values"][0].tolist() == expected


def test_dsfl_at_one_flattens() -> None:
    # exp(.5), exp(.3), exp(.2) = 1.64872, 1.34986, 1.22140, together 4.21998
    assert era(torch.tensor([[0.5, 0.3, 0.2]]), 1.0)[0].tolist() == pytest.approx(
        [0.39069, 0.31987, 0.28943], abs=1e-5
    )


@few
@given(some_distributions, st.floats(0.02, 10))
def test_dsfl_keeps_the_order_and_stays_within_its_bound(values: Tensor, temperature: float) -> None:
    """Probabilities lie in [0, 1], so no two classes differ by more than exp(1/T)."""
    mean, sharpened = values.mean(0), era(values.mean(0), temperature)
    assert sharpened.sum().item() == pytest.approx(1)
    assert (sharpened[mean.argsort()].diff() >= -1e-12).all()
    assert (sharpened.max().log() - sharpened.min().log()).item() <= 1 / temperature + 1e-9


# ---- FD


def test_fd_leaves_one_out() -> None:
    """Class 0 is held by all three, 1 by the first and second, 2 by the first alone, 3 by nobody."""
    nothing = [0.0, 0.0, 0.0, 0.0]
    values = torch.tensor(
        [
            [[0.6, 0.4, 0.0, 0.0], [0.1, 0.9, 0.0, 0.0], [0.2, 0.0, 0.8, 0.0], nothing],
            [[0.8, 0.0, 0.2, 0.0], [0.3, 0.5, 0.2, 0.0], nothing, nothing],
            [[0.4, 0.2, 0.2, 0.2], nothing, nothing, nothing],
        ]
    )
    counts = torch.tensor([[5, 1, 7, 0], [2, 9, 0, 0], [4, 0, 0, 0]], dtype=torch.int32)
    mean, others = leave_one_out(values, counts)
    assert others.dtype == torch.int32
    # How many *others* hold the class: class 2 is the first's alone, so no other for it and one for the rest.
    assert others.tolist() == [[2, 1, 0, 0], [2, 1, 1, 0], [2, 2, 1, 0]]
    # Class 0, first client: ((.8 + .4)/2, (0 + .2)/2, (.2 + .2)/2, (0 + .2)/2). Counts are no weights.
    assert mean[0, 0].tolist() == pytest.approx([0.6, 0.1, 0.2, 0.1])
    assert mean[1, 0].tolist() == pytest.approx([0.5, 0.3, 0.1, 0.1])
    assert mean[2, 0].tolist() == pytest.approx([0.7, 0.2, 0.1, 0.0])
    # Class 1: the two holders get each other's, the third, ((.1 + .3)/2, (.9 + .5)/2, .2/2, 0).
    assert mean[0, 1].tolist() == pytest.approx([0.3, 0.5, 0.2, 0.0])
    assert mean[1, 1].tolist() == pytest.approx([0.1, 0.9, 0.0, 0.0])
    assert mean[2, 1].tolist() == pytest.approx([0.2, 0.7, 0.1, 0.0])
    # Class 2: nothing for its only holder, its row for the others. Class 3: nothing for anybody.
    assert mean[0, 2].tolist() == nothing
    assert mean[1, 2].tolist() == mean[2, 2].tolist() == pytest.approx([0.2, 0.0, 0.8, 0.0])
    assert mean[:, 3].abs().max() == 0
    fused = fuse(FD, FDConfig(), values=values, counts=counts)
    assert fused.personal
    assert torch.equal(fused.arrays["values"], mean)
    assert torch.equal(fused.arrays["counts"], others)


def test_fd_of_one_client_teaches_nothing() -> None:
    mean, others = leave_one_out(torch.full((1, 2, 2), 0.5), torch.ones(1, 2, dtype=torch.int32))
    assert mean.abs().max() == 0
    assert others.abs().max() == 0


@few
@given(st.data())
def test_fd_agrees_with_a_loop(data: st.DataObject) -> None:
    clients, classes = data.draw(st.integers(1, 5)), data.draw(st.integers(2, 4))
    rows = data.draw(distributions(clients * classes, classes)).float().view(clients, classes, classes)
    drawn = data.draw(arrays(np.int32, (clients, classes), elements=st.integers(0, 3)))
    counts = torch.from_numpy(drawn)
    values = rows * (counts > 0).unsqueeze(-1)
    mean, others = leave_one_out(values, counts)
    for n in range(clients):
        for k in range(classes):
            held = [values[m, k] for m in range(clients) if m != n and counts[m, k] > 0]
            assert others[n, k] == len(held)
            expected = torch.stack(held).mean(0) if held else torch.zeros(classes)
            assert torch.allclose(mean[n, k], expected, atol=1e-6)
            # It passes the receiver's check: probabilities, or zeros where nobody else holds the class.
            assert mean[n, k].sum().item() == pytest.approx(1.0 if held else 0.0, abs=1e-5)
            assert mean[n, k].min() >= 0


# ---- FedProto

PROTOTYPES = torch.tensor([[[2.0, 4.0], [0.0, 0.0], [0.0, 0.0]], [[6.0, 0.0], [1.0, -1.0], [0.0, 0.0]]])
COUNTS = torch.tensor([[3, 0, 0], [1, 5, 0]], dtype=torch.int32)


def test_fedproto_weighted_by_rows() -> None:
    # Class 0: (3*2 + 1*6)/4, (3*4 + 1*0)/4. Class 1: its only holder's. Class 2: unknown, zeros.
    expected = [[3.0, 3.0], [1.0, -1.0], [0.0, 0.0]]
    fused = fuse(FedProto, FedProtoConfig(), values=PROTOTYPES, counts=COUNTS)
    assert fused.arrays["values"].tolist() == expected
    # Not rows but the number of clients behind a prototype is told on.
    assert fused.arrays["counts"].tolist() == [2, 1, 0]
    assert fused.arrays["counts"].dtype == torch.int32


def test_fedproto_unweighted() -> None:
    # Class 0: (2 + 6)/2, (4 + 0)/2; the others as above.
    expected = [[4.0, 2.0], [1.0, -1.0], [0.0, 0.0]]
    fused = fuse(FedProto, FedProtoConfig(weighted=False), values=PROTOTYPES, counts=COUNTS)
    assert fused.arrays["values"].tolist() == expected


@pytest.mark.parametrize("weighted", [True, False])
@few
@given(drawn=arrays(np.float32, (3, 2, 2), elements=st.floats(-100, 100, width=32)))
def test_fedproto_stays_between_its_holders(weighted: bool, drawn: NDArray[np.float32]) -> None:
    values = torch.from_numpy(drawn)
    # The last client's rows of class 1 must not be read.
    counts = torch.tensor([[1, 4], [7, 1], [2, 0]])
    mean = fuse(FedProto, FedProtoConfig(weighted=weighted), values=values, counts=counts).arrays["values"]
    for k, holders in ((0, values[:, 0]), (1, values[:2, 1])):
        assert (mean[k] >= holders.min(0).values - 1e-3).all()
        assert (mean[k] <= holders.max(0).values + 1e-3).all()


# ---- averaging of weights


def test_weighted_mean() -> None:
    held = {
        "tensor.w": torch.tensor([[[1.0, 2.0]], [[5.0, 6.0]]]),
        "tensor.b": torch.tensor([8.0, 0.0]),
        "examples": torch.tensor([1, 3], dtype=torch.int32),
    }
    # (1*1 + 3*5)/4, (1*2 + 3*6)/4;  (1*8 + 3*0)/4
    mean = weighted_mean(held)
    assert {name: tensor.tolist() for name, tensor in mean.items()} == {
        "tensor.w": [[4.0, 5.0]],
        "tensor.b": 2.0,
    }
    assert {tensor.dtype for tensor in mean.values()} == {torch.float32}
    strategy = WeightAveraging.__new__(WeightAveraging)
    strategy._of = {"0": ("mlp", {}), "1": ("mlp", {})}
    fused = strategy.fuse(Contributions(("0", "1"), held))
    assert fused.arrays["tensor.w"].tolist() == [[4.0, 5.0]]
    assert fused.arrays["examples"].item() == 4
    assert fused.arrays["examples"].dtype == torch.int32


def test_each_architecture_has_its_own_mean() -> None:
    wide, narrow = ("mlp", {"width": 2}), ("mlp", {"width": 1})
    strategy = WeightAveraging.__new__(WeightAveraging)
    strategy._of = {"0": wide, "1": narrow, "2": wide, "3": narrow}

    def sent(*w: float, examples: int) -> dict[str, Tensor]:
        return {"tensor.w": torch.tensor(w), "examples": torch.tensor(examples, dtype=torch.int32)}

    held = {"2": sent(2.0, 0.0, examples=3), "1": sent(7.0, examples=9), "0": sent(6.0, 4.0, examples=1)}
    contributions = stack(["2", "1", "0"], held, None)
    assert list(contributions.arrays) == ["examples"]
    assert contributions.of("1")["tensor.w"].tolist() == [7.0]
    assert contributions.among(["0", "2"]).arrays["tensor.w"].tolist() == [[6.0, 4.0], [2.0, 0.0]]
    fused = strategy.fuse(contributions)
    # Clients 0 and 2: (1*6 + 3*2)/4, (1*4 + 3*0)/4. Client 1's is taught to 3 as well, who was away.
    assert {c: t["tensor.w"].tolist() for c, t in fused.by_client.items()} == {
        "0": [3.0, 1.0],
        "2": [3.0, 1.0],
        "1": [7.0],
        "3": [7.0],
    }
    assert [fused.by_client[c]["examples"].item() for c in "0123"] == [4, 9, 4, 9]


# ---- KnFu


def test_weights_between_many_clients_are_summarised() -> None:
    weights = torch.tensor([[0.5, 0.5], [0.25, 0.75]])
    assert weights_report(("a", "b"), weights) == {
        "clients": ["a", "b"],
        "weights": [[0.5, 0.5], [0.25, 0.75]],
    }
    many = MOST_WEIGHED + 1
    names = [str(i) for i in range(many)]
    assert weights_report(names, torch.eye(many) / 2) == {"clients": names, "own_weight": 0.5}


def test_knfu_by_hand() -> None:
    epd = torch.tensor([[0.5, 0.5], [0.8, 0.2]], dtype=torch.float64)
    # KL(first || second) = .5 ln(.5/.8) + .5 ln(.5/.2) = .5 ln 1.5625 = ln 1.25
    #   exp(-10 ln 1.25) = .8^10 = .107374;  1/1.107374 = .903037
    # KL(second || first) = .8 ln 1.6 + .2 ln .4 = .376003 - .183258 = .192745
    #   exp(-1.92745) = .145519;  1/1.145519 = .872967
    forward = effectiveness(epd, 10.0)
    assert forward[0].tolist() == pytest.approx([0.903037, 0.096963], abs=1e-6)
    assert forward[1].tolist() == pytest.approx([0.127033, 0.872967], abs=1e-6)
    # The other direction takes the other KL for each.
    reverse = effectiveness(epd, 10.0, "reverse")
    assert reverse[0].tolist() == pytest.approx([0.872967, 0.127033], abs=1e-6)
    assert reverse[1].tolist() == pytest.approx([0.096963, 0.903037], abs=1e-6)


@pytest.mark.parametrize(("nats", "relative"), [(0.1, 0.367879), (0.5, 0.006738)])
def test_knfu_scale(nats: float, relative: float) -> None:
    """exp(-10 * 0.1) = exp(-1); exp(-10 * 0.5) = exp(-5)."""
    weights = effectiveness(apart(nats), 10.0)
    assert (weights[0, 1] / weights[0, 0]).item() == pytest.approx(relative, abs=1e-6)


def test_knfu_counts_noise_as_no_distance() -> None:
    """KL((.5, .5) || (.8, .2)) = .2231; of it .1 and .2, on average .15, is noise: exp(-10 .0731) = .4813.

    As noisy as that a client's own weight is 1/1.4813; where all of the distance is noise, both weigh a half.
    """
    epd = torch.tensor([[0.5, 0.5], [0.8, 0.2]])
    found = effectiveness(epd, 10, free=torch.tensor([0.1, 0.2]))
    assert found[0].tolist() == pytest.approx([1 / 1.4813, 0.4813 / 1.4813], abs=1e-4)
    assert effectiveness(epd, 10, free=torch.tensor([1.0, 1.0])).tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert torch.equal(effectiveness(epd, 10, free=torch.zeros(2)), effectiveness(epd, 10))


def test_knfu_mixes_rows_of_knowledge() -> None:
    knowledge = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.5, 0.5]]])
    weights = torch.tensor([[0.75, 0.25], [0.0, 1.0]])
    # First: .75*(1, 0) + .25*(0, 1), .75*(0, 1) + .25*(.5, .5). Second: its own.
    assert mix(weights, knowledge).tolist() == [[[0.75, 0.25], [0.125, 0.875]], [[0.0, 1.0], [0.5, 0.5]]]


def test_knfu_fuses_by_mean_prediction() -> None:
    # Means over the two rows: (.5, .5) and (.8, .2), the EPDs of test_knfu_by_hand.
    values = torch.tensor([[[0.9, 0.1], [0.1, 0.9]], [[0.7, 0.3], [0.9, 0.1]]])
    fused = fuse(KnFu, KnFuConfig(), values=values)
    assert fused.personal
    assert fused.report["clients"] == ["0", "1"]
    assert fused.report["weights"][0] == pytest.approx([0.903037, 0.096963], abs=1e-5)
    # .903037*.9 + .096963*.7
    assert fused.arrays["values"][0, 0, 0].item() == pytest.approx(0.880607, abs=1e-5)
    # .127033*.9 + .872967*.7
    assert fused.arrays["values"][1, 0, 0].item() == pytest.approx(0.725407, abs=1e-5)


def test_knfu_fuses_by_label_histogram() -> None:
    values, share = torch.full((2, 3, 2), 0.5), torch.tensor([[0.5, 0.5], [0.8, 0.2]])
    fused = fuse(KnFu, KnFuConfig(epd="labels"), values=values, label_share=share)
    assert fused.report["weights"][1] == pytest.approx([0.127033, 0.872967], abs=1e-5)


@few
@given(some_distributions, betas, st.sampled_from(["forward", "reverse"]), st.booleans())
def test_knfu_rows_sum_to_one(epd: Tensor, beta: float, direction: str, include_self: bool) -> None:
    weights = effectiveness(epd, beta, direction, include_self=include_self)
    assert weights.shape == (len(epd), len(epd))
    assert (weights >= 0).all()
    assert torch.allclose(weights.sum(-1), torch.ones(len(epd), dtype=epd.dtype))


@few
@given(some_distributions, betas, st.booleans(), st.randoms(use_true_random=False))
def test_knfu_permutes_with_its_clients(epd: Tensor, beta: float, include_self: bool, random: Any) -> None:
    order = list(range(len(epd)))
    random.shuffle(order)
    weights = effectiveness(epd, beta, include_self=include_self)
    permuted = effectiveness(epd[order], beta, include_self=include_self)
    assert torch.allclose(permuted, weights[order][:, order], atol=1e-9)


@few
@given(some_distributions)
def test_knfu_at_zero_is_fedmd_for_everyone(epd: Tensor) -> None:
    knowledge = torch.stack([epd, epd.flip(0)], 1)
    teachers = mix(effectiveness(epd, 0.0), knowledge)
    mean = knowledge.mean(0)
    for teacher in teachers:
        assert torch.allclose(teacher, mean)


def test_knfu_at_infinity_is_self_distillation() -> None:
    epd = torch.tensor([[0.5, 0.3, 0.2], [0.5, 0.2, 0.3], [0.1, 0.1, 0.8]], dtype=torch.float64)
    knowledge = torch.stack([epd, epd.flip(1)], 1)
    weights = effectiveness(epd, 1e6)
    assert torch.allclose(weights, torch.eye(3, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(mix(weights, knowledge), knowledge)


@few
@given(distributions(1, 4), st.integers(1, 6), betas, st.sampled_from(["forward", "reverse"]))
def test_knfu_of_identical_clients_is_uniform(epd: Tensor, clients: int, beta: float, direction: str) -> None:
    weights = effectiveness(epd.repeat(clients, 1), beta, direction)
    assert torch.allclose(weights, torch.full_like(weights, 1 / clients), atol=1e-9)


@few
@given(distributions(6, 5, least=0.5), st.floats(0, 0.02))
def test_knfu_keeps_groups_of_other_labels_apart(inside: Tensor, leak: float) -> None:
    """Three clients know classes 0 to 4, three 5 to 9; each gives at most 2 % to classes it does not know."""
    outside = torch.full((6, 5), leak / 5, dtype=torch.float64)
    inside = inside * (1 - leak)
    epd = torch.cat([torch.cat([inside[:3], outside[:3]], 1), torch.cat([outside[3:], inside[3:]], 1)])
    for direction in ("forward", "reverse"):
        weights = effectiveness(epd, 10.0, direction)
        assert weights[:3, 3:].max() < 1e-3
        assert weights[3:, :3].max() < 1e-3


@few
@given(distributions(4, 3), betas)
def test_knfu_without_itself(epd: Tensor, beta: float) -> None:
    weights = effectiveness(epd, beta, include_self=False)
    assert weights.diagonal().abs().max() == 0
    # What is left has the proportions that it has with oneself included.
    kept = effectiveness(epd, beta).fill_diagonal_(0)
    expected = kept / kept.sum(-1, keepdim=True).clamp_min(1e-300)
    sure = kept.sum(-1) > 1e-200
    assert torch.allclose(weights[sure], expected[sure], atol=1e-9)


def test_knfu_without_itself_has_its_own_where_it_is_alone() -> None:
    assert effectiveness(torch.tensor([[0.5, 0.5]]), 10.0, include_self=False).tolist() == [[1.0]]


@few
@given(distributions(4, 3), st.floats(0.1, 100))
def test_knfu_reverse_is_the_transposed_distance(epd: Tensor, beta: float) -> None:
    """Logarithms of weights relative to one's own are -beta d[n, m], transposed in the other direction."""

    def distance(direction: str) -> Tensor:
        own = effectiveness(epd, 1.0, direction)
        return -(own.log() - own.diagonal().log()[:, None])

    assert torch.allclose(distance("reverse"), distance("forward").T, atol=1e-9)
    assert torch.allclose(
        effectiveness(epd, beta, "reverse"), (-beta * distance("forward").T).softmax(-1), atol=1e-6
    )


def test_knfu_survives_probabilities_of_zero() -> None:
    # KL is clipped at 1e-8: 1 ln(1/1e-8) = 18.42 nats, exp(-184) = 0 in float32.
    weights = effectiveness(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), 10.0)
    assert weights.tolist() == [[1.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize("beta", [-1.0, math.inf, math.nan])
def test_knfu_refuses_a_beta_that_is_no_sharpness(beta: float) -> None:
    with pytest.raises(ValidationError):
        KnFuConfig(beta=beta)


# ---- the base


def test_local_makes_no_teacher() -> None:
    strategy = Local.__new__(Local)
    strategy.config = StrategyConfig()
    assert strategy.fuse(Contributions(("0", "1"), {})) is None


def test_stack_keeps_the_order_of_its_clients() -> None:
    held = {"b": {"values": np.array([2.0], np.float32)}, "a": {"values": np.array([1.0], np.float32)}}
    stacked = stack(("a", "b"), held, np.asarray([3], np.int32))
    assert stacked.values.tolist() == [[1.0], [2.0]]
    assert stacked.rows is not None
    assert stacked.rows.tolist() == [3]
    assert stack(("a", "b"), {"a": {}, "b": {}}, None) == Contributions(("a", "b"), {}, None)


def test_row_doubt() -> None:
    rows = torch.tensor([[0.5, 0.5, 0.0], [0.7, 0.2, 0.1], [1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    # ln 2;  -(.7 ln .7 + .2 ln .2 + .1 ln .1) = .249672 + .321888 + .230259;  0;  ln 3
    assert entropy(rows).tolist() == pytest.approx([0.693147, 0.801819, 0.0, 1.098612], abs=1e-6)
    # 1 - (.5 - .5);  1 - (.7 - .2);  1 - (1 - 0);  1 - 0
    assert margin(rows).tolist() == pytest.approx([1.0, 0.5, 0.0, 1.0], abs=1e-6)


@few
@given(some_distributions)
def test_row_doubt_is_largest_where_all_are_equal(rows: Tensor) -> None:
    classes = rows.shape[1]
    assert entropy(rows).max().item() <= math.log(classes) + 1e-9
    assert margin(rows).max().item() <= 1 + 1e-9
    assert margin(rows).min().item() >= 0


def test_client_order() -> None:
    assert sorted(["b", "10", "a10", "9", "a9", "2", "B"], key=client_order) == [
        *("2", "9", "10"),
        *("B", "a10", "a9", "b"),
    ]
    assert client_order("01") != client_order("1")


@few
@given(st.sets(st.one_of(st.integers(0, 300).map(str), st.text(max_size=4))), st.randoms())
def test_client_order_does_not_depend_on_the_order_before(names: set[str], random: Any) -> None:
    shuffled = list(names)
    random.shuffle(shuffled)
    assert sorted(shuffled, key=client_order) == sorted(names, key=client_order)


# ---- FedProto by similarities to transfer rows


def test_relative_representations_by_hand() -> None:
    """Anchors (2, 0), (0, 2), their mean (1, 1): less it (1, -1) and (-1, 1); (3, 1) is (2, 0), ±.7071."""
    anchors = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    rows = torch.tensor([[3.0, 1.0], [2.0, 0.0], [2.0, 2.0], [1.0, 1.0]])
    expected = torch.tensor([[0.7071, -0.7071], [1.0, -1.0], [0.0, 0.0], [0.0, 0.0]])
    assert torch.allclose(relative(rows, anchors), expected, atol=1e-4)
    # A model that turns its features, makes them larger or has more of them says the same.
    turn, _ = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(0)))
    wide = lambda z: 3 * torch.nn.functional.pad(z, (0, 3)) @ turn + 7  # noqa: E731
    assert torch.allclose(relative(wide(rows[:3]), wide(anchors)), expected[:3], atol=1e-4)


def unlike(**more: Any) -> Any:
    models = [{"name": "mlp", "width": width, "hidden": [8]} for width in (6, 9)]
    return from_dict(
        {
            "name": "unlike",
            "data": {"partition": {"clients": 2, "samples_per_client": 30}, "transfer": {"size": 40}},
            "clients": {"models": models, "local": {"epochs": 1}},
            "strategy": {"name": "fedproto", "space": "relative", "anchors": 25, **more.pop("strategy", {})},
            "rounds": 2,
            "engine": {"kind": "inline"},
            **more,
        }
    )


def test_prototypes_of_models_of_any_width(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs one feature width"):
        checked_world(unlike(strategy={"space": "features", "anchors": 100}))
    world = checked_world(unlike())
    assert [world.full_contribution(n)["values"].shape for n in "01"] == [(10, 25)] * 2
    told = fedkt.simulate(unlike(), out=tmp_path / "run").clients
    assert told["prototype_personal"].notna().all()
    # What a client does by itself is what it would do alone.
    alone = fedkt.simulate(unlike(), ["strategy=local"], out=tmp_path / "alone").clients
    assert told["global"].tolist() == alone["global"].tolist()


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"strategy": {"weight": 2.0}}, "strategy.weight has no effect with strategy.space 'relative'"),
        ({"strategy": {"anchors": 41}}, "compares rows with the first 41 transfer rows in every round"),
        (
            {"strategy": {"space": "features"}},
            "strategy.anchors has no effect with strategy.space 'features'",
        ),
        (
            {"data": {"partition": {"clients": 2, "samples_per_client": 30}}},
            "compares rows with transfer rows, but data.transfer is not set",
        ),
        (
            {
                "privacy": {"mode": "proto_gauss", "delta": 1e-5, "max_epsilon": 8, "noise_multiplier": 4}
                | {"provenance": "public"}
            },
            "privacy mode 'proto_gauss' adds noise to mean features",
        ),
    ],
)
def test_what_similarities_need(more: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as raised:
        checked_world(unlike(**more))
    assert sentence in str(raised.value)
