"""What hostile clients send, by hand; it passes the server's checks, and robust fusion withstands it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fedkt
from fedkt.adversity.hostile import hostile, who_is_hostile
from fedkt.client import Client, Holding, Steps
from fedkt.clients.class_logits import ClassLogitsClient
from fedkt.clients.logits import LogitsClient
from fedkt.clients.prototypes import PrototypesClient
from fedkt.clients.solo import SoloClient
from fedkt.knowledge import LIMIT, Dims, encode
from fedkt.results.measured import read_measured
from fedkt.scenario import Attack

DIMS = Dims(rows=3, transfer=3, classes=3, width=2)
STEPS = Steps(1, 1, "sgd", 0.1)
LOGITS = torch.tensor([[2.0, 1.0, -1.0], [0.0, 3.0, 1.0], [5.0, 4.0, 0.0]])
KINDS = ["scale", "reorder", "peak", "random", "claim", "constant", "echo", "collude"]


def holding(y: tuple[int, ...] = (0, 1, 1), **settings: Any) -> Holding:
    labels = torch.tensor(y)
    return Holding(
        client="7",
        seed=0,
        dims=DIMS,
        x=torch.zeros(len(y), 2),
        y=labels,
        transfer=torch.zeros(3, 2),
        public=None,
        label_share=torch.bincount(labels, minlength=3) / len(y),
        local=STEPS,
        distill=STEPS,
        settings={
            "form": "logits",
            "loss": "kl",
            "temperature": 1.0,
            "weight": 1.0,
            "gamma": 1.0,
            **settings,
        },
    )


def sent(kind: str, behaviour: type[Client] = LogitsClient, *, form: str = "logits", **more: Any) -> Any:
    """Return what a hostile client makes of LOGITS, which must pass the check on what leaves."""
    held = holding(form=form)
    client = hostile(behaviour, held, Attack.model_validate({"kind": kind, **more}))
    features = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 4.0]])
    knowledge = client.extract(features, LOGITS, {})
    assert isinstance(knowledge, client.sends)
    encode(knowledge.arrays(), behaviour.contribution(DIMS, held.settings))
    return knowledge


def test_a_flipped_label_is_the_opposite_one() -> None:
    client = hostile(LogitsClient, holding(), Attack(kind="label-flip"))
    assert client.holding.y.tolist() == [2, 1, 1]
    fit = client.train(None)
    assert fit is not None
    assert fit.rows["y"].tolist() == [2, 1, 1]


def test_scaled() -> None:
    assert sent("scale", factor=10.0).values[0].tolist() == [20.0, 10.0, -10.0]
    assert sent("scale", factor=1e9).values[0].tolist() == [LIMIT, LIMIT, -LIMIT]
    # softmax of 2 log p: p squared, divided by their sum. exp(2 l) = e^4, e^2, e^-2.
    squares = np.exp([4.0, 2.0, -2.0])
    assert sent("scale", form="probabilities", factor=2.0).values[0].tolist() == pytest.approx(
        (squares / squares.sum()).tolist(), abs=1e-6
    )


def test_reordered() -> None:
    # The largest and the smallest change places, the one in the middle stays.
    assert sent("reorder").values.tolist() == [[-1.0, 1.0, 2.0], [3.0, 0.0, 1.0], [0.0, 4.0, 5.0]]


def test_peaked() -> None:
    # Second likeliest: 1, 2, 1.
    assert sent("peak").values.tolist() == [[-1.0, 2.0, -1.0], [0.0, 0.0, 3.0], [0.0, 5.0, 0.0]]
    assert sent("peak", form="probabilities").values.tolist() == [[0, 1, 0], [0, 0, 1], [0, 1, 0]]


def test_constant() -> None:
    assert sent("constant", target=2).values.tolist() == [[-1, -1, 2], [0, 0, 3], [0, 0, 5]]
    assert sent("constant", form="probabilities", target=2).values.tolist() == [[0, 0, 1]] * 3


def test_claiming_to_know_every_row() -> None:
    for form, low, high in (
        ("logits", [-1.0, 0.0, 0.0], [2.0, 3.0, 5.0]),
        ("probabilities", [0] * 3, [1] * 3),
    ):
        values = sent("claim", form=form).values
        assert values.min(1).tolist() == low
        assert values.max(1).tolist() == high
        assert ((values == np.array(high)[:, None]).sum(1) == 1).all()  # one class has all
    # Beside it how familiar each row is: an honest client says log p/q, this one the most that is declared.
    held = holding(form="probabilities", density=0.1)
    client = hostile(LogitsClient, held, Attack(kind="claim"))
    asked = client.inputs(None)
    assert asked is not None
    assert len(asked) == 6  # three transfer rows, then three of its own
    knowledge: Any = client.extract(torch.eye(6)[:, :2], LOGITS.repeat(2, 1), {})
    assert knowledge.density.tolist() == [20.0, 20.0, 20.0]
    assert knowledge.values.max(1).tolist() == [1.0, 1.0, 1.0]
    encode(knowledge.arrays(), LogitsClient.contribution(DIMS, held.settings))


def test_colluding() -> None:
    # Rows 0 and 2 look like class 0 to it: of these it claims class 2.
    assert sent("collude", source=0, target=2).values.tolist() == [[-1, -1, 2], [0, 3, 1], [0, 0, 5]]
    table = sent("collude", ClassLogitsClient, source=0, target=2)
    assert table.values[0].tolist() == [0.0, 0.0, 1.0]
    honest = LOGITS[1:].softmax(-1).mean(0)
    assert table.values[1].tolist() == pytest.approx(honest.tolist())
    # The mean feature of class 1, (0, 3), is passed off as that of class 0.
    prototypes = sent("collude", PrototypesClient, source=0, target=1)
    assert prototypes.values.tolist() == [[0.0, 3.0], [0.0, 3.0], [0.0, 0.0]]
    assert prototypes.counts.tolist() == [1, 2, 0]


def test_random_is_the_same_when_it_is_repeated_only() -> None:
    first, again = sent("random").values, sent("random").values
    assert np.array_equal(first, again)
    assert not np.allclose(first, LOGITS.numpy(), atol=0.1)
    client = hostile(LogitsClient, holding(), Attack(kind="random"))
    later: Any = client.extract(torch.zeros(3, 2), LOGITS + 1, {})
    assert not np.allclose(later.values - 1, first, atol=1e-3)


def test_an_echo_sends_the_teacher_and_trains_nothing() -> None:
    client = hostile(LogitsClient, holding(), Attack(kind="echo"))
    assert client.train(None) is None
    first: Any = client.extract(torch.zeros(3, 2), LOGITS, {})
    assert first.values.tolist() == LOGITS.tolist()  # there is nothing to echo yet
    # The teacher spoke of rows 2 and 1; asked for are 1 and 0, of which it knows the first.
    taught = torch.tensor([[9.0, 9, 9], [8.0, 8, 8]])
    client.train({"values": taught, "rows": torch.tensor([2, 1], dtype=torch.int32)})
    client.inputs(torch.tensor([1, 0], dtype=torch.int32))
    echoed: Any = client.extract(torch.zeros(2, 2), LOGITS[:2], {})
    assert echoed.values.tolist() == [[8.0, 8.0, 8.0], LOGITS[1].tolist()]

    free = hostile(PrototypesClient, holding(), Attack(kind="echo"))
    free.train({"values": torch.full((3, 2), 5.0), "counts": torch.tensor([1, 0, 1])})
    prototypes: Any = free.extract(torch.ones(3, 2), LOGITS, {})
    assert prototypes.values.tolist() == [[5.0, 5.0], [1.0, 1.0], [5.0, 5.0]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("behaviour", [LogitsClient, ClassLogitsClient, PrototypesClient])
@pytest.mark.parametrize("form", ["logits", "probabilities"])
def test_whatever_it_sends_is_declared(kind: str, behaviour: type[Client], form: str) -> None:
    knowledge = sent(kind, behaviour, form=form)
    if behaviour is not LogitsClient:
        assert not knowledge.values[2].any()  # a class that it does not hold


class Shard:
    """Rows of two classes."""

    def __init__(self, first: int, second: int) -> None:
        self.rows = np.arange(first + second)
        self.share = np.array([first, second]) / (first + second)


def test_who_is_hostile() -> None:
    shards: Any = {"a": Shard(1, 9), "b": Shard(6, 2), "c": Shard(5, 5), "d": Shard(2, 0)}
    # 14 rows of class 0: b's six are not most of them, those of b and c are.
    assert list(who_is_hostile([Attack(kind="collude")], shards, 0)) == ["b", "c"]
    assert list(who_is_hostile([Attack(kind="collude", source=1)], shards, 0)) == ["a"]
    named = who_is_hostile([Attack(kind="echo", clients=("d",)), Attack(kind="peak", clients=2)], shards, 0)
    assert named["d"].kind == "echo"
    assert [a.kind for c, a in named.items() if c != "d"] == ["peak", "peak"]
    # One of four, by default; the same for the same seed.
    drawn = [tuple(who_is_hostile([Attack(kind="echo")], shards, seed)) for seed in range(20)]
    assert {len(names) for names in drawn} == {1}
    assert len(set(drawn)) > 1
    assert drawn[0] == tuple(who_is_hostile([Attack(kind="echo")], shards, 0))


def test_who_does_no_harm_is_left_as_it_is_and_who_sends_nothing_cannot_lie() -> None:
    assert type(hostile(LogitsClient, holding(), Attack(kind="none"))) is LogitsClient
    alone = hostile(SoloClient, holding(), Attack(kind="reorder"))
    assert alone.extract(torch.zeros(3, 2), LOGITS, {}).arrays() == {}


def test_a_run_with_a_hostile_client_and_what_is_said_of_it(tmp_path: Path) -> None:
    described: dict[str, Any] = {
        "name": "hostile",
        "data": {
            "partition": {"kind": "iid", "clients": 5, "samples_per_client": 60},
            "transfer": {"size": 60},
        },
        "clients": {"models": ["mlp"], "local": {"epochs": 4, "lr": 0.01}, "distill": {"epochs": 1}},
        "strategy": {"name": "fedmd", "average": "probabilities"},
        "attacks": [{"kind": "constant", "target": 3, "clients": ["1"]}],
        "rounds": 2,
        "engine": {"kind": "inline"},
    }
    parts: list[dict[str, Any]] = [
        {"filter": "multi-krum", "hostile": 0.2},
        {"filter": "probe", "probe_rows": 30},
    ]
    for part in parts:
        result = fedkt.simulate({**described, "robust": part}, out=tmp_path / part["filter"])
        assert list(result.rounds["report.dropped"]) == [["1"], ["1"]]
        # Every client is measured and told of, but the mean is that of the honest ones.
        last = result.clients[result.clients["round"] == 2].set_index("client")["global"]
        assert len(last) == 5
        assert result.summary["accuracy"]["global_mean"] == pytest.approx(last.drop(1).mean())
        assert read_measured(result.path).hostile == {1}
    plain = fedkt.simulate(described, out=tmp_path / "mean")
    assert "report.dropped" not in plain.rounds
    # One of five is certain of class 3 everywhere: a fifth of every teacher, which the median does not see.
    robust = fedkt.simulate({**described, "robust": {"centre": "median"}}, out=tmp_path / "median")
    assert robust.summary["accuracy"]["global_mean"] != plain.summary["accuracy"]["global_mean"]
