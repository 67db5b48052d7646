"""Smuggling: a client behaviour that tries to send its model gets a refusal out, and nothing else.

Each attack goes through the real app, as in a run.
"""

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from torch import Tensor

from fedkt import scenario
from fedkt.client import Arrays
from fedkt.client.state import DiskStore
from fedkt.clients.logits import LogitsClient
from fedkt.engine.checks.checked import checked_world
from fedkt.engine.clients.app import make_app
from fedkt.engine.runtimes.inline import InlineGrid
from fedkt.engine.world.world import World
from fedkt.errors import RunError
from fedkt.knowledge import Knowledge, Logits, Weights
from fedkt.knowledge.protocol import knowledge_bytes
from fedkt.strategy import Contributions, Fused, Setting, Strategy, StrategyConfig

CLASSES, WIDTH = 10, 16
"""The transfer set has as many rows as the model has features, so that the head's weight fits the message."""

SEEN: list[dict[str, np.ndarray]] = []
"""The model's tensors at each attack, noted by the thief."""


@dataclass(frozen=True, eq=False)
class WithMore(Logits):
    """Logits with another field."""

    more: np.ndarray | None = None


class OtherArrays(Logits):
    """Logits that name further arrays only when they are asked for what to send."""

    def arrays(self) -> dict[str, np.ndarray]:
        return super().arrays() | {"head.weight": SEEN[-1]["head.weight"]}


class WeightsAsLogits(Logits):
    """A type that passes for logits and hands out the arrays of weights."""

    def arrays(self) -> dict[str, np.ndarray]:
        return Weights(SEEN[-1], np.array(1, np.int32)).arrays()


class Thief(LogitsClient):
    """Trains like any other client, then tries what the setting ``attack`` names."""

    def extract(self, features: Tensor, logits: Tensor, params: Arrays) -> Knowledge:
        tensors = {name: p.detach().cpu().numpy().copy() for name, p in params.items()}
        SEEN.append(tensors)
        head, values = tensors["head.weight"], logits.cpu().numpy()
        flat = np.concatenate([t.ravel() for t in tensors.values()])
        order = np.random.default_rng(0).permutation(head.size)
        shape = (WIDTH, CLASSES)
        found: dict[str, Knowledge] = {
            "none": Logits(values),
            "weights": Weights(tensors, np.array(len(self.holding.y), np.int32)),
            "weights-as-logits": WeightsAsLogits(values),
            "flattened": Logits(flat),
            "flattened-rows": Logits(np.resize(flat, (-(-flat.size // CLASSES), CLASSES))),
            "more-field": WithMore(values, more=head),
            "more-field-flattened": WithMore(values, more=flat),
            "more-arrays": OtherArrays(values),
            "rows-field": Logits(values, rows=flat.view(np.int32)),
            "label-share-field": Logits(values, label_share=tensors["head.bias"]),
            "transposed": Logits(np.ascontiguousarray(head.T)),
            "transposed-view": Logits(head.T),
            "reshaped": Logits(head.reshape(shape)),
            "upside-down": Logits(np.ascontiguousarray(head.T[::-1, ::-1])),
            "shuffled": Logits(head.ravel()[order].reshape(shape)),
            "doubles": Logits(head.T.astype(np.float64)),
            "structured": Logits(np.zeros(shape, np.dtype([("values", "<f4"), ("more", "<f4")]))),
            "objects": Logits(np.full(shape, tensors, object)),
        }
        return found[self.holding.settings["attack"]]


class StealConfig(StrategyConfig):
    """Settings of the attack."""

    attack: str = "none"


class Steal(Strategy):
    """FedMD with thieves for clients."""

    client = f"{__name__}:Thief"
    needs_transfer = True
    default_loss = "mae"
    Config = StealConfig

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        return {"form": "logits", "attack": config.attack}

    def fuse(self, contributions: Contributions) -> Fused:
        return Fused({"values": contributions.values.mean(0)})


def world_of(strategy: Mapping[str, Any], **more: Any) -> World:
    found = scenario.load(
        {
            "name": "guard",
            "data": {
                "dataset": "digits",
                "partition": {"kind": "iid", "clients": 2},
                "transfer": {"from": "train", "size": WIDTH},
            },
            "clients": {"models": [{"name": "mlp", "width": WIDTH}], "local": {"epochs": 1}},
            "strategy": dict(strategy),
            **more,
        }
    )
    return checked_world(found)


def one_round(world: World, states: Path, *, raise_errors: bool = False) -> tuple[Strategy, list[Message]]:
    """Ask every client to train once, as the loop does; return the strategy and the raw replies."""
    dims = {client: world.dims(client) for client in world.shards}
    setting = Setting(
        world.scenario, "run", dims, world.transfer_hash, world.federation.input, world.federation
    )
    strategy = world.strategy(world.config, setting)
    store = DiskStore(states)
    grid = InlineGrid(make_app(lambda: (world, store), raise_errors=raise_errors), len(world.shards))
    messages = list(strategy.configure_train(1, ArrayRecord(), ConfigRecord(), grid))
    replies = list(grid.send_and_receive(messages))
    assert len(replies) == len(messages) == 2
    strategy.aggregate_train(1, replies)
    return strategy, replies


def leaked(message: Message, tensors: Mapping[str, np.ndarray]) -> list[str]:
    """Return the model's tensors of which two neighbouring values, or one in digits, are in the message."""
    content = pickle.dumps(message.content)
    words = set(re.findall(rb"-?\d+\.\d+(?:e-?\d+)?", content))
    found = []
    for name, tensor in tensors.items():
        views = [tensor, tensor.T, tensor.astype(np.float64), tensor.T.astype(np.float64)]
        pairs = {v.ravel()[i : i + 2].tobytes() for v in views for i in range(tensor.size - 1)}
        digits = {str(form(v)).encode() for v in tensor.ravel() for form in (np.float32, float)}
        if any(pair in content for pair in pairs) or digits & words:
            found.append(name)
    return found


ATTACKS = {
    # Another kind of knowledge, or one that only looks like the declared one.
    "weights": "kind",
    "weights-as-logits": "weights",
    # The whole model in the declared array.
    "flattened": "shape",
    "flattened-rows": "shape",
    # The model in a further array.
    "more-field": "weights",
    "more-field-flattened": "names",
    "more-arrays": "weights",
    "rows-field": "names",
    "label-share-field": "weights",
    # One tensor of the model that fits the declared array exactly.
    "transposed": "weights",
    "transposed-view": "weights",
    "reshaped": "weights",
    "upside-down": "weights",
    "shuffled": "weights",
    "doubles": "weights",
    # Arrays that hold more than numbers.
    "structured": "dtype",
    "objects": "dtype",
}


@pytest.mark.parametrize("attack", list(ATTACKS))
def test_a_model_does_not_leave(attack: str, tmp_path: Path) -> None:
    SEEN.clear()
    strategy, replies = one_round(world_of({"name": f"{__name__}:Steal", "attack": attack}), tmp_path)
    assert len(SEEN) == 2
    for message, tensors in zip(replies, SEEN, strict=True):
        assert list(message.content) == ["fedkt"]  # the envelope alone: no arrays, no metrics
        assert not message.content.array_records
        assert knowledge_bytes(message.content) == 0
        assert leaked(message, tensors) == []
    for outcome in strategy.course.outcomes.values():
        assert (outcome.status, outcome.reason) == ("failed", ATTACKS[attack])
        assert "stage extract" in outcome.detail or "stage send" in outcome.detail
    assert strategy.teachers.of("0") is None


def test_the_error_ends_a_run_in_one_process(tmp_path: Path) -> None:
    with pytest.raises(
        RunError, match=r"client 0, round 1, stage extract: Rejected: .*weights may not leave"
    ):
        one_round(
            world_of({"name": f"{__name__}:Steal", "attack": "transposed"}), tmp_path, raise_errors=True
        )


def test_what_an_honest_client_sends_leaves(tmp_path: Path) -> None:
    SEEN.clear()
    strategy, replies = one_round(world_of({"name": f"{__name__}:Steal"}), tmp_path)
    for message, tensors in zip(replies, SEEN, strict=True):
        assert {key: list(record) for key, record in message.content.array_records.items()} == {
            "knowledge": ["values"]
        }
        assert leaked(message, tensors) == []
    assert [outcome.status for outcome in strategy.course.outcomes.values()] == ["accepted", "accepted"]
    assert strategy.teachers.of("0") is not None


def test_the_search_finds_weights_where_they_may_leave(tmp_path: Path) -> None:
    world = world_of({"name": "fedavg"}, allow=["weights"])
    strategy, replies = one_round(world, tmp_path)
    assert [outcome.status for outcome in strategy.course.outcomes.values()] == ["accepted", "accepted"]
    for client, message in zip(world.shards, replies, strict=True):
        state = DiskStore(tmp_path).load(client, below=3)
        assert state is not None
        sent = {
            k.removeprefix("model/"): t.numpy() for k, t in state.tensors.items() if k.startswith("model/")
        }
        assert leaked(message, sent) == list(sent)
        digits = RecordDict({"fedkt": ConfigRecord({"detail": str(sent["head.bias"].tolist())})})
        assert leaked(Message(digits, 1, "train"), sent) == ["head.bias"]
