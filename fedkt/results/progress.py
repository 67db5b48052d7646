"""What a person sees of a run: a live line in a terminal, one plain line per round elsewhere."""

import statistics
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fedkt.results.metrics import measured_in, metric_of
from fedkt.results.result import Result, clock, facts, size_text
from fedkt.tasks import CLASSIFICATION, Figure

RECENT = 5
"""Rounds whose median tells how long the next ones will take."""


class Progress:
    """Shows a run as it goes; an :class:`~fedkt.results.observer.Observer`."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self._live: Live | None = None
        self._info: Mapping[str, Any] = {}
        self._round, self._stage, self._asked, self._replied = 0, "", 0, 0
        self._last = ""
        self._seconds: deque[float] = deque(maxlen=RECENT)

    def started(self, info: Mapping[str, Any]) -> None:
        """Say what begins."""
        self._info = info
        self._seconds.clear()
        resumed = f", resumed after round {info['round']}" if info["round"] else ""
        self._say(
            f"{info['name']}: {info['strategy']} over {info['clients']} clients, "
            f"{info['rounds']} rounds, engine {info['engine']}{resumed}"
        )
        if self.console.is_terminal:
            self._live = Live(
                console=self.console, get_renderable=self._line, refresh_per_second=5, transient=True
            )
            self._live.start()

    def noted(self, text: str) -> None:
        """Print what the engine has decided."""
        self._say(text)

    def asked(self, round_: int, stage: str, clients: int) -> None:
        """Note a new stage."""
        self._round, self._stage, self._asked, self._replied = round_, stage, clients, 0

    def replied(self, round_: int, stage: str) -> None:
        """Count a reply."""
        self._replied += 1

    def round_done(self, row: Mapping[str, Any], clients: Sequence[Mapping[str, Any]]) -> None:
        """Show a round's result."""
        self._last = round_text(row, metric_of(self._info))
        self._seconds.append(row["wall_s"])
        left = statistics.median(self._seconds) * (self._info["rounds"] - row["round"])
        text = f"round {row['round']}/{self._info['rounds']}  {self._last}  {row['wall_s']:.1f} s"
        if left > 0 and len(self._seconds) > 1:  # the first round of a process says little about the others
            text += f"  {clock(left)} left"
        self._say(text)

    def finished(self, summary: Mapping[str, Any]) -> None:
        """Stop the live line."""
        self.close()

    def close(self) -> None:
        """Stop the live line, also after an error."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _say(self, line: str) -> None:
        # One line each, however long, and names with brackets or colons as they are.
        self.console.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)

    def _line(self) -> Text:
        total = self._info.get("rounds", 0)
        return Text(
            f"round {self._round}/{total}  {self._stage} {self._replied}/{self._asked} clients", style="dim"
        )


def round_text(row: Mapping[str, Any], figure: Figure = CLASSIFICATION.metric) -> str:
    """Return a round's leading figure, bytes and what went wrong, in one line."""
    parts = []
    accuracy = measured_in(row)
    for name in ("personal", "global"):
        if accuracy.get(f"{name}_mean") is not None:
            parts.append(f"{name} {figure.text(accuracy[f'{name}_mean']):>7}")
    if accuracy.get("server") is not None:
        parts.append(f"server {figure.text(accuracy['server']):>7}")
    lost = [f"{part} {loss:.3g}" for part, loss in (row.get("loss") or {}).items() if loss is not None]
    if lost:
        parts.append(f"loss {', '.join(lost)}")
    parts.append(f"up {size_text(row['bytes']['up'])}, down {size_text(row['bytes']['down'])}")
    if row["status"] == "no-quorum":
        parts.append("no quorum")
    parts += [f"{n} {name}" for name, n in row["replies"].items() if n and name != "accepted"]
    return "  ".join(parts)


def closing_table(result: Result, console: Console | None = None) -> None:
    """Print what a run came to."""
    summary = result.summary
    title = f"{summary['scenario']}: {summary['strategy']}" if summary else "not finished"
    table = Table(show_header=False, title=Text(title), title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts(result):
        table.add_row(Text(name), Text(value))
    (console or Console(highlight=False)).print(table)
