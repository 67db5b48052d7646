"""Everything that the page shows of a comparison or a run, as JSON values; the page only draws."""

import base64
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fedkt.knowledge.kinds import Weights
from fedkt.results.comparison.frames import Comparison, text_of
from fedkt.results.folder import read_rows
from fedkt.results.measured import METRICS, Measured
from fedkt.results.metrics import PARTS, measured_in, metric_of
from fedkt.results.result import Result
from fedkt.results.statistics import (
    BLOCK,
    against_epsilon,
    by_seed,
    critical_difference,
    gains,
    overview,
    pairwise,
    with_costs,
)
from fedkt.tasks import Figure, Metric

STEPS = 250
"""Accuracies in pictures of many cells are kept to 1 / STEPS; NOTHING stands for none."""
NOTHING = 255
MOST_MATRICES = 24
"""Rounds of which a matrix between clients is kept; more are thinned out evenly."""
MOST_CLASSES = 100
Ends = tuple[float, float]
"""The smallest and the largest value of the leading figure in pictures."""


def of_comparison(comparison: Comparison) -> dict[str, Any]:
    """Collect a comparison."""
    runs, settings = comparison.runs, comparison.settings
    metrics = [m for m in METRICS if f"{m}_mean" in runs and runs[f"{m}_mean"].notna().any()]
    chosen = settings["metric"] if settings["metric"] in metrics else metrics[0]
    methods = list(runs[["method", "strategy"]].drop_duplicates().itertuples(index=False, name=None))
    final, figure = comparison.final, comparison.metric
    tables = {
        m: overview(runs, comparison.rounds, final, **{**settings, "metric": m}, figure=figure)
        for m in metrics
    }
    measured = [comparison.measured(cell["path"]) for cell in comparison.chosen]
    ends = _ends(figure, [held.values[m] for held in measured for m in metrics])
    return {
        "kind": "comparison",
        "figure": _about(figure, ends),
        "metric": chosen,
        "metrics": metrics,
        "baseline": settings["baseline"],
        "methods": [{"label": label, "strategy": strategy} for label, strategy in methods],
        "blocks": _blocks(comparison),
        "seeds": sorted({int(seed) for seed in runs["seed"]}),
        "tables": {m: records(table) for m, table in tables.items()},
        "curves": {m: _curves(comparison, m) for m in metrics},
        "gains": {m: _gains(gains(final, m, figure=figure), m) for m in metrics},
        "ranks": {m: critical_difference(table, figure) for m, table in tables.items()},
        "pairs": {m: records(pairwise(runs, m, figure)) for m in metrics},
        "losses": {part: _losses(comparison, part) for part in PARTS},
        "epsilon": {m: records(against_epsilon(runs, m)) for m in metrics},
        "runs": list(_runs(comparison, metrics, ends)),
        "clients": [],
        "parties": _parties(comparison),
        "tuning": records(comparison.tuning),
        "problems": comparison.problems,
        "impossible": comparison.book.get("impossible", []),
    }


def of_run(result: Result) -> dict[str, Any]:
    """Collect a single run, as a comparison of one."""
    from fedkt.results.measured import read_measured

    summary, measured = result.summary, read_measured(result.path)
    rounds = read_rows(result.path / "rounds.jsonl")
    metrics = [m for m in METRICS if any(measured_in(row).get(f"{m}_mean") is not None for row in rounds)]
    label, figure = summary.get("strategy", "run"), metric_of(summary)
    ends = _ends(figure, [measured.values[m] for m in metrics])
    beside: list[dict[str, Any]] = [
        {"key": f"{m}_{one.name}", "title": f"{m} {one.title}", "share": one.share}
        for m in metrics
        for one in figure.beside
    ]
    block = {"scenario": summary.get("scenario", result.path.name), "condition": "", "settings": {}}
    sent = np.cumsum([row["bytes"]["up"] + row["bytes"]["down"] for row in rounds])
    clients = max(1, int(summary.get("clients", len(measured.clients)) or 1))
    curve = {"block": 0, "method": 0, "megabytes": (sent / clients / 1e6).round(6).tolist()}
    curve["seconds"] = np.cumsum([row["wall_s"] for row in rounds]).round(3).tolist()
    curves = {
        m: [{**curve, "label": m, **_spread_over_clients(rounds, m, ends)}] for m in (*metrics, "validation")
    }
    curves["server"] = [{**curve, "label": "server", **_of_server(rounds)}]
    curves = {
        name: [c for c in held if any(v is not None for v in c["mean"])] for name, held in curves.items()
    }
    one = {"block": 0, "method": 0, "seed": summary.get("seed", 0), "path": "."}
    return {
        "kind": "run",
        "figure": _about(figure, ends),
        "metric": metrics[0] if metrics else "personal",
        "metrics": metrics,
        "baseline": "",
        "methods": [{"label": label, "strategy": label}],
        "blocks": [block],
        "seeds": [summary.get("seed", 0)],
        "tables": {},
        "curves": curves,
        "gains": {},
        "ranks": {},
        "pairs": {},
        "losses": _losses_of_run(result.path, curve),
        "epsilon": {},
        "runs": [one | _heat(measured, metrics, ends) | _matrices(rounds) | _confusion(result.path)],
        "clients": _clients(result.path, [one["key"] for one in beside], figure),
        "beside": beside,
        "parties": [
            {
                "block": 0,
                "seed": one["seed"],
                "methods": {"0": _exchange(result.path)},
                **_shares(result.path),
            }
        ],
        "tuning": [],
        "problems": [],
        "impossible": [],
    }


def _ends(figure: Metric, values: Iterable[NDArray[np.float32]]) -> Ends:
    """Return where pictures of the leading figure begin and end: where it has no highest value, at the
    largest of these."""
    if figure.highest is not None:
        return figure.lowest, figure.highest
    largest = max((float(np.nanmax(held)) for held in values if not np.isnan(held).all()), default=1.0)
    return figure.lowest, max(largest, figure.lowest + 1e-9)


def _about(figure: Metric, ends: Ends) -> dict[str, Any]:
    """Return what the page needs to tell and to compare the leading figure."""
    low, high = ends
    return {"title": figure.title, "share": figure.share, "sign": figure.sign, "lowest": low, "highest": high}


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a frame's rows as JSON values: NaN becomes null."""
    rows: list[dict[str, Any]] = json.loads(frame.to_json(orient="records", double_precision=6))
    return rows


def _blocks(comparison: Comparison) -> list[dict[str, Any]]:
    """Return scenarios under their conditions, in order, with the swept settings by their short names."""
    swept = {(c["scenario"], text_of(c["condition"])): c["condition"] for c in comparison.book["cells"]}
    found = comparison.runs[BLOCK].drop_duplicates().itertuples(index=False, name=None)
    return [{"scenario": s, "condition": c, "settings": swept[s, c]} for s, c in found]


def _numbers(comparison: Comparison) -> tuple[dict[tuple[str, str], int], dict[str, int]]:
    """Return the places of blocks and of methods in the page's lists."""
    runs = comparison.runs
    blocks = {
        block: i for i, block in enumerate(runs[BLOCK].drop_duplicates().itertuples(index=False, name=None))
    }
    return blocks, {method: i for i, method in enumerate(runs["method"].drop_duplicates())}


def _curves(comparison: Comparison, metric: str) -> list[dict[str, Any]]:
    """Return, per block and method, the mean over seeds per round and their range."""
    blocks, methods = _numbers(comparison)
    column = f"{metric}_mean"
    rounds = with_costs(comparison.rounds, comparison.runs)
    found = []
    for (scenario, condition, method), group in rounds.groupby([*BLOCK, "method"], sort=False):
        measured = group[group[column].notna()]
        values = by_seed(measured, column).agg(["mean", "min", "max"], axis=1)
        found.append(
            {"block": blocks[scenario, condition], "method": methods[method]}
            | {"rounds": [int(number) for number in values.index]}
            | {name: _rounded(values[name], 4) for name in ("mean", "min", "max")}
            | {
                name: _rounded(by_seed(measured, name).mean(axis=1).reindex(values.index), 6)
                for name in ("megabytes", "seconds")
            }
        )
    return found


def _losses(comparison: Comparison, part: str) -> list[dict[str, Any]]:
    """Return, per block and method, the mean loss over seeds per round and its range."""
    blocks, methods = _numbers(comparison)
    column, rounds = f"loss_{part}", comparison.rounds
    if column not in rounds:
        return []
    found = []
    for (scenario, condition, method), group in rounds.groupby([*BLOCK, "method"], sort=False):
        if group[column].isna().all():
            continue
        values = by_seed(group, column).agg(["mean", "min", "max"], axis=1)
        found.append(
            {"block": blocks[scenario, condition], "method": methods[method]}
            | {"rounds": [int(number) for number in values.index]}
            | {name: [_figures(value, 4) for value in values[name]] for name in ("mean", "min", "max")}
        )
    return found


def _losses_of_run(run: Path, curve: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return, by part, the mean loss of a run's clients per round and one standard deviation around it."""
    lines = read_rows(run / "losses.jsonl")
    if not lines:
        return {}
    frame = pd.DataFrame(lines)
    found = {}
    for part, label in zip(PARTS, ("training", "distillation"), strict=True):
        if part not in frame:
            continue
        values = frame[frame[part].notna()].groupby("round")[part]
        mean, std = values.mean(), values.std(ddof=0)
        ends = {"mean": mean, "min": mean - std, "max": mean + std}
        found[part] = [
            {"block": curve["block"], "method": curve["method"], "label": label}
            | {"rounds": [int(number) for number in mean.index]}
            | {name: [_figures(value, 4) for value in held] for name, held in ends.items()}
        ]
    return found


def _of_server(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the accuracy of the server's own model per round."""
    told = [measured_in(row).get("server") for row in rounds]
    mean = [None if value is None else round(value, 4) for value in told]
    return {"rounds": [row["round"] for row in rounds], "mean": mean}


def _clients(run: Path, beside: Iterable[str], figure: Figure) -> list[dict[str, Any]]:
    """Return every client's newest figures, with what the last teacher changed and its last losses."""
    found: dict[str, dict[str, Any]] = {}
    for row in read_rows(run / "clients.jsonl"):
        held = found.setdefault(str(row["client"]), {"client": str(row["client"])})
        held |= {key: row[key] for key in ("status", "epsilon") if row.get(key) is not None}
        held |= {m: round(row[m], 4) for m in (*METRICS, "validation") if row.get(m) is not None}
        held |= {key: _figures(row[key], 4) for key in beside if row.get(key) is not None}
        after = row.get("global") if row.get("global") is not None else row.get("personal")
        if after is not None and row.get("before_digest") is not None:
            held["taught"] = round(figure.gain(after, row["before_digest"]), 4)
    for row in read_rows(run / "losses.jsonl"):
        if str(row["client"]) in found:
            found[str(row["client"])] |= {part: _figures(row[part], 4) for part in PARTS if part in row}
    return list(found.values())


def _confusion(run: Path) -> dict[str, Any]:
    """Return what the clients' models took for what at the end of a run, where it is known."""
    file = run / "confusion.json"
    if not file.is_file():
        return {}
    held = json.loads(file.read_text(encoding="utf-8"))
    classes = _labels(run) or [str(k) for k in range(len(held["counts"]))]
    return {"confusion": {key: held[key] for key in ("rows", "clients", "counts")} | {"classes": classes}}


def _labels(run: Path) -> list[str] | None:
    """Return what the classes are called, None where they are numbers."""
    file = run / "model-input.json"
    labels = json.loads(file.read_text(encoding="utf-8")).get("labels") if file.is_file() else None
    return None if labels is None else [str(label) for label in labels]


def _figures(value: float, digits: int) -> float | None:
    """Round to so many significant figures."""
    return None if math.isnan(value) else float(f"{value:.{digits}g}")


def _spread_over_clients(rounds: list[dict[str, Any]], metric: str, ends: Ends) -> dict[str, Any]:
    """Return a run's mean over clients per round and one standard deviation around it, within the
    ends of pictures."""
    measured = [(row["round"], measured_in(row)) for row in rounds]
    numbers = [number for number, accuracy in measured]
    found = [accuracy.get(f"{metric}_mean") for _, accuracy in measured]
    mean = [None if value is None else round(value, 4) for value in found]
    std = [accuracy.get(f"{metric}_std") or 0.0 for _, accuracy in measured]
    low = [None if m is None else round(max(ends[0], m - s), 4) for m, s in zip(mean, std, strict=True)]
    high = [None if m is None else round(min(ends[1], m + s), 4) for m, s in zip(mean, std, strict=True)]
    return {"rounds": numbers, "mean": mean, "min": low, "max": high}


def _gains(table: pd.DataFrame, metric: str) -> list[dict[str, Any]]:
    """Return every client's gain per block and method, in points, seeds together."""
    known = table[table["gain"].notna()]
    return [
        {"scenario": scenario, "condition": condition, "method": method}
        | {"clients": [str(name) for name in group["client"]], "seeds": [int(seed) for seed in group["seed"]]}
        | {"gain": _rounded(group["gain"], 4)}
        for (scenario, condition, method), group in known.groupby([*BLOCK, "method"], sort=False)
    ]


def _runs(comparison: Comparison, metrics: list[str], ends: Ends) -> Iterable[dict[str, Any]]:
    """Yield every run's pictures; matrices and confusion of a method's first seed in a block only."""
    blocks, methods = _numbers(comparison)
    kept: dict[str, dict[str, Any]] = {}
    shown: set[tuple[int, int]] = set()
    for cell in comparison.chosen:
        block, method = blocks[cell["scenario"], cell["condition"]], methods[cell["method"]]
        row = {"block": block, "method": method, "seed": cell["seed"], "path": cell["path"]}
        if cell["path"] not in kept:
            kept[cell["path"]] = _heat(comparison.measured(cell["path"]), metrics, ends)
        once: dict[str, Any] = {}
        if (block, method) not in shown:
            shown.add((block, method))
            folder = comparison.path / cell["path"]
            once = _matrices(read_rows(folder / "rounds.jsonl")) | _confusion(folder)
        yield row | kept[cell["path"]] | once


def _heat(measured: Measured, metrics: list[str], ends: Ends) -> dict[str, Any]:
    """Return the accuracy of clients [rows] by rounds [columns] as bytes in base 64."""
    return {
        "rounds": list(measured.rounds),
        "clients": [str(name) for name in measured.clients],
        "heat": {m: _packed(measured.values[m].T, ends) for m in metrics if measured.values[m].size},
    }


def _matrices(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the weights between clients by round, where the strategy reported any."""
    told = [(row["round"], row.get("report") or {}) for row in rounds]
    told = [(number, report) for number, report in told if _is_matrix(report.get("weights"))]
    if not told:
        return {}
    every = max(1, math.ceil(len(told) / MOST_MATRICES))
    told = [pair for i, pair in enumerate(told) if i % every == 0 or i == len(told) - 1]
    return {
        "matrices": [
            {
                "round": number,
                "clients": [str(name) for name in report.get("clients", range(len(report["weights"])))],
                "weights": _packed(np.asarray(report["weights"], dtype=float)),
            }
            for number, report in told
        ]
    }


def _is_matrix(weights: Any) -> bool:
    if not isinstance(weights, list) or not weights:
        return False
    return all(isinstance(row, list) and len(row) == len(weights) for row in weights)


def _packed(values: NDArray[Any], ends: Ends = (0.0, 1.0)) -> str:
    """Return numbers row by row, one byte each: 0 to STEPS from end to end, or NOTHING for NaN."""
    low, high = ends
    at = (np.nan_to_num(values) - low) / (high - low)
    steps = np.where(np.isnan(values), NOTHING, np.clip(np.rint(at * STEPS), 0, STEPS))
    return base64.b64encode(np.ascontiguousarray(steps, dtype=np.uint8).tobytes()).decode()


def _parties(comparison: Comparison) -> list[dict[str, Any]]:
    """Return who holds what, once per block and seed, and per method what a message consists of."""
    blocks, methods = _numbers(comparison)
    found: dict[tuple[int, int], dict[str, Any]] = {}
    exchanged: dict[tuple[int, int], Any] = {}
    for cell in comparison.chosen:
        block, method = blocks[cell["scenario"], cell["condition"]], methods[cell["method"]]
        folder = comparison.path / cell["path"]
        key = block, cell["seed"]
        if key not in found:
            found[key] = {"block": block, "seed": cell["seed"], "methods": {}, **_shares(folder)}
        if (block, method) not in exchanged:
            exchanged[block, method] = _exchange(folder)
            found[key]["methods"][str(method)] = exchanged[block, method]
    return list(found.values())


def _federation(folder: Path) -> dict[str, Any]:
    file = folder / "federation.json"
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def _shares(folder: Path) -> dict[str, Any]:
    """Return the partition: rows of each class, or other group, and client."""
    about = _federation(folder)
    if not about or about["classes"] > MOST_CLASSES:
        return {}
    clients = [{key: c[key] for key in ("client", "domain", "model", "rows")} for c in about["clients"]]
    found = {"clients": clients, "classes": about["classes"], "transfer": about["transfer"]}
    labels = _labels(folder)
    if "groups" in about:  # of several labels the rarest one, or none; of numbers fifths
        groups = [*(labels or ()), *about["groups"][len(labels or ()) :]]
        return found | {"classes": len(groups), "labels": groups, "grouped": about["grouped"]}
    return found | {"labels": labels}


def _exchange(folder: Path) -> dict[str, Any]:
    """Return what a message of a method consists of, and what it came to."""
    about = _federation(folder)
    summary = json.loads((folder / "summary.json").read_text()) if (folder / "summary.json").is_file() else {}
    told = {
        "bytes": summary.get("bytes"),
        "clients": summary.get("clients"),
        "rounds": summary.get("rounds"),
        "privacy": summary.get("privacy"),
        "replies": summary.get("replies"),
    }
    if about:
        told["shares"] = about["shares"]
        told["message"] = {way: _joined(arrays) for way, arrays in about["message"].items()}
    return told


def _joined(arrays: Mapping[str, int]) -> dict[str, int]:
    """Return bytes by array; the tensors of a model are added up."""
    found: dict[str, int] = {}
    for name, count in arrays.items():
        key = "model weights" if name.startswith(Weights.PREFIX) else name
        found[key] = found.get(key, 0) + count
    return found


def _rounded(values: Iterable[float], digits: int) -> list[float | None]:
    return [None if math.isnan(value) else round(float(value), digits) for value in values]
