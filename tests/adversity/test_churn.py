"""Clients that come, go and dawdle: simulated, the same for every engine, counted."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

import fedkt
from fedkt.adversity.churn import Churn, Fate, problems_of, read_trace
from fedkt.engine.checks.checked import checked_world
from fedkt.engine.loop.exchange import SimulatedTime
from fedkt.engine.runs.run import simulate
from fedkt.engine.runtimes.inline import InlineGrid
from fedkt.errors import InputError
from fedkt.results.observer import Silent
from fedkt.scenario import Churn as Settings
from fedkt.scenario import from_dict

CLIENTS = [str(i) for i in range(20)]


def churn(rounds: int = 10, **settings: Any) -> Churn:
    return Churn(Settings.model_validate(settings), CLIENTS, rounds, 0)


def described(**more: Any) -> dict[str, Any]:
    return {
        "name": "churn",
        "data": {
            "partition": {"kind": "iid", "clients": 6, "samples_per_client": 20},
            "transfer": {"size": 30},
        },
        "clients": {
            "models": [{"name": "mlp", "width": 8}],
            "local": {"epochs": 1},
            "distill": {"epochs": 1},
        },
        "strategy": {"name": "fedmd"},
        "rounds": 4,
        "engine": {"kind": "inline"},
        **more,
    }


def run(out: Path, resume: bool = False, **more: Any) -> Any:
    return fedkt.simulate(described(**more), out=out, resume=resume)


# ---- who is there


def test_nothing_happens_by_default() -> None:
    quiet = churn()
    assert not Settings().active
    assert all(quiet.there(client, r) for client in CLIENTS for r in range(1, 11))
    assert all(quiet.fate(client, 1, "train", 0).answers for client in CLIENTS)


def test_late_joiners_and_leavers_come_and_go_once() -> None:
    moving = churn(late_joiners=0.25, join_by=4, leavers=0.5, leave_from=6)
    first, last = [], []
    for client in CLIENTS:
        there = [r for r in range(1, 11) if moving.there(client, r)]
        assert there == list(range(there[0], there[-1] + 1))
        first.append(there[0])
        last.append(there[-1])
    assert sum(r > 1 for r in first) == 5
    assert set(first) <= {1, 2, 3, 4}
    assert sum(r < 10 for r in last) == 10
    assert min(last) >= 5


def test_fates_are_functions_of_their_labels() -> None:
    some = churn(dropout=0.3, spread=0.5, seconds=2.0)
    fates = [some.fate(client, r, "train", 0) for client in CLIENTS for r in range(1, 51)]
    assert fates == [some.fate(client, r, "train", 0) for client in CLIENTS for r in range(1, 51)]
    assert sum(not f.answers for f in fates) / len(fates) == pytest.approx(0.3, abs=0.05)
    assert sorted(f.seconds for f in fates)[500] == pytest.approx(2.0, rel=0.1)
    assert some.fate("1", 1, "train", 0) != some.fate("1", 1, "train", 1) != some.fate("1", 1, "evaluate", 0)


def test_a_straggler_is_slow_for_the_whole_run() -> None:
    slow = churn(stragglers=0.2, slowdown=10.0, spread=0.0)
    seconds = {c: {slow.fate(c, r, "train", 0).seconds for r in range(1, 6)} for c in CLIENTS}
    assert sorted(s for held in seconds.values() for s in held) == [1.0] * 16 + [10.0] * 4


def test_what_does_not_fit_is_said() -> None:
    assert problems_of(Settings(late_joiners=0.5, join_by=1, leavers=0.5, leave_from=9), 8, 20) == [
        "churn.join_by is 1, but late joiners come after the first round; it must be at least 2.",
        "churn.leave_from is 9, but there are 8 rounds; it must be at most their number.",
    ]
    with pytest.raises(InputError) as raised:
        checked_world(from_dict(described(participation={"withdrawn": {"9": 2}})))
    assert str(raised.value) == (
        "participation.withdrawn names '9', which is no client; there are 0, 1, 2, 3, 4, 5."
    )


def test_a_trace_says_when_clients_are_there(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text("client,first,last\n0,1,2\n0,5,5\n1, 3, 9\n\n")
    trace = read_trace(file, CLIENTS)
    assert trace == {"0": [(1, 2), (5, 5)], "1": [(3, 9)]}
    traced = Churn(Settings(trace="x"), CLIENTS, 9, 0, trace)
    assert [r for r in range(1, 10) if traced.there("0", r)] == [1, 2, 5]
    assert [r for r in range(1, 10) if traced.there("2", r)] == list(range(1, 10))


def test_a_bad_trace_is_refused_line_by_line(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text("client,first,last\n99,1,2\n0,3,2\n1,a,4\n1,2\n")
    with pytest.raises(InputError) as raised:
        read_trace(file, ["0", "1"])
    span = "is no span of rounds; it must be two whole numbers of at least 1, the second not below the first."
    assert raised.value.problems == (
        f"{file}:2: there is no client '99'; it must be one of 0, 1.",
        f"{file}:3: '3,2' {span}",
        f"{file}:4: 'a,4' {span}",
        f"{file}:5: '2' {span}",
    )
    file.write_text("name,from,to\n")
    with pytest.raises(InputError, match="the first line must be 'client,first,last'"):
        read_trace(file, ["0"])
    with pytest.raises(InputError, match="cannot be read"):
        read_trace(tmp_path / "none.csv", ["0"])


# ---- simulated time


def replies(*nodes: int) -> Iterator[Message]:
    for node in nodes:
        asked = Message(RecordDict({"x": ConfigRecord({"a": 1})}), node, "train")
        yield Message(RecordDict(), reply_to=asked)


def test_simulated_time_by_hand() -> None:
    InlineGrid(ClientApp(), 1)  # makes this process one in which Flower's messages can be built
    time = SimulatedTime({1: Fate(True, 3.0), 2: Fate(True, 1.0), 3: Fate(False, 1.0), 4: Fate(True, 9.0)})
    sent = [Message(RecordDict(), node, "train") for node in (1, 2, 3, 4)]
    assert [m.metadata.dst_node_id for m in time.reached(sent)] == [1, 2, 4]

    def told(deadline: float, enough: int) -> tuple[list[int], list[int], float]:
        in_time, late, waited = time.pass_(list(replies(1, 2, 4)), deadline, enough)
        nodes = [[m.metadata.src_node_id for m in part] for part in (in_time, late)]
        return nodes[0], nodes[1], waited

    # In the order in which they come; one never answers, so the deadline is waited for.
    assert told(5.0, 4) == ([2, 1], [4], 5.0)
    # Two are enough: the round goes on when the second is there.
    assert told(5.0, 2) == ([2, 1], [4], 3.0)
    assert told(10.0, 3) == ([2, 1, 4], [], 9.0)
    assert SimulatedTime({}).pass_([], 10.0, 0) == ([], [], 0.0)


# ---- whole runs


def test_dropouts_stragglers_and_deadlines_are_counted_and_resumed(tmp_path: Path) -> None:
    more: dict[str, Any] = {
        "churn": {"dropout": 0.2, "stragglers": 0.34, "slowdown": 100.0, "spread": 0.1},
        "participation": {"deadline_s": 20.0, "quorum": 2},
    }
    whole = run(tmp_path / "whole", **more)
    # Two of six are stragglers and take 100 s: late in every round, whatever else happens.
    late = whole.clients.groupby("client")["status"].apply(list)
    assert sum(statuses == ["late"] * 4 for statuses in late) >= 2
    replies_ = whole.summary["replies"]
    assert replies_["late"] >= 8
    assert replies_["accepted"] + replies_["late"] == 24
    # A straggler's bytes were sent, one who drops out sends none.
    assert set(whole.clients[whole.clients["status"] == "late"]["bytes.up"]) <= {0, 30 * 10 * 4 + 128}
    # Both exchanges of a round wait for the deadline as long as somebody is missing.
    assert whole.rounds["simulated_s"].max() <= 40.0
    assert whole.rounds["simulated_s"].iloc[0] >= 20.0

    with pytest.raises(KeyboardInterrupt):
        simulate(from_dict(described(**more)), out=tmp_path / "again", observer=StopsAfterTwo())
    again = run(tmp_path / "again", resume=True, **more)
    same = ["round", "client", "status", "bytes.up", "bytes.down", "personal"]
    assert again.clients[same].equals(whole.clients[same])
    assert list(again.rounds["simulated_s"]) == list(whole.rounds["simulated_s"])


class StopsAfterTwo(Silent):
    """Ends the run after its second round, as Ctrl-C does."""

    def round_done(self, row: Any, clients: Any) -> None:
        if row["round"] == 2:
            raise KeyboardInterrupt


def test_a_round_without_quorum_is_skipped_or_repeated(tmp_path: Path) -> None:
    more: dict[str, Any] = {"churn": {"dropout": 0.5}}
    skip = run(tmp_path / "skip", participation={"quorum": 4}, **more)
    fates = Churn(Settings(dropout=0.5), CLIENTS[:6], 4, 0)
    answered = [sum(fates.fate(c, r, "train", 0).answers for c in CLIENTS[:6]) for r in range(1, 5)]
    missed = [n < 4 for n in answered]
    assert 0 < sum(missed) < 4
    assert list(skip.rounds["replies.accepted"]) == answered
    assert list(skip.rounds["status"] == "no-quorum") == missed
    assert skip.summary["quorum"] == {"missed": sum(missed), "repeats": 0}
    repeat = run(
        tmp_path / "repeat", participation={"quorum": 4, "no_quorum": "repeat", "retries": 5}, **more
    )
    assert (repeat.rounds["status"] == "fused").all()
    assert repeat.summary["quorum"]["missed"] == 0
    assert repeat.summary["quorum"]["repeats"] == (repeat.rounds["attempts"] - 1).sum() >= sum(missed)
    # Who has contributed is not asked again: nobody counts twice.
    assert (repeat.rounds["replies.accepted"] <= 6).all()
    # The first round was missed in one, repeated in the other, and the same clients answered at first.
    given_up = run(
        tmp_path / "given-up",
        participation={"quorum": 6, "no_quorum": "repeat", "retries": 1},
        rounds=1,
        **more,
    )
    assert given_up.summary["quorum"] == {"missed": 1, "repeats": 1}


def test_more_are_asked_than_needed_and_the_first_count(tmp_path: Path) -> None:
    result = run(tmp_path / "run", participation={"fraction": 0.5, "over_select": 1.7})
    # Half of six are needed, 3 * 1.7 = 5.1, so six are asked.
    assert list(result.rounds["replies.accepted"]) == [3, 3, 3, 3]
    assert list(result.rounds["replies.late"]) == [3, 3, 3, 3]
    by_round = result.clients[result.clients["status"] == "accepted"].groupby("round")["client"].apply(tuple)
    assert len(set(by_round)) > 1


def test_a_newcomer_starts_from_the_current_teacher(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text("client,first,last\n5,3,9\n4,1,2\n")
    trace = {"trace": str(tmp_path / "trace.csv")}
    for strategy in ("fedmd", "knfu"):
        result = run(tmp_path / strategy, churn=trace, strategy={"name": strategy})
        asked = result.clients.groupby("round")["client"].apply(list)
        assert list(asked) == [[0, 1, 2, 3, 4]] * 2 + [[0, 1, 2, 3, 5]] * 2
        down = result.clients.set_index(["round", "client"])["bytes.down"]
        # It gets the teacher of round 2 with its first training, and that of round 3 after it.
        assert down[3, 5] == 2 * down[3, 0] == 2 * (30 * 10 * 4 + 128)


def test_who_has_withdrawn_is_not_asked(tmp_path: Path) -> None:
    result = run(tmp_path / "run", participation={"withdrawn": {"2": 3}})
    asked = result.clients.groupby("round")["client"].apply(list)
    assert list(asked) == [[0, 1, 2, 3, 4, 5]] * 2 + [[0, 1, 3, 4, 5]] * 2
    rest = result.clients[(result.clients["round"] == 4)]["personal"]
    assert result.summary["accuracy"]["personal_mean"] == pytest.approx(rest.mean())
