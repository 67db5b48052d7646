"""Data that changed since a run began: refused on resume, in comparisons, by ledgers and at a site's desk."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from fedkt import data
from fedkt.cli.privacy import app
from fedkt.comparing import campaign
from fedkt.comparing.campaign import compare
from fedkt.comparing.grammar import Method
from fedkt.comparing.plan import Request
from fedkt.data.identity import changed, data_hashes, party_hash
from fedkt.data.own import Sources, build_own
from fedkt.deploy.site.desk import Desk
from fedkt.deploy.wire.refusal import Refused
from fedkt.engine.forgetting.withdrawal import forget
from fedkt.engine.runs.run import simulate
from fedkt.engine.world.world import Place, world_at
from fedkt.errors import InputError, RunError
from fedkt.privacy.accounting import Event
from fedkt.privacy.ledger import Declined, Ledger, Purpose
from fedkt.results.observer import Silent
from fedkt.scenario import Scenario
from tests.project.snippets import in_this_process

PRIVATE = {"mode": "dpsgd", "delta": 1e-5, "noise_multiplier": 1.0, "max_epsilon": 100}


def put(folder: Path, *, seed: int = 0, n: int = 60, columns: int = 4, flip: bool = False) -> None:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    x = (rng.normal(0, 0.5, (n, columns)) + 2 * y[:, None]).astype("float32")
    np.savez(folder / "rows.npz", x_train=x, y_train=(y + flip) % 2)


def described(**more: Any) -> Scenario:
    base: dict[str, Any] = {
        "name": "rows",
        "data": {"dataset": "npz:rows.npz", "partition": {"kind": "iid", "clients": 2}},
        "clients": {"models": ["tabular"], "local": {"epochs": 1}},
        "strategy": {"name": "fd"},
        "rounds": 2,
        "engine": {"kind": "inline"},
    }
    return Scenario.model_validate({**base, **more})


class Stop(Silent):
    def round_done(self, row: Mapping[str, Any], clients: Sequence[Mapping[str, Any]]) -> None:
        raise KeyboardInterrupt


def interrupted(folder: Path, scenario: Scenario) -> Path:
    with pytest.raises(KeyboardInterrupt):
        simulate(scenario, out=folder / "run", data_dir=folder, observer=Stop())
    return folder / "run"


@pytest.mark.parametrize(
    "change", [{"flip": True}, {"seed": 7}, {"n": 80}, {"columns": 5}], ids=lambda c: next(iter(c))
)
def test_a_run_is_not_resumed_on_other_data(tmp_path: Path, change: dict[str, Any]) -> None:
    put(tmp_path)
    run = interrupted(tmp_path, described())
    put(tmp_path, **change)
    with pytest.raises(InputError) as error:
        simulate(described(), out=run, resume=True, data_dir=tmp_path)
    (problem,) = error.value.problems
    assert problem.startswith(f"{run} was run on other data: its private rows (data.dataset)")
    put(tmp_path)
    assert simulate(described(), out=run, resume=True, data_dir=tmp_path).summary["rounds"] == 2


def test_the_test_set_and_the_transfer_set_are_named_where_they_changed(tmp_path: Path) -> None:
    put(tmp_path)
    for name in ("transfer", "test"):
        rows = np.random.default_rng(5).normal(size=(20, 4))
        np.savez(tmp_path / f"{name}.npz", x_train=rows + len(name), y_train=np.arange(20) % 2)
    parts = described().data.model_dump(by_alias=True, exclude_defaults=True)
    parts |= {"test": "npz:test.npz", "transfer": {"from": "npz:transfer.npz", "size": 20}}
    scenario = described(data=parts, strategy={"name": "fedmd"})
    run = interrupted(tmp_path, scenario)
    np.savez(tmp_path / "test.npz", x_train=np.full((20, 4), 9.0), y_train=np.arange(20) % 2)
    with pytest.raises(InputError, match="was run on other data: its test rows changed since then"):
        simulate(scenario, out=run, resume=True, data_dir=tmp_path)
    np.savez(tmp_path / "transfer.npz", x_train=rows - 9, y_train=np.arange(20) % 2)
    with pytest.raises(InputError, match="its test rows and its transfer set changed"):
        simulate(scenario, out=run, resume=True, data_dir=tmp_path)


def test_a_run_is_not_replayed_on_other_data(tmp_path: Path) -> None:
    put(tmp_path)
    simulate(described(), out=tmp_path / "run", data_dir=tmp_path)
    put(tmp_path, seed=7)
    with pytest.raises(InputError, match="was run on other data: its private rows"):
        forget(tmp_path / "run", "1", data_dir=tmp_path)
    assert not (tmp_path / "run-without-1").exists()


def test_processes_that_load_data_themselves_refuse_others(tmp_path: Path) -> None:
    put(tmp_path)
    text = described().model_dump_json(by_alias=True)
    hashes = data_hashes(data.build(described(), tmp_path))
    put(tmp_path, seed=7)
    place = Place(text, str(tmp_path), str(tmp_path / "states"), tuple(hashes.items()))
    with pytest.raises(RunError, match=r"its private rows .* changed while the run went on"):
        world_at(place)
    with pytest.raises(InputError, match="changed meanwhile"):
        simulate(described(), out=tmp_path / "run", data_dir=tmp_path, expected=hashes)
    assert not (tmp_path / "run").exists()


def test_a_comparison_is_not_continued_on_other_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "run_here", in_this_process)
    put(tmp_path)
    asked = Request([described()], [Method("fd")])
    compare(asked, out=tmp_path / "out", data_dir=tmp_path, jobs=1)
    put(tmp_path, seed=7)
    # A method that was not in it before: what it would be compared with was measured on the old file.
    for methods in ([Method("fd")], [Method("fedproto")]):
        with pytest.raises(InputError, match="was run on other data: its private rows"):
            more = Request([described()], methods)
            compare(more, out=tmp_path / "out", data_dir=tmp_path, resume=True, jobs=1)
    put(tmp_path)
    again = compare(asked, out=tmp_path / "out", data_dir=tmp_path, resume=True, jobs=1)
    assert {row["status"] for row in json.loads((again.path / "comparison.json").read_text())["cells"]} == {
        "finished"
    }


def test_other_names_of_columns_or_classes_are_other_data(tmp_path: Path) -> None:
    """The same numbers under the names of other columns mean something else."""
    rng = np.random.default_rng(0)
    held: dict[str, Any] = {
        "x_train": rng.normal(size=(40, 2)).astype("float32"),
        "y_train": np.arange(40) % 2,
    }
    names: dict[str, Any] = {"columns": np.array(["age", "weight"]), "label_names": np.array(["no", "yes"])}
    scenario = described()
    np.savez(tmp_path / "rows.npz", **held, **names)
    run = interrupted(tmp_path, scenario)
    for name in names:
        np.savez(tmp_path / "rows.npz", **held, **{**names, name: names[name][::-1]})
        with pytest.raises(InputError, match=r"its private rows .* changed since then"):
            simulate(scenario, out=run, resume=True, data_dir=tmp_path)


def test_the_hashes_say_which_rows_changed(tmp_path: Path) -> None:
    put(tmp_path)
    hashes = data_hashes(data.build(described(), tmp_path))
    assert sorted(hashes) == ["rows", "test"]
    assert {len(found) for found in hashes.values()} == {64}
    assert changed(hashes, dict(hashes)) == []
    assert changed(hashes, hashes | {"test": "0"}) == ["its test rows"]


# Ledgers ---------------------------------------------------------------------------------


def test_a_shared_ledger_does_not_count_what_other_rows_pay(tmp_path: Path) -> None:
    put(tmp_path)
    settings = {**PRIVATE, "ledger": str(tmp_path / "ledgers")}
    parts = described().data.model_dump(by_alias=True, exclude_defaults=True)
    parts |= {"transfer": {"from": "train", "size": 8}}
    scenario = described(data=parts, strategy={"name": "fedmd"}, privacy=settings, rounds=1)
    simulate(scenario, out=tmp_path / "one", data_dir=tmp_path)
    simulate(scenario, out=tmp_path / "two", data_dir=tmp_path)  # the same rows go on paying
    put(tmp_path, seed=7)
    with pytest.raises(InputError, match="counts what other rows paid; restore those"):
        simulate(scenario, out=tmp_path / "three", data_dir=tmp_path)
    for client in ("0", "1"):
        done = CliRunner().invoke(app, ["adopt", str(tmp_path / "ledgers" / client)])
        assert done.exit_code == 0
    simulate(scenario, out=tmp_path / "three", data_dir=tmp_path)
    assert len(Ledger(tmp_path / "ledgers" / "0").events()) == 3
    put(tmp_path, seed=8)
    with pytest.raises(InputError, match="counts what other rows paid"):
        simulate(scenario, out=tmp_path / "four", data_dir=tmp_path)


def test_a_ledger_declines_other_rows_before_they_are_touched(tmp_path: Path) -> None:
    ledger, event = Ledger(tmp_path), Event("gauss", "record", 1.0)
    terms: dict[str, Any] = {"delta": 1e-5, "unit": "record", "change": "zeroed out", "most": 100.0}
    ledger.reserve(Purpose("run", 1, "train"), [event], **terms)  # of a version that knew no hashes
    ledger.reserve(Purpose("run", 2, "train"), [event], data="a" * 64, **terms)
    with pytest.raises(Declined) as no:
        ledger.reserve(Purpose("run", 3, "train"), [event], data="b" * 64, **terms)
    assert no.value.reason == "data"
    assert "a" * 12 not in no.value.detail  # a hash of private rows tells who guesses them
    assert len(ledger.events()) == 2


def test_a_party_s_rows_are_the_same_for_every_seed_and_in_any_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)).astype(np.float32), np.arange(40) % 2
    np.savez(tmp_path / "d.npz", x_a=x[:20], y_a=y[:20], x_b=x[20:], y_b=y[20:])
    np.savez(tmp_path / "a.npz", x_train=x[:20][::-1], y_train=y[:20][::-1])
    by_domain = {"dataset": "npz:d.npz", "partition": {"kind": "domain"}}
    found = set()
    for seed in (0, 1):
        federation = data.build(described(data=by_domain, seed=seed), tmp_path)
        found.add(party_hash(federation, federation.shards[0]))
    site = build_own("a", Sources(tmp_path, "npz:a.npz"), described())
    assert found == {party_hash(site, site.shards[0])}


# At a site -------------------------------------------------------------------------------


def test_a_site_s_desk_refuses_other_rows_in_one_run(tmp_path: Path) -> None:
    desk = Desk(tmp_path, "0123")
    desk.same_data({"rows": "1", "transfer": "2"})
    Desk(tmp_path, "0123").same_data({"rows": "1", "transfer": "2"})
    with pytest.raises(Refused) as no:
        Desk(tmp_path, "0123").same_data({"rows": "3", "transfer": "2"})
    assert no.value.reason == "data"
    assert str(no.value).startswith(
        "its private rows (data.dataset) at the site changed since this run began"
    )
    Desk(tmp_path, "4567").same_data({"rows": "3", "transfer": "2"})


# Rows by policy --------------------------------------------------------------------------


def test_a_central_mode_hides_what_disagreement_needs(tmp_path: Path) -> None:
    put(tmp_path)
    parts = described().data.model_dump(by_alias=True, exclude_defaults=True)
    parts |= {"transfer": {"from": "train", "size": 20, "rows": 5, "policy": "disagreement"}}
    central = {"mode": "central_gauss", "delta": 1e-3, "noise_multiplier": 5.0, "max_epsilon": 100}
    scenario = described(data=parts, strategy={"name": "fedmd"}, privacy=central)
    with pytest.raises(InputError, match=r"data\.transfer\.policy is disagreement, but in privacy mode"):
        simulate(scenario, out=tmp_path / "run", data_dir=tmp_path)
