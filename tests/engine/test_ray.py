"""The ray engine on clusters and with any number of workers. Starting Ray takes seconds, so all are slow."""

import gc
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
import ray
import torch
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fedkt.deploy.rehearsal import descendants
from fedkt.engine.runtimes.cluster import RaySession, ray_session
from fedkt.engine.runtimes.flwr_internals import FIRST_NODE
from fedkt.engine.runtimes.ray_hosts import RayHosts, host
from fedkt.engine.runtimes.resident import ResidentGrid
from fedkt.errors import InputError
from fedkt.scenario import Engine
from tests.engine.test_cohorts import distance, final_tensors, run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_cohorts_on_any_number_of_workers_agree_with_one_by_one(tmp_path: Path, workers: int) -> None:
    alone = run(tmp_path / "alone", "engine.cohort=off")
    many = run(tmp_path / "many", f"engine={{kind: ray, workers: {workers}, cohort: 4}}")
    assert distance(final_tensors(tmp_path / "alone"), final_tensors(tmp_path / "many")) < 1e-4
    difference = alone.summary["accuracy"]["global_mean"] - many.summary["accuracy"]["global_mean"]
    assert abs(difference) <= 0.01


def test_nothing_of_rays_is_left_when_another_thread_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handle that is dropped meanwhile makes Ray end this process, with status 1 and no traceback."""
    left: list[int] = []
    end = RaySession.end

    def counted(session: RaySession) -> None:
        kinds = (ray.actor.ActorHandle, ray.ObjectRef, ray.ObjectRefGenerator)
        left.append(sum(type(held) in kinds for held in gc.get_objects()))
        end(session)

    monkeypatch.setattr(RaySession, "end", counted)
    run(tmp_path / "run", "engine={kind: ray, workers: 2, cohort: off}")
    assert left[0] == 0


def test_workers_on_two_nodes_give_the_same_bits(tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        # Each worker asks for one processor, so that two have to be on two nodes.
        cluster.add_node(num_cpus=1)
        engine = f"engine={{kind: ray, address: '{cluster.address}', workers: 2, cohort: off}}"
        run(tmp_path / "cluster", engine)
    finally:
        cluster.shutdown()
    run(tmp_path / "inline", "engine.cohort=off")
    one, other = final_tensors(tmp_path / "cluster"), final_tensors(tmp_path / "inline")
    assert list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


@contextmanager
def listening(kind: str) -> Iterator[int]:
    """Give the port of nothing at all, a deaf socket, a web server or a gRPC server that is no Ray."""
    if kind == "nothing":
        yield 9
    elif kind == "deaf":
        with socket.create_server(("127.0.0.1", 0)) as deaf:
            yield deaf.getsockname()[1]
    elif kind == "web":
        with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as web:
            threading.Thread(target=web.serve_forever, daemon=True).start()
            yield web.server_port
            web.shutdown()
    else:
        server = grpc.server(ThreadPoolExecutor(1))
        yield server.add_insecure_port("127.0.0.1:0")
        server.stop(None)


@pytest.mark.parametrize("kind", ["nothing", "deaf", "web", "grpc"])
def test_an_address_where_no_ray_answers_is_refused_within_ten_seconds(tmp_path: Path, kind: str) -> None:
    import ray  # noqa: F401 (its import is not what is timed)

    begun = time.monotonic()
    with (
        listening(kind) as port,
        pytest.raises(InputError, match=f"no Ray cluster answers .*127.0.0.1:{port}"),
    ):
        run(tmp_path / "run", f"engine={{kind: ray, address: '127.0.0.1:{port}'}}")
    assert time.monotonic() - begun < 10
    assert not (tmp_path / "run").exists()


def number(record: Any, name: str) -> int:
    value: int = record[name]
    return value


class Counting(ClientApp):
    """A Flower app that counts the messages of each node, and takes the counts along when nodes move."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[int, int] = {}
        self.train()(self._count)

    def _count(self, message: Message, context: Context) -> Message:
        node = int(context.node_config["partition-id"])
        self.counts[node] = self.counts.get(node, 0) + 1
        seen = ConfigRecord({"node": node, "count": self.counts[node], "process": os.getpid()})
        return Message(RecordDict({"seen": seen}), reply_to=message)

    def give(self, partitions: Sequence[int]) -> dict[int, int]:
        """Let nodes go."""
        return {i: self.counts.pop(i) for i in partitions if i in self.counts}

    def take(self, held: Mapping[int, int]) -> None:
        """Take nodes in."""
        self.counts |= held


def test_nodes_move_to_the_process_with_less_to_do_and_take_what_is_theirs_along() -> None:
    def ask(nodes: Sequence[int]) -> dict[int, tuple[int, int]]:
        asked = [Message(RecordDict(), FIRST_NODE + node, "train") for node in nodes]
        replies = list(grid.send_and_receive(asked, timeout=60))
        seen = [reply.content["seen"] for reply in replies]
        return {number(s, "node"): (number(s, "count"), number(s, "process")) for s in seen}

    with ray_session(Engine(workers=2)):
        hosts = RayHosts(None, partial(host, Engine()))
        grid = ResidentGrid(lambda _: Counting(), [1.0] * 8, hosts, workers=2)
        first = ask(range(8))
        processes = {process for _, process in first.values()}
        assert len(processes) == 2 and {count for count, _ in first.values()} == {1}
        mine = [node for node, (_, process) in first.items() if process == min(processes)]
        assert len(mine) == 4
        grid.bind([mine])
        assert set(ask(mine).values()) == {(2, min(processes))}  # they stay together
        grid.bind([])
        third = ask(mine)  # all of them live in one process: half of them move
        assert [count for count, _ in third.values()] == [3] * 4
        assert sorted(process for _, process in third.values()) == sorted([*processes] * 2)
        assert {count for node, (count, _) in ask(range(8)).items() if node in mine} == {4}


@pytest.mark.parametrize(("engine", "processes"), [("ray", 4), ("processes", 3)])
def test_a_command_ends_at_once_and_leaves_no_process_behind(
    tmp_path: Path, engine: str, processes: int
) -> None:
    command = [sys.executable, "-c", "from fedkt.cli import main; main()", "simulate", "quickstart"]
    command += ["--engine", engine, "--set", "rounds=2", "--out", str(tmp_path / "run")]
    seen: set[int] = set()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("round"):
                seen |= set(descendants(process.pid))
    assert process.returncode == 0
    assert len(seen) >= processes  # Ray's server and node, or the nursery, and two hosts
    end = time.monotonic() + 20
    while alive := [pid for pid in seen if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < end, alive
        time.sleep(0.1)
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["rounds"] == 2


def test_bad_input_that_is_found_while_ray_starts_ends_with_2_and_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from fedkt.cli import main; main()", "simulate", "quickstart"]
    command += ["--set", "participation.quorum=99", "--engine", "ray", "--out", str(tmp_path / "run")]
    before = set(_raylets())
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("fedkt: participation.quorum is 99, but there are 10 clients")
    assert not (tmp_path / "run").exists()
    end = time.monotonic() + 20
    while left := set(_raylets()) - before:
        assert time.monotonic() < end, left
        time.sleep(0.1)


def _raylets() -> Iterator[int]:
    """Yield the node processes of Ray whose mother is gone."""
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if b"/raylet" in (place / "cmdline").read_bytes().partition(b"\0")[0]:
                mother = int((place / "stat").read_text().rpartition(")")[2].split()[1])
                if mother == 1:
                    yield int(place.name)
