"""Which transfer rows a round asks for: a fresh sample, or those worth most by what was said of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedkt.rng import numpy_stream

if TYPE_CHECKING:
    from fedkt.scenario.about_data import Transfer


class RowChoice:
    """Chooses by the scenario's policy; ``total``: rows of the transfer set.

    ``random``: a fresh seeded sample; ``disagreement``: the rows on which clients contradicted one another
    when they were last asked; ``entropy`` and ``margin``: the rows on which the newest fused teacher about
    them was least certain, averaged over clients where teachers are personal.

    Rows of noise, or of another domain, leave every client in doubt, so that a teacher is least certain of
    them for ever: in a set of several sources ``entropy`` and ``margin`` end in asking for these alone.
    """

    def __init__(self, transfer: "Transfer", total: int, seed: int) -> None:
        self._transfer, self._total, self._seed = transfer, total, seed
        self.doubt: Tensor | None = None
        """What each row is worth [total], infinite where nobody was asked; None before the first score."""

    @property
    def by_doubt(self) -> bool:
        """Whether what teachers are unsure of decides."""
        return self._transfer.policy in ("entropy", "margin")

    @property
    def by_clients(self) -> bool:
        """Whether clients' own answers decide, not teachers."""
        return self._transfer.policy == "disagreement"

    def choose(self, server_round: int) -> NDArray[np.int32] | None:
        """Return the rows to ask for, ascending (None: all)."""
        count = self._transfer.rows
        if count is None or count >= self._total:
            return None
        shuffled = numpy_stream(self._seed, "rows", server_round).permutation(self._total)
        if self.doubt is not None:
            # Ties, and rows that no teacher has spoken about, are taken in the shuffled order.
            shuffled = shuffled[np.argsort(-self.doubt.numpy()[shuffled], kind="stable")]
        return np.sort(shuffled[:count]).astype(np.int32)

    def score(self, rows: NDArray[np.int32] | None, answers: Sequence[Tensor]) -> None:
        """Note what these rows are worth by probabilities [rows, classes], teachers' or each client's."""
        if self.doubt is None:
            # A row without a score is worth most: nobody has spoken about it yet.
            self.doubt = torch.full((self._total,), torch.inf)
        if self.by_clients:
            found = disagreement(torch.stack(list(answers)))
        else:
            found = torch.stack([row_doubt(values, self._transfer.policy) for values in answers]).mean(0)
        self.doubt[slice(None) if rows is None else torch.from_numpy(rows).long()] = found


def disagreement(probabilities: Tensor) -> Tensor:
    """Return how much clients contradict one another about each row, [clients, rows, classes] to [rows].

    H(mean) - mean H in nats, over the clients that said anything of the row (who left it out sent zeros): the
    Jensen-Shannon divergence, which is Houlsby et al. 2011, "Bayesian active learning for classification",
    arXiv:1112.5745, with clients as the models. 0 where all say the same, be they sure or not; at most the
    logarithm of the number of clients, and of classes.
    """
    spoke = (probabilities.sum(-1) > 0).to(probabilities.dtype)
    count = spoke.sum(0).clamp(min=1)
    mean = probabilities.sum(0) / count[:, None]
    apart = row_doubt(mean, "entropy") - row_doubt(probabilities, "entropy").sum(0) / count
    return apart.clamp(min=0.0)  # rounding


def row_doubt(probabilities: Tensor, policy: str) -> Tensor:
    """Return how uncertain each row of probabilities [..., rows, classes] is; larger is less certain.

    ``entropy``: in nats; ``margin``: one minus the distance of the two largest probabilities.
    """
    if policy == "entropy":
        entropy: Tensor = -torch.special.xlogy(probabilities, probabilities).sum(-1)
        return entropy
    top = probabilities.topk(2, dim=-1).values
    margin: Tensor = top[..., 0] - top[..., 1]
    return 1.0 - margin
