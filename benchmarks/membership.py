"""Whether answers about made rows say less of who was trained on than answers about the records themselves.

    python -m benchmarks.membership [--seeds 0 1 2] [--canaries 200]

As in ``fedkt audit``, a coin decides for each of the canaries, real digits with labels drawn at random,
whether the first client trains on it. *Asked itself*: the transfer set holds the canaries, which is what a
server that sends rows can do. *Made rows*: the transfer set is ``made:shapes``, and the attack looks at the
answers about the made rows that are nearest to each canary. The score is how much surer of the planted label
the client is than the others are, on average over rounds; 0.5 is the area under the curve of who guesses.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from fedkt import data, scenario
from fedkt.client.state import DiskStore, MemoryStore
from fedkt.data import Federation
from fedkt.engine.audits import audited
from fedkt.engine.audits.released import Reader
from fedkt.engine.checks.checked import checked_world
from fedkt.files import write_json
from fedkt.privacy.attacks import audit
from fedkt.privacy.attacks.scores import margins
from fedkt.results.folder import RunFolder
from fedkt.results.observer import Silent

NEAREST = 5
BASE = (
    "strategy={name: fedmd, average: probabilities}",
    "engine={kind: inline, cohort: 'off'}",
    "evaluate.every=10",
)


def area(seed: int, canaries: int, made: bool) -> float:
    """Return the area under the attack's ROC curve in one run."""
    real = scenario.load("quickstart", [*BASE, f"seed={seed}"])
    federation = data.build(real)
    assert federation.transfer is not None
    records = federation.transfer.x[:canaries]
    planted, labels, members = audited.plant(federation, canaries)
    nearest = np.arange(canaries)[:, None]
    told = real
    if made:
        told = scenario.load(
            "quickstart", [*BASE, f"seed={seed}", "data.transfer={from: 'made:shapes', size: 300}"]
        )
        other = data.build(told)
        assert other.transfer is not None
        planted = _about(planted, other)
        rows = other.transfer.x.reshape(len(other.transfer), -1) / 255
        apart = np.square(records.reshape(canaries, 1, -1) - rows[None]).sum(-1)
        nearest = np.argsort(apart, axis=1)[:, :NEAREST]
    world = checked_world(told, None, planted)
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder.create(Path(folder) / "run", world.scenario, resume=False)
        try:
            store = MemoryStore(DiskStore(run.checkpoint / "clients"))
            reader = Reader(world, store, federation.shards[0].id, labels, len(federation.shards[0].rows))
            seen, _ = audited.watched_run(world, store, run, Silent(), reader)
        finally:
            run.close()
    score = np.zeros(canaries)
    for one in seen:
        assert one.answers is not None
        clients, values = one.clients, one.answers.values
        sure = np.stack(
            [
                np.mean([margins(said[nearest[:, n]], labels) for n in range(nearest.shape[1])], axis=0)
                for said in values
            ]
        )
        own = clients.index(federation.shards[0].id)
        score += sure[own] - np.delete(sure, own, 0).mean(0)
    return float(audit.judge(score, members, audited.NO_DELTA).auc)


def _about(planted: Federation, other: Federation) -> Federation:
    """Return a federation that talks about another one's transfer set."""
    return replace(
        planted,
        transfer=other.transfer,
        transfer_hash=other.transfer_hash,
        transfer_labels=None,
        stock=other.stock,
        _kept={},
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the areas of each kind, seed by seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--canaries", type=int, default=200)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args(arguments)
    found = {}
    for name, made in (("asked itself", False), ("made rows", True)):
        areas = [area(seed, asked.canaries, made) for seed in asked.seeds]
        found[name] = areas
        print(f"{name}: AUC {np.mean(areas):.3f} ± {np.std(areas, ddof=1):.3f} ({areas})", flush=True)
    if asked.out is not None:
        write_json(asked.out, found)


if __name__ == "__main__":
    main()
