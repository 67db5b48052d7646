"""Audit private runs again and again: how often does the lower bound exceed the claim?

    FEDKT_DATA=<folder with mnist.npz> python -m benchmarks.audits --out FOLDER [--seeds 20] [--only digits]

KnFu under DP-SGD, epsilon 8 (and 1) at delta 1e-5, two rounds, 10 clients: MNIST with 1000 rows each, and
scikit-learn's digits with 110 each, which is all that it has. A perceptron, which is quick; the claim is of
the training, whatever the model. An audit that is in FOLDER already is not run again.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from fedkt import scenario
from fedkt.engine.audits.audited import audit_scenario

COMMON = (
    "privacy={mode: dpsgd, delta: 1e-5, target_epsilon: 8}",
    "clients.models=[mlp]",
    "clients.distill={epochs: 5}",
    "rounds=2",
)
DIGITS = (
    "data.dataset=digits",
    "data.partition.samples_per_client=110",
    "data.transfer.size=300",
    "clients.local={epochs: 20, batch_size: 110, optimizer: sgd, lr: 0.5}",
)
AUDITS: dict[str, tuple[tuple[str, ...], int]] = {
    # changes to private-mnist, and the number of canaries: all transfer rows
    "digits": (DIGITS, 300),
    "digits-none": ((*DIGITS, "privacy={mode: none}"), 300),
    "digits-1": ((*DIGITS, "privacy.target_epsilon=1"), 300),  # a claim that so few guesses can reach
    "mnist": (("clients.local={epochs: 3, batch_size: 100, optimizer: sgd, lr: 0.5}",), 2000),
}
WAYS = ("nothing", "released", "relative")
"""Of inferring label shares; the figures are total variations to the true ones."""


def one(name: str, seed: int, folder: Path) -> dict[str, Any]:
    """Return what an audit found, from its folder if it is there."""
    place = folder / f"{name}-{seed}"
    if not (place / "audit.json").is_file():
        changes, canaries = AUDITS[name]
        described = scenario.load("private-mnist", [*COMMON, *changes, f"seed={seed}"])
        audit_scenario(described, out=place, canaries=canaries)
    found: dict[str, Any] = json.loads((place / "audit.json").read_text())
    return found


def spread(values: list[float]) -> str:
    """Return mean and standard deviation as text."""
    return f"{np.mean(values):.3f} ± {np.std(values):.3f}"


def main() -> None:
    """Run what is missing and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audits", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--only", default=",".join(AUDITS))
    options = parser.parse_args()
    print(
        "| data | canaries | claim | bound: median | largest | could have shown | refuted | ROC-AUC "
        "| cooperative | labels: prior | mean prediction | beyond what all say |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    for name in options.only.split(","):
        found = [one(name, seed, options.out) for seed in range(options.seeds)]
        bounds = [audit["run"]["curve_epsilon_at_least"] for audit in found]
        claims = [audit["claimed_epsilon"] for audit in found]
        claim = "none" if None in claims else f"{min(claims):.2f} to {max(claims):.2f}"
        over = sum(bool(audit["run"]["refuted"]) for audit in found)
        auc = [audit["run"]["auc"] for audit in found]
        cells = [
            name,
            f"{AUDITS[name][1]}",
            claim,
            f"{np.median(bounds):.2f}",
            f"{max(bounds):.2f}",
            f"{found[0]['run']['curve_ceiling']:.2f}",
            f"{over} of {len(found)}",
            spread(auc),
            spread([audit["auc"]["cooperative"] for audit in found]),
            *(spread([audit["label_leak"][f"{way}_distance"] for audit in found]) for way in WAYS),
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
