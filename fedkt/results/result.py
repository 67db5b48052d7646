"""A finished or interrupted run, read from its folder."""

import base64
import html
import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedkt.errors import InputError
from fedkt.results.folder import is_run, read_rows
from fedkt.results.metrics import beside_in, measured_in, metric_of

if TYPE_CHECKING:
    import pandas as pd


class Result:
    """What a run's folder holds: ``summary``, and ``rounds`` and ``clients`` as pandas frames.

    Nested entries become columns with a dot: ``accuracy.personal_mean``, ``bytes.up``. Everything is read
    on first use and kept; a run that goes on is read anew with :meth:`read`.

    >>> import fedkt
    >>> settings = ["engine.kind=inline", "rounds=2", "clients.local.epochs=1"]
    >>> result = Result.read(fedkt.simulate("quickstart", settings).path)
    >>> result.rounds[["round", "bytes.up"]].values.tolist()  # 10 × (300 × 11 × 4 + 2 × 128) bytes
    [[1, 134560], [2, 134560]]
    >>> len(result.clients)
    20
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def read(cls, path: str | Path) -> "Result":
        """Open a run's folder, finished or not. Raises InputError if it is none."""
        folder = Path(path)
        if not is_run(folder):
            raise InputError(
                f"{folder} is no run's folder; it must be one that fedkt simulate made, with scenario.yaml "
                "and environment.json in it."
            )
        return cls(folder)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The contents of ``summary.json``, of the last round; empty for a run that did not finish.

        Accuracies are in [0, 1], bytes are sums over all rounds, ``time`` is in seconds.
        """
        file = self.path / "summary.json"
        return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}

    @cached_property
    def rounds(self) -> "pd.DataFrame":
        """One row per round: status, accuracies in [0, 1] where measured, bytes, replies, seconds."""
        return self._frame("rounds.jsonl")

    @cached_property
    def clients(self) -> "pd.DataFrame":
        """One row per round and client: status, accuracy before and after digestion, bytes, epsilon."""
        return self._frame("clients.jsonl")

    def _frame(self, name: str) -> "pd.DataFrame":
        import pandas as pd

        rows = read_rows(self.path / name)
        for row in rows:
            for part in ("accuracy", "score"):
                if row.get(part, {}) is None:  # not measured in this round: no column of its own
                    del row[part]
        return pd.json_normalize(rows)

    def __repr__(self) -> str:
        return f"Result({str(self.path)!r})"

    def _repr_html_(self) -> str:
        """Show the closing table and the picture in a notebook."""
        cells = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
            f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
            for name, value in facts(self)
        )
        part = metric_of(self.summary).part
        picture = self.path / f"{part}.png"
        image = ""
        if picture.is_file():
            encoded = base64.b64encode(picture.read_bytes()).decode()
            image = f"<img alt='{part} per round' width='560' src='data:image/png;base64,{encoded}'>"
        return f"<table>{cells}</table>{image}"


def facts(result: Result) -> list[tuple[str, str]]:
    """Return what is worth knowing about a run: pairs of a name and a text."""
    summary = result.summary
    if not summary:
        return [("state", "not finished; fedkt simulate --resume continues it"), ("folder", str(result.path))]
    accuracy, rounds, clients = measured_in(summary), max(summary["rounds"], 1), max(summary["clients"], 1)
    figure = metric_of(summary)
    title = figure.title
    found = [
        ("strategy", str(summary["strategy"])),
        ("clients", f"{summary['clients']}, {summary['rounds']} rounds, seed {summary['seed']}"),
    ]
    for name in ("personal", "global"):
        mean, std = accuracy.get(f"{name}_mean"), accuracy.get(f"{name}_std")
        if mean is not None:
            text = f"{figure.number(mean)} ± {figure.number(std or 0, 2)}{figure.unit}"
            found.append((f"{name} {title}", f"{text} (mean ± std over clients)"))
    found += [(f"  {rows}", ", ".join(words)) for rows, words in beside_in(summary).items()]
    if accuracy.get("prototype_personal_mean") is not None:
        text = f"{100 * accuracy['prototype_personal_mean']:.1f} % personal"
        found.append(("  nearest prototype", text))
    if accuracy.get("server") is not None:
        found.append((f"server {title}", figure.text(accuracy["server"])))
    for way in ("up", "down"):
        sent = summary["bytes"][way]
        text = f"{size_text(sent)}, {size_text(sent / rounds / clients)} per client and round"
        found.append((f"bytes {way}", text))
    seconds = summary["time"]
    return [
        *found,
        ("replies", ", ".join(f"{n} {name}" for name, n in summary["replies"].items() if n) or "none"),
        (
            "time",
            f"{seconds['wall_s']:.1f} s of rounds, after {seconds.get('startup_s', 0.0):.1f} s to start; "
            f"{seconds['client_updates_per_s']:.1f} client updates per second",
        ),
        ("privacy", str(summary["privacy"]["statement"])),
        ("folder", str(result.path)),
    ]


def size_text(count: float) -> str:
    """Return a number of bytes for reading, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def clock(seconds: float) -> str:
    """Return a duration as m:ss."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
