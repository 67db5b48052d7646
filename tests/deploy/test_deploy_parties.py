"""Parties that differ (models, columns, classes, tasks) get the numbers of the simulation at sites too."""

from pathlib import Path
from typing import Any

import pytest
import yaml

import fedkt
from fedkt import scenario as scenarios
from fedkt.deploy.coordinator.server_app import coordinate
from fedkt.deploy.rehearsal import LINK, Rehearsal
from fedkt.deploy.site.inspection import check_site
from fedkt.deploy.site.setup import init_from_scenario
from fedkt.errors import InputError
from fedkt.files import read_tensors
from fedkt.results.folder import read_rows
from tests import parties
from tests.deploy.sites import ADDRESS, SitesGrid, events, invite

SAME = ("bytes", "replies", "rounds", "clients", "metric")
EVERYBODYS = ("global", "prior_global", "before_digest", "loss")
"""What is measured on rows that no site has, or told elsewhere."""


def same_lines(mine: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    assert len(mine) == len(theirs) > 0
    for one, other in zip(mine, theirs, strict=True):
        kept = [key for key in one if not key.startswith(EVERYBODYS)]
        assert {key: one[key] for key in kept} == {key: other[key] for key in kept}
        assert one["personal"] is not None


def models(folder: Path) -> dict[str, bytes]:
    """Every tensor of the newest model below a folder."""
    *_, newest = sorted(folder.rglob("*.safetensors"))
    tensors, _ = read_tensors(newest)
    return {name: part.numpy().tobytes() for name, part in tensors.items() if name.startswith("model/")}


QUICK = ("columns", "labels", "links", "number")
CASES = [case if case in QUICK else pytest.param(case, marks=pytest.mark.slow) for case in parties.CASES]


@pytest.mark.parametrize("case", CASES)
def test_sites_that_differ_get_the_numbers_of_the_simulation(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("skops", reason="the extra 'trees' (and 'dev') has what estimators need")
    parties.write(tmp_path)
    described = parties.described(case)
    simulated = fedkt.simulate(described, out=tmp_path / "simulated", data_dir=tmp_path, progress=False)
    made = init_from_scenario(scenarios.from_dict(described), tmp_path / "sites", tmp_path, ADDRESS, None)
    invitation = invite(described)
    coordinate(SitesGrid(invitation, [site.folder for site in made]), invitation, tmp_path / "home")
    told = events(capsys)
    (summary,) = [e["summary"] for e in told if e["event"] == "finished"]
    assert {key: summary[key] for key in SAME} == {key: simulated.summary[key] for key in SAME}
    lines = [c for e in told if e["event"] == "round" for c in e["clients"]]
    same_lines(lines, read_rows(tmp_path / "simulated" / "clients.jsonl"))
    for site in parties.SITES:
        here = models(tmp_path / "sites" / site / "state" / "runs" / invitation.run)
        assert here == models(tmp_path / "simulated" / "checkpoint" / "clients" / site) != {}


def test_a_site_with_a_corrupt_file_is_told_why_and_declined_by_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parties.write(tmp_path)
    scenario = scenarios.from_dict(parties.described("links", rounds=1))
    made = init_from_scenario(scenario, tmp_path / "sites", tmp_path, ADDRESS, None)
    (made[0].folder / "rows" / "train.csv").write_text("p0,a\np1,a,p2,p3\n")
    with pytest.raises(InputError, match="line 1 has 2 of 3 fields, line 2 has 4 of 3 fields") as told:
        check_site(made[0], scenario, connect=False)
    assert len(told.value.problems) == 1
    invitation = invite(parties.described("links", rounds=1))
    coordinate(SitesGrid(invitation, [site.folder for site in made]), invitation, tmp_path / "home")
    refused = [event for event in events(capsys) if event["event"] == "refused"]
    assert [(event["reason"], event["detail"].partition(":")[0]) for event in refused] == [("site", "a")]


@pytest.mark.deploy
@pytest.mark.parametrize("case", parties.CASES)
def test_real_nodes_that_differ_give_the_numbers_of_the_simulation(case: str, tmp_path: Path) -> None:
    """SuperLink and three SuperNodes; each site's own file names its model."""
    parties.write(tmp_path)
    file = tmp_path / "parties.yaml"
    file.write_text(yaml.safe_dump(parties.described(case)))
    scenario = scenarios.load(file)
    simulated = fedkt.simulate(scenario, out=tmp_path / "run", data_dir=tmp_path, progress=False)
    with Rehearsal(scenario, tmp_path / "it", tmp_path) as it:
        done = it.submit(file, "--sites", "3", "--wait", "200", "--out", "runs/real")
        assert done.returncode == 0, done.stdout + done.stderr + it.log(LINK)[-2000:]
        told = fedkt.Result.read(it.folder / "runs" / "real")
        lines = read_rows(told.path / "clients.jsonl")
    assert {key: told.summary[key] for key in SAME} == {key: simulated.summary[key] for key in SAME}
    same_lines(lines, read_rows(tmp_path / "run" / "clients.jsonl"))
