"""What a person sees of a comparison: the runs as they end, and how long the rest will take."""

import time
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from fedkt.comparing.plan import Cell
from fedkt.results.result import clock

SHOWN_RUNNING = 3


class ComparisonProgress:
    """Counts runs and rounds. The time left follows from the rounds that were trained so far."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self._live: Live | None = None
        self._begun = time.monotonic()
        self._total, self._ended = 0, 0
        self._rounds_left = 0
        self._trained = 0
        self._at: dict[str, tuple[Cell, int]] = {}

    def started(self, runs: int, finished: int, rounds: int) -> None:
        """Begin: so many runs, some finished already, and rounds that are still to be trained."""
        self._begun = time.monotonic()
        self._total, self._ended, self._rounds_left = runs, finished, rounds
        before = f", {finished} of them finished already" if finished else ""
        self._say(f"{runs} runs{before}")
        if self.console.is_terminal:
            self._live = Live(
                console=self.console, get_renderable=self._line, refresh_per_second=4, transient=True
            )
            self._live.start()

    def noted(self, text: str) -> None:
        """Print what the plan has decided."""
        self._say(text)

    def at_round(self, cell: Cell, number: int) -> None:
        """Note how far a run is."""
        before = self._at[cell.path][1] if cell.path in self._at else number
        self._trained += number - before
        self._rounds_left -= number - before
        self._at[cell.path] = (cell, number)

    def ended(self, cell: Cell, record: dict[str, Any]) -> None:
        """Show how a run ended."""
        _, reached = self._at.pop(cell.path, (cell, 0))
        self._rounds_left -= cell.scenario.rounds - reached
        self._ended += 1
        how = record["error"] if record["status"] == "failed" else f"{record['seconds']:.1f} s"
        left = self._left()
        text = f"[{self._ended}/{self._total}] {name_of(cell)}: {how}"
        self._say(text + (f"  {clock(left)} left" if left else ""))

    def close(self) -> None:
        """Stop the live line, also after an error."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _left(self) -> float:
        if not self._trained or self._rounds_left <= 0:
            return 0.0
        return (time.monotonic() - self._begun) / self._trained * self._rounds_left

    def _line(self) -> Text:
        running = [f"{name_of(cell)} {number}/{cell.scenario.rounds}" for cell, number in self._at.values()]
        more = f" and {len(running) - SHOWN_RUNNING} more" if len(running) > SHOWN_RUNNING else ""
        left = self._left()
        time_left = f"  {clock(left)} left" if left else ""
        text = f"{self._ended}/{self._total} runs{time_left}  {'; '.join(running[:SHOWN_RUNNING])}{more}"
        return Text(text, style="dim", no_wrap=True, overflow="ellipsis")

    def _say(self, line: str) -> None:
        self.console.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)


def name_of(cell: Cell) -> str:
    """Return a run's name for reading."""
    about = cell.about
    settings = [f"{key}={text}" for key, text in (about["condition"] | about["tried"]).items()]
    return " ".join([about["scenario"], *settings, about["method"], f"seed {about['seed']}"])
