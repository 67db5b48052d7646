"""How much rather a canary was a member than not, by what was released: one function for each attack.

What was released has one of three forms, whatever the kind of knowledge. :class:`Answers` about rows are
predictions on transfer rows (as they are, quantised, or votes), or those of weights that were sent.
:class:`Sums` over private rows are prototypes, mean predictions per class, moments of features, and the noisy
gradients of private training. :class:`Rows` are features of private rows themselves. The first attack of a
form decides an audit's verdict; that is fixed before anything is seen.

Scores are float64 [canaries]; higher: rather a member. ``labels`` int64 [canaries]: the planted ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Places = NDArray[np.int64]
Scores = Mapping[str, Floats]
"""By the attack's name."""

SHADOWS = 20
"""Of the distillation attack."""
LEAST = 1e-3
"""Probability below which shadows do not tell predictions apart."""
RIDGE = 1e-2
"""Of the shadows, as a share of a kernel's diagonal."""
SHARES = (1.0, 0.5, 0.25, 0.1, 0.03, 0.01, 0.0)
"""Of the claimed noise that an attacker of sums thinks of."""
FLOOR = 1e-6
"""Least noise that sums are decoded with, as a share of what a canary adds: exact numbers are rounded too."""


class Released(Protocol):
    """What one round released of the attacked client."""

    def attacked(self, labels: Places) -> Scores:
        """Return the scores of all canaries, by attack; the first decides."""
        ...


# Answers about rows --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answers:
    """``values`` [clients, rows, classes], logits or probabilities, about rows; ``own``: the place of the
    attacked client; ``canaries`` [known]: which canaries are among the rows, at ``places`` [known];
    ``looks`` [rows, d]: the rows as the attacker sees them, None where it asks a model itself; ``density``
    [clients, rows]: how familiar rows are to clients, where that is sent."""

    values: Floats
    own: int
    canaries: Places
    places: Places
    looks: Floats | None = None
    density: Floats | None = None

    def attacked(self, labels: Places) -> Scores:
        """``distillation`` (with looks), ``margin``, ``cooperative``, ``familiarity`` (with densities)."""
        found: dict[str, Floats] = {}
        asked = labels[self.canaries]
        margin = np.stack([margins(client[self.places], asked) for client in self.values])
        own, others = margin[self.own], np.delete(margin, self.own, 0)
        if self.looks is not None:
            found["distillation"] = distillation(self.looks, self.values[self.own], self.places, asked)
        found["margin"] = own - (others.mean(0) if len(others) else 0.0)
        found["cooperative"] = cooperative(own, others) if len(others) else own
        if self.density is not None:
            familiar = self.density[:, self.places]
            among = np.delete(familiar, self.own, 0)
            found["familiarity"] = familiar[self.own] - (among.mean(0) if len(among) else 0.0)
        return {name: _of_all(values, self.canaries, len(labels)) for name, values in found.items()}


def log_probabilities(values: Floats, least: float = 1e-12) -> Floats:
    """Return the logarithms of probabilities [..., classes], at least ``least``; logits as they are."""
    rows = np.asarray(values, np.float64)
    if rows.min() >= 0 and np.allclose(rows.sum(-1), 1, atol=1e-3):
        return np.log(np.clip(rows, least, None))
    return rows


def margins(values: Floats, labels: Sequence[int] | Places) -> Floats:
    """Return log-odds [rows] of the planted label from probabilities or logits [rows, classes]."""
    return log_odds(log_probabilities(values), labels)


def log_odds(rows: Floats, labels: Sequence[int] | Places) -> Floats:
    """Return log-odds [rows] of labels from logits [rows, classes]."""
    own = rows[np.arange(len(rows)), labels]
    rest = rows.copy()
    rest[np.arange(len(rows)), labels] = -np.inf
    largest = rest.max(-1)
    found: Floats = own - (largest + np.log(np.exp(rest - largest[:, None]).sum(-1)))
    return found


def cooperative(own: Floats, others: Floats) -> Floats:
    """Return the scores [rows] of cooperative LiRA from margins [rows] and those of others [clients, rows].

    The peers, who never saw a row, are the shadow models of a likelihood ratio with a Gaussian for outsiders
    (Shi, Ouyang, Wang 2025, arXiv 2502.08001): how many of their deviations the margin lies above theirs. The
    deviation is at least a tenth of its mean over rows, since few peers may agree by chance.
    """
    return _deviations(own, others)


def distillation(
    looks: Floats, values: Floats, places: Places, labels: Places, shadows: int = SHADOWS
) -> Floats:
    """Return the scores [known] of distillation LiRA from one client's answers [rows, classes].

    Shi, Ouyang, Wang 2025, arXiv 2502.08001: shadow models are distilled from what the attacked client itself
    says, and their margins on a row that they were not distilled on stand for an outsider's. Here each shadow
    takes a half of the rows, drawn at random, and is a kernel ridge regression (Gaussian kernel, as wide as
    the median distance) of centred log-probabilities on ``looks`` [rows, d], which has one solution; the
    paper's full text could not be read, and its shadows are networks. A row's score is how many deviations
    of the shadows without it its margin lies above theirs.
    """
    told = log_probabilities(np.asarray(values, np.float64), LEAST)
    told = told - told.mean(-1, keepdims=True)
    kernel = _gaussian_kernel(looks)
    draw, rows = np.random.default_rng(0), len(told)
    guesses = np.full((shadows, len(places)), np.nan)
    for n in range(shadows):
        half = np.sort(draw.permutation(rows)[: rows // 2])
        without = ~np.isin(places, half)
        middle = told[half].mean(0)
        inner = kernel[np.ix_(half, half)] + RIDGE * np.eye(len(half))
        learned = np.linalg.solve(inner, told[half] - middle)
        said = kernel[np.ix_(places[without], half)] @ learned + middle
        guesses[n, without] = log_odds(said, labels[without])
    # Where every shadow saw a row, which hardly happens, nothing is known of it.
    unseen = np.isnan(guesses).all(0)
    guesses[:, unseen] = 0.0
    found = _deviations(log_odds(told[places], labels), guesses)
    found[unseen] = 0.0
    return found


def _gaussian_kernel(rows: Floats) -> Floats:
    squares = np.square(rows).sum(1)
    apart = np.clip(squares[:, None] + squares - 2 * rows @ rows.T, 0.0, None)
    wide = np.median(apart[np.triu_indices(len(rows), 1)]) if len(rows) > 1 else 1.0
    found: Floats = np.exp(-apart / max(float(wide), 1e-12))
    return found


def _deviations(own: Floats, others: Floats) -> Floats:
    """Return how many deviations of others [n, rows], NaN where one says nothing, own values lie above."""
    many = (~np.isnan(others)).sum(0)
    middle = np.nansum(others, 0) / np.maximum(many, 1)
    squares = np.nansum(np.square(others - middle), 0)
    spread = np.where(many > 1, np.sqrt(squares / np.maximum(many - 1, 1)), np.nan)
    usual = float(np.nanmean(spread)) if (many > 1).any() else 1.0
    found: Floats = (own - middle) / np.maximum(np.nan_to_num(spread, nan=usual), 0.1 * usual + 1e-12)
    return found


def _of_all(values: Floats, canaries: Places, total: int) -> Floats:
    found = np.zeros(total)
    found[canaries] = values
    return found


# Sums over private rows ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sums:
    """``told`` [groups, d]: released sums less what every record but the canaries adds, which the strongest
    attacker of differential privacy knows; ``parts`` [canaries, d]: what each canary adds to its group, if it
    is a member; ``groups`` [canaries]; ``noise`` [groups]: standard deviation of the noise on each number, as
    it is claimed."""

    told: Floats
    parts: Floats
    groups: Places
    noise: Floats

    def attacked(self, labels: Places) -> Scores:
        """``sums``, by :func:`decoded` in each group, with the noise that there most likely is.

        A claim that is wrong has less noise than it says, and an attacker who believes in it hears less. So
        of shares of the claimed noise the likeliest is taken, by the sums alone.
        """
        held = {group: self.groups == group for group in np.unique(self.groups)}
        likely = {
            share: sum(
                likelihood(self.parts[there], self.told[group], share * float(self.noise[group]))
                for group, there in held.items()
            )
            for share in SHARES
        }
        share = max(likely, key=lambda one: likely[one])
        found = np.zeros(len(self.parts))
        for group, there in held.items():
            parts, noise = self.parts[there], share * float(self.noise[group])
            found[there] = decoded(parts @ parts.T, parts @ self.told[group], noise)
        return {"sums": found}


def likelihood(parts: Floats, told: Floats, noise: float) -> float:
    """Return the log likelihood of a sum [d] with fair coins, but for a constant.

    Less half of all ``parts`` [n, d] it is taken for Gaussian with covariance Aᵀ A/4 + σ².
    """
    _, sizes, axes = np.linalg.svd(parts, full_matrices=False)
    rest = told - parts.sum(0) / 2
    along = axes @ rest
    least = FLOOR * float(np.square(parts).sum()) / max(len(parts), 1) / 4
    variance = noise**2 + least + 1e-300
    within = np.square(sizes) / 4 + variance
    beside = max(float(rest @ rest - along @ along), 0.0)
    logs = np.log(within).sum() + (parts.shape[1] - len(sizes)) * np.log(variance)
    return -0.5 * float(logs + (np.square(along) / within).sum() + beside / variance)


def decoded(products: Floats, heard: Floats, noise: float) -> Floats:
    """Return how much rather than not each canary is in a sum s = Σ c_i a_i + noise, c_i in {0, 1}.

    ``products`` [n, n]: <a_i, a_j>; ``heard`` [n]: <a_i, s>; ``noise``: standard deviation of each number.
    The best linear guess of c - 1/2 where coins are fair: with variance 1/4 and Gaussian noise,
    (A Aᵀ + 4σ²)⁻¹ A (s - Aᵀ/2). Numbers of several releases may be one sum: products and what was heard add
    up, each divided by its noise's variance.
    """
    least = FLOOR * float(np.trace(products)) / max(len(products), 1)
    surplus = heard - products.sum(1) / 2
    return np.linalg.solve(products + (4 * noise**2 + least + 1e-300) * np.eye(len(products)), surplus)


# Rows themselves -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rows:
    """``sent`` [rows, width]: features of private rows, with their ``labels`` [rows] (-1: an empty row; None:
    labels are not sent); ``looks`` [canaries, width]: those of the canaries."""

    sent: Floats
    labels: Places | None
    looks: Floats

    def attacked(self, labels: Places) -> Scores:
        """``nearest``: minus the distance to the nearest row with the planted label."""
        found = np.zeros(len(labels))
        for label in np.unique(labels):
            there = labels == label
            sent = self.sent if self.labels is None else self.sent[self.labels == label]
            gaps = np.linalg.norm(self.looks[there][:, None] - sent[None], axis=-1)
            far = float(np.linalg.norm(self.looks, axis=-1).max()) * 2 + 1
            found[there] = -(gaps.min(1) if len(sent) else np.full(there.sum(), far))
        return {"nearest": found}
