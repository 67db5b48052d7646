"""A site without labels takes part by a copy of its model that is brought to the transfer rows."""

from pathlib import Path

import pytest

import fedkt
from fedkt.deploy.coordinator.server_app import coordinate
from tests.deploy.sites import SMALL, SitesGrid, events, invite, sites_of

CLIENTS = {**SMALL["clients"], "local": {"epochs": 3, "lr": 0.01}}  # type: ignore[dict-item]
ADAPTING = {
    **SMALL,
    "data": {**SMALL["data"], "unlabelled": ["2"]},  # type: ignore[dict-item]
    "clients": {**CLIENTS, "adapt": {"loss": "im", "lr": 0.01}},
    "strategy": {"name": "fedmd", "average": "probabilities"},
}


def test_sites_that_adapt_give_the_numbers_of_the_simulation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    simulated = fedkt.simulate(ADAPTING, out=tmp_path / "simulated")
    plain = fedkt.simulate({**ADAPTING, "clients": CLIENTS}, out=tmp_path / "plain")
    invitation = invite(ADAPTING)
    coordinate(SitesGrid(invitation, sites_of(tmp_path / "sites", ADAPTING)), invitation, tmp_path / "home")
    (summary,) = [e["summary"] for e in events(capsys) if e["event"] == "finished"]
    for key in ("accuracy", "bytes", "replies"):
        assert summary[key] == simulated.summary[key], key
    assert summary["replies"]["accepted"] == 6  # of two rounds, also of the site without labels
    assert simulated.summary["accuracy"] != plain.summary["accuracy"]
