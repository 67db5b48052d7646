"""The fit of the forecast, and what it is worth on client-runs that had no part in it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score
from sklearn.model_selection import GroupKFold

from fedkt.drawing import blank, write_picture
from fedkt.rng import numpy_stream
from fedkt.strategy.fusing.evidence import EVIDENCE
from fedkt.strategy.fusing.forecast import MEASURES, cell_of, design, probabilities

PENALTIES = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
"""Inverse strengths of the ridge; the one with the least log loss is taken, over folds of whole groups."""
FOLDS, DRAWS, BINS = 5, 200, 10
EDGE = 0.005
"""The share of rows at each end of a column of evidence that count as at the edge."""
Rows = Sequence[dict[str, Any]]
Floats = NDArray[np.float64]


def fit(rows: Rows) -> dict[str, Any]:
    """Return the table that ships: standardisation, coefficients and their covariance for both measures."""
    evidence, groups = evidence_in(rows), np.array([row["seed"] for row in rows])
    low, high = np.quantile(evidence, [EDGE, 1 - EDGE], axis=0)
    near = evidence.clip(low, high)
    deviation = near.std(0)
    held: dict[str, Any] = {
        "evidence": list(EVIDENCE),
        "cells": sorted({cell_of(row["strategy"], row["together"]) for row in rows}),
        "low": rounded(low),
        "high": rounded(high),
        "mean": rounded(near.mean(0)),
        "deviation": rounded(np.where(deviation > 0, deviation, 1.0)),
        "federations": len({row["scenario"] for row in rows}),
        "client_runs": len(rows),
    }
    x = design(evidence, [row["strategy"] for row in rows], held)
    for measure in MEASURES:
        y = raised(rows, measure)
        losses = {c: cross_validated(x, y, groups, c) for c in PENALTIES}
        penalty = min(losses, key=lambda c: losses[c])
        drawn = [coefficients(x[i], y[i], penalty) for i in draws(groups) if len(set(y[i])) == 2]
        held[measure] = {
            "penalty": penalty,
            "log_loss": round(losses[penalty], 4),
            "raised": round(float(y.mean()), 4),
            "coefficients": rounded(coefficients(x, y, penalty)),
            "covariance": [rounded(row) for row in np.cov(np.stack(drawn), rowvar=False)],
        }
    return held


def evidence_in(rows: Rows) -> Floats:
    """Return the evidence [rows, len(EVIDENCE)] of client-runs."""
    return np.array([row["evidence"] for row in rows])


def raised(rows: Rows, measure: str) -> NDArray[np.bool_]:
    """Return whether fusing raised the accuracy above that of training alone."""
    return np.array([row[measure] > 0 for row in rows])


def coefficients(x: Floats, y: NDArray[np.bool_], penalty: float) -> Floats:
    """Return the coefficients of a ridge logistic regression; the first, of the ones, is free."""
    model = LogisticRegression(C=penalty, max_iter=2000).fit(x[:, 1:], y)
    return np.concatenate([model.intercept_, model.coef_[0]])


def cross_validated(x: Floats, y: NDArray[np.bool_], groups: NDArray[np.int64], penalty: float) -> float:
    """Return the log loss in nats over folds that share no federation."""
    told = np.zeros(len(y))
    for train, test in GroupKFold(FOLDS).split(x, y, groups):
        told[test] = probabilities(x[test], coefficients(x[train], y[train], penalty))
    return float(log_loss(y, told))


def draws(groups: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the rows of bootstrap draws of whole federations: clients of one are alike."""
    stream, names = numpy_stream(0, "forecast", "bootstrap"), np.unique(groups)
    rows_of = {name: np.flatnonzero(groups == name) for name in names}
    return [np.concatenate([rows_of[n] for n in stream.choice(names, len(names))]) for _ in range(DRAWS)]


def rounded(values: Floats) -> list[float]:
    """Return numbers as the table keeps them."""
    return [float(f"{value:.5g}") for value in values]


def judged(rows: Rows, held: dict[str, Any], measure: str) -> dict[str, float]:
    """Return what a table is worth on client-runs; ``base`` is the Brier score of their own base rate."""
    y, told = raised(rows, measure), foretold(rows, held, measure)
    rate = float(y.mean())
    return {
        "runs": len(rows),
        "rate": rate,
        "told": float(told.mean()),
        "auc": float(roc_auc_score(y, told)) if 0 < rate < 1 else float("nan"),
        "brier": float(brier_score_loss(y, told)),
        "base": rate * (1 - rate),
    }


def foretold(rows: Rows, held: dict[str, Any], measure: str) -> Floats:
    """Return the probabilities [rows] that a table gives client-runs."""
    x = design(evidence_in(rows), [row["strategy"] for row in rows], held)
    return probabilities(x, np.array(held[measure]["coefficients"]))


def draw(rows: Rows, held: dict[str, Any], path: Path) -> None:
    """Draw how often accuracy rose against how likely that was said to be, in ten parts of equal size."""
    figure = blank(8, 4)
    for place, measure in enumerate(MEASURES):
        axes = figure.add_subplot(1, 2, place + 1)
        y, told = raised(rows, measure), foretold(rows, held, measure)
        parts = np.array_split(np.argsort(told, kind="stable"), BINS)
        said, seen = ([float(v[part].mean()) for part in parts] for v in (told, y))
        error = [1.96 * (s * (1 - s) / len(part)) ** 0.5 for s, part in zip(seen, parts, strict=True)]
        axes.plot([0, 1], [0, 1], color="#6b7780", linestyle="dotted")
        axes.errorbar(said, seen, yerr=error, fmt="o-", color="#0b6e99", capsize=2)
        axes.set(
            title=f"{measure} accuracy", xlabel="said to rise", ylabel="rose", xlim=(0, 1), ylim=(0, 1.05)
        )
    write_picture(figure, path, dpi=110)


def read(file: Path) -> list[dict[str, Any]]:
    """Return the client-runs of a file, none where there is none."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
