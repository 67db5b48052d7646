"""Laws of every registered strategy's ``fuse``, on any contributions that pass the receiver's check."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedkt import registry
from fedkt.engine.checks.checked import checked_world
from fedkt.engine.world.world import World
from fedkt.knowledge import Expected, decode, encode
from fedkt.scenario import from_dict
from fedkt.strategy import Contributions, Fused, Strategy, stack

CLIENTS = 4
SHORT = ("steps", "epochs", "rows")
"""Settings that say how long a server trains: once is enough here."""

NAMES = [name for name in registry.names("strategies") if name not in ("local", "central")]
"""Those to which clients send something."""


@lru_cache
def world_of(name: str) -> World:
    fields = registry.find("strategies", name).Config.model_fields
    return checked_world(
        from_dict(
            {
                "name": "properties",
                "data": {
                    "partition": {"kind": "iid", "clients": CLIENTS, "samples_per_client": 20},
                    "transfer": {"size": 6},
                    "public": {"size": 20},
                },
                "clients": {"models": [{"name": "mlp", "width": 4, "hidden": [4]}]},
                "strategy": {"name": name} | {key: 1 for key in SHORT if key in fields},
                "allow": ["weights", "features"],
            }
        )
    )


def strategy_of(world: World) -> Strategy:
    return world.strategy(world.config, world.setting("run", Path()))


def contribution(expected: Expected, rng: np.random.Generator, scale: float, empty: float) -> dict[str, Any]:
    """Draw arrays that are as declared; ``empty``: the share of classes that the client does not hold."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, spec in expected.items():
        if np.dtype(spec.dtype).kind in "iu":
            high = int(min(spec.high, 40))
            arrays[name] = rng.integers(int(spec.low), high + 1, spec.shape).astype(spec.dtype)
        elif spec.simplex:
            # From even to nearly sure.
            p = np.exp(rng.normal(0, min(scale, 30.0), spec.shape))
            arrays[name] = (p / p.sum(-1, keepdims=True)).astype(spec.dtype)
        else:
            values = np.clip(scale * rng.normal(0, 1, spec.shape), spec.low, spec.high)
            if spec.norm is not None:
                values = values * min(1.0, spec.norm / max(float(np.linalg.norm(values)), 1e-30))
            arrays[name] = values.astype(spec.dtype)
    if "counts" in arrays:
        missing = rng.random(len(arrays["counts"])) < empty
        arrays["counts"] = np.where(missing, 0, np.maximum(arrays["counts"], 1)).astype(np.int32)
        for name, spec in expected.items():
            if spec.shape[:1] == missing.shape and name != "counts" and "." not in name:
                arrays[name][missing] = 0
    if "base" in arrays:
        arrays["base"][...] = 0  # there was no teacher before, of which anything could be a change
    if "examples" in arrays:
        arrays["examples"] = np.maximum(arrays["examples"], 1).astype(np.int32)
    return arrays


def contributions(world: World, clients: int, seed: int, scale: float, empty: float) -> Contributions:
    rng = np.random.default_rng(seed)
    names = list(world.shards)[:clients]
    held: dict[str, Mapping[str, NDArray[Any]]] = {}
    for client in names:
        dims = world.dims(client)
        expected = world.behaviour.contribution(dims.about(dims.transfer), world.settings)
        held[client] = decode(encode(contribution(expected, rng, scale, empty), expected), expected)
    return stack(names, held, None)


def fuse(world: World, given: Contributions) -> Fused:
    strategy = strategy_of(world)
    fused = strategy.fuse(strategy.decode(given))
    assert fused is not None
    return fused


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([1.0, 0.0, 1e-3, 30.0, 1e4]),
    clients=st.integers(1, CLIENTS),
    empty=st.sampled_from([0.5, 0.0, 1.0]),
)
def test_teachers_of_anything_that_may_come(
    name: str, seed: int, scale: float, clients: int, empty: float
) -> None:
    world = world_of(name)
    straight = contributions(world, clients, seed, scale, empty)
    fused = fuse(world, straight)
    # What may come makes what may leave: finite, in range, rows that sum to one where they are declared to.
    dims = world.dims("0")
    expected = world.behaviour.teacher(dims.about(dims.transfer), world.settings, with_rows=False)
    assert len(fused.teachers) == (clients if fused.personal else len(fused.by_client) or 1)
    for teacher in fused.teachers:
        encode({array: tensor.numpy() for array, tensor in teacher.items()}, expected)
    # A permutation of clients permutes the teachers.
    order = np.random.default_rng(seed).permutation(clients)
    other = fuse(world, straight.among([straight.clients[i] for i in order]))
    assert fused.personal == other.personal
    teachers = [fused.teachers[i] for i in order] if fused.personal else fused.teachers
    for one, turned in zip(teachers, other.teachers, strict=True):
        assert one.keys() == turned.keys()
        for array, tensor in one.items():
            # Sums in another order: of single precision, relative to the largest value.
            slack = 1e-4 * max(1.0, tensor.double().abs().max().item())
            assert torch.allclose(turned[array].double(), tensor.double(), rtol=0, atol=slack)
