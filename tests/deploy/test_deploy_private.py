"""A private run over real processes: paid at the sites, stated in the run."""

from pathlib import Path

import pytest

import fedkt
from fedkt import scenario as scenarios
from fedkt.deploy.rehearsal import Rehearsal
from fedkt.results.folder import read_rows
from tests.deploy.rehearsed import SCENARIO, submitted

pytestmark = pytest.mark.deploy


def test_a_private_run_is_paid_at_the_sites_and_stated(it: Rehearsal, tmp_path: Path) -> None:
    private = "privacy={mode: dpsgd, noise_multiplier: 1.0, delta: 1e-3, max_epsilon: 50.0}"
    changes = [private, "rounds=2", "participation={quorum: 2, deadline_s: 120}"]
    summary = submitted(it, "runs/private", *(part for change in changes for part in ("--set", change)))
    simulated = fedkt.simulate(scenarios.load(SCENARIO, changes), out=tmp_path / "run").summary
    # Epsilon follows from public numbers, so it is the simulation's; the noise is each site's own.
    claimed = summary["privacy"]
    for key in ("mode", "unit", "epsilon", "delta", "assumptions", "trusted"):
        assert claimed[key] == simulated["privacy"][key], key
    assert 0 < claimed["epsilon"] <= 50
    assert (
        f"is ({claimed['epsilon']:.2f}, 0.001)-differentially private for one record" in claimed["statement"]
    )
    assert summary["replies"] == simulated["replies"]
    # What would cost more is not released: a site's accuracy, in this mode.
    assert set(summary["accuracy"].values()) == {None}
    rows = read_rows(it.folder / "runs" / "private" / "clients.jsonl")
    for name, folder in it.sites.items():
        mine = [row for row in rows if str(row["client"]) == name]
        assert 0 < mine[0]["epsilon"] < mine[1]["epsilon"] <= claimed["epsilon"]
        ledger = folder / "state" / "ledger" / name / "ledger.jsonl"
        assert len(ledger.read_text().splitlines()) >= 2
        shown = it.run(["fedkt", "privacy", "show", str(folder / "state" / "ledger")])
        assert shown.returncode == 0, shown.stderr
        assert f"{mine[1]['epsilon']:.2f}"[:4] in shown.stdout
