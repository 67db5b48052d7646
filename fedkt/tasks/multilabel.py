"""Several labels of a row, each there or not: binary cross entropy, sigmoids, mean average precision."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from fedkt.distill.bernoulli import SMALLEST, as_label_logits
from fedkt.errors import InputError
from fedkt.knowledge.kinds import LabelProbabilities
from fedkt.tasks import label_scoring
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


@dataclass(frozen=True)
class Multilabel(ColumnsTask):
    """``y`` float32 {0,1} [n, labels]; outputs are logits, one per label, each of its own sigmoid.

    >>> task = Multilabel()
    >>> task.row_loss(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))  # ln 2, the mean over labels
    tensor([0.6931])
    >>> task.divergence(torch.tensor([[0.5], [0.8]]))[0, 1].item()  # .5 ln(.5/.8) + .5 ln(.5/.2) = ln 1.25
    0.2231435...
    """

    name = "multilabel"
    metric = Metric(
        "mean_average_precision",
        "mean average precision",
        beside=(Figure("macro_f1", "macro F1"), Figure("micro_f1", "micro F1"), Figure("auc", "AUC")),
    )
    grouped = "rarest label"
    answers = LabelProbabilities
    losses = ("bernoulli_kl", "bernoulli_ce", "mse", "mae")
    defaults: ClassVar[Mapping[str, str]] = {
        "kl": "bernoulli_kl",
        "mse_prob": "bernoulli_kl",
        "ce": "bernoulli_ce",
    }
    misfits: ClassVar[tuple[Misfit, ...]] = (
        *OTHER_TASKS,
        Misfit("data.target", "it makes two classes of one label"),
    )

    def read(
        self, where: str, y: Any, choices: "Choices", names: Sequence[str] | None = None
    ) -> tuple[Targets, LabelNames | None]:
        """Return 0 and 1 in a column per label, and what the columns are called."""
        values, named = columns_of_targets(where, y, "labels", self.name)
        names = named if names is None else tuple(names)
        odd = ~np.isin(values, (0.0, 1.0))
        problems = []
        if odd.any():
            row, column = (int(at[0]) for at in odd.nonzero())
            problems.append(
                f"{where}: y holds {values[row, column]:g} (first: row {row}, label {column}); of data.task "
                "multilabel each label must be 0 or 1, numbers are predicted with regression."
            )
        if values.shape[1] < 2:
            problems.append(
                f"{where}: y has {values.shape[1]} label per row; data.task multilabel needs at least 2, one "
                "alone is a class with the values 0 and 1 (classification)."
            )
        if names is not None and len(names) != values.shape[1]:
            problems.append(
                f"{where}: y has {values.shape[1]} labels per row but {len(names)} names; each must have one."
            )
        if problems:
            raise InputError(*problems)
        return values.astype(np.float32), None if names is None else tuple(names)

    def about(self, outputs: int) -> str:
        """Return how many labels there are."""
        return f"{outputs} labels, each there or not"

    def lacking(self, y: Targets, outputs: int, names: LabelNames | None) -> list[str]:
        """Return which labels no training row has."""
        lost = [n for n in range(outputs) if n >= y.shape[1] or not y[:, n].any()]
        if not lost:
            return []
        told = ", ".join(f"{n}" if names is None else f"{n} ({names[n]})" for n in lost[:10])
        which = f"label {told}" if len(lost) == 1 else f"labels {told}"
        return [
            f"no row with {which} is left to deal, so nobody can learn it; leave it out, or give such rows."
        ]

    def strata(self, y: Targets, of: Targets) -> NDArray[np.int64]:
        """Return the rarest label that a row has, the number of labels where it has none."""
        often = np.broadcast_to(of.sum(0), y.shape)
        rarest = np.where(y > 0, often, np.inf).argmin(1)
        return np.asarray(np.where(y.any(1), rarest, y.shape[1]), np.int64)

    def groups(self, outputs: int) -> list[str]:
        """Return the labels by number, and rows without one."""
        return [*(f"label {n}" for n in range(outputs)), "no label"]

    def frequencies(self, y: Targets, outputs: int) -> Floats:
        """Return the share of rows that have each label."""
        return np.asarray(y.mean(0, dtype=np.float64)) if len(y) else np.zeros(outputs)

    def made(self, rows: int, outputs: int) -> Tensor:
        """Return every other label."""
        return ((torch.arange(rows)[:, None] + torch.arange(outputs)) % 2).float()

    def copies(self, y: Targets, x: Any) -> list[int]:
        """Return columns that say one of the labels."""
        from fedkt.data.columns.named import copies_of

        return sorted({column for label in y.T for column in copies_of(label.astype(np.int64), x)})

    def row_loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """Binary cross entropy, in nats, the mean over labels."""
        return F.binary_cross_entropy_with_logits(logits, y, reduction="none").mean(-1)

    def said(self, logits: Tensor, form: str, temperature: float) -> Tensor:
        """Return the logits, or sigmoid(logits / temperature)."""
        return logits if form == "logits" else (logits / temperature).sigmoid()

    def heard(self, values: Tensor, form: str, temperature: float) -> Tensor:
        """Return the logits, or temperature · log(p / (1 - p))."""
        return values if form == "logits" else as_label_logits(values, temperature)

    def normalised(self, values: Tensor) -> Tensor:
        """Leave each label by itself."""
        return values.clamp(0.0, 1.0)

    def each_distribution(self, values: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        """Change (p, 1 - p) of each label."""
        return change(torch.stack([values, 1 - values], -1))[..., 0]

    def energy(self, logits: Tensor) -> Tensor:
        """Return sum over labels of log(1 + exp(logit)).

        Wang et al. 2021, "Can multi-label classification networks know what they don't know?" (JointEnergy),
        NeurIPS, arXiv 2109.14162.
        """
        return F.softplus(logits).sum(-1)

    def described(self, values: Tensor) -> Tensor:
        """Return the mean probability of each label."""
        return values.mean(1)

    def divergence(self, described: Tensor) -> Tensor:
        """Sum over labels of KL(Bernoulli(p_n) || Bernoulli(p_m))."""
        p = described.double().clamp(SMALLEST, 1 - SMALLEST)
        both = torch.cat([p, 1 - p], -1)
        return (both * both.log()).sum(-1, keepdim=True) - both @ both.log().T

    def figures(self, scores: Floats, y: Floats, weights: Floats) -> Figures:
        """Return mean average precision, ``macro_f1``, ``micro_f1`` and ``auc``."""
        return label_scoring.figures(scores, y, weights)

    def goodness(self, scores: Tensor, y: Tensor) -> Tensor:
        """Return the share of a row's labels that are predicted rightly."""
        return ((scores > 0) == (y > 0)).double().mean(-1)
