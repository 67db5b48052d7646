"""Replies as they come in: each is validated, counted once, and taken in or not."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from flwr.app import Message

from fedkt.knowledge.codec import Expected, Rejected
from fedkt.knowledge.protocol import Binding, Reply, knowledge_bytes, round_of
from fedkt.strategy.rounds.asking import Asking
from fedkt.strategy.rounds.replay import Answers

Stage = Literal["train", "evaluate"]


@dataclass
class Outcome:
    """What became of one message: its status and why, the bytes in each direction, the round of the
    teacher that it carried, metrics."""

    client: str
    status: str = "late"
    reason: str = ""
    detail: str = ""
    up: int = 0
    down: int = 0
    taught: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


class Receiving:
    """What became of every message of the exchange at work, and the contributions that were taken in.

    ``contribution`` returns the arrays that a client's contribution must hold; ``binding`` what ties a
    message to this run, round and request.
    """

    def __init__(
        self, asking: Asking, contribution: Callable[[str], Expected], binding: Callable[[int, str], Binding]
    ) -> None:
        self._asking, self._contribution, self._binding = asking, contribution, binding
        self.answers = Answers()
        """Which requests are open, which were answered."""
        self.outcomes: dict[str, Outcome] = {}
        self.accepted: dict[str, Reply] = {}
        """The contributions of the round, from all its attempts."""

    def begin_round(self) -> None:
        """Forget the round before."""
        self.answers.begin()
        self.outcomes, self.accepted = {}, {}

    def expect(self, clients: Iterable[str]) -> None:
        """Note that these clients are asked for a contribution, some perhaps again."""
        for client in clients:
            self.outcomes.setdefault(client, Outcome(client)).status = "late"

    @property
    def wanted(self) -> int:
        """How many more contributions this round takes in."""
        return self._asking.needed - len(self.accepted)

    def receive(self, server_round: int, replies: Iterable[Message], stage: Stage) -> dict[str, Reply]:
        """Return the accepted replies by client and note what became of every message.

        Contributions (``stage`` train) are taken in while some are wanted; what comes then is late.
        """
        accepted: dict[str, Reply] = {}
        came = list(replies)
        for message, read in zip(came, self._read(server_round, came, stage), strict=True):
            client = self._asking.client_at(message.metadata.src_node_id)
            try:
                self.answers.number(client, server_round, stage)
            except Rejected:
                continue  # counted there
            if stage == "train" and len(accepted) >= self.wanted:
                self.note_late([message])
                continue
            self.answers.close(client, server_round, stage)
            outcome = self.outcomes[client]
            if message.has_error():
                outcome.status, outcome.reason = "failed", "flower"
                outcome.detail = message.error.reason or "the client's process failed"
                continue
            outcome.up += knowledge_bytes(message.content)
            try:
                reply = self._validated(client, message, read)
            except Rejected as error:
                outcome.status, outcome.reason, outcome.detail = "rejected", error.reason, error.detail
                continue
            outcome.status, outcome.reason, outcome.detail = reply.status, reply.reason, reply.detail
            outcome.metrics = reply.metrics
            if reply.status == "accepted":
                accepted[client] = reply
        if stage == "train":
            self.accepted |= accepted
        return accepted

    def _read(
        self, server_round: int, messages: Sequence[Message], stage: Stage
    ) -> list[Reply | Rejected | None]:
        """Decode the replies to open requests, all of them together; None for what is none."""
        open_ = {
            i: (client, nonce)
            for i, message in enumerate(messages)
            if message.has_content()
            and (nonce := self.answers.open(client := self._asking.client_at(message.metadata.src_node_id)))
        }
        read = Reply.unpack_all(
            [messages[i].content for i in open_],
            [self._binding(server_round, nonce) for _, nonce in open_.values()],
            [self._contribution(client) if stage == "train" else None for client, _ in open_.values()],
        )
        found = dict(zip(open_, read, strict=True))
        return [found.get(i) for i in range(len(messages))]

    def _validated(self, client: str, message: Message, read: Reply | Rejected | None) -> Reply:
        self.answers.check(client, round_of(message.content))
        assert read is not None
        if isinstance(read, Rejected):
            raise read
        if read.client != client:
            raise Rejected("kind", f"client {client} answered as '{read.client}'.")
        return read

    def note_late(self, messages: Iterable[Message]) -> None:
        """Count the bytes of replies that came after the deadline, or when enough had come."""
        for message in messages:
            outcome = self.outcomes.get(self._asking.client_at(message.metadata.src_node_id))
            if outcome is not None and message.has_content():
                outcome.up += knowledge_bytes(message.content)
