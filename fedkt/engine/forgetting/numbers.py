"""What tells a model that forgot from one that hides: pure measures, each beside its source."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedkt.client.training import predict
from fedkt.models import Net
from fedkt.rng import numpy_stream

PRIVATE, AGAIN = 54, 10
"""Rows of a batch while a class is taught again: of other classes, and of this one."""
ENOUGH = 0.5
"""Accuracy on the class at which it counts as learned again."""
MOST_STEPS = 500
POSITIVE, NEGATIVE = 20, 180
"""Rows of a probe: of the class, and of others."""


def divergence(reference: Tensor, logits: Tensor) -> float:
    """Return the mean over rows of KL(softmax(reference) || softmax(logits)), both [n, classes], in nats.

    >>> round(divergence(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0]])), 4)
    0.1201
    """
    p, q = reference.double().log_softmax(-1), logits.double().log_softmax(-1)
    return float((p.exp() * (p - q)).sum(-1).mean())


def surprise(logits: Tensor, y: Tensor) -> NDArray[np.float64]:
    """Return the cross entropy of each row [n], in nats."""
    found: NDArray[np.float64] = torch.nn.functional.cross_entropy(
        logits.double(), y, reduction="none"
    ).numpy()
    return found


def return_index(before: float, after: float, later: float) -> float | None:
    """Return which part of what was forgotten is back: (later - after) / (before - after).

    None where next to nothing was forgotten (less than 5 points).

    >>> round(return_index(0.393, 0.0, 0.439), 2)  # all of it, and more
    1.12
    >>> return_index(0.5, 0.48, 0.5) is None
    True
    """
    return (later - after) / (before - after) if before - after >= 0.05 else None


def anamnesis(steps: float, retrained: float) -> float:
    """Return the anamnesis index: steps to learn again over those of a retrained model; below 1 a trace.

    Chundawat et al. 2022, "Zero-Shot Machine Unlearning", arXiv 2201.05629, where epochs are counted.

    >>> round(anamnesis(7, 45), 2), round(anamnesis(44, 45), 2)
    (0.16, 0.98)
    """
    return steps / max(retrained, 1)


def relearning(
    net: Net, others: tuple[Tensor, Tensor], again: Tensor, label: int, test: Tensor, seed: int
) -> int:
    """Return after how many steps a model knows half of a class again, at most :data:`MOST_STEPS`.

    ``others``: rows and labels of other classes; ``again``: rows of the class; ``test``: those that it is
    asked about after each step. The model is trained (Adam, 0.001) and is another one afterwards.
    """
    x, y = others
    rng = numpy_stream(seed, "relearning")
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    for step in range(MOST_STEPS):
        _, logits = predict(net, test)
        if (logits.argmax(-1) == label).double().mean() >= ENOUGH:
            return step
        mine = torch.from_numpy(rng.choice(len(x), min(PRIVATE, len(x)), replace=False))
        its = torch.from_numpy(rng.choice(len(again), min(AGAIN, len(again)), replace=False))
        batch, labels = torch.cat([x[mine], again[its]]), torch.cat([y[mine], y.new_full((len(its),), label)])
        net.train()
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(batch)[1], labels).backward()
        optimiser.step()
    return MOST_STEPS


def probe(features: Tensor, y: Tensor, test: Tensor, test_y: Tensor, label: int, seed: int) -> float | None:
    """Return the AUC on test rows of a logistic probe of whether a row is of a class, by its features.

    ``features`` [n, width], ``y`` [n]: rows to learn the probe from, of which 20 of the class and 180 others
    are drawn. None where there are not as many, or test rows of one kind only.
    """
    from sklearn.linear_model import LogisticRegression

    rng, its = numpy_stream(seed, "probe"), (y == label).numpy()
    positive, negative = np.flatnonzero(its), np.flatnonzero(~its)
    if len(positive) < POSITIVE or len(negative) < NEGATIVE or len(torch.unique(test_y == label)) < 2:
        return None
    rows = np.concatenate(
        [rng.choice(positive, POSITIVE, replace=False), rng.choice(negative, NEGATIVE, False)]
    )
    fitted = LogisticRegression(max_iter=2000).fit(features[rows].numpy(), its[rows])
    scores, truth = fitted.decision_function(test.numpy()), (test_y == label).numpy()
    from fedkt.privacy.attacks.audit import area

    return area(scores[truth], scores[~truth])
