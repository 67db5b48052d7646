"""One exchange over a grid: messages out, replies in, in real or in simulated time."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from flwr.app import Message
from flwr.serverapp import Grid

from fedkt.adversity.churn import Fate
from fedkt.errors import Interrupted

POLL_S = 0.02
"""A grid is asked again so long after it was asked and had nothing; one that waits itself is at once."""


def exchange(
    grid: Grid,
    messages: Sequence[Message],
    deadline_s: float,
    enough: int,
    stop: threading.Event,
    replied: Callable[[], None],
) -> list[Message]:
    """Push messages and pull replies until ``enough`` are there or the deadline is over.

    Raises Interrupted once ``stop`` is set; ``replied`` is told of each reply.
    """
    waiting = set(grid.push_messages(messages))
    end = time.monotonic() + deadline_s
    replies: list[Message] = []
    while waiting and len(replies) < enough and time.monotonic() < end:
        if stop.is_set():
            raise Interrupted
        asked = time.monotonic()
        pulled = list(grid.pull_messages(waiting))
        for reply in pulled:
            waiting.discard(reply.metadata.reply_to_message_id)
            replied()
        replies += pulled
        if not pulled:
            time.sleep(max(0.0, asked + POLL_S - time.monotonic()))
    return replies


class SimulatedTime:
    """What each node's fate makes of an exchange whose replies are all there."""

    def __init__(self, fates: Mapping[int, Fate]) -> None:
        self._fates = fates

    def reached(self, messages: Sequence[Message]) -> list[Message]:
        """Return the messages to clients that do not drop out: the others never see theirs."""
        return [m for m in messages if self._fates[m.metadata.dst_node_id].answers]

    def pass_(
        self, replies: Sequence[Message], deadline_s: float, enough: int
    ) -> tuple[list[Message], list[Message], float]:
        """Return the replies that are in time, in their order, the late ones, and how long was waited."""
        ordered = sorted(replies, key=lambda r: (self._seconds(r), r.metadata.src_node_id))
        in_time = [reply for reply in ordered if self._seconds(reply) <= deadline_s]
        late = ordered[len(in_time) :]
        if not self._fates:
            return in_time, late, 0.0
        waited = self._seconds(in_time[enough - 1]) if len(in_time) >= enough else deadline_s
        return in_time, late, waited

    def _seconds(self, reply: Message) -> float:
        return self._fates[reply.metadata.src_node_id].seconds
