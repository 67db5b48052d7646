"""What a run tells whoever watches it."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Observer(Protocol):
    """Watches a run; a progress display is one. All values are JSON values."""

    def started(self, info: Mapping[str, Any]) -> None:
        """The run begins: ``name strategy engine clients rounds round`` (``round``: already done)."""

    def noted(self, text: str) -> None:
        """The engine has decided something that is worth knowing, in one sentence."""

    def asked(self, round_: int, stage: str, clients: int) -> None:
        """Messages of a stage (``train`` or ``evaluate``) went to this many clients."""

    def replied(self, round_: int, stage: str) -> None:
        """One reply came in."""

    def round_done(self, row: Mapping[str, Any], clients: Sequence[Mapping[str, Any]]) -> None:
        """A round ended and is on disk: its rows of ``rounds.jsonl`` and ``clients.jsonl``, the latter with
        the client's losses (``loss: {train, distill}``) beside."""

    def finished(self, summary: Mapping[str, Any]) -> None:
        """The run is complete."""


class Silent:
    """Watches nothing."""

    def started(self, info: Mapping[str, Any]) -> None: ...

    def noted(self, text: str) -> None: ...

    def asked(self, round_: int, stage: str, clients: int) -> None: ...

    def replied(self, round_: int, stage: str) -> None: ...

    def round_done(self, row: Mapping[str, Any], clients: Sequence[Mapping[str, Any]]) -> None: ...

    def finished(self, summary: Mapping[str, Any]) -> None: ...
