"""Kill a party with SIGKILL at random instants of reserve, train, release: the ledger must never say less
than what was touched, and a repeated request must cost nothing.

    python -m benchmarks.ledger [--kills 200]

The party is a forked process. It notes in a file of its own, after each reservation and before each answer,
what it does; the parent kills it, starts it again on the same ledger and compares.
"""

import argparse
import json
import multiprocessing
import os
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedkt.privacy.accounting import Event
from fedkt.privacy.ledger import Ledger, Purpose

STEP = Event("gauss", "record", 50.0, 0.1, 20)


@dataclass(frozen=True)
class Found:
    """``touched``: how often data were touched; ``recorded``: how often the ledger says so."""

    touched: int
    recorded: int
    answered: int
    charged_once: bool


def work(folder: Path) -> None:
    """Be a party: answer rounds 1, 2, 3, … each asked for twice, noting every step."""
    ledger = Ledger(folder / "ledger")
    log = os.open(folder / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    number = 1 + sum(entry["state"] == "released" for entry in ledger.entries())
    os.write(log, b"ready\n")
    while True:
        purpose = Purpose("run", number, "train")
        if ledger.released(purpose) is None:
            ledger.reserve(purpose, [STEP], delta=1e-5, unit="record", change="zeroed out", most=1e9)
            os.write(log, b"touched %d\n" % number)  # from here on private data are read
            values = np.random.default_rng().normal(size=2000).astype(np.float32)
            ledger.release(purpose, {"values": values})
        first = ledger.released(purpose)
        assert first is not None
        os.write(log, b"answered %d %d\n" % (number, hash(first["values"].tobytes())))
        number += 1


def kill(folder: Path, after_s: float) -> Found:
    """Start a party, kill it after a while, and compare what it did with what its ledger says."""
    import opacus.accountants  # noqa: F401 (once, here, instead of in every party)

    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log"
    ready = log.read_text().count("ready") if log.exists() else 0
    party = multiprocessing.get_context("fork").Process(target=work, args=(folder,))
    party.start()
    try:
        while not log.exists() or log.read_text().count("ready") == ready:
            if not party.is_alive():
                raise RuntimeError("the party did not start")
            time.sleep(0.001)
        time.sleep(after_s)
    finally:
        party.kill()
        party.join()
    return compare(folder)


def compare(folder: Path) -> Found:
    """Compare a party's own notes with its ledger."""
    lines = [line.split() for line in (folder / "log").read_text().splitlines(keepends=False)]
    entries = Ledger(folder / "ledger").entries()
    reserved = [entry["round"] for entry in entries if entry["state"] == "reserved"]
    released = [entry["round"] for entry in entries if entry["state"] == "released"]
    touched = [line[1] for line in lines if line[0] == "touched"]
    answered = {line[1] for line in lines if line[0] == "answered"}
    once = len(released) == len(set(released)) and answered <= {str(number) for number in released}
    return Found(len(touched), len(reserved), len(answered), once)


def main() -> None:
    """Kill a party many times, always on the same ledger, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    args = parser.parse_args()
    wrong, found = 0, Found(0, 0, 0, True)
    with tempfile.TemporaryDirectory() as name:
        for i in range(args.kills):
            # A fresh ledger now and then, so that reading it does not grow into the time to kill.
            folder = Path(name) / str(i // 10)
            found = kill(folder, random.SystemRandom().uniform(0, 0.1))
            wrong += not (found.recorded >= found.touched and found.charged_once)
    print(json.dumps({"kills": args.kills, "wrong": wrong, "last": found.__dict__}))
    if wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
