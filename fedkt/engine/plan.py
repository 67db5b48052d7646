"""What a scenario will send, computed from shapes alone: nothing is trained."""

from fedkt.engine.world import World
from fedkt.knowledge import Spec


def bytes_per_round(world: World) -> dict[str, int]:
    """Return the bytes that one client sends (``up``) and gets (``down``) in a full round.

    Of the client with the largest messages; ``down`` includes the ids of the rows that are asked for and of
    those that the teacher speaks about, where they are not the whole transfer set.
    """
    transfer = world.scenario.data.transfer
    total = max(world.dims(c).transfer for c in world.shards)
    rows = transfer.rows if transfer and transfer.rows and world.strategy.needs_transfer else total
    some = rows < total
    ids = Spec("int32", (rows,)).nbytes if some else 0
    up = down = 0
    for client in world.shards:
        dims = world.dims(client).about(rows)
        sent = world.behaviour.contribution(dims, world.settings)
        taught = world.behaviour.teacher(dims, world.settings, with_rows=some)
        up = max(up, sum(spec.nbytes for spec in sent.values()))
        down = max(down, ids + sum(spec.nbytes for spec in taught.values()))
    return {"up": up, "down": down}
