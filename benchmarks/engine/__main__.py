"""Compare: ``python -m benchmarks.engine [--only cnn,mlp,...] [--repeats 3]``.

Programs of one piece of work run one after the other, again and again, each in a process of its own, since
the speed of a shared machine drifts. Printed are the medians over repeats of each program's median round,
their range, and ratios. pfl is among them where it is installed (``pip install pfl multiprocess``, beside
or into another environment: it asks for an older dp-accounting than fedkt).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.engine import peer, programs, work
from fedkt.deploy.rehearsal import descendants

Programs = Mapping[str, tuple[str, Mapping[str, Any]]]
TRAINING: Programs = {
    "plain loop, one thread": ("loop", {}),
    "two bare processes": ("processes", {}),
    "Flower's runtime, FedAvg": ("flower", {}),
    "fedkt, fedavg": ("fedkt_training", {"strategy": "fedavg"}),
    "fedkt, fd": ("fedkt_training", {"strategy": "fd"}),
    "fedkt, fd, on Ray": ("fedkt_training", {"strategy": "fd", "engine": {"kind": "ray", "workers": 2}}),
    **({"pfl, one thread": ("pfl", {})} if peer.installed() else {}),
}
READY: Programs = {"Flower's runtime": ("ready_flower", {}), "fedkt": ("ready_fedkt", {})}
MANY: Programs = {
    f"{n} clients a round": ("many", {"clients": n, "a_round": n, "engine": {}}) for n in (250, 500, 1000)
}
REGISTERED = {
    f"{n} registered, 100 a round": (
        "many",
        {"clients": n, "a_round": 100, "engine": {"memory_limit": "256MiB"}, "rounds": 8},
    )
    for n in (200, 10_000)
}
LARGE = {
    f"{n} registered, 100 a round": (
        "many",
        {"clients": n, "a_round": 100, "engine": {"memory_limit": "256MiB"}, "rounds": 8, "rows": 5},
    )
    for n in (200, 100_000)
}
"""As REGISTERED, with 5 rows a client, since each of 100 000 has its own."""
PARTS = ("ready", "cnn", "mlp", "many", "registered", "large", "fusion")
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0"}


def main() -> None:
    """Run what was asked for and print tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--program", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.program:
        name, settings = json.loads(options.program)
        print("\n" + json.dumps(getattr(programs, name)(**settings)))
        return
    chosen = options.only.split(",")
    for kind in ("cnn", "mlp"):
        if kind in chosen:
            jobs = {name: (program, {"kind": kind, **more}) for name, (program, more) in TRAINING.items()}
            table(f"{kind}, {work.A_ROUND} clients a round, {work.ROWS} rows each", jobs, options.repeats)
    if "ready" in chosen:
        table("the engine alone: 20 ready matrices 1000 x 10 up, teachers down", READY, options.repeats)
    if "many" in chosen:
        table("perceptron 64-64-10, trained, fused (fedmd), distilled", MANY, options.repeats)
    if "registered" in chosen:
        table("perceptron 64-64-10, states limited to 256 MiB", REGISTERED, 1)
    if "large" in chosen:
        table("perceptron 64-64-10, 5 rows a client, states limited to 256 MiB", LARGE, 1)
    if "fusion" in chosen:
        fusion()


def table(title: str, jobs: Mapping[str, tuple[str, Any]], repeats: int) -> None:
    """Run programs in turn; print the median and range of their median rounds, and the largest memory."""
    found: dict[str, list[float]] = {name: [] for name in jobs}
    memory: dict[str, float] = dict.fromkeys(jobs, 0.0)
    for _ in range(repeats):
        for name, job in jobs.items():
            seconds, peak = measured(job)
            found[name].append(statistics.median(seconds))
            memory[name] = max(memory[name], peak)
    base = statistics.median(next(iter(found.values())))
    print(f"\n{title}\n\n| program | ms a round | range | rate to the first | peak memory, GiB |")
    print("|---|---|---|---|---|")
    for name, values in found.items():
        middle = statistics.median(values)
        spread = f"{1e3 * min(values):.1f} to {1e3 * max(values):.1f}"
        print(
            f"| {name} | {1e3 * middle:.1f} | {spread} | {base / middle:.2f} | {memory[name]:.2f} |",
            flush=True,
        )


def measured(job: tuple[str, Any]) -> tuple[Sequence[float], float]:
    """Run one program in a process of its own; return its seconds, and the peak memory with its children."""
    command = [sys.executable, "-m", "benchmarks.engine", "--program", json.dumps(job)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **ENVIRONMENT}
    )
    peak = [0.0]
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, peak, done))
    watcher.start()
    out, told = process.communicate()
    done.set()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"{job} failed:\n{told[-4000:]}")
    seconds: list[float] = json.loads(out.strip().splitlines()[-1])
    return seconds, peak[0] / 2**30


def _watch(process: int, peak: list[float], done: threading.Event) -> None:
    """Keep the largest sum of proportional set sizes, which counts shared memory once."""
    while not done.wait(0.3):
        peak[0] = max(peak[0], sum(_resident(p) for p in [process, *descendants(process)]))


def _resident(process: int) -> int:
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))


def fusion() -> None:
    """Print how long fusing 1000 clients x 1000 rows x 10 classes takes, beside the bare matrix product."""
    import torch

    from fedkt.strategies.knfu import effectiveness
    from fedkt.strategies.ktpfl import auto_rate, gradient
    from fedkt.strategy import mix

    torch.set_num_threads(1)
    knowledge = torch.randn(1000, 1000, 10).softmax(-1)
    flat, weights = knowledge.flatten(1), torch.rand(1000, 1000).softmax(-1)
    c = weights.double()

    def ktpfl() -> None:
        slope = gradient(c, knowledge, 0.7)
        mix((5 * (c - auto_rate(slope) * slope)).softmax(-1), knowledge)

    steps: dict[str, Callable[[], Any]] = {
        "bare product [1000, 1000] x [1000, 10000]": lambda: weights @ flat,
        "knfu: effectiveness and mix": lambda: mix(effectiveness(knowledge.mean(1), 10.0), knowledge),
        "ktpfl: gradient, rate and mix": ktpfl,
        "mean": lambda: knowledge.mean(0),
    }
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(7):
        for name, step in steps.items():
            begun = time.perf_counter()
            step()
            taken[name].append(time.perf_counter() - begun)
    base = statistics.median(taken[next(iter(steps))])
    print("\nfusion of 1000 clients x 1000 rows x 10 classes, one thread\n")
    print("| step | ms | range | times the product |")
    print("|---|---|---|---|")
    for name, values in taken.items():
        middle = statistics.median(values)
        print(
            f"| {name} | {1e3 * middle:.0f} | {1e3 * min(values):.0f} to {1e3 * max(values):.0f} "
            f"| {middle / base:.2f} |"
        )


if __name__ == "__main__":
    main()
