"""Runs over sites without processes: the two Flower apps over a grid in this process."""

import itertools
import json
import os
from collections.abc import Iterable

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message

import fedkt
from fedkt import scenario as scenarios
from fedkt.deploy.coordinator.server_app import coordinate
from fedkt.deploy.site import desk
from fedkt.deploy.site.setup import init_from_scenario
from fedkt.deploy.site.site_app import client_app
from fedkt.deploy.site.site_file import Site
from fedkt.deploy.wire.flwr_control import packed
from fedkt.deploy.wire.invitation import Invitation
from fedkt.engine.runtimes.flwr_internals import FIRST_NODE
from fedkt.errors import RunError
from tests.deploy.sites import ADDRESS, SMALL, SitesGrid, edit, events, invite, sites_of


def test_sites_get_the_numbers_of_the_simulation(tmp_path, capsys):
    simulated = fedkt.simulate(SMALL, out=tmp_path / "simulated")
    invitation = invite()
    coordinate(SitesGrid(invitation, sites_of(tmp_path / "sites")), invitation, tmp_path / "home")
    told = events(capsys)
    assert [e["event"] for e in told if e["event"] not in ("asked", "replied")] == [
        "waiting",
        "started",
        "round",
        "round",
        "finished",
    ]
    (summary,) = [e["summary"] for e in told if e["event"] == "finished"]
    assert summary["engine"] == "sites"
    for key in ("accuracy", "bytes", "replies", "rounds", "clients"):
        assert summary[key] == simulated.summary[key], key
    mine = [c for e in told if e["event"] == "round" for c in e["clients"]]
    losses = [c.pop("loss") for c in mine]
    folder = tmp_path / "simulated"
    theirs, lost = (
        [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
        for name in ("clients", "losses")
    )
    assert mine == theirs
    assert losses == [{key: row[key] for key in ("train", "distill") if key in row} for row in lost]
    rounds = tmp_path / "home" / invitation.run / "rounds.jsonl"
    assert [json.loads(line)["round"] for line in rounds.read_text().splitlines()] == [1, 2]


def test_a_coordinator_goes_on_with_the_same_invitation(tmp_path, capsys):
    whole = invite()
    sites = sites_of(tmp_path / "whole")
    coordinate(SitesGrid(whole, sites), whole, tmp_path / "home")
    (expected,) = [e["summary"]["accuracy"] for e in events(capsys) if e["event"] == "finished"]

    sites = sites_of(tmp_path / "cut")
    invitation = invite(nonce="ab" * 16)
    grid = SitesGrid(invitation, sites)
    pull, left = grid.pull_messages, [9]  # 3 hellos, 3 trained, 3 evaluated, then the coordinator dies

    def dying(ids: Iterable[str]) -> Iterable[Message]:
        replies = list(pull(ids))
        left[0] -= len(replies)
        if left[0] < 0:
            raise ConnectionError
        return replies

    grid.pull_messages = dying  # type: ignore[assignment,method-assign]
    with pytest.raises(ConnectionError):
        coordinate(grid, invitation, tmp_path / "home")
    again = SitesGrid(invite(nonce="ab" * 16), sites)
    coordinate(again, invitation, tmp_path / "home")
    told = events(capsys)
    assert [e["info"]["round"] for e in told if e["event"] == "started"] == [0, 1]
    assert [e["summary"]["accuracy"] for e in told if e["event"] == "finished"] == [expected]
    # Round 2 had been trained when the coordinator died: the sites repeat that answer.
    trained = [e for site in sites for e in desk.log_lines(site / "state") if e["stage"] == "train"]
    assert [e["round"] for e in trained] == ["1", "2", "2"] * 3
    changed = invite(SMALL | {"seed": 1}, nonce="ab" * 16)
    assert changed.run != invitation.run


def test_a_site_that_was_away_is_counted_and_catches_up(tmp_path, capsys):
    settings = SMALL | {"rounds": 3, "strategy": {"name": "fedproto"}}
    settings["clients"] = {"models": [{"name": "mlp", "width": 16}], "local": {"epochs": 1}}
    settings |= {"participation": {"quorum": 2, "deadline_s": 3}}
    invitation, sites = invite(settings), sites_of(tmp_path / "sites", settings)
    grid = SitesGrid(invitation, sites)
    push = grid.push_messages

    def absent_in_round_two(messages: Iterable[Message]) -> Iterable[str]:
        sent = list(push(messages))
        newest = grid.seen[-1].metadata
        grid.away = {FIRST_NODE + 2} if (newest.group_id, newest.message_type) == ("1", "evaluate") else set()
        grid.silent = {FIRST_NODE + 1} if newest.group_id == "3" else set()
        return sent

    grid.push_messages = absent_in_round_two  # type: ignore[method-assign]
    coordinate(grid, invitation, tmp_path / "home")
    rows = [e for e in events(capsys) if e["event"] == "round"]
    assert [row["row"]["replies"] for row in rows] == [
        {"accepted": 3, "rejected": 0, "late": 0, "declined": 0, "failed": 0},
        {"accepted": 2, "rejected": 0, "late": 1, "declined": 0, "failed": 0},
        {"accepted": 2, "rejected": 0, "late": 1, "declined": 0, "failed": 0},
    ]
    assert [row["row"]["status"] for row in rows] == ["fused"] * 3
    assert [[c["status"] for c in row["clients"]] for row in rows] == [
        ["accepted"] * 3,
        ["accepted", "accepted", "late"],
        ["accepted", "late", "accepted"],
    ]
    # Back in round 3, the third site is brought the teacher of round 2 that it missed.
    (asked,) = [
        m
        for m in grid.seen
        if (m.metadata.dst_node_id, m.metadata.group_id, m.metadata.message_type)
        == (FIRST_NODE + 2, "3", "train")
    ]
    envelope = asked.content["fedkt"]
    assert isinstance(envelope, ConfigRecord)
    assert (envelope["teacher"], envelope["teacher_round"]) == (True, 2)


def test_a_wrong_transfer_set_costs_one_site_only(tmp_path, capsys):
    sites = sites_of(tmp_path / "sites")
    with np.load(sites[1] / "transfer.npz") as held:
        rows = {name: held[name] for name in held.files}
    with open(sites[1] / "transfer.npz", "wb") as file:
        np.savez(file, **rows | {"x_train": rows["x_train"][::-1]})
    invitation = invite()
    coordinate(SitesGrid(invitation, sites), invitation, tmp_path / "home")
    told = events(capsys)
    (refused,) = [e for e in told if e["event"] == "refused"]
    assert (refused["who"], refused["reason"]) == ("1", "transfer")
    (summary,) = [e["summary"] for e in told if e["event"] == "finished"]
    assert (summary["clients"], summary["replies"]["accepted"]) == (2, 4)

    # Where the coordinator says which it is, the site itself declines.
    named = invite(transfer=Site.load(sites[0]).federation(scenarios.from_dict(SMALL)).transfer_hash)
    coordinate(SitesGrid(named, sites), named, tmp_path / "home")
    (refused,) = [e for e in events(capsys) if e["event"] == "refused"]
    assert refused["detail"].startswith("1: the site holds transfer set ")


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        ({"policy": {"kinds": ["prototypes"]}}, "kind", "exchanges logits"),
        ({"policy": {"strategies": ["fedproto"]}}, "strategy", "'knfu' is not among"),
        ({"policy": {"privacy": ["dpsgd"]}}, "privacy", "'none' is not among"),
        ({"policy": {"max_epsilon": 3.0}}, "budget", "nothing bounds epsilon"),
        ({"policy": {"min_participants": 3}}, "participants", "of 2 already"),
        ({"policy": {"transfer_sets": ["0" * 64]}}, "transfer", "not in its policy"),
        ({"policy": {"max_reply_bytes": 100}}, "size", "allows 100"),
        ({"model": "cnn8"}, "model", "cnn8"),
        ({"model": {"name": "tabular"}}, "model", "tabular"),
        ({"data": {"rows": "npz:gone.npz"}}, "site", "failure.txt"),
        ({"data": {"transfer": None}}, "transfer", "the site has none"),
    ],
)
def test_a_site_declines_what_it_does_not_agree_to(tmp_path, capsys, changes, reason, words):
    sites = sites_of(tmp_path / "sites")
    edit(sites[0], **changes)
    invitation = invite(sites=2)
    grid = SitesGrid(invitation, sites)
    coordinate(grid, invitation, tmp_path / "home")
    told = events(capsys)
    (refused,) = [e for e in told if e["event"] == "refused"]
    assert refused["reason"] == reason
    assert words in refused["detail"]
    assert str(tmp_path) not in refused["detail"]
    assert [e["summary"]["clients"] for e in told if e["event"] == "finished"] == [2]
    (line,) = desk.log_lines(sites[0] / "state")
    assert (line["stage"], line["status"], line["reason"]) == ("hello", "declined", reason)


def test_rounds_per_day_and_the_end_of_a_run_that_nobody_goes_on_with(tmp_path, capsys):
    sites = sites_of(tmp_path / "sites")
    for site in sites:
        edit(site, policy={"rounds_per_day": 1})
    invitation = invite()
    with pytest.raises(RunError, match=r"no site goes on .*0: rounds: this site trains 1 rounds a day"):
        coordinate(SitesGrid(invitation, sites), invitation, tmp_path / "home")
    rows = [e["row"] for e in events(capsys) if e["event"] == "round"]
    assert [row["replies"]["declined"] for row in rows] == [0, 3]
    for site in sites:
        edit(site, policy={"rounds_per_day": None})
    longer = invitation
    coordinate(SitesGrid(longer, sites), longer, tmp_path / "home")
    assert [e["info"]["round"] for e in events(capsys) if e["event"] == "started"] == [2]


def test_a_message_that_is_repeated_is_answered_with_the_same_bytes_and_an_old_one_is_not(tmp_path):
    settings = SMALL | {"rounds": 4}
    invitation, sites = invite(settings), sites_of(tmp_path / "sites", settings)
    grid = SitesGrid(invitation, sites)
    coordinate(grid, invitation, tmp_path / "home")
    first = [
        m for m in grid.seen if m.metadata.dst_node_id == FIRST_NODE and m.metadata.message_type == "train"
    ]
    newest = grid.visit(first[-1])
    assert packed(newest.content) == packed(grid.visit(first[-1]).content)
    assert newest.content["fedkt"]["status"] == "accepted"
    old = grid.visit(first[0]).content
    assert set(old) == {"fedkt"}
    assert (old["fedkt"]["status"], old["fedkt"]["reason"]) == ("declined", "replayed")
    # A message of another run, with an invitation that does not belong to it.
    grid.app = client_app(invite(settings, nonce="cd" * 16).text())
    other = grid.visit(first[-1]).content
    assert (other["fedkt"]["status"], other["fedkt"]["reason"]) == ("declined", "run")


def test_a_key_of_a_newer_version_is_told_at_once(tmp_path, capsys):
    sites = sites_of(tmp_path / "sites")
    invitation = invite()
    newer = json.loads(invitation.text())
    newer["scenario"]["quantum"] = {"mode": "entangled"}
    grid = SitesGrid(invitation, sites)
    grid.app = client_app(json.dumps(newer))
    with pytest.raises(RunError, match=r"0 sites came within 1 s \(none\); the scenario's quorum is 2"):
        coordinate(grid, invitation, tmp_path / "home")
    refused = [e for e in events(capsys) if e["event"] == "refused"]
    assert [e["reason"] for e in refused] == ["scenario"] * 3
    assert "unknown key 'quantum'" in refused[0]["detail"]


def test_a_sites_ledger_is_its_own_and_its_budget_ends_what_it_gives(tmp_path, capsys):
    private = {"mode": "dpsgd", "noise_multiplier": 1.0, "delta": 1e-3, "max_epsilon": 50.0}
    settings = SMALL | {"privacy": private, "rounds": 3}
    invitation, sites = invite(settings), sites_of(tmp_path / "sites", settings)
    coordinate(SitesGrid(invitation, sites), invitation, tmp_path / "home")
    rows = [e for e in events(capsys) if e["event"] == "round"]
    spent = [{c["client"]: c["epsilon"] for c in row["clients"]} for row in rows]
    assert [sorted(row) for row in spent] == [[0, 1, 2]] * 3
    assert all(a[c] < b[c] for a, b in itertools.pairwise(spent) for c in a)
    for site in sites:
        assert len((site / "state" / "ledger" / site.name / "ledger.jsonl").read_text().splitlines()) >= 3

    # The ledger counts all runs: in a second one nothing is left of one site's own, lower budget.
    edit(sites[0], policy={"max_epsilon": spent[-1][0] * 1.01})
    again = invite(settings)
    coordinate(SitesGrid(again, sites), again, tmp_path / "home")
    rows = [e for e in events(capsys) if e["event"] == "round"]
    first = [row["clients"][0] for row in rows]
    assert [c["status"] for c in first] == ["declined"] * 3
    assert {c["reason"] for c in first} == {"budget"}
    assert [row["row"]["replies"]["accepted"] for row in rows] == [2] * 3


@pytest.mark.data
@pytest.mark.skipif("FEDKT_DATA" not in os.environ, reason="FEDKT_DATA is not set")
def test_four_hospitals_as_sites_give_the_numbers_of_the_simulation(tmp_path, capsys):
    scenario = scenarios.load("heart-disease", ["rounds=3"])
    fedkt.simulate(scenario, out=tmp_path / "simulated")
    made = init_from_scenario(scenario, tmp_path / "sites", None, ADDRESS, None)
    assert [site.file.name for site in made] == ["cleveland", "hungarian", "switzerland", "va"]
    with np.load(made[0].folder / "rows.npz") as rows:
        assert set(rows["y_train"].tolist()) == {0, 1}
        assert np.isnan(rows["x_train"]).any()  # filled at the site, by the scenario's rule
    invitation = Invitation.to(scenario, sites=4, wait_s=60, transfer=None)
    coordinate(SitesGrid(invitation, [site.folder for site in made]), invitation, tmp_path / "home")
    mine = [c for e in events(capsys) if e["event"] == "round" for c in e["clients"]]
    theirs = [
        json.loads(line) for line in (tmp_path / "simulated" / "clients.jsonl").read_text().splitlines()
    ]
    assert [c["client"] for c in mine[:4]] == ["cleveland", "hungarian", "switzerland", "va"]
    for name in ("round", "client", "status", "personal", "personal_balanced", "personal_auc", "bytes"):
        assert [c.get(name) for c in mine] == [c.get(name) for c in theirs], name
    assert {c["global"] for c in mine} == {None}  # no common test set at real sites
