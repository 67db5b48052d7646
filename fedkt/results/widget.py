"""A run's progress in a notebook: a bar and what was said, in one place that is drawn again."""

import html
import io
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from fedkt.results.progress import Progress

EVERY_S = 0.2
"""Seconds between two drawings."""
SHOWN = 12
"""Lines that stay in sight."""


def progress_display() -> Progress:
    """Return what shows a run here: a live widget in a notebook, lines elsewhere."""
    return NotebookProgress() if _in_notebook() else Progress()


class NotebookProgress(Progress):
    """Shows a run in a notebook's cell; needs IPython, and nothing of the page beside it."""

    def __init__(self) -> None:
        super().__init__(Console(file=io.StringIO()))
        from IPython.display import HTML, display

        self._html, self._lines, self._drawn = HTML, list[str](), 0.0
        self._handle = display(HTML(""), display_id=True)

    def started(self, info: Mapping[str, Any]) -> None:
        """Say what begins."""
        super().started(info)
        self._round = info["round"]

    def replied(self, round_: int, stage: str) -> None:
        """Count a reply."""
        super().replied(round_, stage)
        if time.monotonic() - self._drawn > EVERY_S:
            self._draw()

    def _say(self, line: str) -> None:
        self._lines.append(line)
        self._draw()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        rounds = self._info.get("rounds", 1)
        share = self._replied / self._asked if self._asked else 0.0
        part = 0.5 * share + (0.5 if self._stage == "evaluate" else 0.0)
        done = min(float(rounds), max(0, self._round - 1) + part)
        where = f"round {self._round} of {rounds}, {self._stage or 'begins'} {self._replied}/{self._asked}"
        lines = "\n".join(html.escape(line) for line in self._lines[-SHOWN:])
        self._handle.update(
            self._html(
                f"<progress value='{done:.3f}' max='{rounds}' style='width:24em'></progress> "
                f"{html.escape(where)}<pre style='margin:0'>{lines}</pre>"
            )
        )


def _in_notebook() -> bool:
    """Say whether this process is a notebook's kernel."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    shell = get_ipython()
    return shell is not None and "IPKernelApp" in getattr(shell, "config", {})
