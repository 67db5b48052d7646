"""One class per row: cross entropy, softmax, accuracy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedkt.distill.losses import as_logits
from fedkt.knowledge.kinds import Logits
from fedkt.tasks import scoring
from fedkt.tasks.task import Figures, Floats, LabelNames, Metric, Targets, Task

if TYPE_CHECKING:
    from fedkt.data.columns.choices import Choices

SMALLEST = 1e-8
"""Probabilities are clipped here before a logarithm is taken."""


@dataclass(frozen=True)
class Classification(Task):
    """``y`` int64 [n] in [0, classes); outputs are logits, one per class.

    >>> task = Classification()
    >>> task.row_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))  # ln 2
    tensor([0.6931])
    >>> task.said(torch.tensor([[0.0, 0.0]]), "probabilities", 1.0)
    tensor([[0.5000, 0.5000]])
    """

    name = "classification"
    metric = Metric("accuracy", "accuracy", part="accuracy")
    answers = Logits
    exclusive = True

    def read(
        self, where: str, y: Any, choices: "Choices", names: Sequence[str] | None = None
    ) -> tuple[Targets, LabelNames | None]:
        """Return whole numbers from 0, and the names behind them."""
        from fedkt.data.columns.labels import labels_of  # the room imports this one while it is opened

        return labels_of(where, y, choices.target, names)

    def about(self, outputs: int) -> str:
        """Return how many classes there are."""
        return f"{outputs} classes"

    def lacking(self, y: Targets, outputs: int, names: LabelNames | None) -> list[str]:
        """Return which classes have no training row at all."""
        if outputs < 2:
            return [f"the data has {outputs} class; at least 2 are needed."]
        lost = np.setdiff1d(np.arange(outputs), y)
        if not len(lost):
            return []
        told = [f"{n}" if names is None else f"{n} ({names[n]})" for n in lost[:10]]
        which = f"class {told[0]}" if len(lost) == 1 else f"classes {', '.join(told)}"
        return [
            f"no row of {which} is left to deal, so no client can hold it; labels must be "
            f"0 to {outputs - 1}, with "
            "training rows of each besides those held out."
        ]

    def strata(self, y: Targets, of: Targets) -> NDArray[np.int64]:
        """Return the classes themselves."""
        return y

    def groups(self, outputs: int) -> list[str]:
        """Return the classes by number."""
        return [f"class {n}" for n in range(outputs)]

    def frequencies(self, y: Targets, outputs: int) -> Floats:
        """Return the share of each class, which sum to one; of no rows all alike."""
        counts = np.bincount(y, minlength=outputs)
        return np.asarray(counts / counts.sum()) if len(y) else np.full(outputs, 1 / outputs)

    def made(self, rows: int, outputs: int) -> Tensor:
        """Return the classes in turn."""
        return torch.arange(rows) % outputs

    def copies(self, y: Targets, x: Any) -> list[int]:
        """Return columns with a value per class, and no other."""
        from fedkt.data.columns.named import copies_of

        return copies_of(y, x)

    def row_loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """Cross entropy, in nats."""
        return torch.nn.functional.cross_entropy(logits, y, reduction="none")

    def said(self, logits: Tensor, form: str, temperature: float) -> Tensor:
        """Return the logits, or softmax(logits / temperature)."""
        return logits if form == "logits" else (logits / temperature).softmax(-1)

    def heard(self, values: Tensor, form: str, temperature: float) -> Tensor:
        """Return the logits, or temperature · log of probabilities."""
        return values if form == "logits" else as_logits(values, temperature)

    def normalised(self, values: Tensor) -> Tensor:
        """Divide by the sum over classes; uniform where that is 0."""
        total = values.sum(-1, keepdim=True)
        uniform = torch.full_like(values, 1 / values.shape[-1])
        return torch.where(total > 0, values / total.clamp_min(1e-12), uniform)

    def each_distribution(self, values: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        """A row's probabilities are its one distribution."""
        return change(values)

    def energy(self, logits: Tensor) -> Tensor:
        """Return log sum over classes of exp(logit)."""
        return logits.logsumexp(-1)

    def described(self, values: Tensor) -> Tensor:
        """Return the mean distribution over classes."""
        return values.mean(1)

    def divergence(self, described: Tensor) -> Tensor:
        """KL(p_n || p_m) = sum_k p_nk log p_nk - sum_k p_nk log p_mk, for all pairs at once."""
        p = described.double().clamp_min(SMALLEST)
        log_p = p.log()
        return (p * log_p).sum(-1, keepdim=True) - p @ log_p.T

    def measure(
        self, scores: Tensor, y: Tensor, outputs: int, share: Floats | None, groups: NDArray[np.int64] | None
    ) -> Figures:
        """Return accuracy, ``balanced`` accuracy and ``auc`` (two classes), and the personal accuracies."""
        found = scoring.evaluate(scores, y, outputs, share)
        short = {"accuracy": "", "balanced_accuracy": "balanced"}
        return {short.get(name, name): value for name, value in found.items()}

    def leading(self, scores: Tensor, y: Tensor) -> float | None:
        """Return the accuracy."""
        return scoring.accuracy(scores, y)

    def goodness(self, scores: Tensor, y: Tensor) -> Tensor:
        """Return whether a row is predicted rightly."""
        return scores.argmax(-1) == y

    def confusion(self, scores: Tensor, y: Tensor, outputs: int) -> NDArray[np.int64] | None:
        """Return int64 [classes, classes]: a row is a true class, a column a predicted one."""
        return scoring.confusion(scores, y, outputs)
