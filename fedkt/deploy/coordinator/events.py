"""A run's progress as lines of text: the server app prints them, Flower carries them, submit reads them.

Beside numbers and words of fixed sets they hold the names of sites and their refusals: never knowledge.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

MARK = "fedkt-event "


class EventLines:
    """Tells a run's progress on standard output; an :class:`~fedkt.results.observer.Observer`."""

    def started(self, info: Mapping[str, Any]) -> None:
        """Tell that the rounds begin."""
        tell("started", info=info)

    def noted(self, text: str) -> None:
        """Nothing: sites decide for themselves."""

    def asked(self, round_: int, stage: str, clients: int) -> None:
        """Tell that messages went out."""
        tell("asked", round=round_, stage=stage, clients=clients)

    def replied(self, round_: int, stage: str) -> None:
        """Tell that a reply came."""
        tell("replied", round=round_, stage=stage)

    def round_done(self, row: Mapping[str, Any], clients: Sequence[Mapping[str, Any]]) -> None:
        """Tell a round's results."""
        tell("round", row=row, clients=list(clients))

    def finished(self, summary: Mapping[str, Any]) -> None:
        """Tell the summary."""
        tell("finished", summary=summary)


def tell(event: str, **values: Any) -> None:
    """Print one event."""
    print(MARK + json.dumps({"event": event, **values}), flush=True)


def listen(pieces: Iterable[str]) -> Iterator[dict[str, Any] | str]:
    """Yield the events, and any other line as text, of output that comes in pieces."""
    rest = ""
    for piece in pieces:
        *lines, rest = (rest + piece).split("\n")
        for line in lines:
            yield from _line(line)
    yield from _line(rest)


def _line(line: str) -> Iterator[dict[str, Any] | str]:
    _, mark, text = line.partition(MARK)
    if not mark:
        if line.strip():
            yield line
        return
    try:
        yield json.loads(text)
    except ValueError:
        yield line
