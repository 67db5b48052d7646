"""A Flower grid in one process, without Ray: for debugging and for fast tests."""

from collections.abc import Iterable

from flwr.app import Context, Message, RecordDict, UserConfig
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from fedkt.engine.flwr_runtime import FIRST_NODE, become_server, number


class InlineGrid(Grid):
    """Runs the app for each pulled message, one at a time, in the order of pushing.

    A message is executed when its reply is pulled, so a caller with a deadline can stop in between.
    """

    def __init__(self, app: ClientApp, clients: int) -> None:
        self._run = become_server()
        self._app = app
        self._contexts = {
            FIRST_NODE + i: Context(
                1,
                FIRST_NODE + i,
                UserConfig({"partition-id": i, "num-partitions": clients}),
                RecordDict(),
                UserConfig(),
            )
            for i in range(clients)
        }
        self._waiting: dict[str, Message] = {}

    def set_run(self, run: Run) -> None:
        """Set the run."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Create a message."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

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
