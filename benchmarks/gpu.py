"""Compare on one accelerator: ``python -m benchmarks.gpu``, for docs/performance.md; ends within 8 minutes.

The CNN and a ResNet-8, 100 clients a round: a plain loop, Flower's runtime with 16 actors that share the
device, and fedkt. Each program runs in a process of its own while the device is watched (``nvidia-smi``,
where it is there); one that would take too long is stopped and said to be.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from benchmarks.engine import work

A_ROUND, ROUNDS, ACTORS = 100, 3, 16
MINUTES = 8.0
WATCH_MS = 200

Job = tuple[str, Mapping[str, Any]]
Runner = Callable[[Job, float], Sequence[float] | None]
"""Runs a program for so many seconds at most; returns those of its rounds, None where that is not enough."""


def jobs(kind: str, device: str, a_round: int = A_ROUND, rounds: int = ROUNDS) -> dict[str, Job]:
    """Return the programs to compare on one model, by what they are called."""
    both = {"kind": kind, "a_round": a_round, "rounds": rounds}
    # One process, which sees the whole device: its clients are stacked as far as memory goes.
    engine = {"kind": "inline", "device": device}
    return {
        "plain loop": ("loop", {**both, "device": device}),
        f"Flower's runtime, {ACTORS} actors": ("flower", {**both, "device": device, "actors": ACTORS}),
        "fedkt, fedavg": ("fedkt_training", {**both, "strategy": "fedavg", "engine": engine}),
        "fedkt, fd": ("fedkt_training", {**both, "strategy": "fd", "engine": engine}),
    }


class Device:
    """Watches how busy the device is and how much of its memory is taken, by what its driver tells."""

    def __init__(self) -> None:
        self._tool = shutil.which("nvidia-smi")
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "Device":
        if self._tool is not None:
            asked = "--query-gpu=utilization.gpu,memory.used"
            command = [self._tool, asked, "--format=csv,noheader,nounits", f"--loop-ms={WATCH_MS}", "--id=0"]
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *ended: object) -> None:
        self.busy: float | None = None
        self.gib: float | None = None
        if self._process is None:
            return
        self._process.terminate()
        lines = self._process.communicate()[0].splitlines()
        seen = [[float(part) for part in line.split(",")] for line in lines if line.count(",") == 1]
        if seen:
            # The highest half: start and end of a program are not its rounds.
            shares = sorted(share for share, _ in seen)
            self.busy = statistics.fmean(shares[len(shares) // 2 :])
            self.gib = max(taken for _, taken in seen) / 1024


def apart(job: Job, seconds: float) -> Sequence[float] | None:
    """Run a program in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.engine", "--program", json.dumps(job)]
    environment = {**os.environ, "FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            out, told = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            return None
    if process.returncode:
        raise SystemExit(f"{job} failed:\n{told[-4000:]}")
    found: list[float] = json.loads(out.strip().splitlines()[-1])
    return found


def compare(kinds: Sequence[str], device: str, run: Runner = apart, **sizes: int) -> None:
    """Run all programs on all models and print a table of each; the time that is left is shared out."""
    end = time.monotonic() + 60 * MINUTES
    left = [(kind, name, job) for kind in kinds for name, job in jobs(kind, device, **sizes).items()]
    for kind in kinds:
        rows: list[tuple[str, str, Device]] = []
        base = 0.0
        while left and left[0][0] == kind:
            share = max(0.0, end - time.monotonic()) / len(left)
            _, name, job = left.pop(0)
            with Device() as watched:
                taken = run(job, share)
            if taken is None:
                rows.append((name, f"over {share:.0f} s | ", watched))
                continue
            middle = statistics.median(taken)
            base = base or middle
            rows.append((name, f"{1e3 * middle:.1f} | {base / middle:.2f}", watched))
        print(f"\n{kind}, {sizes.get('a_round', A_ROUND)} clients a round, {work.ROWS} rows each\n")
        print(
            "| program | ms a round | times the plain loop | busy, % | memory, GiB |\n|---|---|---|---|---|"
        )
        for name, cells, watched in rows:
            print(f"| {name} | {cells} | {told(watched.busy)} | {told(watched.gib)} |", flush=True)


def told(value: float | None) -> str:
    """Return a number, or that nobody tells it."""
    return "not told" if value is None else f"{value:.1f}"


def main() -> None:
    """Compare on this machine's accelerator; end with status 2 where there is none."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--only", default="cnn,resnet8", help="of cnn, resnet8, mlp")
    options = parser.parse_args()
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if found is None:
        print("this machine has no accelerator that PyTorch can use; nothing was measured.", file=sys.stderr)
        sys.exit(2)
    compare(options.only.split(","), found.type)


if __name__ == "__main__":
    main()
