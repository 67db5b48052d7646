"""A site whose data do not fit a run says so, keeps nothing of it, and costs nobody else a reply."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message

from fedkt import scenario as scenarios
from fedkt.deploy.coordinator.server_app import coordinate
from fedkt.deploy.site import desk
from fedkt.deploy.site.inspection import check_site
from fedkt.deploy.site.setup import init_from_scenario
from fedkt.deploy.site.site_file import Site
from fedkt.errors import InputError
from fedkt.files import read_tensors
from fedkt.rng import numpy_stream
from tests.deploy.sites import ADDRESS, SitesGrid, edit, events, invite

COLUMNS, NAMES = ["age", "pressure"], ["benign", "malignant", "normal"]
TABLE = {
    "name": "table",
    "data": {
        "dataset": "npz:table.npz",
        "columns": COLUMNS,
        "partition": {"kind": "iid", "clients": 3},
        "transfer": {"from": "train", "size": 30},
    },
    "clients": {"models": ["tabular"], "local": {"epochs": 1}, "distill": {"epochs": 1}},
    "strategy": {"name": "fedmd"},
    "rounds": 2,
    "participation": {"quorum": 2},
}


def sites_with(folder: Path) -> list[Path]:
    draws = numpy_stream(0, "table")
    x, y = draws.normal(size=(150, 2)), np.arange(150) % 3
    np.savez(folder / "table.npz", x_train=x, y_train=y, columns=COLUMNS, label_names=NAMES)
    made = init_from_scenario(scenarios.from_dict(TABLE), folder / "sites", folder, ADDRESS, None)
    return [site.folder for site in made]


def change(site: Path, made: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Put others in the place of some of a site's arrays."""
    with np.load(site / "rows.npz") as held:
        rows = dict(held)
    np.savez(site / "rows.npz", **rows | made(rows))


def without_a_column(site: Path) -> None:
    change(site, lambda rows: {"x_train": rows["x_train"][:, :1], "columns": COLUMNS[:1]})


def without_a_label(site: Path) -> None:
    """Two names of three, and no test rows that have them all: their numbers are not known."""
    change(site, lambda rows: {"y_train": rows["y_train"] % 2, "label_names": [NAMES[0], NAMES[2]]})
    edit(site, data={"test": None})


def with_another_label(site: Path) -> None:
    change(site, lambda rows: {"label_names": [*NAMES[:2], "odd"]})


def with_transfer_rows(site: Path) -> None:
    with np.load(site / "transfer.npz") as common:
        known = common["x_train"][:4]
    change(site, lambda rows: {"x_train": np.concatenate([known, rows["x_train"][4:]])})


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (without_a_column, "pressure"),
        (without_a_label, "holds the labels benign, normal, but data.classes is 3"),
        (with_another_label, "holds the labels benign, malignant, normal, odd, but data.classes is 3"),
        (with_transfer_rows, "4 of the 30 transfer rows of data.transfer are training rows too"),
    ],
)
def test_a_site_whose_data_do_not_fit_is_left_out_before_the_first_round(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: Callable[[Path], None], words: str
) -> None:
    sites = sites_with(tmp_path)
    fault(sites[1])
    invitation = invite(TABLE | {"rounds": 1}, sites=2)
    coordinate(SitesGrid(invitation, sites), invitation, tmp_path / "home")
    told = events(capsys)
    (refused,) = [e for e in told if e["event"] == "refused"]
    assert refused["reason"] == "site"
    # No value, name or path of the site crosses; what is wrong is said at the site.
    assert refused["detail"] == (
        "1: the site's file, data or disk are not in order; failure.txt in its state folder says why."
    )
    (why,) = (sites[1] / "state" / "failure.txt").read_text().splitlines()
    assert words in why
    assert sorted(p.name for p in (sites[1] / "state").iterdir()) == [".lock", "failure.txt", "log.jsonl"]
    (line,) = desk.log_lines(sites[1] / "state")
    assert (line["stage"], line["status"], line["reason"]) == ("hello", "declined", "site")
    (summary,) = [e["summary"] for e in told if e["event"] == "finished"]
    assert (summary["rounds"], summary["clients"], summary["replies"]["accepted"]) == (1, 2, 2)


def test_a_site_whose_rows_change_during_a_run_declines_and_comes_back_with_the_old_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sites = sites_with(tmp_path)
    invitation = invite(TABLE | {"rounds": 3})
    grid = SitesGrid(invitation, sites)
    push, file = grid.push_messages, sites[1] / "rows.npz"
    before = file.read_bytes()
    kept = sites[1] / "state" / "runs" / invitation.run
    held: list[dict[str, bytes]] = []

    def other_rows_in_round_two(messages: Iterable[Message]) -> Iterable[str]:
        sent = list(messages)
        newest = sent[-1].metadata
        if newest.message_type == "train":
            if newest.group_id == "2":
                held.append(files_of(kept))
                change(sites[1], lambda rows: {"x_train": 2 * rows["x_train"]})
            elif newest.group_id == "3":
                held.append(files_of(kept))
                file.write_bytes(before)
        return push(sent)

    grid.push_messages = other_rows_in_round_two  # type: ignore[method-assign]
    coordinate(grid, invitation, tmp_path / "home")
    rounds = [e for e in events(capsys) if e["event"] == "round"]
    assert [[c["status"] for c in r["clients"]] for r in rounds] == [
        ["accepted"] * 3,
        ["accepted", "declined", "accepted"],
        ["accepted"] * 3,
    ]
    assert [r["row"]["status"] for r in rounds] == ["fused"] * 3
    assert rounds[1]["clients"][1]["reason"] == "data"
    assert held[0] == held[1]  # neither model nor answer nor hash is touched by what was refused
    lines = [x for x in desk.log_lines(sites[1] / "state") if x.get("reason")]
    assert {(x["round"], x["stage"], x["reason"]) for x in lines} == {("2", "train", "data")}


def files_of(folder: Path) -> dict[str, bytes]:
    """Return what a site keeps of a run, but for the oldest round that may be asked about."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "kept.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_site_names_its_estimator_and_declines_what_cannot_teach_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("skops", reason="the extra 'trees' (and 'dev') has what estimators need")
    sites = sites_with(tmp_path)
    file = sites[1] / "site.yaml"
    forest = "model: {name: sklearn, estimator: RandomForestClassifier, n_estimators: 4}"
    file.write_text(file.read_text().replace("model: tabular", forest))
    invitation = invite(TABLE | {"rounds": 2}, sites=3)
    coordinate(SitesGrid(invitation, sites), invitation, tmp_path / "home")
    told = events(capsys)
    (summary,) = [e["summary"] for e in told if e["event"] == "finished"]
    assert (summary["clients"], summary["replies"]["accepted"]) == (3, 6)
    *_, state = sorted((sites[1] / "state" / "runs" / invitation.run).rglob("*.safetensors"))
    tensors, note = read_tensors(state)
    assert note["model"][0] == "sklearn" and len(tensors["model/head.trees"]) > 0

    invitation = invite(
        TABLE | {"strategy": {"name": "fd"}, "rounds": 1, "clients": {"models": ["tabular"]}}, sites=2
    )
    coordinate(SitesGrid(invitation, sites), invitation, tmp_path / "other")
    (refused,) = [e for e in events(capsys) if e["event"] == "refused"]
    assert refused["reason"] == "model" and "it is an estimator" in refused["detail"]

    file.write_text(file.read_text().replace("RandomForestClassifier, n_estimators: 4", "LinearSVC"))
    with pytest.raises(InputError, match="it has no predict_proba and so can only vote"):
        check_site(Site.load(sites[1]), scenarios.from_dict(TABLE), connect=False)
