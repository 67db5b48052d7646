"""Kill a run at random instants and resume it: docs/reliability.md has the figures.

    python -m benchmarks.kills [--kills 100] [--engine inline]

Prints one line of JSON with what was measured, and ends with status 1 where a figure is missed.
"""

import argparse
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import fedkt
from benchmarks.reliability import scenario, tell
from fedkt.engine.runs.run import simulate
from fedkt.files import read_tensors
from fedkt.results.observer import Silent
from fedkt.scenario import load

ROUNDS_PER_KILL = 12
FRESH = 10
"""One in so many starts is that of a new interpreter."""
RESTART_S = 10.0
PRELOADED = ["fedkt.cli", "fedkt.engine.runs.run", "torch._dynamo", "flwr_datasets"]


def final(folder: Path) -> dict[str, bytes]:
    """Return every tensor of the server and of all clients at a run's end."""
    found: dict[str, bytes] = {}
    states = folder / "checkpoint" / "clients"
    files = [max(client.glob("*.safetensors")) for client in sorted(states.iterdir())]
    for file in [*files, max((folder / "checkpoint").glob("round-*.safetensors"))]:
        tensors, _ = read_tensors(file)
        found |= {f"{file.parent.name}/{name}": t.numpy().tobytes() for name, t in tensors.items()}
    return found


class Fresh:
    """A run in an interpreter of its own, in a process group of its own, as from the command line."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-c", "from fedkt.cli import main; main()", "simulate"]
        command += [str(folder / "scenario.yaml"), "--out", str(folder / "killed")]
        command += ["--resume"] if (folder / "killed" / "scenario.yaml").exists() else []
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)

    def first_round(self) -> None:
        """Wait until it tells of its first new round."""
        assert self.process.stdout is not None
        next((line for line in self.process.stdout if line.startswith("round")), None)

    def kill(self) -> bool:
        """Kill it; return whether it was alive."""
        os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.wait() == -signal.SIGKILL


class Forked:
    """A run in a process that is forked off one with all imports done."""

    context = multiprocessing.get_context("forkserver")

    def __init__(self, folder: Path) -> None:
        self._told, tell = self.context.Pipe(duplex=False)
        self.process = self.context.Process(target=again, args=(folder, tell))
        self.process.start()
        tell.close()

    def first_round(self) -> None:
        """Wait until it tells of its first new round."""
        self._told.recv()

    def kill(self) -> bool:
        """Kill it; return whether it was alive."""
        self.process.kill()
        self.process.join()
        self._told.close()
        return self.process.exitcode == -signal.SIGKILL


class Tells(Silent):
    """Tells of every round."""

    def __init__(self, tell: Connection) -> None:
        self._tell = tell

    def round_done(self, row: Mapping[str, Any], clients: Sequence[Mapping[str, Any]]) -> None:
        """Send the round's number."""
        self._tell.send(row["round"])


def again(folder: Path, tell: Connection) -> None:
    """Begin or continue the run that is killed."""
    resume = (folder / "killed" / "scenario.yaml").exists()
    simulate(load(str(folder / "scenario.yaml")), out=folder / "killed", resume=resume, observer=Tells(tell))


def kills(count: int, seed: int, engine: str) -> bool:
    """Kill a run ``count`` times at random instants; its end must be that of a run that nobody killed.

    That one is of engine inline, whichever is killed: engines agree in every bit. Every tenth start is a new
    interpreter's, of which the time to the first new round is measured; the others are forked (with Ray,
    none is).
    """
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Long enough that it is never at its end when it is killed.
        described = scenario(8, ROUNDS_PER_KILL * count)
        fedkt.simulate(described, out=folder / "whole")
        described["engine"] |= {"kind": engine}
        (folder / "scenario.yaml").write_text(fedkt.scenario.dump(load(described)))
        restarts: dict[type, list[float]] = {Fresh: [], Forked: []}
        Forked.context.set_forkserver_preload(PRELOADED)
        first = Forked.context.Process(target=int)  # imports, once for all
        first.start()
        first.join()
        early = killed = 0
        for number in range(count):
            kind = Forked if engine != "ray" and number % FRESH else Fresh
            begun = time.monotonic()
            process = kind(folder)
            if restarts[kind] and draw.random() < 0.2:
                # While it starts, reads the checkpoint, or begins: no new round may have been made yet.
                early += 1
                time.sleep(draw.uniform(0, 1.2 * min(restarts[kind])))
            else:
                process.first_round()
                restarts[kind].append(time.monotonic() - begun)
                time.sleep(draw.uniform(0, 0.25))
            killed += process.kill()
            print(f"kill {number + 1} after {time.monotonic() - begun:.2f} s", file=sys.stderr, flush=True)
        simulate(load(described), out=folder / "killed", resume=True)
        same = final(folder / "killed") == final(folder / "whole")
        rows = len((folder / "killed" / "rounds.jsonl").read_text().splitlines())
    slowest = max(restarts[Fresh])
    tell(
        engine=engine,
        kills=killed,
        of_them_before_a_new_round=early,
        same_end=same,
        rounds=rows,
        starts={kind.__name__: len(found) for kind, found in restarts.items()},
        restart_s={"slowest": slowest, "median": sorted(restarts[Fresh])[len(restarts[Fresh]) // 2]},
    )
    return same and killed == count and rows == ROUNDS_PER_KILL * count and slowest <= RESTART_S


def main() -> None:
    """Kill and resume."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--engine", choices=["inline", "processes", "ray"], default="inline")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    sys.exit(0 if kills(given.kills, given.seed, given.engine) else 1)


if __name__ == "__main__":
    main()
