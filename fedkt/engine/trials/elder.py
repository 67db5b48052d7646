"""A small model that learns from its owner's larger one (``slim_from`` of a model); nothing of it leaves.

The larger one trains on the owner's private rows, as long as a whole run would, and the small one rehearses
what it says of the transfer rows in the steps of its own training (Hinton, Vinyals, Dean 2015, "Distilling
the knowledge in a neural network", arXiv:1503.02531, whose transfer set this is). On rows that both are
trained on it says hardly more than their labels do.
"""

from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import torch

from fedkt import models
from fedkt.client.behaviour import Client, Fit, Holding
from fedkt.client.digesting import digestion
from fedkt.client.training import fit, one_thread, predict
from fedkt.engine.world.world import World
from fedkt.rng import seed_of

_kept: "WeakKeyDictionary[World, dict[str, models.Net]]" = WeakKeyDictionary()
"""Larger models that were trained in this process, by client."""


def lesson_of_elder(world: World, behaviour: Client) -> Fit | None:
    """Return what a client's larger model teaches on the transfer rows; None where there is none."""
    holding = behaviour.holding
    spec = world.models[holding.client][1].get("slim_from")
    if spec is None or holding.transfer is None or not holding.labelled:
        return None
    known = _kept.setdefault(world, {})
    if holding.client not in known:
        known[holding.client] = _trained(world, holding, spec)
    with one_thread():
        said = predict(known[holding.client], holding.transfer)[1].detach()
    return digestion(holding, holding.transfer, said)


def _trained(world: World, holding: Holding, spec: Any) -> models.Net:
    seed, federation = world.scenario.seed, world.federation
    begin = seed_of(seed, "elder", holding.client)
    net = models.build(spec, federation.input, federation.classes, begin).to(world.device)
    steps = replace(holding.local, batches=world.scenario.rounds * holding.local.count(len(holding.x)))
    phase = Fit("elder", {"x": holding.x, "y": holding.y}, holding.training, steps)
    with one_thread():
        fit(net, phase, {}, seed=seed, client=holding.client, round_=0)
    return net


def both(one: Fit | None, other: Fit | None) -> Fit | None:
    """Return one phase of two that distil by the same loss, of all their rows.

    >>> from fedkt.client.behaviour import Steps, distillation
    >>> part = lambda n: Fit("digest", {"x": torch.zeros(n, 2)}, distillation, Steps(1, 8, "adam", 0.1))
    >>> both(part(3), part(2)).size, both(None, part(2)).size, both(None, None)
    (5, 2, None)
    """
    if one is None or other is None:
        return one or other
    return replace(one, rows={name: torch.cat([rows, other.rows[name]]) for name, rows in one.rows.items()})
