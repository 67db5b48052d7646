"""What nodes answered since their states were last saved, so that a process that died can be asked again.

A client's work on a message follows from its state and the message alone, so a new process that reads the
saved states and is asked the same once more holds the states that were lost, to the bit (in cohorts: to
rounding, since others may have been in them).
"""

from collections.abc import Callable

from flwr.app import Message


class Journal:
    """Answered messages by exchange; of none where it does not ``keep`` them."""

    def __init__(self, keep: bool) -> None:
        self._keep = keep
        self._exchanges: dict[int, dict[int, Message]] = {}
        self.now = 0
        """Number of the exchange at work."""
        self._saved = 0

    def turn(self) -> None:
        """Begin an exchange."""
        self.now += 1
        for old in [number for number in self._exchanges if number <= self._saved]:
            del self._exchanges[old]

    def note(self, message: Message, exchange: int) -> None:
        """Keep a message of an exchange that was answered."""
        if self._keep:
            self._exchanges.setdefault(exchange, {})[message.metadata.dst_node_id] = message

    def forget(self, number: int) -> None:
        """Keep nothing of exchanges up to a number, whose states are saved; from any thread."""
        self._saved = number

    def of(self, chosen: Callable[[int], bool]) -> list[list[Message]]:
        """Return what chosen nodes answered since then, by exchange in their order."""
        found = [
            [message for node, message in messages.items() if chosen(node)]
            for number, messages in sorted(self._exchanges.items())
            if number > self._saved
        ]
        return [messages for messages in found if messages]
