"""A deployed federation for a long time, and against a bare Flower exchange of the same bytes.

    python -m benchmarks.soak_deploy --rounds 200     # soak: memory and file descriptors of every process
    python -m benchmarks.soak_deploy --compare 10     # seconds: bare Flower, fedkt, cold starts

Everything runs on this machine (:mod:`fedkt.deploy.rehearsal`): SuperLink with TLS and node keys, three
sites. The soak fails where a process has grown by more than 5 % between its second fifth and its last, or
has more open files. *Cold* is Flower's own client process on a plain ``flower-supernode``, *warm* is
``fedkt site run``.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fedkt import scenario as scenarios
from fedkt.deploy.coordinator.events import listen
from fedkt.deploy.rehearsal import LINK, Rehearsal, free_port
from fedkt.deploy.site import desk
from fedkt.deploy.site.setup import supernode_command
from fedkt.deploy.site.site_file import Site
from fedkt.results.folder import read_rows
from fedkt.scenario import Scenario

SCENARIO: dict[str, Any] = {
    "name": "soak",
    "data": {
        "partition": {"kind": "dirichlet", "alpha": 5, "clients": 3, "samples_per_client": 60},
        "transfer": {"from": "train", "size": 60},
    },
    "clients": {"models": [{"name": "mlp", "width": 16}], "local": {"epochs": 1}, "distill": {"epochs": 1}},
    "strategy": {"name": "knfu"},
    "participation": {"quorum": 2, "deadline_s": 120},
    "engine": {"kind": "inline"},
}
BARE_SERVER = """
import time
import numpy as np
from flwr.app import ArrayRecord, Message, RecordDict
from flwr.serverapp import ServerApp

app = ServerApp()


@app.main()
def main(grid, context):
    while len(nodes := list(grid.get_node_ids())) < 3:
        time.sleep(0.5)
    for round_ in range(ROUNDS + 1):
        begun = time.monotonic()
        for kind in ("train", "evaluate"):
            content = RecordDict({"k": ArrayRecord([np.zeros((60, 10), np.float32)])})
            waiting = set(grid.push_messages([Message(content, n, kind) for n in nodes]))
            while waiting:
                time.sleep(0.2)
                waiting -= {m.metadata.reply_to_message_id for m in grid.pull_messages(list(waiting))}
        took = time.monotonic() - begun
        print(f'fedkt-event {{"event": "bare", "seconds": {took}}}', flush=True)
"""
BARE_CLIENT = """
from flwr.app import Message
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message, context):
    return Message(message.content, reply_to=message)


@app.evaluate()
def evaluate(message, context):
    return Message(message.content, reply_to=message)
"""


class Plain(Rehearsal):
    """Sites on Flower's own ``flower-supernode``: client processes start cold, from the bundle."""

    def start_site(self, name: str, **environment: str) -> None:
        """Start the command that ``fedkt site init`` prints."""
        self.start(name, supernode_command(Site.load(self.sites[name]), free_port()), environment)


def sample(it: Rehearsal) -> dict[str, tuple[int, int]]:
    """Return resident bytes and open files of each process that lives all the time, by what it is."""
    found: dict[str, tuple[int, int]] = {}
    for name in it.processes:
        for pid in it.family(name):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
                pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
            except OSError:
                continue  # it ended meanwhile
            tool = next((Path(w).name for w in words if Path(w).name.startswith(("flower-", "fedkt"))), "")
            kind = tool if tool != "fedkt.deploy.site.warm" else "warm"
            if tool and not (kind == "warm" and (f"{name} warm" in found)):
                found[f"{name} {kind}"] = (pages * os.sysconf("SC_PAGE_SIZE"), files)
    return found


def growth(samples: list[dict[str, tuple[int, int]]]) -> dict[str, tuple[float, int]]:
    """Return the growth of memory (a share) and of open files, by process: second fifth to last fifth.

    Medians of memory; of open files the least, since connections come and go and what leaks stays.
    """
    part = max(1, len(samples) // 5)
    first, last = samples[part : 2 * part], samples[-part:]
    found = {}
    for name in last[-1]:
        if all(name in one for one in first + last):
            memory = [statistics.median(one[name][0] for one in group) for group in (first, last)]
            files = [min(one[name][1] for one in group) for group in (first, last)]
            found[name] = (memory[1] / memory[0] - 1, files[1] - files[0])
    return found


def soak(folder: Path, rounds: int, limit_s: float) -> dict[str, Any]:
    """Run so many rounds, at most for so long; return the growth and what became of the replies."""
    with Rehearsal(scenarios.from_dict(SCENARIO | {"rounds": rounds}), folder) as it:
        (folder / "soak.yaml").write_text(scenarios.dump(scenarios.from_dict(SCENARIO | {"rounds": rounds})))
        out = folder / "run"
        command = it.submit_command(folder / "soak.yaml", "--sites", "3", "--wait", "300", "--out", str(out))
        submit = subprocess.Popen(command, env=it.environment, stdout=subprocess.DEVNULL)
        samples: list[dict[str, tuple[int, int]]] = []
        seen, end = 0, time.monotonic() + limit_s
        try:
            while submit.poll() is None and time.monotonic() < end:
                time.sleep(1)
                done = len(read_rows(out / "rounds.jsonl"))
                if done > seen:
                    seen = done
                    samples.append(sample(it))
        finally:
            submit.terminate()
            submit.wait()
        rows = read_rows(out / "rounds.jsonl")
    return {
        "rounds": len(rows),
        "seconds_per_round": statistics.median(row["wall_s"] for row in rows),
        "replies": {key: sum(row["replies"][key] for row in rows) for key in rows[0]["replies"]},
        "growth": growth(samples),
    }


def compare(folder: Path, rounds: int) -> dict[str, tuple[float, float, float]]:
    """Return median, least and most seconds: per round, bare and with fedkt, and of a cold client process."""
    scenario = scenarios.from_dict(SCENARIO | {"rounds": rounds})
    found: dict[str, list[float]] = {}
    with Plain(scenario, folder / "plain") as it:
        found["bare round"] = bare_rounds(it, rounds)
        found["round, plain flower-supernode"] = fedkt_rounds(it, scenario)
        found["cold start, three at once"] = starts(it)
    with Rehearsal(scenario, folder / "warm") as it:
        found["round, fedkt site run"] = fedkt_rounds(it, scenario)
    one = SCENARIO["data"]["partition"] | {"clients": 1}
    alone = SCENARIO | {"rounds": rounds, "participation": {"quorum": 1, "deadline_s": 120}}
    alone["data"] = SCENARIO["data"] | {"partition": one}
    private = {"mode": "dpsgd", "noise_multiplier": 1.0, "delta": 1e-3, "max_epsilon": 1000.0}
    for name, privacy in (("alone", {"mode": "none"}), ("alone, dpsgd", private)):
        scenario = scenarios.from_dict(alone | {"privacy": privacy})
        with Plain(scenario, folder / name.replace(", ", "-")) as it:
            fedkt_rounds(it, scenario, sites=1)
            found[f"cold start, {name}"] = starts(it)
    return {k: (round(statistics.median(v), 2), round(min(v), 2), round(max(v), 2)) for k, v in found.items()}


def starts(it: Rehearsal) -> list[float]:
    """Return the seconds from a client process's start to its answer of a training message."""
    lines = [line for site in it.sites.values() for line in desk.log_lines(site / "state", 10_000)]
    return [line["process_s"] for line in lines if line.get("stage") == "train"]


def bare_rounds(it: Rehearsal, rounds: int) -> list[float]:
    """Run a Flower app that does nothing with the same bytes; return the seconds of each round."""
    from flwr.cli.build import build_fab_from_files

    pyproject = (
        '[project]\nname = "bare"\nversion = "1.0.0"\ndescription = "Nothing."\n'
        'license = { text = "Apache-2.0" }\n'
        '[tool.flwr.app]\npublisher = "fedkt"\n[tool.flwr.app.components]\nserverapp = "bare.server:app"\n'
        'clientapp = "bare.client:app"\n[tool.flwr.app.config]\n'
    )
    files = {
        "pyproject.toml": pyproject.encode(),
        "bare/__init__.py": b"",
        "bare/server.py": BARE_SERVER.replace("ROUNDS", str(rounds)).encode(),
        "bare/client.py": BARE_CLIENT.encode(),
    }
    bundle, _ = build_fab_from_files(files)
    os.environ["FLWR_HOME"] = it.environment["FLWR_HOME"]
    from fedkt.deploy.wire.flwr_control import Control

    control = Control("rehearsal")
    output = control.output(control.start(bundle, hashlib.sha256(bundle).hexdigest()))
    seconds = [e["seconds"] for e in listen(output) if isinstance(e, dict) and e["event"] == "bare"]
    control.close()
    return seconds[1:]  # the first one also waits for the SuperNodes to fetch the app


def fedkt_rounds(it: Rehearsal, scenario: Scenario, sites: int = 3) -> list[float]:
    """Run the scenario; return the seconds of each round."""
    (it.folder / "scenario.yaml").write_text(scenarios.dump(scenario))
    out = it.folder / "run"
    done = it.submit("scenario.yaml", "--sites", str(sites), "--wait", "300", "--out", str(out), timeout=3600)
    if done.returncode:
        raise SystemExit(done.stderr + it.log(LINK)[-1000:])
    return [row["wall_s"] for row in read_rows(out / "rounds.jsonl")]


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--limit", type=float, default=7200, help="seconds after which the soak ends early")
    parser.add_argument("--compare", type=int, metavar="ROUNDS")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fedkt-soak-") as folder:
        if given.compare:
            print(json.dumps(compare(Path(folder), given.compare), indent=1))
            return
        result = soak(Path(folder) / "it", given.rounds, given.limit)
    print(json.dumps(result, indent=1))
    grown = {name: found for name, found in result["growth"].items() if found[0] > 0.05 or found[1] > 0}
    sys.exit(1 if grown else 0)


if __name__ == "__main__":
    main()
