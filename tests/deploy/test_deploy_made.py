"""Made rows at sites: each makes them itself, and the coordinator says whose are others."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Message

import fedkt
from fedkt import scenario as scenarios
from fedkt.data.made.recipe import Recipe
from fedkt.deploy.coordinator.reception import alike_made
from fedkt.deploy.coordinator.server_app import _stock, coordinate
from fedkt.deploy.rehearsal import Rehearsal
from fedkt.deploy.site.policy import objections
from fedkt.deploy.site.site_file import Policy, Site
from fedkt.deploy.wire.hello import Facts
from fedkt.engine.runtimes.flwr_internals import FIRST_NODE
from fedkt.engine.world.world import World
from fedkt.results.folder import read_rows
from tests.deploy.rehearsed import SAME, SCENARIO, submitted
from tests.deploy.sites import SMALL, SitesGrid, edit, events, invite, sites_of

MADE = {
    **SMALL,
    "data": {
        "partition": SMALL["data"]["partition"],  # type: ignore[index]
        "transfer": {"from": "made:shapes", "size": 50, "refresh": "round"},
    },
}


def test_sites_make_fresh_rows_themselves_round_after_round(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sites = sites_of(tmp_path / "sites", MADE)
    for site in sites:
        file = Site.load(site).file
        assert (file.policy.transfer, file.data.transfer) == ("made", None)
        assert not (site / "transfer.npz").exists()
    invitation = invite(MADE)
    coordinate(SitesGrid(invitation, sites), invitation, tmp_path / "runs")
    rounds = [event for event in events(capsys) if event["event"] == "round"]
    assert [event["row"]["replies"]["accepted"] for event in rounds] == [3, 3]
    assert [event["row"]["status"] for event in rounds] == ["fused", "fused"]


def test_rows_of_a_later_round_that_differ_at_a_site_are_declined_with_both_versions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first round's rows agree, so that all are seated; site 1 makes other rows for the second."""
    sites = sites_of(tmp_path / "sites", MADE)
    invitation = invite(MADE)
    assert invitation.numpy == np.__version__
    assert (invite(SMALL).numpy, '"numpy"' in invite(SMALL).text()) == ("", False)
    grid, rows, visit = SitesGrid(invitation, sites), Recipe.rows, SitesGrid.visit
    at = {"node": 0}

    def visited(self: SitesGrid, message: Message) -> Message:
        at["node"] = message.metadata.dst_node_id
        try:
            return visit(self, message)
        finally:
            at["node"] = 0

    def off_by_one(recipe: Recipe, round_: int) -> object:
        found = rows(recipe, round_).copy()
        found[0, 0, 0, 0] ^= int(round_ == 2 and at["node"] == FIRST_NODE + 1)
        return found

    monkeypatch.setattr(SitesGrid, "visit", visited)
    monkeypatch.setattr(Recipe, "rows", off_by_one)
    coordinate(grid, invitation, tmp_path / "runs")
    rounds = [event for event in events(capsys) if event["event"] == "round"]
    assert [event["row"]["replies"]["accepted"] for event in rounds] == [3, 2]
    (no,) = [client for client in rounds[1]["clients"] if client["status"] == "declined"]
    assert (no["reason"], no["detail"]) == (
        "transfer",
        "rows that the same recipe makes here for round 2 differ from those that the coordinator asks about: "
        f"numpy {np.__version__} here, {np.__version__} there.",
    )


def test_what_a_site_agrees_to_talk_about() -> None:
    given, made = scenarios.from_dict(SMALL), scenarios.from_dict(MADE)
    assert objections(Policy(), given) == objections(Policy(), made) == []
    for policy, scenario, words in (
        ("made", given, "the transfer set is train; this site answers about rows that it makes itself."),
        ("held", made, "the transfer set is made:shapes; this site answers about rows that it holds."),
    ):
        (no,) = objections(Policy(transfer=policy), scenario)  # type: ignore[arg-type]
        assert (no.reason, no.detail) == ("transfer", words)


def test_rows_that_are_others_at_a_site_have_their_own_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = scenarios.from_dict(MADE)
    site = Site.load(sites_of(tmp_path, MADE)[0])
    own = Facts.of(World(scenario, site.federation(scenario)), site.file.name)
    told: list[str] = []
    here = _stock(scenario, own)
    assert here is not None
    assert own.recipe == here.recipe

    def heard(facts: Facts) -> list[str]:
        return list(alike_made({"a": facts}, lambda _: here, lambda _, no: told.append(no.detail)))

    assert (heard(own), told) == (["a"], [])
    changed = own.model_copy(update={"transfer": "0" * 64, "numpy": "9.9"})
    assert heard(changed) == []
    assert told.pop() == (
        "a: rows made there differ from those made here by the same recipe: numpy 9.9 there, "
        f"{np.__version__} here."
    )
    assert heard(changed.model_copy(update={"recipe": "1" * 64})) == []
    assert "its rows are made by another recipe: fedkt" in told.pop()
    rows = Recipe.rows

    def off_by_one(recipe: Recipe, round_: int) -> object:
        found = rows(recipe, round_).copy()
        found[0, 0, 0, 0] ^= 1
        return found

    monkeypatch.setattr(Recipe, "rows", off_by_one)
    other = Facts.of(World(scenario, site.federation(scenario)), site.file.name)
    assert other.transfer != own.transfer
    assert other.recipe == own.recipe
    assert replace(here.recipes[0], size=51).hash != here.recipes[0].hash
    edit(site.folder, policy={"transfer": "held"})
    assert Site.load(site.folder).file.policy.transfer == "held"


@pytest.mark.deploy
def test_real_nodes_with_fresh_rows_give_the_numbers_of_the_simulation(tmp_path: Path) -> None:
    """SuperLink, three SuperNodes, and 60 other rows in each of three rounds, which nobody sent."""
    fresh = "data.transfer={from: 'made:shapes', size: 60, refresh: round}"
    scenario = scenarios.load(SCENARIO, [fresh])
    simulated = fedkt.simulate(scenario, out=tmp_path / "run")
    with Rehearsal(scenario, tmp_path / "it") as it:
        summary = submitted(it, "runs/fresh", "--set", fresh)
        assert not list(it.folder.glob("**/transfer.npz"))
        told = read_rows(it.folder / "runs" / "fresh" / "clients.jsonl")
    assert {key: summary[key] for key in SAME} == {key: simulated.summary[key] for key in SAME}
    assert told == read_rows(tmp_path / "run" / "clients.jsonl")
