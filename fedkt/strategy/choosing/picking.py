"""How rows are picked once it is known what they are worth: the best, more likely the better, or unlike
ones."""

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Values = NDArray[np.float64]
CANDIDATES = 2
"""``cover`` picks among so many times the rows that are wanted, those that are worth most."""
EAGER, EVEN = 2.0, 0.1
"""How strongly ``versions`` prefers what is worth more, and the share that all ways have alike."""
PER_CLUSTER = 5
"""Rows that ``strata`` wants from each of its clusters."""


def top(worth: Values, count: int) -> Rows:
    """Return the places of the ``count`` largest values [n]; of equal ones the first."""
    return np.argsort(-worth, kind="stable")[:count]


def sample(worth: Values, count: int, draws: np.random.Generator) -> Rows:
    """Draw places without replacement with chances proportional to exp(value / deviation of all values).

    By the Gumbel trick: the largest of value / deviation + Gumbel noise. Rows of infinite worth come first.
    """
    known = np.isfinite(worth)
    scale = float(worth[known].std()) if known.any() else 0.0
    noisy = np.where(known, worth / (scale or 1.0), np.inf)
    return top(noisy + draws.gumbel(size=len(worth)), count)


def cover(features: Values, worth: Values, count: int) -> Rows:
    """Return ``count`` places among those worth most, each the farthest [n, d] from those taken before it.

    Greedy k-centre (Gonzalez 1985; Sener and Savarese 2018, arXiv:1708.00489), which begins with the row
    worth most: uncertain and not redundant, as IDM (ICCV 2023) asks for.
    """
    among = top(worth, min(len(worth), CANDIDATES * count)) if np.ptp(worth) else np.arange(len(worth))
    seen = features[among]
    taken = [0]
    apart = np.square(seen - seen[0]).sum(1)
    while len(taken) < min(count, len(among)):
        taken.append(int(apart.argmax()))
        apart = np.minimum(apart, np.square(seen - seen[taken[-1]]).sum(1))
    return among[taken]


def strata(clusters: Rows, worth: Values, count: int) -> Rows:
    """Return ``count`` places, from each cluster [n] in turn the one worth most that is left."""
    order = top(worth, len(worth))
    groups = clusters[order]
    by_group = np.argsort(groups, kind="stable")
    begins = np.searchsorted(groups[by_group], groups)
    rank = np.empty(len(order), np.int64)
    rank[by_group] = np.arange(len(order))
    turn = rank - begins
    return order[np.lexsort((np.arange(len(order)), turn))][:count]


def of_each(groups: Rows, wanted: Rows, worth: Values) -> Rows:
    """Return places of rows [n], of each group the ``wanted`` [groups] that are worth most."""
    order = top(worth, len(worth))
    return np.concatenate([order[groups[order] == group][:count] for group, count in enumerate(wanted)])


def versions(ways: Rows, worth: Values, count: int, draws: np.random.Generator) -> Rows:
    """Return ``count`` places of rows that are there in several ways [n], by chance within each.

    A way has the probability softmax(2 mean worth / mean of all ways' worth), a tenth shared out evenly;
    rows of infinite worth, which nobody was asked about, count as the mean of the others.
    """
    kinds, which = np.unique(ways, return_inverse=True)
    known = np.isfinite(worth)
    heard = np.bincount(which[known], minlength=len(kinds))
    scores = np.bincount(which[known], worth[known], len(kinds)) / np.maximum(heard, 1)
    middle = scores[heard > 0].mean() if known.any() else 0.0
    chance = preferred(np.where(heard > 0, scores, middle))
    each = (chance / np.bincount(which))[which]
    return top(np.log(each) + draws.gumbel(size=len(ways)), count)


def preferred(scores: Values) -> Values:
    """Return chances [n] that sum to one: softmax(2 score / mean score), a tenth of it shared out evenly."""
    middle = scores.mean()
    chance = np.exp(EAGER * (scores - scores.max()) / (middle if middle > 0 else 1.0))
    return np.asarray((1 - EVEN) * chance / chance.sum() + EVEN / len(scores))


def clusters_of(features: Values, count: int, seed: int) -> Rows:
    """Return which of k-means' clusters each row [n, d] is in, so many that each has to give about five
    rows."""
    from sklearn.cluster import KMeans

    wanted = max(1, min(len(features), count // PER_CLUSTER))
    return np.asarray(KMeans(wanted, n_init=1, random_state=seed % 2**32).fit(features).labels_, np.int64)
