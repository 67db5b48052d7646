"""Draws of partitions: by Dirichlet distributions, of whole classes, of log-normal sizes.

The first are those of flwr-datasets' partitioners, so with the same rows for a seed. It is not asked itself,
since importing it takes seconds; a test holds the two equal.
"""

import numpy as np
from numpy.typing import NDArray

from fedkt.data.columns.sample import apportion

Indices = NDArray[np.int64]
TRIES = 11
LOGNORMAL_SIGMA = 1.0
"""Standard deviation of the logarithm of a client's rows with ``sizes: lognormal``."""


def by_class(
    code: Indices, clients: int, alpha: float, least: int, rng: np.random.Generator
) -> list[Indices] | None:
    """Share each class's rows out in proportions of their own (Yurochkin et al. 2019, arXiv:1905.12022).

    ``code`` [n]: classes from 0 without gaps. Returns positions per client, None where in each of 11 tries
    some client got fewer than ``least``.
    """
    rows_of = [np.flatnonzero(code == number) for number in range(code.max() + 1)]
    for _ in range(TRIES):
        parts: list[list[Indices]] = [[] for _ in range(clients)]
        for rows in rows_of:
            shares = rng.dirichlet(np.full(clients, alpha))
            pieces = np.split(rows, (np.cumsum(shares) * len(rows)).astype(int)[:-1])
            for part, piece in zip(parts, pieces, strict=True):
                part.append(piece)
        whole = [np.concatenate(part) for part in parts]
        if min(map(len, whole)) >= least:
            return whole
    return None


def by_client(
    code: Indices, clients: int, size: int, alpha: float, rng: np.random.Generator
) -> list[Indices] | None:
    """Give each client ``size`` rows by class proportions of its own (Acar et al. 2021, arXiv:2111.04263).

    ``code`` [n]: classes from 0 without gaps. Clients take turns at random; a class of which nothing is left
    falls out of all proportions. Returns positions per client, None where a client's classes ran out.
    """
    stock = [np.flatnonzero(code == number) for number in range(code.max() + 1)]
    left = np.array([len(rows) for rows in stock])
    priors = rng.dirichlet(np.full(len(stock), alpha), size=clients)
    taken = np.zeros((clients, size), np.int64)
    wanted, waiting = [size] * clients, list(range(clients))
    while any(wanted):
        client = waiting[rng.integers(len(waiting))]
        if not wanted[client]:
            waiting.remove(client)
            continue
        wanted[client] -= 1
        while True:
            upto = priors[client].cumsum()
            if not upto[-1] > 0:
                return None
            chosen = int((upto / upto[-1]).searchsorted(rng.random(), side="right"))
            if left[chosen]:
                break
            priors[:, chosen] = 0
            with np.errstate(all="ignore"):
                priors /= priors.sum(axis=1, keepdims=True)
        left[chosen] -= 1
        taken[client, wanted[client]] = stock[chosen][left[chosen]]
    return list(taken)


def whole_classes(code: Indices, clients: int, rng: np.random.Generator) -> list[Indices]:
    """Deal every class to one client: in random order, each to who has fewest rows by then."""
    parts: list[list[Indices]] = [[] for _ in range(clients)]
    sizes = np.zeros(clients, np.int64)
    for label in rng.permutation(int(code.max()) + 1):
        rows, least = np.flatnonzero(code == label), int(sizes.argmin())
        parts[least].append(rows)
        sizes[least] += len(rows)
    return [np.concatenate([code[:0], *part]) for part in parts]


def lognormal(total: int, clients: int, least: int, rng: np.random.Generator) -> list[int]:
    """Return log-normal sizes of at least ``least`` that add up to ``total``."""
    weights = rng.lognormal(0.0, LOGNORMAL_SIGMA, clients)
    return [least + int(n) for n in apportion(total - least * clients, weights)]
