"""A finished or interrupted run, read from its folder."""

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedkt.errors import InputError
from fedkt.results.folder import read_rows

if TYPE_CHECKING:
    import pandas as pd


class Result:
    """What a run's folder holds: ``summary``, and ``rounds`` and ``clients`` as pandas frames.

    Nested entries become columns with a dot: ``accuracy.personal_mean``, ``bytes.up``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def read(cls, path: str | Path) -> "Result":
        """Open a run's folder. Raises InputError if it is none."""
        folder = Path(path)
        if not (folder / "scenario.yaml").is_file() or not (folder / "environment.json").is_file():
            raise InputError(f"{folder} is no run's folder; it has no scenario.yaml and environment.json.")
        return cls(folder)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The contents of ``summary.json``; empty for a run that did not finish."""
        file = self.path / "summary.json"
        return dict(json.loads(file.read_text())) if file.is_file() else {}

    @cached_property
    def rounds(self) -> "pd.DataFrame":
        """One row per round."""
        return self._frame("rounds.jsonl")

    @cached_property
    def clients(self) -> "pd.DataFrame":
        """One row per round and client."""
        return self._frame("clients.jsonl")

    def _frame(self, name: str) -> "pd.DataFrame":
        import pandas as pd

        file = self.path / name
        return pd.json_normalize(read_rows(file) if file.is_file() else [])

    def __repr__(self) -> str:
        return f"Result({str(self.path)!r})"

    def _repr_html_(self) -> str:
        import pandas as pd

        return str(pd.json_normalize(self.summary).T.to_html(header=False))
