"""Made federations: data drawn from a seed, unlike any that is bundled.

Rows are points of a 15-dimensional space, in which each class has one to six Gaussian clusters: as they
are, a table, or as pictures of 8x8 grey values in [0, 1], written onto a basis of smooth waves, squashed and
blurred by pixel noise. A group of federations shares numbers (clients, classes, rows of the transfer set,
steps, rounds); drawn for each are tables or pictures, how far apart clusters are, false training labels,
whether clients differ in their labels or in their domain, whether the transfer set is like the private rows,
and how many of these there are. Steps go from 3 to 100 a round: from clients that have learned nothing when
they first answer to those that are sure of themselves.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedkt.rng import numpy_stream

SIDE, WAVES = 8, 4
FEDERATIONS, TEST = 4, 1500
FEWEST, MOST = 20, 250
"""Private rows of a client."""
SHORTEST, LONGEST = 3, 100
"""Steps on private rows in a round."""
TABLES, DOMAINS, ELSEWHERE = 0.3, 0.35, 0.25
"""Shares of federations: of tables, of clients that differ in their domain, and, of the others, with a
transfer set of another domain."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Group:
    """Federations F of C clients each, as tensors; their clients one after the other are models M = F C.

    ``x`` [M, most rows, pixels] and ``y`` [M, most rows], of which the first ``counts`` [M] are there;
    ``shares`` [M, classes] of them; ``transfer`` [F, rows, pixels]; ``test_x`` [F, T, pixels], ``test_y``
    [F, T]; ``own_weights`` [M, T]: what a test row counts in a client's own accuracy.
    """

    seed: int
    federations: int
    clients: int
    classes: int
    rows: int
    steps: int
    distil_epochs: int
    distil_batch: int
    rounds: int
    lr: float
    x: Tensor
    y: Tensor
    counts: Tensor
    shares: Tensor
    transfer: Tensor
    test_x: Tensor
    test_y: Tensor
    own_weights: Tensor


def draw_group(seed: int) -> Group:
    """Return the group of federations of a seed."""
    draw = numpy_stream(seed, "made federations")
    clients, classes = int(draw.choice([4, 6, 8, 10])), int(draw.choice([2, 3, 5, 8, 10]))
    rows = int(draw.choice([100, 200, 300, 600, 1000]))
    made = [federation(draw, clients, classes, rows) for _ in range(FEDERATIONS)]
    joined = {name: np.concatenate([one[name] for one in made]) for name in made[0]}
    tensors = {name: torch.from_numpy(values) for name, values in joined.items()}
    return Group(
        seed=seed,
        federations=FEDERATIONS,
        clients=clients,
        classes=classes,
        rows=rows,
        steps=round(between(draw, SHORTEST, LONGEST)),
        distil_epochs=int(draw.integers(1, 5)),
        distil_batch=int(draw.choice([32, 64])),
        rounds=int(draw.choice([4, 6, 8, 10])),
        lr=float(draw.choice([0.001, 0.003])),
        **tensors,
    )


def federation(
    draw: np.random.Generator, clients: int, classes: int, rows: int
) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of one federation, as :class:`Group` has them, with a leading dimension."""
    points = Points(draw, classes)
    by_domain = draw.random() < DOMAINS
    apart = draw.uniform(0.2, 1.5) if by_domain else 0.0
    alpha = between(draw, 1.0 if by_domain else 0.02, 10)
    size = between(draw, FEWEST, MOST)
    even = np.full(classes, 1 / classes)
    domains = [points.domain(apart) for _ in range(clients)]
    x = np.zeros((clients, MOST, SIDE * SIDE), np.float32)
    y = np.zeros((clients, MOST), np.int64)
    counts, shares = np.zeros(clients, np.int64), np.zeros((clients, classes), np.float32)
    test: list[tuple[NDArray[np.floating], NDArray[np.int64]]] = []
    weights = np.zeros((clients, TEST), np.float32)
    each = TEST // clients
    other = points.domain(draw.uniform(0.3, 1.5)) if not by_domain and draw.random() < ELSEWHERE else None
    public = []
    for n, domain in enumerate(domains):
        mix = draw.dirichlet(np.full(classes, alpha))
        counts[n] = int(between(draw, FEWEST, MOST) if by_domain else size)
        drawn, labels = points.rows(int(counts[n]), mix, domain)
        x[n, : counts[n]], y[n, : counts[n]] = drawn, points.with_false(labels)
        shares[n] = np.bincount(y[n, : counts[n]], minlength=classes) / counts[n]
        last = n == clients - 1
        test.append(points.rows(TEST - n * each if last else each, mix if by_domain else even, domain))
        public.append(
            points.rows(rows - n * (rows // clients) if last else rows // clients, even, other or domain)[0]
        )
    test_x, test_y = np.concatenate([a for a, _ in test]), np.concatenate([b for _, b in test])
    for n in range(clients):
        if by_domain:
            weights[n, n * each : TEST if n == clients - 1 else (n + 1) * each] = 1
        else:  # as often as the client's own rows are of the class
            weights[n] = shares[n][test_y] / np.bincount(test_y, minlength=classes)[test_y]
    pixels = np.concatenate(public)
    middle, deviation = points.scale(pixels)
    x, test_x, pixels = ((part - middle) / deviation for part in (x, test_x, pixels))
    return {
        "x": x,
        "y": y,
        "counts": counts,
        "shares": shares,
        "transfer": pixels[None],
        "test_x": test_x[None],
        "test_y": test_y[None],
        "own_weights": weights,
    }


def between(draw: np.random.Generator, low: float, high: float) -> float:
    """Draw a number whose logarithm is uniform."""
    return float(np.exp(draw.uniform(np.log(low), np.log(high))))


class Points:
    """Clusters of classes, and the columns of a table or the pictures that are made of their points."""

    def __init__(self, draw: np.random.Generator, classes: int) -> None:
        self._draw, self._classes, self._basis = draw, classes, waves()
        self._table = draw.random() < TABLES
        clusters = int(draw.integers(1, 7))
        self._centres = draw.uniform(0.3, 1.6) * draw.normal(size=(classes, clusters, len(self._basis)))
        self._gain, self._noise = draw.uniform(0.3, 1.0), draw.uniform(0.02, 0.2)
        self._false = float(draw.choice([0.0, 0.0, 0.0, 0.05, 0.1]))

    def domain(self, far: float) -> tuple[Floats, float]:
        """Return a domain that lies so far from the first: a shift of all points, and a gain."""
        return far * self._draw.normal(size=len(self._basis)), float(np.exp(0.3 * far * self._draw.normal()))

    def rows(
        self, count: int, mix: Floats, domain: tuple[Floats, float]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Draw rows [count, 64] and their classes, which have the shares ``mix``; tables end with zeros."""
        draw, (shift, gain) = self._draw, domain
        y = draw.choice(self._classes, count, p=mix)
        which = draw.integers(0, self._centres.shape[1], count)
        z = self._centres[y, which] + draw.normal(size=(count, len(self._basis))) + shift
        if self._table:
            return np.pad(gain * z, ((0, 0), (0, SIDE * SIDE - z.shape[1]))).astype(np.float32), y
        x = 1 / (1 + np.exp(-gain * self._gain * (z @ self._basis)))
        return (x + draw.normal(0, self._noise, x.shape)).clip(0, 1).astype(np.float32), y

    def scale(self, rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the mean and deviation that rows are seen by: of each column, or of all pixels."""
        if not self._table:
            return rows.mean(), rows.std()
        deviation = rows.std(0)
        return rows.mean(0), np.where(deviation > 0, deviation, 1)

    def with_false(self, y: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return labels of which the federation's share is drawn anew."""
        wrong = self._draw.random(len(y)) < self._false
        return np.where(wrong, self._draw.integers(0, self._classes, len(y)), y)


def waves() -> Floats:
    """Return the products of low cosines but the constant one, [15, 64], each of length 8."""
    place = (np.arange(SIDE) + 0.5) / SIDE
    lines = np.stack([np.cos(np.pi * k * place) for k in range(WAVES)])
    lines /= np.linalg.norm(lines, axis=1, keepdims=True)
    found: Floats = np.einsum("ai,bj->abij", lines, lines).reshape(WAVES * WAVES, -1)[1:]
    return found * SIDE
