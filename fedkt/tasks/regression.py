"""Numbers of a row: squared error, predictions as they are, R².

R² leads, since it is the same whatever the units: 1 is perfect, 0 is as good as the mean of the test rows'
targets, below 0 is worse. The root mean squared error and the mean absolute error are in the targets' units.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedkt.errors import InputError
from fedkt.knowledge.codec import LIMIT
from fedkt.knowledge.kinds import Numbers
from fedkt.tasks.task import (
    OTHER_TASKS,
    ColumnsTask,
    Figure,
    Figures,
    Floats,
    LabelNames,
    Metric,
    Misfit,
    Targets,
    columns_of_targets,
)

if TYPE_CHECKING:
    from fedkt.data.columns.choices import Choices

FIFTHS = 5
"""Groups of rows by their first target, each with as many."""
FLAT = 1e-3
"""Least variance of a client's predictions, relative to that of all: one who says a constant is not
infinitely far from the others."""

LOOKED_AT, SAME = 10_000, 1e-9
"""A column is a copy of a target where their correlation in the first rows is one but for this."""


@dataclass(frozen=True)
class Regression(ColumnsTask):
    """``y`` float32 [n, targets]; outputs are predictions of them.

    ``ranges``: smallest and largest value of each target, in its units, of which -1 and 1 are made before
    anything is learned, and between which predictions lie when they leave a client; none: targets are learned
    as they are.

    >>> task = Regression(((0.0, 10.0),))
    >>> task.read("y", [0.0, 5.0, 10.0], None)[0].tolist()
    [[-1.0], [0.0], [1.0]]
    >>> task.measure(torch.tensor([[0.0], [1.0]]), torch.tensor([[-1.0], [1.0]]), 1, None, None)
    {'': 0.5, 'rmse': 3.5355339059327378, 'mae': 2.5}
    """

    ranges: tuple[tuple[float, float], ...] = ()

    name = "regression"
    metric = Metric(
        "r2",
        "R²",
        lowest=-1.0,
        beside=(
            Figure("rmse", "RMSE", share=False, higher_is_better=False),
            Figure("mae", "MAE", share=False, higher_is_better=False),
        ),
    )
    answers = Numbers
    grouped = "fifth of the first target"
    bounded = False
    losses = ("mse", "mae")
    defaults: ClassVar[Mapping[str, str]] = {"kl": "mse", "mse_prob": "mse", "ce": "mse"}
    misfits = (
        *OTHER_TASKS,
        Misfit("data.target", "it makes two classes"),
        Misfit("data.labels", "it names classes"),
    )

    def read(
        self, where: str, y: Any, choices: "Choices | None", names: Sequence[str] | None = None
    ) -> tuple[Targets, LabelNames | None]:
        """Return numbers in a column per target, scaled by the ranges where there are some."""
        values, named = columns_of_targets(where, y, "targets", self.name)
        if not self.ranges:
            largest = np.abs(values).max(initial=0.0)
            if largest > LIMIT:
                raise InputError(
                    f"{where}: y holds numbers up to {largest:g}, but what clients say of rows is at most "
                    f"{LIMIT:g}; data.targets must give each target's range, such as [[0, {largest:g}]]."
                )
            return values.astype(np.float32), named
        if len(self.ranges) != values.shape[1]:
            raise InputError(
                f"{where}: y has {values.shape[1]} targets per row but data.targets has {len(self.ranges)}; "
                "each target must have one range."
            )
        problems = [
            f"{where}: target {n} holds {odd[0]:g}, but data.targets says that it lies in {low:g} to "
            f"{high:g}."
            for n, (low, high) in enumerate(self.ranges)
            if len(odd := values[(values[:, n] < low) | (values[:, n] > high), n])
        ]
        if problems:
            raise InputError(*problems)
        middle, half = self._units(values.shape[1])
        return ((values - middle) / half).astype(np.float32), named

    def _units(self, targets: int) -> tuple[Floats, Floats]:
        """Return what 0 stands for and how much 1 is, of each target [targets] in its units."""
        if not self.ranges:
            return np.zeros(targets), np.ones(targets)
        low, high = np.array(self.ranges, np.float64).T
        return (low + high) / 2, (high - low) / 2

    def in_units(self, outputs: Tensor) -> Tensor:
        """Return predictions in the targets' units."""
        middle, half = (torch.from_numpy(part).to(outputs) for part in self._units(outputs.shape[-1]))
        return middle + half * outputs

    def about(self, outputs: int) -> str:
        """Return how many targets there are, and between what they lie."""
        held = ", ".join(f"{low:g} to {high:g}" for low, high in self.ranges)
        return f"{outputs} target{'s' if outputs > 1 else ''}" + (f" from {held}" if held else " as they are")

    def lacking(self, y: Targets, outputs: int, names: LabelNames | None) -> list[str]:
        """Return which targets are the same number in all rows."""
        lost = [str(n) for n in range(outputs) if n >= y.shape[1] or y[:, n].min() == y[:, n].max()]
        which = f"target {lost[0]} is" if len(lost) == 1 else f"targets {', '.join(lost)} are"
        return [f"{which} one number in all rows that are left to deal; leave it out."] if lost else []

    def strata(self, y: Targets, of: Targets) -> NDArray[np.int64]:
        """Return which fifth of all rows' first targets a row's own belongs to."""
        edges = np.quantile(of[:, 0].astype(np.float64), np.arange(1, FIFTHS) / FIFTHS)
        return np.searchsorted(edges, y[:, 0].astype(np.float64), side="right").astype(np.int64)

    def groups(self, outputs: int) -> list[str]:
        """Return the fifths, from the smallest targets up."""
        return [f"fifth {n + 1}" for n in range(FIFTHS)]

    def frequencies(self, y: Targets, outputs: int) -> Floats:
        """Return zeros: numbers are not frequent."""
        return np.zeros(outputs)

    def made(self, rows: int, outputs: int) -> Tensor:
        """Return numbers from -1 to 1."""
        return torch.linspace(-1.0, 1.0, rows)[:, None].expand(rows, outputs).contiguous()

    def copies(self, y: Targets, x: Any) -> list[int]:
        """Return columns that are one of the targets, in any unit."""
        columns, targets = (np.asarray(part[:LOOKED_AT], np.float64) for part in (x, y))
        if len(targets) < 10:
            return []
        z, t = columns - columns.mean(0), targets - targets.mean(0)
        lengths = np.sqrt((z**2).sum(0))[:, None] * np.sqrt((t**2).sum(0))[None]
        with np.errstate(divide="ignore", invalid="ignore"):
            alike = np.abs(z.T @ t) / lengths > 1 - SAME
        return [int(column) for column in np.flatnonzero(alike.any(1))]

    def row_loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """Squared error, the mean over targets."""
        return (logits - y).square().mean(-1)

    def said(self, logits: Tensor, form: str, temperature: float) -> Tensor:
        """Return the predictions, within their ranges."""
        return logits.clamp(-1.0, 1.0) if self.ranges else logits

    def heard(self, values: Tensor, form: str, temperature: float) -> Tensor:
        """Return the predictions."""
        return values

    def closed(self, values: Tensor) -> Tensor:
        """Return the predictions."""
        return values

    def normalised(self, values: Tensor) -> Tensor:
        """Return the predictions."""
        return values

    def each_distribution(self, values: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        """Raise TypeError: there are none."""
        raise TypeError("numbers are no distributions")

    def described(self, values: Tensor) -> Tensor:
        """Return mean and variance over rows of the predictions of each target [clients, 2 · targets]."""
        return torch.cat([values.mean(1), values.var(1, correction=0)], -1)

    def divergence(self, described: Tensor) -> Tensor:
        """Sum over targets of KL between Gaussians, ½ (log(v_m/v_n) + (v_n + (μ_n - μ_m)²) / v_m - 1)."""
        mean, variance = described.double().chunk(2, -1)
        least = FLAT * (variance.mean(0) + mean.var(0, correction=0)) + torch.finfo(torch.float64).tiny
        v = variance.maximum(least)
        apart = (mean[:, None] - mean[None]).square()
        found = v.log()[None] - v.log()[:, None] + (v[:, None] + apart) / v[None] - 1
        return found.sum(-1) / 2

    def figures(self, scores: Floats, y: Floats, weights: Floats) -> Figures:
        """Return R², ``rmse`` and ``mae``, each the mean over targets; the two errors in the targets'
        units."""
        if not len(y) or not weights.sum() > 0:
            return {"": None, "rmse": None, "mae": None}
        weights = weights / weights.sum()
        unit = self._units(y.shape[1])[1]
        squared, spread = weights @ (scores - y) ** 2, weights @ (y - weights @ y) ** 2
        varies = spread > 0
        r2 = float(np.mean(1 - squared[varies] / spread[varies])) if varies.any() else None
        absolute = weights @ np.abs(scores - y)
        return {
            "": r2,
            "rmse": float(np.mean(np.sqrt(squared) * unit)),
            "mae": float(np.mean(absolute * unit)),
        }

    def goodness(self, scores: Tensor, y: Tensor) -> Tensor:
        """Return minus the squared error of each row."""
        return -(scores - y).square().mean(-1)
