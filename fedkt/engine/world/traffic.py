"""What a scenario will send, computed from shapes alone: nothing is trained."""

from typing import Any

from fedkt.engine.world.world import World
from fedkt.knowledge.codec import Spec


def bytes_per_round(world: World) -> dict[str, int]:
    """Return the bytes that one client sends (``up``) and gets (``down``) in a full round.

    Of the client with the largest messages; ``down`` includes the ids of the rows that are asked for and of
    those that the teacher speaks about, where they are not the whole transfer set.
    """
    both = [message_bytes(world, client) for client in world.shards]
    return {way: max(sum(message[way].values()) for message in both) for way in ("up", "down")}


def message_bytes(world: World, client: str) -> dict[str, dict[str, int]]:
    """Return the bytes of every array that a client sends and gets in a full round, by its name.

    ``row ids asked for`` stands beside the teacher's arrays.
    """
    transfer = world.scenario.data.transfer
    total = 0 if world.federation.transfer is None else len(world.federation.transfer)
    rows = transfer.asked if transfer and transfer.asked and world.strategy.needs_transfer else total
    some = rows < total
    dims = world.dims(client).about(rows)
    sent = world.behaviour.contribution(dims, world.settings)
    taught = world.behaviour.teacher(dims, world.settings, with_rows=some)
    up = {name: spec.nbytes for name, spec in sent.items()}
    down = {name: spec.nbytes for name, spec in taught.items()}
    if some:
        down["row ids asked for"] = Spec("int32", (rows,)).nbytes
    return {"up": up, "down": down}


def parties(world: World) -> dict[str, Any]:
    """Return ``federation.json``: who holds what, and what one client's messages of a round consist of.

    ``message``: bytes by array of the first client; ``shares``: what the strategy says that it shares. All
    values are JSON values.
    """
    federation = world.federation
    transfer, task = federation.transfer, federation.task
    return {
        "classes": federation.classes,
        **({} if task.exclusive else {"groups": federation.groups, "grouped": task.grouped}),
        "clients": [
            {
                "client": shard.id,
                "domain": shard.domain,
                "model": world.models[shard.id][0],
                "rows": [int(count) for count in counts],
                "validation": len(shard.validation),
                "test": None if shard.test is None else len(shard.test),
                "hostile": shard.id in world.hostile,
            }
            for shard, counts in zip(federation.shards, federation.counts(), strict=True)
        ],
        "transfer": None if transfer is None else {"rows": len(transfer), "sha256": world.transfer_hash},
        "test": None if federation.test is None else len(federation.test),
        "shares": list(world.strategy.shares),
        "message": message_bytes(world, next(iter(world.shards))),
    }
