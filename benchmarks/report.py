"""How long the report of a large comparison takes, and how large it gets.

    python -m benchmarks.report [--out FOLDER]

The comparison is made up: 5 scenarios, 8 strategies, 5 seeds (200 runs) of 100 rounds over 50 clients, with
lines as the engine writes them: accuracies and losses of every client, KnFu's weights between clients, and
which class is taken for which.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from fedkt import scenario as scenarios
from fedkt.files import write_json
from fedkt.results.comparison.frames import Comparison
from fedkt.results.report import write_report

SCENARIOS, SEEDS, ROUNDS, CLIENTS = 5, 5, 100, 50
STRATEGIES = ("local", "knfu", "fedmd", "dsfl", "fd", "fedproto", "fedtgp", "central")


def make(folder: Path) -> None:
    """Write the comparison."""
    cells: list[dict[str, Any]] = []
    for place in range(SCENARIOS):
        for method, strategy in enumerate(STRATEGIES):
            for seed in range(SEEDS):
                name = f"made-up-{place}"
                path = f"cells/{name}/{strategy}/default/{seed}"
                cells.append(
                    {"scenario": name, "method": strategy, "strategy": strategy, "condition": {}, "tried": {}}
                    | {"seed": seed, "path": path, "status": "finished", "error": None}
                )
                _run(folder / path, name, strategy, seed, np.random.default_rng([place, method, seed]))
    write_json(folder / "comparison.json", {"command": ["fedkt", "compare"], "cells": cells})


def _run(folder: Path, name: str, strategy: str, seed: int, rng: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    resolved = scenarios.load({"name": name, "strategy": {"name": strategy}, "rounds": ROUNDS, "seed": seed})
    (folder / "scenario.yaml").write_text(scenarios.dump(resolved))
    write_json(folder / "environment.json", {"run": "0" * 32, "versions": {}, "command": ["fedkt"]})
    parties = [
        {"client": str(k), "domain": None, "model": "mlp", "rows": rng.integers(0, 60, 10).tolist()}
        for k in range(CLIENTS)
    ]
    message = {"up": {"values": 40_000}, "down": {"values": 40_000}}
    about = {"classes": 10, "clients": parties, "transfer": {"rows": 1000, "sha256": "0" * 64}}
    write_json(folder / "federation.json", about | {"shares": ["knowledge"], "message": message})
    curve = 0.9 - 0.6 * np.exp(-np.arange(1, ROUNDS + 1) / rng.uniform(8, 25))
    personal = np.clip(curve[:, None] + rng.normal(0, 0.04, (ROUNDS, CLIENTS)), 0, 1)
    common = personal - 0.1
    size = {"up": 40_000 * CLIENTS, "down": 40_000 * CLIENTS}
    replies = {"accepted": CLIENTS, "rejected": 0, "late": 0, "declined": 0, "failed": 0}
    accuracy: dict[str, Any] = {}
    loss = 2.3 * np.exp(-np.arange(1, ROUNDS + 1)[:, None] / rng.uniform(8, 25, CLIENTS))
    with open(folder / "losses.jsonl", "w") as losses:
        for i, k in np.ndindex(loss.shape):
            line = {"round": i + 1, "client": k, "train": loss[i, k], "distill": loss[i, k] / 3}
            losses.write(json.dumps(line) + "\n")
    confusion = {"round": ROUNDS, "rows": "global", "clients": CLIENTS}
    write_json(folder / "confusion.json", confusion | {"counts": rng.integers(0, 999, (10, 10)).tolist()})
    write_json(folder / "model-input.json", {"labels": [f"class {k}" for k in range(10)]})
    with open(folder / "rounds.jsonl", "w") as rounds, open(folder / "clients.jsonl", "w") as clients:
        for i in range(ROUNDS):
            accuracy = {"global_mean": common[i].mean(), "global_std": common[i].std()}
            accuracy |= {"personal_mean": personal[i].mean(), "personal_std": personal[i].std()}
            report = {}
            if strategy == "knfu":
                weights = rng.dirichlet(np.ones(CLIENTS), CLIENTS)
                report = {"clients": [str(k) for k in range(CLIENTS)], "weights": weights.tolist()}
            row = {"round": i + 1, "status": "fused", "accuracy": accuracy, "bytes": size, "replies": replies}
            mean = float(loss[i].mean())
            row |= {"loss": {"train": mean, "distill": mean / 3}, "wall_s": 1.2345, "report": report}
            rounds.write(json.dumps(row) + "\n")
            for k in range(CLIENTS):
                line = {"round": i + 1, "client": k, "status": "accepted", "reason": "", "detail": ""}
                line |= {"global": common[i, k], "personal": personal[i, k], "before_digest": common[i, k]}
                line |= {"bytes": {"up": 40_000, "down": 40_000}, "epsilon": None}
                clients.write(json.dumps(line | {"global_balanced": common[i, k]}) + "\n")
    total = {way: count * ROUNDS for way, count in size.items()}
    summary = {"scenario": name, "strategy": strategy, "engine": "inline", "seed": seed, "rounds": ROUNDS}
    summary |= {"clients": CLIENTS, "accuracy": accuracy, "bytes": total, "replies": replies}
    summary |= {"privacy": {"mode": "none", "epsilon": None, "delta": None, "statement": "No guarantee."}}
    time_ = {"wall_s": 123.45, "client_updates": CLIENTS * ROUNDS, "client_updates_per_s": 40.5}
    write_json(folder / "summary.json", summary | {"time": time_})


def main() -> None:
    """Make the comparison where it is missing, write its report, and print seconds and size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    out = parser.parse_args().out or Path(tempfile.mkdtemp()) / "comparison"
    if not (out / "comparison.json").exists():
        make(out)
    begun, used = time.monotonic(), time.process_time()
    page = write_report(Comparison.read(out))
    seconds, processor = time.monotonic() - begun, time.process_time() - used
    print(
        f"{seconds:.1f} s ({processor:.1f} s of processor time), {page.stat().st_size / 1e6:.2f} MB: {page}"
    )


if __name__ == "__main__":
    main()
