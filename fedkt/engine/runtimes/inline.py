"""A Flower grid in one process, without Ray: for debugging and for fast tests."""

from collections.abc import Iterable, Iterator

from flwr.app import Message
from flwr.clientapp import ClientApp

from fedkt.engine.runtimes.flwr_internals import FIRST_NODE, Contexts, LocalGrid, answer, number


class InlineGrid(LocalGrid):
    """Runs the app on what was pushed; a plain app one message after the other.

    Messages are executed while their replies are pulled, so a caller with a deadline can stop in between.
    """

    def __init__(self, app: ClientApp, clients: int) -> None:
        super().__init__()
        self._app = app
        self._nodes = range(FIRST_NODE, FIRST_NODE + clients)
        self._contexts = Contexts(clients)
        self._queue: list[tuple[frozenset[str], Iterator[list[Message]]]] = []

    def get_node_ids(self) -> Iterable[int]:
        """Return one node per client."""
        return self._nodes

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Queue messages."""
        numbered = number(messages)
        ids = [message.metadata.message_id for message in numbered]
        self._queue.append((frozenset(ids), answer(self._app, numbered, self._contexts)))
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Execute the next of these messages, and return their replies.

        Messages that were pushed before these and are not asked for are dropped: their deadline is over.
        """
        wanted = set(message_ids)
        while self._queue:
            ids, replies = self._queue[0]
            found = next(replies, None) if ids & wanted else None
            if found is not None:
                return number(found)
            self._queue.pop(0)
        return []
