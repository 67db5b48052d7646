"""What a comparison says, with its uncertainty: pure functions from tidy frames to tidy frames.

The unit of repetition is the seed: intervals and tests are over seeds, of means over clients. At one seed
all methods share partition and initial models, so differences are paired. A *block* is one scenario under
one condition. With a single seed there are no intervals and no tests: they are NaN.

Throughout, ``metric`` is ``personal`` or ``global`` and ``figure`` says what was measured: accuracies are in
[0, 1], and where less is better all differences are turned round, so that what is above 0 is a gain.
``runs``, ``rounds`` and ``final`` are the frames of a :class:`~fedkt.results.comparison.Comparison`. The
examples speak of these: two methods on two seeds, one round, two clients.

>>> runs = pd.DataFrame(
...     [("local", 0, 0.5, 0), ("local", 1, 0.6, 0), ("fd", 0, 0.7, 4e6), ("fd", 1, 0.76, 4e6)],
...     columns=["method", "seed", "personal_mean", "bytes_up"],
... ).assign(scenario="a", condition="", clients=2, bytes_down=0, wall_s=3.0)
>>> runs["strategy"] = runs["method"]
>>> rounds = runs.drop(columns="clients").assign(round=1)
>>> apart = (("0", -0.1), ("1", 0.1))
>>> final = pd.concat([runs.assign(client=k, personal=runs["personal_mean"] + d) for k, d in apart])
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fedkt.tasks import CLASSIFICATION, Figure

BLOCK = ["scenario", "condition"]
KEYS = [*BLOCK, "method"]
CONFIDENCE = 0.95
PLACEBO = ", placebo"
"""What the label of a method ends in whose peers were replaced by placebo ones."""
UPPER_BOUND = "central"
"""Takes no part in ranks: it is what nobody may do."""
ACCURACY: Figure = CLASSIFICATION.metric
WORST = 0.1
"""Quantile over clients that stands for those worst off."""

_PAIRED = ["pairs", "difference", "low", "high", "p"]
_DECLINE = ["best", "at_best", "last", "fall", "low", "high"]

Floats = NDArray[np.float64]


def interval(values: Sequence[float] | Floats) -> tuple[float, float]:
    """Return the 95 % Student interval, low and high, of the mean of independent values; NaN below two.

    >>> [round(end, 3) for end in interval([0.7, 0.8, 0.9])]  # 0.8 ± 4.303 · 0.1 / √3
    [0.552, 1.048]
    """
    found = np.asarray(values, dtype=float)
    if len(found) < 2:
        return float("nan"), float("nan")
    from scipy.special import stdtrit  # a tenth of scipy.stats, for which a run's own report need not wait

    error = float(found.std(ddof=1)) / len(found) ** 0.5
    if error == 0:
        return float(found.mean()), float(found.mean())
    reach = float(stdtrit(len(found) - 1, (1 + CONFIDENCE) / 2)) * error
    return float(found.mean()) - reach, float(found.mean()) + reach


def half(values: Sequence[float] | Floats) -> float:
    """Return half the width of the :func:`interval` of values, what stands behind ±; NaN below two.

    >>> round(half([0.7, 0.8, 0.9]), 3)
    0.248
    """
    low, high = interval(values)
    return (high - low) / 2


def averages(runs: pd.DataFrame, metric: str, figure: Figure = ACCURACY) -> pd.DataFrame:
    """Return mean accuracy per block and method: ``seeds mean std low high rank`` and traffic.

    ``runs``: one row per run (``Comparison.runs``). ``std``: sample standard deviation over seeds. ``rank``
    is 1 for the best mean of a block, ties share theirs, and the upper bound has none. ``megabytes``: up and
    down over the whole run, per client, in 10^6 bytes; ``seconds``: of the rounds.

    >>> averages(runs, "personal")[["method", "mean", "megabytes", "rank"]].round(2).values.tolist()
    [['local', 0.55, 0.0, 2.0], ['fd', 0.73, 2.0, 1.0]]
    """
    rows = []
    for key, group in runs.groupby(KEYS, sort=False):
        values = _measured(group, metric)
        low, high = interval(values)
        # What pooling all data moves is no message of a round.
        pooled = group["strategy"].iloc[0] == UPPER_BOUND
        sent = (group["bytes_up"] + group["bytes_down"]) / group["clients"] / 1e6
        rows.append(
            dict(zip(KEYS, key, strict=True))
            | {"strategy": group["strategy"].iloc[0], "seeds": len(values)}
            | {"mean": values.mean() if len(values) else np.nan, "low": low, "high": high}
            | {"std": values.std(ddof=1) if len(values) > 1 else np.nan}
            | {"megabytes": np.nan if pooled else sent.mean(), "seconds": group["wall_s"].mean()}
        )
    columns = [*KEYS, "strategy", "seeds", "mean", "low", "high", "std", "megabytes", "seconds"]
    table = pd.DataFrame(rows, columns=columns)
    contenders = table[table["strategy"] != UPPER_BOUND]
    table["rank"] = contenders.groupby(BLOCK, sort=False)["mean"].rank(ascending=not figure.higher_is_better)
    return table


def differences(runs: pd.DataFrame, metric: str, baseline: str, figure: Figure = ACCURACY) -> pd.DataFrame:
    """Return each method's paired gain over a baseline: ``pairs difference low high p q``.

    Per block, over the seeds that both have: mean, 95 % interval and two-sided p of the paired t-test
    (which takes differences for normal). ``q`` is p corrected for the number of tests in the table by
    Benjamini and Yekutieli (2001), which bounds the expected share of false claims under any dependence.
    NaN with fewer than two pairs, and p also where all differences are equal. Empty where no block has
    ``baseline``, a method's name.

    >>> table = differences(runs, "personal", baseline="local")  # gained: 0.2 and 0.16
    >>> table[["method", "pairs", "difference", "p"]].round(2).values.tolist()
    [['fd', 2, 0.18, 0.07]]
    """
    rows = []
    for block, group in runs.groupby(BLOCK, sort=False):
        by_seed = group.pivot_table(index="seed", columns="method", values=f"{metric}_mean", sort=False)
        if baseline not in by_seed:
            continue
        for method in by_seed.columns.drop(baseline):
            row = dict(zip(BLOCK, block, strict=True)) | {"method": method}
            rows.append(row | _paired(by_seed[method], by_seed[baseline], figure))
    return _corrected(pd.DataFrame(rows, columns=[*KEYS, *_PAIRED]))


def pairwise(runs: pd.DataFrame, metric: str, figure: Figure = ACCURACY) -> pd.DataFrame:
    """Return the paired difference of every two methods, as :func:`differences`: ``method against``.

    Of each pair the one with the better mean comes first. ``q`` is corrected for all pairs of the table, of
    all blocks.

    >>> table = pairwise(runs, "personal")
    >>> table[["method", "against", "pairs", "difference", "p"]].round(2).values.tolist()
    [['fd', 'local', 2, 0.18, 0.07]]
    """
    rows = []
    for block, group in runs.groupby(BLOCK, sort=False):
        by_seed = group.pivot_table(index="seed", columns="method", values=f"{metric}_mean", sort=False)
        order = (-figure.sign * by_seed.mean()).sort_values(kind="stable").index
        ranked = by_seed[order]
        for one, other in combinations(ranked.columns, 2):
            row = dict(zip(BLOCK, block, strict=True)) | {"method": one, "against": other}
            rows.append(row | _paired(ranked[one], ranked[other], figure))
    return _corrected(pd.DataFrame(rows, columns=[*KEYS, "against", *_PAIRED]))


def _paired(one: pd.Series, other: pd.Series, figure: Figure) -> dict[str, float]:
    """Compare two methods over the seeds that both have."""
    from scipy import stats

    both = pd.concat([one, other], axis=1).dropna().to_numpy()
    gained = figure.gain(both[:, 0], both[:, 1])
    low, high = interval(gained)
    tested = len(gained) > 1 and not np.allclose(gained, gained[0], rtol=0, atol=1e-12)
    p = float(stats.ttest_rel(both[:, 0], both[:, 1]).pvalue) if tested else np.nan
    mean = gained.mean() if len(gained) else np.nan
    return dict(zip(_PAIRED, (len(gained), mean, low, high, p), strict=True))


def _corrected(table: pd.DataFrame) -> pd.DataFrame:
    """Add ``q`` to a table of tests."""
    from scipy import stats

    table["q"] = np.nan
    known = table["p"].notna()
    if known.any():
        table.loc[known, "q"] = stats.false_discovery_control(table.loc[known, "p"], method="by")
    return table


def by_seed(rounds: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return one method's figures as a table of rounds by seeds; one that ended early stays where it was.

    ``rounds``: the rows of one block and method. Without that, a mean over seeds would jump in the round
    after which patience ended one of them. A round that a run did not measure is NaN.

    >>> longer = pd.concat([rounds, rounds[rounds["seed"] == 1].assign(round=2, personal_mean=0.9)])
    >>> by_seed(longer[longer["method"] == "fd"], "personal_mean").values.tolist()
    [[0.7, 0.76], [0.7, 0.9]]
    """
    wide = rounds[rounds[column].notna()].pivot_table(index="round", columns="seed", values=column)
    return wide.where(wide.bfill().notna(), wide.ffill())


def decline(rounds: pd.DataFrame, metric: str, figure: Figure = ACCURACY) -> pd.DataFrame:
    """Return what was lost after the best round: ``best at_best last fall low high``, per block and method.

    ``best``: the round in which the mean over seeds was best; ``at_best``: that mean; ``last``: that of
    the last round; ``fall``: the mean over seeds of what last gained over best, at most 0, with its 95 %
    ``interval``.
    The best round is picked by the same figures, so a fall of less than its interval says nothing.

    >>> worse = pd.concat([rounds, rounds.assign(round=2, personal_mean=rounds["personal_mean"] - 0.1)])
    >>> decline(worse, "personal")[["method", "best", "at_best", "fall"]].round(2).values.tolist()
    [['local', 1, 0.55, -0.1], ['fd', 1, 0.73, -0.1]]
    """
    column = f"{metric}_mean"
    rows = []
    for key, group in rounds[rounds[column].notna()].groupby(KEYS, sort=False):
        by_round = by_seed(group, column).dropna()
        if by_round.empty:
            continue
        means = by_round.mean(axis=1)
        best = (figure.sign * means).idxmax()
        lost = figure.gain(by_round.iloc[-1], by_round.loc[best]).to_numpy()
        low, high = interval(lost)
        found = (int(best), means[best], means.iloc[-1], lost.mean(), low, high)
        rows.append(dict(zip([*KEYS, *_DECLINE], (*key, *found), strict=True)))
    return pd.DataFrame(rows, columns=[*KEYS, *_DECLINE])


def critical_difference(table: pd.DataFrame, figure: Figure = ACCURACY) -> dict[str, Any] | None:
    """Compare methods over blocks by their ranks (Demšar 2006, JMLR 7, sections 3.2.2 and 3.3).

    ``table``: what :func:`averages` returns. Friedman's test, then Nemenyi's critical difference
    q(0.05, k, ∞) / √2 · √(k (k + 1) / (6 N)) for k methods over N blocks. Methods are those with a rank in
    every block. Returns None for fewer than 3 methods or 2 blocks; else ``methods`` with mean ``ranks``
    (best first), ``difference``, ``p`` of Friedman's test, ``blocks``, and ``groups``: the longest runs of
    neighbours that lie within one critical difference, as [first, last].

    >>> names = ["x", "y", "z"]
    >>> one = pd.DataFrame({"condition": "", "method": names, "strategy": names, "mean": [0.7, 0.6, 0.5]})
    >>> found = critical_difference(pd.concat([one.assign(scenario="a"), one.assign(scenario="b")]))
    >>> found["ranks"], round(found["difference"], 3), found["groups"]  # 2.344 · √(3 · 4 / (6 · 2))
    ([1.0, 2.0, 3.0], 2.344, [[0, 2]])
    """
    from scipy import stats

    ranked = table.pivot_table(index=BLOCK, columns="method", values="mean", sort=False)
    contenders = table.loc[table["strategy"] != UPPER_BOUND, "method"].unique()
    ranked = ranked[[name for name in ranked.columns if name in contenders]].dropna(axis=1)
    blocks, methods = ranked.shape
    if methods < 3 or blocks < 2:
        return None
    ranks = ranked.rank(axis=1, ascending=not figure.higher_is_better).mean().sort_values(kind="stable")
    spread = ranked.rank(axis=1).nunique(axis=1).max() > 1
    p = float(stats.friedmanchisquare(*(ranked[name] for name in ranked)).pvalue) if spread else 1.0
    critical = float(stats.studentized_range.ppf(CONFIDENCE, methods, np.inf)) / np.sqrt(2)
    width = critical * np.sqrt(methods * (methods + 1) / (6 * blocks))
    return {
        "methods": list(ranks.index),
        "ranks": ranks.tolist(),
        "difference": float(width),
        "p": p,
        "blocks": blocks,
        "groups": _groups(ranks.to_numpy(), width),
    }


def transfer(
    clients: pd.DataFrame, metric: str, alone: str = "local", figure: Figure = ACCURACY
) -> pd.DataFrame:
    """Return who gains and who loses: ``gain worse most_lost worst``, per block and method.

    ``clients``: each client's last accuracy (``Comparison.final``). A client's gain is that over
    the same client (of the same seed) that trained ``alone``. ``gain``: mean over clients and seeds;
    ``worse``: share of clients that lose (negative transfer); ``worst``: accuracy that 90 % of the clients
    reach (mean over seeds); ``most_lost``: the 10 % quantile of the gain (mean over seeds); ``*_half``: what
    stands behind ±, over seeds.

    >>> transfer(final, "personal")[["method", "gain", "worse", "worst"]].round(2).values.tolist()[1]
    ['fd', 0.18, 0.0, 0.65]
    """
    columns = [*KEYS, "gain", "worse", "worse_half", "most_lost", "worst", "worst_half"]
    if clients.empty:
        return pd.DataFrame(columns=columns)
    gained = gains(clients, metric, alone, figure)
    tenth = WORST if figure.higher_is_better else 1 - WORST
    rows = []
    for key, group in gained.groupby(KEYS, sort=False):
        known = group[group["gain"].notna() & (group["method"] != alone)]
        lost = known.groupby("seed")["gain"].quantile(WORST).mean() if len(known) else np.nan
        worst = group.groupby("seed")[metric].quantile(tenth).dropna()
        losing = (known["gain"] < 0).groupby(known["seed"]).mean()
        rows.append(
            dict(zip(KEYS, key, strict=True))
            | {"gain": known["gain"].mean() if len(known) else np.nan}
            | {"worse": float((known["gain"] < 0).mean()) if len(known) else np.nan, "most_lost": lost}
            | {"worse_half": half(losing.to_numpy()), "worst": worst.mean()}
            | {"worst_half": half(worst.to_numpy())}
        )
    return pd.DataFrame(rows, columns=columns)


def gains(
    clients: pd.DataFrame, metric: str, alone: str = "local", figure: Figure = ACCURACY
) -> pd.DataFrame:
    """Return ``clients`` with a column ``gain`` to the same client alone; NaN where there is no such run.

    ``clients``: each client's last accuracy (``Comparison.final``); ``alone``: the method of those runs.

    >>> gains(final, "personal").query("client == '1'")[["method", "seed", "gain"]].values.tolist()[2:]
    [['fd', 0, 0.2], ['fd', 1, 0.16]]
    """
    same = [*BLOCK, "seed", "client"]
    base = clients.loc[clients["method"] == alone, [*same, metric]].rename(columns={metric: "alone"})
    joined = clients.merge(base, on=same, how="left")
    # Accuracies are single precision: two equal ones may differ in their last bits, which is no loss.
    joined["gain"] = figure.gain(joined[metric], joined.pop("alone")).round(6)
    return joined


def efficiency(
    rounds: pd.DataFrame,
    metric: str,
    targets: pd.Series,
    budgets: pd.Series | None = None,
    figure: Figure = ACCURACY,
) -> pd.DataFrame:
    """Return what accuracy costs: ``at_budget budget to_target_rounds to_target_seconds reached``.

    ``rounds``: what :func:`with_costs` returns; ``targets``: accuracy to reach, by block. ``budgets``: bytes
    per client by block; by default the smallest total of a run of the block that sent anything.
    ``at_budget``: mean accuracy after the last round within the budget, over seeds (NaN if the first round
    exceeds it); ``reached``: share of the seeds that reached the target; ``to_target_*``: mean over those;
    ``*_half``: what stands behind ±, over the same.

    >>> table = efficiency(with_costs(rounds, runs), "personal", targets=pd.Series({("a", ""): 0.75}))
    >>> table[["method", "budget", "at_budget", "reached"]].round(2).values.tolist()
    [['local', 2.0, 0.55, 0.0], ['fd', 2.0, 0.73, 0.5]]
    """
    column = f"{metric}_mean"
    totals = rounds.groupby([*KEYS, "seed"], sort=False)["megabytes"].last().reset_index()
    sent = totals[totals["megabytes"] > 0].groupby(BLOCK, sort=False)["megabytes"].min()
    limits = sent if budgets is None else budgets / 1e6
    rows = []
    for key, group in rounds.groupby(KEYS, sort=False):
        block = key[:2]
        target, limit = targets.get(block, np.nan), limits.get(block, np.nan)
        reached, within = [], []
        for _, one in group.groupby("seed", sort=False):
            good = one[figure.gain(one[column], target) >= 0]
            reached.append((good["round"].iloc[0], good["seconds"].iloc[0]) if len(good) else None)
            # A budget that is spent exactly counts as kept, whatever the last bit of the sum.
            kept = one[(one["megabytes"] <= limit * (1 + 1e-9)) & one[column].notna()]
            within.append(kept[column].iloc[-1] if len(kept) else np.nan)
        hits = [hit for hit in reached if hit is not None]
        rows.append(
            dict(zip(KEYS, key, strict=True))
            | {"budget": limit, "at_budget": np.mean(within), "at_budget_half": half(within)}
            | {"target": target, "reached": len(hits) / len(reached)}
        )
        for name, values in zip(
            ("rounds", "seconds"), zip(*hits, strict=True) if hits else ([], []), strict=True
        ):
            rows[-1][f"to_target_{name}"] = np.mean(values) if len(values) else np.nan
            rows[-1][f"to_target_{name}_half"] = half(list(values))
    columns = ["budget", "at_budget", "at_budget_half", "target", "reached"]
    columns += [f"to_target_{name}{part}" for name in ("rounds", "seconds") for part in ("", "_half")]
    return pd.DataFrame(rows, columns=[*KEYS, *columns])


def with_costs(rounds: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Return the rounds with what they had cost when they ended: ``megabytes`` per client, ``seconds``.

    Both are sums over the rounds so far; 10^6 bytes, NaN for the upper bound.

    >>> with_costs(rounds, runs)[["method", "seed", "megabytes", "seconds"]].values.tolist()[-1]
    ['fd', 1, 2.0, 3.0]
    """
    run = [*KEYS, "seed"]
    found = rounds.merge(runs[[*run, "clients"]], on=run)
    found["megabytes"] = (found["bytes_up"] + found["bytes_down"]) / found["clients"] / 1e6
    found["seconds"] = found["wall_s"]
    pooled = found["strategy"] == UPPER_BOUND
    found.loc[pooled, "megabytes"] = np.nan
    found[["megabytes", "seconds"]] = found.groupby(run, sort=False)[["megabytes", "seconds"]].cumsum()
    return found


def overview(
    runs: pd.DataFrame,
    rounds: pd.DataFrame,
    final: pd.DataFrame,
    *,
    metric: str = "personal",
    baseline: str = "local",
    target: float | None = None,
    figure: Figure = ACCURACY,
) -> pd.DataFrame:
    """Return one row per block and method with everything above.

    ``target``: accuracy to reach; None: the mean of ``baseline`` in each block. ``per_megabyte``: points of
    accuracy (of what is no share, itself) gained over ``baseline`` per 10^6 bytes per client.

    >>> table = overview(runs, rounds, final)
    >>> table[["method", "mean", "difference", "per_megabyte"]].round(2).values.tolist()[1]
    ['fd', 0.73, 0.18, 9.0]
    """
    table = averages(runs, metric, figure)
    base = table[table["method"] == baseline].set_index(BLOCK)["mean"]
    targets = base if target is None else pd.Series(target, index=table.set_index(BLOCK).index.unique())
    for more in (
        differences(runs, metric, baseline, figure),
        transfer(final, metric, figure=figure),
        efficiency(with_costs(rounds, runs), metric, targets, figure=figure),
    ):
        table = table.merge(more, on=KEYS, how="left", suffixes=("", "_difference"))
    table["per_megabyte"] = (
        figure.scale * table["difference"] / table["megabytes"].where(table["megabytes"] > 0)
    )
    return table


def against_epsilon(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return accuracy by ε: ``scenario method condition epsilon seeds mean low high``, of private runs only.

    >>> private = runs.assign(epsilon=[np.nan, np.nan, 8, 8])  # the largest over clients
    >>> against_epsilon(private, "personal")[["method", "epsilon", "seeds", "mean"]].round(2).values.tolist()
    [['fd', 8.0, 2, 0.73]]
    """
    rows = []
    private = runs[runs["epsilon"].notna()]
    for key, group in private.groupby(["scenario", "method", "condition", "epsilon"], sort=False):
        values = _measured(group, metric)
        low, high = interval(values)
        rows.append(
            dict(zip(("scenario", "method", "condition", "epsilon"), key, strict=True))
            | {
                "seeds": len(values),
                "mean": values.mean() if len(values) else np.nan,
                "low": low,
                "high": high,
            }
        )
    columns = ["scenario", "method", "condition", "epsilon", "seeds", "mean", "low", "high"]
    return pd.DataFrame(rows, columns=columns).sort_values(["scenario", "method", "epsilon"], kind="stable")


def _measured(group: pd.DataFrame, metric: str) -> Floats:
    column = f"{metric}_mean"
    found = group[column].dropna() if column in group else pd.Series(dtype=float)
    return np.asarray(found.to_numpy(), dtype=float)


def _groups(ranks: Floats, width: float) -> list[list[int]]:
    """Return the maximal [first, last] of sorted ranks that span at most ``width``, of two or more."""
    found: list[list[int]] = []
    for first in range(len(ranks)):
        last = int(np.searchsorted(ranks, ranks[first] + width, side="right")) - 1
        if last > first and (not found or last > found[-1][1]):
            found.append([first, last])
    return found
