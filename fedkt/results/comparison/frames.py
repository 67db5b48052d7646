"""A comparison read from its folder: tidy frames of runs, rounds and clients."""

import json
import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedkt.client.state import DOMAINS
from fedkt.errors import InputError
from fedkt.results.folder import is_run, read_rows
from fedkt.results.measured import METRICS, Measured, read_measured
from fedkt.results.metrics import measured_in, metric_of
from fedkt.tasks import Metric

if TYPE_CHECKING:
    import pandas as pd

FILE = "comparison.json"


class Comparison:
    """What a comparison's folder holds, as frames with one row per run, round, or client and round.

    Every frame begins with the columns ``scenario condition method strategy seed``; ``condition`` is the
    swept settings as text (``"alpha=0.1"``, empty without any). A bound that stands for several conditions
    has its rows in each. Where settings were tuned, only runs of the chosen ones are here; all are in
    ``tuning``. Accuracies are in [0, 1], times in seconds.

    >>> import fedkt
    >>> small = ["rounds=1", "data.partition.clients=3"]
    >>> comparison = Comparison.read(fedkt.compare("quickstart", "local", overrides=small).path)
    >>> comparison.final.groupby("method")["client"].count().to_dict()
    {'central': 3, 'local': 3}
    """

    def __init__(self, path: Path, book: Mapping[str, Any]) -> None:
        self.path = path
        self.book = book
        self._measured: dict[str, Measured] = {}

    @classmethod
    def read(cls, path: str | Path) -> "Comparison":
        """Open a comparison's folder. Raises InputError if it is none."""
        file = Path(path) / FILE
        if not file.is_file():
            raise InputError(f"{path} is no comparison's folder; it must hold the {FILE} of fedkt compare.")
        try:
            book = json.loads(file.read_text(encoding="utf-8"))
            for cell in book["cells"]:
                cell["path"], cell["status"]
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"{file} is damaged ({error}); run fedkt compare with --resume.") from None
        return cls(Path(path), book)

    @cached_property
    def cells(self) -> list[dict[str, Any]]:
        """Every planned run with its status, and ``summary`` where it finished.

        A finished run whose summary cannot be read any more has status ``foreign`` and is left alone.
        """
        found = []
        summaries: dict[str, dict[str, Any]] = {}
        for cell in self.book["cells"]:
            cell = dict(cell)
            folder = self.path / cell["path"]
            if cell["status"] == "finished" and cell["path"] not in summaries:
                try:
                    if not is_run(folder):
                        raise ValueError("it holds no run")
                    summaries[cell["path"]] = dict(json.loads((folder / "summary.json").read_text()))
                except (OSError, ValueError, TypeError) as error:
                    cell |= {"status": "foreign", "error": f"{folder} is damaged: {error}."}
            cell["summary"] = summaries.get(cell["path"], {})
            cell["condition"] = text_of(cell["condition"])
            cell["tried"] = text_of(cell["tried"])
            found.append(cell)
        return found

    @property
    def metric(self) -> Metric:
        """What the runs' figures are of; where tasks differ that of the first."""
        return metric_of(next((c["summary"] for c in self.cells if c["summary"]), {}))

    @cached_property
    def tuning(self) -> "pd.DataFrame":
        """Mean accuracy on validation rows of every setting that was tried, and which one was chosen.

        Columns ``scenario condition method tried validation half seeds chosen``; empty where nothing was
        tuned. The mean is over clients, then over seeds; ``half``: what stands behind ±, over seeds.
        """
        import pandas as pd

        from fedkt.results.statistics import half

        columns = ["scenario", "condition", "method", "tried", "validation", "half", "seeds", "chosen"]
        rows = [
            {key: c[key] for key in columns[:4]} | {"value": measured_in(c["summary"]).get("validation_mean")}
            for c in self.cells
            if c["tried"] and c["status"] == "finished"
        ]
        if not rows:
            return pd.DataFrame(columns=columns)
        grouped = pd.DataFrame(rows).astype({"value": float}).groupby(columns[:4], sort=False)["value"]
        table = grouped.agg(validation="mean", half=half, seeds="count").reset_index()
        measured = table[table["validation"].notna()]
        measured = measured.assign(validation=self.metric.sign * measured["validation"])
        best = measured.groupby(columns[:3], sort=False)["validation"].idxmax()
        table["chosen"] = table.index.isin(best)
        return table

    @cached_property
    def chosen(self) -> list[dict[str, Any]]:
        """The finished runs that are compared: all of them, or those of each method's chosen settings."""
        finished = [cell for cell in self.cells if cell["status"] == "finished"]
        tuning = self.tuning
        if tuning.empty:
            return finished
        keys = ["scenario", "condition", "method", "tried"]
        best = set(tuning.loc[tuning["chosen"], keys].itertuples(index=False, name=None))
        return [cell for cell in finished if tuple(cell[key] for key in keys) in best]

    @cached_property
    def runs(self) -> "pd.DataFrame":
        """One row per compared run: accuracy of the last round, bytes over all rounds, seconds, epsilon."""
        import pandas as pd

        return pd.DataFrame([_head(cell) | _run_row(cell["summary"], cell) for cell in self.chosen])

    @cached_property
    def rounds(self) -> "pd.DataFrame":
        """One row per compared run and round."""
        return self._lines("rounds.jsonl", _round_row)

    @cached_property
    def clients(self) -> "pd.DataFrame":
        """One row per compared run, round and client."""
        return self._lines("clients.jsonl", _client_row)

    @cached_property
    def final(self) -> "pd.DataFrame":
        """One row per compared run and client that is not hostile: its last accuracy, ``personal`` and
        ``global``."""
        import pandas as pd

        rows = []
        for cell in self.chosen:
            measured = self.measured(cell["path"])
            rows += [
                _head(cell) | {"client": client} | {name: v[-1, k] for name, v in measured.values.items()}
                for k, client in enumerate(measured.clients)
                if client not in measured.hostile
            ]
        return pd.DataFrame(rows)

    @cached_property
    def domains(self) -> "pd.DataFrame":
        """One row per compared run, client and domain of the common test rows: ``value``, and ``gain``.

        ``value``: the leading figure of the client's model on that domain after the last round; ``gain``: by
        how much it is better than the same client's in the baseline's run of the same seed, missing without
        one. Where clients are domains it is what a client learned of the one whose domain it is. Empty where
        test rows have no domains.
        """
        import pandas as pd

        keys = ["scenario", "condition", "seed", "client", "domain"]
        rows = [
            _head(cell) | {"client": client, "domain": domain, "value": value}
            for cell in self.chosen
            for client, figures in domains_in(self.path / cell["path"]).items()
            for domain, value in figures.items()
        ]
        if not rows:
            return pd.DataFrame(columns=[*_HEAD, "client", "domain", "value", "gain"])
        found = pd.DataFrame(rows)
        alone = found.loc[found["method"] == self.settings["baseline"], [*keys, "value"]]
        found = found.merge(alone, "left", keys, suffixes=("", "_alone"))
        return found.assign(gain=self.metric.gain(found["value"], found.pop("value_alone")))

    def measured(self, path: str) -> "Measured":
        """Return the accuracy of every client in every round of a run, read once."""
        if path not in self._measured:
            self._measured[path] = read_measured(self.path / path)
        return self._measured[path]

    @cached_property
    def statistics(self) -> "pd.DataFrame":
        """One row per scenario, condition and method (see :func:`fedkt.results.statistics.overview`)."""
        from fedkt.results.statistics import overview

        return overview(self.runs, self.rounds, self.final, **self.settings, figure=self.metric)

    @cached_property
    def pairs(self) -> "pd.DataFrame":
        """The paired difference of every two methods (see :func:`fedkt.results.statistics.pairwise`)."""
        from fedkt.results.statistics import pairwise

        return pairwise(self.runs, self.settings["metric"], self.metric)

    @cached_property
    def declines(self) -> "pd.DataFrame":
        """What methods lost after their best round (see :func:`fedkt.results.statistics.decline`)."""
        from fedkt.results.statistics import decline

        return decline(self.rounds, self.settings["metric"], self.metric)

    @property
    def settings(self) -> dict[str, Any]:
        """What is compared by: ``metric``, ``baseline``, the ``target`` to reach (None: the baseline's)."""
        defaults = {"metric": "personal", "baseline": "local", "target": None}
        return defaults | dict(self.book.get("settings", {}))

    @cached_property
    def problems(self) -> list[str]:
        """What did not run or cannot be read, in sentences."""
        return [
            f"{name_of(cell)}: {cell['status']}, {cell['error'] or 'it was not run'}"
            for cell in self.cells
            if cell["status"] in ("failed", "foreign")
        ]

    def _lines(self, name: str, row_of: Any) -> "pd.DataFrame":
        import pandas as pd

        kept: dict[str, list[dict[str, Any]]] = {}
        rows = []
        for cell in self.chosen:
            if cell["path"] not in kept:
                kept[cell["path"]] = [row_of(row) for row in read_rows(self.path / cell["path"] / name)]
            head = _head(cell)
            rows += [head | row for row in kept[cell["path"]]]
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        return f"Comparison({str(self.path)!r})"

    def _repr_html_(self) -> str:
        """Show the summary table in a notebook."""
        import html

        from fedkt.results.comparison.summary import summary_rows

        if not self.chosen:
            return f"<p>{html.escape(repr(self))}: no run has finished.</p>"
        head, *rows = summary_rows(self.statistics, self.settings, self.metric)
        heads = "".join(f"<th>{html.escape(text)}</th>" for text in head)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in row) + "</tr>" for row in rows
        )
        return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"


def problem_of_metric(metric: str) -> list[str]:
    """Return what is wrong with the name of the rows whose figures a comparison is asked to show."""
    return [] if metric in METRICS else [f"--metric is {metric!r}; it must be {' or '.join(METRICS)}."]


def problem_of_target(target: float | None, figure: Metric) -> list[str]:
    """Return what is wrong with a value of the leading figure that runs are to reach."""
    highest = math.inf if figure.highest is None else figure.highest
    if target is None or figure.lowest < target <= highest:
        return []
    most = f" and at most {highest:g}" if math.isfinite(highest) else ""
    return [f"--target is {target}; it must be a value of {figure.title} above {figure.lowest:g}{most}."]


def text_of(settings: Mapping[str, str]) -> str:
    """Return settings as one text: ``alpha=0.1, clients=10``."""
    return ", ".join(f"{key}={text}" for key, text in settings.items())


def name_of(cell: Mapping[str, Any]) -> str:
    """Return what a run is called in sentences."""
    parts = (cell["scenario"], cell["condition"], cell["tried"], cell["method"], f"seed {cell['seed']}")
    return " ".join(part for part in parts if part)


def domains_in(run: Path) -> dict[str, dict[str, float]]:
    """Return the leading figure of each client's model on each domain's test rows; none where none is."""
    file = run / DOMAINS
    return dict(json.loads(file.read_text(encoding="utf-8"))["clients"]) if file.is_file() else {}


_HEAD = ("scenario", "condition", "method", "strategy", "seed")


def _head(cell: Mapping[str, Any]) -> dict[str, Any]:
    return {key: cell[key] for key in _HEAD}


def _run_row(summary: Mapping[str, Any], cell: Mapping[str, Any]) -> dict[str, Any]:
    accuracy = {key: value for key, value in measured_in(summary).items() if value is not None}
    return {
        "tried": cell["tried"],
        "rounds": summary["rounds"],
        "clients": summary["clients"],
        **accuracy,
        "bytes_up": summary["bytes"]["up"],
        "bytes_down": summary["bytes"]["down"],
        "epsilon": summary["privacy"].get("epsilon"),
        "wall_s": summary["time"]["wall_s"],
        "path": cell["path"],
    }


def _round_row(row: Mapping[str, Any]) -> dict[str, Any]:
    accuracy = {key: value for key, value in measured_in(row).items() if value is not None}
    sizes = {"bytes_up": row["bytes"]["up"], "bytes_down": row["bytes"]["down"]}
    lost = {f"loss_{part}": value for part, value in (row.get("loss") or {}).items() if value is not None}
    return {
        "round": row["round"],
        **accuracy,
        **lost,
        **sizes,
        "status": row["status"],
        "wall_s": row["wall_s"],
    }


def _client_row(row: Mapping[str, Any]) -> dict[str, Any]:
    plain = {key: value for key, value in row.items() if not isinstance(value, dict | list)}
    return plain | {"bytes_up": row["bytes"]["up"], "bytes_down": row["bytes"]["down"]}
