"""FedKA without weights: votes, embeddings and the client's loss, against numbers worked out by hand."""

import json
import math
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

import fedkt
from fedkt.client import Fit, Forward, Holding, Steps
from fedkt.clients.adaptation import AdaptationClient, adaptation
from fedkt.distill.embedding import Embedding, distance, normalised
from fedkt.engine.loop.lines import group_effect
from fedkt.errors import InputError
from fedkt.knowledge import Alignment, Dims, Rejected, decode, encode
from fedkt.strategies.fedka import aligned, mmd, within_unit_ball
from fedkt.strategy.fusing.voting import voted, votes

FREQUENCIES = [-0.527509, -1.390036, -0.35644, 0.07287]

ANY_EMBEDDING = [Embedding(8), Embedding(8, "moments"), Embedding(8, numbers=4, bandwidths=(1.0,))]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---- votes


def test_votes() -> None:
    # Two clients, two rows, three classes.
    labels = torch.tensor([[0, 1], [0, 2]], dtype=torch.int16)
    expected = [[[1, 0, 0], [0, 1, 0]], [[1, 0, 0], [0, 0, 1]]]
    assert votes(3, labels).tolist() == expected
    confidence = torch.tensor([[0.75, 0.5], [0.5, 1.0]])
    expected_by_confidence = [[[0.75, 0, 0], [0, 0.5, 0]], [[0.5, 0, 0], [0, 0, 1.0]]]
    assert votes(3, labels, confidence).tolist() == expected_by_confidence


def test_a_row_is_labelled_where_one_class_reaches_the_threshold() -> None:
    shares = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.4, 0.4, 0.2], [0.0, 0.0, 0.9]])
    assert voted(shares, 0.7).tolist() == [0, -1, -1, 2]  # the threshold itself is enough
    assert voted(shares, 0.0).tolist() == [0, 1, -1, 2]  # two classes with as many votes: no consensus
    assert voted(shares, 0.0).dtype == torch.int16


def test_aligned_votes_favour_no_class() -> None:
    # One client says (.9, .1) and (.6, .4); means .75, .25. (.9/.75, .1/.25) = (1.2, .4) -> (.75, .25), and
    # (.8, 1.6) -> (1/3, 2/3). Another that is sure and balanced keeps what it said.
    values = torch.tensor([[[0.9, 0.1], [0.6, 0.4]], [[1.0, 0.0], [0.0, 1.0]]])
    expected = [0.75, 0.25, 1 / 3, 2 / 3, 1, 0, 0, 1]
    assert aligned(values).flatten().tolist() == pytest.approx(expected)
    # A class that nobody was ever given stays without.
    assert aligned(torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])).flatten().tolist() == [1, 0, 1, 0]


# ---- embeddings


@pytest.mark.parametrize("embed", ANY_EMBEDDING)
def test_embeddings_are_bounded_whatever_the_features(embed: Embedding) -> None:
    extreme = torch.stack([torch.zeros(8), torch.full((8,), 7.0), 1e4 * drawn(8), 1e-6 * drawn(8, seed=1)])
    rows = embed(torch.cat([drawn(50, 8), extreme]))
    assert rows.shape == (54, embed.size)
    assert (rows.norm(dim=1) <= 1 + 1e-5).all()
    assert rows.mean(0).norm() <= 1


def test_the_size_of_an_embedding() -> None:
    assert Embedding(64).size == 3 * 256
    assert Embedding(64, "moments").size == 64 + 64 * 65 // 2


def test_normalised_features_have_mean_0_and_length_1() -> None:
    # (1, 3): mean 2, deviations -1 and 1, length sqrt 2.
    assert torch.allclose(
        normalised(torch.tensor([[1.0, 3.0]])), torch.tensor([[-1.0, 1.0]]) / math.sqrt(2), atol=1e-4
    )


def test_products_of_fourier_features_estimate_the_gaussian_kernels() -> None:
    """Mean over bandwidths of exp(-|u-v|²/(2σ²)); with 8192 frequencies to about 1/sqrt(8192)."""
    embed = Embedding(8, numbers=16384, bandwidths=(0.5, 1.0))
    z = drawn(6, 8)
    u = normalised(z)
    squared = (u.unsqueeze(0) - u.unsqueeze(1)).square().sum(-1)
    kernel = ((-squared / (2 * 0.25)).exp() + (-squared / 2).exp()) / 2
    assert torch.allclose(embed(z) @ embed(z).T, kernel, atol=0.04)


def test_products_of_moments_are_those_of_the_features() -> None:
    """<e(u), e(v)> = (u·v + (u·v)²)/2: equal means are equal first and second moments."""
    embed, z = Embedding(8, "moments"), drawn(6, 8)
    inner = normalised(z) @ normalised(z).T
    assert torch.allclose(embed(z) @ embed(z).T, (inner + inner.square()) / 2, atol=1e-5)


def test_the_frequencies_are_the_same_everywhere() -> None:
    """They are part of what parties agree on: another release must not draw other ones."""
    from fedkt.distill.embedding import frequencies

    assert frequencies(2, 2).flatten().tolist() == pytest.approx(FREQUENCIES, abs=1e-6)


def test_distance_of_a_masked_mean() -> None:
    embedded = torch.tensor([[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]])
    reference = torch.tensor([0.5, 0.0])
    # The mean of the first two rows is (0.5, 0.5).
    assert distance(embedded, torch.tensor([1.0, 1.0, 0.0]), reference).item() == 0.25
    assert distance(embedded, torch.zeros(3), reference).item() == 0.0


def test_mmd_of_each_client() -> None:
    source = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    target = torch.tensor([[0.0, 1.0], [0.0, 0.5]])
    assert mmd(source, target).tolist() == [2.0, 0.25]


def test_a_reference_stays_within_the_unit_ball() -> None:
    assert torch.allclose(within_unit_ball(torch.tensor([3.0, 4.0])), torch.tensor([0.6, 0.8]))
    assert within_unit_ball(torch.tensor([0.3, 0.4])).tolist() == pytest.approx([0.3, 0.4])


# ---- what crosses the wire

DIMS = Dims(3, 3, 4, 8)
SETTINGS: dict[str, Any] = {
    "voting": "confidence",
    "matching": True,
    "weight": 2.0,
    "by_consensus": True,
    "embedding": "fourier",
    "numbers": 4,
    "bandwidths": (1.0,),
}


@pytest.mark.parametrize(
    ("changed", "sent", "taught"),
    [
        ({}, {"source", "target", "labels", "confidence"}, {"reference", "labels"}),
        ({"voting": "majority"}, {"source", "target", "labels"}, {"reference", "labels"}),
        ({"voting": "mean"}, {"source", "target", "values"}, {"reference", "labels"}),
        ({"voting": "aligned"}, {"source", "target", "values"}, {"reference", "labels"}),
        ({"voting": "off"}, {"source", "target"}, {"reference"}),
        ({"matching": False}, {"labels", "confidence"}, {"labels"}),
    ],
)
def test_what_is_sent_follows_from_the_settings(
    changed: dict[str, Any], sent: set[str], taught: set[str]
) -> None:
    settings = SETTINGS | changed
    assert set(AdaptationClient.contribution(DIMS, settings)) == sent
    assert set(AdaptationClient.teacher(DIMS, settings, with_rows=False)) == taught
    assert set(AdaptationClient.teacher(DIMS, settings, with_rows=True)) == taught | {"rows"}


def test_an_embedding_that_is_too_long_neither_leaves_nor_comes_in() -> None:
    expected = AdaptationClient.contribution(DIMS, SETTINGS | {"voting": "off"})
    good = {name: np.full(4, 0.5, np.float32) for name in ("source", "target")}  # length 1
    assert decode(encode(good, expected), expected)["source"].tolist() == [0.5] * 4
    bad = good | {"target": np.full(4, 0.6, np.float32)}  # length 1.2
    with pytest.raises(Rejected, match=r"'target' has length 1\.2") as raised:
        encode(bad, expected)
    assert raised.value.reason == "norm"


def test_a_client_may_not_abstain_but_a_teacher_may() -> None:
    settings = SETTINGS | {"voting": "majority", "matching": False}
    labels = {"labels": np.array([0, -1, 3], np.int16)}
    with pytest.raises(Rejected, match="spans"):
        encode(labels, AdaptationClient.contribution(DIMS, settings))
    encode(labels, AdaptationClient.teacher(DIMS, settings, with_rows=False))


# ---- the client's half


class Shift:
    """A model whose features are its inputs and whose logits are the first four features."""

    params: ClassVar[dict[str, Tensor]] = {}

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x[:, :4]

    def head(self, z: Tensor) -> Tensor:
        return z[:, :4]


NET: Forward = Shift()


def client(**changed: Any) -> AdaptationClient:
    steps = Steps(1, 2, "sgd", 0.1)
    x, transfer = drawn(2, 8), drawn(3, 8, seed=1)
    settings = SETTINGS | changed
    y = torch.tensor([1, 2])
    return AdaptationClient(
        Holding("0", 0, DIMS, x, y, transfer, None, torch.zeros(4), steps, steps, settings)
    )


def test_the_loss_is_classification_of_both_kinds_of_rows_and_the_two_distances() -> None:
    embed = partial(torch.mul, torch.tensor(1.0))
    x = torch.zeros(4, 8)
    x[2, 0] = math.log(3)  # logits (ln 3, 0, 0, 0): p = 1/2, 1/6, 1/6, 1/6
    batch = {
        "x": x,
        "y": torch.tensor([0, 1, 0, -1]),
        "source": torch.tensor([1.0, 1.0, 0.0, 0.0]),
        "scale": torch.tensor([2.0, 2.0, 2.0, 2.0]),
    }
    reference = torch.zeros(8)
    reference[1] = 1.0
    plain = adaptation(NET, batch, {}, embed=None)
    expected = [2 * math.log(4), 2 * math.log(4), 2 * math.log(2), 0.0]
    assert plain.tolist() == pytest.approx(expected, abs=1e-6)
    # Source mean 0: distance 1. Transfer mean (ln 3 / 2, 0, ...): distance 1 + (ln 3 / 2)².
    gap = 1 + 1 + (math.log(3) / 2) ** 2
    matched = adaptation(NET, batch, {"reference": reference, "weight": torch.tensor(5.0)}, embed=embed)
    assert matched.tolist() == pytest.approx([value + 5 * gap for value in expected], abs=1e-5)


@pytest.mark.parametrize("taught", [False, True])
def test_training_is_on_private_rows_alone(taught: bool) -> None:
    phase = client().train(teacher() if taught else None)
    assert phase.private
    assert not phase.coupled
    assert phase.rows["y"].tolist() == [1, 2]


def teacher() -> dict[str, Tensor]:
    return {"reference": torch.zeros(4), "labels": torch.tensor([3, -1], dtype=torch.int16)} | {
        "rows": torch.tensor([0, 2], dtype=torch.int32)
    }


def test_digestion_mixes_private_and_voted_rows() -> None:
    party = client()
    phase = party.digest(teacher())
    assert phase.private
    assert phase.coupled
    assert phase.rows["y"].tolist() == [1, 2, 3, -1]
    assert phase.rows["source"].tolist() == [1, 1, 0, 0]
    assert phase.rows["scale"].tolist() == [2, 2, 2, 2]  # 4 rows, 2 of each kind
    assert torch.equal(phase.rows["x"][2:], party.holding.transfer[[0, 2]])
    assert phase.steps.batch_size == 4  # 2 private rows as ever, and as many transfer rows


@pytest.mark.parametrize(
    ("changed", "weight"), [({}, 1.0), ({"by_consensus": False}, 2.0), ({"voting": "off"}, 2.0)]
)
def test_matching_counts_as_the_share_of_voted_rows(changed: dict[str, Any], weight: float) -> None:
    phase = client(**changed).digest(teacher())  # 1 of 2 rows has a label
    assert phase.constants["weight"].item() == weight


def test_without_matching_rows_are_independent_and_without_votes_unlabelled() -> None:
    given: Fit = client(matching=False).digest(teacher())
    assert not given.coupled
    assert not given.constants
    unlabelled = client(voting="off").digest({"reference": torch.zeros(4)})
    assert unlabelled.rows["y"].tolist() == [1, 2, -1, -1, -1]


def test_a_contribution_holds_the_means_of_both_domains_and_the_votes() -> None:
    party = client()
    inputs = party.inputs(None)
    features, logits = NET(inputs)
    sent = party.extract(features, logits, {})
    assert isinstance(sent, Alignment)
    transfer = party.holding.transfer
    assert transfer is not None
    assert party.embed is not None
    arrays = sent.arrays()
    assert arrays["labels"].tolist() == transfer[:, :4].argmax(1).tolist()
    assert np.allclose(arrays["target"], party.embed(transfer).mean(0))
    assert np.allclose(arrays["source"], party.embed(party.holding.x).mean(0))
    assert np.allclose(arrays["confidence"], transfer[:, :4].softmax(1).amax(1))
    encode(arrays, AdaptationClient.contribution(DIMS, SETTINGS))


# ---- the Group Effect


def test_group_effect_is_the_mean_gain_by_the_teacher() -> None:
    taught = {"global": 0.7, "personal": 0.9, "before_digest": 0.5}
    lost = {"global": 0.3, "personal": 0.9, "before_digest": 0.4}
    untaught = {"global": 0.1, "personal": 0.9}
    deployed = {"personal": 0.9, "before_digest": 0.8}  # no common test set
    assert group_effect([taught, lost, untaught]) == pytest.approx((0.2 - 0.1) / 2)
    assert group_effect([deployed]) == pytest.approx(0.1)
    assert group_effect([untaught]) is None


# ---- whole runs

SETUP = [
    "data.partition={kind: iid, clients: 3, samples_per_client: 60}",
    "data.transfer={from: train, size: 40}",
    "clients.models=[{name: mlp, width: 16}]",
    "clients.local.epochs=1",
    "clients.distill.epochs=1",
    "engine.kind=inline",
    "rounds=2",
]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("threshold: 1.5", "strategy.threshold is 1.5"),
        ("voting: loud", "strategy.voting is 'loud'"),
        ("numbers: 7", "strategy.numbers is 7"),
        ("bandwidths: []", "strategy.bandwidths is []"),
        ("bandwidths: [-1]", "strategy.bandwidths.0 is -1"),
        ("weight: -1", "strategy.weight is -1"),
        ("voting: off, matching: false", "nothing would be exchanged"),
        ("warm_up: -1", "strategy.warm_up is -1"),
    ],
)
def test_bad_settings(settings: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        fedkt.simulate("quickstart", [*SETUP, f"strategy={{name: fedka, {settings}}}"], out=tmp_path / "run")
    assert problem in str(raised.value)


def test_private_training_is_not_planned_for_two_phases(tmp_path: Path) -> None:
    private = "privacy={mode: dpsgd, target_epsilon: 8, delta: 1e-5}"
    with pytest.raises(InputError, match="strategy 'fedka' has two"):
        fedkt.simulate("quickstart", [*SETUP, "strategy={name: fedka}", private], out=tmp_path / "run")


def test_the_server_model_needs_votes(tmp_path: Path) -> None:
    asked = [*SETUP, "strategy={name: fedka, voting: off}", "server_model={model: mlp}"]
    with pytest.raises(InputError, match="server_model learns from voted rows"):
        fedkt.simulate("quickstart", asked, out=tmp_path / "run")


def test_without_votes_nothing_is_said_that_rows_could_be_chosen_by(tmp_path: Path) -> None:
    asked = [*SETUP, "strategy={name: fedka, voting: off}", "data.transfer.rows=10"]
    for policy in ("entropy", "margin", "disagreement", "{utility: sure, mechanism: cover}"):
        with pytest.raises(InputError, match=r"data\.transfer\.policy chooses by .* strategy\.voting is off"):
            fedkt.simulate("quickstart", [*asked, f"data.transfer.policy={policy}"], out=tmp_path / "run")


def test_a_run_reports_the_group_effect_and_teaches_the_server_after_the_warm_up(tmp_path: Path) -> None:
    settings = "strategy={name: fedka, warm_up: 1, threshold: 0}"
    fedkt.simulate("quickstart", [*SETUP, settings, "server_model={model: mlp}"], out=tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "rounds.jsonl").read_text().splitlines()]
    assert [row["status"] for row in rows] == ["nothing", "fused"]
    assert rows[0]["group_effect"] is None
    assert rows[0]["bytes"]["down"] == 0
    clients = [json.loads(line) for line in (tmp_path / "run" / "clients.jsonl").read_text().splitlines()]
    gains = [row["global"] - row["before_digest"] for row in clients if row["round"] == 2]
    assert rows[1]["group_effect"] == pytest.approx(sum(gains) / 3)
    assert rows[1]["report"]["clients"] == ["0", "1", "2"]
    assert len(rows[1]["report"]["mmd"]) == 3
    assert 0 < rows[1]["report"]["voted"] <= 1
    assert 0 <= rows[1]["accuracy"]["server"] <= 1
