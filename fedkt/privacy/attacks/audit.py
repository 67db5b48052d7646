"""What an attacker can prove from released knowledge alone: bounds that hold whatever the attack was.

Canaries are records that were put into a client's data by the toss of a coin; the attack gives each a score
from what was released. A lower bound of epsilon above the claim refutes the claim; one below it proves
nothing, and the largest bound that so many guesses could have shown stands beside it.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

LEVEL = 0.05
"""Probability with which a bound may be wrong."""
SHARE = 20
"""One in so many canaries is guessed; fixed before looking."""


def one_run_bound(canaries: int, guesses: int, right: int, delta: float) -> float:
    """Return the largest epsilon that so many right guesses refute, with confidence 95 %; at least 0.

    Steinke, Nasr, Jagielski 2023, "Privacy Auditing with One (1) Training Run", arXiv 2305.08846, theorem
    5.2 as in its appendix D: p-value P[B >= v] + 2 m delta max_i P[v-i <= B <= v-1]/i, B ~ Bin(r, p),
    p = e^eps/(1 + e^eps). ``canaries`` m, ``guesses`` r, ``right`` v.
    """

    def excess(epsilon: float) -> float:
        p = 1 / (1 + math.exp(-epsilon))
        tail = float(stats.binom.sf(right - 1, guesses, p))
        if right < 1 or delta == 0:
            return tail - LEVEL
        i = np.arange(1, right + 1)
        within = stats.binom.cdf(right - 1, guesses, p) - stats.binom.cdf(right - i - 1, guesses, p)
        return tail + 2 * canaries * delta * float((within / i).max()) - LEVEL

    if excess(0.0) >= 0:
        return 0.0
    return float(optimize.brentq(excess, 0.0, 50.0)) if excess(50.0) > 0 else 50.0


def two_sided_bound(hits: int, members: int, alarms: int, others: int, delta: float) -> float:
    """Return the bound of epsilon from true and false positive rates by Clopper and Pearson (1934), 95 %."""
    tpr = float(stats.beta.ppf(LEVEL / 2, hits, members - hits + 1)) if hits else 0.0
    fpr = float(stats.beta.ppf(1 - LEVEL / 2, alarms + 1, others - alarms)) if alarms < others else 1.0
    return max(0.0, math.log((tpr - delta) / fpr)) if tpr > delta else 0.0


@dataclass(frozen=True)
class Finding:
    """What an attack found: see :func:`judge`."""

    canaries: int
    guesses: int
    right: int
    epsilon_at_least: float
    ceiling: float
    auc: float
    tpr_at_1_percent_fpr: float
    advantage: float
    exposure: float

    def to_json(self) -> dict[str, Any]:
        """Return the finding as JSON values."""
        return asdict(self)


def judge(scores: NDArray[np.float64], members: NDArray[np.bool_], delta: float) -> Finding:
    """Return what scores [canaries] (higher: rather a member) say about who was a member.

    ``guesses``: the highest r/2 scores are guessed in, the lowest r/2 out, r one in 20, fixed beforehand;
    ``ceiling``: the bound if all guesses were right; ``exposure``: log2 of the number of canaries that were
    left out minus log2 of the median rank of a member among them (Carlini et al. 2019, arXiv 1802.08232).
    Ties are broken at random: a constant attack guesses by coin.
    """
    total = len(scores)
    guesses = max(2, 2 * round(total / SHARE / 2))
    order = np.lexsort((np.random.default_rng().random(total), scores))
    right = int((~members[order[: guesses // 2]]).sum() + members[order[-(guesses // 2) :]].sum())
    inside, outside = scores[members], scores[~members]
    ranks = [1 + float((outside > score).sum()) + float((outside == score).sum()) / 2 for score in inside]
    cut = np.quantile(outside, 0.99, method="higher")
    thresholds = np.unique(scores)
    gaps = [(inside >= t).mean() - (outside >= t).mean() for t in thresholds]
    return Finding(
        canaries=total,
        guesses=guesses,
        right=right,
        epsilon_at_least=one_run_bound(total, guesses, right, delta),
        ceiling=one_run_bound(total, guesses, guesses, delta),
        auc=area(inside, outside),
        tpr_at_1_percent_fpr=float((inside > cut).mean()),
        advantage=float(max(gaps, default=0.0)),
        exposure=float(np.log2(len(outside)) - np.log2(np.median(ranks))),
    )


def area(inside: NDArray[np.float64], outside: NDArray[np.float64]) -> float:
    """Return the area under the ROC curve: how often a member scores above one that is none."""
    ranks = stats.rankdata(np.concatenate([inside, outside]))
    n, m = len(inside), len(outside)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def label_leak(predictions: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    """Return KL(true label shares || mean prediction on public rows) in nats: small means leaked."""
    told = np.clip(predictions.mean(0), 1e-8, None)
    told = told / told.sum()
    held = np.clip(truth, 1e-12, None)
    return float((held * np.log(held / told)).sum())


def verdict(bound: float, claim: float | None, ceiling: float) -> str:
    """Return one sentence about a lower bound and a claim."""
    shown = f"the attack shows that epsilon is at least {bound:.3g} (it could have shown {ceiling:.3g})"
    if claim is None:
        return f"NO CLAIM: {shown}; nothing was claimed."
    if bound > claim:
        return f"FAIL: {shown}, more than the {claim:.3g} that is claimed."
    return f"PASS: {shown}, no more than the {claim:.3g} that is claimed; a pass proves nothing."


def margins(values: NDArray[np.float64], labels: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float64]:
    """Return log-odds [rows] of the planted label from probabilities or logits [rows, classes]."""
    rows = np.asarray(values, np.float64)
    if rows.min() >= 0 and np.allclose(rows.sum(-1), 1, atol=1e-3):
        rows = np.log(np.clip(rows, 1e-12, None))
    own = rows[np.arange(len(rows)), labels]
    rest = rows.copy()
    rest[np.arange(len(rows)), labels] = -np.inf
    largest = rest.max(-1)
    found: NDArray[np.float64] = own - (largest + np.log(np.exp(rest - largest[:, None]).sum(-1)))
    return found
