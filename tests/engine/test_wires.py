"""How a grid reaches its processes, and what it asks one again that took another one's place."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import pytest
from flwr.app import Message, RecordDict

from fedkt.engine.runtimes.flwr_internals import become_server
from fedkt.engine.runtimes.journal import Journal
from fedkt.engine.runtimes.wires import Dead, Wire, ready, serve


def messages(*nodes: int) -> list[Message]:
    become_server()
    return [Message(RecordDict(), node, "train") for node in nodes]


def nodes_of(journal: Journal, *chosen: int) -> list[list[int]]:
    return [[m.metadata.dst_node_id for m in part] for part in journal.of(lambda node: node in chosen)]


def test_a_journal_holds_what_was_answered_since_states_were_saved() -> None:
    journal = Journal(keep=True)
    for exchange, nodes in ((1, (1, 2)), (2, (2, 3)), (3, (1,))):
        journal.turn()
        for message in messages(*nodes):
            journal.note(message, exchange)
    assert nodes_of(journal, 1, 2) == [[1, 2], [2], [1]]
    journal.forget(1)
    assert nodes_of(journal, 1, 2) == [[2], [1]]
    journal.turn()
    journal.note(messages(3)[0], 3)  # a late one, of the exchange before
    assert nodes_of(journal, 3) == [[3], [3]]
    assert nodes_of(Journal(keep=False), 1) == []


class Echo:
    """What lives at the other end of a line."""

    def twice(self, value: int) -> int:
        return 2 * value

    def fail(self) -> None:
        raise KeyError("nobody")

    def end(self) -> None:
        raise SystemExit

    def count(self, to: int) -> Iterator[bytes]:
        for i in range(to):
            yield bytes([i])


def threaded() -> Wire:
    """Return a wire to a thread, which stands for a process."""
    ours, theirs = (Connection(end.detach()) for end in socket.socketpair())

    def live() -> None:
        with suppress(SystemExit):
            serve(Echo(), theirs)

    threading.Thread(target=live, daemon=True).start()
    return Wire(ours)


def all_of(line: Wire, stream: Any) -> list[bytes]:
    found: list[bytes] = []
    while (part := line.more(stream)) is not None:
        found += [part] if part else []
    return found


def test_calls_of_a_line_are_answered_in_their_order() -> None:
    line = threaded()
    stream, fails, last = line.stream("count", 3), line.begin("fail"), line.begin("twice", 4)
    assert line.finish(last) == 8  # what came before is kept
    assert ready([(line, stream)], 0) == [0]
    assert all_of(line, stream) == [b"\0", b"\1", b"\2"]
    with pytest.raises(KeyError, match="nobody"):
        line.finish(fails)
    assert all_of(line, line.stream("count", 0)) == []
    large = line.begin("twice", b"x" * 10**6)  # more than a socket takes at once
    assert line.finish(large) == b"x" * 2 * 10**6


def test_a_line_whose_other_end_is_gone_is_dead() -> None:
    line = threaded()
    assert line.finish(line.begin("twice", 1)) == 2
    with pytest.raises(Dead):  # it ends as a process does
        line.finish(line.begin("end"))
