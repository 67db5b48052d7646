"""Fusion by who knows a row: the hand numbers of each method, and laws that must hold."""

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from fedkt.client import Holding, Steps
from fedkt.client.familiarity import log_ratio
from fedkt.clients.logits import LogitsClient
from fedkt.distill.alignment import align
from fedkt.distill.shifting import divergence
from fedkt.engine.checks.checked import checked_world
from fedkt.errors import InputError
from fedkt.knowledge import Dims
from fedkt.scenario import from_dict, load
from fedkt.strategies.complementary import Complementary, ComplementaryConfig
from fedkt.strategies.dwc import DWC, DWCConfig
from fedkt.strategies.dynamic_logits import DynamicLogits, DynamicLogitsConfig, searched
from fedkt.strategies.held import Held, HeldConfig, holders
from fedkt.strategies.transferability import (
    Transferability,
    TransferabilityConfig,
    likeness,
    mixture,
)
from fedkt.strategy import Contributions, Fused, Setting
from fedkt.strategy.fusing.fusion import others
from fedkt.strategy.fusing.weighing import by_density, by_energy

NEAR = {"atol": 2e-3, "rtol": 0.0}
"""The worked numbers have three or four digits."""


def begin(kind: Any, config: Any, clients: int, rows: int, classes: int, **more: Any) -> Any:
    described = from_dict({"name": "fusion", "data": {"transfer": {"size": rows}}, **more})
    dims = {str(i): Dims(rows, rows, classes, 4) for i in range(clients)}
    return kind(config, Setting(described, "run", dims, "", SimpleNamespace()))  # type: ignore[arg-type]


def fuse(kind: Any, config: Any, values: Tensor, more: Any = None, **arrays: Tensor) -> Fused:
    strategy = begin(kind, config, len(values), values.shape[1], values.shape[2], **(more or {}))
    names = tuple(str(i) for i in range(len(values)))
    fused: Fused = strategy.fuse(Contributions(names, {"values": values, **arrays}))
    return fused


def near(found: Tensor, expected: Any, atol: float = 2e-3) -> bool:
    return torch.allclose(found.double(), torch.tensor(expected).double(), atol=atol, rtol=0)


# ---- Alignment and others

P = torch.tensor([[[0.6, 0.3, 0.1], [0.5, 0.45, 0.05]], [[0.1, 0.1, 0.8], [0.05, 0.15, 0.8]]])


def test_align_divides_by_each_clients_mean_prediction() -> None:
    """Mean predictions (.55 .375 .075) and (.075 .125 .80)."""
    found = align(P)
    assert near(found[0], [[0.338, 0.248, 0.414], [0.328, 0.432, 0.240]])
    assert near(found[1], [[0.426, 0.255, 0.319], [0.233, 0.419, 0.349]])
    # Both winners of the mean change: (.35 .20 .45), (.275 .30 .425) without alignment.
    assert near(found.mean(0), [[0.382, 0.252, 0.366], [0.280, 0.425, 0.294]])


def test_smoothing_keeps_noise_small() -> None:
    sure = torch.tensor([[[0.9, 0.1, 1e-6], [0.2, 0.8, 1e-5]]])
    assert near(align(sure)[0], [[0.802, 0.109, 0.089], [0.092, 0.449, 0.459]])
    assert near(align(sure, 0.1)[0], [[0.882, 0.118, 0.0], [0.172, 0.828, 0.0]])
    always = torch.tensor([[[0.98, 0.01, 0.01]]])
    assert near(align(always)[0], [[1 / 3] * 3])
    assert near(align(always, 0.1)[0], [[0.694, 0.153, 0.153]])


def test_alignment_is_to_the_marginals_that_are_told() -> None:
    even = torch.tensor([[[0.6, 0.4], [0.4, 0.6]]])
    assert torch.allclose(align(even), even)  # a uniform mean prediction changes nothing
    assert torch.allclose(align(even, marginals="consensus"), even)
    # .6 * .75 : .4 * .25 = .45 : .10.
    assert near(align(even, marginals=(0.75, 0.25))[0, 0], [0.81818, 0.18182], 1e-4)
    # A constant per class before rows are divided by their sum leaves no trace.
    factor = torch.tensor([2.0, 0.5, 1.0])
    times = P * factor
    assert torch.allclose(align(times / times.sum(-1, keepdim=True)).argmax(-1), align(P).argmax(-1))
    with pytest.raises(InputError, match=r"strategy\.marginals has 2 numbers, but there are 3 classes"):
        begin(DWC, DWCConfig(weights="aligned", marginals=(0.5, 0.5)), 2, 2, 3)


def test_the_others_of_one_are_itself() -> None:
    assert torch.equal(others(P[:1]), P[:1])
    assert near(others(torch.tensor([1.0, 2.0, 6.0])), [4.0, 3.5, 1.5])
    median = others(torch.tensor([[1.0], [2.0], [6.0], [7.0]]), lambda values: values.median(0).values)
    assert median.flatten().tolist() == [6.0, 6.0, 2.0, 2.0]


# ---- DWC


def test_density_weights_are_relative_to_each_clients_mean() -> None:
    """Ratios 3 and 1 have mean 2: 3/2 and 1/2; the other client's are 1 and 1."""
    weights = by_density(torch.tensor([[math.log(3), 0.0], [5.0, 5.0]]))
    assert near(weights, [[0.6, 1 / 3], [0.4, 2 / 3]], 1e-6)


def test_energy_weights_are_standardised_per_client() -> None:
    """Energies (ln 4, ln 2) and, a hundred times as far apart, their reverse: ±1; softmax of (2, -2)."""
    low, high = math.log(1), math.log(3)
    logits = torch.tensor([[[0.0, high], [0.0, low]], [[0.0, 0.0], [100.0, 0.0]]])
    assert near(by_energy(logits.logsumexp(-1), 2.0), [[0.98201, 0.01799], [0.01799, 0.98201]], 1e-4)
    assert near(by_energy(logits.logsumexp(-1), 0.0), [[0.5, 0.5], [0.5, 0.5]])
    assert near(by_energy(torch.zeros(2, 2), 2.0), [[0.5, 0.5], [0.5, 0.5]])  # no row stands out


def test_dwc_mixes_by_density() -> None:
    """Row 0: .6 (.9 .1) + .4 (.2 .8) = (.62 .38); row 1: 1/3 (.5 .5) + 2/3 (.2 .8) = (.3 .7)."""
    values = torch.tensor([[[0.9, 0.1], [0.5, 0.5]], [[0.2, 0.8], [0.2, 0.8]]])
    density = torch.tensor([[math.log(3), 0.0], [0.0, 0.0]])
    fused = fuse(DWC, DWCConfig(weights="density"), values, density=density)
    assert not fused.personal
    assert near(fused.arrays["values"], [[0.62, 0.38], [0.3, 0.7]], 1e-6)
    assert fused.report["share"] == pytest.approx([(0.6 + 1 / 3) / 2, (0.4 + 2 / 3) / 2])
    assert fused.report["largest"] == pytest.approx((0.6 + 2 / 3) / 2)


def test_dwc_is_the_posterior_of_all_rows_together() -> None:
    """Two clients over the points a, b: p_0 = (3/4, 1/4), p_1 = (1/4, 3/4), as many rows each.

    With labels at a (.9 .1) of the first and (.3 .7) of the second the pooled posterior is
    (3/4 .9 + 1/4 .3, ...) = (.75, .25); transfer rows are a and b once, so q = 1/2 and p/q = 2 p.
    """
    values = torch.tensor([[[0.9, 0.1], [0.5, 0.5]], [[0.3, 0.7], [0.5, 0.5]]])
    density = torch.tensor([[1.5, 0.5], [0.5, 1.5]]).log()
    fused = fuse(DWC, DWCConfig(weights="density"), values, density=density)
    assert near(fused.arrays["values"], [[0.75, 0.25], [0.5, 0.5]], 1e-6)


def test_dwc_mixes_by_energy_and_teaches_logits() -> None:
    logits = torch.tensor([[[0.0, math.log(3)], [0.0, 0.0]], [[0.0, 0.0], [4.0, 0.0]]])
    fused = fuse(DWC, DWCConfig(weights="energy"), logits)
    # .98201 (.25 .75) + .01799 (.5 .5)
    assert near(fused.arrays["values"].softmax(-1)[0], [0.2545, 0.7455], 1e-4)
    plain = fuse(DWC, DWCConfig(weights="energy", sharpness=0.0), logits)
    assert near(plain.arrays["values"].softmax(-1)[0], [0.375, 0.625], 1e-4)


def test_dwc_aligned_is_the_mean_of_aligned_predictions() -> None:
    fused = fuse(DWC, DWCConfig(weights="aligned", smoothing=0.0), P)
    assert near(fused.arrays["values"], [[0.382, 0.252, 0.366], [0.280, 0.425, 0.294]])


def test_who_claims_every_row_has_no_more_to_say_than_who_claims_none() -> None:
    claims = torch.stack([torch.full((4,), 20.0), torch.full((4,), -20.0), torch.zeros(4)])
    assert near(by_density(claims), [[1 / 3] * 4] * 3, 1e-6)
    sure = torch.stack([torch.full((4, 2), 1e4), torch.zeros(4, 2)])
    assert near(by_energy(sure.logsumexp(-1), 2.0), [[0.5] * 4] * 2, 1e-6)


def test_a_classifier_between_two_points_has_the_ridges_logit() -> None:
    """Standardised they lie at ±1, and sigmoid(-w) = ridge w holds for w = ln 3, ridge = 1/(4 ln 3)."""
    own, other = torch.full((5, 1), 7.0), torch.full((2, 1), 3.0)
    ridge = 0.25 / math.log(3)
    assert near(log_ratio(other, own, ridge), [-math.log(3)] * 2, 1e-4)
    assert near(log_ratio(own, other, ridge), [-math.log(3)] * 5, 1e-4)
    same = torch.tensor([[0.0, 1.0], [2.0, 5.0], [3.0, 1.0]])
    assert near(log_ratio(same, same, 0.1), [0.0] * 3, 1e-5)
    # A feature that is always the same tells nothing, however many rows there are of either kind.
    assert near(log_ratio(torch.ones(4, 3), torch.ones(1, 3), 0.1), [0.0] * 4, 1e-5)


# ---- The client's part: density beside predictions, and its own prior


def client(**settings: Any) -> LogitsClient:
    """Fifty rows, .7 of class 0 and .3 of class 1; three transfer rows."""
    steps = Steps(1, 2, "sgd", 0.1)
    given = {"loss": "kl", "temperature": 1.0, "form": "probabilities", **settings}
    return LogitsClient(
        Holding(
            client="0",
            seed=0,
            dims=Dims(3, 3, 3, 1),
            x=torch.ones(50, 1),
            y=torch.tensor([0] * 35 + [1] * 15),
            transfer=torch.zeros(3, 1),
            public=None,
            label_share=torch.tensor([0.7, 0.3, 0.0]),
            local=steps,
            distill=steps,
            settings=given,
        )
    )


def test_the_prior_adds_the_clients_own_frequencies() -> None:
    """(.2 .5 .3) times shares + 1/100, (.71 .31 .01): .142 .155 .003 of .300."""
    logits = torch.tensor([[0.2, 0.5, 0.3]]).log()
    score = client().predictors(torch.zeros(1, 1), logits, {})["prior"]
    assert near(score.softmax(-1), [[0.47333, 0.51667, 0.01]], 1e-5)
    assert (client().decides_own, client(prior=True).decides_own) == ("", "prior")


def test_familiarity_is_sent_beside_predictions() -> None:
    told = client(density=0.25 / math.log(3))
    x = told.inputs(None)
    assert x.flatten().tolist() == [0.0] * 3 + [1.0] * 50
    sent = told.extract(x, torch.zeros(53, 3), {}).arrays()
    assert sorted(sent) == ["density", "values"]
    assert near(torch.from_numpy(sent["density"]), [-math.log(3)] * 3, 1e-4)
    assert sent["values"].shape == (3, 3)
    assert LogitsClient.reads_private_rows({"form": "probabilities", "density": 0.1})
    assert not LogitsClient.reads_private_rows({"form": "logits", "prior": True})


# ---- Complementary

Q = torch.tensor(
    [
        [[0.70, 0.20, 0.10], [0.40, 0.35, 0.25], [0.34, 0.33, 0.33], [0.10, 0.80, 0.10]],
        [[0.60, 0.30, 0.10], [0.20, 0.70, 0.10], [0.90, 0.05, 0.05], [0.30, 0.40, 0.30]],
        [[0.20, 0.20, 0.60], [0.10, 0.85, 0.05], [0.25, 0.50, 0.25], [0.80, 0.10, 0.10]],
    ]
)


@pytest.mark.parametrize("confidence", ["aligned", "raw"])
def test_complementary_takes_the_peers_mean_where_it_is_surer(confidence: str) -> None:
    fused = fuse(Complementary, ComplementaryConfig(confidence=confidence), Q)
    teachers = fused.arrays["values"]
    peers = [[0.40, 0.25, 0.35], [0.15, 0.775, 0.075], [0.575, 0.275, 0.15], [0.55, 0.25, 0.20]]
    assert near(teachers[0], [Q[0, 0].tolist(), peers[1], peers[2], Q[0, 3].tolist()], 1e-6)
    if confidence == "aligned":
        assert near(teachers[1, 0], [0.45, 0.20, 0.35], 1e-6)
        assert torch.equal(teachers[1, 1:], Q[1, 1:])
        assert near(teachers[2, 2], [0.62, 0.19, 0.19], 1e-6)
        assert torch.equal(teachers[2, [0, 1, 3]], Q[2, [0, 1, 3]])
        assert fused.report["taken"] == [0.5, 0.25, 0.25]


def test_complementary_confidence_is_aligned() -> None:
    assert near(align(others(Q), 0.1)[0].amax(-1), [0.5084, 0.7362, 0.4929, 0.4533], 1e-4)
    assert near(align(Q, 0.1)[0].amax(-1), [0.6563, 0.3860, 0.4821, 0.7238], 1e-4)
    assert near(align(Q, 0.1)[2].amax(-1), [0.6811, 0.8108, 0.4196, 0.7891], 1e-4)


def test_complementary_surest_teaches_all_and_a_tie_keeps_ones_own() -> None:
    """Confidence .70 .40 .34 .80 / .60 .70 .90 .40 / .60 .85 .50 .80: on the last row two are as sure."""
    teachers = fuse(Complementary, ComplementaryConfig(teacher="surest", confidence="raw"), Q).arrays[
        "values"
    ]
    for n, chosen in enumerate([(0, 2, 1, 0), (0, 2, 1, 0), (0, 2, 1, 2)]):
        assert torch.equal(teachers[n], torch.stack([Q[m, i] for i, m in enumerate(chosen)]))


def test_complementary_laws() -> None:
    one = ComplementaryConfig(confidence="raw")
    # Surer than the mean everywhere: one's own, bit for bit; uniform peers teach nothing.
    sure = torch.cat([Q[:1] * 0 + torch.tensor([0.98, 0.01, 0.01]), torch.full((2, 4, 3), 1 / 3)])
    fused = fuse(Complementary, one, sure)
    assert torch.equal(fused.arrays["values"][0], sure[0])
    assert fused.report["taken"] == [0.0, 1.0, 1.0]
    # All equal, or nobody else: nothing is taken.
    assert fuse(Complementary, one, Q[:1].repeat(3, 1, 1)).report["taken"] == [0.0, 0.0, 0.0]
    assert torch.equal(fuse(Complementary, one, Q[:1]).arrays["values"], Q[:1])
    robust = {"robust": {"centre": "median"}}
    assert near(fuse(Complementary, one, Q, robust).arrays["values"].sum(-1), torch.ones(3, 4).tolist(), 1e-5)
    with pytest.raises(ValueError, match="smoothing"):
        ComplementaryConfig(smoothing=0.0)
    bad = from_dict({"name": "a", **robust})
    assert "no mean over" in Complementary.problems(ComplementaryConfig(teacher="surest"), bad, 3)[0]


# ---- Dynamic logits


@pytest.mark.parametrize(
    ("alpha", "expected"),
    [
        (0.0, [[0.6, 0.3, 0.1], [0.5, 0.45, 0.05]]),
        (0.5, [[0.6529, 0.2529, 0.0942], [0.4292, 0.5182, 0.0526]]),
        (1.0, [[0.7018, 0.2105, 0.0877], [0.3610, 0.5848, 0.0542]]),
        (2.0, [[0.7851, 0.1413, 0.0736], [0.2415, 0.7042, 0.0543]]),
    ],
)
def test_dynamic_logits_shift_by_what_a_peer_says_beyond_its_base_rates(alpha: float, expected: Any) -> None:
    fused = fuse(DynamicLogits, DynamicLogitsConfig(alpha=alpha, smoothing=0.0), P)
    assert near(fused.arrays["values"][0], expected, 1e-3)


def test_dynamic_logits_search() -> None:
    fused = fuse(DynamicLogits, DynamicLogitsConfig(alpha="search", smoothing=0.0), P)
    assert near(fused.arrays["values"][0, 1], [0.4432, 0.5046, 0.0521], 1e-3)
    assert fused.report["alpha"][0] == pytest.approx(0.45)  # .5 and .4
    # One expert that changed the very base that the client stands on: alpha = 1 reaches it exactly.
    base, expert = torch.tensor([0.5, 0.3, 0.2]).log(), torch.tensor([0.2, 0.7, 0.1]).log()
    assert divergence(expert, base).item() == pytest.approx(0.34054, abs=1e-5)
    assert divergence(base, expert).item() == pytest.approx(0.34259, abs=1e-5)
    z, bases = torch.stack([base, expert])[:, None], torch.stack([base, base])[:, None]
    shift = others(z - bases)
    assert searched(z, bases, shift, 2.0, 0.1)[0].item() == pytest.approx(1.0)


def test_dynamic_logits_laws() -> None:
    # Who predicts the same on every row says nothing beyond its base rates.
    flat = torch.cat([P[:1], torch.tensor([[[0.2, 0.3, 0.5]] * 2])])
    fused = fuse(DynamicLogits, DynamicLogitsConfig(alpha=2.0, smoothing=0.0), flat)
    assert torch.allclose(fused.arrays["values"][0], P[0], atol=1e-5)
    assert torch.equal(fuse(DynamicLogits, DynamicLogitsConfig(), P[:1]).arrays["values"], P[:1])
    with pytest.raises(ValueError, match="alpha"):
        DynamicLogitsConfig(alpha=-0.5)


# ---- Transferability

T = torch.tensor([[[0.80, 0.15, 0.05]], [[0.70, 0.20, 0.10]], [[0.10, 0.10, 0.80]]])


def test_transferability_example() -> None:
    """Cosines of centred rows .9995, -.6025, -.6286; lambda .4997, .4997, 0."""
    like = likeness(T)
    assert near(like, [[1.0, 0.9995, 0.0], [0.9995, 1.0, 0.0], [0.0, 0.0, 1.0]], 1e-3)
    fused = fuse(Transferability, TransferabilityConfig(), T)
    assert near(fused.arrays["values"][:, 0], [[0.75, 0.175, 0.075], [0.75, 0.175, 0.075], [0.1, 0.1, 0.8]])


def test_transferability_laws() -> None:
    # All the same: everything from the peers. Nobody alike, or nobody else: one's own.
    assert near(mixture(torch.ones(3, 3), 1.0), [[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]], 1e-6)
    assert torch.equal(mixture(torch.eye(3), 1.0), torch.eye(3))
    assert torch.equal(mixture(torch.ones(1, 1), 1.0), torch.ones(1, 1))
    # Likeness .5 and 0: lambda = (.5 + 0)/2; both halves of it by `amount`, all to the one by `weights`.
    like = torch.tensor([[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert near(mixture(like, 1.0)[0], [0.75, 0.25, 0.0], 1e-6)
    assert near(mixture(like, 1.0, "amount")[0], [0.75, 0.125, 0.125], 1e-6)
    assert near(mixture(like, 1.0, "weights")[0], [0.0, 1.0, 0.0], 1e-6)
    assert near(mixture(like, 0.5)[0], [0.875, 0.125, 0.0], 1e-6)
    # Of three rows two have the same winner.
    winners = torch.eye(3)[torch.tensor([[0, 1, 2], [0, 1, 1]])]
    assert near(likeness(winners, "agreement"), [[1.0, 2 / 3], [2 / 3, 1.0]], 1e-6)
    assert near(likeness(winners, "epd")[0, 0], 0.0, 1e-6)  # a uniform mean is like nothing


# ---- Held


def test_held_averages_over_the_holders_of_a_class() -> None:
    """Class 0: .7; class 1: (.2 + .6)/2 = .4; class 2: .3; of 1.4."""
    values = torch.tensor([[[0.7, 0.2, 0.1]], [[0.1, 0.6, 0.3]]])
    shares = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]])
    fused = fuse(Held, HeldConfig(), values, label_share=shares)
    assert near(fused.arrays["values"], [[0.5, 0.2857, 0.2143]], 1e-4)
    assert fused.report["holders"] == [1, 2, 1]
    everybody = fuse(Held, HeldConfig(), values, label_share=torch.full((2, 3), 1 / 3))
    assert near(everybody.arrays["values"], [[0.4, 0.4, 0.2]], 1e-6)


def test_held_remembers_who_held_a_class() -> None:
    now = torch.tensor([[True, False, False], [True, False, False]])
    ever = torch.tensor([[True, True, False], [True, False, False]])
    assert holders(now, ever).tolist() == [[True, True, True], [True, False, True]]
    strategy = begin(Held, HeldConfig(), 2, 1, 3)
    values = torch.tensor([[[0.7, 0.2, 0.1]], [[0.1, 0.6, 0.3]]])
    for shares in ([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]], [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]):
        told = {"values": values, "label_share": torch.tensor(shares)}
        fused = strategy.fuse(Contributions(("0", "1"), told))
    # Nobody holds class 1 now; both did, so both count, as before.
    assert near(fused.arrays["values"], [[0.5, 0.2857, 0.2143]], 1e-4)
    again = begin(Held, HeldConfig(), 2, 1, 3)
    again.load_extra(*strategy.extra_state())
    assert again.extra_state() == strategy.extra_state()


# ---- Where they do not fit


@pytest.mark.parametrize("kind", [DWC, Complementary, DynamicLogits, Held])
def test_votes_do_not_say_how_sure_a_client_is(kind: Any) -> None:
    from fedkt.privacy.modes import VoteRR

    why = VoteRR(SimpleNamespace()).misfit(kind, LogitsClient, {})  # type: ignore[arg-type]
    assert why is not None and "votes do not say" in why
    assert VoteRR(SimpleNamespace()).misfit(Transferability, LogitsClient, {}) is None  # type: ignore[arg-type]


def test_density_needs_private_rows() -> None:
    described = load("quickstart", ["data.partition.clients=2", "engine={kind: inline}"])
    federation = checked_world(described).federation
    first, second = federation.shards
    bare = replace(federation, shards=(first, replace(second, rows=second.rows[:0])))
    with pytest.raises(InputError, match="but client 1 has no private rows; use energy, which follows"):
        checked_world(described, federation=bare)
    energy = load("quickstart", ["data.partition.clients=2", "strategy={name: dwc, weights: energy}"])
    checked_world(energy, federation=bare)
