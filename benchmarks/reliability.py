"""The figures of docs/reliability.md beside kills: dying clients, long runs, the cost of checkpoints.

    python -m benchmarks.reliability deaths [--rounds 20]
    python -m benchmarks.reliability soak [--rounds 200] [--engine inline]
    python -m benchmarks.reliability checkpoints

Each prints one line of JSON with what was measured, and ends with status 1 where a figure is missed.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import fedkt
from fedkt.client.state import MemoryStore
from fedkt.engine.loop import checkpoint
from fedkt.engine.runs.run import simulate
from fedkt.results.observer import Silent
from fedkt.scenario import load

EXTRA_S, GROWTH, SHARE = 5.0, 0.05, 0.05


def scenario(clients: int, rounds: int, rows: int = 20, **more: Any) -> dict[str, Any]:
    """Describe a small run whose time goes into rounds, not into training."""
    return {
        "name": "reliability",
        "data": {
            "partition": {"kind": "iid", "clients": clients, "samples_per_client": rows},
            "transfer": {"size": 50},
        },
        "clients": {"models": ["mlp"], "local": {"epochs": 1}, "distill": {"epochs": 1}},
        "strategy": {"name": "knfu"},
        "rounds": rounds,
        "engine": {"kind": "inline", "cohort": "off"},
        "evaluate": {"every": 10},
        **more,
    }


# ---- clients' processes that die


class Killer(Silent):
    """Kills half of the clients' processes at random instants of each round."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)
        self.killed = 0
        self.seconds: list[float] = []

    def asked(self, round_: int, stage: str, clients: int) -> None:
        """Choose victims as the messages of a round go out."""
        if stage == "train":
            pids = list(actors())
            for pid in self._draw.sample(pids, len(pids) // 2):
                threading.Timer(self._draw.uniform(0, 1.0), self._kill, [pid]).start()

    def round_done(self, row: Mapping[str, Any], clients: Sequence[Mapping[str, Any]]) -> None:
        """Note how long the round took."""
        self.seconds.append(row["wall_s"])

    def _kill(self, pid: int) -> None:
        try:
            os.kill(pid, signal.SIGKILL)
            self.killed += 1
        except ProcessLookupError:
            pass


def actors() -> Iterator[int]:
    """Yield the processes below this one that are Ray actors of fedkt."""
    parents = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal():
                status = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = (int(status[1]), (entry / "cmdline").read_text())
        except OSError:
            continue
    for pid, (_, command) in parents.items():
        above = pid
        while above in parents and above != os.getpid():
            above = parents[above][0]
        if above == os.getpid() and "Resident" in command:
            yield pid


def deaths(rounds: int, seed: int, deadline_s: float) -> bool:
    """Kill half of 8 clients' processes in every round; rounds must still close in time."""
    described = scenario(
        8,
        rounds,
        engine={"kind": "ray", "workers": 8, "cpus": 0.25, "cohort": "off"},
        participation={"quorum": 3, "deadline_s": deadline_s},
    )
    killer = Killer(seed)
    with tempfile.TemporaryDirectory() as name:
        result = simulate(load(described), out=Path(name) / "run", observer=killer)
        summary = result.summary
    slowest = max(killer.seconds)
    # A round has two exchanges, each with the deadline.
    tell(
        rounds=summary["rounds"],
        killed=killer.killed,
        deadline_s=deadline_s,
        slowest_round_s=slowest,
        replies=summary["replies"],
        quorum=summary["quorum"],
    )
    return summary["rounds"] == rounds and slowest <= deadline_s + EXTRA_S


# ---- long runs


class Usage(Silent):
    """Notes what this process holds after each round."""

    def __init__(self) -> None:
        self.seen: list[dict[str, int]] = []

    def round_done(self, row: Mapping[str, Any], clients: Sequence[Mapping[str, Any]]) -> None:
        """Read memory, threads and descriptors; with Ray, of the actors as well."""
        pids = [os.getpid(), *actors()]
        self.seen.append(
            {
                "rss_kb": sum(status(pid, "VmRSS") for pid in pids),
                "threads": sum(status(pid, "Threads") for pid in pids),
                "descriptors": sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids),
                "objects": ray_objects(),
            }
        )


def status(pid: int, name: str) -> int:
    """Return a number of a process's status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{name}:")))


def ray_objects() -> int:
    """Return how many objects this process holds references to in Ray's store, 0 without Ray."""
    if "ray" not in sys.modules:
        return 0
    import ray

    if not ray.is_initialized():
        return 0
    worker: Any = ray._private.worker.global_worker
    return len(worker.core_worker.get_all_reference_counts())


def soak(rounds: int, clients: int, engine: str) -> bool:
    """Run many rounds; what the process holds must not grow."""
    usage = Usage()
    workers = {"workers": 2} if engine == "ray" else {}
    described = scenario(clients, rounds, engine={"kind": engine, "cohort": "off", **workers})
    with tempfile.TemporaryDirectory() as name:
        simulate(load(described), out=Path(name) / "run", observer=usage)
        left = len(list((Path(name) / "run" / "checkpoint").rglob("*.safetensors")))
    # The first tenth is warming up: allocator, caches, lazy imports.
    early, late = usage.seen[rounds // 10], usage.seen[-1]
    growth = late["rss_kb"] / early["rss_kb"] - 1
    tell(engine=engine, rounds=rounds, clients=clients, early=early, late=late, growth=growth, files=left)
    # A thread may be writing a file, with its folder open, at the moment of either look.
    late["descriptors"] -= 2
    steady = all(late[name] <= early[name] for name in ("threads", "descriptors", "objects"))
    return growth < GROWTH and steady and left <= 2 + 3 * clients


# ---- the cost of checkpoints


def checkpoints(clients: int, rounds: int) -> bool:
    """Measure the share of a run's time that goes into checkpoints and clients' states."""
    spent = [0.0]

    def timed(function: Any) -> Any:
        def call(*args: Any) -> Any:
            begun = time.monotonic()
            try:
                return function(*args)
            finally:
                spent[0] += time.monotonic() - begun

        return call

    checkpoint.as_bytes, checkpoint.write = timed(checkpoint.as_bytes), timed(checkpoint.write)
    setattr(MemoryStore, "_write", timed(MemoryStore._write))  # noqa: B010 (a method is replaced)
    described = scenario(clients, rounds, rows=200, evaluate={"every": rounds})
    described["data"] |= {"dataset": "npz:mnist.npz", "transfer": {"size": 500}}
    described["clients"] |= {"local": {"epochs": 3}, "distill": {"epochs": 3}}
    with tempfile.TemporaryDirectory() as name:
        begun = time.process_time()
        fedkt.simulate(described, out=Path(name) / "run")
        # On a busy machine writing is measured by the wall, all else by the processor: never too low a share.
        whole = time.process_time() - begun + spent[0]
    tell(clients=clients, rounds=rounds, run_s=whole, checkpoints_s=spent[0], share=spent[0] / whole)
    return spent[0] / whole < SHARE


def tell(**measured: Any) -> None:
    """Print what was measured, as JSON."""
    print(json.dumps(measured))


def main() -> None:
    """Measure one figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["deaths", "soak", "checkpoints"])
    parser.add_argument("--rounds", type=int, default=None)
    parser.add_argument("--clients", type=int, default=None)
    parser.add_argument("--deadline", type=float, default=30.0)
    parser.add_argument("--engine", choices=["inline", "ray"], default="inline")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.what == "deaths":
        reached = deaths(given.rounds or 20, given.seed, given.deadline)
    elif given.what == "soak":
        reached = soak(given.rounds or 200, given.clients or 20, given.engine)
    else:
        reached = checkpoints(given.clients or 100, given.rounds or 3)
    sys.exit(0 if reached else 1)


if __name__ == "__main__":
    main()
