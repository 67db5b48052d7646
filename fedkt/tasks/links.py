"""Whether a link of a graph is true: binary cross entropy, a sigmoid, areas and ranks.

Rows are triples. Before they are trained on or ranked each true one has got others that are not
(:mod:`fedkt.data.content.linking`); what was read is the relation alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from fedkt.errors import InputError
from fedkt.knowledge.kinds import LinkProbabilities
from fedkt.tasks import link_scoring
from fedkt.tasks.multilabel import Multilabel
from fedkt.tasks.task import OTHER_TASKS, Figure, Figures, Floats, LabelNames, Metric, Misfit, Targets

if TYPE_CHECKING:
    from fedkt.data.columns.choices import Choices

TRUE, RELATION, TYPED = range(3)
"""The columns of ``y``: whether the link is true, its relation, and whether a corruption fits its place."""


@dataclass(frozen=True)
class Links(Multilabel):
    """``y`` int64 [n, 3], see :data:`TRUE`; as read int64 [n], the relation. One output: the link's logit.

    ``relations``: how many there are, 0 before that is known.

    >>> task = Links(2)
    >>> y = torch.tensor([[1, 0, 0], [0, 0, 0]])
    >>> task.row_loss(torch.zeros(2, 1), y)  # ln 2
    tensor([0.6931, 0.6931])
    >>> task.measure(torch.tensor([[1.0], [-1.0]]), y, 1, None, None)["mrr"]
    1.0
    """

    relations: int = 0

    name = "links"
    metric = Metric(
        "auc",
        "AUC",
        lowest=0.5,
        beside=(
            Figure("auc_typed", "AUC of the right type"),
            Figure("mrr", "mean reciprocal rank"),
            Figure("hits_1", "Hits@1"),
            Figure("hits_10", "Hits@10"),
        ),
    )
    grouped = "relation"
    answers = LinkProbabilities
    all_held = False
    held_by_row = True
    misfits: ClassVar[tuple[Misfit, ...]] = (
        *OTHER_TASKS,
        Misfit("data.target", "it makes two classes"),
        Misfit("data.labels", "it names classes"),
        Misfit("clients.guard", "rows set aside leave corruptions behind that deny them"),
        Misfit(
            "privacy.mode",
            "which of its links are drawn against depends on all its others, so that no row stands alone",
            ("dpsgd", "central_gauss"),
        ),
    )

    def sized(self, groups: int) -> "Links":
        """Return the task of a graph with so many relations."""
        return Links(groups)

    def outputs(self, groups: int) -> int:
        """Return one."""
        return 1

    def read(
        self, where: str, y: Any, choices: "Choices", names: Sequence[str] | None = None
    ) -> tuple[Targets, LabelNames | None]:
        """Return relations as they are numbered. Raises InputError where rows are no triples."""
        labels = np.asarray(y)
        if names is None or labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise InputError(
                f"{where} holds no triples, but data.task is {self.name}; it must be triples:FILE, or a data "
                "set of links such as umls."
            )
        return labels.astype(np.int64), tuple(names)

    def about(self, outputs: int) -> str:
        """Return of how many relations links are."""
        return f"whether a link is true, of {self.relations} relations"

    def lacking(self, y: Targets, outputs: int, names: LabelNames | None) -> list[str]:
        """Nothing: a relation without a link is only unknown."""
        return []

    def strata(self, y: Targets, of: Targets) -> NDArray[np.int64]:
        """Return the relation."""
        return y if y.ndim == 1 else np.asarray(y[:, RELATION])

    def groups(self, outputs: int) -> list[str]:
        """Return the relations by number."""
        return [f"relation {n}" for n in range(self.relations)]

    def frequencies(self, y: Targets, outputs: int) -> Floats:
        """Return the share of rows that are true [1]."""
        return np.array([y[:, TRUE].mean(dtype=np.float64) if len(y) else 0.0])

    def share_told(self, share: Tensor, rows: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Return for each of ``rows`` [n, 3] which share of the links ``x y`` is of its relation [n].

        >>> x = torch.tensor([[1, 5, 2], [1, 6, 2], [2, 5, 1]])
        >>> y = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 0, 0]])
        >>> Links(2).share_told(torch.zeros(1), torch.tensor([[2, 5, 2], [3, 7, 1]]), x, y)
        tensor([0.5000, 0.0000])
        """
        own = x[y[:, TRUE] == 1, 1]
        counts = torch.bincount(own, minlength=int(rows[:, 1].max()) + 1 if len(rows) else 1).float()
        return counts[rows[:, 1]] / max(len(own), 1)

    def made(self, rows: int, outputs: int) -> Tensor:
        """Return every other row as true, of the first relation."""
        true = torch.arange(rows) % 2
        return torch.stack([true, torch.zeros_like(true), torch.zeros_like(true)], 1)

    def copies(self, y: Targets, x: Any) -> list[int]:
        """None: rows are ids."""
        return []

    def row_loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """Binary cross entropy, in nats."""
        true = y[..., TRUE].to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits[..., 0], true, reduction="none")

    def figures(self, scores: Floats, y: Floats, weights: Floats) -> Figures:
        """Return the area under the ROC curve, that against corruptions of the right type, and ranks."""
        return link_scoring.figures(scores[:, 0], y[:, TRUE] > 0, y[:, TYPED] > 0, weights)

    def leading(self, scores: Tensor, y: Tensor) -> float | None:
        """Return the area under the ROC curve."""
        s, t = (part.double().numpy(force=True) for part in (scores, y))
        return link_scoring.area(s[:, 0], t[:, TRUE] > 0, np.ones(len(t)))

    def goodness(self, scores: Tensor, y: Tensor) -> Tensor:
        """Return whether a row is taken for what it is."""
        return ((scores[:, 0] > 0) == (y[:, TRUE] > 0)).double()
