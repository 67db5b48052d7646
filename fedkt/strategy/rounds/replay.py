"""Which requests are open and which were answered: a reply counts once, and only for its own request."""

import hashlib
import hmac
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence

from fedkt.knowledge.codec import Rejected

STAGES = ("train", "evaluate")


class Answers:
    """The table of requests and answers; part of the checkpoint.

    Each request carries a number that nobody can guess, which its reply must repeat. Of each client the
    newest stage that it answered is remembered, so that what it said once is known after a resume, too.
    """

    def __init__(self) -> None:
        self.secret: bytes | None = None
        """What the numbers of requests follow from, where they must be known again after a restart; None:
        they are drawn."""
        self._open: dict[str, str] = {}
        self._newest: dict[str, tuple[int, int]] = {}
        self.refused: Counter[str] = Counter()
        """Replies that belong to no open request, by reason, since :meth:`begin`."""

    def begin(self) -> None:
        """Forget the open requests and the counts: a round begins."""
        self._open.clear()
        self.refused.clear()

    def ask(self, client: str, round_: int, stage: str) -> str:
        """Return the number of a request to this client; an older one is void."""
        self._open[client] = secrets.token_hex(16)
        if self.secret is not None:
            told = f"{client}\x1f{round_}\x1f{stage}".encode()
            self._open[client] = hmac.new(self.secret, told, hashlib.sha256).hexdigest()[:32]
        return self._open[client]

    def open(self, client: str) -> str:
        """Return the number of the client's open request, empty where there is none."""
        return self._open.get(client, "")

    def number(self, client: str, round_: int, stage: str) -> str:
        """Return the number of the client's open request.

        Raises Rejected with the reason ``duplicate`` where it was answered, ``unasked`` where there is none.
        """
        if client not in self._open:
            answered = self._newest.get(client) == (round_, STAGES.index(stage))
            reason = "duplicate" if answered else "unasked"
            self.refused[reason] += 1
            raise Rejected(reason, f"client {client} has no open request.")
        return self._open[client]

    def check(self, client: str, round_: int) -> None:
        """Raise Rejected with the reason ``replay`` for a round before one that this client answered."""
        newest = self._newest.get(client, (0, 0))[0]
        if 0 < round_ < newest:
            raise Rejected(
                "replay", f"client {client} answered round {newest}; this is about {round_} again."
            )

    def newest(self, client: str) -> int:
        """Return the newest round that a client answered, 0 where it never did."""
        return self._newest.get(client, (0, 0))[0]

    def close(self, client: str, round_: int, stage: str) -> None:
        """Note that a request was answered."""
        self._open.pop(client, None)
        self._newest[client] = (round_, STAGES.index(stage))

    def state(self) -> dict[str, Sequence[int]]:
        """Return the newest round and stage that each client answered."""
        return {client: list(newest) for client, newest in sorted(self._newest.items())}

    def load(self, state: Mapping[str, Sequence[int]]) -> None:
        """Restore what :meth:`state` returned."""
        self._newest = {client: (newest[0], newest[1]) for client, newest in state.items()}
