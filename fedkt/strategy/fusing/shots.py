"""What predictions of a few labelled rows say of clients: whom to choose, and how to weigh or scale them.

All take ``shots`` [clients, K, classes], probabilities of the K labelled rows, and ``labels`` int64 [K].
"""

from itertools import combinations

import torch
from torch import Tensor

LEAST = 1e-8
FLOOR = -12.0
"""Log-probabilities that are scaled are at least this."""


def ranks(scores: Tensor) -> Tensor:
    """Return each score's place [n] from the smallest, 0, on; of equal ones the first is first."""
    places = torch.empty_like(scores, dtype=torch.int64)
    places[scores.argsort(stable=True)] = torch.arange(len(scores))
    return places


def standing(shots: Tensor, labels: Tensor) -> Tensor:
    """Return the rank by mean negative log-likelihood plus that by accuracy, int64 [clients]."""
    given = shots[:, torch.arange(len(labels)), labels].clamp_min(LEAST)
    right = (shots.argmax(-1) == labels).double().mean(1)
    return ranks(-given.double().log().mean(1)) + ranks(-right)


def chosen(shots: Tensor, labels: Tensor, values: Tensor, bank: int, members: int) -> list[int]:
    """Return which ``members`` of the ``bank`` clients of best standing are taken, in their order.

    Those with the least sum of their standings and the tuple's rank by mean cosine between members'
    predictions ``values`` [clients, rows, classes] without the uniform one.
    """
    stand = standing(shots, labels)
    kept = sorted(stand.argsort(stable=True)[:bank].tolist())
    if members >= len(kept):
        return kept
    unit = torch.nn.functional.normalize((values - 1 / values.shape[-1]).flatten(1).double(), dim=1)
    alike = unit @ unit.T
    tuples = list(combinations(kept, members))
    cosines = [
        torch.stack([alike[i, j] for i, j in combinations(who, 2)]).mean() if members > 1 else alike[0, 0]
        for who in tuples
    ]
    total = torch.stack([stand[list(who)].sum() for who in tuples]) + ranks(torch.stack(cosines))
    return list(tuples[int(total.argmin())])


def recall(shots: Tensor, labels: Tensor) -> Tensor:
    """Return weights [clients, classes] that sum to one over clients.

    Before that (sum over the labelled rows of a class of what a client gives the class + 0.1) / (rows + 1).
    """
    is_class = torch.nn.functional.one_hot(labels, shots.shape[-1]).to(shots.dtype)
    found = ((shots * is_class).sum(1) + 0.1) / (is_class.sum(0) + 1)
    weights: Tensor = found / found.sum(0)
    return weights


def stacked(shots: Tensor, labels: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Return scales [clients, classes] and shifts [classes] of log-probabilities, by cross entropy.

    The mean over labelled rows plus ``ridge`` times (squared distance of scales from 1/clients + squared
    shifts): convex, so L-BFGS finds the one minimum.
    """
    x = floored_log(shots).double()
    n, _, classes = x.shape
    found = torch.cat([torch.full((n, classes), 1 / n), torch.zeros(1, classes)]).double().requires_grad_()
    start = found.detach().clone()
    search = torch.optim.LBFGS([found], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        search.zero_grad()
        logits = torch.einsum("nk,nrk->rk", found[:-1], x) + found[-1]
        value = torch.nn.functional.cross_entropy(logits, labels) + ridge * (found - start).square().sum()
        value.backward()
        return value

    search.step(loss)
    made = found.detach().to(shots.dtype)
    return made[:-1], made[-1]


def floored_log(p: Tensor) -> Tensor:
    """Return the logarithm of probabilities, at least -12."""
    return p.clamp_min(torch.finfo(p.dtype).tiny).log().clamp_min(FLOOR)
