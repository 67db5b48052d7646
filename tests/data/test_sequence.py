"""Tasks in sequence: who holds what in which round, what is measured, and what cannot be."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fedkt
from fedkt.data.sequence.matrix import figures
from fedkt.data.sequence.turns import turns_of
from fedkt.data.sets.dataset import Dataset
from fedkt.engine.checks.checked import checked_world
from fedkt.engine.clients.measuring import held_in
from fedkt.engine.world.unused import settings_notes
from fedkt.engine.world.world import World
from fedkt.errors import InputError
from fedkt.results.observer import Silent
from fedkt.results.report.page import report_of
from fedkt.scenario import from_dict

GROUPS = [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9]]


def made(rounds: int = 6, tasks: Any = None, **more: Any) -> dict[str, Any]:
    return {
        "name": "small",
        "data": {
            "partition": {"kind": "iid", "clients": 3, "samples_per_client": 60},
            "transfer": {"from": "train", "size": 40},
            "tasks": {"groups": GROUPS, "rounds": 2, "order": "shifted", **(tasks or {})},
        },
        "clients": {"models": [{"name": "mlp", "hidden": [], "width": 16}], "local": {"epochs": 1}},
        "strategy": {"name": "held", "prior": False},
        "rounds": rounds,
        "engine": {"kind": "inline"},
        **more,
    }


def world(**given: Any) -> World:
    return checked_world(from_dict(made(**given)))


def labels(here: World, client: str, round_: int) -> set[int]:
    return set(held_in(here, client, round_).y.tolist())


def test_a_client_holds_the_rows_of_its_task_alone() -> None:
    here = world()
    held = [labels(here, "1", number) for number in range(1, 7)]
    assert held == [set(GROUPS[k]) for k in (1, 1, 2, 2, 0, 0)]
    assert labels(here, "0", 1) == set(GROUPS[0])
    assert labels(here, "2", 99) == set(GROUPS[1])  # the last one lasts
    share = held_in(here, "1", 1).label_share
    assert share.sum().item() == pytest.approx(1)
    assert share[:4].sum() == 0


def test_orders() -> None:
    def order(given: Any) -> list[tuple[int, ...]]:
        turns = world(tasks={"order": given}).turns
        assert turns is not None
        return list(turns.order.values())

    assert order("same") == [(0, 1, 2)] * 3
    assert order("shifted") == [(0, 1, 2), (1, 2, 0), (2, 0, 1)]
    assert order({"1": [2, 0]}) == [(0, 1, 2), (2, 0), (0, 1, 2)]
    assert sorted(order("random")[0]) == [0, 1, 2]
    assert order("random") == order("random")


def test_rows_of_earlier_tasks_can_be_kept() -> None:
    here = world(tasks={"keep": 3})
    y = held_in(here, "0", 5).y.numpy()
    assert np.isin(y, GROUPS[0]).sum() == np.isin(y, GROUPS[1]).sum() == 3
    whole = here.holding("0").y.numpy()
    assert np.isin(y, GROUPS[2]).sum() == np.isin(whole, GROUPS[2]).sum()


def test_figures_by_hand() -> None:
    """R and b as in the docstring: NBT is the mean of (.2 + .3)/2 and .05."""
    matrix = [[0.9, 0.1, 0.1], [0.7, 0.8, 0.2], [0.6, 0.75, 0.9]]
    found = figures(matrix, [0.1, 0.1, 0.1], [[0.0, 0.5, 0.8, 0.7]] * 3)
    assert found == pytest.approx(
        {
            "acc": 0.75,
            "just_learnt": 0.8667,
            "bwt": -0.175,
            "forgetting": 0.175,
            "fwt": 0.05,
            "libero_fwt": 0.525,
            "nbt": 0.15,
        },
        abs=1e-4,
    )


def test_a_run_writes_the_matrix_of_each_client(tmp_path: Path) -> None:
    short = made(rounds=3, tasks={"rounds": 1})
    run = fedkt.simulate(short, out=tmp_path / "run", observer=Silent())
    told = json.loads((run.path / "tasks.json").read_text())
    assert list(told["clients"]) == ["0", "1", "2"]
    one = told["clients"]["1"]
    assert one["order"] == [1, 2, 0]
    rows = run.clients[run.clients.client == 1].set_index("round")
    assert one["matrix"][0] == rows.loc[1, ["task_0", "task_1", "task_2"]].tolist()
    assert one["matrix"][2] == rows.loc[3, ["task_0", "task_1", "task_2"]].tolist()
    assert rows.loc[1, "task_now"] == rows.loc[1, "task_seen"] == one["matrix"][0][0]
    assert rows.loc[3, "task_seen"] == pytest.approx(np.mean(one["matrix"][2]))
    assert told["mean"]["acc"] == pytest.approx(
        np.mean([c["figures"]["acc"] for c in told["clients"].values()])
    )
    assert (run.path / "tasks.png").stat().st_size > 1000
    page = report_of(run.path, {}).read_text()
    assert "Tasks in sequence" in page
    assert f"acc {100 * told['mean']['acc']:.1f} ±" in page


def test_tasks_by_domain_and_by_column() -> None:
    federation = world().federation
    n, tests = len(federation.pool), len(federation.test or ())
    table = {
        size: Dataset(
            np.column_stack([np.arange(size) % 2, np.ones(size)]).astype(np.float32),
            np.arange(size) % 10,
            np.where(np.arange(size) % 3 == 0, "north", "south"),
            "tabular",
            columns=("ward", "value"),
        )
        for size in (n, tests)
    }
    other = replace(federation, pool=table[n], test=table[tests])
    rows = federation.shards[0].rows
    for by, groups, held in (
        ("ward", [[0], [1]], rows % 2 == 0),
        ("domain", None, rows % 3 == 0),
        ("domain", [["south"], ["north"]], rows % 3 != 0),
    ):
        turns = turns_of(from_dict(made(tasks={"by": by, "groups": groups})), other)
        assert turns is not None
        assert turns.holds("0", rows, 1).tolist() == held.tolist()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"rounds": 5}, "rounds is 5, but 3 tasks of 2 rounds each take 6"),
        ({"tasks": {"groups": [[0, 1], [2, 12]]}}, "data.tasks.groups.1 names 12, which is no class"),
        ({"tasks": {"order": {"9": [0]}}}, "data.tasks.order names '9', which is no client"),
        ({"tasks": {"order": {"1": [0, 3]}}}, "must name tasks from 0 to 2, each once at most"),
        ({"tasks": {"by": "domain", "groups": None}}, "data.tasks.by is domain, but the data set has none"),
        ({"tasks": {"by": "ward"}}, "data.tasks.by is 'ward', but the data set has no columns"),
        ({"tasks": {"groups": None}}, "data.tasks.groups is missing"),
        ({"evaluate": {"every": 3}}, "it must divide data.tasks.rounds, 2"),
        ({"guarded": True}, "clients.guard judges a teacher by rows of all tasks"),
    ],
)
def test_what_cannot_be_a_sequence_is_told(given: dict[str, Any], told: str) -> None:
    if given.pop("guarded", False):
        given = {"clients": {**made()["clients"], "guard": {"validation": 0.2}}}
    with pytest.raises(InputError) as error:
        world(**given)
    assert any(told in problem for problem in error.value.problems), error.value.problems


def test_what_is_odd_about_tasks_is_told() -> None:
    notes = settings_notes(world(tasks={"groups": [[0, 1, 2], [2, 3], [4, 5, 6, 7, 8]]}))
    assert "data.tasks: label 2 belongs to more than one task, so tasks overlap." in notes
    assert "data.tasks: label 9 belongs to no task, so nobody ever trains on it." in notes
