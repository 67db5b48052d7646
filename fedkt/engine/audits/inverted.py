"""Attack one client of a finished run by label-only inversion, in the place of a server.

A server chooses the transfer rows, so it may ask for the label of any image. Under ``dpsgd`` and without
privacy such answers cost nothing more, which is what this attack lives on; in modes that add noise to each
answer they would be paid for one by one.
"""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from fedkt.client.state import StateStore
from fedkt.client.training import one_thread, predict
from fedkt.engine.world.world import World
from fedkt.errors import InputError
from fedkt.privacy.attacks import inversion
from fedkt.privacy.budget import draw_inversion

PICTURE = "inversion.png"
FREE = ("none", "dpsgd")
"""Modes in which labels cost nothing beside training."""


def check(world: World) -> None:
    """Raise InputError where the attack has no sense."""
    mode, kind = world.scenario.privacy.mode, world.federation.input.kind
    if kind != "image":
        raise InputError(f"--lokt reconstructs images, but the rows of this scenario are of kind '{kind}'.")
    if mode not in FREE:
        raise InputError(
            f"--lokt asks for {inversion.STEPS * inversion.BATCH:,} labels, each of which privacy mode "
            f"'{mode}' would have to pay for; use it with mode {' or '.join(FREE)}."
        )


def lokt(world: World, store: StateStore, client: str, folder: Path) -> dict[str, Any]:
    """Reconstruct the classes of a client from labels that its model gives after the last round.

    Writes ``inversion.png`` into the folder and returns what
    :class:`~fedkt.privacy.attacks.inversion.Likeness` says, with the number of labels that were asked for.
    """
    shard, federation = world.shards[client], world.federation
    state = store.load(client, below=sys.maxsize)
    if state is None:
        raise InputError(f"client {client} never trained in this run, so there is nothing to invert.")
    net = world.skeleton(client)
    net.load_state_dict(state.part("model"))

    def ask(images: Tensor) -> Tensor:
        return predict(net, images)[1].argmax(1)

    own = federation.tensors(shard)
    unseen = federation.own_test_tensors(shard) if federation.test is None else federation.test_tensors(shard)
    seed = world.scenario.seed
    with one_thread():
        found = inversion.invert(federation.transfer_tensor(shard), ask, federation.classes, seed=seed)
        like = inversion.likeness(found.images, own, unseen, seed=seed)
    means = [own[0][own[1] == label].mean(0) for label in range(federation.classes)]
    draw_inversion(means, found.images, folder / PICTURE, f"{like.recognised:.0%} recognised by an evaluator")
    return {
        "client": client,
        "questions": found.questions,
        "guessing": 1 / federation.classes,
        **asdict(like),
    }


def sentence(found: dict[str, Any]) -> str:
    """Return the outcome as text."""
    shares = {name: f"{found[name]:.0%}" for name in ("recognised", "nearest_mean", "guessing")}
    return (
        f"LOKT, labels alone (an attack's result, no guarantee): {found['questions']:,} labels of client "
        f"{found['client']}; of the images of its {found['classes']} classes that were reconstructed, an "
        f"evaluator recognises {shares['recognised']} and {shares['nearest_mean']} are nearest to their true "
        f"class mean (by guessing {shares['guessing']}); {found['nearer_to_members']:.0%} are nearer to one "
        f"of its rows than to rows it never saw (50% says nothing of single rows); see {PICTURE}"
    )
