"""Estimators as clients: what fusing brings four hospitals with four kinds of model, and what a round costs.

    python -m benchmarks.estimators [heart] [round] [state] [--seeds 0-9]

``heart`` (``$FEDKT_DATA``): the scenario heart-disease-kinds beside training alone: AUC on all hospitals'
patients and accuracy on one's own, gains as mean ± standard error over seeds. ``round``: four estimators of
scikit-learn on 1000 rows x 20 columns each with 500 transfer rows: the time of a whole round over that of the
four refits alone, the best of three. ``state``: how long the state of a forest of 1000 trees takes to write.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import fedkt
from fedkt.files import write_tensors

ROWS, COLUMNS, TRANSFER = 1000, 20, 500
KINDS = (
    {"name": "sklearn", "estimator": "LogisticRegression"},
    {"name": "sklearn", "estimator": "RandomForestClassifier"},
    {"name": "sklearn", "estimator": "HistGradientBoostingClassifier"},
    {"name": "sklearn", "estimator": "MLPClassifier"},
)
ROUNDS, REPEATS = 4, 3


def made() -> tuple[Any, Any, Any]:
    """Return rows, labels and sites of four parties, and rows to hold out as transfer rows."""
    stream = np.random.default_rng(0)
    x = stream.normal(size=(4 * ROWS + TRANSFER, COLUMNS)).astype(np.float32)
    y = (x[:, 0] + x[:, 1] ** 2 + stream.normal(size=len(x)) > 1).astype(int)
    return x, y, np.array([f"site{i % 4}" for i in range(len(x))])


def gains(seeds: list[int]) -> None:
    """Print what fusing brings each hospital."""
    found: dict[str, list[Any]] = {"local": [], "dwc": []}
    for seed in seeds:
        for name, runs in found.items():
            clients = fedkt.simulate("heart-disease-kinds", strategy=name, seed=seed).clients
            runs.append(clients[clients["round"] == clients["round"].max()].set_index("client"))
    pairs = list(zip(found["dwc"], found["local"], strict=True))
    auc = [100 * (one["global_auc"] - two["global_auc"]).mean() for one, two in pairs]
    alone = 100 * np.mean([two["global_auc"].mean() for two in found["local"]])
    better = sum(gain > 0 for gain in auc)
    print(f"AUC on all patients: alone {alone:.1f}, fused {said(auc)}, better in {better} of {len(auc)}")
    for hospital in pairs[0][0].index:
        before = 100 * np.mean([two["global_auc"][hospital] for _, two in pairs])
        gained = {
            figure: [100 * (one[figure][hospital] - two[figure][hospital]) for one, two in pairs]
            for figure in ("global_auc", "personal")
        }
        print(
            f"{hospital}: AUC on all patients {before:.1f} alone, {said(gained['global_auc'])}; "
            f"accuracy on its own {said(gained['personal'])}"
        )


def said(values: list[float]) -> str:
    """Return mean ± standard error of gains."""
    error = np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{np.mean(values):+.1f} ± {error:.1f}"


def a_round() -> None:
    """Print the time of a round over the time of its refits."""
    from fedkt.models import estimator

    refits: list[float] = []
    plain = getattr(estimator, "refit")  # noqa: B009 (what the module imports, as it calls it)

    def timed(*args: Any) -> Any:
        begun = time.perf_counter()
        fitted = plain(*args)
        refits.append(time.perf_counter() - begun)
        return fitted

    vars(estimator)["refit"] = timed
    ratios = []
    for seed in range(REPEATS):
        refits.clear()
        x, y, sites = made()
        ran = fedkt.simulate(
            {
                "name": "round",
                "data": {"transfer": {"from": "train", "size": TRANSFER}, "partition": {"kind": "domain"}},
                "clients": {"models": list(KINDS)},
                "strategy": "fedmd",
                "rounds": ROUNDS,
                "engine": {"kind": "inline"},
            },
            data=(x, y),
            sites=sites,
            seed=seed,
        )
        whole = ran.rounds["wall_s"].to_numpy()[1:].sum()
        alone = sum(refits[-4 * (ROUNDS - 1) :])
        ratios.append(whole / alone)
        print(f"rounds 2 to {ROUNDS}: {whole:.2f} s, their refits {alone:.2f} s: {whole / alone:.3f}")
    print(f"the best of {REPEATS}: {min(ratios):.3f}")


def state() -> None:
    """Print how long a forest of 1000 trees takes to become bytes, and these to be on disk."""
    import torch

    from fedkt.data.sets.dataset import InputSpec
    from fedkt.models import build

    spec = {"name": "sklearn", "estimator": "RandomForestClassifier", "n_estimators": 1000}
    net: Any = build(spec, InputSpec("tabular", (COLUMNS,)), 2, 0)
    x, y, _ = made()
    x, q = x[:ROWS], np.eye(2)[y[:ROWS]]
    fitted = net.head.estimator
    from fedkt.models.estimators.refit import refit

    forest = refit(fitted, x, q, np.ones(ROWS), 0)
    for _ in range(REPEATS):
        begun = time.perf_counter()
        held = fitted.write(forest.model)
        wrote = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            tensors = {name: torch.from_numpy(part.copy()) for name, part in held.items()}
            write_tensors(Path(folder) / "state.safetensors", tensors, {})
        done = time.perf_counter()
        size = sum(len(part) for part in held.values()) / 2**20
        print(
            f"1000 trees, {size:.0f} MiB: bytes in {wrote - begun:.2f} s, on disk {done - wrote:.2f} s later"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", default=["heart", "round", "state"])
    parser.add_argument("--seeds", default="0-9", help="such as 0-9 or 3")
    asked = parser.parse_args()
    first, _, last = asked.seeds.partition("-")
    parts = {
        "heart": lambda: gains(list(range(int(first), int(last or first) + 1))),
        "round": a_round,
        "state": state,
    }
    for part in asked.parts:
        parts[part]()


if __name__ == "__main__":
    main()
