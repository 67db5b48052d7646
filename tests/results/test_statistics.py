"""The statistics of a comparison, on numbers that can be checked by hand."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fedkt.results.statistics import (
    _groups,
    against_epsilon,
    averages,
    critical_difference,
    decline,
    differences,
    efficiency,
    gains,
    interval,
    overview,
    pairwise,
    transfer,
    with_costs,
)
from fedkt.tasks import Figure


def runs(values: dict[str, list[float]], scenario: str = "s", **more: Any) -> pd.DataFrame:
    """One row per method and seed."""
    return pd.DataFrame(
        [
            {"scenario": scenario, "condition": "", "method": method, "strategy": method, "seed": seed}
            | {"personal_mean": value, "clients": 2, "bytes_up": 3e6, "bytes_down": 1e6, "wall_s": 1.5}
            | {"epsilon": None, **more}
            for method, found in values.items()
            for seed, value in enumerate(found)
        ]
    )


def test_the_interval_is_students() -> None:
    # mean 0.8, standard error 0.1 / √3, t(0.975, 2) = 4.3027
    low, high = interval([0.7, 0.8, 0.9])
    assert low == pytest.approx(0.8 - 4.3027 * 0.1 / math.sqrt(3), abs=1e-4)
    assert high == pytest.approx(0.8 + 4.3027 * 0.1 / math.sqrt(3), abs=1e-4)
    assert interval([0.5, 0.5]) == (0.5, 0.5)


def test_one_seed_has_no_interval_and_no_test() -> None:
    assert all(math.isnan(end) for end in interval([0.7]))
    table = averages(runs({"local": [0.5], "knfu": [0.7]}), "personal")
    assert table["mean"].tolist() == [0.5, 0.7] and table[["low", "high", "std"]].isna().all(axis=None)
    paired = differences(runs({"local": [0.5], "knfu": [0.7]}), "personal", "local")
    assert paired["difference"].tolist() == pytest.approx([0.2])
    assert paired[["low", "high", "p", "q"]].isna().all(axis=None)


def test_averages() -> None:
    table = averages(runs({"local": [0.4, 0.6], "knfu": [0.8, 0.6], "central": [0.9, 0.9]}), "personal")
    assert table["mean"].tolist() == pytest.approx([0.5, 0.7, 0.9])
    assert table["std"].tolist() == pytest.approx([math.sqrt(0.02), math.sqrt(0.02), 0])
    assert table["rank"].tolist()[:2] == [2, 1] and math.isnan(table["rank"][2])  # a bound has no rank
    assert table["megabytes"].tolist()[:2] == [2, 2]  # (3 + 1) MB over 2 clients
    assert math.isnan(table["megabytes"][2])


def test_ties_share_their_rank() -> None:
    table = averages(runs({"a": [0.5], "b": [0.5], "c": [0.4]}), "personal")
    assert table["rank"].tolist() == [1.5, 1.5, 3]


def test_differences_are_paired_by_seed() -> None:
    # Differences 0.1, 0.2, 0.3: mean 0.2, standard error 0.1 / √3, t = 2 √3 = 3.4641, p = 0.0742 (2 degrees).
    found = runs({"local": [0.1, 0.5, 0.3], "knfu": [0.2, 0.7, 0.6], "fd": [0.1, 0.5, 0.3]})
    table = differences(found, "personal", "local").set_index("method")
    assert table.loc["knfu", "difference"] == pytest.approx(0.2)
    assert table.loc["knfu", "p"] == pytest.approx(0.0742, abs=1e-4)
    assert table.loc["knfu", "high"] == pytest.approx(0.2 + 4.3027 * 0.1 / math.sqrt(3), abs=1e-4)
    assert table.loc["fd", "difference"] == 0 and math.isnan(table.loc["fd", "p"])
    assert table.loc["knfu", "q"] == table.loc["knfu", "p"]  # the only test there is
    assert table.loc["knfu", "pairs"] == 3


def test_several_tests_are_corrected() -> None:
    # Two tests: q of the smaller p is p · 2 · (1 + 1/2), unless the larger one's p · (1 + 1/2) is less.
    found = runs({"local": [0.1, 0.5, 0.3], "a": [0.2, 0.7, 0.6], "b": [0.11, 0.52, 0.31]})
    p = differences(found, "personal", "local").set_index("method")["p"]
    q = differences(found, "personal", "local").set_index("method")["q"]
    small, large = sorted(p)
    expected = {small: min(3 * small, 1.5 * large), large: 1.5 * large}
    for method in p.index:
        assert q[method] == pytest.approx(min(1, expected[p[method]]))


def test_a_seed_that_one_method_lacks_is_no_pair() -> None:
    table = differences(runs({"local": [0.1, 0.2, 0.9], "fd": [0.2, 0.3]}), "personal", "local")
    assert table["pairs"].tolist() == [2] and table["difference"].tolist() == pytest.approx([0.1])
    assert differences(runs({"fd": [0.2, 0.3]}), "personal", "local").empty


def test_critical_difference() -> None:
    # Demšar 2006, section 3.2.2: k = 4, N = 14: 2.569 · √(4 · 5 / (6 · 14)) = 1.25
    table = pd.concat(
        [
            averages(
                runs({"a": [0.9], "b": [0.8], "c": [0.7], "d": [0.6], "central": [1.0]}, f"s{i}"), "personal"
            )
            for i in range(14)
        ],
        ignore_index=True,
    )
    found = critical_difference(table)
    assert found is not None
    assert found["difference"] == pytest.approx(1.25, abs=0.005)
    assert found["methods"] == ["a", "b", "c", "d"] and found["ranks"] == [1, 2, 3, 4]
    assert found["blocks"] == 14 and found["p"] < 1e-6
    assert found["groups"] == [[0, 1], [1, 2], [2, 3]]


def test_no_critical_difference_of_one_block_or_two_methods() -> None:
    one = averages(runs({"a": [0.9], "b": [0.8], "c": [0.7]}), "personal")
    assert critical_difference(one) is None
    two = [averages(runs({"a": [0.9], "b": [0.8]}, f"s{i}"), "personal") for i in range(5)]
    assert critical_difference(pd.concat(two, ignore_index=True)) is None


def test_groups_within_a_width() -> None:
    assert _groups(np.array([1.0, 1.5, 2.2, 4.0]), 1.2) == [[0, 2]]
    assert _groups(np.array([1.0, 2.0, 3.0]), 0.5) == []
    assert _groups(np.array([1.0, 2.0, 3.0, 3.5]), 1.5) == [[0, 1], [1, 3]]


def final(values: dict[str, list[float]]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"scenario": "s", "condition": "", "method": method, "strategy": method, "seed": 0}
            | {"client": client, "personal": value}
            for method, found in values.items()
            for client, value in enumerate(found)
        ]
    )


def test_who_gains_and_who_loses() -> None:
    clients = final({"local": [0.5, 0.5, 0.5, 0.5], "knfu": [0.7, 0.6, 0.5, 0.4]})
    assert gains(clients, "personal")["gain"].tolist()[4:] == pytest.approx([0.2, 0.1, 0, -0.1])
    table = transfer(clients, "personal").set_index("method")
    assert table.loc["knfu", "gain"] == pytest.approx(0.05)
    assert table.loc["knfu", "worse"] == 0.25  # one of four; equal is not worse
    assert table.loc["knfu", "worst"] == pytest.approx(0.43)  # 10 % quantile of 0.4, 0.5, 0.6, 0.7
    assert table.loc["knfu", "most_lost"] == pytest.approx(-0.07)
    assert math.isnan(table.loc["local", "worse"])
    # The last bit of single precision is no loss either.
    assert gains(final({"local": [1.0], "fd": [0.99999994]}), "personal")["gain"].tolist()[1] == 0


def lines(method: str, accuracy: list[float], up: float) -> list[dict[str, Any]]:
    return [
        {"scenario": "s", "condition": "", "method": method, "strategy": method, "seed": 0, "round": i + 1}
        | {"personal_mean": value, "bytes_up": up, "bytes_down": 0.0, "wall_s": 2.0}
        for i, value in enumerate(accuracy)
    ]


def test_what_accuracy_costs() -> None:
    rounds = pd.DataFrame(
        lines("local", [0.3, 0.5, 0.5], 0)
        + lines("fd", [0.2, 0.5, 0.7], 2e6)
        + lines("knfu", [0.4, 0.6, 0.8], 6e6)
    )
    rounds = with_costs(rounds, runs({"local": [0.5], "fd": [0.7], "knfu": [0.8]}))
    targets = pd.Series({("s", ""): 0.5})
    table = efficiency(rounds, "personal", targets).set_index("method")
    # fd sends 1 MB per client and round, 3 MB in all: the budget. knfu sends 3 MB a round: one round of it.
    assert table["budget"].tolist() == [3, 3, 3]
    assert table["at_budget"].to_dict() == {"local": 0.5, "fd": 0.7, "knfu": 0.4}
    assert table["to_target_rounds"].tolist() == [2, 2, 2]
    assert table["to_target_seconds"].tolist() == [4, 4, 4]
    never = efficiency(rounds, "personal", pd.Series({("s", ""): 0.75})).set_index("method")
    assert never["reached"].to_dict() == {"local": 0, "fd": 0, "knfu": 1}
    assert math.isnan(never.loc["fd", "to_target_rounds"])
    small = efficiency(rounds, "personal", targets, pd.Series({("s", ""): 2e6})).set_index("method")
    assert small.loc["fd", "at_budget"] == 0.5 and math.isnan(small.loc["knfu", "at_budget"])


def test_overview_joins_all() -> None:
    found = runs({"local": [0.5], "fd": [0.7]})
    rounds = pd.DataFrame(lines("local", [0.5], 0) + lines("fd", [0.7], 4e6))
    table = overview(found, rounds, final({"local": [0.5], "fd": [0.7]})).set_index("method")
    # 20 points for 2 MB per client
    assert table.loc["fd", "per_megabyte"] == pytest.approx(10)
    assert table.loc["fd", "target"] == 0.5 and table.loc["fd", "to_target_rounds"] == 1
    assert overview(found, rounds, final({"local": [0.5]}), target=0.9)["target"].tolist() == [0.9, 0.9]


ERROR = Figure("rmse", "RMSE", share=False, higher_is_better=False)


def test_where_less_is_better_everything_is_turned_round() -> None:
    """Errors of 4 and 5 alone, 3 and 3.5 together: gains of 1 and 1.5, as their negatives would have."""
    found = runs({"local": [4.0, 5.0], "fd": [3.0, 3.5], "central": [2.0, 2.0]})
    lost = runs({"local": [-4.0, -5.0], "fd": [-3.0, -3.5], "central": [-2.0, -2.0]})
    assert averages(found, "personal", ERROR)["rank"].tolist()[:2] == [2, 1]
    for compared in (differences(found, "personal", "local", ERROR), pairwise(found, "personal", ERROR)):
        row = compared.set_index("method").loc["fd"]
        assert row["difference"] == pytest.approx(1.25) and row["low"] < 1.25 < row["high"]
    assert pairwise(found, "personal", ERROR)["method"].tolist() == ["central", "central", "fd"]
    told = ["difference", "low", "high", "p", "q"]
    turned = differences(found, "personal", "local", ERROR)[told]
    assert turned.equals(differences(lost, "personal", "local")[told])

    clients = final({"local": [4.0, 4.0, 4.0, 4.0], "fd": [3.0, 3.5, 4.0, 5.0]})
    table = transfer(clients, "personal", figure=ERROR).set_index("method")
    assert table.loc["fd", "gain"] == pytest.approx(0.125) and table.loc["fd", "worse"] == 0.25
    assert table.loc["fd", "worst"] == pytest.approx(4.7)  # 90 % quantile of 3, 3.5, 4, 5

    rounds = pd.DataFrame(lines("local", [5.0, 4.0, 4.5], 0) + lines("fd", [6.0, 3.0, 3.5], 4e6))
    fall = decline(rounds, "personal", ERROR).set_index("method")
    assert fall["best"].tolist() == [2, 2] and fall["fall"].tolist() == pytest.approx([-0.5, -0.5])
    whole = overview(found.query("seed == 0"), rounds, clients, figure=ERROR).set_index("method")
    # The baseline's 4 is reached in the second round; a gain of 1 for 2 MB per client.
    assert whole["to_target_rounds"].tolist()[:2] == [2, 2] and whole.loc["fd", "per_megabyte"] == 0.5


def test_ranks_where_less_is_better() -> None:
    table = pd.concat(
        [averages(runs({"a": [3.0], "b": [2.0], "c": [1.0]}, s), "personal", ERROR) for s in "xy"]
    )
    found = critical_difference(table, ERROR)
    assert found is not None and found["methods"] == ["c", "b", "a"]


def test_accuracy_against_epsilon() -> None:
    found = pd.concat([runs({"fd": [0.6, 0.8]}, epsilon=2.0), runs({"fd": [0.4, 0.4]}, epsilon=0.5)])
    table = against_epsilon(pd.concat([found, runs({"local": [0.5]})]), "personal")
    assert table["epsilon"].tolist() == [0.5, 2.0] and table["mean"].tolist() == pytest.approx([0.4, 0.7])
    assert table["seeds"].tolist() == [2, 2]
