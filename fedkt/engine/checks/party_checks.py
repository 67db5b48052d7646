"""What can be known to be wrong with the parties of a world: rows to spare, labels that are known, views."""

import math

from fedkt import registry
from fedkt.client.behaviour import classification
from fedkt.engine.world.world import World


def party_problems(world: World) -> list[str]:
    """Return which parties lack what they are asked for, in sentences."""
    checks = (_guard, _labels, _unlabelled, _density, _views)
    return [problem for check in checks for problem in check(world)]


def _guard(world: World) -> list[str]:
    """Return which client has no rows to spare for its guard."""
    guard = world.scenario.clients.guard
    if guard is None:
        return []
    if guard.folds is not None:
        return [
            f"clients.guard.folds is {guard.folds}, but client {name} has {len(shard.rows)} training rows; "
            "it must be at most their number, or guard must be left out."
            for name, shard in world.shards.items()
            if len(shard.rows) < guard.folds
        ][:1]
    least = math.ceil(1 / guard.validation)
    return [
        f"clients.guard.validation is {guard.validation:g}, but client {name} has {len(shard.rows)} training "
        f"rows, of which that is none; it needs at least {least}, or guard must be left out."
        for name, shard in world.shards.items()
        if not int(guard.validation * len(shard.rows))
    ][:1]


def _labels(world: World) -> list[str]:
    """Return whether fewer labels of transfer rows are known than the strategy needs."""
    name, labels = world.strategy.labelled, world.federation.transfer_labels
    known = 0 if labels is None else int((labels >= 0).sum())
    if not name or (wanted := getattr(world.config, name)) <= known:
        return []
    return [
        f"strategy.{name} is {wanted}, but labels of {known} transfer rows are known; it must be at most "
        "their number."
    ]


def _views(world: World) -> list[str]:
    """Return why images cannot be learned with views of them, in sentences."""
    if world.scenario.clients.local.augment is None:
        return []
    shape, name = world.federation.input.shape, world.scenario.strategy.name
    found = []
    if world.federation.input.kind != "image" or shape[-1] != shape[-2]:
        found.append("clients.local.augment turns square images, which these rows are not; leave it out.")
    phases = [phase for part in world.private_phases(world.names[0]) for phase in part]
    own_loss = any(phase.loss is not classification for phase in phases)
    if own_loss or not phases or {"weights", "data"} & set(world.strategy.shares):
        found.append(
            f"clients.local.augment belongs to plain classification by clients that keep their models, but "
            f"strategy '{name}' trains in another way; leave it out."
        )
    return found


def _density(world: World) -> list[str]:
    """Return which client has no private rows that transfer rows could be compared with."""
    without = [name for name, shard in world.shards.items() if not len(shard.rows)]
    if "density" not in world.settings or not without:
        return []
    return [
        f"strategy.weights is density, for which private rows are compared with transfer rows, but client "
        f"{without[0]} has no private rows; use energy, which follows from predictions."
    ]


def _unlabelled(world: World) -> list[str]:
    """Return why clients cannot do without labels, in sentences."""
    without, names = world.scenario.data.unlabelled, world.names
    if not without:
        return []
    strangers = [name for name in without if name not in world.shards]
    found = [
        f"data.unlabelled names '{name}', but there is no such client; {registry.did_you_mean(name, names)}"
        for name in strangers
    ]
    if not strangers and len(names) - len(without) < max(2, world.scenario.participation.quorum):
        found.append(
            f"data.unlabelled leaves {len(names) - len(without)} clients with labels, of which "
            f"{max(2, world.scenario.participation.quorum)} must take part; it must name fewer."
        )
    name, mode, clients = world.scenario.strategy.name, world.mode, world.scenario.clients
    if not world.behaviour.learns_unlabelled or "selector" in world.settings:
        found.append(
            f"strategy '{name}' learns from labels of one's own, which data.unlabelled says that some "
            "clients lack; use one that teaches about transfer rows, such as dwc."
        )
    if mode is not None and mode.training_noise(1.0) is not None:
        found.append(
            f"privacy mode '{world.scenario.privacy.mode}' trains on labelled rows, which data.unlabelled "
            "says that some clients lack; use a mode that adds noise to what is sent."
        )
    if clients.guard is not None:
        found.append(
            "clients.guard decides by labelled rows, which data.unlabelled says that some clients lack; "
            "leave one of them out."
        )
    return found
