"""Decide how clients are put together: into units by their data, into cohorts by a short timed trial."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from fedkt.client.training import one_thread
from fedkt.engine.clients.cohort_training import fit_stacked
from fedkt.engine.clients.cohorts import Plan
from fedkt.engine.clients.jobs import FitJob, one_by_one
from fedkt.engine.clients.stack import Stack, Way, there_are
from fedkt.engine.world import memory
from fedkt.engine.world.device import has_compiler
from fedkt.engine.world.placement import balanced
from fedkt.engine.world.world import World
from fedkt.privacy.dpsgd import Dpsgd

SIZES = (8, 32, 128)
"""Cohorts that are tried."""
FEWEST = 4
"""Fewer clients at work together than these are not worth a trial."""
STEPS, REPEATS = 2, 3
GAIN = 1.25
"""How much faster than one by one a cohort must be: timings differ by a fifth from one to the next."""

_NAMES: Mapping[Way, str] = {"off": "PyTorch as written", "torch": "torch.compile", "graphs": "CUDA graphs"}

log = logging.getLogger("fedkt")
_known: dict[Any, tuple[int, str]] = {}
"""Trials of this process, so that runs that follow each other decide alike."""


def units(world: World, workers: int) -> list[list[str]]:
    """Deal the clients of each architecture to as many units as there are workers, balanced by their rows."""
    alike: dict[str, list[str]] = {}
    for client in world.shards:
        alike.setdefault(world.architecture(client), []).append(client)
    found = []
    for clients in alike.values():
        dealt = balanced([len(world.shards[client].rows) for client in clients], workers)
        found += [[clients[i] for i in sorted(part)] for part in dealt if part]
    return found


def plan(world: World, together: Sequence[Sequence[str]], share: float) -> Plan:
    """Choose the size of cohorts for each architecture; run where clients will train.

    ``together``: the units; ``share``: part of the machine's free memory that belongs to this process.
    """
    wanted = world.scenario.engine.cohort
    largest: dict[str, Sequence[str]] = {}
    for unit in together:
        key = world.architecture(unit[0])
        largest[key] = max(largest.get(key, ()), unit, key=len)
    sizes: dict[str, int] = {}
    needs: dict[str, int] = {}
    ways: dict[str, Way] = {}
    notes: list[str] = []
    with one_thread():
        for architecture, unit in largest.items():
            name = world.models[unit[0]][0]
            at_once = max(1, round(len(unit) * world.scenario.participation.fraction))
            size, why, need = (
                (1, "set off", 0) if wanted == "off" else _choose(world, unit, at_once, wanted, share)
            )
            notes.append(f"{name}: {f'cohorts of {size}' if size > 1 else 'one by one'} ({why})")
            if size > 1:
                sizes[architecture] = size
                needs[architecture] = need
                ways[architecture], told = _way(world, unit, min(size, at_once))
                notes += [f"{name}: {told}"] if told else []
    ways = {architecture: way for architecture, way in ways.items() if way != "off"}
    return Plan([list(unit) for unit in together], sizes, needs, notes, ways)


def _way(world: World, unit: Sequence[str], size: int) -> tuple[Way, str]:
    """Return how the steps of a cohort of this size are carried out, and why where that was asked."""
    wanted = world.scenario.engine.compile
    if wanted == "off":
        return wanted, ""
    single = [job for client in unit[:FEWEST] if (job := _job(world, client)) is not None]
    jobs = [single[i % len(single)] for i in range(size)]
    taken: dict[Way, float] = {}
    for way in ("off", *(there_are(world.device, has_compiler()) if wanted == "auto" else [wanted])):
        try:
            taken[way] = _time(partial(fit_stacked, Stack(jobs[0].net, way), jobs), world.device)
        except Exception as error:
            failed = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            log.warning("steps of cohorts cannot be carried out by %s (%s)", _NAMES[way], failed)
    best = min(taken, key=lambda way: taken[way]) if wanted == "auto" else wanted
    gain = taken["off"] / taken.get(best, math.inf)
    if best not in taken or (wanted == "auto" and gain < GAIN):
        return "off", "steps as written"
    why = "set; " if wanted != "auto" else ""
    return best, f"steps by {_NAMES[best]} ({why}{gain:.1f} times as fast as written in a trial)"


def _choose(
    world: World, unit: Sequence[str], at_once: int, wanted: Any, share: float
) -> tuple[int, str, int]:
    """Return the size of cohorts of one architecture, why, and the bytes of a client where it is over 1."""
    if wanted == "auto" and at_once < FEWEST:
        return 1, f"{at_once} of its clients at most work together in one process", 0
    try:
        job = _job(world, unit[0])
        if job is None:
            return 1, "it does not train", 0
        if getattr(job.net, "refits", False):
            return 1, "it is fitted to all rows at once", 0
        stack = Stack(job.net)
        fit_stacked(stack, [job, job])
    except Exception as error:  # where it cannot train at all, each client says so itself
        return 1, f"it cannot be stacked: {' '.join(str(error).split())[:200]}", 0
    row = next(iter(job.phase.rows.values()))[:1]
    need = memory.training(job.net, row, job.phase.steps, by_row=job.private is not None)
    fits = int(memory.SHARE * share * memory.free(world.device) / need)
    if fits < 2:
        return 1, "memory suffices for no more", 0
    if wanted != "auto":
        too_many = f"set to {wanted}, for which memory does not suffice"
        return (wanted, "set", need) if wanted <= fits else (fits, too_many, need)
    most = min(at_once, fits)
    kind = world.architecture(unit[0]), world.federation.input, world.strategy.client, world.device
    key = (*kind, job.phase.steps, job.private is None, most)
    if key not in _known:
        try:
            _known[key] = _timed(world, stack, unit, most, fits)
        except Exception as error:  # one of its clients cannot train, or memory ran out
            return 1, f"a trial failed: {' '.join(str(error).split())[:200]}", 0
    return *_known[key], need


def _timed(world: World, stack: Stack, unit: Sequence[str], most: int, fits: int) -> tuple[int, str]:
    """Try cohorts of up to ``most`` clients, as many as work together on average; return the largest size.

    In some rounds it is more of them, who are one cohort then as far as memory goes (``fits``): two halves
    take a quarter longer.
    """
    alone = [_job(world, client) for client in unit[:FEWEST]]
    single = [job for job in alone if job is not None]
    base = _time(lambda: one_by_one(single), world.device) / len(single)
    best, best_time = 1, base
    for size, largest in {min(size, most): min(size, fits, len(unit)) for size in SIZES}.items():
        jobs = [single[i % len(single)] for i in range(size)]
        taken = _time(lambda jobs=jobs: fit_stacked(stack, jobs), world.device) / size  # type: ignore[misc]
        if taken < best_time:
            best, best_time = largest, taken
        elif taken > 1.5 * best_time:
            break  # larger ones are not tried: stacking does not pay here
    told = (
        f"{base / best_time:.1f} times as fast as one by one in a trial"
        if best > 1
        else "faster than cohorts"
    )
    if base < GAIN * best_time:
        return 1, f"cohorts gain less than {GAIN - 1:.0%} in a trial"
    return best, told


def _job(world: World, client: str) -> FitJob | None:
    """Return the first steps of a client's training."""
    phase = world.behaviour(world.holding(client)).train(None)
    if phase is None or phase.count == 0:
        return None
    net = world.skeleton(client)
    tensors = {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}
    short = replace(phase, steps=replace(phase.steps, batches=STEPS))
    private = Dpsgd(1.0, 1.0) if world.scenario.privacy.mode == "dpsgd" else None  # of any strength
    return FitJob("train", net, tensors, short, {}, 0, client, 0, private)


def _time(run: Callable[[], Any], device: torch.device) -> float:
    """Return the seconds of a run: on a CPU this thread's own, which other work stretches less."""
    here, taken = device.type == "cpu", []
    clock = time.thread_time if here else time.perf_counter
    for _ in range(1 + REPEATS):
        begun = clock()
        run()
        if not here:
            torch.accelerator.synchronize()
        taken.append(clock() - begun)
    return min(taken[1:])
