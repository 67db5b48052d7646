"""Training alone, the default strategy and all data in one place, side by side while they are trained."""

from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.text import Text

from fedkt.client.state import ClientState, DiskStore
from fedkt.comparing.plan import Cell
from fedkt.comparing.watching import ComparisonProgress
from fedkt.results.comparison.frames import Comparison
from fedkt.results.folder import read_rows
from fedkt.results.metrics import measured_in
from fedkt.results.result import Result, size_text

WORDS = {"local": "alone", "central": "all data in one place"}
"""What the bounds are called; anything else is what the parties do together."""
TOGETHER = "together"
LINES = (WORDS["local"], TOGETHER, WORDS["central"])
WIDE = 40
"""Characters of a whole bar."""
STEPS = " ▏▎▍▌▋▊▉█"


def words_of(cell: Cell) -> str:
    """Return what a run of the demonstration is called."""
    return WORDS.get(cell.method.name, TOGETHER)


class Growing(ComparisonProgress):
    """Shows the accuracy of each run as it grows: bars in a terminal, a line per round elsewhere."""

    def __init__(self, folder: Path, console: Console | None = None) -> None:
        super().__init__(console)
        self._folder = folder
        self._grown: dict[str, list[float | None]] = {
            word: [] for word in ("alone", TOGETHER, WORDS["central"])
        }
        self._rounds, self._told = 0, 0

    def at_round(self, cell: Cell, number: int) -> None:
        """Read what a run has measured so far."""
        super().at_round(cell, number)
        self._rounds = cell.scenario.rounds
        rows = read_rows(self._folder / cell.path / "rounds.jsonl")[:number]
        self._grown[words_of(cell)] = [measured_in(row).get("personal_mean") for row in rows]
        while all(len(values) > self._told for values in self._grown.values()):
            if not self.console.is_terminal:
                told = "   ".join(f"{w} {_percent(v[self._told])}" for w, v in self._grown.items())
                self._say(f"round {self._told + 1:2d}   {told}")
            self._told += 1

    def ended(self, cell: Cell, record: dict[str, Any]) -> None:
        """Say how a run ended only where it failed."""
        if record["status"] == "failed":
            super().ended(cell, record)

    def close(self) -> None:
        """Stop growing; in a terminal the bars stay."""
        shown = self._live is not None
        super().close()
        if shown:
            self.console.print(self._line())

    def _line(self) -> Any:
        return Group(*(Text(self._bar(word, values)) for word, values in self._grown.items()))

    def _bar(self, word: str, values: list[float | None]) -> str:
        newest = next((value for value in reversed(values) if value is not None), 0.0)
        eighths = round(8 * WIDE * newest)
        bar = STEPS[8] * (eighths // 8) + STEPS[eighths % 8]
        return f"{word:<22}{bar:<{WIDE + 1}} {_percent(newest)}  round {len(values)} of {self._rounds or '…'}"


def closing(done: Comparison, page: Path) -> list[str]:
    """Return what a demonstration came to, in sentences."""
    found = {one["strategy"]: done.path / one["path"] for one in done.cells}
    together = next(name for name in found if name not in WORDS)
    runs = {name: Result.read(path) for name, path in found.items()}
    mean = {name: measured_in(run.summary)["personal_mean"] for name, run in runs.items()}
    summary = runs[together].summary
    sent = (summary["bytes"]["up"] + summary["bytes"]["down"]) / summary["clients"] / summary["rounds"]
    states = DiskStore(runs[together].path / "checkpoint" / "clients")
    sizes = sorted({_weights(states, client) for client in states.clients()})
    weights = " or ".join(size_text(2 * size) for size in sizes)
    gained, possible = mean[together] - mean["local"], mean["central"] - mean["local"]
    return [
        f"Alone, the {summary['clients']} clients are right on {_percent(mean['local'])} of rows like their "
        f"own; together, by fusing what their models know ({together}), on {_percent(mean[together])}; "
        f"with all data in one place, on {_percent(mean['central'])}.",
        f"That is {_points(gained)} of the {_points(possible)} that pooling would bring, for "
        f"{size_text(sent)} of knowledge per client and round, up and down; "
        f"a client's weights would be {weights}, and stayed with it.",
        "One seed of one small data set: README's first comparison asks whether it is more than chance.",
        f"Report: {page}",
    ]


def _weights(states: DiskStore, client: str) -> int:
    state = states.load(client, below=10**9)
    return 0 if state is None else ClientState(state.part("model")).nbytes


def _percent(value: float | None) -> str:
    return "  –   " if value is None else f"{100 * value:.1f} %"


def _points(value: float) -> str:
    return f"{100 * value:.1f} points"
