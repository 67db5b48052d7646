"""Who is there, who answers and how long that takes: the churn of simulated clients.

Everything is a function of (seed, purpose, client, round), so it is the same on every engine and after a
resume. Time is simulated: a straggler is late because its duration exceeds the deadline, not because
anybody waits.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedkt.errors import InputError
from fedkt.rng import numpy_stream
from fedkt.scenario.about_adversity import Churn as Settings

Trace = Mapping[str, Sequence[tuple[int, int]]]
"""The spans of rounds, first and last, in which each named client is there; who is not named always is."""


@dataclass(frozen=True)
class Fate:
    """What becomes of one message: whether its client ``answers`` it, and after how many ``seconds``."""

    answers: bool
    seconds: float


class Churn:
    """The fates of a run's clients."""

    def __init__(
        self, settings: Settings, clients: Sequence[str], rounds: int, seed: int, trace: Trace | None = None
    ) -> None:
        self.settings = settings
        self._seed = seed
        self._trace = trace or {}
        self._speed = speeds_of(settings, clients)
        self._slow = frozenset(self._some("slow", settings.stragglers, clients))
        self._joins = {
            client: self._round("join", client, 2, settings.join_by)
            for client in self._some("late", settings.late_joiners, clients)
        }
        self._leaves = {
            client: self._round(
                "leave", client, max(settings.leave_from, self._joins.get(client, 1) + 1), rounds
            )
            for client in self._some("leaves", settings.leavers, clients)
        }

    def there(self, client: str, round_: int) -> bool:
        """Say whether a client can be asked in a round: it has joined, not left, and its trace has it."""
        spans = self._trace.get(client)
        return (
            self._joins.get(client, 1) <= round_
            and round_ < self._leaves.get(client, math.inf)
            and (spans is None or any(first <= round_ <= last for first, last in spans))
        )

    def fate(self, client: str, round_: int, stage: str, attempt: int) -> Fate:
        """Return what becomes of a message to a client; durations are lognormal, a straggler's are longer."""
        settings = self.settings
        stream = numpy_stream(self._seed, "churn", client, round_, stage, attempt)
        answers = bool(stream.random() >= settings.dropout)
        factor = (settings.slowdown if client in self._slow else 1.0) / self._speed.get(client, 1.0)
        return Fate(answers, settings.seconds * factor * math.exp(settings.spread * stream.standard_normal()))

    def _some(self, purpose: str, share: float, clients: Sequence[str]) -> list[str]:
        """Draw a share of the clients."""
        stream = numpy_stream(self._seed, "churn", purpose)
        return [
            clients[i]
            for i in sorted(stream.choice(len(clients), round(share * len(clients)), replace=False))
        ]

    def _round(self, purpose: str, client: str, first: int, last: int) -> int:
        return int(numpy_stream(self._seed, "churn", purpose, client).integers(first, max(first, last) + 1))


def speeds_of(settings: Settings, clients: Sequence[str]) -> dict[str, float]:
    """Return each client's speed; none where all are as fast.

    >>> speeds_of(Settings(speeds=(1, 4)), ["a", "b", "c"])
    {'a': 1.0, 'b': 2.0, 'c': 4.0}
    """
    given = settings.speeds
    if given is None:
        return {}
    if len(given) == len(clients):
        return {client: float(speed) for client, speed in zip(clients, given, strict=True)}
    first, last, steps = given[0], given[-1], max(1, len(clients) - 1)
    return {client: first * (last / first) ** (place / steps) for place, client in enumerate(clients)}


def problems_of(settings: Settings, rounds: int, clients: int) -> list[str]:
    """Return what does not fit together, in sentences."""
    problems = []
    if settings.speeds is not None and len(settings.speeds) not in (2, clients):
        problems.append(
            f"churn.speeds names {len(settings.speeds)} speeds, but there are {clients} clients; it must "
            "name one for each, or those of the first and the last."
        )
    if settings.late_joiners and settings.join_by < 2:
        problems.append(
            f"churn.join_by is {settings.join_by}, but late joiners come after the first round; "
            "it must be at least 2."
        )
    if settings.leavers and settings.leave_from > rounds:
        problems.append(
            f"churn.leave_from is {settings.leave_from}, but there are {rounds} rounds; "
            "it must be at most their number."
        )
    return problems


def read_trace(path: Path, clients: Sequence[str]) -> Trace:
    """Read a CSV file with the columns client, first and last. Raises InputError with every bad line."""
    try:
        lines = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"churn.trace: {path} cannot be read ({error}); it must be a CSV file.") from None
    if not lines or [cell.strip() for cell in lines[0]] != ["client", "first", "last"]:
        raise InputError(f"{path}:1: the first line must be 'client,first,last'.")
    problems: list[str] = []
    spans: dict[str, list[tuple[int, int]]] = {}
    for number, cells in enumerate(lines[1:], 2):
        client, *ends = [cell.strip() for cell in cells] or [""]
        if not cells:
            continue
        if client not in clients:
            problems.append(
                f"{path}:{number}: there is no client '{client}'; it must be one of {', '.join(clients)}."
            )
        elif (
            len(ends) != 2
            or not all(end.isdecimal() for end in ends)
            or not 1 <= int(ends[0]) <= int(ends[1])
        ):
            problems.append(
                f"{path}:{number}: {','.join(ends)!r} is no span of rounds; it must be two whole numbers of "
                "at least 1, the second not below the first."
            )
        else:
            spans.setdefault(client, []).append((int(ends[0]), int(ends[1])))
    if problems:
        raise InputError(*problems)
    return spans
