"""How soon the alarm of drift is given after a shift, and how often where there is none.

    python -m benchmarks.drift [--seeds 3] [--out FOLDER]

Runs ``scenarios/drift-digits.yaml`` (200 rounds, two of six sites shift after round 100), and the same
without a shift. A false alarm is one of a site that did not shift, or of one that did before it did; beside
it stands the number of site-rounds in which one could be given. Prints one line of JSON.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import fedkt
from benchmarks.reliability import tell

SITES, SHIFTED, AFTER = 6, ("0", "1"), 100
NOBODY = {str(site): [0] for site in range(SITES)}


def drift(seed: int, out: Path, changes: list[str]) -> dict[str, Any]:
    """Return what ``drift.json`` of a run with a seed has; it is made unless it is there already."""
    if not (out / "summary.json").is_file():
        fedkt.simulate("drift-digits", [f"seed={seed}", "engine.kind=inline", *changes], out=out)
    return dict(json.loads((out / "drift.json").read_text()))


def alarms(told: dict[str, Any]) -> list[tuple[str, int]]:
    """Return all alarms as site and round."""
    return [(site, number) for site, its in told["clients"].items() for number in its["alarms"]]


def chances(told: dict[str, Any], sites: list[str], until: int) -> int:
    """Return in how many site-rounds up to a round these sites could have given a false alarm."""
    window = told["rule"]["window"]
    return sum(max(0, sum(n <= until for n in told["clients"][site]["rounds"]) - window) for site in sites)


def stood(told: dict[str, Any], when: str, model: str) -> float:
    """Return the mean over shifted sites of a model's accuracy on their rows of ``now`` or ``then``."""
    found = [told["clients"][site].get(when) for site in SHIFTED]
    return statistics.fmean(
        (its["newest"] if model == "newest" else its["older"][model])["accuracy"] for its in found if its
    )


def main() -> None:
    """Run, count, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/drift-digits"))
    given = parser.parse_args()
    others = [str(site) for site in range(SITES) if str(site) not in SHIFTED]
    delays, missed, wrong, wrong_without, could, could_without = list[int](), 0, 0, 0, 0, 0
    stands: dict[str, list[float]] = {}
    for seed in range(given.seeds):
        told = drift(seed, given.out / f"shift-{seed}", [])
        without = drift(seed, given.out / f"none-{seed}", [f"data.tasks.order={json.dumps(NOBODY)}"])
        for site in SHIFTED:
            after = [number - AFTER for s, number in alarms(told) if s == site and number > AFTER]
            missed += not after
            delays += after[:1]
        wrong += sum(site not in SHIFTED or number <= AFTER for site, number in alarms(told))
        could += chances(told, others, 10**9) + chances(told, list(SHIFTED), AFTER)
        wrong_without += len(alarms(without))
        could_without += chances(without, list(NOBODY), 10**9)
        for when, model in (("then", "100"), ("then", "newest"), ("now", "100"), ("now", "newest")):
            stands.setdefault(f"{when}_{model}", []).append(stood(told, when, model))
        print(seed, alarms(told), alarms(without), file=sys.stderr, flush=True)
    tell(
        delays_in_rounds=delays,
        missed=missed,
        false_alarms={
            "with_a_shift": wrong,
            "of": could,
            "without": wrong_without,
            "of_without": could_without,
        },
        **{k: f"{statistics.fmean(v):.3f} ± {statistics.pstdev(v):.3f}" for k, v in stands.items()},
    )


if __name__ == "__main__":
    main()
