"""A Flower grid in one process, without Ray: for debugging and for fast tests."""

from collections.abc import Iterable

from flwr.app import Message
from flwr.clientapp import ClientApp

from fedkt.engine.flwr_runtime import FIRST_NODE, LocalGrid, node_context, number


class InlineGrid(LocalGrid):
    """Runs the app for each pulled message, one at a time, in the order of pushing.

    A message is executed when its reply is pulled, so a caller with a deadline can stop in between.
    """

    def __init__(self, app: ClientApp, clients: int) -> None:
        super().__init__()
        self._app = app
        self._contexts = {FIRST_NODE + i: node_context(i, clients) for i in range(clients)}
        self._waiting: dict[str, Message] = {}

    def get_node_ids(self) -> Iterable[int]:
        """Return one node per client."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Queue messages."""
        numbered = number(messages)
        self._waiting |= {message.metadata.message_id: message for message in numbered}
        return [message.metadata.message_id for message in numbered]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Execute the oldest of these messages that waits, and return its reply."""
        wanted = set(message_ids)
        for message_id in list(self._waiting):
            if message_id in wanted:
                message = self._waiting.pop(message_id)
                return number([self._app(message, self._contexts[message.metadata.dst_node_id])])
        return []

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Execute messages and return all replies."""
        ids = list(self.push_messages(messages))
        return [reply for _ in ids for reply in self.pull_messages(ids)]
