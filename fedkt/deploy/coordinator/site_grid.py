"""Flower's grid as a deployed run needs it: only seated sites, nobody waited for who is not there."""

import time
from collections.abc import Callable, Iterable, Mapping

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from fedkt.deploy.coordinator.reception import PAUSE_S, Reception
from fedkt.deploy.wire.flwr_control import TOO_LARGE, error_reply, gone, too_large
from fedkt.deploy.wire.hello import Facts
from fedkt.engine.runtimes.flwr_internals import PulledGrid
from fedkt.knowledge.protocol import Reply, binding_of

Seat = Callable[[dict[int, str]], None]


class SiteGrid(PulledGrid):
    """``roster``: who takes part; ``seat`` is told which node plays which site, also of one that came back.

    What is addressed to a node that is away stays unsent, so the loop counts that site as late without
    waiting for it; Flower itself would notice a lost node, and answer in its place, only when its heartbeats
    had stayed away for up to a minute.
    """

    def __init__(self, grid: Grid, reception: Reception, roster: Mapping[str, Facts], seat: Seat) -> None:
        self._grid = grid
        self._reception = reception
        self._roster = roster
        self._seat = seat
        self._there: set[int] = set()
        self._sent: dict[str, Message] = {}

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes of seated sites that are there."""
        online = self._reception.online()
        places = {node: name for node, name in self._reception.here.items() if self._is_of_the_run(name)}
        self._there = online & set(places)
        self._seat(places)
        return sorted(self._there)

    def wait_for(self, sites: int, seconds: float) -> None:
        """Wait until so many sites are there, or the time is over."""
        end = time.monotonic() + seconds
        while len(list(self.get_node_ids())) < sites and time.monotonic() < end:
            time.sleep(PAUSE_S)

    def _is_of_the_run(self, name: str) -> bool:
        mine = self._roster.get(name)
        return mine is not None and mine.dims == self._reception.facts[name].dims

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send what is addressed to nodes that are there; return the ids of that."""
        sending = [message for message in messages if message.metadata.dst_node_id in self._there]
        ids = list(self._grid.push_messages(sending)) if sending else []
        self._sent = {i: message for i, message in zip(ids, sending, strict=True) if i}
        return list(self._sent)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that came, after a short pause; a node that Flower gave up does not count."""
        time.sleep(PAUSE_S)
        replies = []
        for reply in self._grid.pull_messages(list(message_ids)):
            if reply.has_error():
                asked = self._sent.get(reply.metadata.reply_to_message_id)
                if asked is not None and too_large(reply):
                    reply = Message(self._too_large(asked), reply_to=asked)
                elif gone(reply) or asked is None:
                    reply.metadata.__dict__["_src_node_id"] = 0  # nobody's, so its site stays late
                else:
                    reply = error_reply(reply.error, asked)
            replies.append(reply)
        return replies

    def _too_large(self, asked: Message) -> RecordDict:
        name = self._reception.here[asked.metadata.dst_node_id]
        words = "the reply was not fetched, since it is far larger than any of this run can be"
        return Reply(binding_of(asked.content), name, "failed", TOO_LARGE, words).pack({})

    def set_run(self, run: Run) -> None:
        """Set the run."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """The run."""
        return self._grid.run
