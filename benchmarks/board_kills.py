"""Kill a board's coordinator at random instants and start it again: docs/reliability.md has the figures.

    python -m benchmarks.board_kills [--kills 100]

Three sites visit a board over HTTP, one after the other, while the process that serves it is killed again and
again. Nothing is lost: every visit that a site was told of is on the board and counts once, and the board and
all sites end in the same bits as where nobody was killed. Prints one line of JSON, and ends with status 1
otherwise.
"""

import argparse
import json
import multiprocessing
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.reliability import tell
from fedkt.deploy.coordinator import board_run
from fedkt.deploy.rehearsal import free_port
from fedkt.deploy.site.setup import init_from_scenario
from fedkt.deploy.site.site_file import Site
from fedkt.deploy.site.visiting import Visitor
from fedkt.files import read_tensors
from fedkt.results.folder import is_run
from fedkt.scenario import load

VISITS_PER_KILL, SITES = 3, 3
DESCRIBED: dict[str, Any] = {
    "name": "board-kills",
    "data": {
        "partition": {"kind": "dirichlet", "alpha": 5, "clients": SITES, "samples_per_client": 40},
        "transfer": {"from": "train", "size": 50},
    },
    "clients": {"models": [{"name": "mlp", "width": 8}], "local": {"epochs": 1}, "distill": {"epochs": 1}},
    "strategy": {"name": "knfu"},
    "participation": {"quorum": 2},
    "engine": {"kind": "board"},
}
CONTEXT = multiprocessing.get_context("forkserver")
PRELOADED = [
    "fedkt.deploy.coordinator.board_run",
    "fedkt.strategies.knfu",
    "fedkt.clients.logits",
    "torch._dynamo",
]


def serve(folder: Path, port: int) -> None:
    """Begin or continue the board that is killed."""
    scenario, keys = load(str(folder / "scenario.yaml")), folder / "keys"
    resume = is_run(folder / "run")
    board_run.LAST_S = 600.0  # the machine may be slow, and is told when all have heard
    board_run.run_board(scenario, folder / "run", f"127.0.0.1:{port}", keys=keys, sites=SITES, resume=resume)


def begun(folder: Path, port: int) -> Any:
    """Return a coordinator's process."""
    process = CONTEXT.Process(target=serve, args=(folder, port), daemon=True)
    process.start()
    return process


def prepared(folder: Path, described: dict[str, Any], port: int) -> list[Site]:
    """Write the scenario, the sites and their keys."""
    scenario = load(described)
    folder.mkdir()
    (folder / "scenario.yaml").write_text(json.dumps(described))
    sites = init_from_scenario(scenario, folder / "sites", None, f"127.0.0.1:{port}", None)
    (folder / "keys").mkdir()
    for site in sites:
        shutil.copy(site.folder / "node.pub", folder / "keys" / f"{site.file.name}.pub")
    return sites


class Sites(threading.Thread):
    """Visits in turn, until the board is over; ``made``: visits that their sites were told of."""

    def __init__(self, sites: Sequence[Site]) -> None:
        super().__init__(daemon=True)
        self.made, self._sites = 0, sites

    def run(self) -> None:
        """Visit."""
        visitors = [Visitor(site, again_s=0.02, say=lambda _: None) for site in self._sites]
        while all(self._made(visitor) for visitor in visitors):
            pass

    def _made(self, visitor: Visitor) -> bool:
        made = visitor.visit()
        self.made += made
        return made


def final(folder: Path) -> dict[str, bytes]:
    """Return every tensor of the board and of all sites at the end."""
    files = [max((folder / "run" / "checkpoint").glob("round-*.safetensors"))]
    for states in sorted(folder.glob("sites/*/state/runs/*/states/*")):
        files.append(max(states.glob("*.safetensors")))
    found: dict[str, bytes] = {}
    for file in files:
        tensors, _ = read_tensors(file)
        found |= {f"{file.parent.name}/{name}": t.numpy().tobytes() for name, t in tensors.items()}
    return found


def kills(count: int, seed: int) -> bool:
    """Kill ``count`` times; return whether nothing was lost."""
    draw, described = random.Random(seed), {**DESCRIBED, "rounds": count * VISITS_PER_KILL // SITES}
    CONTEXT.set_forkserver_preload(PRELOADED)
    with tempfile.TemporaryDirectory() as name:
        ends, killed, restarts = {}, 0, list[float]()
        for which in ("whole", "killed"):
            folder, port = Path(name) / which, free_port()
            sites = Sites(prepared(folder, described, port))
            process = begun(folder, port)
            sites.start()
            while which == "killed" and sites.is_alive() and killed < count:
                while sites.made < killed * VISITS_PER_KILL and sites.is_alive():
                    time.sleep(0.005)
                time.sleep(draw.uniform(0, 0.3))
                if not sites.is_alive():
                    break
                process.kill()
                process.join()
                killed += 1
                before, at = sites.made, time.monotonic()
                process = begun(folder, port)
                while sites.made == before and sites.is_alive():
                    time.sleep(0.005)
                restarts.append(time.monotonic() - at)
                print(f"kill {killed} after {before} visits", file=sys.stderr, flush=True)
            sites.join()
            process.kill()
            process.join()
            ends[which] = final(folder), sites.made
        rows = [json.loads(line) for line in (folder / "run" / "rounds.jsonl").read_text().splitlines()]
    visits = described["rounds"] * SITES
    counted = sum(row["replies"]["accepted"] for row in rows)
    same = ends["whole"] == ends["killed"]
    told = {"kills": killed, "visits": ends["killed"][1], "counted": counted, "same_end": same}
    told["next_visit_s"] = {"median": sorted(restarts)[len(restarts) // 2], "slowest": max(restarts)}
    tell(**told)
    return same and killed == count and counted == visits == ends["killed"][1]


def main() -> None:
    """Kill and go on."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    sys.exit(0 if kills(given.kills, given.seed) else 1)


if __name__ == "__main__":
    main()
