"""What a client tells of its failures: where, what kind, and what to do where that is known.

An error's text may quote private data or weights, so it stays with the client, in its ``failure.txt``. Told
in words is only what is wrong with the server's own message, and what follows from the kind of error alone.
"""

import traceback
from dataclasses import dataclass

from fedkt.engine.clients.cohorts import is_out_of_memory
from fedkt.engine.world.world import World
from fedkt.errors import Diverged, own_code
from fedkt.knowledge.codec import LIMIT, Rejected
from fedkt.knowledge.protocol import MAX_NAME, MAX_TEXT, Binding, Reply
from fedkt.strategy.fusing import remedies

OPENING, SENDING = "open", "send"
"""The stages in which a message is checked, and in which the reply is encoded."""


@dataclass(frozen=True)
class Failure:
    """``told``: a sentence that quotes no data; ``reason``: one word; ``kept``: all that there is to say."""

    reason: str
    told: str
    kept: str


def failure(world: World, client: str, round_: int, stage: str, error: BaseException) -> Failure:
    """Describe an error that ended a client's work on a message; call while it is handled."""
    where = f"client {client}, round {round_}, stage {stage}"
    reason, told = type(error).__name__, f"{where}: {type(error).__name__}"
    line = own_code(error)
    text = f"{where}: {type(error).__name__}: {error}" + (f" ({line})" if line else "")
    if isinstance(error, Diverged):
        reason, told = "diverged", str(error)
        text = told
    elif isinstance(error, Exception) and is_out_of_memory(error):
        told = f"client {client} ran out of memory in round {round_}, stage {stage}; "
        reason, told = "memory", f"{told}lower clients.local.batch_size or take a smaller model."
    elif isinstance(error, Rejected):
        reason, told = error.reason, f"{where}: {error.reason}"
        if stage == OPENING:
            told = f"{where}: {error}"
        elif stage == SENDING and reason in ("finite", "range"):
            told = text = f"{_unsendable(world, client, round_, error)}."
    return Failure(reason, told, f"{text}\n{traceback.format_exc()}")


def failed(binding: Binding, client: str, what: Failure) -> Reply:
    """Return the reply that tells of a failure."""
    return Reply(binding, client, "failed", what.reason[:MAX_NAME], what.told[:MAX_TEXT])


def _unsendable(world: World, client: str, round_: int, error: Rejected) -> str:
    out = (
        "are not finite"
        if error.reason == "finite"
        else f"leave their range, at most [-{LIMIT:g}, {LIMIT:g}]"
    )
    local = world.scenario.clients.local.lr
    remedy = remedies.lower(local, "train", world.scenario, world.config)
    remedy += remedies.scale(world.scenario, world.federation.input.kind)
    return f"the values that client {client} would send in round {round_} {out}; {remedy}"
