"""What a comparison's options mean, and which runs follow from them."""

import json
from typing import Any

import pytest

from fedkt.comparing.grammar import Choice, Method, grid, methods, seeds, short, split, values
from fedkt.comparing.plan import LONGEST, Request, plan
from fedkt.comparing.request import read_request
from fedkt.errors import InputError

SMALL = {
    "name": "small",
    "data": {
        "dataset": "digits",
        "partition": {"kind": "iid", "clients": 2, "samples_per_client": 20},
        "transfer": {"from": "train", "size": 10},
    },
    "clients": {"local": {"epochs": 1}, "distill": {"epochs": 1}, "models": [{"name": "mlp", "width": 8}]},
    "rounds": 1,
    "engine": {"kind": "inline"},
}


def problems(step: object) -> list[str]:
    with pytest.raises(InputError) as caught:
        step()  # type: ignore[operator]
    return list(caught.value.problems)


def test_commas_in_brackets_and_quotes_do_not_split() -> None:
    assert split("a, b", ",") == ["a", "b"]
    assert split("[a, b], {c: 'd,]', e: (f, g)},'h,i'", ",") == ["[a, b]", "{c: 'd,]', e: (f, g)}", "'h,i'"]
    assert split("", ",") == [""]


def test_strategies_with_settings() -> None:
    found = methods("knfu:beta=5;temperature=2, fedmd,my.module:Mine,other:Theirs:trim=[1, 2];deep.x=yes")
    assert [m.part for m in found] == [
        {"name": "knfu", "beta": 5, "temperature": 2},
        {"name": "fedmd"},
        {"name": "my.module:Mine"},
        {"name": "other:Theirs", "trim": [1, 2], "deep": {"x": "yes"}},
    ]
    assert found[0].label == "knfu (beta=5, temperature=2)" and found[1].label == "fedmd"


def test_wrong_strategies_are_told_all_at_once() -> None:
    told = problems(lambda: methods("knfu,knfu,,fedmd:=3"))
    assert len(told) == 3
    assert "'' names no strategy" in told[0]
    assert "=3" in told[1] or "KEY=VALUE" in told[1]
    assert told[2] == "--strategies: 'knfu' is named twice; name it once."


def test_seeds() -> None:
    assert seeds("0-4") == [0, 1, 2, 3, 4]
    assert seeds("3,0-1, 7") == [3, 0, 1, 7]
    for wrong in ("", "4-2", "a", "-1", "0-99999", "1.5"):
        assert "it must be whole numbers" in problems(lambda text=wrong: seeds(text))[0]
    assert "seed 1 twice" in problems(lambda: seeds("0-2,1"))[0]


def test_values_and_their_combinations() -> None:
    assert values("a.b=1,2") == [Choice("a.b", "1"), Choice("a.b", "2")]
    fixed, swept = grid(["rounds=3", "a.b=1,2", "c=[x, y],z"])
    assert fixed == ["rounds=3"]
    assert [[choice.text for choice in choices] for choices in swept] == [
        ["1", "[x, y]"],
        ["1", "z"],
        ["2", "[x, y]"],
        ["2", "z"],
    ]
    assert grid([]) == ([], [()])
    told = problems(lambda: grid(["rounds", "x=1,1", "y=1,2", "y=3,4"], "--tune"))
    assert told[0].startswith("--tune rounds: this sets nothing") and "named twice" in told[1]
    assert "--tune y: it is swept twice" in problems(lambda: grid(["y=1,2", "y=3,4"], "--tune"))[0]


def test_keys_are_shortened_while_they_differ() -> None:
    lr = (Choice("clients.local.lr", "1"), Choice("clients.distill.lr", "2"), Choice("rounds", "3"))
    assert short(lr) == {"local.lr": "1", "distill.lr": "2", "rounds": "3"}


# The plan ---------------------------------------------------------------------------------------------


def test_every_combination_with_the_bounds() -> None:
    _, conditions = grid(["data.partition.samples_per_client=10,20"])
    made = plan(Request([SMALL], methods("knfu:beta=1,knfu"), [3, 4], ["rounds=2"], conditions))
    assert len(made.cells) == 2 * 4 * 2 and not made.impossible
    assert [cell.scenario.seed for cell in made.cells] == [3] * 8 + [4] * 8
    first = [cell for cell in made.cells if cell.scenario.seed == 3][:4]
    assert [cell.method.label for cell in first] == ["local", "knfu (beta=1)", "knfu", "central"]
    assert first[1].path == "cells/small/knfu/beta=1,samples_per_client=10/3"
    assert first[1].scenario.strategy.settings == {"beta": 1} and first[1].scenario.rounds == 2
    assert first[1].about["condition"] == {"samples_per_client": "10"}
    assert json.dumps(first[1].about)
    assert len({cell.path for cell in made.cells}) == 16


def test_each_strategy_has_a_control_beside_it() -> None:
    made = plan(Request([SMALL], methods("knfu:beta=1,fd,local"), [0], placebo=True))
    assert [cell.method.label for cell in made.cells] == [
        *("knfu (beta=1)", "knfu (beta=1), placebo", "fd", "local", "central")
    ]
    assert [cell.scenario.placebo for cell in made.cells] == [False, True, False, False, False]
    assert made.cells[1].path == "cells/small/knfu/beta=1,placebo/0"
    (refused,) = made.impossible  # what fd exchanges speaks of classes, not of rows
    assert str(refused).startswith("fd, placebo cannot run on small: placebo is true, but strategy 'fd'")


def test_bounds_have_no_peers_to_replace() -> None:
    made = plan(Request([SMALL | {"placebo": True}], methods("knfu"), [0]))
    assert {cell.method.label: cell.scenario.placebo for cell in made.cells} == {
        **{"local": False, "knfu": True, "central": False}
    }


def test_the_control_may_be_what_is_compared_with() -> None:
    asked: dict[str, Any] = {
        "strategies": "knfu",
        "seeds": None,
        "sets": (),
        "tune": (),
        "metric": "personal",
    }
    asked |= {"target": None, "engine": "inline", "address": None, "baseline": "knfu, placebo"}
    assert read_request([SMALL], **asked, placebo=True).placebo
    told = problems(lambda: read_request([SMALL], **asked))
    assert told == [
        "--baseline is 'knfu, placebo'; it must be one of what is compared: central, knfu, local."
    ]


def test_paired_runs_differ_in_the_strategy_alone() -> None:
    """But for what a strategy makes nothing of, which is left out."""
    made = plan(Request([SMALL], methods("knfu,fd"), [5]))
    parts = [
        cell.scenario.model_dump(exclude={"strategy": True, "clients": {"distill": True}})
        for cell in made.cells
    ]
    assert len(parts) == 4 and all(part == parts[0] for part in parts)


def test_without_strategies_and_seeds_those_of_the_scenario() -> None:
    made = plan(Request([SMALL | {"seed": 9, "strategy": {"name": "fedmd", "average": "probabilities"}}]))
    assert [cell.method.label for cell in made.cells] == ["local", "fedmd (average=probabilities)", "central"]
    assert {cell.scenario.seed for cell in made.cells} == {9}


def test_what_cannot_run_is_listed_and_the_rest_planned() -> None:
    made = plan(Request([SMALL], methods("fedavg,knfu,knfuu"), [0]))
    assert [cell.method.label for cell in made.cells] == ["local", "knfu", "central"]
    weights, unknown = made.impossible
    assert str(weights).startswith("fedavg cannot run on small: strategy 'fedavg' shares weights")
    assert "did you mean 'knfu'?" in str(unknown)


def test_a_scenario_that_is_wrong_by_itself_is_refused() -> None:
    assert "two scenarios are named 'small'" in problems(lambda: plan(Request([SMALL, SMALL])))[0]
    told = problems(lambda: plan(Request([SMALL, "no-such"], overrides=["rounds=0"])))
    assert len(told) == 2 and "rounds is 0" in told[0] and "no scenario 'no-such'" in told[1]
    lost = SMALL | {"data": {"dataset": "npz:nowhere.npz"}}
    assert any("nowhere.npz" in problem for problem in problems(lambda: plan(Request([lost], methods("fd")))))


def test_what_cannot_be_set_side_by_side_is_refused() -> None:
    """Two tasks; a target that accuracy cannot reach, told where it is known that it is accuracy."""
    data = {"dataset": "friedman", "task": "regression", "partition": {"kind": "iid", "clients": 2}}
    other = {**SMALL, "name": "numbers", "data": {**data, "transfer": {"size": 10}}}
    (told,) = problems(lambda: plan(Request([SMALL, other], [Method("local")])))
    assert "small is of data.task classification and numbers is of data.task regression" in told
    (told,) = problems(lambda: plan(Request([SMALL], [Method("local")], shown={"target": 2.0})))
    assert told == "--target is 2.0; it must be a value of accuracy above 0 and at most 1."


def test_tuning_needs_validation_rows() -> None:
    _, tried = grid(["clients.local.lr=0.1,0.01"], "--tune")
    assert "--set data.validation" in problems(lambda: plan(Request([SMALL], tried=tried)))[0]
    made = plan(Request([SMALL], methods("fd"), [0, 1], ["data.validation=0.2"], tried=tried))
    by_method: dict[str, int] = {}
    for cell in made.cells:
        by_method[cell.method.label] = by_method.get(cell.method.label, 0) + 1
    assert by_method == {"local": 4, "fd": 4, "central": 4}  # two settings, two seeds: the same for all


def test_folders_are_safe_and_tell_apart() -> None:
    long = Method("fd", {}, "x=" + "1" * 200)
    other = Method("fd", {}, "x=" + "1" * 201)
    made = plan(Request([SMALL], [Method("my.module:X", {}, "a=../b"), Method("my.module:X", {}, "a=..//b")]))
    assert len(made.impossible) == 2  # there is no such module
    from fedkt.comparing.plan import _folder

    assert _folder("beta=5, temperature=2") == "beta=5,temperature=2"
    assert "/" not in _folder("../x") and _folder("../x") != _folder("..-x")
    assert len(_folder(long.words)) == LONGEST and _folder(long.words) != _folder(other.words)


def test_bounds_stand_outside_of_privacy() -> None:
    """One run of a bound for all values of epsilon; what follows from a swept setting follows for each."""
    private = SMALL | {"privacy": {"mode": "dpsgd", "target_epsilon": 8, "delta": 0.001}}
    _, conditions = grid(["privacy.target_epsilon=4,32"])
    made = plan(Request([private], methods("knfu"), [0], conditions=conditions))
    assert not made.impossible
    by_method = {label: [c for c in made.cells if c.method.label == label] for label in ("local", "knfu")}
    assert [cell.scenario.privacy.mode for cell in by_method["local"]] == ["none", "none"]
    assert len({cell.path for cell in by_method["local"]}) == 1
    assert [cell.scenario.privacy.max_epsilon for cell in by_method["knfu"]] == [4, 32]
    assert len({cell.path for cell in by_method["knfu"]}) == 2


def test_bounds_stand_outside_of_attacks_and_robust_fusion() -> None:
    """Who is hostile is the same under each attack; what they send does not reach who trains alone."""
    attacked = SMALL | {"attacks": [{"kind": "reorder", "clients": 1}], "robust": {"filter": "cosine"}}
    _, conditions = grid(["attacks.0.kind=none,reorder", "robust.filter=none,cosine"])
    made = plan(Request([attacked], methods("fedmd"), [0], conditions=conditions))
    assert not made.impossible
    assert len({cell.path for cell in made.cells}) == 4 + 2
    local = [cell for cell in made.cells if cell.method.label == "local"]
    assert len(local) == 4 and {cell.path for cell in local} == {"cells/small/local/default/0"}
    assert {cell.scenario.robust.filter for cell in local} == {"none"}
