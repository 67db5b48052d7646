"""What an attacker can prove from released knowledge alone: bounds that hold whatever the attack was.

Canaries are records that were put into a client's data by the toss of a coin; the attack gives each a score
from what was released. A lower bound of epsilon above the claim refutes the claim; one below it proves
nothing, and the largest bound that so many guesses could have shown stands beside it.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from fedkt.privacy.attacks import one_run
from fedkt.privacy.attacks.one_run import LEVEL, Curves

SHARE, CURVE_SHARE = 20, 10
"""One in so many canaries is guessed, for the bound of a claim and of a curve; fixed before looking."""

FEWEST = 2
"""Canaries: one that is a member, one that is not. So few show nothing, which the verdict says."""


def toss(canaries: int, coins: np.random.Generator) -> NDArray[np.bool_]:
    """Return who is a member [canaries], by fair coins; they are tossed again where all fell alike.

    That happens once in 2^(canaries - 1): where guesses could show anything, never.
    """
    while True:
        members = coins.random(canaries) < 0.5
        if members.any() and not members.all():
            return members


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
    curve_guesses: int
    curve_right: int
    curve_epsilon_at_least: float
    curve_ceiling: float
    refuted: bool | None
    refutable: bool | None

    def to_json(self) -> dict[str, Any]:
        """Return the finding as JSON values."""
        return asdict(self)


def judge(
    scores: NDArray[np.float64], members: NDArray[np.bool_], delta: float, claim: Curves | None = None
) -> Finding:
    """Return what scores [canaries] (higher: rather a member) say about who was a member.

    ``guesses``: the highest r/2 scores are guessed in, the lowest r/2 out, r one in 20, fixed beforehand;
    ``epsilon_at_least``, ``ceiling``: the bound of Steinke et al., and if all guesses were right;
    ``exposure``: log2 of the number of canaries that were left out minus log2 of the median rank of a member
    among them (Carlini et al. 2019, arXiv 1802.08232).
    ``curve_…``: the same of Mahloujifar et al., r one in 10, with the curves of the claim, else a Gaussian's
    (``delta`` > 0); ``refuted``: whether the claim's own curve is, ``refutable``: whether it would be if all
    guesses were right. Ties are broken at random: a constant attack guesses by coin.
    """
    total = len(scores)
    order = np.lexsort((np.random.default_rng().random(total), scores))

    def guessed(share: int) -> tuple[int, int]:
        half = max(1, round(total / share / 2))
        return 2 * half, int((~members[order[:half]]).sum() + members[order[-half:]].sum())

    guesses, right = guessed(SHARE)
    most, hits = guessed(CURVE_SHARE)
    curves = one_run.gaussian(delta) if claim is None else claim
    inside, outside = scores[members], scores[~members]
    ranks = [1 + float((outside > score).sum()) + float((outside == score).sum()) / 2 for score in inside]
    cut = np.quantile(outside, 0.99, method="higher")
    thresholds = np.unique(scores)
    gaps = [(inside >= t).mean() - (outside >= t).mean() for t in thresholds]
    return Finding(
        canaries=total,
        guesses=guesses,
        right=right,
        epsilon_at_least=one_run.one_run_bound(total, guesses, right, delta),
        ceiling=one_run.one_run_bound(total, guesses, guesses, delta),
        auc=area(inside, outside),
        tpr_at_1_percent_fpr=float((inside > cut).mean()),
        advantage=float(max(gaps, default=0.0)),
        exposure=float(np.log2(len(outside)) - np.log2(np.median(ranks))),
        curve_guesses=most,
        curve_right=hits,
        curve_epsilon_at_least=one_run.curve_bound(total, most, hits, curves),
        curve_ceiling=one_run.curve_bound(total, most, most, curves),
        refuted=None if claim is None else claim.refuted(total, most, hits),
        refutable=None if claim is None else claim.refuted(total, most, most),
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


def relative(told: NDArray[np.float64], average: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return label shares [clients, classes] inferred from mean predictions [clients, classes].

    What all clients' mean predictions have in common, which is mostly the transfer rows' own shares, is taken
    for ``average`` [classes], the known mean shares of all; negative shares are none.
    """
    shares = np.clip(average + told - told.mean(0), 0.0, None)
    found: NDArray[np.float64] = shares / shares.sum(-1, keepdims=True)
    return found


def distance(told: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    """Return the total variation between two distributions [classes], in 0 to 1."""
    return float(np.abs(told / told.sum() - truth).sum() / 2)


def verdict(found: Finding, claim: float | None) -> str:
    """Return one sentence about what was found and a claim.

    The claimed curve decides: that was chosen beforehand, and two tests at 95 % would be one at 90 %.
    """
    shown = (
        f"the attack shows that epsilon is at least {found.curve_epsilon_at_least:.3g} under the claimed "
        f"curve (it could have shown {found.curve_ceiling:.3g}), and {found.epsilon_at_least:.3g} whatever "
        f"the curve ({found.ceiling:.3g})"
    )
    if claim is None or found.refuted is None:
        return f"NO CLAIM: {shown.replace('the claimed curve', 'a Gaussian curve')}; nothing was claimed."
    if found.refuted:
        return f"FAIL: {shown}, more than the {claim:.3g} that is claimed."
    could = (
        "a pass proves nothing"
        if found.refutable
        else f"this audit could not have failed, for {found.canaries} canaries are too few; take more"
    )
    return f"PASS: {shown}, no more than the {claim:.3g} that is claimed; {could}."
